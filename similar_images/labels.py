"""What is known of the photos' contents: labels by folder, from a CSV file, or from COCO's annotations."""

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from similar_images.filters import folder_of


class LabelsError(ValueError):
    """Labels can't be read or don't fit; the message says why and what to do."""


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

    def labelled(self) -> NDArray[np.int64]:
        """Return the rows of photos that have a label which another photo has too."""
        shared = self.has & (self.has.sum(axis=0) > 1)
        return np.flatnonzero(shared.any(axis=1))


def labels_of(names: Sequence[str], source: str) -> Labels | None:
    """Return the labels of photos.

    Args:
        names: (n,) the photos' names.
        source: "folders"; a CSV file whose lines hold a name and a label, several lines for several labels; or a JSON
            file with COCO's instance annotations. Names are those of the list, or the last part of these.

    Returns:
        None where no two photos share a label.

    Raises:
        LabelsError: the file is missing, of another kind, or names none of the photos.
    """
    pairs = _of_folders(names) if source == "folders" else _of_file(Path(source))
    rows = {PurePosixPath(name).name: row for row, name in enumerate(names)} | {
        name: row for row, name in enumerate(names)
    }
    known = [(rows[name], label) for name, label in pairs if name in rows]
    if pairs and not known:
        raise LabelsError(f"{source} names none of the {len(names):,} photos, but {pairs[0][0]!r}, say")
    labels = sorted({label for _, label in known})
    has = np.zeros((len(names), len(labels)), np.bool_)
    for row, label in known:
        has[row, labels.index(label)] = True
    found = Labels(labels, has)
    return found if len(found.labelled()) else None


def _of_folders(names: Sequence[str]) -> list[tuple[str, str]]:
    folders = [(name, folder_of(name)) for name in names]
    return [(name, folder) for name, folder in folders if folder]


def _of_file(file: Path) -> list[tuple[str, str]]:
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise LabelsError(f"the labels {file} can't be read ({error})") from error
    if file.suffix == ".json":
        return _of_coco(file, text)
    lines = [line for line in csv.reader(text.splitlines()) if line]
    if any(len(line) < 2 for line in lines):
        raise LabelsError(f"{file} is not a CSV file of a name and a label a line")
    return [(line[0], line[1].strip()) for line in lines]


def _of_coco(file: Path, text: str) -> list[tuple[str, str]]:
    try:
        annotations = json.loads(text)
        files = {image["id"]: image["file_name"] for image in annotations["images"]}
        kinds = {kind["id"]: kind["name"] for kind in annotations["categories"]}
        return sorted({(files[each["image_id"]], kinds[each["category_id"]]) for each in annotations["annotations"]})
    except (ValueError, KeyError, TypeError) as error:
        raise LabelsError(f"{file} does not hold COCO's instance annotations ({error!r})") from error
