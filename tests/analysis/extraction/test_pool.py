"""Extraction equals PyRadiomics on the whole volume, and one bad lesion harms no other."""

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest

from mirv.analysis.errors import Transient
from mirv.analysis.extraction.job import LesionLimits
from mirv.analysis.extraction.pool import Extractor
from mirv.analysis.features.names import feature_names
from mirv.analysis.model import Geometry, Lesion, LesionResult, Mask, Volume
from mirv.config.profiles import ExtractionProfile, load_profile
from tests.analysis.extraction import reference

HENRY = load_profile("henry2022")
MIRV = load_profile("mirv2025")


@pytest.fixture(scope="module")
def extractor() -> Iterator[Extractor]:
    with Extractor(2) as pool:
        yield pool


@pytest.fixture(scope="module")
def whole() -> Iterator[reference.WholeVolume]:
    with reference.WholeVolume() as pool:
        yield pool


Compare = Callable[..., None]


@pytest.fixture
def assert_same(extractor: Extractor, whole: reference.WholeVolume) -> Compare:
    """Difference 0 from the plain call, value by value."""

    def compare(volume: Volume, found: tuple[Lesion, ...], *profiles: ExtractionProfile) -> None:
        results = extractor.extract(volume, found, profiles)
        wanted = whole.values(volume, found, profiles)
        for result, expected in zip(results, wanted, strict=True):
            assert result.excluded is None, result.excluded
            np.testing.assert_array_equal(
                result.values, expected, f"{result.profile} {result.label}"
            )
            assert set(result.missing) == set(np.array(result.names)[~np.isfinite(expected)])

    return compare


GRIDS = {
    "anisotropic, non-integer ratio": reference.grid((40, 64, 60), (2.5, 0.78125, 0.9765625)),
    "one and a half to one: nearest-neighbour ties": reference.grid((40, 50, 52), (3, 1.5, 1.5)),
    "oblique": reference.grid((40, 56, 52), (2.5, 0.8, 0.8), reference.rotation(0.3, 0.21)),
    "flipped axes": reference.grid((40, 56, 52), (3, 0.7, 0.7), np.diag([-1.0, -1.0, 1.0])),
}


@pytest.mark.parametrize("name", GRIDS)
def test_resampled_branch_equals_the_whole_volume(assert_same: Compare, name: str) -> None:
    geometry = GRIDS[name]
    found = reference.lesions(
        reference.ball(geometry, (20, 27, 25), 9), reference.ball(geometry, (12, 30, 33), 4)
    )
    assert_same(reference.noisy(geometry), found, HENRY, MIRV)


@pytest.mark.parametrize(("profile", "thickness"), [(HENRY, 1.0), (MIRV, 2.0)])
def test_spacing_that_matches_is_cut_out(
    assert_same: Compare, profile: ExtractionProfile, thickness: float
) -> None:
    geometry = reference.grid((40, 60, 60), (thickness, 1, 1))
    found = reference.lesions(
        reference.ball(geometry, (20, 27, 25), 7), reference.ball(geometry, (2, 3, 57), 6)
    )
    assert_same(reference.noisy(geometry), found, profile)


def test_lesions_at_the_border(assert_same: Compare) -> None:
    geometry = reference.grid((30, 50, 50), (2.5, 0.9, 0.9))
    found = reference.lesions(
        reference.ball(geometry, (0, 25, 25), 8),
        reference.ball(geometry, (29, 49, 49), 8),
        reference.ball(geometry, (15, 0, 25), 6),
    )
    assert_same(reference.noisy(geometry), found, HENRY, MIRV)


def test_one_slice_and_two_components(assert_same: Compare) -> None:
    geometry = reference.grid((30, 50, 50), (3, 0.9, 0.9))
    one_slice = reference.ball(geometry, (15, 25, 25), 8)
    one_slice[:15] = one_slice[16:] = False
    two = reference.ball(geometry, (12, 20, 20), 5) | reference.ball(geometry, (20, 35, 30), 4)
    assert_same(reference.noisy(geometry), reference.lesions(one_slice, two), HENRY, MIRV)


def test_one_voxel_is_refused_by_both(extractor: Extractor) -> None:
    """A lesion without extent has no shape for PyRadiomics either; its words are not an error."""
    geometry = reference.grid((12, 24, 24), (1.0, 1, 1))
    (voxel,) = reference.boxes(geometry, [(1, 1, 1)])
    volume = reference.noisy(geometry)
    for profile in (HENRY, MIRV):
        with pytest.raises(ValueError, match="only contains 1 segmented voxel"):
            reference.plain(volume, voxel.mask, profile)
        (result,) = extractor.extract(volume, [voxel], [profile])
        assert result.excluded is not None
        assert result.excluded.code == "too_few_dimensions"


