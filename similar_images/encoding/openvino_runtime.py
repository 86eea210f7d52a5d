"""Runs encoders with OpenVINO on the processor, several batches in flight."""

import ctypes
import itertools
import os
import sys
import weakref
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from similar_images.encoding.encoders import Encoder
from similar_images.encoding.weights import EncoderError, encoder_errors
from similar_images.locks import RUNNING
from similar_images.photos.images import Pixels

Floats = NDArray[np.float32]
Tag = TypeVar("Tag")

BATCH_SIZES = (1, 8, 32)  # that stay compiled, each with memory of its own: what comes is split and padded to these
LAST_MAP = "last map"  # is compiled beside the batch sizes
IN_FLIGHT = 3  # one that runs, one that waits for its turn, one being filled


def import_openvino() -> Any:
    """Import OpenVINO without the package that reports each use of it, and of NNCF, to their makers."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # for both it is as if not installed
    import openvino

    return openvino


class OpenVINORuntime:
    """Runs an encoder with OpenVINO on the processor; a `runtimes.Runtime` for any number of threads."""

    name = "OpenVINO"
    batch_size = 32

    def __init__(self, encoder: Encoder, precision: str, model: Any, rest: str) -> None:
        """Take an encoder and its OpenVINO model; each batch size is compiled when it comes.

        Args:
            encoder: what is run.
            precision: what to call the number format.
            model: what `conversion.converted` or `conversion.read` returned.
            rest: "f32" or "bf16", for what the model itself does not fix, as an int8 model does.
        """
        self.encoder, self.precision = encoder, precision
        self.agreement = float(precision == "f32")
        self._model, self._rest = model, rest
        self._compiled: dict[int | str, Any] = {}
        _RUNTIMES.add(self)

    def recompile(self) -> None:
        """Compile everything again, as a forked process has to, which lacks OpenVINO's threads."""
        for compiled in self._compiled.values():
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(compiled))  # never freed: that would wait for those threads
        self._compiled = {}

    def encode(self, pixels: Pixels) -> Floats:
        """See `runtimes.Runtime`."""
        vectors: list[Floats] = []
        for start, size in _parts(len(pixels)):
            part = pixels[start : start + size]
            vectors.append(self._run(self._compile(size), _padded(part, size))[: len(part)])
        return np.concatenate(vectors)

    def encode_all(self, batches: Iterable[tuple[Tag, Pixels]]) -> Iterator[tuple[Tag, Floats]]:
        """See `runtimes.Runtime`."""
        requests: list[Any] = []
        running: deque[tuple[Tag, Any]] = deque()
        for number, (tag, pixels) in enumerate(batches):
            if len(running) == IN_FLIGHT:
                yield self._finished(*running.popleft())
            if number == 0:
                compiled = self._compile(len(pixels))
            if number < IN_FLIGHT:
                requests.append(compiled.create_infer_request())
            request = requests[number % IN_FLIGHT]
            with self._errors():
                request.start_async({0: pixels})
            running.append((tag, request))
        yield from itertools.starmap(self._finished, running)

    def _finished(self, tag: Tag, request: Any) -> tuple[Tag, Floats]:
        with self._errors():
            request.wait()
        return tag, np.array(request.get_output_tensor(0).data)

    def feature_maps(self, pixels: Pixels) -> Floats:
        """Return the features of photos at spatial positions.

        Args:
            pixels: see `encode`.

        Returns:
            (b, p, p, channels), the features of one layer: of those with p > 1 the last with the smallest p.

        Raises:
            EncoderError: there is no such layer.
        """
        maps = self._run(self._up_to_last_map(), pixels)
        return maps if maps.shape[1] == maps.shape[2] else np.moveaxis(maps, 1, 3)

    def _run(self, compiled: Any, pixels: Pixels) -> Floats:
        with RUNNING, self._errors():
            return np.array(compiled(pixels)[0])

    def _up_to_last_map(self) -> Any:
        """Return the encoder up to the layer that `feature_maps` returns, compiled."""
        with RUNNING:
            if LAST_MAP not in self._compiled:
                model = self._model.clone()
                outputs = [output for node in model.get_ordered_ops() for output in node.outputs()]
                maps = [output for output in reversed(outputs) if _positions(output) > 1]
                if not maps:
                    raise EncoderError(f"{self.encoder.spec.name} has no layer with spatial positions")
                part = import_openvino().Model([min(maps, key=_positions)], model.get_parameters())
                self._compiled[LAST_MAP] = self._ready(part)
            return self._compiled[LAST_MAP]

    def _compile(self, batch_size: int) -> Any:
        """Return the encoder for a batch size; one that is not of `BATCH_SIZES` is freed by its caller."""
        with RUNNING:
            if batch_size in self._compiled:
                return self._compiled[batch_size]
            width, height = self.encoder.size
            model = self._model.clone()
            model.reshape([batch_size, height, width, 3])  # a fixed size runs 5 % faster than any size
            compiled = self._ready(model)
            if batch_size in BATCH_SIZES:
                self._compiled[batch_size] = compiled
            return compiled

    def _ready(self, model: Any) -> Any:
        """Compile a model; without a hint OpenVINO calculates in bf16 on processors that have it."""
        settings = {"INFERENCE_PRECISION_HINT": self._rest, "PERFORMANCE_HINT": "LATENCY"}
        with self._errors():
            return import_openvino().Core().compile_model(model, "CPU", settings)

    def _errors(self) -> AbstractContextManager[None]:
        return encoder_errors(f"OpenVINO can't run {self.encoder.spec.name}", "give --runtime tensorflow")


_RUNTIMES: weakref.WeakSet[OpenVINORuntime] = weakref.WeakSet()


def _recompile_all() -> None:
    for runtime in _RUNTIMES:
        runtime.recompile()


os.register_at_fork(after_in_child=_recompile_all)


def _parts(count: int) -> Iterator[tuple[int, int]]:
    """Yield (start, size) of batches for so many photos, of those of `BATCH_SIZES` the largest that is half full."""
    start = 0
    while start < count:
        size = max(size for size in BATCH_SIZES if size < 2 * (count - start))
        yield start, size
        start += size


def _padded(pixels: Pixels, size: int) -> Pixels:
    missing = size - len(pixels)
    return np.pad(pixels, [(0, missing), (0, 0), (0, 0), (0, 0)]) if missing else pixels


def _positions(output: Any) -> int:
    """Return p of an output (any b, channels, p, p) or (any b, p, p, channels), 0 of any other."""
    shape = output.partial_shape
    if len(shape) != 4 or shape[0].is_static:
        return 0
    first, second, third = [int(side.get_length()) for side in list(shape)[1:]]
    return second if second in (first, third) else 0
