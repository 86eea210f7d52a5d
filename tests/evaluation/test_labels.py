import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest

from similar_images.evaluation.labels import LabelsError, labels_of

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
        ("x.csv", "a\0b", "not a CSV file of a name and a label"),
        ("x.csv", '"never closed' + 200_000 * "x", "not a CSV file of a name and a label"),
        ("x.csv", '"""no JSON",red', "not a CSV file of a name and a label"),
        ("x.json", "[]", "COCO's instance annotations"),
        ("x.json", "", "COCO's instance annotations"),
        ("x.json", "[" * 100_000, "COCO's instance annotations"),
        ("x.json", '{"images": [], "categories": []}', "COCO's instance annotations"),
        (
            "x.json",
            '{"images": [{"id": 1, "file_name": "a.jpg"}], "categories": [{"id": 1, "name": 5}], "annotations": []}',
            "COCO's instance annotations",
        ),
    ],
)
def test_labels_that_do_not_fit_are_a_sentence(tmp_path: Path, name: str, content: str | None, reason: str) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(LabelsError, match=reason):
        labels_of(NAMES, str(tmp_path / name))


def test_csv_takes_names_as_bytes_or_as_file_lists_have_them(tmp_path: Path) -> None:
    odd = [os.fsdecode(b"caf\xe9.jpg"), "two\nlines.jpg", "next\x85line.jpg", "plain.jpg"]
    lines = [b"caf\xe9.jpg,r\xe9d", b'"two\nlines.jpg",r\xe9d', "next\x85line.jpg,blue".encode(), b"plain.jpg,"]
    (tmp_path / "l.csv").write_bytes(b"\xef\xbb\xbf" + b"\r\n".join(lines))
    labels = labels_of(odd, str(tmp_path / "l.csv"))
    assert labels is not None and labels.names == ["blue", os.fsdecode(b"r\xe9d")]
    assert labels.has.tolist() == [[False, True], [False, True], [True, False], [False, False]]
    with open(tmp_path / "l.csv", "w", encoding="ascii", newline="") as file:
        csv.writer(file).writerows([json.dumps(name), "red"] for name in odd)
    labels = labels_of(odd, str(tmp_path / "l.csv"))
    assert labels is not None and labels.has.all()


def test_photos_that_do_not_count_have_no_labels() -> None:
    labels = labels_of([*NAMES, "sea/e.jpg"], "folders", np.array([0, 1, 2, 3]))
    assert labels is not None and labels.names == ["car", "sea"] and labels.labelled().tolist() == [0, 1]
    assert labels_of(NAMES, "folders", np.array([0, 2, 3])) is None
