"""What `--update` makes of a gallery, in real files."""

import os
import shutil
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import invoke
from PIL import Image

from similar_images.encoding.encoders import Encoder, EncoderSpec
from similar_images.encoding.runtimes import Runtime
from similar_images.extraction.extraction import Extraction, extract, needs_update
from similar_images.files import card_path, catalogue_path, digest
from similar_images.photos.file_list import list_photos, read_file_list, write_file_list
from similar_images.photos.images import ImageReadError, Pixels
from similar_images.store.catalogue import Catalogue
from similar_images.store.facts import Facts
from similar_images.store.vectors import VectorsError, open_vectors


@pytest.fixture
def folder(tmp_path: Path, photos: Path, encoder: Encoder) -> Path:
    """Nine photos in three folders, which a test may change."""
    for kind in ("car", "sea", "clock"):
        shutil.copytree(photos / kind, tmp_path / "photos" / kind)
    return tmp_path / "photos"


@pytest.fixture
def output(folder: Path, runtime: Runtime) -> Path:
    """Their vectors."""
    output = folder.parent / "out.npy"
    extract(list_photos(folder), folder, output, runtime)
    return output


def update(folder: Path, output: Path, runtime: Runtime, **options: bool) -> Extraction:
    return extract(list_photos(folder), folder, output, runtime, update=True, **options)


def known(output: Path) -> list[Facts]:
    """Return what the catalogue, the list and the card say of a gallery, having compared them."""
    vectors = open_vectors(output)
    photos = list(Catalogue.of_vectors(output, vectors.card).all())
    assert read_file_list(output.with_name(f"{output.name}.txt")) == [photo.name for photo in photos]
    failures = {failure.row: failure.reason for failure in vectors.card.failures}
    assert failures == {photo.row: photo.reason for photo in photos if photo.state != "present"}
    assert np.array_equal(vectors.array.any(axis=1), [photo.state == "present" for photo in photos])
    return photos


def alone(runtime: Runtime, photo: Path) -> np.ndarray:
    """Encode one photo without the code that is tested."""
    encoder = runtime.encoder
    return encoder.model(encoder.pixels(photo)[None]).numpy()[0]


def check_vectors(folder: Path, output: Path, runtime: Runtime) -> None:
    """Compare the photos that can be found, and their vectors, with those that are there."""
    vectors = open_vectors(output).array
    found = {photo.name: vectors[photo.row] for photo in known(output) if photo.state == "present"}
    assert sorted(found, key=os.fsencode) == list_photos(folder)
    for name, vector in found.items():
        expected = alone(runtime, folder / name)
        assert vector @ expected / np.linalg.norm(vector) / np.linalg.norm(expected) > 0.9999, name


def counts(**some: int) -> dict[str, int]:
    return {"added": 0, "changed": 0, "renamed": 0, "removed": 0} | some


def contents(folder: Path) -> dict[str, str]:
    return {path.name: digest(path) for path in folder.iterdir() if path.is_file()}


def test_extract_records_what_is_known_of_each_photo(folder: Path, runtime: Runtime, output: Path) -> None:
    for photo in known(output):
        file = folder / photo.name
        status = file.stat()
        assert (photo.size, photo.mtime_ns, photo.digest) == (status.st_size, status.st_mtime_ns, digest(file))
        assert (photo.label, photo.width, photo.height) == (file.parent.name, *Image.open(file).size)


def test_update_of_nothing_new_writes_nothing(folder: Path, runtime: Runtime, output: Path) -> None:
    before = contents(folder.parent)
    assert not needs_update(list_photos(folder), folder, output)
    done = update(folder, output, runtime)
    assert (done.encoded, done.kept, done.counts) == (0, 9, counts())
    assert contents(folder.parent) == before


