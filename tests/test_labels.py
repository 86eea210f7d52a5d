import json
from pathlib import Path

import numpy as np
import pytest

from similar_images.labels import LabelsError, labels_of

NAMES = ["car/a.jpg", "car/b.jpg", "sea/c.jpg", "d.jpg"]


def test_folders_are_labels() -> None:
    labels = labels_of(NAMES, "folders")
    assert labels is not None and labels.names == ["car", "sea"]
    assert labels.has.tolist() == [[True, False], [True, False], [False, True], [False, False]]
    assert labels.labelled().tolist() == [0, 1], "the only photo of the sea has none to find"
    assert labels.relevant(np.array([0, 3])).tolist() == [[True, True, False, False], [False] * 4]


def test_no_folders_are_no_labels() -> None:
    assert labels_of(["a.jpg", "b.jpg"], "folders") is None


def test_csv_may_give_several_labels(tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_text('car/a.jpg,red\na.jpg,"small, old"\n\nc.jpg,red\nelsewhere.jpg,blue\n')
    labels = labels_of(NAMES, str(tmp_path / "l.csv"))
    assert labels is not None and labels.names == ["red", "small, old"]
    assert labels.has.tolist() == [[True, True], [False, False], [True, False], [False, False]]


def test_coco_annotations_give_the_kinds_of_a_photo(tmp_path: Path) -> None:
    annotations = {
        "images": [{"id": 7, "file_name": "a.jpg"}, {"id": 9, "file_name": "c.jpg"}],
        "categories": [{"id": 1, "name": "dog"}, {"id": 2, "name": "cat"}],
        "annotations": [{"image_id": 7, "category_id": kind} for kind in (1, 1, 2)]
        + [{"image_id": 9, "category_id": 1}],
    }
    (tmp_path / "instances.json").write_text(json.dumps(annotations))
    labels = labels_of(NAMES, str(tmp_path / "instances.json"))
    assert labels is not None and labels.names == ["cat", "dog"]
    assert labels.has.tolist() == [[True, True], [False, False], [False, True], [False, False]]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("missing.csv", None, "can't be read"),
        ("x.csv", "only a name\n", "not a CSV file of a name and a label"),
        ("x.csv", "other.jpg,red\n", "names none of the 4 photos"),
        ("x.json", "[]", "COCO's instance annotations"),
    ],
)
def test_labels_that_do_not_fit_are_a_sentence(tmp_path: Path, name: str, content: str | None, reason: str) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(LabelsError, match=reason):
        labels_of(NAMES, str(tmp_path / name))
