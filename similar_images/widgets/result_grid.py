"""The widget that shows hits as a grid of photos, and one of them large beside the query."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import lru_cache

import traitlets

from similar_images.photos.images import image_size, source_name, thumbnail
from similar_images.search.explanation import explain, spotlights
from similar_images.search.gallery import Gallery, Hit
from similar_images.search.question import Example, Question
from similar_images.widgets.errors import report_errors
from similar_images.widgets.message_view import Content, MessageView, module
from similar_images.widgets.pictures import picture

TILE_SIDE = 240
LARGE_SIDE = 900
_cached_thumbnail = lru_cache(1000)(thumbnail)


class ResultGrid(MessageView):
    """Hits as tiles; the page requests their pictures, and a closer look at one.

    Attributes:
        show_scores: whether rank and similarity are always shown.
        focus: see `Gallery.search`; similarities are explained by it.
    """

    _esm = module("result_grid.js")
    show_scores = traitlets.Bool(False).tag(sync=True)
    focus = traitlets.Float()

    def __init__(
        self,
        gallery: Gallery,
        on_search: Callable[[int], None],
        on_mark: Callable[[int, bool], None],
        on_more: Callable[[], None],
    ) -> None:
        """Make an empty grid.

        Args:
            gallery: what is searched.
            on_search: called with the row of the photo to search on from.
            on_mark: called with a row and whether it is relevant.
            on_more: called when more hits are wanted.
        """
        super().__init__(
            {
                "search": lambda content, _: on_search(content["row"]),
                "mark": lambda content, _: on_mark(content["row"], content["relevant"]),
                "more": lambda *_: on_more(),
                "pictures": self._send_pictures,
                "look": report_errors(self.show_error, self._look),
                "explain": report_errors(self.show_error, self._explain),
            }
        )
        self._gallery = gallery
        self._example: Example | None = None

    def show_hits(self, hits: Sequence[Hit], question: Question, more: bool, expand: int) -> None:
        """Show hits in place of others.

        Args:
            hits: nearest first.
            question: the query; its first photo is shown beside a hit that is looked at closely.
            more: whether there may be more.
            expand: see `Gallery.search`.
        """
        self._example = question.examples[0]
        facts = [
            asdict(hit) | {"row": hit.image_id, "name": source_name(hit.name), "path": source_name(hit.path)}
            for hit in hits
        ]
        has_more_parts = len(question.examples) > 1 or question.relevant or question.irrelevant
        to = "your query" if has_more_parts else "your photo"
        to += f" and its {expand} nearest" if expand else ""
        self.show({"kind": "hits", "hits": facts, "relevant": list(question.relevant), "more": more, "to": to})

    def _send_pictures(self, content: Content, _: object) -> None:
        pictures = [picture(self._gallery.photo_path(row), TILE_SIDE, _cached_thumbnail) for row in content["rows"]]
        reasons = [reason for _, reason in pictures]
        self.send(
            {"kind": "pictures", "rows": content["rows"], "reasons": reasons}, [picture for picture, _ in pictures]
        )

    def _look(self, content: Content, _: object) -> None:
        assert self._example is not None
        path = self._gallery.photo_path(content["row"])
        query, no_query = picture(self._example.part(), LARGE_SIDE)
        found, no_hit = picture(path, LARGE_SIDE)
        size = (
            "unknown" if no_hit else f"{' x '.join(map(str, image_size(path)))} pixels, {path.stat().st_size:,} bytes"
        )
        facts = {"query": self._example.name, "size": size, "reason": no_query or no_hit}
        self.send({"kind": "look", "row": content["row"], **facts}, [query, found])

    def _explain(self, content: Content, _: object) -> None:
        assert self._example is not None
        photos = (self._example.part(), self._gallery.photo_path(content["row"]))
        heats = explain(self._gallery.runtime, self._gallery.measure, *photos, self.focus)
        self.send({"kind": "explained", "row": content["row"]}, spotlights(photos, heats, LARGE_SIDE))
