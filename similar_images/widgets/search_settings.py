"""The widget of the search settings."""

from collections.abc import Callable, Sequence
from typing import Any

import traitlets

from similar_images.search.gallery import Gallery
from similar_images.store.base import Among
from similar_images.store.measure import FOCUS, NEIGHBOURS
from similar_images.widgets.errors import report_errors
from similar_images.widgets.message_view import MessageView, module

SEARCH_TRAITS = [
    "k",
    "nprobe",
    "rerank",
    "suppress_near_duplicates",
    "min_similarity",
    "focus",
    "expand",
    "folder",
    "pattern",
]
MAX_RESULTS = 300
MAX_FOLDERS = 1000


class SearchSettings(MessageView):
    """Search settings; the page changes the traits.

    Attributes:
        k: how many hits.
        nprobe: see `Gallery.search`.
        rerank: likewise.
        suppress_near_duplicates: likewise.
        min_similarity: likewise; 0 leaves out nothing.
        focus: likewise; hidden where the gallery can't be focused.
        expand: likewise.
        folder: the only one to search, None for all.
        pattern: see `Among`.
        show_scores: whether tiles always show rank and similarity.
        cost: a sentence on what the last search cost.
        agreement: a sentence on how well it agrees with an exact one.
    """

    _esm = module("search_settings.js")
    k = traitlets.Int().tag(sync=True)
    nprobe = traitlets.Int().tag(sync=True)
    rerank = traitlets.Int().tag(sync=True)
    suppress_near_duplicates = traitlets.Float(0).tag(sync=True)
    min_similarity = traitlets.Float(0).tag(sync=True)
    focus = traitlets.Float(FOCUS).tag(sync=True)
    expand = traitlets.Int().tag(sync=True)
    folder = traitlets.Unicode(None, allow_none=True).tag(sync=True)
    pattern = traitlets.Unicode("").tag(sync=True)
    show_scores = traitlets.Bool(False).tag(sync=True)
    cost = traitlets.Unicode("").tag(sync=True)
    agreement = traitlets.Unicode("").tag(sync=True)
    max_k = traitlets.Int().tag(sync=True)
    n = traitlets.Int().tag(sync=True)
    nlist = traitlets.Int().tag(sync=True)
    can_focus = traitlets.Bool().tag(sync=True)
    neighbours = traitlets.Int().tag(sync=True)
    compared = traitlets.Unicode().tag(sync=True)
    folders = traitlets.List(traitlets.Unicode()).tag(sync=True)

    def __init__(self, gallery: Gallery, k: int, on_change: Callable[[], None], on_compare: Callable[[], None]) -> None:
        """Make the settings.

        Args:
            gallery: what is searched; its card has the first settings.
            k: how many hits at first.
            on_change: called when what is found may change.
            on_compare: called when the last search is to be compared with an exact one.
        """
        folders = list(gallery.store.labels())
        max_k = min(MAX_RESULTS, len(gallery))
        neighbours = NEIGHBOURS if gallery.can_compare else 0
        super().__init__(
            {"compare": lambda content, buffers: report_errors(self._show_agreement, on_compare)()},
            k=min(k, max_k),
            nprobe=gallery.store.effort.nprobe,
            rerank=gallery.store.effort.rerank,
            max_k=max_k,
            n=len(gallery),
            nlist=gallery.store.nlist,
            can_focus=gallery.measure.can_focus,
            neighbours=neighbours,
            expand=neighbours,
            compared="exactly" if gallery.store.has_vectors else "approximately" if gallery.can_compare else "",
            folders=folders if len(folders) <= MAX_FOLDERS else [],
        )
        self.observe(lambda change: on_change(), SEARCH_TRAITS)

    def show_cost(self, ms: float) -> None:
        """Show what a search of `ms` milliseconds cost."""
        self.agreement = ""
        if not self.nlist:
            self.cost = f"The last search took {ms:.1f} ms: it compared all of {self.n:,} photos."
            return
        scanned = self.n * min(1, self.nprobe / self.nlist)
        candidates = max(self.k, self.rerank) if self.rerank and self.compared else 0
        self.cost = (
            f"The last search took {ms:.1f} ms: it scanned {self.nprobe} of {self.nlist} inverted lists"
            f"{' twice' if self.expand else ''}, about {scanned:,.0f} of {self.n:,} photos, and re-ranked "
            f"{candidates} candidates {self.compared or 'exactly'}."
        )

    def _show_agreement(self, sentence: str) -> None:
        self.agreement = sentence

    def among(self, without: Sequence[int] = ()) -> Among | None:
        """Return which photos may be found, None for all; those of some rows may not."""
        labels = None if self.folder is None else (self.folder,)
        among = Among(pattern=self.pattern.strip(), labels=labels, without=tuple(without))
        return None if among == Among() else among

    def keywords(self) -> dict[str, Any]:
        """Return the settings as keyword arguments of `Gallery.search`, but for `among`."""
        settings: dict[str, Any] = {"k": self.k}
        if self.nlist:
            settings |= {"nprobe": self.nprobe, "rerank": self.rerank}
        if self.suppress_near_duplicates:
            settings["suppress_near_duplicates"] = round(self.suppress_near_duplicates, 4)
        if self.min_similarity:
            settings["min_similarity"] = round(self.min_similarity, 4)
        if self.can_focus:
            settings["focus"] = self.focus
        return settings | ({"expand": self.expand} if self.expand else {})
