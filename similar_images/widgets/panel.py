"""The notebook's panel: upload a photo, pick a random one or paste an address, and look at what is similar."""

import random
import time
from collections.abc import Callable
from functools import wraps
from html import escape
from pathlib import Path
from typing import Any

import ipywidgets as ipw
import numpy as np
from numpy.typing import NDArray

from similar_images.gallery import Gallery, Hit, Query
from similar_images.images import ImageReadError, Source, download, source_name
from similar_images.widgets.photo_input import PhotoInput
from similar_images.widgets.tile import QUERY_SIDE, Tile, figure_html

MAX_TILES = 40
STYLE = (Path(__file__).parent / "style.css").read_text(encoding="utf-8")


def _shows_errors(callback: Callable[..., None]) -> Callable[..., None]:
    """Show what a callback raises as a sentence in the status line; ipywidgets would lose it."""

    @wraps(callback)
    def shown(self: "SearchPanel", *args: Any) -> None:
        try:
            callback(self, *args)
        except (ValueError, OSError) as error:
            self.say_error(str(error))
        except Exception as error:  # a bug, but the panel has to stay usable
            self.say_error(f"{type(error).__name__}: {error}")

    return shown


class SearchPanel(ipw.VBox):
    """Search a gallery by a photo of one's own, random pick, address, or a click on a result.

    Attributes:
        gallery: what is searched.
        hits: the result that is shown, nearest first.
    """

    def __init__(self, gallery: Gallery, k: int = 12) -> None:
        """Make the panel.

        Args:
            gallery: what to search.
            k: how many results to show at first.
        """
        self.gallery = gallery
        self.hits: list[Hit] = []
        self._vector: NDArray[np.float32] | None = None
        self._rows = gallery.searchable_rows()
        self._input = PhotoInput(self._search_upload, self._search_pasted, self.say_error)
        self._random = ipw.Button(description="Random photo", icon="random", tooltip="a photo of the gallery")
        self._address = ipw.Text(placeholder="https://… address of a photo", layout=ipw.Layout(flex="1 1 220px"))
        self._address.tooltip = "Address of a photo"
        self._go = ipw.Button(description="Search", icon="search", layout=ipw.Layout(width="auto"))
        most = min(MAX_TILES, len(gallery))
        self._k = ipw.BoundedIntText(
            min(k, most), max=most, min=1, description="Results", layout=ipw.Layout(width="150px")
        )
        self._status = ipw.HTML()
        self._asked = ipw.HTML(
            layout=ipw.Layout(width="220px", max_width="100%", flex="0 0 auto", margin="0 12px 8px 2px")
        )
        self._tiles = [Tile(self._search_from) for _ in range(most)]
        super().__init__([ipw.HTML(f"<style>{STYLE}</style>"), self._controls(), self._status, self._results()])
        self.add_class("similar-images")
        self._asked.add_class("si-query")
        self._random.on_click(self._search_random)
        self._go.on_click(self._search_address)
        self._address.on_msg(self._address_message)
        self._k.observe(self._search_again, "value")
        self._say("Upload, drop or paste a photo, pick a random one, or paste an address.")

    def __repr__(self) -> str:
        """Say what is searched; a notebook file stores this instead of the widget, and no photo may be in it."""
        return f"<SearchPanel of {self.gallery!r}>"

    def search(self, query: Query, name: str, picture: Source) -> None:
        """Search the gallery and show the result.

        Args:
            query: see `Gallery.search`.
            name: what to call it.
            picture: what to show for it.

        Raises:
            ValueError: as `Gallery.search`.
        """
        if self.gallery.row(query) is None:
            self._say("loading the encoder, which takes some seconds the first time …")
            self.gallery.warm_up()
        began = time.perf_counter()
        self._vector = self.gallery.vector(query)
        encode_ms = (time.perf_counter() - began) * 1000
        self._asked.value = "<h3>You asked for</h3>" + figure_html(picture, QUERY_SIDE, name, "")
        self._show_hits(f"{encode_ms:.0f} ms to encode, ")

    def _show_hits(self, before: str = "") -> None:
        self._say("searching …")
        began = time.perf_counter()
        assert self._vector is not None
        self.hits = self.gallery.search(self._vector, self._k.value)
        search_ms = (time.perf_counter() - began) * 1000
        for place, tile in enumerate(self._tiles):
            tile.show(self.hits[place] if place < len(self.hits) else None)
        self._say(f"{before}{search_ms:.1f} ms to search")

    def say_error(self, sentence: str) -> None:
        """Show what went wrong; the results stay."""
        self._status.value = f'<div class="si-status si-error" role="alert">{escape(sentence)}</div>'

    def _say(self, what: str) -> None:
        label = escape(self.gallery.encoder_label)
        if not self.gallery.card.get("trained", True):
            label = f'<span class="si-untrained" title="Results mean little.">{label}</span>'
        facts = f"{len(self.gallery):,} photos · {label} · {escape(self.gallery.index_label)}"
        self._status.value = f'<div class="si-status" role="status">{facts} · {escape(what)}</div>'

    def _controls(self) -> ipw.Widget:
        controls = [self._input, self._random, self._address, self._go, self._k]
        return ipw.Box(controls, layout=ipw.Layout(flex_flow="row wrap", align_items="center"))

    def _results(self) -> ipw.Widget:
        columns = "repeat(auto-fill, minmax(min(150px, 100%), 1fr))"
        grid = ipw.GridBox(
            self._tiles,
            layout=ipw.Layout(grid_template_columns=columns, grid_gap="8px", flex="1 1 330px", min_width="0"),
        )
        return ipw.Box([self._asked, grid], layout=ipw.Layout(flex_flow="row wrap", align_items="flex-start"))

    @_shows_errors
    def _search_upload(self, data: bytes, name: str) -> None:
        self._search_photo(data, name)

    def _search_pasted(self, address: str) -> None:
        self._address.value = address
        self._search_address(None)

    @_shows_errors
    def _search_random(self, _: object) -> None:
        row = int(random.choice(self._rows))
        self.search(row, source_name(self.gallery.names[row]), self.gallery.photo_path(row))

    def _address_message(self, _: object, content: dict[str, Any], buffers: object) -> None:
        if content.get("event") == "submit":  # the Enter key
            self._search_address(None)

    @_shows_errors
    def _search_address(self, _: object) -> None:
        address = self._address.value.strip()
        if not address:
            raise ValueError("Paste the address of a photo first.")
        self._say("fetching the photo …")
        self._search_photo(download(address), address)

    def _search_photo(self, data: bytes, name: str) -> None:
        try:
            self.search(data, name, data)
        except ImageReadError as error:
            raise ValueError(f"{name}: {error.reason}") from error

    @_shows_errors
    def _search_from(self, hit: Hit) -> None:
        self.search(hit.image_id, source_name(hit.name), hit.path)

    @_shows_errors
    def _search_again(self, _: object) -> None:
        if self._vector is not None:
            self._show_hits()
