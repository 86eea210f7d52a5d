"""The measure, compared with its definition in float64."""

import numpy as np
import pytest
from conftest import centred

from similar_images.store.measure import FEWEST_TO_CENTRE, Comparison, Measure
from similar_images.store.pca import principal_components


def measure_of(rows: np.ndarray, count: int = 0) -> Measure:
    """Return the measure of vectors (n, d), with some principal components of them all."""
    units = rows / np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
    mean = units.mean(axis=0).astype(np.float32)
    components, variances = principal_components(centred(rows).astype(np.float32), count, seed=0)
    return Measure(mean, components, np.sqrt(variances / variances[-1:]))


def seeded(n: int, d: int) -> np.ndarray:
    """Return vectors (n, d) with a falling spectrum, about a mean that is not 0."""
    random = np.random.default_rng(0)
    return (random.standard_normal((n, d)) * np.geomspace(2, 0.1, d) + 1).astype(np.float32)


def by_definition(rows: np.ndarray, measure: Measure, focus: float) -> np.ndarray:
    """Return the distances (n, n) between vectors (n, d), weighed by a focus, in float64."""
    units = centred(rows)
    components = measure.components.astype(np.float64)
    along = units @ components.T
    weighed = units - along @ components + along * measure.scales**focus @ components
    weighed /= np.linalg.norm(weighed, axis=1, keepdims=True)
    return 2 - 2 * weighed @ weighed.T


@pytest.mark.parametrize("focus", [-0.3, 0, 0.1, 0.3])
@pytest.mark.parametrize("count", [1, 8, 40])
def test_distances_are_those_of_the_definition(focus: float, count: int) -> None:
    rows = seeded(60, 40)
    measure = measure_of(rows, count)
    components = measure.units(rows) @ measure.components.T
    expected = by_definition(rows, measure, focus)
    for row in range(0, 60, 7):
        found = Comparison(measure, rows[row], focus).distances(rows, lambda: components)
        np.testing.assert_allclose(found, expected[row], atol=5e-6)
        assert found[row] == 0


@pytest.mark.parametrize("focus", [-0.3, 0, 0.1])
def test_distances_by_components_are_those_to_what_these_say(focus: float) -> None:
    rows = seeded(60, 40)
    measure = measure_of(rows, 8)
    components = measure.units(rows) @ measure.components.T
    weighed = components.astype(np.float64) * measure.scales**focus
    weighed /= np.linalg.norm(weighed, axis=1, keepdims=True)
    found = Comparison(measure, rows[3], focus).distances_by_components(np.vstack([components, np.zeros((1, 8))]))
    np.testing.assert_allclose(found[:-1], 2 - 2 * weighed @ weighed[3], atol=5e-6)
    assert found[-1] == np.inf


@pytest.mark.parametrize("scale", [1e30, 1e-30, 1e37])
def test_distances_do_not_depend_on_the_scale(scale: float) -> None:
    rows = seeded(40, 64)
    measure = measure_of(rows, 4)
    components = measure.units(rows) @ measure.components.T
    scaled = rows * np.float32(scale)
    found = Comparison(measure, scaled[0], 0.1).distances(scaled, lambda: components)
    np.testing.assert_allclose(found, by_definition(rows, measure, 0.1)[0], atol=1e-5)
    assert found[0] == 0


@pytest.mark.parametrize("centre", [True, False])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("d", [1, 3, 37, 4096])
def test_distances_are_0_to_the_vector_itself_and_alike_to_alike_ones(d: int, dtype: type, centre: bool) -> None:
    rows = np.repeat(np.random.default_rng(0).standard_normal((2, d)).astype(dtype).astype(np.float32), 101, axis=0)
    mean = np.full(d, 0.1 / np.sqrt(d), np.float32) if centre else None
    measure = Measure(mean, np.zeros((0, d), np.float32), np.zeros(0, np.float32))
    found = Comparison(measure, rows[0]).distances(rows, lambda: rows[:, :0])
    assert (found[:101] == 0).all() and len(set(found[101:])) == 1


def test_distances_to_zeros_are_infinite() -> None:
    rows = np.array([[1, 0], [0, 0], [0, 2]], np.float32)
    assert Comparison(Measure.raw(2), rows[0]).distances(rows, lambda: rows[:, :0]).tolist() == [0, np.inf, 2]
    measure = measure_of(seeded(30, 2), 1)
    found = Comparison(measure, rows[0], 0.1).distances(rows, lambda: measure.units(rows) @ measure.components.T)
    assert found[0] == 0 and np.isinf(found[1]) and 0 < found[2] <= 4


def test_units_without_a_direction_are_zeros() -> None:
    measure = Measure(np.array([0.6, 0.8], np.float32), np.zeros((0, 2), np.float32), np.zeros(0, np.float32))
    rows = np.array([[0, 0], [3, 4], [4, 3]], np.float32)
    assert measure.units(rows).any(axis=1).tolist() == [False, False, True]
    for row, expected in ((2, [np.inf, 2, 0]), (1, [np.inf, 2, 2])):
        assert Comparison(measure, rows[row]).distances(rows, lambda: rows[:, :0]).tolist() == expected


def test_vectors_of_units_have_these_units() -> None:
    rows = seeded(30, 8)
    for measure in (measure_of(rows), Measure.raw(8)):
        units = measure.units(rows)
        vectors = measure.vectors_of(units)
        np.testing.assert_allclose(measure.units(vectors), units, atol=1e-5)
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
        assert not measure.vectors_of(np.zeros((1, 8), np.float32)).any()


def test_measure_about_a_mean_is_raw_for_few_vectors_and_for_equal_ones() -> None:
    mean = np.full(8, 0.1, np.float32)
    assert Measure.about(mean, FEWEST_TO_CENTRE).mean is mean
    assert Measure.about(mean, FEWEST_TO_CENTRE - 1).mean is None
    assert Measure.about(np.array([0.6, 0.8], np.float32), 1000).mean is None
