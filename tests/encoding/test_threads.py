"""Many threads at once, forked processes and pickled galleries get what one thread alone gets."""

import multiprocessing
import pickle
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from threading import Barrier

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

from similar_images.encoding.encoders import Encoder, EncoderSpec, load_encoder
from similar_images.encoding.runtimes import open_runtime
from similar_images.search.explanation import explain
from similar_images.search.gallery import Gallery, Hit

THREADS = 8


def at_once(work: Callable[[int], object]) -> list[object]:
    """Have every thread begin at the same moment."""
    start = Barrier(THREADS)

    def begin(thread: int) -> object:
        start.wait()
        return work(thread)

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(begin, range(THREADS)))


def searches(gallery: Gallery, rows: range) -> list[list[Hit]]:
    return [gallery.search(gallery.photo_path(row).read_bytes(), 5) for row in rows]


@pytest.mark.parametrize("start", ["warm", "cold"])
def test_photo_searches_by_many_threads_are_those_of_one(index_file: Path, start: str) -> None:
    expected = searches(Gallery.open(index_file), range(6 * THREADS))
    gallery = Gallery.open(index_file)
    if start == "warm":
        gallery.warm_up()
    found = at_once(lambda thread: searches(gallery, range(6 * thread, 6 * thread + 6)))
    assert list(chain.from_iterable(found)) == expected


@pytest.mark.parametrize("name", ["openvino", "tensorflow"])
def test_batches_of_any_size_by_many_threads_are_those_of_one(name: str, encoder: Encoder) -> None:
    runtime = open_runtime(encoder, name, "f32")
    pixels = np.random.default_rng(0).integers(0, 256, (THREADS, 224, 224, 3), np.uint8)
    expected = [runtime.encode(pixels[: thread + 1]) for thread in range(THREADS)]
    found = at_once(lambda thread: [runtime.encode(pixels[: thread + 1]) for _ in range(3)])
    for same, vectors in zip(found, expected, strict=True):
        assert all(np.array_equal(each, vectors) for each in same)


def test_explanations_by_many_threads_are_those_of_one(gallery: Gallery) -> None:
    def explained(row: int) -> np.ndarray:
        return np.stack(explain(gallery.runtime, gallery.measure, gallery.photo_path(row), gallery.photo_path(row + 1)))

    expected = [explained(row) for row in range(THREADS)]
    found = at_once(lambda row: [explained(row) for _ in range(3)])
    for same, heats in zip(found, expected, strict=True):
        assert all(np.array_equal(each, heats) for each in same)


def test_untrained_encoders_loaded_by_many_threads_are_the_same() -> None:
    untrained = EncoderSpec("mobilenet", weights="none")
    assert len(set(at_once(lambda thread: load_encoder(untrained).weights_digest))) == 1


def printed(code: str, *arguments: object) -> str:
    """Run code in a process of its own; return what it printed and wrote to standard error."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True, timeout=120
    ).stdout


def test_standard_error_survives_keras_being_imported_by_many_threads() -> None:
    code = (
        "import os, threading; from similar_images.encoding.weights import import_keras; "
        "threads = [threading.Thread(target=import_keras) for _ in range(8)]; "
        "[thread.start() for thread in threads]; [thread.join() for thread in threads]; os.write(2, b'heard')"
    )
    assert printed(code) == "heard"


FORK = """
import os, signal, sys, threading
from similar_images.search.gallery import Gallery

gallery = Gallery.open(sys.argv[1])
photo = gallery.photo_path(40).read_bytes()
expected = gallery.search(photo, 5)
busy = threading.Thread(target=lambda: [gallery.search(photo, 5) for _ in range(50)])
busy.start()
child = os.fork()
if child == 0:
    signal.alarm(60)
    from similar_images.search.explanation import explain
    heats = explain(gallery.runtime, gallery.measure, photo, photo)
    batches = list(gallery.runtime.encode_all((number, gallery.encoder.pixels(photo)[None]) for number in range(5)))
    print(gallery.search(photo, 5) == expected, len(heats), len(batches), flush=True)
    sys.exit()
busy.join()
print("child left with", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), gallery.search(photo, 5) == expected)
"""


def test_forked_process_searches_as_its_parent_does(index_file: Path) -> None:
    assert printed(FORK, index_file) == "True 2 5\nchild left with 0 True\n"


FORK_TENSORFLOW = """
import os, signal, numpy as np
from similar_images.encoding.encoders import EncoderSpec, load_encoder
from similar_images.encoding.runtimes import open_runtime

runtime = open_runtime(load_encoder(EncoderSpec("mobilenet", weights="none")), "tensorflow")
black = np.zeros((1, 224, 224, 3), np.uint8)
runtime.encode(black)
if (child := os.fork()) == 0:
    signal.alarm(60)
    for again in (lambda: runtime.encode(black), lambda: open_runtime(runtime.encoder, "tensorflow")):
        try:
            again()
        except ValueError as error:
            print(error, flush=True)
    os._exit(0)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), runtime.encode(black).shape)
"""


def test_forked_process_says_that_it_cannot_use_tensorflow() -> None:
    *said, last = printed(FORK_TENSORFLOW).splitlines()
    assert [line[:45] for line in said] == ["TensorFlow does not run in a process that was"] * 2
    assert last == "0 (1, 1024)"


def test_gallery_that_was_pickled_finds_the_same_in_another_process(index_file: Path, tmp_path: Path) -> None:
    gallery = Gallery.open(index_file, tmp_path)  # the photos have gone
    gallery.warm_up()
    again = pickle.loads(pickle.dumps(gallery))
    assert (again.img_dir, list(again.names), again._encoder._runtime) == (tmp_path, list(gallery.names), None)
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        photo = Image.new("RGB", (50, 50), "red")
        assert pool.submit(gallery.search, photo, 5).result() == gallery.search(photo, 5)
