"""The widget that shows the gallery in two dimensions, similar photos near each other."""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import ipywidgets as ipw
import numpy as np
from numpy.typing import NDArray

from similar_images.photos.file_list import folder_of
from similar_images.photos.images import source_name
from similar_images.search.gallery import Gallery, Hit
from similar_images.search.gallery_map import coordinates, methods
from similar_images.widgets.errors import alert_html, report_errors
from similar_images.widgets.message_view import Content, MessageView, module
from similar_images.widgets.pictures import picture

HEIGHT = 420
EXTENT = (-1.08, 1.08)
POINT_SIZES = [3, 12]  # of other photos, of hits
SHADED_QUANTILES = [0.005, 0.5]  # of distances, between which colours change: most photos are equally far
HIT_COLOUR = "#d32f2f"
PHOTO_SIDE = 320
DIRECTIONS = {"←": (-1, 0), "→": (1, 0), "↑": (0, 1), "↓": (0, -1)}
WRAPPED = {"flex_flow": "row wrap", "align_items": "flex-start"}


class PhotoView(MessageView):
    """A single photo with its name."""

    _esm = module("photo_view.js")


class MapView(ipw.VBox):
    """A map of the gallery: hovering over a point shows its photo, a click searches by it.

    Attributes:
        scatter: the `jscatter.Scatter`.
        rows: (p,) int64, the row of each point.
        current: the point whose photo is shown, None at first.
    """

    def __init__(self, gallery: Gallery, on_search: Callable[[int], None]) -> None:
        """Make an empty map; `draw` fills it.

        Args:
            gallery: what to show.
            on_search: called with the row of a point that is clicked.
        """
        self._gallery, self._on_search = gallery, on_search
        self.scatter: Any = None
        self.rows = gallery.searchable_rows()
        self.current: int | None = None
        self._dark = False
        self._marked = np.zeros(0, np.int64)
        self._positions = np.zeros((len(self.rows), 2), np.float32)
        self._distances = np.zeros(len(self.rows), np.float32)
        self.method = ipw.Dropdown(options=[(name.upper(), name) for name in methods()], description="Layout by")
        self.colour = ipw.Dropdown(options=["folder", "distance to the query"], description="Colour by")
        self._progress = ipw.FloatProgress(max=1, description="Computing")
        self._plot = ipw.VBox(layout=ipw.Layout(flex="1 1 320px", min_width="0"))
        self._photo = PhotoView({"theme": self._note_theme})
        steps = [self._step_button(arrow) for arrow in DIRECTIONS]
        search = ipw.Button(description="Search from it", tooltip="search from the photo that is shown")
        search.on_click(lambda _: self._search_current())
        beside = ipw.VBox([self._photo, ipw.HBox(steps), search], layout=ipw.Layout(width="200px"))
        choices = ipw.Box([self.method, self.colour, self._progress], layout=ipw.Layout(**WRAPPED))
        self._failure = ipw.HTML()
        super().__init__([choices, self._failure, ipw.Box([self._plot, beside], layout=ipw.Layout(**WRAPPED))])
        self.method.observe(report_errors(self.show_error, lambda _: self.draw()), "value")
        self.colour.observe(report_errors(self.show_error, lambda _: self._colour()), "value")

    def draw(self) -> None:
        """Draw the map; its coordinates are computed the first time.

        Raises:
            GalleryError: see `gallery_map.coordinates`.
        """
        self._progress.layout.display, self._failure.value = "", ""
        try:
            positions = coordinates(self._gallery, self.method.value, self._show_progress)[self.rows]
        finally:
            self._progress.layout.display = "none"
        self._positions = positions
        self._draw()

    def show_error(self, sentence: str) -> None:
        """Show what went wrong."""
        self._failure.value = alert_html(sentence)

    def mark(self, hits: Sequence[Hit], distances: NDArray[np.float32]) -> None:
        """Mark hits on the map.

        Args:
            hits: what was found.
            distances: (n,) float32, of all photos to the query, for their colours.
        """
        self._marked = np.searchsorted(self.rows, [hit.image_id for hit in hits])
        self._distances = distances[self.rows]
        if self.scatter is not None:
            self._draw()

    def _draw(self) -> None:
        import jscatter

        if self.scatter is None:
            self.scatter = jscatter.Scatter("x", "y", self._points(), x_scale=EXTENT, y_scale=EXTENT, height=HEIGHT)
            self.scatter.axes(False)
            self.scatter.background((0, 0, 0, 0) if self._dark else (1, 1, 1, 0))  # transparent, of this brightness
            self.scatter.size(by="hit", map=POINT_SIZES, norm=(0, 1))
            self.scatter.color(selected=HIT_COLOUR, hover=HIT_COLOUR)
            self._colour()
            self.scatter.widget.observe(self._hovered, "hovering")
            self.scatter.widget.observe(self._selected, "selection")
            self._plot.children = [self.scatter.widget]
        else:
            self.scatter.data(self._points())

    def _points(self) -> Any:
        """Return where and what the points are, as a `pandas.DataFrame`."""
        import pandas as pd

        x, y = self._positions.T
        near, far = np.nanquantile(self._distances, SHADED_QUANTILES)
        nearness = np.nan_to_num(np.clip((far - self._distances) / max(far - near, 1e-6), 0, 1))
        hit = np.zeros(len(self.rows), np.float32)
        hit[self._marked] = 1
        return pd.DataFrame({"x": x, "y": y, "folder": self._folders, "nearness": nearness, "hit": hit})

    @cached_property
    def _folders(self) -> Any:
        import pandas as pd

        return pd.Categorical([folder_of(self._gallery.names[row]) for row in self.rows])

    def _colour(self) -> None:
        if self.colour.value == "folder":
            self.scatter.color(by="folder", map="auto")
        else:
            self.scatter.color(by="nearness", map="viridis", norm=(0, 1))

    def _note_theme(self, content: Content, _: object) -> None:
        self._dark = content["dark"]

    def _show_progress(self, _: str, done: int, total: int) -> None:
        self._progress.value = done / total

    def _hovered(self, change: dict[str, Any]) -> None:
        if change["new"] is not None:
            self._look_at(int(change["new"]))

    def _selected(self, change: dict[str, Any]) -> None:
        """Search from a point that is clicked; several, from a lasso, are only looked at."""
        if len(change["new"]) == 1:
            self._on_search(int(self.rows[int(change["new"][0])]))

    def _look_at(self, point: int) -> None:
        self.current = point
        row = int(self.rows[point])
        name = source_name(self._gallery.names[row])
        jpeg, reason = picture(self._gallery.photo_path(row), PHOTO_SIDE)
        self._photo.show({"kind": "photo", "name": f"{name}: {reason}" if reason else name}, [jpeg])

    def _search_current(self) -> None:
        if self.current is not None:
            self._on_search(int(self.rows[self.current]))

    def _step_button(self, arrow: str) -> ipw.Button:
        button = ipw.Button(description=arrow, tooltip=f"the next photo {arrow}", layout=ipw.Layout(width="46px"))
        button.on_click(lambda _: self._step(np.array(DIRECTIONS[arrow], np.float32)))
        return button

    def _step(self, direction: NDArray[np.float32]) -> None:
        """Look at the nearest point in a direction, within 45 degrees of it."""
        current = self.current if self.current is not None else int(self._marked[0]) if len(self._marked) else 0
        away = self._positions - self._positions[current]
        along, length = away @ direction, np.linalg.norm(away, axis=1)
        ahead = np.flatnonzero((along > 0) & (along >= length * np.sqrt(0.5)))
        if len(ahead):
            self._look_at(int(ahead[np.argmin(length[ahead])]))
