"""Region count and missed lesions against float64 NumPy and scipy, and the bounds they promise."""

import math

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops
from scipy import ndimage

from segpipe.losses import components, regions

pytestmark = pytest.mark.jax

RULES = {"min_voxels": 1, "overlap": 0.0, "cut": 1.0}
ENGINES = ("graph", "host")


def logit(p):
    return math.log(p / (1 - p))


def scene(seed, shape=(8, 7, 6), classes=1, density=0.25):
    """Logits with many regions, weights, and a sparse reference with its band."""
    rng = np.random.default_rng([8, seed])
    z = rng.normal(-1.5, 2.0, (2, *shape, classes))
    reference = rng.random((2, *shape, classes)) < 0.03
    spared = np.stack(
        [ndimage.binary_dilation(r.any(-1), np.ones((3,) * len(shape))) for r in reference]
    )[..., None] & (rng.random((2, *shape, 1)) < density)
    spared |= reference.any(-1, keepdims=True)
    return z, rng.random((2, *shape, 1)) * 3, spared, reference


def region_count(z, weight, spared, threshold=0.5, engine="graph", **rules):
    labels = components.label(z > logit(threshold), engine)
    return regions.region_count(z, labels, weight, spared, **(RULES | rules))


def region_penalty(z, weight, spared, threshold=0.5, **rules):
    return regions.region_count_penalty(region_count(z, weight, spared, threshold, **rules)[0])


def missed(z, reference, threshold=0.5):
    lesions = components.label(ops.convert_to_tensor(reference))
    return regions.missed_lesions(z, lesions, z > logit(threshold))


CHOICES = [
    {},
    {"min_voxels": 3},
    {"overlap": 0.4},
    {"cut": 0.5, "min_voxels": 2},
    {"cut": 0.0},
    {"min_voxels": 4, "overlap": 0.7, "cut": 0.5},
]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("rules", CHOICES)
@pytest.mark.parametrize(("shape", "classes"), [((8, 7, 6), 1), ((9, 8), 1), ((6, 5, 4), 3)])
def test_region_count_is_the_written_formula(shape, classes, rules, engine, value, oracle):
    for seed in range(3):
        z, weight, spared, _ = scene(seed, shape, classes)
        for threshold in (0.5, 0.7):
            got = value(
                lambda *t, c=threshold: region_count(*t, c, engine, **rules), z, weight, spared
            )
            expected = oracle.region_count(z, weight, spared, threshold, **(RULES | rules))
            np.testing.assert_allclose(got, expected, rtol=1e-9)


@pytest.mark.parametrize(("shape", "classes"), [((8, 7, 6), 1), ((9, 8), 2)])
def test_missed_lesions_are_the_written_formula(shape, classes, value, oracle):
    for seed in range(4):
        z, _, _, reference = scene(seed, shape, classes)
        for threshold in (0.5, 0.9):
            got = value(lambda *t, c=threshold: missed(*t, c), z, reference)
            expected = oracle.missed_lesions(z, reference, threshold)
            assert expected[1].sum() > 0
            np.testing.assert_allclose(got, expected, rtol=1e-9)


def cube(at, size, z=3.0, shape=(12, 12, 12)):
    """Sure background but for one cube."""
    field = np.full((1, *shape, 1), -9.0)
    box = tuple(slice(a, a + size) for a in at)
    field[(0, *box, 0)] = z
    return field


def existence(z, value, weight=1.0, spared=None, **rules):
    spared = np.zeros(z.shape, bool) if spared is None else spared
    return value(lambda *t: region_count(*t, **rules), z, np.full(z.shape, weight), spared)


@pytest.mark.parametrize("z", [0.5, 3.0, 8.0])
def test_a_region_exists_as_much_whatever_its_size_and_place(z, value, oracle):
    for size in (1, 2, 5):
        for at in ((2, 3, 4), (6, 1, 5)):
            score, count = existence(cube(at, size, z), value)
            assert score[0] == pytest.approx(oracle.softplus(z), rel=1e-12)
            assert count[0] == 1


