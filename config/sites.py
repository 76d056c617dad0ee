"""Metastatic sites: the closed list every lesion is put on (SPEC R-DCM-5, Henry Table 2)."""

SITES: tuple[str, ...] = (
    "bone",
    "lung",
    "lymphangitis",
    "lymph node",
    "peritoneum",
    "pleura",
    "soft tissue",
    "adrenal",
    "liver",
    "other",  # brain, kidney and whatever else is known but not listed
    "unknown",
)
"""Henry Table 2, plus ``unknown``, which per-site statistics leave out and say so."""
