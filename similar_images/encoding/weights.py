"""Where the weights of a named Keras network come from: Keras' download, a file, or a seed.

TensorFlow and Keras are imported inside functions: they take seconds.
"""

import contextlib
import hashlib
import io
import os
import random
import re
import socket
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from similar_images.locks import one_at_a_time

UNTRAINED_SEED = 0
DOWNLOAD_STALL_SECONDS = 30

_users_of_tensorflow: set[int] = set()  # process ids


class EncoderError(ValueError):
    """An encoder can't be made as asked; the message says why and what to do."""


@contextlib.contextmanager
def encoder_errors(what: str, way_out: str) -> Iterator[None]:
    """Raise whatever is raised as an `EncoderError`: Keras, TensorFlow, OpenVINO and h5py each have kinds of their own.

    Args:
        what: what can't be done, the beginning of the sentence.
        way_out: its end.
    """
    try:
        yield
    except EncoderError:
        raise
    except Exception as error:
        raise EncoderError(f"{what} ({_reason(error)}): {way_out}") from error


def _reason(error: Exception) -> str:
    """Return the first line of the message itself: OpenVINO begins with positions in its source."""
    lines = [line.strip() for line in str(error).splitlines() if not line.startswith("Exception from ")]
    return next(filter(None, lines), type(error).__name__)[:200]


class WeightsUnavailableError(EncoderError):
    """Trained weights are neither in Keras' cache nor could they be downloaded."""


def digest_of_weights(arrays: Iterable[np.ndarray]) -> str:
    """Return the SHA-256 of a network's weights, in their order, in hexadecimal."""
    whole = hashlib.sha256()
    for array in arrays:
        whole.update(array.tobytes())
    return whole.hexdigest()


def weights_are_cached() -> bool:
    """Tell whether Keras has downloaded the trained weights of VGG16."""
    return (_cache() / "vgg16_weights_tf_dim_ordering_tf_kernels.h5").exists()


def _cache() -> Path:
    return Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser() / "models"


@one_at_a_time
def import_keras() -> Any:
    """Import Keras on TensorFlow without the lines that TensorFlow's start writes to the terminal.

    Raises:
        EncoderError: see `check_process`.
    """
    check_process()
    os.environ["KERAS_BACKEND"] = "tensorflow"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with _quiet_stderr():
        import keras
        import tensorflow as tf

        tf.config.list_physical_devices()  # the search for GPUs writes its lines here, not later
    _users_of_tensorflow.add(os.getpid())
    return keras


def check_process() -> None:
    """Find out whether TensorFlow can run here: in a forked process it waits for ever for threads of the other one.

    Raises:
        EncoderError: it can't.
    """
    if _users_of_tensorflow and os.getpid() not in _users_of_tensorflow:
        raise EncoderError(
            "TensorFlow does not run in a process that was forked from one that uses it: begin it by "
            'multiprocessing.get_context("spawn"), or use OpenVINO'
        )


@contextlib.contextmanager
def _quiet_stderr() -> Iterator[None]:
    """Drop what C++ libraries write to the process's standard error."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def build_network(application: Callable[..., Any], weights: str, **kind: Any) -> Any:
    """Return `application(**kind)` with its weights in place.

    Args:
        application: a function of `keras.applications`.
        weights: "imagenet", "none" (always the same, from a fixed seed), or a file that the network can load.
        kind: what the application is called with, say include_top and input_shape.

    Raises:
        WeightsUnavailableError: the download failed.
        EncoderError: the file doesn't hold this network's weights.
    """
    if weights == "imagenet":
        return _with_imagenet(application, kind)
    with seeded():
        network = application(weights=None, **kind)
    if weights != "none":
        _load_weights(network, Path(weights), f"{application.__name__}({_arguments(kind)})")
    return network


@contextlib.contextmanager
def seeded() -> Iterator[None]:
    """Have Keras' initializers give the same weights each time."""
    state = random.getstate()
    random.seed(UNTRAINED_SEED)  # Keras' initializers draw their seeds from here
    try:
        yield
    finally:
        random.setstate(state)


def _with_imagenet(application: Callable[..., Any], kind: dict[str, Any]) -> Any:
    printed = _Progress()
    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(DOWNLOAD_STALL_SECONDS)
    try:
        with contextlib.redirect_stdout(printed):
            return application(weights="imagenet", **kind)
    except Exception as error:  # Keras raises a bare Exception when a download fails
        found = re.search(r"https?://\S+\.h5", f"{error} {printed.head}")
        if found is None:
            raise
        raise WeightsUnavailableError(_how_to_get_weights(found.group(), error)) from error
    finally:
        socket.setdefaulttimeout(timeout)


class _Progress(io.TextIOBase):
    """Keras' download progress: to standard error, and only to a terminal; its first words are kept."""

    head = ""

    def write(self, text: str) -> int:
        self.head = (self.head + text)[:1000]
        if sys.stderr.isatty():
            sys.stderr.write(text)
        return len(text)

    def flush(self) -> None:
        sys.stderr.flush()


def _how_to_get_weights(address: str, error: Exception) -> str:
    reason = str(error).rsplit(" -- ", 1)[-1]
    return (
        f"the trained weights could not be downloaded ({reason}): fetch {address} by other means and put it into "
        f"{_cache()}, or give --weights FILE, or go on untrained with --weights none"
    )


def _load_weights(network: Any, file: Path, call: str) -> None:
    if not file.is_file():
        raise EncoderError(f"there is no weights file {file}: give imagenet, none, or an existing file")
    for variable in network.weights:
        variable.assign(np.full(variable.shape, np.nan, variable.dtype))
    problem: Exception | None = None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Keras only warns of layers that the file lacks; they stay NaN
            network.load_weights(str(file))
    except Exception as error:  # h5py, zipfile and Keras each raise their own kinds
        problem = error
    if problem or any(np.isnan(variable.numpy()).any() for variable in network.weights):
        raise EncoderError(
            f"{file} does not hold the weights of {call}: save them from that model as .weights.h5, "
            ".h5 or .keras, or load a whole model of your own with --model_filename"
        ) from problem


def _arguments(kind: dict[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in kind.items())
