"""What every test may use: the shared data when it is there, real peers when they are installed."""

import os
import shutil
from pathlib import Path

import pytest

IN_CI = os.environ.get("CI", "").lower() in {"1", "true", "yes"}
SHARED = Path(__file__).parents[2] / "shared" / "data"
PEERS = ("/usr/sbin/Orthanc", "storescu", "storescp", "dciodvfy", "dsrdump", "plastimatch")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what cannot run here, by name; in CI nothing may be skipped."""
    lacking = [name for name in PEERS if shutil.which(name) is None]
    for item in items:
        if "shared" in item.keywords and not SHARED.is_dir():
            _leave_out(item, f"no shared data at {SHARED}")
        if "peers" in item.keywords and lacking:
            _leave_out(item, f"not installed: {', '.join(lacking)}")


def _leave_out(item: pytest.Item, reason: str) -> None:
    if not IN_CI:
        item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The shared data folder; tests that use it are marked ``shared``."""
    if not SHARED.is_dir():
        pytest.fail(f"no shared data at {SHARED}")
    return SHARED
