"""How an encoder is run: with OpenVINO or TensorFlow, in which precision; pixels in batches, vectors out."""

import itertools
import platform
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from similar_images.conversion import (
    CALIBRATION_PHOTOS,
    agreement,
    converted,
    int8_file,
    is_whole,
    keep_agreement,
    quantise,
    read,
)  # fmt: skip
from similar_images.encoders import Encoder
from similar_images.images import Pixels
from similar_images.weights import EncoderError, import_keras

Floats = NDArray[np.float32]
Tag = TypeVar("Tag")
RuntimeName = Literal["auto", "openvino", "tensorflow"]
Precision = Literal["auto", "f32", "bf16", "int8"]

IN_FLIGHT = 3  # one that runs, one that waits for its turn, one being filled
BATCH_SIZE = 32
GPU_BATCH_SIZE = 512
AGREEMENT = 0.9995  # on a few photos, so that no photo of the gallery comes below 0.999
AGREEMENT_PHOTOS = 16


class Runtime(Protocol):
    """An encoder, ready to run.

    Attributes:
        encoder: what is run.
        name: "OpenVINO" or "TensorFlow".
        precision: the number format that most of the work is done in: "f32", "bf16", "f16" or "int8".
        batch_size: how many photos at a time suit it.
    """

    encoder: Encoder
    name: str
    precision: str
    batch_size: int

    def encode(self, pixels: Pixels) -> Floats:
        """Return the vectors (b, d) float32 of a batch (b, height, width, 3) uint8 RGB, which is not modified."""

    def encode_all(self, batches: Iterable[tuple[Tag, Pixels]]) -> Iterator[tuple[Tag, Floats]]:
        """Yield the vectors of tagged batches, all of one size, in order; the next batches are fetched meanwhile."""


def open_runtime(
    encoder: Encoder,
    runtime: RuntimeName = "auto",
    precision: Precision = "auto",
    photos: Callable[[int], Pixels] | None = None,
    int8_model: Path | None = None,
) -> Runtime:
    """Make an encoder ready to run.

    Args:
        encoder: what to run.
        runtime: "auto" is TensorFlow where it sees a GPU or OpenVINO is missing, else OpenVINO.
        precision: "auto" is bf16 (on a GPU f16) where the processor has it and this encoder's vectors keep a cosine of
            0.999 to those of float32, which is tried on `photos` and noted; else f32.
        photos: called with a number, returns up to that many photos (s, height, width, 3) uint8 of the gallery.
            Without it only what was noted before counts.
        int8_model: where the int8 model is, or will be kept once it is calibrated on `photos`.

    Raises:
        EncoderError: it can't be run as asked; the message says why and what to do.
    """
    gpu = runtime != "openvino" and gpu_is_used()
    chosen, precisions = choose(
        runtime, precision, gpu=gpu, openvino=openvino_is_installed(), bf16=processor_has_bf16()
    )
    if chosen == "tensorflow":
        return _first_that_agrees(lambda each: TensorFlowRuntime(encoder, each, gpu), precisions, photos)
    if precision == "int8":
        assert int8_model is not None
        if not is_whole(int8_model):
            assert photos is not None
            quantise(encoder, photos(CALIBRATION_PHOTOS), int8_model)
        return OpenVINORuntime(encoder, "int8", read(int8_model))
    model = converted(encoder)
    return _first_that_agrees(lambda each: OpenVINORuntime(encoder, each, model), precisions, photos)


def open_runtime_for_queries(encoder: Encoder, made_with: Sequence[str], vectors_path: Path) -> Runtime:
    """Make an encoder ready for single photos, in the precision of the gallery's vectors where this machine has it.

    Args:
        encoder: what to run.
        made_with: what the vectors' card says of runtimes and precisions, the latest first: "OpenVINO bf16", say.
        vectors_path: the vectors file, which an int8 model lies beside.

    Raises:
        EncoderError: see `open_runtime`.
    """
    if not openvino_is_installed():
        return open_runtime(encoder, "tensorflow", "f32")
    precision = made_with[0].split()[-1] if made_with else "f32"
    file = int8_file(vectors_path, encoder)
    if precision == "int8" and is_whole(file):
        return open_runtime(encoder, "openvino", "int8", int8_model=file)
    low = precision in ("bf16", "f16", "int8") and processor_has_bf16()
    return open_runtime(encoder, "openvino", "bf16" if low else "f32")


def choose(
    runtime: RuntimeName, precision: Precision, *, gpu: bool, openvino: bool, bf16: bool
) -> tuple[str, list[str]]:
    """Return which runtime to take, and the precisions to try, quickest first.

    Args:
        runtime: what is asked for, see `open_runtime`.
        precision: likewise.
        gpu: whether TensorFlow sees a GPU.
        openvino: whether OpenVINO is installed.
        bf16: whether the processor calculates in bf16.

    Raises:
        EncoderError: what is asked for does not exist here.
    """
    chosen = runtime if runtime != "auto" else "tensorflow" if gpu or not openvino else "openvino"
    if chosen == "openvino" and not openvino:
        raise EncoderError("OpenVINO is not installed: pip install -r requirements.txt, or --runtime tensorflow")
    if chosen == "tensorflow" and precision == "int8":
        raise EncoderError("TensorFlow does not run int8 here: give --runtime openvino, or another --precision")
    if precision == "bf16" and chosen == "tensorflow" and gpu:
        raise EncoderError("on a GPU give --precision auto, which is f16, or f32, or --runtime openvino")
    if precision == "bf16" and not bf16:
        raise EncoderError("this processor does not calculate in bf16: give --precision auto, or f32")
    if precision != "auto":
        return chosen, [precision]
    if chosen == "tensorflow":
        return chosen, ["f16", "f32"] if gpu else ["f32"]
    return chosen, ["bf16", "f32"] if bf16 else ["f32"]