def test_one_litre(assert_same: Compare) -> None:
    """On two images and without shape (359 ml are measured with all): PyRadiomics loops over every
    voxel in Python and compares all pairs of the mesh's vertices, for over a minute.
    """
    geometry = reference.grid((60, 160, 160), (2.5, 0.9, 0.9))
    found = reference.lesions(reference.ball(geometry, (30, 80, 80), 62))
    kinds = {k: v for k, v in MIRV.feature_classes.items() if k != "shape"}
    images: dict[str, dict[str, object]] = {"Original": {}, "Gradient": {}}
    litre = replace(MIRV, feature_classes=kinds, image_types=images, n_features=2 * 86, selected=())
    assert_same(reference.noisy(geometry), found, litre)


@pytest.mark.parametrize("spacing", [(3.0, 0.7, 0.7), (3.0, 1.5, 1.5)])
def test_flat_regions_where_rounding_decides(
    assert_same: Compare, spacing: tuple[float, float, float]
) -> None:
    """B-spline over a constant gives it back give or take 1e-13, then is cut to an integer: the
    noise of the whole-volume call must be reproduced (a plain crop differs in thousands of voxels).
    """
    geometry = reference.grid((50, 110, 110), spacing)
    rng = np.random.default_rng(3)
    values = rng.normal(0, 30, geometry.shape)
    values[10:40, 12:100, 12:100] = 0
    values = np.rint(values - 1000).astype(np.int16)
    lesion = reference.ball(geometry, (25, 55, 55), 9)
    values[lesion] = 40
    values[25, 55, 55] = 90
    volume = Volume(values, geometry, "HU")
    assert_same(volume, reference.lesions(lesion), HENRY)


@pytest.mark.parametrize("interpolator", ["sitkLinear", "sitkNearestNeighbor", "sitkGaussian"])
@pytest.mark.parametrize("pixel_type", ["int16", "float32"])
def test_other_interpolators_and_pixel_types(
    assert_same: Compare, interpolator: str, pixel_type: str
) -> None:
    profile = replace(
        HENRY,
        pixel_type=pixel_type,
        settings={**HENRY.settings, "interpolator": interpolator},
    )
    geometry = reference.grid((40, 56, 52), (3, 1.5, 1.5), reference.rotation(0.3, 0))
    found = reference.lesions(reference.ball(geometry, (20, 27, 25), 9))
    assert_same(reference.noisy(geometry), found, profile)


def test_32_bit_float_spline_is_exact_to_the_last_bit(assert_same: Compare) -> None:
    profile = replace(HENRY, pixel_type="float32")
    geometry = reference.grid((80, 100, 100), (2.5, 0.9, 0.9))
    found = reference.lesions(reference.ball(geometry, (40, 50, 50), 14))
    assert_same(reference.noisy(geometry), found, profile)


@pytest.mark.parametrize(
    "settings",
    [
        {"resampledPixelSpacing": None},
        {"resampledPixelSpacing": None, "preCrop": True},
        {"resampledPixelSpacing": [1, 1, 0]},
        {"normalize": True, "normalizeScale": 100, "removeOutliers": 3},
        {"resegmentRange": [-20, 150]},
        {"force2D": True, "resampledPixelSpacing": [1, 1, 0]},
        {"binWidth": None, "binCount": 32},
    ],
    ids=str,
)
def test_other_settings(assert_same: Compare, settings: dict[str, object]) -> None:
    merged = {k: v for k, v in {**HENRY.settings, **settings}.items() if v is not None}
    if settings.get("resampledPixelSpacing", 0) is None:
        merged.pop("resampledPixelSpacing", None)
    profile = replace(
        HENRY,
        settings=merged,
        image_types={"Original": {}, "Gradient": {}},
        n_features=200,
    )
    geometry = reference.grid((30, 50, 50), (3, 0.9, 0.9))
    found = reference.lesions(reference.ball(geometry, (14, 25, 25), 8))
    assert_same(reference.noisy(geometry), found, profile)


def test_order_is_profile_by_profile_and_names_are_known_beforehand(extractor: Extractor) -> None:
    geometry = reference.grid((30, 40, 40), (2, 1, 1))
    found = reference.boxes(geometry, [(4, 5, 6), (8, 9, 9), (3, 4, 4)])
    results = extractor.extract(reference.noisy(geometry), found, [MIRV, HENRY])
    assert [(r.profile, r.number) for r in results] == [
        (name, number) for name in ("mirv2025", "henry2022") for number in (1, 2, 3)
    ]
    assert results[0].names == feature_names(MIRV)
    assert len(results[0].values) == 1218
    assert len(results[3].values) == 107
    assert results[0].volume_ml == pytest.approx(4 * 5 * 6 * 2 / 1000)
    assert (results[0].label, results[0].tracking_uid) == ("lesion 1", "2.25.1")


