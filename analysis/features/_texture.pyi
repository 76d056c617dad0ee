"""Types of the compiled texture matrices (`_texture.c`)."""

import numpy as np
from numpy.typing import NDArray

_Levels = NDArray[np.int32]
_Steps = NDArray[np.int32]

def pairs(levels: _Levels, directions: _Steps, ng: int, out: NDArray[np.float64], /) -> None: ...
def runs(
    levels: _Levels, directions: _Steps, ng: int, nr: int, out: NDArray[np.float64], /
) -> None: ...
def zones(
    levels: _Levels,
    directions: _Steps,
    ng: int,
    found_levels: NDArray[np.int32],
    found_sizes: NDArray[np.int64],
    /,
) -> int: ...
def dependences(
    levels: _Levels, directions: _Steps, ng: int, alpha: int, out: NDArray[np.float64], /
) -> None: ...
def differences(
    levels: _Levels, directions: _Steps, ng: int, out: NDArray[np.float64], /
) -> None: ...
