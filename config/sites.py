"""Metastatic sites: the closed list every lesion is put on (SPEC R-DCM-5, Henry Table 2)."""

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

SITES_FILE = Path(__file__).parent / "sites.yaml"

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


@dataclass(frozen=True, slots=True)
class SiteRules:
    """How a site is told.

    Attributes
    ----------
    codes : mapping of (coding scheme, code value) to site
    patterns : tuple of (site, compiled regular expression), tried in order
    regions : mapping of site to (SNOMED CT code value, meaning)
        What outputs say of a lesion that came without an anatomic code.
    """

    codes: dict[tuple[str, str], str]
    patterns: tuple[tuple[str, re.Pattern[str]], ...]
    regions: dict[str, tuple[str, str]]

    def of_code(self, scheme: str, value: str) -> str:
        """Site of an anatomic code, "unknown" when it is not listed.

        Parameters
        ----------
        scheme : str
            Coding Scheme Designator.
        value : str
            Code Value.

        Returns
        -------
        str
        """
        return self.codes.get((scheme, value), "unknown")

    def of_text(self, text: str) -> str:
        """Site named in a label, "unknown" when none is.

        Parameters
        ----------
        text : str
            As received.

        Returns
        -------
        str
        """
        plain = re.sub(r"[_\W]+", " ", text)
        # "LUNG2" names the lung: digits after letters are a count.
        plain = re.sub(r"(?<=[A-Za-z]{3})(?=\d)", " ", plain)
        for site, pattern in self.patterns:
            if pattern.search(plain):
                return site
        return "unknown"


@cache
def load_site_rules(path: Path = SITES_FILE) -> SiteRules:
    """Read the rules of ``sites.yaml``.

    Raises
    ------
    ValueError
        A site that is not on the list, a pattern that is no regular expression, or a region whose
        code is not one of its site's.
    """
    raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    codes = {
        (scheme, value): _listed(site, path)
        for scheme, of_scheme in raw["codes"].items()
        for value, site in of_scheme.items()
    }
    patterns = []
    for site, pattern in raw["patterns"]:
        try:
            patterns.append((_listed(site, path), re.compile(pattern, re.IGNORECASE)))
        except re.error as error:
            raise ValueError(f"{path.name}: pattern {pattern!r} of {site}: {error}") from error
    regions = {
        site: (str(value), str(meaning)) for site, (value, meaning) in raw["regions"].items()
    }
    for site, (value, _) in regions.items():
        if (found := codes.get(("SCT", value))) != site:
            raise ValueError(f"{path.name}: region {value} of {site!r} is a code of {found!r}")
    return SiteRules(codes, tuple(patterns), regions)


def _listed(site: str, path: Path) -> str:
    if site not in SITES:
        raise ValueError(f"{path.name}: found site {site!r}, wanted one of {', '.join(SITES)}")
    return site
