"""The spool: durable, never overwritten, no name from outside, nothing half-written."""

import errno
import fcntl
import hashlib
import mmap
import os
import threading
from pathlib import Path

import numpy as np
import pytest

from mirv.service.objects import spool as spool_module
from mirv.service.objects.spool import Spool, content_digest


def test_put_names_content_by_its_hash(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    stored = spool.put((b"first ", memoryview(b"second")))
    assert stored.path.read_bytes() == b"first second"
    assert stored.sha256 == hashlib.sha256(b"first second").hexdigest() == stored.path.name
    assert stored.size == 12
    assert content_digest(stored.path) == stored.sha256
    assert spool.put((b"first second",)).path == stored.path
    assert list((tmp_path / "spool" / "incoming").iterdir()) == []


@pytest.mark.parametrize("file_system", ["ext4", "nfs4", ""])
def test_file_and_name_are_synced_before_put_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file_system: str
) -> None:
    """With the folder, unless the file's own sync makes its name durable."""
    monkeypatch.setattr(spool_module, "_file_system", lambda _folder: file_system)
    spool = Spool(tmp_path)
    synced: list[str] = []
    real = os.fsync

    def note(descriptor: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        assert spool.path(hashlib.sha256(b"content").hexdigest()).exists()
        real(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    stored = spool.put((b"content",))
    written, *folders = synced
    assert Path(written).parent == tmp_path / "incoming"
    assert folders == ([] if file_system == "ext4" else [str(stored.path.parent)])
    synced.clear()
    spool.put((b"content",))  # in place of what is there: the name changes after the sync
    assert synced[1:] == [str(stored.path.parent)]


def test_the_file_system_is_known_by_its_mount() -> None:
    assert spool_module._file_system(Path("/proc")) == "proc"


def test_what_is_there_is_replaced_by_nothing_unsynced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same again: a power cut at any moment must leave the first or the second, whole."""
    spool = Spool(tmp_path)
    first = spool.put((b"content",)).path.stat().st_ino
    seen: list[int] = []
    real = os.fsync

    def note(descriptor: int) -> None:
        seen.append(spool.path(hashlib.sha256(b"content").hexdigest()).stat().st_ino)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    stored = spool.put((b"content",))
    assert seen[0] == first
    assert stored.path.stat().st_ino != first
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [stored.path]


def test_a_failed_sync_takes_back_its_own_file_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another sender of the same was done meanwhile, and told so."""
    spool = Spool(tmp_path)
    real, failed = os.fsync, []

    def full_once(descriptor: int) -> None:
        if failed:
            return real(descriptor)
        failed.append(descriptor)
        spool.put((b"content",))
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_once)
    with pytest.raises(OSError, match="No space"):
        spool.put((b"content",))
    (kept,) = spool.stored()
    assert content_digest(kept.path) == kept.sha256
    assert list((tmp_path / "incoming").iterdir()) == []


def test_a_file_system_without_links_serves_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unable(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", unable)
    monkeypatch.setattr(os, "setxattr", unable)
    spool = Spool(tmp_path)
    staged = spool.stage((b"content",), source="CT@192.0.2.1")
    stored = staged.keep()
    staged.discard()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [stored.path]
    assert spool.source(stored.sha256) == ""


@pytest.mark.parametrize("size", [0, 65535, 65536, 65537, 200001, 262144])
@pytest.mark.parametrize("offset", [0, 1, 4096])
def test_whole_pages_make_the_same_file_as_any_bytes(
    tmp_path: Path, size: int, offset: int
) -> None:
    content = np.random.default_rng(size).bytes(size)
    with mmap.mmap(-1, offset + size + 1) as pages:
        pages[offset : offset + size] = content
        with memoryview(pages)[offset : offset + size] as view:
            stored = Spool(tmp_path).put((view,))
    assert stored.path.read_bytes() == content
    assert stored.sha256 == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("direct_writes", [0, 1])
def test_a_file_system_that_wants_its_own_pages_gets_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, direct_writes: int
) -> None:
    """From the first write on, or from one in the middle that was cut short of a block."""
    real, directly = os.write, []

    def write(descriptor: int, data: memoryview) -> int:
        if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_DIRECT:
            directly.append(descriptor)
            if len(directly) > direct_writes:
                raise OSError(errno.EINVAL, "Invalid argument")
            return real(descriptor, data[:8192])
        return real(descriptor, data)

    monkeypatch.setattr(os, "write", write)
    content = np.random.default_rng(6).bytes(100_000)
    with mmap.mmap(-1, 131072) as pages:
        pages[:100_000] = content
        with memoryview(pages)[:100_000] as view:
            assert Spool(tmp_path).put((view,)).path.read_bytes() == content
    assert len(directly) == direct_writes + 1


def test_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = Spool(tmp_path)

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        spool.put((b"content",))
    monkeypatch.undo()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_same_content_from_many_threads_is_one_file(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    content = os.urandom(100_000)
    threads = [threading.Thread(target=spool.put, args=((content,),)) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (stored,) = spool.stored()
    assert content_digest(stored.path) == stored.sha256


def test_sweep_takes_only_what_no_one_writes(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    kept = spool.put((b"kept",))
    abandoned = spool.stage((b"abandoned by a former life of this process",))
    of_the_dead = next((tmp_path / "incoming").iterdir())
    name = of_the_dead.name.split("-")
    of_the_living = of_the_dead.with_name(f"{name[0]}-{os.getppid()}-x")
    of_the_living.write_bytes(b"")
    of_another_machine = of_the_dead.with_name("00000000-1-x")
    of_another_machine.write_bytes(b"")
    of_a_dead_machine = of_the_dead.with_name("00000000-1-y")
    of_a_dead_machine.write_bytes(b"")
    os.utime(of_a_dead_machine, (0, 0))
    assert spool.sweep() == 2
    assert {path.name for path in (tmp_path / "incoming").iterdir()} == {
        of_the_living.name,
        of_another_machine.name,
    }
    assert kept.path.exists()
    abandoned.discard()


@pytest.mark.parametrize("name", ["../../etc/passwd", "", "A" * 64, "1.2.840.10008", "0" * 63])
def test_only_hashes_make_paths(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="wanted a SHA-256"):
        Spool(tmp_path).path(name)


def test_put_aside_moves_to_quarantine(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    stored = spool.put((b"odd",))
    aside = spool.put_aside(stored.sha256)
    assert not stored.path.exists()
    assert aside.path == spool.path(stored.sha256, "quarantine")
    assert aside.path.read_bytes() == b"odd"
