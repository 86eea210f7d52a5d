"""Vectors on disk: NAME.saved_predictions.npy, with its card (.json) and its file list (.txt) beside it.

Row i of the file belongs to line i of the list; a photo that could not be read has a row of zeros.
"""

import contextlib
import hashlib
import mmap
import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import IO, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from similar_images.cards import CardError, VectorsCard, read_card
from similar_images.files import (
    VECTORS_SUFFIX,
    BusyError,
    digest,
    is_at,
    is_half_in_place,
    is_unchanged,
    mend,
    names_path,
    note_digest,
)
from similar_images.photos.file_list import parse_file_list

Floats = NDArray[np.float32]

SUFFIX = VECTORS_SUFFIX
CHUNK_BYTES = 64 << 20
SAMPLE_BYTES = 16 << 20
CACHE_BYTES = 1 << 20  # what stays in a core's cache from one step of a calculation to the next
MAPPED_BYTES = 1 << 30
SMALLEST_SQUARE = 1e-30  # of a length; the squares of smaller components lose digits in float32

# What a vectors file without a card is taken for, where its vectors are 4096 long: those published for COCO val2014.
PUBLISHED: dict[str, Any] = {
    "encoder": "vgg16",
    "layer": "fc2",
    "weights": "imagenet",
    "resize": "keras",
    "size": (224, 224),
    "img_dir": "ms_coco/val2014",
}


class VectorsError(ValueError):
    """A vectors file can't be used or written; the message says why and what to do."""


