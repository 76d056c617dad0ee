"""How series were acquired, for people: the tags that matter, side by side."""

from collections.abc import Sequence

from mirv.dicom_io.files.header import DESCRIBED, InstanceHeader


def describe(
    headers: Sequence[InstanceHeader], *, per_slice: bool = False
) -> tuple[dict[str, str | int | None], ...]:
    """The description table (SPEC R-DESC-1): one row an image series, or one an instance.

    Parameters
    ----------
    headers : sequence of InstanceHeader
        In any order; those of no image are passed over.
    per_slice : bool
        One row an instance.

    Returns
    -------
    tuple of dict
        ``study_uid``, ``series_uid``, ``instance_uid`` ("" for a series), ``Modality``,
        ``instances`` and the tags of `DESCRIBED`:
        the distinct values in order, joined by " | ", None when no instance has the tag.
    """
    groups: dict[tuple[str, str, str], list[InstanceHeader]] = {}
    for header in headers:
        if header.is_image:
            instance = header.sop_instance_uid if per_slice else ""
            key = (header.study_uid, header.series_uid, instance)
            groups.setdefault(key, []).append(header)
    rows = []
    for (study, series, instance), members in sorted(groups.items()):
        row: dict[str, str | int | None] = {
            "study_uid": study,
            "series_uid": series,
            "instance_uid": instance,
            "Modality": members[0].modality,
            "instances": len(members),
        }
        for keyword in DESCRIBED:
            values = {dict(member.description).get(keyword) for member in members} - {None}
            row[keyword] = " | ".join(sorted(str(value) for value in values)) if values else None
        rows.append(row)
    return tuple(rows)
