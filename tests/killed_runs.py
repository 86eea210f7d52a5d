"""Runs a script again and again, killed before each of its changes to the disk in turn, and tells what came of it.

A process of its own, so that each run can be a fork of one that has imported everything and started nothing:
python killed_runs.py FOLDER SCRIPT ARGUMENT ... runs it in copies of FOLDER and prints a JSON list of `State`s.
"""

import hashlib
import importlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from similar_images.store.vectors import VectorFile

CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link", "os.symlink"}
STATEMENTS = ("COMMIT", "PRAGMA")  # by which SQLite changes the disk, but for its CREATEs
FOR_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


@dataclass
class State:
    """What a killed run left and what the same command made of it.

    Attributes:
        killed: whether the run was killed; the last one ran to its end.
        left: digests of the files by name.
        opened: exit status of a process that opens what is there: 0, 3 for a sentence of the gallery's own.
        code: exit status of the same command, run again.
        said: what that wrote to standard error.
        files: digests of the files afterwards.
        opened_again: exit status of a process that opens these, as `opened`.
    """

    killed: bool
    left: dict[str, str]
    opened: int
    code: int
    said: str
    files: dict[str, str]
    opened_again: int


def killed_runs(folder: Path, script: str, *arguments: str) -> list[State]:
    """Return the states of a script, run in copies of a folder."""
    command = [sys.executable, __file__, str(folder), script, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=True)
    return [State(**state) for state in json.loads(done.stdout)]


def main(template: Path, script: str, *arguments: str) -> None:
    from similar_images.extraction import extraction

    extraction.CHECKPOINT_SECONDS = 0
    command = importlib.import_module(script).main
    states: list[State] = []
    while not states or states[-1].killed:
        number = len(states) + 1
        with TemporaryDirectory(dir=template.parent) as copies:
            folder, second = Path(copies) / "first", Path(copies) / "second"
            shutil.copytree(template, folder)
            code, _ = in_child(folder, lambda number=number: (kill_before_change(number), command(arguments)))
            left = digests(folder)
            shutil.copytree(folder, second)
            opened, _ = in_child(second, open_what_is_there)
            again, said = in_child(folder, lambda: command(arguments))
            files = digests(folder)
            opened_again, _ = in_child(folder, open_what_is_there)
            states.append(State(code == -signal.SIGKILL, left, opened, again, said, files, opened_again))
    print(json.dumps([asdict(state) for state in states]))


def kill_before_change(number: int) -> None:
    """Have this process killed when it is about to change the disk for the number-th time."""
    from similar_images.store import catalogue

    left = number

    def count() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def watch(event: str, arguments: tuple) -> None:
        writes = event == "open" and isinstance(arguments[0], str) and arguments[2] & FOR_WRITING
        if event in CHANGES or writes:
            count()

    def watched(path: Path, how: str) -> sqlite3.Connection:
        connection = connected(path, how)
        connection.set_trace_callback(lambda statement: count() if statement.startswith(STATEMENTS) else None)
        return connection

    connected, catalogue._connected = catalogue._connected, watched
    sys.addaudithook(watch)


def open_what_is_there() -> None:
    """Open vectors and galleries, and have each photo find itself."""
    from similar_images.search.gallery import Gallery, GalleryError
    from similar_images.store.vectors import VectorsError, open_vectors

    try:
        for vectors in Path().glob("*.npy"):
            check_rows(open_vectors(vectors))
        for index in Path().glob("*.faiss.index"):
            gallery = Gallery.open(index)
            for row in gallery.searchable_rows():
                assert gallery.search(row, k=1)[0].distance < 1e-5
    except (GalleryError, VectorsError):
        sys.exit(3)
    sys.exit(0)


def check_rows(vectors: "VectorFile") -> None:
    """Check that catalogue, list and vectors agree about every row."""
    from similar_images.photos.file_list import read_file_list
    from similar_images.store.catalogue import Catalogue
    from similar_images.store.vectors import list_path

    photos = list(Catalogue.of_vectors(vectors.path, vectors.card).all())
    assert [photo.state == "present" for photo in photos] == vectors.array.any(axis=1).tolist()
    assert [photo.name for photo in photos] == read_file_list(list_path(vectors.path))


def in_child(folder: Path, what: Callable[[], object]) -> tuple[int, str]:
    """Return the exit status of a child process that does something in a folder, and its standard error."""
    log = folder.with_name("log")
    child = os.fork()
    if child == 0:
        status = 70
        try:
            os.chdir(folder)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            os.dup2(os.open(log, os.O_CREAT | os.O_WRONLY | os.O_TRUNC), 2)
            what()
        except SystemExit as error:
            status = int(error.code or 0)
        finally:
            sys.stderr.flush()
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), log.read_text()


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
