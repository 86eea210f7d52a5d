import numpy as np

from similar_images.pca import principal_directions


def test_principal_directions_span_what_svd_finds() -> None:
    rng = np.random.default_rng(1)
    sample = (rng.standard_normal((400, 64)) * np.geomspace(10, 0.1, 64) + 3).astype(np.float32)
    directions = principal_directions(sample, 8, seed=0)
    _, _, exact = np.linalg.svd(sample - sample.mean(axis=0), full_matrices=False)
    assert np.allclose(directions @ directions.T, np.eye(8), atol=1e-4)
    overlap = np.linalg.svd(directions @ exact[:8].T, compute_uv=False)  # cosines of the angles between both subspaces
    assert overlap.min() > 0.99


def test_principal_directions_rotated_share_the_variance() -> None:
    rng = np.random.default_rng(1)
    sample = (rng.standard_normal((2000, 32)) * np.geomspace(10, 0.1, 32)).astype(np.float32)
    spread = (sample @ principal_directions(sample, 8, seed=0).T).var(axis=0)
    plain = np.sort(sample.var(axis=0))[::-1][:8]
    assert spread.max() / spread.min() < plain.max() / plain.min() / 2
