"""Texture matrices of our own against PyRadiomics' routines in C: the same numbers."""

import subprocess
import sys
import sysconfig
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from radiomics import cMatrices

    from mirv.analysis.features import texture

from mirv.analysis.extraction.lesion import compute
from mirv.analysis.extraction.pool import Extractor, _Order
from mirv.analysis.features import _texture
from mirv.config.profiles import load_profile
from tests.analysis.extraction import reference

OWN = texture.Matrices()
ROOT = Path(__file__).parents[3]


def test_the_kernels_are_built() -> None:
    assert texture.COMPILED


def attempt(call: Any, *args: Any) -> Any:
    """What the call gives, or the kind of its error."""
    try:
        found = call(*args)
    except Exception as error:  # noqa: BLE001 - the kind is what is compared
        return type(error)
    return found if isinstance(found, tuple) else (found,)


def same(name: str, *args: Any) -> bool:
    theirs = attempt(getattr(cMatrices, name), *args)
    ours = attempt(getattr(OWN, name), *args)
    if isinstance(theirs, type) or isinstance(ours, type):
        return theirs == ours
    return all(np.array_equal(a, b) for a, b in zip(theirs, ours, strict=True))


def cases() -> Any:
    """Lesions of all shapes and densities, flat ones and single voxels among them."""
    rng = np.random.default_rng(7)
    for _ in range(1500):
        shape = tuple(int(n) for n in rng.integers(1, 9, 3))
        inside = rng.random(shape) < rng.choice([0.05, 0.3, 0.7, 1.0])
        ng = int(rng.choice([1, 2, 5, 40]))
        levels = np.where(inside, rng.integers(1, ng + 1, shape), 0).astype(np.intc)
        flat = (bool(rng.random() < 0.3), int(rng.integers(0, 3)))
        distances = np.array([[1], [2], [1, 2], [1, 3]][rng.integers(0, 4)])
        if inside.any():
            yield levels, inside, ng, distances, int(rng.integers(0, 3)), flat


def test_pairs_runs_dependences_and_differences_are_pyradiomics() -> None:
    for levels, inside, ng, distances, alpha, flat in cases():
        assert same("calculate_glcm", levels, inside, distances, ng, *flat)
        assert same("calculate_glrlm", levels, inside, ng, max(levels.shape), *flat)
        assert same("calculate_gldm", levels, inside, distances, ng, alpha, *flat)
        assert same("calculate_ngtdm", levels, inside, distances, ng, *flat)


def test_zones_are_pyradiomics_without_the_sizes_that_do_not_occur() -> None:
    for levels, inside, ng, _, _, flat in cases():
        n = int(inside.sum())
        wanted = attempt(cMatrices.calculate_glszm, levels, inside.copy(), ng, n, *flat)
        found = attempt(texture.zone_matrix, levels, n, ng, *flat)
        if isinstance(wanted, type):
            assert found == wanted
            continue
        matrix, sizes = found
        assert not matrix[:, :, sizes == 0].any()
        full = np.zeros_like(wanted[0])
        full[:, :, sizes[sizes > 0].astype(int) - 1] = matrix[:, :, sizes > 0]
        assert np.array_equal(full, wanted[0])
        # As many columns to delete as PyRadiomics has, as far as it matters to numpy.
        assert (sizes == 0).sum() == min((wanted[0].sum((0, 1)) == 0).sum(), 2)


LEVELS = np.ones((3, 4, 5), np.int32)
ONWARD = np.array([[0, 0, 1]], np.int32)


