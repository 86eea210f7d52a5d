"""Vectors on disk: NAME.saved_predictions.npy, with its card (.json) and its file list (.txt) beside it.

Row i of the file belongs to line i of the list; a photo that could not be read has a row of zeros. While vectors are
being made they stand in NAME.saved_predictions.npy.part, next to a record of how far they are good.
"""

import fcntl
import mmap
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from similar_images._files import Card, card_path, digest, read_card, write_card
from similar_images.file_list import read_file_list, write_file_list

Floats = NDArray[np.float32]

SUFFIX = ".saved_predictions.npy"
CHUNK_BYTES = 64 << 20
SAMPLE_BYTES = 16 << 20
MAPPED_BYTES = 1 << 30

# What a vectors file without a card is taken for, where its vectors are 4096 long: those published for COCO val2014.
PUBLISHED: Card = {
    "encoder": "vgg16",
    "layer": "fc2",
    "weights": "imagenet",
    "trained": True,
    "weights_digest": None,
    "model_file": None,
    "resize": "keras",
    "size": [224, 224],
    "img_dir": "ms_coco/val2014",
}


class VectorsError(ValueError):
    """A vectors file can't be used or written; the message says why and what to do."""


@dataclass(frozen=True)
class VectorFile:
    """An opened vectors file.

    Attributes:
        path: the .npy file.
        array: (n, d) float32, memory-mapped and read-only.
        card: what made it, see `encoders.Encoder.card`, with "failures" (a list of row, name, reason) and "digest";
            without a card file, `PUBLISHED` for 4096-d vectors, else without "encoder".
    """

    path: Path
    array: Floats
    card: Card

    def distances(self, query: Floats, rows: NDArray[np.int64]) -> Floats:
        """Return the exact squared L2 distances (c,) of a query (d,) of length 1 to rows (c,), both L2-normalised."""
        cosines = np.empty(len(rows), np.float32)
        for start in range(0, len(rows), 64):
            cosines[start : start + 64] = self._cosines(query, rows[start : start + 64])
        self._unmap_if_large()
        return np.maximum(0, 2 - 2 * cosines, dtype=np.float32)

    def _cosines(self, query: Floats, rows: NDArray[np.int64]) -> Floats:
        """Return the cosines (c,) of a query to a few rows, whose copy stays in the processor's cache."""
        found = np.asarray(self.array[rows], np.float32)
        lengths = np.sqrt(np.einsum("ij,ij->i", found, found))
        lengths[lengths == 0] = 1
        cosines: Floats = found @ query / lengths
        return cosines

    def _unmap_if_large(self) -> None:
        """Unmap what was read of a large file: Linux maps up to 2 MB around a row, and soon the whole of it."""
        mapped = self.array.base
        if self.array.nbytes > MAPPED_BYTES and isinstance(mapped, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
            mapped.madvise(mmap.MADV_DONTNEED)  # the system's cache keeps the pages

    def sample(self, rows: NDArray[np.int64]) -> Iterator[Floats]:
        """Yield rows (s,), given in ascending order, L2-normalised in copies of about 16 MB; rows of zeros left out."""
        at_a_time = self._rows_in(SAMPLE_BYTES)
        for start in range(0, len(rows), at_a_time):
            block = np.load(self.path, mmap_mode="r")[rows[start : start + at_a_time]]
            yield normalise(block[block.any(axis=1)])

    def _rows_in(self, size: int) -> int:
        d: int = self.array.shape[1]
        return max(1, size // (4 * d))

    def chunks(self) -> Iterator[tuple[int, Floats]]:
        """Yield (first row, rows) in order, each a copy of about 64 MB whose pages don't stay mapped."""
        rows = self._rows_in(CHUNK_BYTES)
        for start in range(0, len(self.array), rows):
            yield start, np.array(np.load(self.path, mmap_mode="r")[start : start + rows], np.float32)


def normalise(vectors: Floats) -> Floats:
    """Return a float32 copy with rows of length 1; rows of zeros stay zero.

    Args:
        vectors: (n, d) of any floating-point type, not modified.
    """
    normalised = np.array(vectors, np.float32, order="C")
    lengths = np.sqrt(np.einsum("ij,ij->i", normalised, normalised))[:, None]
    normalised /= np.where(lengths == 0, 1, lengths)
    return normalised


def list_path(vectors_path: Path) -> Path:
    """Return where the names of the rows lie.

    Beside the vectors with `.txt` added, as extraction writes it; for vectors that came without one, the list that
    they were named after.
    """
    own = vectors_path.with_name(vectors_path.name + ".txt")
    named_after = vectors_path.with_name(vectors_path.name.removesuffix(SUFFIX))
    return named_after if not own.exists() and named_after != vectors_path and named_after.is_file() else own


def open_vectors(path: Path) -> VectorFile:
    """Open a vectors file through a memory map.

    Raises:
        VectorsError: it is missing, no array of vectors, or not the one that its card describes.
    """
    try:
        array = np.load(path, mmap_mode="r")
    except FileNotFoundError:
        raise VectorsError(f"there is no vectors file {path}: extract_image_vectors.py makes it") from None
    except (OSError, ValueError, EOFError) as error:
        raise VectorsError(f"{path} is not a vectors file: it is no whole .npy array ({error})") from error
    if not isinstance(array, np.ndarray) or array.ndim != 2 or array.dtype.kind != "f" or 0 in array.shape:
        raise VectorsError(f"{path} is not a vectors file: it holds no (n, d) array of floating-point numbers")
    card = read_card(path)
    if card is None:
        card = dict(PUBLISHED) if array.shape[1] == 4096 else {}
        card |= {"failures": [], "digest": None, "file_list_digest": None, "n": array.shape[0], "d": array.shape[1]}
    elif (card.get("n"), card.get("d")) != array.shape:
        raise VectorsError(
            f"{path} holds {array.shape[0]:,} x {array.shape[1]} values, but its card says {card.get('n')} x "
            f"{card.get('d')}: they are of different runs; extract the vectors again with --overwrite"
        )
    return VectorFile(path, array, card)


def read_names(vectors_path: Path, n: int, digest_of_list: str | None) -> list[str]:
    """Return the names of the rows.

    Args:
        vectors_path: the .npy file, which may be missing.
        n: how many rows there are.
        digest_of_list: what the card says of the list; None where there is no card.

    Raises:
        VectorsError: the list is missing or not the one that the vectors were made from.
    """
    path = list_path(vectors_path)
    try:
        names = read_file_list(path)
    except FileNotFoundError:
        raise VectorsError(f"the file list {path} is missing: it names the rows of {vectors_path}") from None
    if len(names) != n:
        raise VectorsError(f"{path} has {len(names):,} names for the {n:,} rows of {vectors_path}: it is another list")
    if digest_of_list is not None and digest(path) != digest_of_list:
        raise VectorsError(
            f"{path} was changed after {vectors_path} was made from it: extract the vectors again with --overwrite"
        )
    return names


@dataclass
class UnfinishedVectors:
    """A vectors file in the making, which survives being killed at any moment.

    Attributes:
        path: the final .npy file; rows are written to `path` + ".part" until `finish`.
        shape: (n, d).
        made_of: what the run depends on; going on with anything else is refused.
        done: how many of the rows to compute are safely on disk, in the order of computing.
        failures: by row, the photos that could not be read: row, name and reason of each.
    """

    path: Path
    shape: tuple[int, int]
    made_of: Card
    done: int = 0
    failures: dict[int, Card] = field(default_factory=dict)
    _file: IO[bytes] = field(init=False)
    _data_at: int = field(init=False)

    @property
    def part(self) -> Path:
        """The file that rows are written to."""
        return self.path.with_name(self.path.name + ".part")

    def open(self, start_anew: bool) -> bool:
        """Go on with what an earlier run left, or begin; return whether it goes on.

        Args:
            start_anew: whether rows left by a run with other options may be thrown away.

        Raises:
            VectorsError: they were made with other options, or there is no room on the disk.
        """
        left = self.part.exists()
        self._file = open(self.part, "rb+" if left else "wb+")  # noqa: SIM115 - open until finish, close or discard
        _lock(self._file, self.part)
        record = read_card(self.part) if left else None
        if record is not None and record["made_of"] != self.made_of:
            if not start_anew:
                raise VectorsError(_differs(self.part, record["made_of"], self.made_of))
            record = None
        if record is None:
            self._begin()
            return False
        self.done = record["done"]
        self.failures = {failure["row"]: failure for failure in record["failures"]}
        self._data_at = self.part.stat().st_size - 4 * self.shape[0] * self.shape[1]
        return True

    def _begin(self) -> None:
        n, d = self.shape
        card_path(self.part).unlink(missing_ok=True)
        self._file.truncate(0)
        header = {"descr": "<f4", "fortran_order": False, "shape": self.shape}
        np.lib.format.write_array_header_1_0(self._file, header)
        self._file.flush()
        self._data_at = self._file.tell()
        try:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(self._file.fileno(), 0, self._data_at + 4 * n * d)
            self._file.truncate(self._data_at + 4 * n * d)
        except OSError as error:
            self.discard()
            raise VectorsError(
                f"{n:,} vectors of {d} numbers need {4 * n * d / 1e6:,.0f} MB in {self.path.parent}, which has no room "
                f"for them ({error.strerror}): free some, or choose another --output_filename"
            ) from error

    def write(self, row: int, vectors: Floats) -> None:
        """Write vectors (b, d) from `row` on."""
        self._file.seek(self._data_at + 4 * row * self.shape[1])
        self._file.write(np.ascontiguousarray(vectors, "<f4").tobytes())

    def checkpoint(self, done: int) -> None:
        """Make what has been written safe, so that a run that is killed goes on from here."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self.done = done
        write_card(self.part, {"made_of": self.made_of, "done": done, "failures": list(self.failures.values())})

    def finish(self, card: Card, names: Sequence[str]) -> None:
        """Give the file its final name, with its list and card."""
        self.checkpoint(self.done)
        self._file.close()
        names_path = self.path.with_name(self.path.name + ".txt")
        write_file_list(names_path, names)
        n, d = self.shape
        made = {"n": n, "d": d, "digest": digest(self.part), "file_list_digest": digest(names_path)}
        write_card(self.path, card | made | {"failures": list(self.failures.values())})
        os.replace(self.part, self.path)
        self.discard()

    def close(self) -> None:
        """Leave the file for a later run to go on with."""
        self._file.close()

    def discard(self) -> None:
        """Remove what has been written."""
        self._file.close()
        self.part.unlink(missing_ok=True)
        card_path(self.part).unlink(missing_ok=True)


def _lock(file: IO[bytes], path: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise VectorsError(f"another run is writing {path}: wait for it, or choose another --output_filename") from None


def _differs(path: Path, left: Card, now: Card) -> str:
    changed = [f"{key} ({left.get(key)}, now {now[key]})" for key in now if left.get(key) != now[key]]
    return (
        f"{path} is an unfinished run made with another {', '.join(changed)}: go on with the same list and options, or "
        "start anew with --overwrite"
    )
