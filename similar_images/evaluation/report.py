"""What was measured of a gallery, as Markdown, as one HTML file that needs no other, and as JSON."""

import base64
import json
import os
import platform
import re
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from html import escape
from importlib.metadata import PackageNotFoundError, version
from itertools import pairwise
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
from numpy.typing import NDArray

from similar_images.evaluation.measures import mean_with_interval
from similar_images.files import replacing
from similar_images.photos.images import source_name

PAGE = Path(__file__).with_name("report.html")
MEASURED_WITH = ("tensorflow", "openvino", "faiss-cpu", "numpy")
KINDS = {".png": "image/png", ".jpg": "image/jpeg"}


@dataclass(frozen=True)
class Part:
    """What was measured of one kind.

    Attributes:
        section: of the report, in Markdown; empty where there is nothing to say.
        figures: by name, as JSON will hold them.
        pictures: the content of the picture files that the section shows, by name.
    """

    section: str
    figures: dict[str, Any]
    pictures: dict[str, bytes] = field(default_factory=dict)


def joined(parts: Sequence[Part]) -> Part:
    """Return several parts as one."""
    return Part(
        "\n\n".join(part.section for part in parts if part.section),
        {name: value for part in parts for name, value in part.figures.items()},
        {name: content for part in parts for name, content in part.pictures.items()},
    )


def check_writable(folder: Path) -> None:
    """Make the folder of a report, and see that it can be written to before much time is spent on measuring.

    Raises:
        ValueError: it can't.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise ValueError(
            f"{folder} is no folder that you may write to ({error.strerror}): give --output_dir"
        ) from error


def write_report(folder: Path, title: str, parts: Sequence[Part]) -> None:
    """Write report.md, report.html, report.json and the pictures, each whole or not at all.

    Args:
        folder: where they go; it is there.
        title: of the report.
        parts: in this order.

    Raises:
        OSError: the folder can't be written to.
    """
    report = joined(parts)
    text = f"# {verbatim(title)}\n\n{report.section}\n"
    files = report.pictures | {
        "report.json": json.dumps(report.figures, indent=2).encode() + b"\n",
        "report.md": text.encode("utf-8", "backslashreplace"),
        "report.html": as_html(source_name(title), text, report.pictures).encode("utf-8", "backslashreplace"),
    }
    for name, content in files.items():
        with replacing(folder / name) as temporary:
            temporary.write_bytes(content)


def as_html(title: str, text: str, pictures: Mapping[str, bytes]) -> str:
    """Return Markdown as one HTML page that holds its pictures and asks for nothing else.

    Args:
        title: of the page.
        text: CommonMark with tables; what looks like HTML in it is text.
        pictures: the content of each PNG or JPEG file that it shows, by name.
    """
    from markdown_it import MarkdownIt

    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    markdown.add_render_rule("table_open", lambda *_: '<div class="wide" tabindex="0"><table>\n')
    markdown.add_render_rule("table_close", lambda *_: "</table></div>\n")
    tokens = markdown.parse(text)
    for paragraph, inline in pairwise(tokens):
        for picture in (child for child in inline.children or [] if child.type == "image"):
            name = str(picture.attrs["src"])
            content = base64.b64encode(pictures[name]).decode("ascii")
            picture.attrs["src"] = f"data:{KINDS[Path(name).suffix]};base64,{content}"
            paragraph.attrs |= {"class": "wide", "tabindex": "0"}
    body = markdown.renderer.render(tokens, markdown.options, {})
    return Template(PAGE.read_text(encoding="utf-8")).substitute(title=escape(title), body=body)


def machine() -> str:
    """Return what figures are measured on, in words: processor, cores, and versions of what they depend on."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    model = next((line.split(": ", 1)[1] for line in lines if line.startswith("model name")), platform.processor())
    amx = ", AMX" if any("amx_bf16" in line for line in lines) else ""
    versions = [f"Python {platform.python_version()}"]
    for name in MEASURED_WITH:
        with suppress(PackageNotFoundError):
            versions.append(f"{name} {version(name)}")
    return f"{model}{amx}, {os.cpu_count()} cores; {', '.join(versions)}"


def table(header: Sequence[str], lines: Sequence[Sequence[object]]) -> str:
    """Return a Markdown table; floats get three digits, and names as by `verbatim` stand on the left."""
    rows = [[f"{cell:.3f}" if isinstance(cell, float) else str(cell) for cell in line] for line in lines]
    rule = ["---" if at == 0 or rows[0][at].startswith("`") else "---:" for at in range(len(header))]
    cells = [[cell.replace("|", r"\|") for cell in line] for line in [list(header), rule, *rows]]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def verbatim(name: str) -> str:
    """Return the name of a photo or label as Markdown that shows it as it is, whatever it holds."""
    shown = source_name(name)
    fence = "`" * (1 + max(map(len, re.findall("`+", shown)), default=0))
    return f"{fence}{shown}{fence}" if len(fence) == 1 else f"{fence} {shown} {fence}"


def interval(values: NDArray[np.float64]) -> str:
    """Return a mean and its 95 % interval in words."""
    return "{:.3f} ({:.3f} to {:.3f})".format(*mean_with_interval(values))
