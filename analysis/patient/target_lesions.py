"""Rules that choose lesions by their size, without chance (SPEC R-SAMP-1)."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Measured:
    """What a fixed rule looks at: site, volume in ml, axial diameters in mm."""

    site: str
    volume_ml: float
    long_axis_mm: float | None = None
    short_axis_mm: float | None = None


def dominant(lesions: Sequence[Measured], site: str | None = None) -> list[int]:
    """The largest lesion by volume, of one site if given (Dohan 2020: of the liver)."""
    inside = [i for i, lesion in enumerate(lesions) if site is None or lesion.site == site]
    return sorted(inside, key=lambda i: (-lesions[i].volume_ml, i))[:1]


def recist_targets(
    lesions: Sequence[Measured], site: str | None = None, *, most: int = 5, per_organ: int = 2
) -> list[int]:
    """RECIST 1.1 target lesions (Eisenhauer 2009): largest first, 5 in all, 2 an organ.

    At least 10 mm in the long axis; lymph nodes at least 15 mm in the short axis. Bone lesions
    are left out: whether they have a measurable soft-tissue part is not in the geometry. So are
    lesions of unknown site: two an organ cannot be counted.
    `site` restricts to one organ (Dercle 2020: the liver).
    """

    def size(lesion: Measured) -> float:
        if lesion.site == "lymph node":
            return lesion.short_axis_mm or 0.0
        return lesion.long_axis_mm or 0.0

    def measurable(lesion: Measured) -> bool:
        return lesion.site not in ("bone", "unknown") and size(lesion) >= (
            15.0 if lesion.site == "lymph node" else 10.0
        )

    chosen: list[int] = []
    counts: dict[str, int] = {}
    for i in sorted(range(len(lesions)), key=lambda i: (-size(lesions[i]), i)):
        lesion = lesions[i]
        if (site is not None and lesion.site != site) or not measurable(lesion):
            continue
        if len(chosen) < most and counts.get(lesion.site, 0) < per_organ:
            chosen.append(i)
            counts[lesion.site] = counts.get(lesion.site, 0) + 1
    return chosen
