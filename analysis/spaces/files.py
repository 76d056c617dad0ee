"""Frozen spaces as files: canonical JSON, checked when read."""

import json
from pathlib import Path

import numpy as np

from mirv.analysis.spaces.space import FORMAT, FeatureSpace, _check_types, _content
from mirv.config.errors import SpaceError
from mirv.config.spaces import read_space


def space_to_json(space: FeatureSpace) -> str:
    """One space as JSON text; floats survive the round trip exactly."""
    return json.dumps({**_content(space), "digest": space.digest}, indent=1, sort_keys=True) + "\n"


def write_space(space: FeatureSpace, folder: Path) -> Path:
    """Write ``<name>.json`` into `folder` and give its path."""
    path = folder / f"{space.name}.json"
    path.write_text(space_to_json(space), encoding="utf-8")
    return path


def load_space(name_or_path: str) -> FeatureSpace:
    """Load a shipped space by name, or any space by the path of its JSON file.

    Raises
    ------
    SpaceError
        Unknown name, unknown or missing field, or content that does not fit its digest.
    """
    raw = read_space(name_or_path)
    wanted = {*FeatureSpace.__dataclass_fields__, "format", "digest"}
    for found, text in ((set(raw) - wanted, "unknown"), (wanted - set(raw), "missing")):
        if found:
            raise SpaceError(f"feature space {name_or_path}: {text} field {sorted(found)[0]}")
    if raw["format"] != FORMAT:
        raise SpaceError(f"feature space {name_or_path}: format {raw['format']!r}, wanted {FORMAT}")
    _check_types(raw, f"feature space {name_or_path}")
    space = FeatureSpace(
        name=str(raw["name"]),
        profile=str(raw["profile"]),
        kind=raw["kind"],
        names=tuple(raw["names"]),
        centre=np.asarray(raw["centre"], float),
        scale=np.asarray(raw["scale"], float),
        low=np.asarray(raw["low"], float),
        high=np.asarray(raw["high"], float),
        fitted_on=raw["fitted_on"],
        reference={name: tuple(values) for name, values in raw["reference"].items()},
        description=str(raw["description"]),
    )
    if space.digest != raw["digest"]:
        raise SpaceError(
            f"feature space {name_or_path}: its content gives digest {space.digest[:12]}, the file "
            f"says {str(raw['digest'])[:12]}: it was changed after it was fitted"
        )
    return space
