"""Metastatic site of a segment: from its anatomic code, else from what it is called."""

from collections.abc import Sequence

from mirv.config.sites import load_site_rules
from mirv.dicom_io.model import Code


def site_of(codes: Sequence[Code | None], texts: Sequence[str]) -> str:
    """The site of a lesion, "unknown" when neither codes nor names tell.

    Parameters
    ----------
    codes : sequence of Code or None
        Anatomic region first, then the segmented property type.
    texts : sequence of str
        Label, tracking identifier, description: outside strings.

    Returns
    -------
    str
        One of ``config.sites.SITES``.
    """
    rules = load_site_rules()
    for code in codes:
        if code is not None:
            site = rules.of_code(code.scheme, code.value)
            if site != "unknown":
                return site
    for text in texts:
        # Long labels are cut: a name is short, and patterns should not chew on a novel.
        site = rules.of_text(text[:200])
        if site != "unknown":
            return site
    return "unknown"
