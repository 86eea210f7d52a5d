import json
from html.parser import HTMLParser
from pathlib import Path

from similar_images.evaluation.report import Part, machine, table, verbatim, write_report

PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010806000000"
    "1f15c4890000000d49444154789c6360606060000000050001a5f645400000000049454e44ae426082"
)
NAMES = ["<script>alert(1)</script>", '"><img src=http://x onerror=y>', "a|`b``|c", "![p](http://x/y.png)", "&amp;_*_"]


class Page(HTMLParser):
    """The tags of a page, and the text of its table cells."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags, self.cells, self._in_cell = list[tuple[str, dict[str, str | None]]](), list[str](), False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._in_cell |= tag == "td"
        self.cells += [""] * (tag == "td")

    def handle_endtag(self, tag: str) -> None:
        self._in_cell &= tag != "td"

    def handle_data(self, data: str) -> None:
        if self._in_cell:
            self.cells[-1] += data


def test_page_holds_its_pictures_and_shows_names_as_they_are(tmp_path: Path) -> None:
    text = table(["name", "number"], [[verbatim(name), 0.5] for name in NAMES]) + "\n\n![A plot](plot.png)"
    write_report(tmp_path, '<b title="x">', [Part(text, {"mean": 1}, {"plot.png": PIXEL}), Part("", {"rest": 2})])
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert [cell.strip() for cell in page.cells[::2]] == NAMES and page.cells[1] == "0.500"
    (picture,) = [attributes for tag, attributes in page.tags if tag == "img"]
    assert picture["src"].startswith("data:image/png;base64,") and picture["alt"] == "A plot"
    assert {"script", "b", "link", "iframe", "a"}.isdisjoint(tag for tag, _ in page.tags)
    assert json.loads((tmp_path / "report.json").read_text()) == {"mean": 1, "rest": 2}
    assert (tmp_path / "plot.png").read_bytes() == PIXEL and text in (tmp_path / "report.md").read_text()


def test_machine_names_cores_and_versions() -> None:
    assert " cores; Python 3." in machine() and "numpy " in machine()