def test_a_shifted_region_has_the_same_score(value):
    """To the last bit on TensorFlow; XLA's exp may round by a voxel's place in a vector of them."""
    rng = np.random.default_rng(0)
    blob = rng.normal(2, 1, (4, 4, 4))
    scores = set()
    for at in ((0, 0, 0), (1, 5, 3), (7, 2, 6)):
        z = np.full((1, 12, 12, 12, 1), -9.0)
        z[(0, *(slice(a, a + 4) for a in at), 0)] = blob
        scores.add(float(existence(z, value)[0][0]))
    bits = 0 if keras.backend.backend() == "tensorflow" else 2
    assert max(scores) - min(scores) <= bits * np.spacing(max(scores))


def test_regions_below_the_smallest_size_do_not_count(value):
    for smallest, expected in ((8, 1), (9, 0)):
        score, count = existence(cube((3, 3, 3), 2), value, min_voxels=smallest)
        assert (score[0] > 0) == count[0] == expected


@pytest.mark.parametrize(("cut", "share"), [(1.0, 1.0), (0.5, 0.5), (0.0, 0.0)])
def test_regions_that_the_patch_cuts_count_as_configured(cut, share, value):
    inside, count_inside = existence(cube((1, 1, 1), 2), value, cut=cut)
    border, count_border = existence(cube((0, 1, 1), 2), value, cut=cut)
    assert border[0] == pytest.approx(share * inside[0])
    assert (count_inside[0], count_border[0]) == (1, share > 0)


def test_a_region_of_unknown_size_is_not_too_small(value):
    """Cut by the border: half, whatever can be seen of it."""
    whole = existence(cube((1, 1, 1), 1), value)[0][0]
    assert existence(cube((0, 1, 1), 1), value, cut=0.5, min_voxels=50)[0] == whole / 2
    assert existence(cube((0, 1, 1), 1), value, cut=1.0, min_voxels=50)[0] == 0


def test_the_weight_of_a_region_is_the_mean_over_all_of_it(value, oracle):
    z = cube((4, 4, 4), 2)
    weight = np.ones(z.shape)
    weight[:, :5] = 5.0  # half of the cube
    spared = np.zeros(z.shape, bool)
    score, _ = value(lambda *t: region_count(*t), z, weight, spared)
    assert score[0] == pytest.approx(3.0 * oracle.softplus(3.0))
    spared[0, 4, 4, 4] = True  # an eighth: still false-positive, and its weight still counts
    score, _ = value(lambda *t: region_count(*t, overlap=0.125), z, weight, spared)
    assert score[0] == pytest.approx(3.0 * oracle.softplus(3.0))
    assert value(lambda *t: region_count(*t, overlap=0.12), z, weight, spared)[1][0] == 0


@pytest.mark.parametrize("rules", CHOICES)
def test_region_gradient_agrees_with_finite_differences(rules, gradient, oracle):
    z, weight, spared, _ = scene(5, (6, 6, 5), density=0.1)
    z -= 1.5  # regions small enough not to reach the border
    rules = RULES | rules
    slope = gradient(lambda t: region_penalty(t, weight, spared, **rules), z)
    assert np.abs(slope).max() > 0.01

    def exact(moved):
        moved = oracle.region_count(moved, weight, spared, 0.5, **rules, frozen=z)[0]
        return np.log1p(moved).sum()

    numeric = np.zeros_like(z)
    for index in np.ndindex(z.shape):
        step = np.zeros_like(z)
        step[index] = 1e-5
        numeric[index] = (exact(z + step) - exact(z - step)) / 2e-5
    np.testing.assert_allclose(slope, numeric, rtol=1e-6, atol=1e-9)


