"""What was measured of a gallery, as Markdown and as plots."""

import io
import json
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from similar_images._files import replacing
from similar_images.answer_quality import AnswerQuality
from similar_images.encoder_comparison import EncoderFigures
from similar_images.evaluation import bootstrap_interval
from similar_images.gallery import Gallery
from similar_images.images import source_name
from similar_images.index_quality import OperatingPoint
from similar_images.labels import Labels

LINES = 20
BARS = 200  # labels in a picture, which would get too high for more


class Part(NamedTuple):
    """What was measured of one kind.

    Attributes:
        section: of the report, in Markdown.
        figures: by name, as JSON will hold them.
        pictures: the content of PNG files, by name.
    """

    section: str
    figures: dict[str, Any]
    pictures: dict[str, bytes]


def write_report(folder: Path, gallery: Gallery, parts: Sequence[Part], seconds: float) -> None:
    """Write report.md, report.json and the pictures, each whole or not at all.

    Args:
        folder: where they go; it is there.
        gallery: what was measured.
        parts: in this order.
        seconds: how long that took.

    Raises:
        OSError: the folder can't be written to.
    """
    files = {name: content for part in parts for name, content in part.pictures.items()}
    figures: dict[str, Any] = {"gallery": repr(gallery)}
    for part in parts:
        figures |= part.figures
    files["report.json"] = json.dumps(figures | {"seconds": seconds}, indent=2).encode() + b"\n"
    sections = [f"# {gallery.path.name}\n\n{gallery!r}", *(part.section for part in parts)]
    files["report.md"] = "\n\n".join(sections).encode("utf-8", "backslashreplace") + b"\n"
    for name, content in files.items():
        with replacing(folder / name) as temporary:
            temporary.write_bytes(content)


def table(header: Sequence[str], lines: Sequence[Sequence[object]]) -> str:
    """Return a Markdown table; floats get three digits."""
    rows = [[f"{cell:.3f}" if isinstance(cell, float) else str(cell) for cell in line] for line in lines]
    rule = ["---" if at == 0 else "---:" for at in range(len(header))]
    cells = [[cell.replace("|", r"\|") for cell in line] for line in [list(header), rule, *rows]]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def verbatim(name: str) -> str:
    """Return the name of a photo or label as Markdown that shows it as it is, whatever it holds."""
    shown = source_name(name)
    fence = "`" * (1 + max(map(len, re.findall("`+", shown)), default=0))
    return f"{fence}{shown}{fence}" if len(fence) == 1 else f"{fence} {shown} {fence}"


def interval(values: NDArray[np.float64]) -> str:
    """Return a mean and its 95 % interval in words."""
    low, high = bootstrap_interval(values)
    return f"{np.nanmean(values):.3f} ({low:.3f} to {high:.3f})"


def index_section(points: Sequence[OperatingPoint], target: float, best: OperatingPoint | None, queries: int) -> str:
    """Return the section on the index: the settings that are not beaten by another, the current and the cheapest."""
    ks = list(points[0].recall)
    shown = [point for point in points if point.current or point is best or _unbeaten(point, points)]
    lines = [
        (
            point.nprobe or "all",
            point.rerank or "none",
            *(point.recall[k] for k in ks),
            f"{point.p50:.2f}",
            f"{point.p99:.2f}",
            ", ".join(word for word, true in (("current", point.current), ("cheapest", point is best)) if true),
        )
        for point in shown
    ]
    header = ["lists looked into", "re-ranked", *(f"recall@{k}" for k in ks), "ms (median)", "ms (p99)", ""]
    reached = (
        f"recall@10 of {target} is reached cheapest with nprobe {best.nprobe} and {best.rerank} re-ranked."
        if best
        else f"No setting reaches a recall@10 of {target}."
    )
    return f"## Index\n\n{queries:,} photos asked for their neighbours. {reached}\n\n{table(header, lines)}"


def _unbeaten(point: OperatingPoint, points: Sequence[OperatingPoint]) -> bool:
    return not any(other.p50 < point.p50 and _recall(other) >= _recall(point) for other in points)


def answer_section(quality: AnswerQuality, labels: Labels) -> str:
    """Return the section on the answers: means, labels from the worst on, and the most frequent confusions."""
    k = quality.found.shape[1]
    means = [(name, f"{mean:.3f}", f"{low:.3f} to {high:.3f}") for name, (mean, low, high) in quality.means().items()]
    by_label = [(verbatim(label), *figures) for label, *figures in quality.by_label(labels)]
    confusions = [
        (verbatim(asked), verbatim(found), share) for asked, found, share in quality.confusions(labels)[:LINES]
    ]
    return (
        f"## Answers\n\n{len(quality.rows):,} photos with {len(labels.names):,} labels, each asking for the others.\n\n"
        f"{table(['measure', 'mean', '95 % interval'], means)}\n\n"
        f"The {min(LINES, len(by_label))} worst of {len(by_label)} labels:\n\n"
        f"{table(['label', 'photos', f'precision@{k}', 'mean average precision'], by_label[:LINES])}\n\n"
        f"What is most often found instead:\n\n{table(['asked for', 'found', 'share of results'], confusions)}"
    )


