"""Where the frozen feature spaces lie: one JSON file a space, parameters and provenance only."""

import json
from pathlib import Path
from typing import Any

from mirv.config.errors import SpaceError, read_given

SPACE_FOLDER = Path(__file__).parent / "spaces"


def space_names() -> tuple[str, ...]:
    """Names of the feature spaces that ship with the node, sorted."""
    return tuple(sorted(path.stem for path in SPACE_FOLDER.glob("*.json")))


def read_space(name_or_path: str) -> dict[str, Any]:
    """Read the JSON of a shipped space by name, or of any space by the path of its file.

    Raises
    ------
    SpaceError
        Unknown name, unreadable file, or a file that holds no JSON object; says which.
    """
    path = Path(name_or_path)
    if path.suffix != ".json":
        if name_or_path not in space_names():
            raise SpaceError(
                f"no feature space {name_or_path!r}: shipped are {', '.join(space_names())}; "
                "a space of your own is named by the path of its .json file"
            )
        path = SPACE_FOLDER / f"{name_or_path}.json"
    text = read_given(path, f"feature space {path.name}", SpaceError)
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SpaceError(f"feature space {path.name}: not JSON: {error}") from error
    if not isinstance(content, dict):
        raise SpaceError(
            f"feature space {path.name}: found {type(content).__name__}, wanted an object"
        )
    return content
