"""The widget that a photo of one's own comes in by."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anywidget
import traitlets

LONGEST_SIDE = 1024
MOST_BYTES = 7_000_000  # the notebook's connection drops messages of 10 MB without a word


class PhotoInput(anywidget.AnyWidget):
    """Choose, drop or paste a photo; the browser shrinks it before it is sent.

    Attributes:
        longest_side: pixels of the longer side that larger photos are shrunk to.
        most_bytes: what is larger even so, because the browser can't decode it, is not sent.
    """

    _esm = Path(__file__).parent / "photo_input.js"
    longest_side = traitlets.Int(LONGEST_SIDE).tag(sync=True)
    most_bytes = traitlets.Int(MOST_BYTES).tag(sync=True)

    def __init__(
        self,
        on_photo: Callable[[bytes, str], None],
        on_address: Callable[[str], None],
        on_refused: Callable[[str], None],
    ) -> None:
        """Make the input.

        Args:
            on_photo: called with the bytes of a photo file and its name.
            on_address: called with an address, or whatever else was pasted as text.
            on_refused: called with a sentence when a photo is too large.
        """
        super().__init__()
        self._on_photo, self._on_address, self._on_refused = on_photo, on_address, on_refused
        self.on_msg(self._received)

    def _received(self, _: object, content: dict[str, Any], buffers: list[memoryview]) -> None:
        if content["kind"] == "photo":
            self._on_photo(bytes(buffers[0]), content["name"])
        elif content["kind"] == "address":
            self._on_address(content["address"])
        else:
            self._on_refused(
                f"{content['name']} has {content['megabytes']} MB and can't be made smaller by the browser: "
                f"save it as a JPEG of at most {self.most_bytes // 1_000_000} MB"
            )
