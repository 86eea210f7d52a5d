"""Files that appear whole or not at all, alone or several together, and that one run writes at a time."""

import contextlib
import fcntl
import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

VECTORS_SUFFIX = ".saved_predictions.npy"
CATALOGUE_SUFFIX = ".catalogue.sqlite"
MENDING_SECONDS = 10
CLOCK_TICK_NS = 50_000_000  # a second write within a tick of the file system's clock leaves no trace in the time


class BusyError(ValueError):
    """Another run is writing the same file."""


def cache_folder() -> Path:
    """Return where this project keeps what it can make again; SIMILAR_IMAGES_CACHE overrides it."""
    usual = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "similar_images"
    return Path(os.environ.get("SIMILAR_IMAGES_CACHE") or usual).expanduser()


def digest(file: Path | IO[bytes]) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal."""
    if isinstance(file, Path):
        with open(file, "rb") as opened:
            return digest(opened)
    file.seek(0)
    return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]  # any binary file will do


def is_unchanged(file: IO[bytes], known: str) -> bool:
    """Tell whether an opened file still has a digest, which is computed once for each size and time that it has had.

    Args:
        file: the opened file.
        known: its SHA-256.
    """
    if _checked(file, known).exists():
        return True
    if digest(file) != known:
        return False
    note_digest(file, known)
    return True


def note_digest(file: IO[bytes], known: str) -> None:
    """Note that an opened file has a digest, for `is_unchanged`; not of one that could still change unseen."""
    if time.time_ns() - os.fstat(file.fileno()).st_mtime_ns < CLOCK_TICK_NS:
        return
    with contextlib.suppress(OSError):  # not ours to write to: computed again next time
        _checked(file, known).parent.mkdir(parents=True, exist_ok=True)
        _checked(file, known).touch()


def _checked(file: IO[bytes], known: str) -> Path:
    """Return the empty file whose being there says that a file of this size and time has a digest."""
    status = os.fstat(file.fileno())
    about = f"{status.st_dev} {status.st_ino} {status.st_size} {status.st_mtime_ns} {known}"
    return cache_folder() / "checked" / hashlib.sha256(about.encode()).hexdigest()


def sealed(path: Path) -> str:
    """Wait until a file is on the disk; return its SHA-256, which is noted."""
    flush(path)
    with open(path, "rb") as file:
        known = digest(file)
        note_digest(file, known)
    return known


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it becomes `path`, on failure it is removed."""
    temporary = beside(path, ".tmp")
    try:
        yield temporary
        flush(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def readable_size(count: int) -> str:
    """Return a number of bytes as people say it: 512 bytes, 2.7 MB."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:,.1f} {unit}"
    return f"{count} bytes"


def beside(path: Path, suffix: str) -> Path:
    """Return the path with a suffix added to its name."""
    return path.with_name(path.name + suffix)


def flush(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep other runs from writing `path`, by a lock on `path`.lock; what a killed run leaves of it locks nothing.

    Raises:
        BusyError: another run holds the lock.
    """
    lock = beside(path, ".lock")
    while True:
        file = open(lock, "a")  # noqa: SIM115 - closing it gives the lock back
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            raise BusyError(f"another run is writing {path}: wait for it, or choose another output") from None
        if is_at(file, lock):
            break
        file.close()  # the run that held it has just removed it
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)
        file.close()


def opened_path(file: IO[bytes]) -> str:
    """Return a path of an opened file itself, for a library that takes no file, and not every name of one."""
    return f"/dev/fd/{file.fileno()}"


def is_at(file: IO[Any], path: Path) -> bool:
    """Tell whether an opened file is still the one of that name."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    except FileNotFoundError:
        return False


def part_of(path: Path) -> Path:
    """Return where `path` is written until it is put in place."""
    return beside(path, ".part")


def card_path(path: Path) -> Path:
    """Return where the card of `path` lies: beside it, with `.json` added to its name."""
    return beside(path, ".json")


def names_path(path: Path) -> Path:
    """Return where the list of `path` lies: beside it, with `.txt` added to its name."""
    return beside(path, ".txt")


def catalogue_path(path: Path) -> Path:
    """Return where the catalogue of a vectors file lies: beside it, with its own suffix instead of theirs."""
    return path.with_name(path.name.removesuffix(VECTORS_SUFFIX) + CATALOGUE_SUFFIX)


def is_half_in_place(path: Path) -> bool:
    """Tell whether a run was cut off while it put a file and what belongs to it in place."""
    return part_of(card_path(path)).exists()


def put_in_place(path: Path) -> None:
    """Give a file, its list, its catalogue and its card their names, all or none of those that were written.

    They have been written as `part_of` each, the card last and whole: from then on they are there, and what a kill
    leaves undone of this is done by whoever comes next. The caller holds the lock.
    """
    flush(path.parent)
    for file in (names_path(path), catalogue_path(path), path, card_path(path)):
        if part_of(file).exists():
            os.replace(part_of(file), file)
    flush(path.parent)


def mend(path: Path) -> None:
    """Finish what a killed run left half in place; a run that is just doing so itself is waited for.

    Raises:
        BusyError: that run takes too long.
        OSError: the folder can't be written to.
    """
    deadline = time.monotonic() + MENDING_SECONDS
    while is_half_in_place(path):
        try:
            with locked(path):
                put_in_place(path)
        except BusyError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
