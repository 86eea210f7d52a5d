import ast
import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ODD_NAMES, screenshot

from similar_images.search.export import as_csv, as_json, as_python
from similar_images.search.gallery import Gallery, Hit
from similar_images.search.question import Example, Question
from similar_images.store.base import Among


def test_csv_and_json_hold_the_hits(gallery: Gallery) -> None:
    hits = gallery.search(0, 5)
    for rows in (list(csv.DictReader(io.StringIO(as_csv(hits)))), json.loads(as_json(hits))):
        assert [row["name"] for row in rows] == [hit.name for hit in hits]
        assert [int(row["rank"]) for row in rows] == [1, 2, 3, 4, 5]
        assert [float(row["distance"]) for row in rows] == pytest.approx([hit.distance for hit in hits])
        assert Path(rows[0]["path"]) == hits[0].path


@pytest.mark.parametrize(
    "name",
    [
        os.fsdecode(b"caf\xe9.jpg"),
        "two\nlines.jpg",
        "carriage\rreturn.jpg",
        '"quoted".jpg',
        "=cmd|' /C calc'!A1/x.jpg",
        "+1.jpg",
        "-1.jpg",
        "@SUM(A1).jpg",
        "\t=1.jpg",
    ],
)
def test_csv_holds_names_that_it_cannot_show_as_json(name: str) -> None:
    text = as_csv([Hit(1, 0, name, Path("photos") / name, 0.0, 1.0)]).encode("utf-8").decode("utf-8")
    (row,) = csv.DictReader(io.StringIO(text, newline=""))
    assert row["name"].startswith('"') and row["name"].isascii() and row["name"].isprintable()
    assert json.loads(row["name"]) == name
    path = json.loads(row["path"]) if row["path"].startswith('"') else row["path"]
    assert path == f"photos/{name}"


@pytest.mark.parametrize("name", ["a.jpg", "猫/é ü.jpg", "a=b, 'c'.jpg", "no. 1 (copy).jpg", "東京\u3000駅.jpg"])
def test_csv_holds_all_other_names_as_they_are(name: str) -> None:
    (row,) = csv.DictReader(io.StringIO(as_csv([Hit(1, 0, name, Path("photos") / name, 0.0, 1.0)]), newline=""))
    assert (row["name"], row["path"]) == (name, f"photos/{name}")


def test_odd_names_survive_every_export(odd_index: Path, tmp_path: Path) -> None:
    gallery = Gallery.open(odd_index)
    hits = gallery.search(0, 6)
    assert sorted(hit.name for hit in hits) == sorted(ODD_NAMES)
    question = Question((Example(gallery.names[0], gallery.photo_path(0), gallery.vector(0), 0),))
    code = as_python(gallery, question, {"k": 6}).encode("utf-8").decode("utf-8")
    for text in ("utf-8", "ascii:backslashreplace"):
        assert printed(code, tmp_path, PYTHONIOENCODING=text) == [hit.name for hit in hits]
    exported = json.loads(as_json(hits).encode("utf-8"))
    assert [row["name"] for row in exported] == [hit.name for hit in hits]
    assert [Path(row["path"]) for row in exported] == [hit.path for hit in hits]


def printed(code: str, folder: Path, **environment: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env=environment,
        text=True,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [ast.literal_eval(line.split("  ", 2)[2]) for line in done.stdout.splitlines()]


def test_python_repeats_a_search_with_everything(gallery: Gallery, tmp_path: Path, cache: Path) -> None:
    own = Example("my 'photo'.png", gallery.photo_path(20).read_bytes(), gallery.vector(20))
    stored = Example(gallery.names[3], gallery.photo_path(3), gallery.vector(3), 3).boxed(gallery, (0.1, 0.0, 0.9, 1.0))
    (tmp_path / own.name).write_bytes(own.photo)
    question = Question((own, stored), relevant=(7,), irrelevant=(20, 21))
    among = Among(pattern="0", without=(20, 21))
    settings = {"k": 6, "suppress_near_duplicates": 0.001, "focus": -0.3, "expand": 3}
    code = as_python(gallery, question, settings, among)
    assert "is a photo of your own: put its path" in code
    found = printed(f"import os; os.environ['SIMILAR_IMAGES_CACHE'] = {str(cache)!r}\n{code}", tmp_path)
    assert found == [hit.name for hit in gallery.search(question.vector(gallery), among=among, **settings)]


def test_python_of_a_plain_search_is_short(gallery: Gallery, tmp_path: Path) -> None:
    question = Question((Example(gallery.names[3], gallery.photo_path(3), gallery.vector(3), 3),))
    code = as_python(gallery, question, {"k": 4})
    assert len(code.splitlines()) == 7 and "among" not in code
    assert printed(code, tmp_path) == [hit.name for hit in gallery.search(3, 4)]


def test_python_of_a_whole_screenshot_does_not_look_for_the_photo_in_it(
    gallery: Gallery, photos: Path, tmp_path: Path, cache: Path
) -> None:
    page = screenshot(photos / "bricks" / "00.jpg")
    (tmp_path / "page.png").write_bytes(page)
    vector, box = gallery.photo_in(page)
    for example in (Example("page.png", page, gallery.vector(page)), Example("page.png", page, vector, box=box)):
        code = as_python(gallery, Question((example,)), {"k": 9})
        found = printed(f"import os; os.environ['SIMILAR_IMAGES_CACHE'] = {str(cache)!r}\n{code}", tmp_path)
        assert found == [hit.name for hit in gallery.search(example.vector, 9)]
