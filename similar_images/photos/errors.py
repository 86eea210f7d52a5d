"""Why a photo can't be read."""

import re


class UnreadableError(Exception):
    """Why a photo can't be read, before it is known what to call it."""


class ImageReadError(ValueError):
    """A photo could not be read; the message names the photo and the reason.

    Attributes:
        reason: the reason alone, without the name.
    """

    def __init__(self, name: str, reason: str) -> None:
        """Name the photo and the reason."""
        super().__init__(f"{name}: {reason}")
        self.reason = reason


def printable(name: str) -> str:
    r"""Return a path or address as a line that can be printed; bytes that are not UTF-8 stand as \xe9."""
    escaped = re.sub("[\udc80-\udcff]", lambda byte: f"\\x{ord(byte[0]) - 0xDC00:02x}", name)
    return escaped.encode("utf-8", "backslashreplace").decode().replace("\n", "\\n")
