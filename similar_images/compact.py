"""The compact encoder: a small residual network whose weights come with the project.

How it was trained: docs/compact_encoder.md. Keras is imported inside functions: it takes seconds.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from similar_images._files import replacing
from similar_images.weights import EncoderError, digest_of_weights, import_keras, seeded

INCLUDED_WEIGHTS = Path(__file__).with_name("compact_encoder.npz")
SIDE = 112
PLACES = 7
DIMENSION = 256
STAGES = ((64, 1), (128, 2), (160, 2))  # channels and residual blocks at a quarter, an eighth, a sixteenth of the side


def build_compact(weights: str) -> Any:
    """Return the graph from (b, 112, 112, 3) uint8 RGB to L2-normalised vectors (b, 256) float32.

    Args:
        weights: "imagenet" (those that come with the project), "none" (seeded, untrained), or a file of
            `train_compact_encoder.py`.

    Raises:
        EncoderError: the file doesn't hold this network's weights.
    """
    keras = import_keras()
    network = compact_network()
    if weights != "none":
        load_weights(network, INCLUDED_WEIGHTS if weights == "imagenet" else Path(weights))
    pixels = keras.Input((SIDE, SIDE, 3), dtype="uint8", name="pixels")
    places = network(keras.ops.cast(pixels, "float32") / 127.5 - 1)[0]
    mean = keras.layers.GlobalAveragePooling2D()(places)
    return keras.Model(pixels, keras.layers.UnitNormalization()(mean), name="compact")


def compact_network(dtype: str = "float32") -> Any:
    """Return the network from RGB (b, 112, 112, 3) of -1 to 1 to feature maps, seeded.

    The first are its 7 by 7 places (b, 7, 7, 256); those of its stages before the last follow, from the end:
    (b, 14, 14, 128) and (b, 28, 28, 64).

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
        return import_keras().Model(pixels, [layers.Conv2D(DIMENSION, 1)(features), *ends[-2::-1]], name="compact_maps")


def included_digest() -> str:
    """Return the `Encoder.weights_digest` that the included weights have, without Keras."""
    return digest_of_weights(_arrays(INCLUDED_WEIGHTS))


def save_weights(network: Any, path: Path) -> None:
    """Write a network's weights as float16, in order."""
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, *[weights.astype(np.float16) for weights in network.get_weights()])


def load_weights(network: Any, path: Path) -> None:
    """Put the weights of a file into a network.

    Raises:
        EncoderError: the file is missing or holds other weights.
    """
    try:
        network.set_weights(_arrays(path))
    except Exception as error:  # zipfile, NumPy and Keras each raise their own kinds
        raise EncoderError(
            f"{path} does not hold the weights of the compact encoder: give imagenet, which are those that come with "
            "the project, none, or a file that train_compact_encoder.py wrote"
        ) from error


def _arrays(path: Path) -> list[NDArray[np.float32]]:
    with np.load(path) as arrays:
        return [arrays[name].astype(np.float32) for name in arrays.files]
