import pytest

from similar_images.photos.file_list import folder_of
from similar_images.store.base import Among

NAMES = ["car/01.jpg", "car/02.JPG", "car/red/[01].jpg", "sea/01.jpg", "top.jpg"]


def test_folder_of_is_all_before_the_name() -> None:
    assert [folder_of(name) for name in NAMES] == ["car", "car", "car/red", "sea", ""]


@pytest.mark.parametrize(
    ("folder", "pattern", "found"),
    [
        (None, "", [0, 1, 2, 3, 4]),
        ("car", "", [0, 1]),
        ("", "", [4]),
        (None, "01", [0, 2, 3]),
        (None, " 02.jpg ", [1]),
        (None, "*/0?.jpg", [0, 1, 3]),
        (None, "[01]", [2]),
        ("sea", "car", []),
        (None, "c*", [0, 1, 2]),
    ],
)
def test_name_fits(folder: str | None, pattern: str, found: list[int]) -> None:
    fits = Among(folder, pattern).name_fits()
    assert [row for row, name in enumerate(NAMES) if fits(name)] == found