def test_missed_gradient_agrees_with_finite_differences(gradient, oracle):
    z, _, _, reference = scene(6, (4, 5, 3))
    slope = gradient(lambda t: regions.missed_penalty(missed(t, reference)[0]), z)
    assert np.abs(slope).max() > 0.01
    numeric = np.zeros_like(z)
    for index in np.ndindex(z.shape):
        step = np.zeros_like(z)
        step[index] = 1e-5
        up, down = (
            np.log1p(oracle.missed_lesions(z + s, reference, 0.5, frozen=z)[0]).sum()
            for s in (step, -step)
        )
        numeric[index] = (up - down) / 2e-5
    np.testing.assert_allclose(slope, numeric, rtol=1e-6, atol=1e-9)


def test_a_share_of_exactly_the_overlap_is_a_false_positive_region(value):
    z, spared = np.full((1, 180, 1), 3.0, np.float32), np.zeros((1, 180, 1), bool)
    spared[0, :117] = True  # 117 / 180 = 0.65, which float32 cannot hold
    for overlap, number in ((0.65, 1), (0.6499, 0)):
        found = value(lambda *t, o=overlap: region_count(*t, overlap=o), z, np.ones_like(z), spared)
        assert found[1][0] == number


@pytest.mark.parametrize("overlap", [0.0, 0.5])
def test_what_is_rightly_found_gets_exactly_no_gradient(overlap, gradient_of, oracle):
    """Not its voxels, and no voxel of the reference and its band, whatever region it is in."""
    slope_of = gradient_of(lambda *t: region_penalty(*t, overlap=overlap))
    for seed in range(8):
        z, weight, spared, _ = scene(seed)
        z = (z - 1.0).astype(np.float32)  # few enough for several regions
        slope = slope_of(z, weight.astype(np.float32), spared)
        assert (slope[spared] == 0).all()
        assert (slope[z <= 0] == 0).all()
        wrong = np.zeros(z.shape, bool)
        for b in range(len(z)):
            for part in oracle.parts_of(z[b, ..., 0] > 0):
                share = (part & spared[b, ..., 0]).sum() / part.sum()
                wrong[b, ..., 0] |= part & (share <= overlap)
        assert wrong.any()
        assert (slope[~wrong] == 0).all()
        assert (slope[wrong & ~spared] > 0).all()


@pytest.fixture(scope="module")
def region_norms(gradient_of):
    """Per sample the L1 norm of L_reg's gradient, by rules."""
    calls = [gradient_of(lambda *t, r=rules: region_penalty(*t, **r)) for rules in CHOICES]

    def norms(rules, *arrays):
        slope = calls[CHOICES.index(rules)](*arrays)
        return np.abs(slope.astype(float)).sum(tuple(range(1, slope.ndim)))

    return norms


@pytest.fixture(scope="module")
def missed_norms(gradient_of):
    """The same of L_miss."""
    call = gradient_of(lambda *t: regions.missed_penalty(missed(*t)[0]))

    def norms(*arrays):
        slope = call(*arrays)
        return np.abs(slope.astype(float)).sum(tuple(range(1, slope.ndim)))

    return norms


@settings(max_examples=100, deadline=None)
@given(
    st.integers(0, 10**6),
    st.floats(-3, 40),
    st.floats(0, 20),
    st.floats(-3, 8),
    st.sampled_from(CHOICES),
)
def test_gradient_norms_stay_below_one(
    region_norms, missed_norms, seed, centre, spread, scale, rules
):
    rng = np.random.default_rng([9, seed])
    z = rng.normal(centre, spread, (2, 5, 6, 4, 1))
    weight = rng.random(z.shape) * 10**scale
    assert (region_norms(rules, z, weight, rng.random(z.shape) < 0.02) < 1).all()
    assert (missed_norms(-z, rng.random(z.shape) < 0.1) < 1).all()


