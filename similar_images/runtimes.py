"""How an encoder is run: with OpenVINO or TensorFlow, in which precision; pixels in batches, vectors out."""

import platform
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal, Protocol, TypeVar

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
from similar_images.openvino_runtime import OpenVINORuntime
from similar_images.tensorflow_runtime import TensorFlowRuntime, gpu_is_used
from similar_images.weights import EncoderError

Floats = NDArray[np.float32]
Tag = TypeVar("Tag")
RuntimeName = Literal["auto", "openvino", "tensorflow"]
Precision = Literal["auto", "f32", "bf16", "int8"]

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
            open_runtime(encoder, "openvino", "auto", photos)  # notes whether bf16 will do for what int8 leaves out
            quantise(encoder, photos(CALIBRATION_PHOTOS), int8_model)
        rest = "bf16" if processor_has_bf16() and _noted(encoder, "OpenVINO", "bf16") >= AGREEMENT else "f32"
        return OpenVINORuntime(encoder, "int8", read(int8_model), rest)
    model = converted(encoder)
    return _first_that_agrees(lambda each: OpenVINORuntime(encoder, each, model, each), precisions, photos)


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
    return open_runtime(encoder, "openvino", "bf16" if precision == "bf16" and processor_has_bf16() else "f32")


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
    suits_gpu = gpu and precision != "int8"
    chosen = runtime if runtime != "auto" else "tensorflow" if suits_gpu or not openvino else "openvino"
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
        cosine = _noted(exact.encoder, exact.name, precision)
        if not cosine and photos is not None and len(pixels := photos(AGREEMENT_PHOTOS)):
            cosine = _least_cosine(make(precision), exact, pixels)
            if len(pixels) == AGREEMENT_PHOTOS:
                keep_agreement(exact.encoder, _kind(exact.name, precision), cosine)
        if cosine >= AGREEMENT:
            return make(precision)
    return exact


def _noted(encoder: Encoder, runtime: str, precision: str) -> float:
    """Return the cosine to float32 that was noted earlier, 0 for none."""
    return agreement(encoder, _kind(runtime, precision)) or 0


def _kind(runtime: str, precision: str) -> str:
    return f"{runtime} {precision} on {platform.machine()}"


def _least_cosine(quick: Runtime, exact: Runtime, pixels: Pixels) -> float:
    a, b = quick.encode(pixels).astype(np.float64), exact.encode(pixels).astype(np.float64)
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return float(((a * b).sum(axis=1) / np.where(lengths == 0, 1, lengths)).min())
