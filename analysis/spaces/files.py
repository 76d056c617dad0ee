"""Frozen spaces as files: canonical JSON, checked when read."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mirv.analysis.spaces.space import FORMAT, FeatureSpace
from mirv.config.errors import SpaceError
from mirv.config.spaces import read_space


def space_to_json(space: FeatureSpace) -> str:
    """One space as JSON text; floats survive the round trip exactly."""
    return json.dumps({**space.content(), "digest": space.digest}, indent=1, sort_keys=True) + "\n"


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


def _check_types(raw: Mapping[str, Any], where: str) -> None:
    """Refuse by its name a field that is not what it should be: a file may be anyone's."""
    wanted: dict[str, Callable[[Any], bool]] = {
        "kind": lambda value: isinstance(value, str),
        "names": lambda value: _list_of(value, str),
        **dict.fromkeys(
            ("centre", "scale", "low", "high"), lambda value: _list_of(value, int, float)
        ),
        "fitted_on": lambda value: isinstance(value, dict),
        "reference": lambda value: (
            isinstance(value, dict) and all(_list_of(each, int, float) for each in value.values())
        ),
    }
    for field_name, fits in wanted.items():
        if not fits(raw[field_name]):
            raise SpaceError(f"{where}: field {field_name}: found {str(raw[field_name])[:80]!r}")


def _list_of(value: Any, *types: type) -> bool:
    return isinstance(value, list) and all(isinstance(each, types) for each in value)
