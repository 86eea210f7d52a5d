import os
from pathlib import Path

import pytest

from similar_images.photos.file_list import list_photos, read_file_list, write_file_list

ODD = [
    "a b.jpg",
    " lead.jpg",
    "trail.jpg ",
    "two\nlines.jpg",
    '"quoted".jpg',
    "cr.jpg\r",
    "ünï.jpg",
    "a\\n.jpg",
    "日本.png",
]


def test_file_list_with_odd_names_survives(tmp_path: Path) -> None:
    names = [*ODD, os.fsdecode(b"caf\xe9.jpg"), os.fsdecode(b"\xff\n.jpg"), ""]
    write_file_list(tmp_path / "list.txt", names)
    assert read_file_list(tmp_path / "list.txt") == names


def test_read_file_list_of_published_form(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes(b"\xef\xbb\xbfb.jpg\r\n\na.jpg")
    assert read_file_list(tmp_path / "list.txt") == ["b.jpg", "a.jpg"]


def test_read_file_list_of_nothing_is_empty(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes(b"")
    assert read_file_list(tmp_path / "list.txt") == []


def test_read_file_list_with_broken_quotes_names_the_line(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text('a.jpg\n"b.jpg\n')
    with pytest.raises(ValueError, match="line 2"):
        read_file_list(tmp_path / "list.txt")


def test_list_photos_is_recursive_bytewise_and_by_suffix(tmp_path: Path) -> None:
    names = ["B.JPG", "a/z.png", "a.jpg", "é.jpg", os.fsdecode(b"\xff.jpg"), "two\nlines.jpg", "notes.txt", "raw.cr2"]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    photos = ["B.JPG", "a.jpg", "a/z.png", "two\nlines.jpg", "é.jpg", os.fsdecode(b"\xff.jpg")]
    assert list_photos(tmp_path) == photos


def test_list_photos_with_link_loops_ends(tmp_path: Path) -> None:
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside" / "a.jpg").touch()
    (tmp_path / "inside" / "up").symlink_to(tmp_path)
    (tmp_path / "again").symlink_to(tmp_path / "inside")
    (tmp_path / "self.jpg").symlink_to(tmp_path / "self.jpg")
    assert list_photos(tmp_path) == ["inside/a.jpg", "self.jpg"]


def test_list_photos_follows_links_to_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "else").mkdir()
    (tmp_path / "else" / "a.jpg").touch()
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "link").symlink_to(tmp_path / "else")
    assert list_photos(tmp_path / "here") == ["link/a.jpg"]
