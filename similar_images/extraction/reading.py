"""Photo files read in threads: their pixels, and what is to be known of them."""

import contextlib
import hashlib
import os
import stat
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from msgspec.structs import replace

from similar_images.encoding.encoders import Encoder
from similar_images.extraction.update import Status
from similar_images.files import digest
from similar_images.photos.facts import photo_facts
from similar_images.photos.file_list import folder_of
from similar_images.photos.images import ImageReadError, Pixels, read_file, read_resized, source_name
from similar_images.progress import Progress
from similar_images.store.facts import Facts

DEFAULT_WORKERS = os.cpu_count() or 1
PROBE_SIZE = (8, 8)  # pixels that tell whether a photo can be read

Given = TypeVar("Given")
Done = TypeVar("Done")


@dataclass(frozen=True)
class Photo:
    """A photo that was read.

    Attributes:
        facts: what is known of it.
        pixels: (h, w, 3) uint8, None where it can't be read.
    """

    facts: Facts
    pixels: Pixels | None


def read_photo(encoder: Encoder, img_dir: Path, strict: bool, row: int, name: str) -> Photo:
    """Return a photo as an encoder takes it, with what is known of it as the file of `row`.

    Raises:
        ImageReadError: it can't be read, and `strict`.
    """
    facts = Facts(row, name, label=folder_of(name))
    try:
        facts, content = _recorded(facts, img_dir)
        return Photo(facts, encoder.pixels(content))
    except ImageReadError as error:
        if strict:
            raise ImageReadError(source_name(img_dir / name), error.reason) from error
        return Photo(replace(facts, state="unreadable", reason=error.reason), None)


def _recorded(facts: Facts, img_dir: Path) -> tuple[Facts, bytes]:
    """Return facts with what the photo's file tells, which is read once, and its bytes."""
    content, status = read_file(img_dir / facts.name)
    sha256 = hashlib.sha256(content).hexdigest()
    read = photo_facts(content)._asdict()
    return replace(facts, size=status.st_size, mtime_ns=status.st_mtime_ns, digest=sha256, **read), content


class PhotoReader:
    """Reads photos in threads, batch by batch and one batch ahead.

    Attributes:
        waited: seconds that were spent on waiting for photos.
    """

    def __init__(self, read: Callable[[int, str], Photo], workers: int) -> None:
        """Take what reads the photo of a row and a name."""
        self._read, self._workers = read, workers
        self.waited = 0.0

    def batches(self, batches: Iterable[Sequence[tuple[int, str]]]) -> Iterator[list[Photo]]:
        """Yield the photos of each batch of rows and names, while threads read the next one."""
        reading: deque[list[Future[Photo]]] = deque()
        with ThreadPoolExecutor(self._workers) as pool:
            try:
                for batch in [*batches, []]:
                    reading.append([pool.submit(self._read, row, name) for row, name in batch])
                    if len(reading) > 1:
                        coming = reading.popleft()
                        began = time.monotonic()
                        photos = [photo.result() for photo in coming]
                        self.waited += time.monotonic() - began
                        yield photos
            finally:
                pool.shutdown(cancel_futures=True)


class ListedFiles:
    """The files of a list as they are now, see `update.Files`; each is asked for its status once."""

    def __init__(self, img_dir: Path, names: Iterable[str], workers: int, progress: Progress) -> None:
        """Ask for the status of all files; `progress` shows how many have been read."""
        folder = os.fspath(img_dir)
        self._statuses = {name: _status(f"{folder}/{name}") for name in names}
        self._img_dir, self._workers, self._progress = img_dir, workers, progress
        self._digests: dict[str, str] = {}

    def status(self, name: str) -> Status | None:
        """Return the status of a file, None where there is none."""
        return self._statuses[name]

    def digests(self, names: Iterable[str]) -> dict[str, str]:
        """Return the SHA-256 of files by name, without those that can't be read."""
        wanted = set(names)
        unknown = sorted(wanted - self._digests.keys())
        self._digests |= zip(unknown, self._each(self._digest, unknown), strict=True)
        return {name: self._digests[name] for name in wanted if self._digests[name]}

    def failures(self, names: Iterable[str]) -> dict[str, str]:
        """Return why photos can't be read by name, without those that can."""
        wanted = sorted(set(names))
        reasons = zip(wanted, self._each(self._failure, wanted), strict=True)
        return {name: reason for name, reason in reasons if reason}

    def recorded(self, photos: Sequence[Facts]) -> list[Facts]:
        """Return what is known of photos together with what their files tell."""
        return self._each(self._recorded, photos)

    def _each(self, read: Callable[[Given], Done], given: Sequence[Given]) -> list[Done]:
        done = []
        with ThreadPoolExecutor(self._workers) as pool:
            for result in pool.map(read, given):
                done.append(result)
                self._progress("comparing", len(done), len(given))
        return done

    def _digest(self, name: str) -> str:
        with contextlib.suppress(OSError):
            return digest(self._img_dir / name)
        return ""

    def _failure(self, name: str) -> str:
        try:
            read_resized(self._img_dir / name, PROBE_SIZE)
        except ImageReadError as error:
            return error.reason
        return ""

    def _recorded(self, photo: Facts) -> Facts:
        with contextlib.suppress(ImageReadError):
            return _recorded(photo, self._img_dir)[0]
        return photo


def _status(path: str) -> Status | None:
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return Status(found.st_size, found.st_mtime_ns) if stat.S_ISREG(found.st_mode) else None
