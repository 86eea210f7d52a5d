"""Vectors in the making: NAME.saved_predictions.npy.part, next to a record of how far they are good.

A run that is killed at any moment goes on from the last checkpoint, and a finished file appears with its list and card,
or not at all.
"""

import contextlib
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from similar_images.cards import CardError, Failure, UnfinishedCard, VectorsCard, commit, read_card, write_card
from similar_images.files import card_path, digest, names_path, part_of, readable_size
from similar_images.photos.file_list import write_file_list
from similar_images.store.vectors import VectorsError


@dataclass
class UnfinishedVectors:
    """A vectors file in the making; whoever makes it holds the lock on `path`.

    Attributes:
        path: the final .npy file; rows are written to `path` + ".part" until `finish`.
        shape: (n, d).
        made_of: what the run depends on, in JSON's own types; going on with anything else is refused.
        done: how many of the rows to compute are safely on disk, in the order of computing.
        failures: by row, the photos that could not be read.
    """

    path: Path
    shape: tuple[int, int]
    made_of: dict[str, Any]
    done: int = 0
    failures: dict[int, Failure] = field(default_factory=dict)
    _file: IO[bytes] = field(init=False)

    def __post_init__(self) -> None:
        """Prepare the file's header."""
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": self.shape})
        self._header = header.getvalue()
        self._bytes = len(self._header) + 4 * self.shape[0] * self.shape[1]
        self._part = part_of(self.path)

    def open(self, start_anew: bool) -> bool:
        """Go on with what an earlier run left, or begin; return whether it goes on.

        Args:
            start_anew: whether rows left by a run with other options may be thrown away.

        Raises:
            VectorsError: they were made with other options, or there is no room on the disk.
        """
        left = self._left()
        if left and left.made_of != self.made_of and not start_anew:
            raise VectorsError(_differs(self._part, left.made_of, self.made_of))
        if left is None or left.made_of != self.made_of or self._part.stat().st_size != self._bytes:
            self._begin()
            return False
        self._file = open(self._part, "rb+")  # noqa: SIM115 - open until finish, close or discard
        self.done = left.done
        self.failures = {failure.row: failure for failure in left.failures}
        return True

    def _left(self) -> UnfinishedCard | None:
        """Return how far an earlier run got; None where it left nothing that one can go on with."""
        with contextlib.suppress(CardError):  # a damaged record vouches for nothing
            return read_card(self._part, UnfinishedCard) if self._part.exists() else None
        return None

    def _begin(self) -> None:
        card_path(self._part).unlink(missing_ok=True)
        self._file = open(self._part, "wb+")  # noqa: SIM115 - open until finish, close or discard
        try:
            self._file.write(self._header)
            self._file.flush()
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(self._file.fileno(), 0, self._bytes)
            self._file.truncate(self._bytes)
        except OSError as error:
            self.discard()
            n, d = self.shape
            raise VectorsError(
                f"{n:,} vectors of dimension {d} need {readable_size(self._bytes)} in {self.path.parent}, which has no "
                f"room for them ({error.strerror}): free some, or choose another --output_filename"
            ) from error

    def write(self, row: int, vectors: NDArray[np.float32]) -> None:
        """Write vectors (b, d) from `row` on."""
        self._file.seek(len(self._header) + 4 * row * self.shape[1])
        self._file.write(np.ascontiguousarray(vectors, "<f4").tobytes())

    def checkpoint(self, done: int) -> None:
        """Make what has been written safe, so that a run that is killed goes on from here."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self.done = done
        write_card(self._part, UnfinishedCard(made_of=self.made_of, done=done, failures=list(self.failures.values())))

    def finish(self, card: VectorsCard, names: Sequence[str]) -> None:
        """Give the file its final name, with its list and card, whose digests and failures are filled in."""
        self.checkpoint(self.done)
        self._file.close()
        names_part = part_of(names_path(self.path))
        write_file_list(names_part, names)
        card.file_list_digest, card.failures = digest(names_part), list(self.failures.values())
        commit(self.path, card)

    def close(self) -> None:
        """Leave the file for a later run to go on with."""
        self._file.close()

    def discard(self) -> None:
        """Remove what has been written."""
        self._file.close()
        self._part.unlink(missing_ok=True)
        card_path(self._part).unlink(missing_ok=True)


def _differs(path: Path, left: dict[str, Any], now: dict[str, Any]) -> str:
    changed = [f"{key} ({left.get(key)}, now {now[key]})" for key in now if left.get(key) != now[key]]
    return (
        f"{path} is an unfinished run made with another {', '.join(changed)}: go on with the same list and options, or "
        "start anew with --overwrite"
    )
