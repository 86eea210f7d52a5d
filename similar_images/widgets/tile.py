"""A photo with its caption, as HTML; and a tile of the result grid that can be clicked."""

import base64
from collections.abc import Callable
from html import escape

import ipywidgets as ipw

from similar_images.gallery import Hit
from similar_images.images import ImageReadError, Source, source_name, thumbnail

TILE_SIDE = 160
QUERY_SIDE = 320


def figure_html(source: Source, side: int, name: str, note: str) -> str:
    """Return a photo with a caption; a photo that can't be read is told in its place.

    Args:
        source: see `images.read_image`.
        side: longest side of the thumbnail, in pixels.
        name: what to call the photo, also read out by screen readers.
        note: a second line of the caption.
    """
    title = escape(name, quote=True)
    try:
        jpeg = base64.b64encode(thumbnail(source, side)).decode("ascii")
        picture = f'<img src="data:image/jpeg;base64,{jpeg}" alt="{title}">'
    except ImageReadError as error:
        picture = escape(error.reason)
    return (
        f'<figure><div class="si-picture">{picture}</div><figcaption><span title="{title}">{title}</span>'
        f'<span class="si-number">{escape(note)}</span></figcaption></figure>'
    )


class Tile(ipw.Box):
    """A place in the grid, for one hit after the other.

    Attributes:
        hit: what it shows, or None while it is empty and hidden.
    """

    def __init__(self, on_click: Callable[[Hit], None]) -> None:
        """Make an empty tile that calls `on_click` with its hit."""
        self._figure = ipw.HTML()
        self._button = ipw.Button()
        super().__init__([self._figure, self._button])
        self.add_class("si-tile")
        self._on_click = on_click
        self._button.on_click(self._clicked)
        self.hit: Hit | None = None
        self.layout.display = "none"

    def _clicked(self, _: object) -> None:
        if self.hit is not None:
            self._on_click(self.hit)

    def show(self, hit: Hit | None) -> None:
        """Show a hit, or nothing."""
        self.hit = hit
        self.layout.display = "none" if hit is None else ""
        if hit is None:
            self._figure.value = ""
            return
        name = source_name(hit.name)
        self._figure.value = figure_html(hit.path, TILE_SIDE, name, f"{hit.rank} · distance {hit.distance:.3f}")
        self._button.description = f"Search from {name}"
        self._button.tooltip = f"{name}: search on from here"
