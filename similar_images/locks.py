"""What only one thread does at a time, and what a fork waits for."""

import functools
import os
import threading
from collections.abc import Callable
from typing import ParamSpec, TypeVar

Parameters = ParamSpec("Parameters")
Loaded = TypeVar("Loaded")

LOADING = threading.RLock()  # changes what all threads share, such as the seed of `random` and where output goes
RUNNING = threading.Lock()  # what OpenVINO has compiled has one place for input and output
OPENING = threading.Lock()  # the others wait, who would go on with what was there before
READING = threading.RLock()  # threads share the connection to a catalogue, and a child process has a copy of it


def one_at_a_time(load: Callable[Parameters, Loaded]) -> Callable[Parameters, Loaded]:
    """Let only one thread at a time load or ready an encoder."""

    @functools.wraps(load)
    def alone(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Loaded:
        with LOADING:
            return load(*args, **kwargs)

    return alone


def _acquire() -> None:
    LOADING.acquire()
    RUNNING.acquire()  # in this order, as by whoever runs an encoder in order to ready it
    OPENING.acquire()
    READING.acquire()


def _release() -> None:
    READING.release()
    OPENING.release()
    RUNNING.release()
    LOADING.release()


os.register_at_fork(before=_acquire, after_in_parent=_release, after_in_child=_release)
