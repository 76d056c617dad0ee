"""Catalogue and spool belong together: a name in both says so.

A worker, or a node, whose `folder` is not the one the catalogue tells of would fail every run for
want of its files, or take every file for lost. The name is random, written once by the node and
never changed: into the spool, and then into the catalogue. Where objects are known before there
is a name, it is given only to a spool that holds some of them.
"""

import hashlib
import os
import time
from pathlib import Path
from uuid import uuid4

from mirv.config.errors import BadInput
from mirv.service.catalogue import Catalogue, EventKind, Fact
from mirv.service.objects.spool import Spool

_FILE = "identity"
_LONGEST = 200
_SAMPLE = 100
_AGAIN_S = 0.2


class OtherSpool(BadInput):
    """The folder does not hold the spool that the catalogue tells of."""


def name_spool(spool: Path, catalogue: Catalogue, now: float) -> None:
    """Give spool and catalogue their name, or compare them; for the one node that serves both.

    Raises
    ------
    OtherSpool
        The catalogue tells of another spool, or of objects none of which is in this one.
    OSError
        The name cannot be written.
    """
    if _recorded(catalogue):
        check_spool(spool, catalogue)
        return
    _check_unnamed(spool, catalogue)
    name = _found(spool)
    if not name:
        name = uuid4().hex
        _write(spool, name)  # before it is recorded: what is recorded must be there
    catalogue.facts.put(Fact.SPOOL_NAME, name)
    catalogue.events.add(now, EventKind.SPOOL_NAMED, name=name)


def check_if_named(spool: Path, catalogue: Catalogue) -> None:
    """The same as `name_spool`, but what has no name gets none.

    Raises
    ------
    OtherSpool
        As `name_spool`.
    """
    if _recorded(catalogue):
        check_spool(spool, catalogue)
    else:
        _check_unnamed(spool, catalogue)


def check_spool(spool: Path, catalogue: Catalogue, patience_s: float = 0.0) -> None:
    """Compare the spool in this folder with the one the catalogue tells of.

    Parameters
    ----------
    patience_s : float
        So long a node that is just starting may take to name it.

    Raises
    ------
    OtherSpool
        They differ, one of them has no name, or there is no such folder.
    """
    deadline = time.monotonic() + patience_s
    while not (wanted := _recorded(catalogue)):
        if time.monotonic() >= deadline:
            raise OtherSpool("found no spool named in the catalogue, wanted a node started first")
        time.sleep(_AGAIN_S)
    found = _found(spool)
    if found == wanted:
        return
    file = spool / _FILE
    raise OtherSpool(
        f"found {f'spool {found!r}' if found else 'no name of a spool'} in {file}, wanted the "
        f"catalogue's {wanted!r}: mend `folder` or mount its storage. Only when this is that "
        f"spool, restored without the file or lost for good: write {wanted} into {file}"
    )


def _check_unnamed(spool: Path, catalogue: Catalogue) -> None:
    # A catalogue of before there were names: its objects tell whether this is its spool, not
    # storage that is not mounted.
    sample = sorted(catalogue.instances.contents())[:_SAMPLE]
    folder = Spool(spool)
    if not sample or any(folder.path(sha256).is_file() for sha256 in sample):
        return
    # The same at every start: nothing is taken in or removed before there is a name.
    wanted = hashlib.sha256("".join(sample).encode("ascii")).hexdigest()[:32]
    if _found(spool) == wanted:
        return
    raise OtherSpool(
        f"found none of {len(sample)} objects of the catalogue in {spool}, wanted one at least: "
        "mend `folder` or mount its storage. Only when this is the catalogue's spool and its "
        f"objects are lost for good: write {wanted} into {spool / _FILE}"
    )


def _recorded(catalogue: Catalogue) -> str:
    return catalogue.facts.get(Fact.SPOOL_NAME) or ""


def _found(spool: Path) -> str:
    try:
        with (spool / _FILE).open(encoding="ascii", errors="replace") as file:
            return file.read(_LONGEST).strip()
    except FileNotFoundError:
        return ""


def _write(spool: Path, name: str) -> None:
    temporary = spool / f"{_FILE}.new"
    with temporary.open("w", encoding="ascii") as file:
        file.write(f"{name}\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(spool / _FILE)
    folder = os.open(spool, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
