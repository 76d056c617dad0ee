"""What reports say of a comparison: the earlier study, and each lesion's change since then."""

from collections.abc import Collection

from mirv.analysis.model import LesionChange, Provenance, StudyResult
from mirv.analysis.patient.matching import changes_in_words
from mirv.dicom_io.model import StudyInput
from mirv.dicom_io.outputs.reports import template_content
from mirv.dicom_io.sr import concepts
from mirv.dicom_io.sr.concepts import own, ucum
from mirv.dicom_io.sr.items import (
    CONTAINS,
    HAS_OBS_CONTEXT,
    code_item,
    container_item,
    date_item,
    num_item,
    uid_item,
)
from mirv.dicom_io.standard.uids import derive_uid

_PERCENT = ucum("%", "percent")


def earlier_study(earlier: Provenance) -> list[bytes]:
    """Which study a group compares with; nothing where it compares with none."""
    if not earlier.prior_study_uid:
        return []
    items = [uid_item(HAS_OBS_CONTEXT, concepts.EARLIER_STUDY, earlier.prior_study_uid)]
    if template_content.is_date(earlier.prior_study_date):
        items.append(date_item(HAS_OBS_CONTEXT, concepts.EARLIER_DATE, earlier.prior_study_date))
    return items


def compared_in_words(result: StudyResult) -> list[str]:
    """One line for people: the earlier study, and what became of the lesions; none without one."""
    earlier = result.provenance
    if not earlier.prior_study_uid:
        return []
    return [
        f"Compared with the study of {earlier.prior_study_date} ({earlier.prior_study_uid}): "
        f"{changes_in_words(result.changes)}"
    ]


def change_groups(study: StudyInput, result: StudyResult) -> list[bytes]:
    """TID 1501: one group a lesion of either study."""
    current = {change.tracking_uid for change in result.changes if change.current_ml is not None}
    return [_group(study, result.provenance, one, current) for one in result.changes]


def _group(
    study: StudyInput, earlier: Provenance, change: LesionChange, current: Collection[str]
) -> bytes:
    uid = change.tracking_uid
    if change.current_ml is None and uid in current:  # that of another lesion here
        uid = derive_uid("mirv earlier lesion", earlier.prior_study_uid, uid)
    children = [
        *template_content.tracking(change.name, uid),
        code_item(CONTAINS, concepts.FINDING, concepts.LESION_CHANGE),
        *template_content.time_point(study),
        *earlier_study(earlier),
        code_item(CONTAINS, concepts.CHANGE_STATE, own(change.state, change.state)),
        code_item(CONTAINS, concepts.SITE, own(change.site.replace(" ", "-"), change.site)),
    ]
    if change.matched_by:
        by = own(change.matched_by, change.matched_by)
        children.append(code_item(CONTAINS, concepts.MATCHED_BY, by))
    if change.previous_uid:
        children.append(uid_item(CONTAINS, concepts.EARLIER_TRACKING_UID, change.previous_uid))
    if change.previous_ml is not None:
        children.append(num_item(CONTAINS, concepts.EARLIER_ML, change.previous_ml, concepts.ML))
    if change.current_ml is not None:
        children.append(num_item(CONTAINS, concepts.CURRENT_ML, change.current_ml, concepts.ML))
    if change.change_percent is not None:
        percent = num_item(CONTAINS, concepts.VOLUME_CHANGE, change.change_percent, _PERCENT)
        children.append(percent)
    elif change.reason is not None:
        children.append(template_content.reason_item(concepts.VOLUME_CHANGE, change.reason))
    return container_item(CONTAINS, concepts.MEASUREMENT_GROUP, children, "1501")