def robustness_section(firsts: Mapping[str, NDArray[np.float64]]) -> str:
    """Return the section on changed photos."""
    lines = [(change, interval(values)) for change, values in firsts.items()]
    count = len(next(iter(firsts.values())))
    return f"## Robustness\n\n{count:,} photos, each changed, and how often the original comes first:\n\n" + table(
        ["change", "original first (95 % interval)"], lines
    )


def encoders_section(figures: Sequence[EncoderFigures]) -> str:
    """Return the section on encoders, the best first."""
    lines = []
    for each in sorted(figures, key=lambda each: -np.nanmean(each.quality.precision)):
        means = [mean for mean, _, _ in each.quality.means().values()]
        lines.append((each.name, *means, f"{each.milliseconds:.1f}", 4 * each.d))
    header = ["encoder", *figures[0].quality.means(), "ms per photo", "bytes per photo"]
    asked = f"{len(figures[0].quality.rows):,} photos, each asking for the others."
    return f"## Encoders\n\n{asked}\n\n{table(header, lines)}"


def plot_encoders(figures: Sequence[EncoderFigures]) -> bytes:
    """Return a PNG of quality over time, a point with its interval for each encoder."""
    figure, axes = _figure()
    for each in figures:
        mean = float(np.nanmean(each.quality.precision))
        low, high = bootstrap_interval(each.quality.precision)
        error = [[mean - low], [high - mean]]
        axes.errorbar([each.milliseconds], [mean], yerr=error, fmt="o", capsize=3, label=_drawn(each.name))
    axes.set(xscale="log", xlabel="ms per photo", ylabel=f"precision@{figures[0].quality.found.shape[1]}")
    axes.legend(fontsize=8)
    _plain_numbers(axes)
    return _png(figure)


def duplicates_section(gallery: Gallery, found: Sequence[Sequence[int]], distance: float) -> str:
    """Return the section on near-duplicates."""
    lines = [(len(group), ", ".join(verbatim(gallery.names[row]) for row in group[:4])) for group in found[:LINES]]
    return (
        f"## Near-duplicates\n\n{len(found):,} groups of photos nearer to each other than {distance:.4f}, "
        f"{sum(map(len, found)):,} photos in all. They flatter every figure above."
        + (f"\n\n{table(['photos', 'names'], lines)}" if found else "")
    )


def plot_operating_points(points: Sequence[OperatingPoint]) -> bytes:
    """Return a PNG of recall over time, a line for each number of re-ranked candidates."""
    figure, axes = _figure()
    for rerank in sorted({point.rerank for point in points}):
        line = sorted((point for point in points if point.rerank == rerank), key=lambda point: point.nprobe)
        label = f"{rerank} re-ranked" if rerank else "not re-ranked"
        axes.plot([p.p50 for p in line], [_recall(p) for p in line], marker="o", markersize=3, label=label)
    for point in points:
        if point.current:
            axes.plot(
                point.p50, _recall(point), marker="*", markersize=15, color="black", label="current", linestyle=""
            )
    axes.set(xscale="log", xlabel="ms per query (median)", ylabel="recall@10")
    axes.legend(fontsize=8)
    _plain_numbers(axes)
    return _png(figure)


def plot_labels(by_label: Sequence[tuple[str, int, float, float]], k: int) -> bytes:
    """Return a PNG of the precision of the worst labels, the worst first."""
    shown = by_label[:BARS]
    figure, axes = _figure(height=max(3, 0.17 * len(shown)))
    axes.barh(range(len(shown)), [line[2] for line in shown], height=0.7)
    axes.set_yticks(range(len(shown)), [_drawn(line[0]) for line in shown], fontsize=6)
    axes.set(xlim=(0, 1), xlabel=f"precision@{k}")
    axes.invert_yaxis()
    axes.margins(y=0.005)
    return _png(figure)


def plot_robustness(firsts: Mapping[str, NDArray[np.float64]]) -> bytes:
    """Return a PNG of how often each change leaves the original first, with its interval."""
    figure, axes = _figure(height=3)
    means = [float(values.mean()) for values in firsts.values()]
    ends = np.array([bootstrap_interval(values) for values in firsts.values()]).T
    axes.barh(list(firsts), means, xerr=np.abs(ends - means), capsize=3)
    axes.set(xlim=(0, 1.02), xlabel="original first")
    axes.invert_yaxis()
    return _png(figure)


def _recall(point: OperatingPoint) -> float:
    return point.recall.get(10, max(point.recall.values()))


def _figure(height: float = 4) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, height), layout="constrained")
    return figure, figure.subplots()


def _plain_numbers(axes: Any) -> None:
    """Write 0.1, 0.2, 0.5, 1 below a logarithmic axis, instead of powers of ten."""
    from matplotlib.ticker import LogLocator, NullFormatter

    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())


def _drawn(name: str) -> str:
    """Return a name as Matplotlib draws it: it takes what stands between dollars for a formula."""
    return source_name(name).replace("$", r"\$")


def _png(figure: Any) -> bytes:
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # a box stands for it
        figure.savefig(file, dpi=120)
    return file.getvalue()
