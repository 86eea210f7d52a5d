"""The catalogue of a gallery: one row per photo for ever, in SQLite, beside the vectors file.

A row of the catalogue is a row of the vectors file and an id of the index. Rows are only appended: a photo that left
keeps its row and its name, in the state "removed". A finished catalogue is never modified, it is replaced together with
the vectors, so that whoever has it open sees what was there when it was opened.
"""

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any, overload

import numpy as np
from msgspec.structs import astuple
from numpy.typing import NDArray

from similar_images.cards import CardError, CatalogueCard, Failure, VectorsCard, read_card, replacing_with_card
from similar_images.files import BusyError, beside, catalogue_path, is_at, is_unchanged, locked, part_of
from similar_images.locks import READING
from similar_images.photos.file_list import folder_of
from similar_images.store.base import Among
from similar_images.store.facts import Facts, State
from similar_images.store.vectors import read_names

Ids = NDArray[np.int64]
Rows = NDArray[np.bool_]

REMOVED = "removed"
ROWS_PER_STATEMENT = 500  # rows that one statement names
ROWS_PER_READ = 50_000
SCHEMA = """
CREATE TABLE photos (
    row INTEGER PRIMARY KEY, name TEXT NOT NULL, id TEXT, size INTEGER, mtime_ns INTEGER, digest TEXT, width INTEGER,
    height INTEGER, taken TEXT, camera TEXT, latitude REAL, longitude REAL, label TEXT NOT NULL, state TEXT NOT NULL,
    reason TEXT NOT NULL
);
CREATE TABLE notes (key TEXT PRIMARY KEY, value TEXT NOT NULL);
"""
INDEXES = """
CREATE INDEX IF NOT EXISTS by_name ON photos (name);
CREATE INDEX IF NOT EXISTS by_id ON photos (id) WHERE id IS NOT NULL;
CREATE INDEX IF NOT EXISTS by_label ON photos (label) WHERE state = 'present';
CREATE INDEX IF NOT EXISTS absent ON photos (row) WHERE state <> 'present';
"""
COLUMNS = Facts.__struct_fields__
# They may hold bytes that are no UTF-8, which SQLite takes as bytes only.
USER_TEXT_COLUMNS = {"name", "id", "label", "reason"}
VALUES = ", ".join("CAST(? AS TEXT)" if column in USER_TEXT_COLUMNS else "?" for column in COLUMNS)
INSERT = f"INSERT OR REPLACE INTO photos ({', '.join(COLUMNS)}) VALUES ({VALUES})"
SELECT = f"SELECT {', '.join(COLUMNS)} FROM photos"


class CatalogueError(ValueError):
    """A catalogue can't be used; the message says why."""


