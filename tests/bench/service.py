"""The way in: `ingest` beside rivals, and `load`."""

from tests.bench import ingest, load


def run() -> list[str]:
    """Rows of both."""
    return [*ingest.run(), *load.run()]