def test_gradient_norms_of_adversarial_volumes_stay_below_one(region_norms, missed_norms, oracle):
    lattice = np.full((1, 9, 9, 9, 1), -30.0)
    lattice[:, ::2, ::2, ::2] = 0.1  # 125 regions of one voxel, barely found
    nothing, everything = np.zeros(lattice.shape, bool), np.ones(lattice.shape, bool)
    heavy = np.full(lattice.shape, 1e9)
    for z in (lattice, np.full_like(lattice, 1e-3), np.full_like(lattice, 30.0), -lattice):
        assert region_norms({}, z, heavy, nothing)[0] < 1
    # Σ W a σ(z) / (1 + Σ W e): σ / softplus is largest where regions begin, 0.72 at z = 0
    largest = region_norms({}, lattice, heavy, nothing)[0]
    assert largest == pytest.approx(1 / (1 + np.exp(-0.1)) / oracle.softplus(0.1), rel=1e-6)
    assert 0.01 < missed_norms(np.full_like(lattice, -60.0), everything)[0] < 1


def test_a_sure_region_keeps_its_gradient_where_the_mean_probability_falls_silent(gradient):
    nothing = np.zeros((1, 12, 12, 12, 1), bool)
    one = np.ones(nothing.shape)
    for size in (1, 3, 6):
        z = cube((2, 2, 2), size, 8.0)
        slope = gradient(lambda t: region_count(t, ops.convert_to_tensor(one), nothing)[0], z)
        assert slope.sum() == pytest.approx(1.0, abs=1e-3)
        found = z > 0
        silent = gradient(lambda t, m=found: ops.mean(ops.sigmoid(t[m])), z)
        assert silent.sum() < 4e-4


def test_descending_the_gradient_removes_false_regions_and_finds_missed_lesions(
    gradient_of, oracle
):
    z, weight, spared, reference = scene(2, (10, 9, 8), density=0.1)
    z -= 1.0
    assert oracle.region_count(z, weight, spared, 0.5, **RULES)[1].sum() >= 4
    assert oracle.missed_lesions(z, reference, 0.5)[1].sum() >= 4

    def both(z, weight, spared, reference):
        lost = regions.missed_penalty(missed(z, reference)[0])
        return region_penalty(z, weight, spared) + lost

    descent = gradient_of(both)
    for _ in range(40):
        z = z - 30 * descent(z, weight, spared, reference)
    assert oracle.region_count(z, weight, spared, 0.5, **RULES)[1].sum() == 0
    assert oracle.missed_lesions(z, reference, 0.5)[1].sum() == 0


def test_values_are_equal_eager_and_compiled_and_nothing_is_traced_again(compiled):
    def both(z, weight, spared, reference, threshold):
        z = ops.cast(z, "float32")
        labels = components.label(z > ops.log(threshold / (1 - threshold)))
        counted = regions.region_count(z, labels, weight, spared, **RULES)
        return (*counted, *regions.missed_lesions(z, components.label(reference), z > 0))

    once = compiled(both)
    for seed in range(4):
        z, weight, spared, reference = scene(seed)
        threshold = np.float32(0.7 - 0.05 * seed)
        arrays = (z.astype(np.float32), weight.astype(np.float32), spared, reference, threshold)
        tensors = [ops.convert_to_tensor(a) for a in arrays]
        for fast, slow in zip(once(*arrays), both(*tensors), strict=True):
            np.testing.assert_allclose(np.asarray(fast), np.asarray(slow), rtol=1e-5)
    assert once.traces == 1


def test_half_precision_is_summed_in_single(value):
    z, weight, spared, reference = scene(3)
    half = z.astype(np.float16)
    wide = half.astype(np.float32)
    weight = weight.astype(np.float32)
    for a, b in zip(
        value(region_count, half, weight, spared) + value(missed, half, reference),
        value(region_count, wide, weight, spared) + value(missed, wide, reference),
        strict=True,
    ):
        assert a.dtype == np.float32
        np.testing.assert_array_equal(a, b)
