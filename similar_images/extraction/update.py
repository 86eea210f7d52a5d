"""What an update has to do: which rows stay, which follow their photo to another name, and what is encoded."""

from collections import defaultdict, deque
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from msgspec.structs import replace

from similar_images.photos.file_list import folder_of
from similar_images.store.catalogue import REMOVED
from similar_images.store.facts import Facts


class Status(NamedTuple):
    """What a file system tells of a file: its bytes, and when they were last modified, in nanoseconds since 1970."""

    size: int
    mtime_ns: int


class Files(Protocol):
    """The photos' files as they are now."""

    def status(self, name: str) -> Status | None:
        """Return the status of a file, None where there is none."""

    def digests(self, names: Iterable[str]) -> dict[str, str]:
        """Return the SHA-256 of files by name, without those that can't be read."""

    def failures(self, names: Iterable[str]) -> dict[str, str]:
        """Return why photos can't be read by name, without those that can."""


@dataclass(frozen=True)
class Plan:
    """What is to become of a gallery.

    Attributes:
        photos: what is then known of the photos of the rows that there are, by row.
        appended: names of the photos to be encoded, in the order of their rows.
        unrecorded: rows of which only names are known, and which are taken for unchanged.
        counts: photos by what happened to them.
        is_needed: whether anything changes.
        changes_vectors: whether vectors do.
    """

    photos: list[Facts]
    appended: list[str]
    unrecorded: list[int]
    counts: dict[str, int]
    is_needed: bool = True
    changes_vectors: bool = True


def first_plan(names: Sequence[str]) -> Plan:
    """Return the plan for a gallery that isn't there yet."""
    return Plan([], list(names), [], {})


def plan_update(photos: Sequence[Facts], names: Sequence[str], files: Files) -> Plan:
    """Compare what is known of photos with the files as they are now.

    Args:
        photos: of all rows, by row.
        names: the photos that the gallery is to have, in any order.
        files: their files.
    """
    places = range(len(names))
    live = [photo.row for photo in photos if photo.state != "removed"]
    paired = _matched(live, places, lambda row: photos[row].name, names.__getitem__)
    found = _Found(photos, names, paired, files)
    free = [row for row in live if row not in paired and photos[row].state == "present"] + found.altered
    open_places = sorted({*places} - {*paired.values()} | {paired[row] for row in found.altered})
    followed = _followed(photos, names, free, open_places, files)

    appended = {*open_places} - {*followed.values()} | {paired[row] for row in found.mended}
    gone = {*live} - paired.keys() - followed.keys()
    changed = [row for row in found.altered if row not in followed and paired[row] in appended]
    left = {*gone, *found.mended, *found.altered} - followed.keys()
    now = {row: _renamed(photos[row], names[place], files) for row, place in followed.items()}
    now |= {row: replace(photos[row], mtime_ns=_mtime(files, photos[row].name)) for row in found.touched}
    now |= {row: replace(photos[row], state="removed", reason=REMOVED) for row in left}
    now |= {row: replace(photos[row], state="unreadable", reason=reason) for row, reason in found.lost.items()}
    counts = {
        "added": len(appended) - len(changed) - len(found.mended),
        "changed": len(changed) + len(found.mended),
        "renamed": len(followed),
        "removed": len(left) - len(changed) - len(found.mended),
    }
    is_needed = bool(now or appended or found.unrecorded)
    loses = any(photos[row].state == "present" != now[row].state for row in now)
    photos_then = [now.get(photo.row, photo) for photo in photos]
    to_encode = [names[place] for place in sorted(appended)]
    return Plan(photos_then, to_encode, found.unrecorded, counts, is_needed, bool(to_encode or loses))


class _Found:
    """What became of the rows whose names are still listed.

    Attributes:
        altered: their files have other content now.
        touched: only the time of modification is another.
        unrecorded: nothing is known of the file as it was.
        mended: could not be read before, and can be now.
        lost: can't be read any more, and why.
    """

    def __init__(self, photos: Sequence[Facts], names: Sequence[str], paired: dict[int, int], files: Files) -> None:
        self.altered: list[int] = []
        self.unrecorded: list[int] = []
        failed, missing, suspects = list[int](), list[int](), list[int]()
        for row, place in paired.items():
            photo, status = photos[row], files.status(names[place])
            if photo.state == "unreadable":
                failed.append(row)
            elif status is None:
                missing.append(row)
            elif photo.size is None:
                self.unrecorded.append(row)
            elif photo.size != status.size:
                self.altered.append(row)
            elif photo.mtime_ns != status.mtime_ns:
                suspects.append(row)
        digests = files.digests(photos[row].name for row in suspects)
        self.touched = [row for row in suspects if digests.get(photos[row].name) == photos[row].digest is not None]
        self.altered += sorted({*suspects} - {*self.touched})
        failures = files.failures(photos[row].name for row in [*failed, *missing])
        self.mended = [row for row in failed if photos[row].name not in failures]
        self.lost = {row: failures[photos[row].name] for row in missing if photos[row].name in failures}


def _followed(
    photos: Sequence[Facts], names: Sequence[str], rows: Sequence[int], places: Sequence[int], files: Files
) -> dict[int, int]:
    """Return at which place of the list the photos of rows are now, of those found; the same base name goes first."""
    sizes = {photos[row].size for row in rows if photos[row].digest}
    statuses = {place: files.status(names[place]) for place in places}
    alike = [place for place, status in statuses.items() if status and status.size in sizes]
    digests = files.digests(names[place] for place in alike)
    places = [place for place in alike if names[place] in digests]
    followed = _matched(
        rows,
        places,
        lambda row: (photos[row].digest, _base(photos[row].name)),
        lambda place: (digests[names[place]], _base(names[place])),
    )
    rows = [row for row in rows if row not in followed]
    places = sorted({*places} - {*followed.values()})
    return followed | _matched(rows, places, lambda row: photos[row].digest, lambda place: digests[names[place]])


def _matched(
    rows: Iterable[int],
    places: Iterable[int],
    key_of_row: Callable[[int], Hashable],
    key_of_place: Callable[[int], Hashable],
) -> dict[int, int]:
    """Return rows with the place of the same key, one to one, the first of either first."""
    waiting = defaultdict[Hashable, deque[int]](deque)
    for row in rows:
        waiting[key_of_row(row)].append(row)
    return {waiting[key].popleft(): place for place in places if waiting.get(key := key_of_place(place))}


def _renamed(photo: Facts, name: str, files: Files) -> Facts:
    return replace(photo, name=name, label=folder_of(name), mtime_ns=_mtime(files, name))


def _mtime(files: Files, name: str) -> int | None:
    status = files.status(name)
    return status.mtime_ns if status else None


def _base(name: str) -> str:
    return name.rpartition("/")[2]
