"""Why something has no result, and the errors that say so; `config.errors` draws their tree."""

from dataclasses import dataclass

from mirv.config.errors import MirvError


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a value, a lesion or a study has no result.

    Attributes
    ----------
    code : str
        Stable, machine-readable, ``snake_case``.
    detail : str
        One sentence for people: what was found, what was wanted, where.
    """

    code: str
    detail: str

    def __str__(self) -> str:
        return f"{self.code}: {self.detail}"


class Unsuitable(MirvError):  # noqa: N818 - the name says what the input is
    """The input cannot be analysed, now or later.

    Parameters
    ----------
    code : str
        Stable reason code, ``snake_case``.
    detail : str
        What was found, what was wanted, where.
    """

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.reason = Reason(code, detail)

    def __reduce__(self) -> tuple[type["Unsuitable"], tuple[str, str]]:
        return type(self), (self.reason.code, self.reason.detail)


class Transient(MirvError):  # noqa: N818 - the name says what the fault is
    """A fault that may pass: the same call is worth repeating."""


class PeerRefused(MirvError):  # noqa: N818 - the name says what happened
    """A peer answered a DIMSE request with a failure status.

    Parameters
    ----------
    status : int
        DIMSE status (PS3.7 Annex C).
    detail : str
        Which request, to whom.
    """

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(f"status 0x{status:04X}: {detail}")
        self.status = status
        self.detail = detail

    @property
    def retryable(self) -> bool:
        """True for "out of resources" (0xA7xx, PS3.4 table B.2-1), which passes with time."""
        return self.status & 0xFF00 == 0xA700


def out_of_memory(error: Exception) -> bool:
    """Whether an error says that memory ran out: ITK's is only a RuntimeError with words."""
    return isinstance(error, MemoryError) or "allocat" in str(error).lower()