def test_update_appends_what_is_new_and_moves_no_row(folder: Path, runtime: Runtime, output: Path) -> None:
    before, lineage = np.load(output), open_vectors(output).card.digest
    shutil.copy(folder / "sea" / "01.jpg", folder / "a new one.jpg")
    assert needs_update(list_photos(folder), folder, output)
    done = update(folder, output, runtime)
    assert (done.encoded, done.kept, done.counts) == (1, 9, counts(added=1))
    assert np.array_equal(np.load(output)[:9], before) and known(output)[9].name == "a new one.jpg"
    assert open_vectors(output).card.lineage == lineage != open_vectors(output).card.digest
    check_vectors(folder, output, runtime)


def test_update_takes_out_what_left_for_ever(folder: Path, runtime: Runtime, output: Path) -> None:
    kept = (folder / "car" / "00.jpg").rename(folder.parent / "kept.jpg")
    done = update(folder, output, runtime)
    assert (done.encoded, done.counts, done.failures) == (0, counts(removed=1), [])
    assert (known(output)[0].name, known(output)[0].state, known(output)[0].reason) == (
        "car/00.jpg",
        "removed",
        "removed",
    )
    kept.rename(folder / "car" / "00.jpg")
    assert update(folder, output, runtime).counts == counts(added=1)
    assert [photo.row for photo in known(output) if photo.name == "car/00.jpg"] == [0, 9]
    check_vectors(folder, output, runtime)


def test_update_encodes_a_changed_photo_of_the_same_name_as_a_new_row(
    folder: Path, runtime: Runtime, output: Path
) -> None:
    shutil.copy(folder / "sea" / "00.jpg", folder / "car" / "00.jpg")
    done = update(folder, output, runtime)
    assert (done.encoded, done.counts) == (1, counts(changed=1))
    assert [known(output)[row].state for row in (0, 9)] == ["removed", "present"]
    check_vectors(folder, output, runtime)


def test_update_of_touched_photos_encodes_none_and_keeps_the_vectors_file(
    folder: Path, runtime: Runtime, output: Path
) -> None:
    before = os.stat(output)
    os.utime(folder / "car" / "00.jpg", ns=(1, 1))
    assert update(folder, output, runtime).encoded == 0
    assert known(output)[0].mtime_ns == 1 and os.path.samestat(os.stat(output), before)
    assert not needs_update(list_photos(folder), folder, output)


def test_update_follows_renames_moves_and_swaps_without_encoding(folder: Path, runtime: Runtime, output: Path) -> None:
    before = os.stat(output)
    (folder / "car").rename(folder / "auto")
    one, other = folder / "sea" / "00.jpg", folder / "sea" / "01.jpg"
    one.rename(folder / "x")
    other.rename(one)
    (folder / "x").rename(other)
    (folder / "clock" / "00.jpg").rename(folder / "clock" / "00.JPG")
    done = update(folder, output, runtime)
    assert (done.encoded, done.kept, done.counts) == (0, 9, counts(renamed=6))
    assert [photo.label for photo in known(output)[:3]] == ["auto"] * 3
    assert os.path.samestat(os.stat(output), before)
    check_vectors(folder, output, runtime)


def test_update_of_the_folder_under_another_name_encodes_nothing(folder: Path, runtime: Runtime, output: Path) -> None:
    moved = folder.rename(folder.with_name("elsewhere"))
    done = update(moved, output, runtime)
    assert (done.encoded, done.counts, open_vectors(output).card.img_dir) == (0, counts(), "elsewhere")
    check_vectors(moved, output, runtime)


def test_update_tries_unreadable_photos_again(folder: Path, runtime: Runtime, output: Path) -> None:
    (folder / "bad.jpg").write_text("no photo yet")
    assert [failure.row for failure in update(folder, output, runtime).failures] == [9]
    before = contents(folder.parent)
    done = update(folder, output, runtime)
    assert (done.encoded, [failure.name for failure in done.failures]) == (0, ["bad.jpg"])
    assert contents(folder.parent) == before
    with pytest.raises(ImageReadError, match=r"bad\.jpg"):
        update(folder, output, runtime, strict=True)
    shutil.copy(folder / "sea" / "00.jpg", folder / "bad.jpg")
    done = update(folder, output, runtime)
    assert (done.encoded, done.failures, [known(output)[row].state for row in (9, 10)]) == (
        1,
        [],
        ["removed", "present"],
    )
    check_vectors(folder, output, runtime)


