"""Vectors in the making: NAME.saved_predictions.npy.part, beside the catalogue of how far they are good.

A run that is killed at any moment goes on from the last checkpoint, and a finished file appears with its list,
catalogue and card, or not at all.
"""

import contextlib
import io
import json
import os
import sqlite3
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from similar_images.cards import Failure, VectorsCard, commit
from similar_images.files import card_path, catalogue_path, digest, names_path, part_of, readable_size, sealed
from similar_images.photos.file_list import write_file_list
from similar_images.store.catalogue import Catalogue
from similar_images.store.facts import Facts
from similar_images.store.vectors import VectorFile, VectorsError


class Left(NamedTuple):
    """What an unfinished run left.

    Attributes:
        made_of: what it depended on.
        done: how many of the rows to compute are safely on disk, in the order of computing.
    """

    made_of: dict[str, Any]
    done: int


@dataclass
class UnfinishedVectors:
    """A vectors file in the making; whoever makes it holds the lock on `path`.

    Attributes:
        path: the final .npy file; rows are written to `path` + ".part" until `finish`.
        shape: (n, d).
        made_of: what the run depends on, in JSON's own types; going on with anything else is refused. A run that
            depends on nothing is never gone on with.
        done: how many of the rows to compute are safely on disk, in the order of computing.
        catalogue: what is known of the photos so far.
    """

    path: Path
    shape: tuple[int, int]
    made_of: dict[str, Any]
    done: int = 0
    catalogue: Catalogue = field(init=False)
    _file: IO[bytes] = field(init=False)

    def __post_init__(self) -> None:
        """Prepare the file's header."""
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": self.shape})
        self._header = header.getvalue()
        self._bytes = len(self._header) + 4 * self.shape[0] * self.shape[1]
        self._part, self._catalogue_part = part_of(self.path), part_of(catalogue_path(self.path))

    def open(self, disposable: Collection[str] = ()) -> bool:
        """Go on with what an earlier run left, or begin; return whether it goes on.

        Args:
            disposable: what that run may have been made of otherwise; its rows are then thrown away.

        Raises:
            VectorsError: they were made with other options, or there is no room on the disk.
        """
        left = self._left(disposable)
        if left is None or left.made_of != self.made_of or self._part.stat().st_size != self._bytes:
            self._begin()
            return False
        self._file = open(self._part, "rb+")  # noqa: SIM115 - open until finish, close or discard
        self.catalogue = Catalogue.resume(self._catalogue_part)
        self.done = left.done
        return True

    def _left(self, disposable: Collection[str]) -> Left | None:
        left = left_by(self.path)
        differs = [key for key in self.made_of if left and left.made_of.get(key) != self.made_of[key]]
        if left and not set(differs) <= set(disposable):
            raise VectorsError(_differs(self._part, differs, left.made_of, self.made_of))
        return left

    def _begin(self) -> None:
        Catalogue.remove(self._catalogue_part)  # first, so that it doesn't vouch for rows that are not there
        self._file = open(self._part, "wb+")  # noqa: SIM115 - open until finish, close or discard
        try:
            self._file.write(self._header)
            self._file.flush()
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(self._file.fileno(), 0, self._bytes)
            self._file.truncate(self._bytes)
        except OSError as error:
            self._file.close()
            self._part.unlink()
            n, d = self.shape
            raise VectorsError(
                f"{n:,} vectors of dimension {d} need {readable_size(self._bytes)} in {self.path.parent}, which has no "
                f"room for them ({error.strerror}): free some, or choose another --output_filename"
            ) from error
        self.catalogue = Catalogue.create(self._catalogue_part)

    def write(self, row: int, vectors: NDArray[np.float32]) -> None:
        """Write vectors (b, d) from `row` on."""
        self._file.seek(len(self._header) + 4 * row * self.shape[1])
        self._file.write(np.ascontiguousarray(vectors, "<f4").data)

    def take_over(self, old: VectorFile, photos: Sequence[Facts]) -> None:
        """Write the vectors of an earlier state, zeros where there is no photo any more.

        Args:
            old: the earlier state.
            photos: what is known of the photos of its rows now.
        """
        absent = np.array([photo.state != "present" for photo in photos])
        for start, vectors in old.chunks():
            vectors[absent[start : start + len(vectors)]] = 0
            self.write(start, vectors)
        self.checkpoint(0, photos)

    def checkpoint(self, done: int, photos: Iterable[Facts]) -> None:
        """Make what has been written safe, so that a run that is killed goes on from here.

        Args:
            done: how many of the rows to compute have been written.
            photos: what is known of the photos of rows that have been written since the last time.
        """
        self._file.flush()
        os.fsync(self._file.fileno())
        self.done = done
        self.catalogue.write(photos, made_of=json.dumps(self.made_of), done=str(done))

    def finish(self, card: VectorsCard) -> None:
        """Give the file its final name, with list, catalogue and card, whose digests and failures are filled in."""
        self._file.close()
        self._commit(card)

    def keep_vectors(self, photos: Iterable[Facts], card: VectorsCard, disposable: Collection[str]) -> None:
        """Write anew what is known of the photos, beside vectors that stay as they are; see `open` and `finish`."""
        self._left(disposable)
        self._part.unlink(missing_ok=True)
        self.catalogue = Catalogue.create(self._catalogue_part)
        self.catalogue.write(photos)
        self._commit(card)

    def _commit(self, card: VectorsCard) -> None:
        photos = list(self.catalogue.all())
        assert len(photos) == self.shape[0]
        self.catalogue.finish()
        write_file_list(part_of(names_path(self.path)), (photo.name for photo in photos))
        card.failures = [
            Failure(row=photo.row, name=photo.name, reason=photo.reason) for photo in photos if photo.reason
        ]
        card.file_list_digest = digest(part_of(names_path(self.path)))
        card.catalogue_digest = sealed(self._catalogue_part)
        commit(self.path, card)
        card_path(catalogue_path(self.path)).unlink(missing_ok=True)  # of one that was made from the list

    def close(self) -> None:
        """Leave the file for a later run to go on with."""
        self._file.close()
        self.catalogue.close()

    def discard(self) -> None:
        """Remove what has been written."""
        self.close()
        self._part.unlink(missing_ok=True)
        Catalogue.remove(self._catalogue_part)


def left_by(path: Path) -> Left | None:
    """Return what an unfinished run of a vectors file left, None where that is nothing that one can go on with."""
    catalogue = part_of(catalogue_path(path))
    if not (part_of(path).exists() and catalogue.exists()):
        return None
    with contextlib.suppress(sqlite3.Error, ValueError), contextlib.closing(Catalogue.resume(catalogue)) as made:
        made_of, done = made.note("made_of"), made.note("done")
        return Left(json.loads(made_of), int(done)) if made_of not in (None, "{}") and done else None
    return None  # a damaged record vouches for nothing


def _differs(path: Path, differs: Sequence[str], left: dict[str, Any], now: dict[str, Any]) -> str:
    changed = [f"{key} ({left.get(key)}, now {now[key]})" for key in differs]
    return (
        f"{path} is an unfinished run made with another {', '.join(changed)}: go on with the same list and options, or "
        "start anew with --overwrite"
    )
