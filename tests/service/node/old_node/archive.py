"""A destination that keeps every C-STORE it takes as a file of its own: what comes twice shows."""

import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pydicom
from pynetdicom import AE

from tests.peers import PEER_ENVIRONMENT, stop, wait_until

VERIFICATION = "1.2.840.10008.1.1"


@dataclass(frozen=True)
class Archive:
    """A running ``storescp``."""

    folder: Path
    port: int

    def received(self) -> Counter[str]:
        """How often each SOP Instance UID has come."""
        return Counter(
            str(pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID)
            for path in self.folder.iterdir()
        )


@contextmanager
def archive(folder: Path, port: int) -> Iterator[Archive]:
    """Listen on a port of loopback and keep what comes in `folder`."""
    folder.mkdir(parents=True)
    process = subprocess.Popen(
        ["storescp", "--fork", "--unique-filenames", "-od", str(folder), str(port)],
        env=PEER_ENVIRONMENT,
    )
    try:
        wait_until(lambda: _answers(port), 20, "storescp answers")
        yield Archive(folder, port)
    finally:
        stop(process)


def _answers(port: int) -> bool:
    entity = AE()
    entity.add_requested_context(VERIFICATION)
    association = entity.associate("127.0.0.1", port)
    established = bool(association.is_established)
    if established:
        association.release()
    return established
