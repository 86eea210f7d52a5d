from pathlib import Path

import numpy as np
import pytest

from similar_images.answer_quality import answer_quality
from similar_images.compact import (
    INCLUDED_WEIGHTS,
    MIDDLE_WEIGHT,
    compact_encoder,
    compact_network,
    fit_reduction,
    included_digest,
    load_weights,
    save_weights,
)
from similar_images.conversion import remembered
from similar_images.encoders import Encoder, EncoderSpec, load_encoder
from similar_images.file_list import list_photos
from similar_images.labels import labels_of
from similar_images.runtimes import open_runtime
from similar_images.weights import EncoderError


def vectors_of(encoder: Encoder, folder: Path, names: list[str]) -> np.ndarray:
    pixels = np.stack([encoder.pixels(folder / name) for name in names])
    return open_runtime(encoder, "openvino", "f32").encode(pixels)


def test_vectors_have_256_numbers_and_length_1(compact: Encoder, photos: Path) -> None:
    assert (compact.size, compact.dimension) == ((112, 112), 256)
    vectors = vectors_of(compact, photos, list_photos(photos))
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_included_weights_are_small_and_trained(compact: Encoder, tmp_path: Path) -> None:
    assert INCLUDED_WEIGHTS.stat().st_size < 4_000_000
    assert compact.card(tmp_path).trained and included_digest() == compact.weights_digest


def test_converted_encoder_is_known_again_without_keras_while_the_weights_are_these(
    compact: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIMILAR_IMAGES_CACHE", str(tmp_path))
    assert remembered(EncoderSpec("compact")) is None
    open_runtime(compact, "openvino", "f32")
    assert remembered(EncoderSpec("compact")) == compact
    save_weights(compact_encoder(compact_network()), tmp_path / "others.npz")
    monkeypatch.setattr("similar_images.compact.INCLUDED_WEIGHTS", tmp_path / "others.npz")
    assert remembered(EncoderSpec("compact")) is None


def test_trained_weights_find_real_photos_of_a_kind_more_often_than_untrained_ones(
    compact: Encoder, shared: Path
) -> None:
    """On four kinds of things that they never learnt from."""
    folder = shared / "images" / "caltech101"
    names = [name for name in list_photos(folder) if name.startswith(("llama/", "menorah/", "rooster/", "schooner/"))]
    labels = labels_of(names, "folders")
    assert labels is not None and len(names) == 120
    trained, untrained = (
        answer_quality(vectors_of(encoder, folder, names), labels, np.arange(120)).precision.mean()
        for encoder in (compact, load_encoder(EncoderSpec("compact", weights="none")))
    )
    assert trained > 1.3 * untrained


def test_vector_is_the_fitted_reduction_of_two_pooled_stages() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (400, 7, 7, 3), np.uint8).repeat(16, axis=1).repeat(16, axis=2)
    network = compact_network()
    encoder = compact_encoder(network)
    fit_reduction(encoder, pixels)
    last, middle, _ = network.predict_on_batch(pixels / np.float32(127.5) - 1)
    pooled = np.concatenate([(maps**3).mean(axis=(1, 2)) ** (1 / 3) for maps in (last, middle)], axis=1)
    kernel, bias = encoder.get_weights()[-2:]
    reduced = pooled @ kernel + bias
    assert np.allclose(reduced.mean(axis=0), 0, atol=1e-3)
    covariance = np.cov(reduced, rowvar=False)
    half_whitened = covariance.diagonal()
    assert np.allclose(covariance, np.diag(half_whitened), atol=1e-3) and (np.diff(half_whitened) < 1e-4).all()
    assert np.square(half_whitened).sum() == pytest.approx(1 + MIDDLE_WEIGHT**2, rel=0.01)  # variances of the two parts
    vectors = encoder.predict_on_batch(pixels)
    assert np.allclose(vectors, reduced / np.linalg.norm(reduced, axis=1, keepdims=True), atol=1e-4)


def test_weights_file_gives_back_what_was_saved_but_for_rounding(tmp_path: Path) -> None:
    one, other = compact_encoder(compact_network()), compact_encoder(compact_network())
    one.set_weights([weights + 0.01 for weights in one.get_weights()])
    save_weights(one, tmp_path / "some.npz")
    load_weights(other, tmp_path / "some.npz")
    for saved, loaded in zip(one.get_weights(), other.get_weights(), strict=True):
        assert np.allclose(saved, loaded, rtol=1e-3, atol=1e-6)
    encoder = load_encoder(EncoderSpec("compact", weights=str(tmp_path / "some.npz")))
    assert encoder.weights_digest != included_digest()


@pytest.mark.parametrize("kind", ["missing", "text", "other arrays"])
def test_file_of_other_weights_is_refused(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "wrong.npz"
    if kind == "text":
        file.write_text("no weights")
    if kind == "other arrays":
        np.savez(file, np.zeros(3, np.float16))
    with pytest.raises(EncoderError, match="does not hold the weights of the compact encoder: give imagenet"):
        load_encoder(EncoderSpec("compact", weights=str(file)))
