"""What can go wrong, by what is done about it: the one tree, whoever raises it.

::

    MirvError                  raised on purpose: a command says it in one line and leaves
    ├── BadInput               what a person gave cannot be used (also a ValueError)
    │   ├── SettingsError      a settings file, or what it asks for; found at start-up
    │   ├── ProfileError       an extraction profile or a PyRadiomics parameter file
    │   ├── SpaceError         a frozen feature space
    │   └── service: OtherSpool, for a folder that is not the catalogue's
    ├── Unavailable            a folder, file or address that was given cannot be had (an OSError)
    ├── analysis: Unsuitable   this study or table cannot be analysed, now or later
    ├── analysis: Transient    may work later: retried
    ├── analysis: PeerRefused  a DICOM peer answered with a failure status
    └── service: Conflict      another object under a known SOP Instance UID
                 AlreadyRunning, NoResult (of the demo)
                 Refused, Odd            of an Orthanc that is followed: what it says is no use

Anything else is a bug: it fails with its traceback and is not retried.
"""

import copyreg
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class MirvError(Exception):
    """Base of every error the node raises on purpose."""

    def __reduce__(self) -> tuple[Any, ...]:
        # Made again from what it holds: `__init__` may want other arguments than `args`, and what
        # a step of durable work raised is kept as a pickle.
        return copyreg.__newobj__, (type(self), *self.args), self.__dict__  # type: ignore[attr-defined]


class BadInput(MirvError, ValueError):  # noqa: N818 - the name says what was found
    """What a person gave cannot be used: an option, a file, a name; says which and why."""


class SettingsError(BadInput):
    """The settings are wrong: the message lists every fault."""


class ProfileError(BadInput):
    """An extraction profile that is not there, or asks for what is not there."""


class SpaceError(BadInput):
    """A feature space that is not there, or whose content does not fit."""


class Unavailable(MirvError, OSError):  # noqa: N818 - the name says what is the case
    """A folder, file or address that was given cannot be had: missing, taken, not permitted."""


@contextmanager
def opening() -> Iterator[None]:
    """Around the opening of what a person named: a fault of the system there is no bug.

    Raises
    ------
    Unavailable
        In the system's words, which name the file.
    """
    try:
        yield
    except MirvError:
        raise
    except OSError as error:
        raise Unavailable(str(error)) from error


def read_given(path: Path, what: str, fault: type[BadInput] = BadInput) -> str:
    """Text of a file that a person named, without a byte-order mark.

    Parameters
    ----------
    path : Path
    what : str
        How a message names the file.
    fault : type of BadInput

    Raises
    ------
    BadInput
        The `fault`: the file cannot be read, or is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8").removeprefix("\ufeff")
    except OSError as error:
        raise fault(f"{what}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise fault(f"{what}: found byte {error.start + 1} that is not UTF-8 text") from error
    except ValueError as error:  # a name no file can have
        raise fault(f"{what}: {error}") from error
