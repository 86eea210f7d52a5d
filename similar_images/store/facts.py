"""What is known of a photo beside its vector."""

from typing import Literal

from msgspec import Struct

State = Literal["present", "removed", "unreadable"]


class Facts(Struct, frozen=True):
    """What is known of a photo; None for what isn't.

    Attributes:
        row: where its vector is, from 0.
        name: relative to the photos' folder, or an address.
        id: what its owner calls it.
        size: of the file, in bytes.
        mtime_ns: when the file was last modified, in nanoseconds since 1970.
        digest: SHA-256 of the file.
        width: in pixels, upright.
        height: likewise.
        taken: when, as EXIF has it without a zone: "2024-06-30T18:05:00".
        camera: maker and model.
        latitude: where it was taken, in degrees, north is positive.
        longitude: likewise, east is positive.
        label: what it is sorted under: its folder, unless its owner says otherwise.
        state: whether it can be found.
        reason: why it can't.
    """

    row: int
    name: str
    id: str | None = None
    size: int | None = None
    mtime_ns: int | None = None
    digest: str | None = None
    width: int | None = None
    height: int | None = None
    taken: str | None = None
    camera: str | None = None
    latitude: float | None = None
    longitude: float | None = None
    label: str = ""
    state: State = "present"
    reason: str = ""
