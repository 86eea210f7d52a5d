"""How an encoder is run: with OpenVINO or TensorFlow, in which precision; pixels in batches, vectors out."""

import platform
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from similar_images.encoding.conversion import (
    CALIBRATION_PHOTOS,
    agreement,
    converted,
    int8_file,
    is_whole,
    keep_agreement,
    quantise,
    read,
    rest_of_int8,
)  # fmt: skip
from similar_images.encoding.encoders import Encoder
from similar_images.encoding.openvino_runtime import OpenVINORuntime
from similar_images.encoding.tensorflow_runtime import TensorFlowRuntime, gpu_is_used
from similar_images.encoding.weights import EncoderError
from similar_images.photos.images import Pixels

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
        precision: the number format that most of the work is done in: "f32", "bf16", "f16" or "int8"; "int8+bf16" where
            what int8 leaves out is done in bf16.
        agreement: the least cosine to float32 vectors that was measured: 1 for float32, 0 for not measured.
        batch_size: how many photos at a time suit it.
    """

    encoder: Encoder
    name: str
    precision: str
    agreement: float
    batch_size: int

    def encode(self, pixels: Pixels) -> Floats:
        """Return the vectors (b, d) float32 of a batch (b, height, width, 3) uint8 RGB, which is not modified."""

    def encode_all(self, batches: Iterable[tuple[Tag, Pixels]]) -> Iterator[tuple[Tag, Floats]]:
        """Yield the vectors of tagged batches, all of one size, in order; the next batches are fetched meanwhile."""


@dataclass(frozen=True)
class EarlierRows:
    """How the rows were encoded that a run goes on from.

    Attributes:
        precision: see `Runtime`.
        agreement: likewise, the least of all rows.
        unfinished: whether they are of the same run, which may only go on in the same way.
    """

    precision: str
    agreement: float
    unfinished: bool


def open_runtime(
    encoder: Encoder,
    runtime: RuntimeName = "auto",
    precision: Precision = "auto",
    photos: Callable[[int], Pixels] | None = None,
    int8_model: Path | None = None,
    earlier: EarlierRows | None = None,
) -> Runtime:
    """Make an encoder ready to run.

    Args:
        encoder: what to run.
        runtime: "auto" is TensorFlow where it sees a GPU or OpenVINO is missing, else OpenVINO.
        precision: "auto" is that of the earlier rows, or float32 where this machine lacks it. Without earlier rows it
            is bf16 (on a GPU f16) where the processor has it and this encoder's vectors keep a cosine of 0.999 to those
            of float32, which is tried on `photos` and noted; else f32.
        photos: called with a number, returns up to that many photos (s, height, width, 3) uint8 of the gallery.
            Without it only what was noted before counts.
        int8_model: where the int8 model is, or will be kept once it is calibrated on `photos`.
        earlier: what the vectors are added to.

    Raises:
        EncoderError: it can't be run as asked, or its vectors would not fit the earlier ones; the message says why and
            what to do.
    """
    if earlier and precision == "auto" and format_of(earlier.precision) == "int8":
        precision = "int8"
    gpu = runtime != "openvino" and gpu_is_used()
    chosen, precisions = choose(
        runtime, precision, gpu=gpu, openvino=openvino_is_installed(), bf16=processor_has_bf16(), earlier=earlier
    )
    if chosen == "tensorflow":
        opened = _first_that_agrees(lambda each: TensorFlowRuntime(encoder, each, gpu), precisions, photos)
    elif precision == "int8":
        assert int8_model is not None
        return _open_int8(encoder, int8_model, photos, earlier)
    else:
        model = converted(encoder)
        opened = _first_that_agrees(lambda each: OpenVINORuntime(encoder, each, model, each), precisions, photos)
    if earlier and opened.precision != earlier.precision and opened.agreement < AGREEMENT:
        raise EncoderError(
            f"in {opened.precision} this encoder's vectors have a cosine of only {opened.agreement:.4f} to those in "
            f"{earlier.precision} that are there: leave out --precision, or start anew with --overwrite"
        )
    return opened


def _open_int8(
    encoder: Encoder, file: Path, photos: Callable[[int], Pixels] | None, earlier: EarlierRows | None
) -> Runtime:
    if not is_whole(file):
        if earlier:
            raise EncoderError(
                f"{file}, the int8 model that encoded what is there, is missing or damaged: put it back with its .bin "
                "file, or start anew with --overwrite"
            )
        assert photos is not None
        rest = open_runtime(encoder, "openvino", "auto", photos).precision
        quantise(encoder, photos(CALIBRATION_PHOTOS), file, rest)
    rest = rest_of_int8(file) if processor_has_bf16() else "f32"
    return OpenVINORuntime(encoder, "int8" if rest == "f32" else f"int8+{rest}", read(file), rest)


def open_runtime_for_queries(encoder: Encoder, made_with: Sequence[str], vectors_path: Path) -> Runtime:
    """Make an encoder ready for single photos, in the precision of the gallery's vectors where this machine has it.

    Args:
        encoder: what to run.
        made_with: what the vectors' card says of runtimes and precisions, the latest first: "OpenVINO bf16", say.
        vectors_path: the vectors file, which an int8 model lies beside.

    Raises:
        EncoderError: see `open_runtime`.
    """
    file = int8_file(vectors_path, encoder)
    precision = precision_for_queries(made_with, int8=is_whole(file))
    return open_runtime(encoder, "openvino" if openvino_is_installed() else "tensorflow", precision, int8_model=file)


def precision_for_queries(made_with: Sequence[str], *, int8: bool) -> Precision:
    """Return the precision of the gallery's vectors, or else float32, which any machine has.

    Args:
        made_with: see `open_runtime_for_queries`.
        int8: whether the gallery's int8 model is there.
    """
    own = format_of(precision_of(made_with))
    if own == "int8" and int8 and openvino_is_installed():
        return "int8"
    return "bf16" if own == "bf16" and openvino_is_installed() and processor_has_bf16() else "f32"


def precision_of(made_with: Sequence[str]) -> str:
    """Return the precision that the latest rows of a gallery were encoded in; float32 where nothing is known."""
    return made_with[0].split()[-1] if made_with else "f32"


def format_of(precision: str) -> str:
    """Return the number format that most of the work of a precision is done in, see `Runtime`."""
    return precision.split("+", maxsplit=1)[0]


def choose(
    runtime: RuntimeName,
    precision: Precision,
    *,
    gpu: bool,
    openvino: bool,
    bf16: bool,
    earlier: EarlierRows | None = None,
) -> tuple[str, list[str]]:
    """Return which runtime to take, and the precisions to try, quickest first.

    Args:
        runtime: what is asked for, see `open_runtime`.
        precision: likewise.
        gpu: whether TensorFlow sees a GPU.
        openvino: whether OpenVINO is installed.
        bf16: whether the processor calculates in bf16.
        earlier: see `open_runtime`.

    Raises:
        EncoderError: what is asked for does not exist here, or does not fit what is there.
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
    quick = "f16" if chosen == "tensorflow" and gpu else "bf16"
    has_quick = bf16 or quick == "f16"
    if precision == "auto" and earlier:
        precisions = [earlier.precision if has_quick and earlier.precision == quick else "f32"]
    elif precision == "auto":
        precisions = [quick, "f32"] if has_quick and (chosen == "openvino" or gpu) else ["f32"]
    else:
        precisions = [precision]
    if earlier:
        _check_fit(precisions[0], earlier)
    return chosen, precisions


