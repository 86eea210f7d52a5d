"""Files that appear whole or not at all, and the JSON cards that describe them."""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Card = dict[str, Any]


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it becomes `path`, on failure it is removed."""
    temporary = path.with_name(path.name + ".tmp")
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def card_path(path: Path) -> Path:
    """Return where the card of `path` lies: beside it, with `.json` added to its name."""
    return path.with_name(path.name + ".json")


def write_card(path: Path, card: Card) -> None:
    """Write the card of `path`."""
    with replacing(card_path(path)) as temporary:
        temporary.write_text(json.dumps(card, indent=2) + "\n", encoding="ascii")


def read_card(path: Path) -> Card | None:
    """Return the card of `path`, or None where it has none.

    Raises:
        ValueError: the card is not a JSON object.
    """
    try:
        card = json.loads(card_path(path).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError:
        card = None
    if not isinstance(card, dict):
        raise ValueError(f"{card_path(path)} is damaged: it is not a JSON object; make {path} again")
    return card


def digest(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def relative_to_card(target: Path, path: Path) -> str:
    """Return `target` as the card of `path` names it: relative to its folder, so that both can move together."""
    return os.path.relpath(target.resolve(), path.resolve().parent)


def from_card(name: str, path: Path) -> Path:
    """Return the file that the card of `path` calls `name`; the inverse of `relative_to_card`."""
    return Path(os.path.normpath(path.resolve().parent / name))