class Catalogue:
    """An opened catalogue, for any number of threads.

    Attributes:
        path: the file; a catalogue in memory has none there.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        """Take what `connected` has opened."""
        self.path = path
        self._connection = connection
        connection.text_factory = partial(str, encoding="utf-8", errors="surrogateescape")

    @classmethod
    def of_vectors(cls, vectors_path: Path, card: VectorsCard) -> "Catalogue":
        """Open the catalogue of a vectors file that a card describes; the file itself may be missing.

        A catalogue that is missing, damaged, or of other vectors is made from the list and from what the card says of
        failures; in memory where it can't be written, or where the card describes another one, which knew more.

        Raises:
            VectorsError: there is no list to make it from.
        """
        path = catalogue_path(vectors_path)
        with contextlib.suppress(OSError, sqlite3.Error, CardError, CatalogueError):
            return cls._finished(path, card)
        photos = list(_exported(read_names(vectors_path, card.n, card.file_list_digest), card.failures))
        with contextlib.suppress(OSError, sqlite3.Error, BusyError, CatalogueError):
            is_its_own = card.catalogue_digest is None and not part_of(path).exists()  # no run goes on with that
            if is_its_own:
                own = CatalogueCard(vectors_digest=card.digest)
                with locked(vectors_path), replacing_with_card(path, own) as part:
                    making = cls.create(part)
                    making.write(photos)
                    making.finish()
                return cls._finished(path, card)
        in_memory = cls(path, sqlite3.connect(":memory:", check_same_thread=False))
        in_memory._connection.executescript(SCHEMA + INDEXES)
        in_memory.write(photos)
        return in_memory

    @classmethod
    def _finished(cls, path: Path, card: VectorsCard) -> "Catalogue":
        own = None if card.catalogue_digest else read_card(path, CatalogueCard)
        known = own.digest if own and own.vectors_digest == card.digest else card.catalogue_digest
        with open(path, "rb") as file:
            if not known or not is_unchanged(file, known):
                raise CatalogueError(f"{path} was damaged, or is of other vectors")
            catalogue = cls(path, _connected(path, "mode=ro&immutable=1"))
            if not is_at(file, path):
                raise CatalogueError(f"{path} was replaced while it was opened")
        if len(catalogue) != card.n:
            raise CatalogueError(f"{path} has {len(catalogue):,} rows, the vectors {card.n:,}")
        return catalogue

    @classmethod
    def create(cls, path: Path) -> "Catalogue":
        """Make an empty catalogue to write to; what `path` held is gone."""
        cls.remove(path)
        catalogue = cls.resume(path)
        catalogue._connection.executescript(SCHEMA)
        return catalogue

    @staticmethod
    def remove(path: Path) -> None:
        """Remove a catalogue in the making, with what SQLite keeps beside it."""
        for file in (path, beside(path, "-wal"), beside(path, "-shm")):
            file.unlink(missing_ok=True)

    @classmethod
    def resume(cls, path: Path) -> "Catalogue":
        """Open a catalogue in the making, as its last transaction has left it."""
        connection = _connected(path, "mode=rwc")
        connection.execute("PRAGMA journal_mode=WAL")
        return cls(path, connection)

    def __len__(self) -> int:
        """Return how many rows there are, in any state."""
        return int(self._selected("SELECT COALESCE(MAX(row) + 1, 0) FROM photos")[0][0])

    def facts(self, rows: Sequence[int] | Ids) -> list[Facts]:
        """Return what is known of the photos of rows (r,), in their order.

        Raises:
            CatalogueError: there is no such row.
        """
        wanted = [int(row) for row in rows]
        found: dict[int, Facts] = {}
        for start in range(0, len(wanted), ROWS_PER_STATEMENT):
            some = wanted[start : start + ROWS_PER_STATEMENT]
            lines = self._selected(f"{SELECT} WHERE row IN ({', '.join('?' * len(some))})", some)
            found |= {line[0]: Facts(*line) for line in lines}
        if missing := set(wanted) - found.keys():
            raise CatalogueError(f"there is no photo {min(missing)}: the gallery has 0 to {len(self) - 1}")
        return [found[row] for row in wanted]

    @property
    def names(self) -> "Names":
        """The names of all photos, by row."""
        return Names(self)

    def all(self) -> Iterator[Facts]:
        """Yield what is known of every photo, by row."""
        for start in range(0, len(self), ROWS_PER_READ):
            part = (start, start + ROWS_PER_READ - 1)
            yield from (Facts(*line) for line in self._selected(f"{SELECT} WHERE row BETWEEN ? AND ?", part))

    def row_of(self, name: str) -> int | None:
        """Return the first row of a name that is not removed, None for no such photo."""
        return self._row("SELECT MIN(row) FROM photos WHERE name = CAST(? AS TEXT) AND state <> 'removed'", name)

    def row_of_id(self, id: str) -> int | None:
        """Return the row of the photo that its owner calls so, None for no such photo."""
        return self._row("SELECT MIN(row) FROM photos WHERE id = CAST(? AS TEXT) AND state <> 'removed'", id)

    def _row(self, query: str, name: str) -> int | None:
        row: int | None = self._selected(query, [os.fsencode(name)])[0][0]
        return row

    @cached_property
    def absent(self) -> Ids:
        """The rows (a,) int64 of what can't be found, ascending; not to be modified."""
        return self._rows("SELECT row FROM photos WHERE state <> 'present' ORDER BY row")

    def labels(self) -> dict[str, int]:
        """Return how many photos can be found by label, sorted by it."""
        return dict(self._selected("SELECT label, COUNT(*) FROM photos WHERE state = 'present' GROUP BY label"))

    def matching(self, among: Among) -> Rows:
        """Return which rows (n,) bool have a photo that may be found."""
        conditions, values = ["state = 'present'"], list[Any]()
        if among.labels is not None:
            conditions.append(f"label IN ({', '.join(['CAST(? AS TEXT)'] * len(among.labels))})")
            values += map(os.fsencode, among.labels)
        if among.taken is not None:
            first, last = among.taken
            conditions.append("taken >= ? AND substr(taken, 1, length(?)) <= ?")
            values += [first, last, last]
        if among.folder is not None or among.pattern.strip():
            conditions.append("fits(CAST(name AS BLOB))")
        fits = among.name_fits()
        matching = np.zeros(len(self), np.bool_)
        matching[self._rows(f"SELECT row FROM photos WHERE {' AND '.join(conditions)}", values, fits)] = True
        rows = np.arange(len(matching))
        if among.rows is not None:
            matching &= np.isin(rows, among.rows)
        if among.without:
            matching &= ~np.isin(rows, among.without)
        return matching

    def note(self, key: str) -> str | None:
        """Return what `write` has noted under a key, None for nothing."""
        found = self._selected("SELECT value FROM notes WHERE key = ?", [key])
        return str(found[0][0]) if found else None

    def write(self, photos: Iterable[Facts], **notes: str) -> None:
        """Write what is known of photos, by their rows, and notes, in one transaction."""
        lines = map(_line, photos)
        with READING, self._connection as transaction:
            transaction.executemany(INSERT, lines)
            transaction.executemany("INSERT OR REPLACE INTO notes VALUES (?, ?)", notes.items())

    def finish(self) -> None:
        """Close what was written, as one file that can be moved, and read where nothing can be written."""
        self._connection.executescript(INDEXES)
        self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._connection.close()

    def close(self) -> None:
        """Close the catalogue."""
        self._connection.close()

    def _selected(self, query: str, values: Iterable[Any] = ()) -> list[tuple[Any, ...]]:
        with READING:
            return self._connection.execute(query, tuple(values)).fetchall()

    def _rows(self, query: str, values: Iterable[Any] = (), fits: Callable[[str], bool] | None = None) -> Ids:
        with READING:
            if fits:  # whose names come as bytes, since Python's text can't be any
                self._connection.create_function("fits", 1, lambda name: fits(os.fsdecode(name)), deterministic=True)
            return np.fromiter((row for (row,) in self._connection.execute(query, tuple(values))), np.int64)


