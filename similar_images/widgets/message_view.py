"""The base of the panel's widgets: what they show goes to the page as messages."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import anywidget

FOLDER = Path(__file__).parent
Content = dict[str, Any]


def module(name: str) -> str:
    """Return a widget's ES module, with what all of them share before it."""
    return (FOLDER / "common.js").read_text(encoding="utf-8") + (FOLDER / name).read_text(encoding="utf-8")


class MessageView(anywidget.AnyWidget):
    """A widget whose content goes to the page as messages.

    Photos therefore never become widget state, which a notebook may save. A page that is reloaded receives it again.
    """

    def __init__(self, receivers: dict[str, Callable[[Content, list[bytes]], None]], **traits: Any) -> None:
        """Make the widget.

        Args:
            receivers: by the kind of a message from the page, what to call with its content and its buffers.
            traits: initial values of the subclass's traits.
        """
        super().__init__(**traits)
        self._receivers = receivers
        self._shown: tuple[Content, list[bytes]] | None = None
        self.on_msg(self._received)

    def show(self, content: Content, buffers: Sequence[bytes] = ()) -> None:
        """Show something, now and on pages that are loaded later."""
        self._shown = content, list(buffers)
        self.send(*self._shown)

    def show_error(self, sentence: str) -> None:
        """Show an error of the page's last request."""
        self.send({"kind": "failed", "sentence": sentence})

    def _received(self, _: object, content: Content, buffers: list[memoryview]) -> None:
        if content["kind"] != "ready":
            self._receivers[content["kind"]](content, [bytes(buffer) for buffer in buffers])
        elif self._shown is not None:
            self.send(*self._shown)
