"""What is known of the photos' contents: labels by folder, from a CSV file, or from COCO's annotations."""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from similar_images.photos.file_list import folder_of


class LabelsError(ValueError):
    """Labels can't be read or don't fit; the message says why and what to do."""


class _Image(Struct):
    id: int
    file_name: str


class _Kind(Struct):
    id: int
    name: str


class _Annotation(Struct):
    image_id: int
    category_id: int


class _Instances(Struct):
    """What is read of COCO's instance annotations."""

    images: list[_Image]
    categories: list[_Kind]
    annotations: list[_Annotation]


@dataclass(frozen=True)
class Labels:
    """Labels of photos; a photo may have none, one or several.

    Attributes:
        names: (l,) the labels.
        has: (n, l) bool, which photo has which.
    """

    names: list[str]
    has: NDArray[np.bool_]

    def relevant(self, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return which photos (r, n) share a label with each of rows (r,)."""
        return np.asarray(self.has[rows].astype(np.float32) @ self.has.T.astype(np.float32) > 0)

    def shared(self, row: int | np.int64, others: Sequence[int] | NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return which of others (r,) share a label with a row."""
        return np.asarray((self.has[np.asarray(others, np.int64)] & self.has[row]).any(axis=1))

    def labelled(self) -> NDArray[np.int64]:
        """Return the rows of photos that have a label which another photo has too."""
        shared = self.has & (self.has.sum(axis=0) > 1)
        return np.flatnonzero(shared.any(axis=1))


def labels_of(names: Sequence[str], source: str, rows: NDArray[np.int64] | None = None) -> Labels | None:
    """Return the labels of photos.

    Args:
        names: (n,) the photos' names.
        source: "folders"; a CSV file whose lines hold a name and a label, several lines for several labels; or a JSON
            file with COCO's instance annotations. Names are those of the list, or what follows their last slash; in a
            CSV file they may stand as in file lists.
        rows: (r,) the photos that count, the others have no label; None for all.

    Returns:
        None where no two photos share a label.

    Raises:
        LabelsError: the file is missing, of another kind, or names none of the photos.
    """
    pairs = _of_folders(names) if source == "folders" else _of_file(Path(source))
    by_name = {PurePosixPath(name).name: row for row, name in enumerate(names)} | {
        name: row for row, name in enumerate(names)
    }
    known = [(by_name[name], label) for name, label in pairs if name in by_name]
    if pairs and not known:
        raise LabelsError(f"{source} names none of the {len(names):,} photos, but {pairs[0][0]!r}, say")
    counting = set(range(len(names)) if rows is None else rows.tolist())
    columns = {label: column for column, label in enumerate(sorted({label for row, label in known if row in counting}))}
    has = np.zeros((len(names), len(columns)), np.bool_)
    for row, label in known:
        if row in counting:
            has[row, columns[label]] = True
    found = Labels(list(columns), has)
    return found if len(found.labelled()) else None


def _of_folders(names: Sequence[str]) -> list[tuple[str, str]]:
    folders = [(name, folder_of(name)) for name in names]
    return [(name, folder) for name, folder in folders if folder]


def _of_file(file: Path) -> list[tuple[str, str]]:
    try:
        content = file.read_bytes()
    except OSError as error:
        raise LabelsError(f"the labels {file} can't be read ({error})") from error
    return _of_coco(file, content) if file.suffix == ".json" else _of_csv(file, content)


def _of_csv(file: Path, content: bytes) -> list[tuple[str, str]]:
    text = io.StringIO(content.decode("utf-8-sig", "surrogateescape"), newline="")
    try:
        lines = [(_name(name), label.strip()) for name, label, *_ in filter(None, csv.reader(text))]
    except (csv.Error, ValueError) as error:
        raise LabelsError(f"{file} is not a CSV file of a name and a label per line ({error})") from error
    return [(name, label) for name, label in lines if label]


def _name(cell: str) -> str:
    return str(json.loads(cell)) if cell.startswith('"') else cell


def _of_coco(file: Path, content: bytes) -> list[tuple[str, str]]:
    try:
        known = msgspec.json.decode(content, type=_Instances)
        files = {image.id: image.file_name for image in known.images}
        kinds = {kind.id: kind.name for kind in known.categories}
        return sorted({(files[each.image_id], kinds[each.category_id]) for each in known.annotations})
    except (ValueError, KeyError, RecursionError) as error:
        raise LabelsError(f"{file} does not hold COCO's instance annotations ({error!r})") from error