@pytest.mark.parametrize(
    ("levels", "steps", "ng", "shape", "message"),
    [
        (LEVELS.astype(np.int64), ONWARD, 1, (1, 1, 1), "levels of another kind"),
        (LEVELS[0], ONWARD, 1, (1, 1, 1), "levels of another kind"),
        (LEVELS, ONWARD.astype(np.int64), 1, (1, 1, 1), "directions of another kind"),
        (LEVELS, ONWARD[:, :2].copy(), 1, (1, 1, 1), "directions of another kind"),
        (LEVELS, ONWARD[:0], 1, (1, 1, 0), "directions of another kind"),
        (LEVELS, 0 * ONWARD, 1, (1, 1, 1), "leads nowhere"),
        (LEVELS, 5 * ONWARD, 1, (1, 1, 1), "leads out of the array"),
        (LEVELS, -(2**31 - 1) * ONWARD, 1, (1, 1, 1), "leads out of the array"),
        (2 * LEVELS, ONWARD, 1, (1, 1, 1), "found grey level 2, wanted at most 1"),
        (-LEVELS, ONWARD, 1, (1, 1, 1), "found grey level -1"),
        (LEVELS, ONWARD, 1, (1, 1, 2), "found an output"),
        (LEVELS, ONWARD, -1, (1, 1, 1), "wanted at most -1"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_written(
    levels: Any, steps: Any, ng: int, shape: tuple[int, ...], message: str
) -> None:
    out = np.full(shape, 7.0)
    with pytest.raises(ValueError, match=message):
        _texture.pairs(levels, steps, ng, out)
    assert (out == 7).all()


def test_outputs_of_another_size_or_kind_are_refused_by_every_kernel() -> None:
    short, whole = np.zeros(3), np.zeros(3, np.int32)
    for kernel, args in [
        (_texture.pairs, (1, short)),
        (_texture.runs, (1, 5, short)),
        (_texture.dependences, (1, 0, short)),
        (_texture.differences, (1, short)),
        (_texture.zones, (1, whole, whole)),
    ]:
        with pytest.raises(ValueError, match="found an output"):
            kernel(LEVELS, ONWARD, *args)
    with pytest.raises(ValueError, match="longer than asked for"):
        _texture.runs(LEVELS, ONWARD, 1, 4, np.zeros((1, 4, 1)))
    readonly = np.zeros((1, 2))
    readonly.setflags(write=False)
    with pytest.raises(ValueError, match="read-only"):
        _texture.differences(LEVELS, ONWARD, 1, readonly)


@pytest.mark.parametrize("ng", [2**30, 2**40, 2**62])
def test_more_cells_than_can_be_addressed_are_an_error(ng: int) -> None:
    with pytest.raises((OverflowError, ValueError)):
        _texture.pairs(LEVELS, ONWARD, ng, np.zeros((1, 1, 1)))
    with pytest.raises(MemoryError):
        texture._room(ng, ng, 13)


def test_no_size_overflows_before_it_is_refused(tmp_path: Path) -> None:
    """Built so that a signed overflow ends the process: sizes are judged before one is added."""
    built = tmp_path / "_texture.so"
    subprocess.run(
        [*(sysconfig.get_config_var("CC") or "cc").split(), "-shared", "-fPIC", "-O1",
         "-fsanitize=signed-integer-overflow", "-fsanitize-undefined-trap-on-error",
         f"-I{sysconfig.get_path('include')}", str(ROOT / "analysis" / "features" / "_texture.c"),
         "-o", str(built), "-lm"],
        check=True, timeout=120,
    )  # fmt: skip
    code = """
import importlib.util, sys
import numpy as np
spec = importlib.util.spec_from_file_location("_texture", sys.argv[1])
kernels = importlib.util.module_from_spec(spec)
spec.loader.exec_module(kernels)
onward, out = np.array([[0, 0, 1]], np.int32), np.zeros((1, 1, 1))
some, none = np.ones((2, 2, 2), np.int32), np.zeros((2, 2, 2), np.int32)
for call in (
    lambda: kernels.pairs(some, onward, sys.maxsize, out),
    lambda: kernels.runs(some, onward, 1, sys.maxsize, out),
    lambda: kernels.runs(none, onward, 0, sys.maxsize, out),
):
    try:
        call()
    except OverflowError:
        print("refused")
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(built)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout.split()) == (0, ["refused"] * 3), done.stderr


def test_memory_that_cannot_be_had_is_a_memory_error() -> None:
    """Under a cap that leaves no room for the copy: the kernel says so and nothing breaks."""
    code = """
import resource, sys
import numpy as np
from mirv.analysis.features import _texture
levels = np.ones((200, 400, 400), np.int32)
steps, out = np.array([[0, 0, 1]], np.int32), np.zeros((1, 2))
pages = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (pages + 20_000_000, pages + 20_000_000))
try:
    _texture.differences(levels, steps, 1, out)
except MemoryError:
    sys.exit(3 if not out.any() else 4)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False)
    assert done.returncode == 3


def test_directions_do_not_depend_on_more_of_the_shape_than_their_length() -> None:
    for shape in [(1, 5, 6), (2, 9, 9), (30, 1, 1), (4, 4, 4), (40, 50, 60)]:
        for distances in ([1], [2], [1, 3]):
            levels = np.zeros(shape, np.intc)
            _, wanted = cMatrices.calculate_glcm(
                levels, levels > 0, np.array(distances), 1, False, 0
            )
            assert np.array_equal(texture.directions(shape, distances, False, 0), wanted)


def test_without_the_kernels_pyradiomics_routines_give_the_same_bytes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As from sources that nobody has built."""
    geometry = reference.grid((20, 40, 40), (2.5, 0.9, 0.9))
    volume = reference.noisy(geometry)
    (lesion,) = reference.lesions(reference.ball(geometry, (10, 20, 20), 8))
    profile = load_profile("mirv2025")
    job = Extractor(1)._job(volume, _Order(0, lesion, profile, 1.0, False, False))
    (ours,) = compute(job)
    monkeypatch.setattr(texture, "COMPILED", False)
    monkeypatch.setattr(texture, "_texture", None)
    (theirs,) = compute(job)
    assert np.isfinite(ours.values).all()
    assert ours.values.tobytes() == theirs.values.tobytes()