@dataclass(frozen=True)
class VectorFile:
    """An opened vectors file.

    Attributes:
        path: the .npy file.
        array: (n, d) floating point, memory-mapped and read-only; it stays the same when another file takes the name.
        card: what made it; without a card file, `PUBLISHED` for 4096-d vectors, else an unknown encoder.
        file: the opened file.
        is_mapped: whether rows come by the memory map, which soon keeps the whole file in memory, or are read, which
            takes twice as long.
    """

    path: Path
    array: np.memmap[Any, np.dtype[np.float32]]
    card: VectorsCard
    file: IO[bytes]
    is_mapped: bool

    def described(self) -> VectorsCard:
        """Return the card with the digests of file and list, which vectors that came without a card lack."""
        if self.card.digest:
            return self.card
        card = msgspec.structs.replace(self.card, digest=digest(self.file))
        note_digest(self.file, str(card.digest))
        with contextlib.suppress(FileNotFoundError):
            card.file_list_digest = digest(list_path(self.path))
        return card

    def is_described_by(self, card: VectorsCard) -> bool:
        """Tell whether a card, say that of an index, is of this very file."""
        if self.card.digest or card.digest is None:
            return self.card.digest == card.digest
        return is_unchanged(self.file, card.digest)

    def gathered(self, rows: NDArray[np.int64]) -> Iterator[tuple[slice, Floats]]:
        """Yield which of rows (n,) and copies (r, d) float32 of them, few enough to stay in the processor's cache."""
        at_a_time = self._rows_in(CACHE_BYTES)
        for start in range(0, len(rows), at_a_time):
            some = slice(start, start + at_a_time)
            block = self.array[rows[some]] if self.is_mapped else self._read(rows[some])
            yield some, np.asarray(block, np.float32)

    def _read(self, rows: NDArray[np.int64]) -> NDArray[np.floating]:
        """Return rows (n,) without mapping them: Linux maps up to 2 MB around each, soon the whole file."""
        if not self.array.flags.c_contiguous:
            return self.array[rows]
        block = np.empty((len(rows), self.array.shape[1]), self.array.dtype)
        starts = self.array.offset + rows * block.strides[0]
        if sum(map(os.preadv, repeat(self.file.fileno()), block[:, None], starts.tolist())) != block.nbytes:
            raise VectorsError(f"{self.path} was cut short while it was open: extract the vectors again")
        return block

    def _unmap(self) -> None:
        """Unmap what was read."""
        mapped = self.array.base
        if isinstance(mapped, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
            mapped.madvise(mmap.MADV_DONTNEED)  # the system's cache keeps the pages

    def sample(self, rows: NDArray[np.int64]) -> Iterator[Floats]:
        """Yield rows (s,), given in ascending order, L2-normalised in copies of about 16 MB; rows of zeros left out."""
        at_a_time = self._rows_in(SAMPLE_BYTES)
        for start in range(0, len(rows), at_a_time):
            block = self.array[rows[start : start + at_a_time]]
            self._unmap()
            yield normalise(block[block.any(axis=1)])

    def _rows_in(self, size: int) -> int:
        d: int = self.array.shape[1]
        return max(1, size // (4 * d))

    def chunks(self, first: int = 0) -> Iterator[tuple[int, Floats]]:
        """Yield (first row, rows) in order, each a copy of about 64 MB whose pages don't stay mapped.

        Args:
            first: the row to begin with.
        """
        rows = self._rows_in(CHUNK_BYTES)
        for start in range(first, len(self.array), rows):
            chunk = np.array(self.array[start : start + rows], np.float32)
            self._unmap()
            yield start, chunk


def normalise(vectors: NDArray[np.floating]) -> Floats:
    """Return a float32 copy with rows of length 1, whatever their scale; rows of zeros stay zero.

    Args:
        vectors: (n, d) of any floating-point type, not modified.
    """
    with np.errstate(over="ignore"):
        normalised = np.array(vectors, np.float32, order="C")
        squares = np.vecdot(normalised, normalised)
    extreme = is_extreme(squares)
    if extreme.any():
        largest = np.abs(normalised[extreme]).max(axis=1, keepdims=True)
        normalised[extreme] /= np.where(largest == 0, 1, largest)
        squares[extreme] = np.vecdot(normalised[extreme], normalised[extreme])
    normalised /= np.sqrt(np.where(squares == 0, 1, squares))[:, None]
    return normalised


def is_extreme(squares: Floats) -> NDArray[np.bool_]:
    """Tell which squared lengths float32 can't hold, or not the squares they are the sums of; 0 is one of them."""
    return ~((squares > SMALLEST_SQUARE) & (squares < np.inf))


def list_path(vectors_path: Path) -> Path:
    """Return where the names of the rows lie.

    Beside the vectors with `.txt` added, as extraction writes it; for vectors that came without one, the list that
    they were named after.
    """
    own = names_path(vectors_path)
    named_after = vectors_path.with_name(vectors_path.name.removesuffix(SUFFIX))
    return named_after if not own.exists() and named_after != vectors_path and named_after.is_file() else own


def open_vectors(path: Path) -> VectorFile:
    """Open a vectors file through a memory map.

    Raises:
        VectorsError: it is missing, no array of vectors, or not the one that its card describes.
    """
    try:
        mend(path)
        file = open(path, "rb")  # noqa: SIM115 - open as long as the vectors are
        card = read_card(path, VectorsCard)
        array = _mapped(file)
    except FileNotFoundError:
        raise VectorsError(f"there is no vectors file {path}: extract_image_vectors.py makes it") from None
    except (BusyError, CardError) as error:
        raise VectorsError(str(error)) from error
    except Exception as error:  # NumPy raises anything, from EOFError to tokenize.TokenError, on damaged files
        raise VectorsError(f"{path} is not a vectors file: it is no whole .npy array ({error})") from error
    if array.ndim != 2 or array.dtype.kind != "f" or 0 in array.shape:
        raise VectorsError(f"{path} is not a vectors file: it holds no (n, d) array of floating-point numbers")
    problem = _problem(file, array, card) if card else None
    if problem and (is_half_in_place(path) or not is_at(file, path)):
        return open_vectors(path)  # it was replaced meanwhile
    if problem:
        raise VectorsError(f"{path} {problem}: extract the vectors again with --overwrite")
    return VectorFile(path, array, card or _published(*array.shape), file, array.nbytes <= MAPPED_BYTES)


def _mapped(file: IO[bytes]) -> np.memmap[Any, Any]:
    """Return the array of an opened .npy file through a memory map."""
    headers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    shape, is_fortran, dtype = headers[np.lib.format.read_magic(file)](file)
    return np.memmap(file, dtype, "r", file.tell(), shape, "F" if is_fortran else "C")


def _problem(file: IO[bytes], array: NDArray[Any], card: VectorsCard) -> str | None:
    """Return why a file is not the one that a card describes, None where it is."""
    if (card.n, card.d) != array.shape:
        n, d = array.shape
        return f"holds {n:,} x {d} values, but its card says {card.n} x {card.d}: they are of different runs"
    if card.digest and not is_unchanged(file, card.digest):
        return "is not the file that its card describes: it was damaged, or replaced by another"
    return None


def _published(n: int, d: int) -> VectorsCard:
    return VectorsCard(n=n, d=d, **(PUBLISHED if d == 4096 else {}))


def read_names(vectors_path: Path, n: int, digest_of_list: str | None) -> list[str]:
    """Return the names of the rows.

    Args:
        vectors_path: the .npy file, which may be missing.
        n: how many rows there are.
        digest_of_list: what the card says of the list; None where there is no card.

    Raises:
        VectorsError: the list is missing, damaged, or not the one that the vectors were made from.
    """
    path = list_path(vectors_path)
    try:
        content = path.read_bytes()
        names = parse_file_list(content, path)
    except FileNotFoundError:
        raise VectorsError(f"the file list {path} is missing: it names the rows of {vectors_path}") from None
    except (OSError, ValueError) as error:
        raise VectorsError(f"the file list {path} can't be read ({error})") from error
    if len(names) != n:
        raise VectorsError(f"{path} has {len(names):,} names for the {n:,} rows of {vectors_path}: it is another list")
    if digest_of_list is not None and hashlib.sha256(content).hexdigest() != digest_of_list:
        raise VectorsError(
            f"{path} was changed after {vectors_path} was made from it: extract the vectors again with --overwrite"
        )
    return names