def same_bytes(a: Sequence[LesionResult], b: Sequence[LesionResult]) -> bool:
    return [r.values.tobytes() for r in a] == [r.values.tobytes() for r in b]


def test_any_number_of_workers_and_any_repeat_gives_the_same_bytes(extractor: Extractor) -> None:
    geometry = reference.grid((30, 40, 40), (2.5, 0.9, 0.9))
    volume = reference.noisy(geometry)
    found = reference.boxes(geometry, [(4, 5, 6), (8, 9, 9), (3, 4, 4), (6, 14, 11)])
    two = extractor.extract(volume, found, [HENRY, MIRV])
    again = extractor.extract(volume, found, [HENRY, MIRV])
    with Extractor(workers=1) as pool:
        one = pool.extract(volume, found, [HENRY, MIRV])
    assert same_bytes(two, again)
    assert same_bytes(two, one)


def small() -> Geometry:
    return reference.grid((12, 24, 24), (2.0, 1, 1))


def test_what_is_too_small_is_excluded_with_its_reason(extractor: Extractor) -> None:
    geometry = small()
    found = reference.boxes(geometry, [(1, 1, 1), (1, 1, 4), (2, 3, 3)])
    nothing = replace(found[0], number=4, mask=Mask.from_full(np.zeros(geometry.shape, bool)))
    volume = reference.noisy(geometry)
    results = extractor.extract(volume, [*found, nothing], [HENRY])
    codes = [r.excluded and r.excluded.code for r in results]
    assert codes == ["too_few_dimensions", "too_few_dimensions", None, "empty_mask"]
    assert np.isnan(results[0].values).all()
    picky = replace(HENRY, settings={**HENRY.settings, "minimumROISize": 1000})
    (result,) = extractor.extract(volume, found[2:], [picky])
    assert result.excluded is not None
    assert result.excluded.code == "too_small"


def test_a_lesion_between_lattice_points_vanishes(extractor: Extractor) -> None:
    """Two voxels of 0.2 mm lie between points 3 mm apart."""
    geometry = reference.grid((40, 40, 40), (0.2, 0.2, 0.2))
    coarse = replace(HENRY, settings={**HENRY.settings, "resampledPixelSpacing": [3, 3, 3]})
    (result,) = extractor.extract(
        reference.noisy(geometry), reference.boxes(geometry, [(2, 2, 2)]), [coarse]
    )
    assert result.excluded is not None
    assert result.excluded.code == "vanished_on_resampling"


def test_a_value_pyradiomics_cannot_compute_is_missing_with_a_reason(extractor: Extractor) -> None:
    """A flat lesion has no skewness of a finite kind in some classes: never 0, never NaN alone."""
    geometry = small()
    volume = Volume(np.full(geometry.shape, 40, np.int16), geometry, "HU")
    (result,) = extractor.extract(volume, reference.boxes(geometry, [(4, 6, 6)]), [HENRY])
    assert result.excluded is None
    absent = {n for n, v in zip(result.names, result.values, strict=True) if np.isnan(v)}
    assert absent == set(result.missing)


def test_values_below_the_first_bin_are_refused(extractor: Extractor) -> None:
    """They have no grey level: counted as level 0 they would silently fall out of the lesion."""
    profile = load_profile("ibsi-a")
    late = replace(profile, settings={**profile.settings, "binFrom": 40, "resegmentRange": None})
    volume = reference.noisy(small())
    (result,) = extractor.extract(volume, reference.boxes(small(), [(4, 6, 6)]), [late])
    assert result.excluded is not None
    assert result.excluded.code == "extraction_failed"
    assert "below the first bin" in result.excluded.detail


def test_diagnostics_and_warnings_say_what_was_measured(extractor: Extractor) -> None:
    """On the analysis grid: 4 x 2 mm slices of 1 mm pixels become 8 slices of 1 mm."""
    geometry = small()
    middle, _ = reference.boxes(geometry, [(4, 6, 6), (2, 3, 4)])
    edge = np.zeros(geometry.shape, bool)
    edge[0:3, 10:14, 10:14] = True
    (border,) = reference.lesions(edge)
    volume = reference.noisy(geometry)
    inner, outer = extractor.extract(volume, [middle, border], [HENRY])
    assert inner.diagnostics["voxels"] == 8 * 6 * 6
    assert inner.diagnostics["spacing_z_mm"] == 1.0
    at = inner.names.index("original_firstorder_Maximum")
    assert inner.diagnostics["maximum"] == inner.values[at]
    assert inner.warnings == ()
    assert "border" in outer.warnings[0]


