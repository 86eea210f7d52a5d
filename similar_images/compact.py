"""The compact encoder: a small residual network whose weights come with the project.

How it was trained: docs/compact_encoder.md. Keras is imported inside functions: it takes seconds.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from similar_images._files import replacing
from similar_images.images import Pixels
from similar_images.weights import EncoderError, digest_of_weights, import_keras, seeded

INCLUDED_WEIGHTS = Path(__file__).with_name("compact_encoder.npz")
SIDE = 112
POOLING_EXPONENT = 3  # between the mean, 1, and the maximum
REDUCTION = "reduction"
MIDDLE_WEIGHT = 0.7  # of the stage before the last, whose part then counts half as much as that of the last
BATCH = 64
DIMENSION = 256
STAGES = ((64, 1), (128, 2), (160, 2))  # channels and residual blocks at a quarter, an eighth, a sixteenth of the side


def build_compact(weights: str) -> Any:
    """Return the graph from (b, 112, 112, 3) uint8 RGB to L2-normalised vectors (b, 256) float32.

    Args:
        weights: "imagenet" (those that come with the project), "none" (seeded, untrained), or a file of
            `train_compact_encoder.py`.

    Raises:
        EncoderError: the file doesn't hold this encoder's weights.
    """
    encoder = compact_encoder(compact_network())
    if weights != "none":
        load_weights(encoder, INCLUDED_WEIGHTS if weights == "imagenet" else Path(weights))
    return encoder


def compact_network(dtype: str = "float32") -> Any:
    """Return the network from RGB (b, 112, 112, 3) of -1 to 1 to the feature maps of its stages, seeded.

    They come from the end: (b, 7, 7, 160), (b, 14, 14, 128) and (b, 28, 28, 64).

    Dense 3x3 convolutions, which processors run near their peak, unlike depthwise ones. It has no normalisation, which
    would take a third of the time of training: instead each residual block begins as the identity.

    Args:
        dtype: "float32", or "mixed_bfloat16" to train where the processor has bf16; the weights are float32 in both.

    Source: He et al.: Deep Residual Learning (2016); Zhang, Dauphin, Ma: Fixup Initialization (2019).
    """
    layers = import_keras().layers

    def convolution(channels: int, **changes: Any) -> Any:
        usual = {"padding": "same", "activation": "relu", "kernel_initializer": "he_normal", "dtype": dtype}
        return layers.Conv2D(channels, 3, **usual | changes)

    with seeded():
        pixels = import_keras().Input((None, None, 3))
        features = convolution(STAGES[0][0] // 2, strides=2)(pixels)
        ends = []
        for channels, blocks in STAGES:
            features = convolution(channels, strides=2)(features)
            for _ in range(blocks):
                branch = convolution(channels)(features)
                branch = convolution(channels, activation=None, kernel_initializer="zeros")(branch)
                features = layers.ReLU(dtype=dtype)(layers.Add(dtype=dtype)([features, branch]))
            ends.append(features)
        return import_keras().Model(pixels, ends[::-1], name="compact_maps")


def compact_encoder(network: Any) -> Any:
    """Return the graph from (b, 112, 112, 3) uint8 RGB to L2-normalised vectors (b, 256), which shares the network.

    A vector tells of the last stage, which knows kinds of things, and of the one before, which knows parts and
    patterns, also those of kinds that it never met: of each channel the generalised mean over all places. Its last
    layer reduces the two, see `fit_reduction`.

    Source: Radenović, Tolias, Chum: Fine-tuning CNN Image Retrieval with No Human Annotation (2018), for the pooling.
    """
    keras = import_keras()
    pixels = keras.Input((SIDE, SIDE, 3), dtype="uint8", name="pixels")
    last, middle, _ = network(keras.ops.cast(pixels, "float32") / 127.5 - 1)
    powers = [keras.ops.cast(maps, "float32") ** POOLING_EXPONENT for maps in (last, middle)]
    means = keras.ops.concatenate([keras.ops.mean(each, (1, 2)) for each in powers], axis=1)
    with seeded():
        vectors = keras.layers.Dense(DIMENSION, name=REDUCTION)(means ** (1 / POOLING_EXPONENT))
    return keras.Model(pixels, keras.layers.UnitNormalization()(vectors), name="compact")


def fit_reduction(encoder: Any, pixels: Pixels) -> None:
    """Fit the last layer of a `compact_encoder`: centred, partly whitened principal components of what it pools.

    Each component is divided by the square root of its standard deviation: half of what whitening does finds better
    neighbours than all of it or none.

    Args:
        encoder: modified.
        pixels: (n, 112, 112, 3) uint8, photos or crops of them.

    Source: Jégou and Chum: Negative evidences and co-occurrences in image retrieval (2012), for whitening.
    """
    layer = encoder.get_layer(REDUCTION)
    pooling = import_keras().Model(encoder.inputs, layer.input)
    pooled = np.concatenate([pooling.predict_on_batch(pixels[at : at + BATCH]) for at in range(0, len(pixels), BATCH)])
    mean = pooled.mean(axis=0)
    parts = zip((1, MIDDLE_WEIGHT), np.split(pooled.var(axis=0), [STAGES[-1][0]]), strict=True)
    scale = np.concatenate([np.full(len(variances), weight / np.sqrt(variances.sum())) for weight, variances in parts])
    values, directions = np.linalg.eigh(np.cov((pooled - mean) * scale, rowvar=False))
    kept = slice(-1, -DIMENSION - 1, -1)
    kernel = scale[:, None] * directions[:, kept] / np.maximum(values[kept], 1e-9) ** 0.25
    layer.set_weights([kernel, -mean @ kernel])


def included_digest() -> str:
    """Return the `Encoder.weights_digest` that the included weights have, without Keras."""
    return digest_of_weights(_arrays(INCLUDED_WEIGHTS))


def save_weights(encoder: Any, path: Path) -> None:
    """Write an encoder's weights as float16, in order."""
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, *[weights.astype(np.float16) for weights in encoder.get_weights()])


def load_weights(encoder: Any, path: Path) -> None:
    """Put the weights of a file into a `compact_encoder`.

    Raises:
        EncoderError: the file is missing or holds other weights.
    """
    try:
        encoder.set_weights(_arrays(path))
    except Exception as error:  # zipfile, NumPy and Keras each raise their own kinds
        raise EncoderError(
            f"{path} does not hold the weights of the compact encoder: give imagenet, which are those that come with "
            "the project, none, or a file that train_compact_encoder.py wrote"
        ) from error


def _arrays(path: Path) -> list[NDArray[np.float32]]:
    with np.load(path) as arrays:
        return [arrays[name].astype(np.float32) for name in arrays.files]
