"""The widget for query photos."""

from collections.abc import Callable

import traitlets

from similar_images.widgets.message_view import Content, MessageView, module

LONGEST_SIDE = 1024
MAX_BYTES = 7_000_000  # the notebook's connection drops messages of 10 MB without a word
MAX_PHOTOS = 100  # at a time
MAX_UPLOADS = 4  # that are unfinished; what a page that was closed left is forgotten

Photo = tuple[str, bytes]


class PhotoInput(MessageView):
    """Choose, drop, paste or take photos, or name one by its address; the browser shrinks them before they are sent.

    Attributes:
        longest_side: pixels of the longer side that larger photos are shrunk to.
        max_bytes: larger ones, which the browser can't decode, are not sent.
        max_photos: what may be chosen at a time.
    """

    _esm = module("photo_input.js")
    longest_side = traitlets.Int(LONGEST_SIDE).tag(sync=True)
    max_bytes = traitlets.Int(MAX_BYTES).tag(sync=True)
    max_photos = traitlets.Int(MAX_PHOTOS).tag(sync=True)

    def __init__(
        self,
        on_photos: Callable[[list[Photo], bool], None],
        on_address: Callable[[str, bool], None],
        on_error: Callable[[str], None],
    ) -> None:
        """Make the input.

        Args:
            on_photos: called with names and bytes of photo files, and whether they are added to the query.
            on_address: called with an address, or whatever else was entered or pasted, and whether it is added.
            on_error: called with a sentence when a photo is too large, or the page can't do what was requested.
        """
        super().__init__(
            {
                "photo": self._receive_photo,
                "refused": self._refuse,
                "address": lambda content, _: on_address(content["address"], content["add"]),
                "failed": lambda content, _: on_error(content["sentence"]),
            }
        )
        self._on_photos, self._on_error = on_photos, on_error
        self._uploads: dict[str, list[Photo]] = {}  # by the id that the page gave them, oldest first

    def _receive_photo(self, content: Content, buffers: list[bytes]) -> None:
        photos = self._uploads.setdefault(content["upload"], [])
        if len(photos) < self.max_photos:
            photos.append((content["name"], buffers[0]))
        if len(self._uploads) > MAX_UPLOADS:
            del self._uploads[next(iter(self._uploads))]
        self._finish(content)

    def _refuse(self, content: Content, buffers: list[bytes]) -> None:
        self._finish(content)
        self._on_error(
            f"{content['name']} has {content['megabytes']} MB and can't be made smaller by the browser: "
            f"save it as a JPEG of at most {self.max_bytes // 1_000_000} MB"
        )

    def _finish(self, content: Content) -> None:
        if content["last"] and (photos := self._uploads.pop(content["upload"], [])):
            self._on_photos(photos, content["add"])