def test_update_of_a_list_whose_file_is_gone_names_it_and_takes_it_back(
    folder: Path, runtime: Runtime, output: Path
) -> None:
    names = list_photos(folder)
    kept = (folder / names[0]).rename(folder.parent / "kept.jpg")
    done = extract(names, folder, output, runtime, update=True)
    assert [(failure.row, failure.reason) for failure in done.failures] == [(0, "there is no such file")]
    assert known(output)[0].state == "unreadable"
    kept.rename(folder / names[0])
    assert extract(names, folder, output, runtime, update=True).encoded == 1
    check_vectors(folder, output, runtime)


def test_update_that_finds_none_of_the_photos_is_refused(folder: Path, runtime: Runtime, output: Path) -> None:
    before, names = contents(folder.parent), list_photos(folder)
    with pytest.raises(VectorsError, match=r"none of the 9 photos.*img_dir"):
        extract(names, folder.parent, output, runtime, update=True)
    assert contents(folder.parent) == before


def test_update_of_two_photos_down_to_one_and_to_another(tmp_path: Path, photos: Path, runtime: Runtime) -> None:
    folder, output = tmp_path / "photos", tmp_path / "out.npy"
    folder.mkdir()
    for name in ("00.jpg", "01.jpg"):
        shutil.copy(photos / "car" / name, folder / name)
    extract(list_photos(folder), folder, output, runtime)
    (folder / "00.jpg").unlink()
    update(folder, output, runtime)
    check_vectors(folder, output, runtime)
    (folder / "01.jpg").unlink()
    shutil.copy(photos / "sea" / "00.jpg", folder / "02.jpg")
    assert update(folder, output, runtime).counts == counts(added=1, removed=1)
    check_vectors(folder, output, runtime)


def test_overwrite_after_updates_has_only_rows_with_photos(folder: Path, runtime: Runtime, output: Path) -> None:
    shutil.rmtree(folder / "car")
    update(folder, output, runtime)
    assert len(np.load(output)) == 9
    extract(list_photos(folder), folder, output, runtime, overwrite=True)
    assert len(known(output)) == 6 and open_vectors(output).card.began_as is None


def without_catalogue(output: Path) -> None:
    """Make a gallery look as those did that were made before there were catalogues."""
    catalogue_path(output).unlink()
    card = card_path(output)
    lines = [
        line for line in card.read_text().splitlines() if "catalogue_digest" not in line and "checksum" not in line
    ]
    card.write_text("\n".join(lines))


def test_update_of_an_older_gallery_takes_photos_for_unchanged_and_records_them(
    folder: Path, runtime: Runtime, output: Path
) -> None:
    expected = known(output)
    without_catalogue(output)
    assert [photo.size for photo in known(output)] == [None] * 9
    steps: list[tuple[str, int, int]] = []
    done = extract(list_photos(folder), folder, output, runtime, update=True, progress=lambda *step: steps.append(step))
    assert (done.encoded, done.counts, known(output)) == (0, counts(), expected)
    assert steps == [("comparing", done, 9) for done in range(1, 10)] and not card_path(catalogue_path(output)).exists()
    assert not needs_update(list_photos(folder), folder, output)


def test_update_of_a_renamed_photo_of_an_older_gallery_removes_and_adds(
    folder: Path, runtime: Runtime, output: Path
) -> None:
    without_catalogue(output)
    (folder / "car" / "00.jpg").rename(folder / "car" / "new.jpg")
    assert update(folder, output, runtime).counts == counts(added=1, removed=1)
    check_vectors(folder, output, runtime)


@dataclass
class Ones:
    """A runtime of vectors of ones, see `runtimes.Runtime`."""

    encoder: Encoder
    name: str = "none"
    precision: str = "f32"
    agreement: float = 1.0
    batch_size: int = 32

    def encode(self, pixels: Pixels) -> np.ndarray:
        return np.ones((len(pixels), self.encoder.dimension), np.float32)

    def encode_all(self, batches: Iterable[tuple[Any, Pixels]]) -> Iterator[tuple[Any, np.ndarray]]:
        for tag, pixels in batches:
            yield tag, self.encode(pixels)


