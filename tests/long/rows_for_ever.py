"""3,000 photos and 20 rounds: make test-long."""

from pathlib import Path

from conftest import SHARED
from gallery_life import drawn, live, real


def test_rows_of_3000_photos_stay_with_them_for_20_rounds(tmp_path: Path) -> None:
    folders = [SHARED / "images" / name for name in ("caltech101", "caltech101_more")]
    source = real(folders) if SHARED.is_dir() else drawn()
    live(tmp_path, source, photos=3000, rounds=20, say=print)
