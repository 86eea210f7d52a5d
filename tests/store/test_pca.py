"""Principal components against NumPy's singular value decomposition."""

import numpy as np
import pytest

from similar_images.store.pca import principal_components


@pytest.mark.parametrize(("n", "d"), [(400, 60), (60, 400)])
def test_principal_components_are_the_singular_vectors(n: int, d: int) -> None:
    random = np.random.default_rng(0)
    factors = random.standard_normal((n, 40)) * 0.8 ** np.arange(40)
    sample = (factors @ random.standard_normal((40, d))).astype(np.float32)
    _, values, vectors = np.linalg.svd(sample.astype(np.float64), full_matrices=False)
    components, variances = principal_components(sample, 8, seed=0)
    np.testing.assert_allclose(np.abs(np.sum(components * vectors[:8], axis=1)), 1, atol=1e-3)
    np.testing.assert_allclose(components @ components.T, np.eye(8), atol=1e-5)
    np.testing.assert_allclose(variances, values[:8] ** 2 / n, rtol=2e-4)


def test_principal_components_leave_out_what_has_no_variance() -> None:
    rows = np.zeros((5, 4), np.float32)
    rows[:, 0], rows[:2, 2] = 1, 3
    components, variances = principal_components(rows, 4, seed=0)
    assert components.shape == (2, 4)
    assert (variances > 0).all()
    np.testing.assert_allclose(components @ components.T, np.eye(2), atol=1e-5)
    np.testing.assert_allclose(rows @ components.T @ components, rows, atol=1e-5)
