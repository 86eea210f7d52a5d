"""The widget that photos of one's own come in by."""

from collections.abc import Callable

import traitlets

from similar_images.widgets.message_view import Content, MessageView, module

LONGEST_SIDE = 1024
MOST_BYTES = 7_000_000  # the notebook's connection drops messages of 10 MB without a word


class PhotoInput(MessageView):
    """Choose, drop, paste or take photos, or name one by its address; the browser shrinks them before they are sent.

    Attributes:
        longest_side: pixels of the longer side that larger photos are shrunk to.
        most_bytes: what is larger even so, because the browser can't decode it, is not sent.
    """

    _esm = module("photo_input.js")
    longest_side = traitlets.Int(LONGEST_SIDE).tag(sync=True)
    most_bytes = traitlets.Int(MOST_BYTES).tag(sync=True)

    def __init__(
        self,
        on_photos: Callable[[list[tuple[str, bytes]], bool], None],
        on_address: Callable[[str, bool], None],
        on_failure: Callable[[str], None],
    ) -> None:
        """Make the input.

        Args:
            on_photos: called with names and bytes of photo files, and whether they add to what is asked for.
            on_address: called with an address, or whatever else was entered or pasted, and whether it adds.
            on_failure: called with a sentence when a photo is too large or the camera can't be used.
        """
        super().__init__(
            {
                "photo": self._receive_photo,
                "refused": self._refuse,
                "address": lambda content, _: on_address(content["address"], content["add"]),
                "failed": lambda content, _: on_failure(content["sentence"]),
            }
        )
        self._on_photos, self._on_failure = on_photos, on_failure
        self._photos: list[tuple[str, bytes]] = []
        self._adds = False

    def _receive_photo(self, content: Content, buffers: list[bytes]) -> None:
        self._adds = content["add"] if not self._photos else self._adds
        self._photos.append((content["name"], buffers[0]))
        self._finish(content)

    def _refuse(self, content: Content, buffers: list[bytes]) -> None:
        self._finish(content)
        self._on_failure(
            f"{content['name']} has {content['megabytes']} MB and can't be made smaller by the browser: "
            f"save it as a JPEG of at most {self.most_bytes // 1_000_000} MB"
        )

    def _finish(self, content: Content) -> None:
        if content["last"] and self._photos:
            photos, self._photos = self._photos, []
            self._on_photos(photos, self._adds)