def test_image_that_is_not_finite_is_refused(extractor: Extractor) -> None:
    geometry = small()
    values = np.full(geometry.shape, 40.0)
    values[6, 12, 12] = np.nan
    (result,) = extractor.extract(
        Volume(values, geometry, "HU"), reference.boxes(geometry, [(4, 6, 6)]), [HENRY]
    )
    assert result.excluded is not None
    assert result.excluded.code == "image_not_finite"


POISONS = {
    "crashes": ((2, 3, 5), "worker_died", "SIGSEGV"),
    "allocates without end": ((2, 3, 7), "memory_limit", "600 MB"),
    "never returns": ((2, 3, 11), "time_limit", "after 8 s"),
}


@pytest.mark.parametrize("name", POISONS)
def test_one_poisoned_lesion_of_twelve_costs_itself_alone(extractor: Extractor, name: str) -> None:
    """Eleven results, the same bytes as without it, and one reason; then all is well again."""
    size, code, words = POISONS[name]
    geometry = small()
    healthy = [(2, 3, 4), (3, 3, 4), (2, 4, 4), (4, 4, 4), (4, 5, 4), (4, 5, 5)]
    healthy += [(5, 5, 5), (5, 6, 5), (5, 6, 6), (3, 4, 4), (3, 5, 5)]
    volume = reference.noisy(geometry)
    found = reference.boxes(geometry, [*healthy[:5], size, *healthy[5:]])
    with Extractor(2, LesionLimits(lesion_timeout_s=8, lesion_memory_mb=600)) as pool:
        pool._target = reference.POISON
        results = pool.extract(volume, found, [HENRY])
        assert {r.number: r.excluded.code for r in results if r.excluded} == {6: code}
        assert results[5].excluded is not None
        assert words in results[5].excluded.detail
        assert np.isnan(results[5].values).all()
        again = pool.extract(volume, found[:2], [HENRY])
    others = [*results[:5], *results[6:]]
    without = extractor.extract(volume, [*found[:5], *found[6:]], [HENRY])
    assert len(others) == 11
    assert same_bytes(others, without)
    assert same_bytes(again, without[:2])


def test_matrices_of_many_gigabytes_meet_the_memory_cap() -> None:
    """A bin width of 1e-4 asks PyRadiomics for matrices of 10**13 bytes: a fault of its own."""
    geometry = small()
    fine = replace(HENRY, settings={**HENRY.settings, "binWidth": 1e-4})
    found = reference.boxes(geometry, [(4, 6, 6), (3, 6, 6)])
    with Extractor(1, LesionLimits(lesion_memory_mb=800)) as pool:
        results = pool.extract(reference.noisy(geometry), found[:1], [fine])
        assert results[0].excluded is not None
        assert results[0].excluded.code in {"memory_limit", "worker_died"}
        (after,) = pool.extract(reference.noisy(geometry), found[1:], [HENRY])
        assert after.excluded is None


def test_progress_counts_every_lesion_and_profile(extractor: Extractor) -> None:
    geometry = small()
    seen: list[tuple[int, int]] = []
    found = reference.boxes(geometry, [(2, 3, 4), (3, 3, 4), (1, 1, 1)])
    extractor.extract(reference.noisy(geometry), found, [HENRY, MIRV], lambda *at: seen.append(at))
    assert seen == [(n, 6) for n in range(1, 7)]


def test_a_fault_in_progress_leaves_the_pool_usable() -> None:
    geometry = small()
    volume = reference.noisy(geometry)
    found = reference.boxes(geometry, [(2, 3, 4), (3, 3, 4), (4, 4, 4)])

    def fault(_done: int, _total: int) -> None:
        raise KeyError("stop")

    with Extractor(2) as pool:
        with pytest.raises(KeyError):
            pool.extract(volume, found, [HENRY], fault)
        results = pool.extract(volume, found, [HENRY])
    assert all(result.excluded is None for result in results)


