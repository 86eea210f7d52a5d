"""Hits as CSV and JSON, and the Python that repeats a search."""

import csv
import io
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, fields

from similar_images.photos.images import is_url
from similar_images.search.gallery import Gallery, Hit
from similar_images.search.question import Example, Question
from similar_images.store.base import Among

# What UTF-8 can't hold, what ends a line, and what a spreadsheet takes for a formula or a file list for a JSON string.
NOT_AS_IT_IS = re.compile('[\\x00-\\x1f\\x7f\\ud800-\\udfff]|^[=+@"-]')


def as_csv(hits: Sequence[Hit]) -> str:
    """Return hits as CSV with a header: the fields of `Hit`.

    A name or path that is no UTF-8, has a control character, or begins with a double quote or as a formula would
    stands as a JSON string, in ASCII and with its double quotes, as in file lists.
    """
    text = io.StringIO()
    table = csv.DictWriter(text, [field.name for field in fields(Hit)])
    table.writeheader()
    table.writerows(asdict(hit) | {"name": _cell(hit.name), "path": _cell(str(hit.path))} for hit in hits)
    return text.getvalue()


def _cell(text: str) -> str:
    return json.dumps(text) if NOT_AS_IT_IS.search(text) else text


def as_json(hits: Sequence[Hit]) -> str:
    """Return hits as a JSON list of objects with the fields of `Hit`."""
    return json.dumps([asdict(hit) for hit in hits], indent=2, default=str) + "\n"


def as_python(gallery: Gallery, question: Question, settings: dict[str, object], among: Among | None = None) -> str:
    """Return the Python that repeats a search.

    Args:
        gallery: what was searched.
        question: the query with its marks.
        settings: the keyword arguments of `Gallery.search`, but for `among`.
        among: which photos may be found, None for all.
    """
    imports = ["from similar_images.search.gallery import Gallery"]
    opening = f"gallery = Gallery.open({str(gallery.path.resolve())!r}, img_dir={str(gallery.img_dir.resolve())!r})"
    query, notes = _query(question)
    lines = ["", opening, *notes]
    if "cropped(" in query:
        imports.append("from similar_images.photos.images import cropped")
    if question.relevant or question.irrelevant:
        imports.append("from similar_images.search.feedback import refined")
        query = f"refined(gallery, {query}, {list(question.relevant)}, {list(question.irrelevant)})"
    arguments = ["query", *(f"{name}={value!r}" for name, value in settings.items())]
    if any(example.row is None and not example.box for example in question.examples):
        arguments.append("find_photo=False")
    lines.append(f"query = {query}")
    if among is not None:
        imports.append("from similar_images.store.base import Among")
        arguments.append(f"among={_of_fields(among)}")
    lines += [f"hits = gallery.search({', '.join(arguments)})", "for hit in hits:"]
    return "\n".join([*sorted(imports), *lines, '    print(f"{hit.rank}  {hit.distance:.3f}  {hit.name!r}")', ""])


def _of_fields(among: Among) -> str:
    """Return a filter as Python, without the fields that filter nothing."""
    arguments = (
        f"{field.name}={getattr(among, field.name)!r}" for field in fields(among) if getattr(among, field.name)
    )
    return f"Among({', '.join(arguments)})"


def _query(question: Question) -> tuple[str, list[str]]:
    """Return the examples as Python, and notes on those whose path isn't known."""
    queries = [_photo(example) for example in question.examples]
    notes = [
        f"# {example.name!r} is a photo of your own: put its path"
        for example in question.examples
        if isinstance(example.photo, bytes) and not is_url(example.name)
    ]
    return queries[0] if len(queries) == 1 else f"[{', '.join(queries)}]", notes


def _photo(example: Example) -> str:
    photo = repr(example.name if isinstance(example.photo, bytes) else str(example.photo))
    if example.box is None:
        return photo
    return f"cropped({photo}, {tuple(round(edge, 4) for edge in example.box)})"