def openvino_is_installed() -> bool:
    """Tell whether OpenVINO can be imported."""
    from importlib.util import find_spec

    return find_spec("openvino") is not None


def gpu_is_used() -> bool:
    """Tell whether TensorFlow sees a GPU; it is only imported, which takes seconds, where there may be one."""
    devices = ("nvidia0", "kfd", "dxg")  # NVIDIA, AMD, Windows' Linux
    if not any(Path("/dev", device).exists() for device in devices):
        return False
    import_keras()
    import tensorflow as tf

    return bool(tf.config.list_physical_devices("GPU"))


def processor_has_bf16() -> bool:
    """Tell whether the processor has instructions for bf16."""
    try:
        flags = Path("/proc/cpuinfo").read_text().split()
    except OSError:
        return False
    return bool({"amx_bf16", "avx512_bf16", "bf16"} & set(flags))


def _first_that_agrees(
    make: Callable[[str], Runtime], precisions: list[str], photos: Callable[[int], Pixels] | None
) -> Runtime:
    """Return the first runtime whose vectors agree with those of the last, which is exact."""
    *quick, last = precisions
    exact = make(last)
    for precision in quick:
        kind = f"{exact.name} {precision} on {platform.machine()}"
        cosine = agreement(exact.encoder, kind)
        if cosine is None and photos is not None and len(pixels := photos(AGREEMENT_PHOTOS)):
            cosine = _least_cosine(make(precision), exact, pixels)
            if len(pixels) == AGREEMENT_PHOTOS:
                keep_agreement(exact.encoder, kind, cosine)
        if cosine is not None and cosine >= AGREEMENT:
            return make(precision)
    return exact


def _least_cosine(quick: Runtime, exact: Runtime, pixels: Pixels) -> float:
    a, b = quick.encode(pixels).astype(np.float64), exact.encode(pixels).astype(np.float64)
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return float(((a * b).sum(axis=1) / np.where(lengths == 0, 1, lengths)).min())


class OpenVINORuntime:
    """Runs an encoder with OpenVINO on the processor; a Runtime."""

    name = "OpenVINO"
    batch_size = BATCH_SIZE

    def __init__(self, encoder: Encoder, precision: str, model: Any) -> None:
        """Take what `conversion.converted` or `conversion.read` returned; each batch size is compiled when it comes."""
        self.encoder, self.precision = encoder, precision
        self._model = model
        self._compiled: dict[int, Any] = {}

    def encode(self, pixels: Pixels) -> Floats:
        """See `Runtime`."""
        return np.array(self._compile(len(pixels))(pixels)[0])

    def encode_all(self, batches: Iterable[tuple[Tag, Pixels]]) -> Iterator[tuple[Tag, Floats]]:
        """See `Runtime`."""
        requests: list[Any] = []
        running: deque[tuple[Tag, Any]] = deque()
        for number, (tag, pixels) in enumerate(batches):
            if len(running) == IN_FLIGHT:
                yield _finished(*running.popleft())
            if number < IN_FLIGHT:
                requests.append(self._compile(len(pixels)).create_infer_request())
            request = requests[number % IN_FLIGHT]
            request.start_async({0: pixels})
            running.append((tag, request))
        yield from itertools.starmap(_finished, running)

    def _compile(self, batch_size: int) -> Any:
        if batch_size not in self._compiled:
            import openvino

            width, height = self.encoder.size
            model = self._model.clone()
            model.reshape([batch_size, height, width, 3])  # a fixed size runs 5 % faster than any size
            low = processor_has_bf16() and self.precision in ("bf16", "int8")
            settings = {"INFERENCE_PRECISION_HINT": "bf16" if low else "f32", "PERFORMANCE_HINT": "LATENCY"}
            self._compiled[batch_size] = openvino.Core().compile_model(model, "CPU", settings)
        return self._compiled[batch_size]


def _finished(tag: Tag, request: Any) -> tuple[Tag, Floats]:
    request.wait()
    return tag, np.array(request.get_output_tensor(0).data)


class TensorFlowRuntime:
    """Runs an encoder with TensorFlow; a Runtime."""

    name = "TensorFlow"

    def __init__(self, encoder: Encoder, precision: str = "f32", gpu: bool = False) -> None:
        """Prepare the encoder's graph."""
        import_keras()
        import tensorflow as tf

        self.encoder, self.precision = encoder, precision
        model = _in_f16(encoder.model) if precision == "f16" else encoder.model
        self.batch_size = batch_size_for(_gpu_bytes(), _bytes_a_photo(model)) if gpu else BATCH_SIZE
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
        """See `Runtime`."""
        return np.array(self._run(pixels), np.float32)  # a copy: TensorFlow's own is read-only

    def encode_all(self, batches: Iterable[tuple[Tag, Pixels]]) -> Iterator[tuple[Tag, Floats]]:
        """See `Runtime`."""
        return ((tag, self.encode(pixels)) for tag, pixels in batches)


def batch_size_for(memory: int, bytes_a_photo: int) -> int:
    """Return how many photos a GPU takes at a time: a power of two from 1 to 512 that fills half of its memory."""
    most = max(1, min(GPU_BATCH_SIZE, memory // 2 // bytes_a_photo))
    return 1 << (int(most).bit_length() - 1)


def _gpu_bytes() -> int:
    from tensorflow.python.client import device_lib

    return max(int(device.memory_limit) for device in device_lib.list_local_devices() if device.device_type == "GPU")


def _bytes_a_photo(model: Any) -> int:
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