def test_threads_share_one_pool(extractor: Extractor) -> None:
    geometry = small()
    volume = reference.noisy(geometry)
    found = reference.boxes(geometry, [(2, 3, 4), (3, 3, 4)])
    collected: list[tuple[LesionResult, ...]] = []
    threads = [
        threading.Thread(target=lambda: collected.append(extractor.extract(volume, found, [HENRY])))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(collected) == 3
    assert all(same_bytes(collected[0], other) for other in collected)


def test_closing_while_at_work_gives_no_results() -> None:
    """A node that stops must not record lesions as failed: the run is repeated later."""
    geometry = small()
    pool = Extractor(1)
    pool._target = reference.POISON
    heard: list[BaseException] = []

    def work() -> None:
        try:
            pool.extract(reference.noisy(geometry), found, [HENRY], lambda *_: begun.set())
        except Transient as error:
            heard.append(error)

    found = reference.boxes(geometry, [(5, 5, 5), (2, 3, 11)])
    begun = threading.Event()
    thread = threading.Thread(target=work)
    thread.start()
    assert begun.wait(60)
    pool.close()
    thread.join(60)
    assert len(heard) == 1
    with pytest.raises(Transient):
        pool.extract(reference.noisy(geometry), found, [HENRY])


def test_masks_of_another_grid_and_bad_numbers_are_faults(extractor: Extractor) -> None:
    found = reference.boxes(small(), [(2, 3, 4)])
    other = reference.noisy(reference.grid((10, 24, 24), (2.0, 1, 1)))
    with pytest.raises(ValueError, match="wanted the image's"):
        extractor.extract(other, found, [HENRY])
    with pytest.raises(ValueError, match="different names"):
        extractor.extract(other, [], [HENRY, HENRY])
    with pytest.raises(ValueError, match="workers"):
        Extractor(-1)
    assert extractor.extract(other, [], [HENRY]) == ()


def test_a_worker_that_cannot_start_is_said_so() -> None:
    with Extractor(1) as pool:
        pool._target = "no_such_module:compute"
        with pytest.raises(RuntimeError, match="could not start"):
            pool.extract(reference.noisy(small()), reference.boxes(small(), [(2, 3, 4)]), [HENRY])


def test_importing_extraction_does_not_load_pyradiomics() -> None:
    """Start-up of the command line stays quick; only workers load it."""
    code = (
        "import sys, mirv.analysis.extraction.pool; "
        "sys.exit(bool({'radiomics', 'SimpleITK', 'scipy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_plain_and_fast_arithmetic_give_the_same_bytes(extractor: Extractor) -> None:
    """Large enough (surface of thousands of vertices) that every kernel of our own is used."""
    geometry = reference.grid((50, 70, 70), (2.5, 0.9, 0.9), reference.rotation(0.2, 0.1))
    rough = np.random.default_rng(1).random(geometry.shape) > 0.1
    found = reference.lesions(
        reference.ball(geometry, (25, 35, 35), 22) & rough,
        reference.ball(geometry, (25, 30, 30), 7),
    )
    volume = reference.noisy(geometry)
    fast = extractor.extract(volume, found, [HENRY, MIRV])
    with Extractor(workers=2, arithmetic="plain") as pool:
        plain = pool.extract(volume, found, [HENRY, MIRV])
    assert same_bytes(fast, plain)


def test_perturbed_masks_share_the_window(extractor: Extractor) -> None:
    """The original is what `extract` gives; volumes shrink and grow; a thin lesion vanishes."""
    geometry = reference.grid((40, 60, 60), (2.5, 0.9, 0.9))
    thin = np.zeros(geometry.shape, bool)
    thin[20, 30, 20:40] = True
    thin[20, 31, 20:40] = True
    found = reference.lesions(reference.ball(geometry, (20, 30, 30), 9), thin)
    volume = reference.noisy(geometry)
    alone = extractor.extract(volume, found, [HENRY, MIRV])
    both = extractor.extract_perturbed(volume, found, [HENRY, MIRV])
    assert same_bytes(alone, tuple(each.original for each in both))
    at = both[0].original.names.index("original_shape_VoxelVolume")
    sizes = [r.values[at] for r in (both[0].eroded, both[0].original, both[0].dilated)]
    assert sizes == sorted(sizes)
    assert sizes[2] - sizes[0] == pytest.approx(2 * 4 * np.pi * 9**2, rel=0.2)
    assert both[1].eroded.excluded is not None
    assert both[1].eroded.excluded.code == "vanished_on_erosion"
    assert both[1].dilated.excluded is None
    plain = Extractor(1, arithmetic="plain")
    with plain:
        again = plain.extract_perturbed(volume, found[:1], [HENRY])
    for one, other in zip(
        (again[0].eroded, again[0].dilated), (both[0].eroded, both[0].dilated), strict=True
    ):
        assert one.values.tobytes() == other.values.tobytes()
