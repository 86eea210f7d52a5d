"""What was measured of a gallery as plots: PNG files that are drawn only where there is something to compare."""

import io
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from similar_images.evaluation.encoder_comparison import EncoderFigures
from similar_images.evaluation.index_quality import OperatingPoint
from similar_images.evaluation.measures import mean_with_interval
from similar_images.evaluation.robustness import Firsts
from similar_images.photos.images import source_name

BARS = 200  # labels in a picture, which would get too high for more


def plot_operating_points(points: Sequence[OperatingPoint]) -> bytes:
    """Return a plot of recall over time, a line for each number of re-ranked candidates."""
    figure, axes = _figure()
    for rerank in sorted({point.rerank for point in points}):
        line = sorted((point for point in points if point.rerank == rerank), key=lambda point: point.nprobe)
        name = f"{rerank} re-ranked" if rerank else "not re-ranked"
        axes.plot([p.p50 for p in line], [p.recall_at_10 for p in line], marker="o", markersize=3, label=name)
    current = [point for point in points if point.current]
    at = [point.p50 for point in current], [point.recall_at_10 for point in current]
    axes.plot(*at, marker="*", markersize=15, color="black", label="current", linestyle="")
    axes.set(xlabel="ms per query (median)", ylabel="recall@10")
    return _png(figure, by_time=axes)


def plot_encoders(figures: Sequence[EncoderFigures]) -> bytes:
    """Return a plot of quality over time, a point with its interval for each encoder."""
    figure, axes = _figure()
    for each in figures:
        mean, low, high = mean_with_interval(each.quality.precision)
        axes.errorbar(
            [each.milliseconds], [mean], yerr=[[mean - low], [high - mean]], fmt="o", capsize=3, label=_drawn(each.name)
        )
    axes.set(xlabel="ms per photo", ylabel=f"precision@{figures[0].quality.found.shape[1]}")
    return _png(figure, by_time=axes)


def plot_labels(by_label: Sequence[tuple[str, int, float, float]], k: int) -> bytes:
    """Return a plot of the precision of the worst labels, the worst first."""
    shown = by_label[:BARS]
    figure, axes = _figure(height=max(3, 0.17 * len(shown)))
    axes.barh(range(len(shown)), [line[2] for line in shown], height=0.7)
    axes.set_yticks(range(len(shown)), [_drawn(line[0]) for line in shown], fontsize=6)
    axes.set(xlim=(0, 1), xlabel=f"precision@{k}")
    axes.invert_yaxis()
    axes.margins(y=0.005)
    return _png(figure)


def plot_robustness(ways: Mapping[str, Firsts]) -> bytes:
    """Return a plot of how often each change leaves the original first, with its interval, a bar for each way."""
    figure, axes = _figure(height=6)
    changes, height = list(next(iter(ways.values()))), 0.8 / len(ways)
    for number, (way, firsts) in enumerate(ways.items()):
        values, *ends = np.array([mean_with_interval(values) for values in firsts.values()]).T
        at = np.arange(len(changes)) + height * (number - (len(ways) - 1) / 2)
        axes.barh(at, values, height, xerr=np.abs(np.array(ends) - values), label=way, error_kw={"linewidth": 0.8})
    axes.set_yticks(range(len(changes)), changes)
    axes.set(xlim=(0, 1.02), xlabel="original first")
    axes.invert_yaxis()
    figure.legend(loc="outside upper center", ncols=2, fontsize=8)
    return _png(figure)


def _figure(height: float = 4) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, height), layout="constrained")
    return figure, figure.subplots()


def _drawn(name: str) -> str:
    """Return a name as Matplotlib draws it: it takes what stands between dollars for a formula."""
    return source_name(name).replace("$", r"\$")


def _png(figure: Any, by_time: Any = None) -> bytes:
    """Return a drawn figure; axes `by_time` get a legend, and 0.1, 0.2, 0.5, 1 on a logarithmic axis below."""
    from matplotlib.ticker import LogLocator, NullFormatter

    if by_time:
        by_time.set(xscale="log")
        by_time.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        by_time.xaxis.set_major_formatter("{x:g}")
        by_time.xaxis.set_minor_formatter(NullFormatter())
        by_time.legend(fontsize=8)
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # a box stands for it
        figure.savefig(file, dpi=120)
    return file.getvalue()
