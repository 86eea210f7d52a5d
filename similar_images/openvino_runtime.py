"""Runs encoders with OpenVINO on the processor, several batches in flight."""

import itertools
from collections import deque
from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from similar_images.encoders import Encoder
from similar_images.images import Pixels
from similar_images.weights import EncoderError

Floats = NDArray[np.float32]
Tag = TypeVar("Tag")

IN_FLIGHT = 3  # one that runs, one that waits for its turn, one being filled


class OpenVINORuntime:
    """Runs an encoder with OpenVINO on the processor; a `runtimes.Runtime`."""

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
        self._model, self._rest = model, rest
        self._compiled: dict[int, Any] = {}

    def encode(self, pixels: Pixels) -> Floats:
        """See `runtimes.Runtime`."""
        return np.array(self._compile(len(pixels))(pixels)[0])

    def encode_all(self, batches: Iterable[tuple[Tag, Pixels]]) -> Iterator[tuple[Tag, Floats]]:
        """See `runtimes.Runtime`."""
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

    def regions(self, pixels: Pixels) -> Floats:
        """Return what the last layer that still has places sees there, (b, places down, places across, channels).

        Args:
            pixels: see `encode`.

        Raises:
            EncoderError: there is no such layer.
        """
        seen = np.array(self._up_to_the_last_places(pixels)[0])
        return seen if seen.shape[1] == seen.shape[2] else np.moveaxis(seen, 1, 3)

    @cached_property
    def _up_to_the_last_places(self) -> Any:
        import openvino

        model = self._model.clone()
        with_places = [output for node in model.get_ordered_ops() for output in node.outputs() if _has_places(output)]
        if not with_places:
            raise EncoderError(f"{self.encoder.spec.name} has no layer that tells places of a photo apart")
        return openvino.Core().compile_model(openvino.Model([with_places[-1]], model.get_parameters()), "CPU")

    def _compile(self, batch_size: int) -> Any:
        if batch_size not in self._compiled:
            import openvino

            width, height = self.encoder.size
            model = self._model.clone()
            model.reshape([batch_size, height, width, 3])  # a fixed size runs 5 % faster than any size
            settings = {"INFERENCE_PRECISION_HINT": self._rest, "PERFORMANCE_HINT": "LATENCY"}
            self._compiled[batch_size] = openvino.Core().compile_model(model, "CPU", settings)
        return self._compiled[batch_size]


def _has_places(output: Any) -> bool:
    """Tell whether an output is (any b, channels, places, places) or (any b, places, places, channels)."""
    shape = output.partial_shape
    if len(shape) != 4 or shape[0].is_static:
        return False
    first, second, third = [int(side.get_length()) for side in list(shape)[1:]]
    return first == second > 1 or second == third > 1


def _finished(tag: Tag, request: Any) -> tuple[Tag, Floats]:
    request.wait()
    return tag, np.array(request.get_output_tensor(0).data)