class Names(Sequence[str]):
    """The names of a catalogue's photos, by row, read as they are asked for."""

    def __init__(self, catalogue: Catalogue) -> None:
        """Take the catalogue."""
        self._catalogue = catalogue

    def __len__(self) -> int:
        """Return how many rows there are."""
        return len(self._catalogue)

    @overload
    def __getitem__(self, at: int) -> str: ...
    @overload
    def __getitem__(self, at: slice) -> list[str]: ...
    def __getitem__(self, at: int | slice) -> str | list[str]:
        """Return the name of a row, or those of several."""
        rows = range(len(self))[at]
        if isinstance(rows, int):
            return self._catalogue.facts([rows])[0].name
        return [photo.name for photo in self._catalogue.facts(rows)]

    def __iter__(self) -> Iterator[str]:
        """Yield all names."""
        return (photo.name for photo in self._catalogue.all())


def _exported(names: Sequence[str], failures: Sequence[Failure]) -> Iterator[Facts]:
    """Yield what a list and the failures on a card tell of photos."""
    reasons = {failure.row: failure.reason for failure in failures}
    for row, name in enumerate(names):
        reason = reasons.get(row, "")
        state: State = "removed" if reason == REMOVED else "unreadable" if reason else "present"
        yield Facts(row, name, label=folder_of(name), state=state, reason=reason)


def _line(photo: Facts) -> Sequence[Any]:
    """Return what is known of a photo as SQLite takes it."""
    values: tuple[Any, ...] = astuple(photo)
    if photo.name.isascii() and photo.label.isascii() and photo.reason.isascii() and (photo.id or "").isascii():
        return values
    return [
        os.fsencode(value) if column in USER_TEXT_COLUMNS and value is not None else value
        for column, value in zip(COLUMNS, values, strict=True)
    ]


def _connected(path: Path, how: str) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?{how}", uri=True, check_same_thread=False)