def _check_fit(precision: str, earlier: EarlierRows) -> None:
    """Find out whether vectors of a precision may be added to earlier ones.

    Those of float32 agree whatever made them, and so do those of bf16 and f16 where that was measured. Those of int8
    are approximations of their own, which agree only with each other.

    Raises:
        EncoderError: they may not.
    """
    own = earlier.precision
    if precision == format_of(own):
        return
    if earlier.unfinished:
        raise EncoderError(
            f"the unfinished run was begun in {own}, not {precision}: go on with --precision {format_of(own)}, on a "
            "machine that has it, or start anew with --overwrite"
        )
    if "int8" in (precision, format_of(own)):
        raise EncoderError(
            f"the vectors that are there were made in {own}, and int8 is not mixed with anything: leave out "
            "--precision, or start anew with --overwrite"
        )
    if earlier.agreement < AGREEMENT:
        raise EncoderError(
            f"the vectors that are there were made in {own}, whose agreement with {precision} was not measured or is "
            f"too little: go on on a machine that has {own}, or start anew with --overwrite"
        )


def openvino_is_installed() -> bool:
    """Tell whether OpenVINO can be imported."""
    from importlib.util import find_spec

    return find_spec("openvino") is not None


@cache
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
    """Return the first runtime whose vectors agree with those of float32, or else the last."""
    for precision in precisions:
        runtime = make(precision)
        runtime.agreement = _agreement(runtime, make, photos)
        if runtime.agreement >= AGREEMENT:
            break
    return runtime


def _agreement(quick: Runtime, make: Callable[[str], Runtime], photos: Callable[[int], Pixels] | None) -> float:
    """Return the least cosine to float32, as noted earlier or measured on photos; 0 for neither."""
    if quick.precision == "f32":
        return 1.0
    kind = f"{quick.name} {quick.precision} on {platform.machine()}"
    cosine = agreement(quick.encoder, kind)
    if cosine is not None or photos is None or not len(pixels := photos(AGREEMENT_PHOTOS)):
        return cosine or 0.0
    cosine = _least_cosine(quick, make("f32"), pixels)
    if len(pixels) == AGREEMENT_PHOTOS:
        keep_agreement(quick.encoder, kind, cosine)
    return cosine


def _least_cosine(quick: Runtime, exact: Runtime, pixels: Pixels) -> float:
    a, b = quick.encode(pixels).astype(np.float64), exact.encode(pixels).astype(np.float64)
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return float(((a * b).sum(axis=1) / np.where(lengths == 0, 1, lengths)).min())
