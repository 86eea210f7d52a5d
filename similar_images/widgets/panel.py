"""The notebook's panel: search a gallery by photos, and refine the query."""

import os
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from html import escape
from pathlib import Path

import ipywidgets as ipw

from similar_images.photos.contact_sheet import contact_sheet
from similar_images.photos.images import Box, ImageReadError, source_name
from similar_images.search.export import as_csv, as_json, as_python
from similar_images.search.gallery import Gallery, Hit
from similar_images.search.question import Example, History, Question
from similar_images.store.base import EXHAUSTIVE
from similar_images.store.exact_search import recall_at_k
from similar_images.widgets.errors import alert_html, report_errors
from similar_images.widgets.export_bar import ExportBar
from similar_images.widgets.kernel_watch import KernelWatch
from similar_images.widgets.map_view import MapView
from similar_images.widgets.photo_input import PhotoInput
from similar_images.widgets.question_view import QuestionView
from similar_images.widgets.result_grid import ResultGrid
from similar_images.widgets.search_settings import SearchSettings

STYLE = (Path(__file__).parent / "style.css").read_text(encoding="utf-8")
MORE_RESULTS = 24
PHOTO_FOUND = "searched for the photo found in the picture; “Whole photo” undoes that · "
ROW = {"flex_flow": "row wrap", "align_items": "center"}