def test_update_of_published_vectors_without_a_card_appends_what_the_same_encoder_makes(folder: Path) -> None:
    output, names = folder.parent / "list.txt.saved_predictions.npy", list_photos(folder)
    published = np.arange(8 * 4096, dtype=np.float32).reshape(8, 4096) + 1
    np.save(output, published)
    write_file_list(folder.parent / "list.txt", names[:8])
    spec = EncoderSpec("vgg16", "fc2", "imagenet", "keras")
    with pytest.raises(VectorsError, match="another encoder"):
        other = Encoder(replace(spec, resize="bilinear"), (224, 224), 4096, "0" * 64)
        extract(names, folder, output, Ones(other), update=True)
    done = extract(names, folder, output, Ones(Encoder(spec, (224, 224), 4096, "0" * 64)), update=True)
    assert (done.encoded, done.counts) == (1, counts(added=1))
    assert np.array_equal(np.load(output), [*published, np.ones(4096)])
    assert [photo.digest for photo in known(output)] == [digest(folder / name) for name in names]


@pytest.mark.parametrize("damage", ["cut off", "gone", "of other vectors"])
def test_update_with_a_damaged_catalogue_mends_it(folder: Path, runtime: Runtime, output: Path, damage: str) -> None:
    expected, catalogue = known(output), catalogue_path(output)
    if damage == "cut off":
        os.truncate(catalogue, 5000)
    elif damage == "gone":
        catalogue.unlink()
    else:
        with sqlite3.connect(catalogue) as connection:
            connection.execute("DELETE FROM photos WHERE row = 3")
        connection.close()
    assert [photo.name for photo in known(output)] == [photo.name for photo in expected]
    update(folder, output, runtime)
    assert known(output) == expected


def test_update_begun_with_another_listing_is_begun_anew(folder: Path, runtime: Runtime, output: Path) -> None:
    shutil.copy(folder / "car" / "00.jpg", folder / "new.jpg")
    with pytest.raises(KeyboardInterrupt):
        extract(list_photos(folder), folder, output, runtime, update=True, progress=interrupt)
    shutil.copy(folder / "car" / "01.jpg", folder / "newer.jpg")
    done = update(folder, output, runtime)
    assert (done.encoded, done.counts) == (2, counts(added=2))
    check_vectors(folder, output, runtime)
    litter = {path.name for path in folder.parent.iterdir()} - {"photos", "out.npy.txt", "out.npy.json"}
    assert litter == {"out.npy", "out.npy.catalogue.sqlite"}


def test_update_does_not_throw_away_what_an_interrupted_overwrite_has_encoded(
    folder: Path, runtime: Runtime, output: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        extract(list_photos(folder), folder, output, runtime, overwrite=True, batch_size=2, progress=interrupt)
    for change in (lambda: None, lambda: os.utime(folder / "car" / "00.jpg"), lambda: shutil.rmtree(folder / "car")):
        change()
        if needs_update(list_photos(folder), folder, output):
            with pytest.raises(VectorsError, match=r"another .*update \(False, now True\)"):
                update(
                    folder,
                    output,
                    runtime,
                )


def interrupt(_step: str, done: int, _total: int) -> None:
    if done:
        raise KeyboardInterrupt


def test_update_by_script_counts_what_happened(folder: Path, output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    (folder / "car" / "00.jpg").rename(folder / "car" / "new.jpg")
    (folder / "sea" / "00.jpg").unlink()
    words = ["-d", "photos", "-o", "out.npy", "--encoder", "mobilenet_v2", "--weights", "none", "--precision", "f32"]
    said = invoke("extract_image_vectors.py", *words, "--update").output
    assert "8 photos, 0 encoded" in said and "0 added, 0 changed, 1 renamed, 1 removed" in said
