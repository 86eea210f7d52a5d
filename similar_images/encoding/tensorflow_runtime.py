"""Runs encoders with TensorFlow, on a GPU where it sees one."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from similar_images.encoding.encoders import Encoder
from similar_images.encoding.weights import check_process, encoder_errors, import_keras
from similar_images.locks import one_at_a_time
from similar_images.photos.images import Pixels

Floats = NDArray[np.float32]
Tag = TypeVar("Tag")

BATCH_SIZE = 32
GPU_BATCH_SIZE = 512


def gpu_is_used() -> bool:
    """Tell whether TensorFlow sees a GPU; it is only imported, which takes seconds, where there may be one."""
    devices = ("nvidia0", "kfd", "dxg")  # NVIDIA, AMD, Windows' Linux
    if not any(Path("/dev", device).exists() for device in devices):
        return False
    import_keras()
    import tensorflow as tf

    return bool(tf.config.list_physical_devices("GPU"))


class TensorFlowRuntime:
    """Runs an encoder with TensorFlow; a `runtimes.Runtime` for any number of threads."""

    name = "TensorFlow"

    @one_at_a_time
    def __init__(self, encoder: Encoder, precision: str = "f32", gpu: bool = False) -> None:
        """Prepare the encoder's graph."""
        import_keras()
        import tensorflow as tf

        self.encoder, self.precision = encoder, precision
        self.agreement = float(precision == "f32")
        model = _in_f16(encoder.model) if precision == "f16" else encoder.model
        self.batch_size = batch_size_for(_gpu_bytes(), _bytes_per_photo(model)) if gpu else BATCH_SIZE
        tf.config.experimental.enable_tensor_float_32_execution(False)  # f32 means it
        width, height = encoder.size
        batch = tf.TensorSpec((None, height, width, 3), tf.uint8)
        dtype = model.input.dtype
        self._run: Any = tf.function(
            lambda pixels: model(tf.cast(pixels, dtype), training=False), input_signature=[batch]
        )
        tf.config.optimizer.set_experimental_options({"auto_mixed_precision_onednn_bfloat16": precision == "bf16"})
        self.encode(np.zeros((1, height, width, 3), np.uint8))  # traced with these options
        tf.config.optimizer.set_experimental_options({"auto_mixed_precision_onednn_bfloat16": False})

    def encode(self, pixels: Pixels) -> Floats:
        """See `runtimes.Runtime`."""
        check_process()
        with encoder_errors(
            f"TensorFlow can't run {self.encoder.spec.name}", "give a smaller --batch_size, or OpenVINO"
        ):
            return np.array(self._run(pixels), np.float32)  # a copy: TensorFlow's own is read-only

    def encode_all(self, batches: Iterable[tuple[Tag, Pixels]]) -> Iterator[tuple[Tag, Floats]]:
        """See `runtimes.Runtime`."""
        return ((tag, self.encode(pixels)) for tag, pixels in batches)


def batch_size_for(memory: int, bytes_per_photo: int) -> int:
    """Return how many photos a GPU takes at a time: a power of two from 1 to 512 that fills half of its memory."""
    most = max(1, min(GPU_BATCH_SIZE, memory // 2 // bytes_per_photo))
    return 1 << (int(most).bit_length() - 1)


def _gpu_bytes() -> int:
    from tensorflow.python.client import device_lib

    return max(int(device.memory_limit) for device in device_lib.list_local_devices() if device.device_type == "GPU")


def _bytes_per_photo(model: Any) -> int:
    """Return what all activations of a Keras model take in float32, an upper bound for what is alive at a time."""
    outputs = [output for layer in model._flatten_layers() for output in _outputs(layer)]
    return 4 * sum(int(np.prod([side or 1 for side in output.shape[1:]])) for output in outputs)


def _outputs(layer: Any) -> list[Any]:
    try:
        return layer.output if isinstance(layer.output, list) else [layer.output]
    except (AttributeError, ValueError):  # a layer that was never called
        return []


def _in_f16(model: Any) -> Any:
    """Return a copy of a Keras model that calculates in float16 and keeps its weights in float32."""
    keras = import_keras()

    def in_f16(layer: Any) -> Any:
        config = layer.get_config()
        if isinstance(layer, keras.Layer) and not isinstance(layer, keras.layers.InputLayer):
            config["dtype"] = "mixed_float16"
        return layer.__class__.from_config(config)

    clone = keras.models.clone_model(model, clone_function=in_f16, recursive=True)
    clone.set_weights(model.get_weights())
    return clone