class SearchPanel(ipw.VBox):
    """Search a gallery by photos of one's own, a random one, an address, parts of photos, or hits.

    Attributes:
        gallery: what is searched.
        hits: the result that is shown, nearest first.
    """

    def __init__(self, gallery: Gallery, k: int = 12, private_addresses: bool = False) -> None:
        """Make the panel.

        Args:
            gallery: what to search.
            k: how many results to show at first.
            private_addresses: whether photos may be fetched from this machine and its network; an app never does.
        """
        self._private_addresses = private_addresses and not _is_app()
        self.gallery = gallery
        self.hits: list[Hit] = []
        self._history = History()
        self._make_widgets(k)
        buttons = ipw.HBox([self._random, self._back, self._forward])
        toolbar = ipw.Box([self._input, buttons], layout=ipw.Layout(**ROW))
        results = ipw.Box([self._question, self._grid])
        results.add_class("si-query-and-results")
        map_row = ipw.VBox([self._open_map, self._map])
        style = ipw.HTML(f"<style>{STYLE}</style>")
        parts = [toolbar, self._settings, self._status, results, self._export, map_row]
        super().__init__([style, KernelWatch(), *parts])
        self.add_class("similar-images")
        self._back.disabled = self._forward.disabled = True
        self._show_status("Upload, drop or paste a photo, pick a random one, or paste an address.")

    def __repr__(self) -> str:
        """Name the gallery; a notebook file stores this instead of the widget, and no photo may be in it."""
        return f"<SearchPanel of {self.gallery!r}>"

    def ask(self, question: Question, before: str = "") -> None:
        """Search for something new and show the result.

        Args:
            question: the query with its marks.
            before: what else to say in the status line.

        Raises:
            ValueError: as `Gallery.search`.
        """
        self._search(question, before)
        self._history.add(question)
        self._show_question()

    def show_error(self, sentence: str) -> None:
        """Show what went wrong; the results stay."""
        self._status.value = alert_html(sentence)

    def _make_widgets(self, k: int) -> None:
        safe = partial(report_errors, self.show_error)
        self._input = PhotoInput(safe(self._ask_photos), safe(self._ask_address), self.show_error)
        self._random = _button("Random photo", "random", "a photo of the gallery", safe(self._ask_random))
        self._back = _button("Back", "arrow-left", "the previous search", safe(partial(self._move, -1)))
        self._forward = _button("Forward", "arrow-right", "the next search", safe(partial(self._move, 1)))
        self._settings = SearchSettings(self.gallery, k, safe(self._search_again), self._compare)
        self._status = ipw.HTML()
        self._question = QuestionView(safe(self._crop), safe(self._remove), safe(self._mark))
        self._grid = ResultGrid(self.gallery, safe(self._ask_row), safe(self._mark), safe(self._show_more))
        for trait in ("show_scores", "focus"):
            ipw.link((self._settings, trait), (self._grid, trait))
        self._export = ExportBar(self._export_as)
        self._open_map = ipw.ToggleButton(description="Map", icon="map-o", tooltip="the gallery on a plane")
        self._map = MapView(self.gallery, safe(self._ask_row))
        self._open_map.observe(report_errors(self._map.show_error, self._toggle_map), "value")
        self._map.layout.display = "none"

    def _ask_photos(self, photos: Sequence[tuple[str, bytes]], add: bool) -> None:
        """Search by photos; report those that can't be read."""
        self._load_encoder()
        began = time.perf_counter()
        examples, failures = [], []
        for name, data in photos:
            try:
                vector, box = self.gallery.photo_in(data)
                examples.append(Example(name, data, vector, box=box))
            except ImageReadError as error:
                failures.append(f"{name}: {error.reason}")
        if examples:
            encode_ms = (time.perf_counter() - began) * 1000
            found = PHOTO_FOUND if any(example.box for example in examples) else ""
            self.ask(self._question_of(examples, add), f"{found}{encode_ms:.0f} ms to encode, ")
        if failures:
            raise ValueError("; ".join(failures))

    def _ask_address(self, address: str, add: bool) -> None:
        if not address:
            raise ValueError("Paste the address of a photo first.")
        from similar_images.photos.download import download

        self._show_status("fetching the photo …", busy=True)
        self._ask_photos([(address, download(address, private=self._private_addresses))], add)

    def _ask_random(self, _: object) -> None:
        rows = self.gallery.searchable_rows(self._settings.among())
        if not len(rows):
            raise ValueError("No photo of the gallery is in this folder and has such a name.")
        self._ask_row(int(random.choice(rows)))

    def _ask_row(self, row: int) -> None:
        photo = self.gallery.photo_path(row)
        if not self.gallery.can_compare:
            self._load_encoder()
        self.ask(Question((Example(source_name(self.gallery.names[row]), photo, self.gallery.vector(row), row),)))

    def _question_of(self, examples: Sequence[Example], add: bool) -> Question:
        current = self._history.current
        return (
            replace(current, examples=(*current.examples, *examples)) if add and current else Question(tuple(examples))
        )

    def _load_encoder(self) -> None:
        self._show_status("loading the encoder, which takes some seconds the first time …", busy=True)
        self.gallery.warm_up()

    def _crop(self, at: int, box: Box | None) -> None:
        examples = list(self._asked().examples)
        self._load_encoder()
        examples[at] = examples[at].boxed(self.gallery, box)
        self.ask(replace(self._asked(), examples=tuple(examples)))

    def _remove(self, at: int) -> None:
        examples = self._asked().examples
        self.ask(replace(self._asked(), examples=examples[:at] + examples[at + 1 :]))

    def _mark(self, row: int, relevant: bool) -> None:
        self.ask(self._asked().marked(row, relevant))

    def _asked(self) -> Question:
        if self._history.current is None:
            raise ValueError("Search for something first.")
        return self._history.current

    def _move(self, steps: int, _: object) -> None:
        self._history.move(steps)
        self._show_question()
        self._search_again()

    def _search_again(self) -> None:
        if self._history.current is not None:
            self._search(self._history.current)

    def _show_more(self) -> None:
        self._settings.k = min(self._settings.k + MORE_RESULTS, self._settings.max_k)

    def _show_question(self) -> None:
        question = self._asked()
        marks = [
            (row, source_name(self.gallery.names[row]), self.gallery.photo_path(row), relevant)
            for rows, relevant in ((question.relevant, True), (question.irrelevant, False))
            for row in rows
        ]
        self._question.show_question(question, marks)
        self._back.disabled, self._forward.disabled = not self._history.behind, not self._history.ahead

    def _search(self, question: Question, before: str = "") -> None:
        self._show_status("searching …")
        began = time.perf_counter()
        among = self._settings.among(question.irrelevant)
        self.hits = self.gallery.search(question.vector(self.gallery), among=among, **self._settings.keywords())
        search_ms = (time.perf_counter() - began) * 1000
        more = len(self.hits) == self._settings.k < self._settings.max_k
        self._grid.show_hits(self.hits, question, more, self._settings.expand)
        self._settings.show_cost(search_ms)
        self._export.show_buttons(bool(self.hits))
        self._mark_on_map(question)
        none = ", and nothing is similar enough" if self._settings.min_similarity else ", and no photo is left to find"
        self._show_status(f"{before}{search_ms:.1f} ms to search{'' if self.hits else none}")

    def _compare(self) -> None:
        """Show the recall of the search, without query expansion and near-duplicate suppression."""
        question = self._asked()
        vector, among = question.vector(self.gallery), self._settings.among(question.irrelevant)
        asked = self._settings.keywords() | {
            "suppress_near_duplicates": 0,
            "min_similarity": None,
            "expand": 0,
        }
        found = self.gallery.search(vector, among=among, **asked)
        began = time.perf_counter()
        exact = self.gallery.search(vector, among=among, **(asked | asdict(EXHAUSTIVE)))
        exact_ms = (time.perf_counter() - began) * 1000
        if not exact:
            raise ValueError("No photo is left to compare: choose another folder or name.")
        rows = [[hit.image_id for hit in hits] for hits in (exact, found)]
        distances = [self.gallery.distances(vector, each, asked.get("focus", 0))[None] for each in rows]
        agreeing = round(recall_at_k(*distances) * len(exact))
        self._settings.agreement = (
            f"{agreeing} of the {len(exact)} nearest were found; comparing all photos {self._settings.compared} "
            f"took {exact_ms:.0f} ms"
        )

    def _export_as(self, format_: str) -> None:
        question = self._asked()
        if format_ == "csv":
            self._export.download("similar.csv", "text/csv", as_csv(self.hits).encode())
        elif format_ == "json":
            self._export.download("similar.json", "application/json", as_json(self.hits).encode())
        elif format_ == "png":
            asked = [(example.part(), f"? {example.name}") for example in question.examples]
            found = [(hit.path, f"{hit.rank}  {hit.similarity:.3f}  {hit.name}") for hit in self.hits]
            self._export.download("similar.png", "image/png", contact_sheet([*asked, *found]))
        else:
            among = self._settings.among(question.irrelevant)
            self._export.show_code(as_python(self.gallery, question, self._settings.keywords(), among))

    def _toggle_map(self, change: dict[str, object]) -> None:
        self._map.layout.display = "" if change["new"] else "none"
        if self._history.current is not None:
            self._mark_on_map(self._history.current)
        if change["new"] and self._map.scatter is None:
            self._map.draw()

    def _mark_on_map(self, question: Question) -> None:
        if self._open_map.value:
            self._map.mark(self.hits, self.gallery.estimated_distances(question.vector(self.gallery)))

    def _show_status(self, what: str, busy: bool = False) -> None:
        label = escape(self.gallery.encoder_label)
        if not self.gallery.is_trained:
            label = f'<span class="si-untrained" title="Results mean little.">{label}</span>'
        facts = f"{len(self.gallery):,} photos · {label} · {escape(self.gallery.index_label)}"
        bar = ' <progress aria-label="working"></progress>' if busy else ""
        self._status.value = f'<div class="si-status" role="status">{facts} · {escape(what)}{bar}</div>'


def _is_app() -> bool:
    """Tell whether Voila serves the panel to its visitors."""
    return os.environ.get("SERVER_SOFTWARE", "").startswith("voila")


def _button(description: str, icon: str, tooltip: str, on_click: Callable[[object], None]) -> ipw.Button:
    button = ipw.Button(description=description, icon=icon, tooltip=tooltip, layout=ipw.Layout(width="auto"))
    button.on_click(on_click)
    return button
