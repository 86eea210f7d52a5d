"""Rows are what they were whatever happens to photos; a gallery of 3,000 lives in tests/long."""

from pathlib import Path

from gallery_life import drawn, live


def test_rows_stay_with_their_photos_for_ever(tmp_path: Path) -> None:
    live(tmp_path, drawn(), photos=60, rounds=2, say=print)
