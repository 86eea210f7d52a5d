"""The parts of an evaluation: each measures one thing of a gallery, in Markdown, JSON and pictures."""

import shlex
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from similar_images.evaluation.answer_quality import (
    AS_SET,
    CENTRED,
    EXPANDED,
    RAW,
    AnswerQuality,
    Measures,
    Spaces,
    answer_quality,
    known_vectors,
    means,
    searched,
)
from similar_images.evaluation.colour_histograms import colour_histograms
from similar_images.evaluation.duplicate_groups import groups, near_pairs
from similar_images.evaluation.encoder_comparison import (
    EncoderFigures,
    own_figures,
    parse_spec,
    try_encoder,
)
from similar_images.evaluation.index_quality import OperatingPoint, cheapest, operating_points
from similar_images.evaluation.labels import Labels
from similar_images.evaluation.plots import plot_encoders, plot_labels, plot_operating_points, plot_robustness
from similar_images.evaluation.report import Part, interval, joined, machine, table, verbatim
from similar_images.evaluation.robustness import CHANGES, robustness
from similar_images.photos.contact_sheet import contact_sheet
from similar_images.progress import Progress
from similar_images.search.gallery import Gallery
from similar_images.store.measure import FEWEST_TO_CENTRE, NEIGHBOURS

LINES = 20
WORST = 12
SHOWN = 5  # results of each of the worst queries


def sample(rows: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Return up to `count` of rows (r,), seeded, in ascending order."""
    return np.sort(np.random.default_rng(0).permutation(rows)[:count])


def head_part(gallery: Gallery, command: Sequence[str], seconds: float) -> Part:
    """Describe what was measured, when, how, and on what.

    Args:
        gallery: what was measured.
        command: the words of the command line.
        seconds: how long it took.
    """
    facts = {
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "command": shlex.join([Path(command[0]).name, *command[1:]]),
        "machine": machine(),
        "gallery": f"{len(gallery):,} photos: {gallery.encoder_label}, {gallery.index_label}",
    }
    lines = "\n".join(f"- {name}: {verbatim(value)}" for name, value in facts.items())
    return Part(f"{lines}\n- measured in {seconds:.0f} s", facts | {"seconds": seconds})


def index_part(gallery: Gallery, rows: NDArray[np.int64], target: float) -> Part:
    """Measure how the index agrees with exact search.

    Args:
        gallery: what to search.
        rows: (q,) the queries.
        target: the recall@10 to be reached cheapest.
    """
    points = operating_points(gallery, rows)
    best = cheapest(points, target)
    shown = [point for point in points if point.current or point is best or _is_unbeaten(point, points)]
    lines = [
        (
            point.nprobe or "all",
            point.rerank or "none",
            *point.recall.values(),
            f"{point.p50:.2f}",
            f"{point.p99:.2f}",
            ", ".join(word for word, true in (("current", point.current), ("cheapest", point is best)) if true),
        )
        for point in shown
    ]
    recalls = [f"recall@{k}" for k in points[0].recall]
    header = [
        "nprobe (inverted lists)",
        "re-ranked",
        *recalls,
        "ms per query (median)",
        "ms per query (p99)",
        "setting",
    ]
    text = f"{len(rows):,} queries; times are of searches for 10. "
    text += _cheapest_in_words(gallery, best, target)
    figures = {"index": [vars(point) for point in points], "cheapest": vars(best) if best else None}
    section = f"## Index\n\n{text}\n\n{table(header, lines)}"
    if len(points) == 1:
        return Part(section, figures)
    plot = "![Plot of recall@10 over milliseconds per query, a line for each number of re-ranked candidates](index.png)"
    return Part(f"{section}\n\n{plot}", figures, {"index.png": plot_operating_points(points)})


def _is_unbeaten(point: OperatingPoint, points: Sequence[OperatingPoint]) -> bool:
    return not any(other.p50 < point.p50 and other.recall_at_10 >= point.recall_at_10 for other in points)


def _cheapest_in_words(gallery: Gallery, best: OperatingPoint | None, target: float) -> str:
    if gallery.store.finds_all:
        return "The index compares with every photo: there is no setting to choose."
    if best is None:
        return f"No setting reaches a recall@10 of {target}."
    return f"recall@10 of {target} is reached cheapest with nprobe {best.nprobe} and {best.rerank} re-ranked."


def answers_part(gallery: Gallery, labels: Labels, rows: NDArray[np.int64], k: int, spaces: Spaces) -> Part:
    """Measure the answers, beside what colours and chance give.

    Args:
        gallery: what to search.
        labels: of the photos.
        rows: (q,) the queries.
        k: of precision@k.
        spaces: ways of comparing exactly, beside the gallery's own search, that of which is the first.
    """
    exact = {
        name: answer_quality(np.concatenate([units(chunk) for chunk in known_vectors(gallery)]), labels, rows, k)
        for name, units in spaces.items()
    }
    quality = next(iter(exact.values()))
    ways = {AS_SET: searched(gallery, labels, rows, k), EXPANDED: searched(gallery, labels, rows, k, NEIGHBOURS)}
    ways |= {name: each.measures for name, each in exact.items()} | _by_colours(gallery, labels, quality, k)
    parts = [_ways_part(ways, quality), _labels_part(labels, quality), _worst_part(gallery, labels, quality)]
    asked = f"## Answers\n\n{len(rows):,} photos with {len(labels.names):,} labels, each a query for the others. "
    asked += f"With neighbours: query expansion by the first {NEIGHBOURS} results. Exact: exhaustive search."
    return joined([Part(asked, {}), *parts])


def _by_colours(gallery: Gallery, labels: Labels, quality: AnswerQuality, k: int) -> dict[str, Measures]:
    """Return the quality by the colour histograms of the queries, the baseline of any encoder."""
    rows = quality.rows
    known = colour_histograms([gallery.photo_path(int(row)) for row in rows])
    histograms = np.zeros((len(gallery.names), known.shape[1]), np.float32)
    histograms[rows] = known
    read = rows[known.any(axis=1)]
    alone = "" if len(read) > quality.others else f", among {len(read):,} photos only"
    colours = answer_quality(histograms, labels, read, k).measures if len(read) > 1 else {}
    return {f"baseline: colour histograms{alone}": colours} if colours else {}


def _ways_part(ways: dict[str, Measures], quality: AnswerQuality) -> Part:
    """Compare the ways of searching."""
    lines: list[list[object]] = [
        [way, *(interval(found[name]) if name in found else "" for name in quality.measures)]
        for way, found in ways.items()
    ]
    lines.append(["baseline: chance", *quality.chance().values()])
    figures = {"answers": {way: means(found) for way, found in ways.items()} | {"baseline: chance": quality.chance()}}
    return Part(table(["mean (95 % interval)", *quality.measures], lines), figures)


def _labels_part(labels: Labels, quality: AnswerQuality) -> Part:
    """Show the worst labels, and the confusions."""
    k, by_label, confusions = quality.found.shape[1], quality.by_label(labels), quality.confusions(labels)
    worst = [(verbatim(label), *figures) for label, *figures in by_label[:LINES]]
    texts = [
        f"The {len(worst)} worst of {len(by_label)} labels:",
        table(["label", "photos", f"precision@{k}", "mean average precision"], worst),
    ]
    pictures = {}
    if len(by_label) > 1:
        texts.append(f"![Plot of precision@{k} by label, the worst first](labels.png)")
        pictures["labels.png"] = plot_labels(by_label, k)
    if confusions:
        mistakes = [(verbatim(asked), verbatim(found), fraction) for asked, found, fraction in confusions[:LINES]]
        texts.append("The most frequent confusions:")
        texts.append(table(["label of the query", "label of the result", "fraction of results"], mistakes))
    return Part("\n\n".join(texts), {"labels": by_label, "confusions": confusions[:100]}, pictures)


def _worst_part(gallery: Gallery, labels: Labels, quality: AnswerQuality) -> Part:
    """Show the queries with the worst answers, and what is right and wrong of these."""
    photos, marks, figures = list[tuple[Path, str]](), list[bool | None](), list[dict[str, object]]()
    for number in quality.worst(WORST):
        row, found = int(quality.rows[number]), quality.found[number, :SHOWN].tolist()
        hits = list(zip(found, quality.similarities[number].tolist(), labels.shared(row, found).tolist(), strict=False))
        photos += [(gallery.photo_path(row), f"? {gallery.names[row]}")]
        photos += [(gallery.photo_path(hit), f"{cosine:.3f} {gallery.names[hit]}") for hit, cosine, _ in hits]
        marks += [None, *(is_right for _, _, is_right in hits)]
        results = [{"name": gallery.names[hit], "similarity": cosine, "right": right} for hit, cosine, right in hits]
        figures.append({"query": gallery.names[row], "precision": float(quality.precision[number]), "found": results})
    sheet = contact_sheet(photos, len(photos) // len(figures), marks, "JPEG")
    text = (
        f"The {len(figures)} queries with the worst answers, one per row, and what they find first with its "
        "similarity: a green border and a tick for what shares a label with the query, else a red one and a cross."
    )
    alt = "![The worst queries and their first hits; report.json has their names and similarities](worst.jpg)"
    return Part(f"{text}\n\n{alt}", {"worst": figures}, {"worst.jpg": sheet})


def encoders_part(
    gallery: Gallery,
    encoders: Sequence[str],
    labels: Labels,
    rows: NDArray[np.int64],
    k: int,
    folder: Path,
    progress: Progress,
) -> Part:
    """Measure other encoders beside the gallery's own.

    Args:
        gallery: whose photos they see.
        encoders: what they are called, see `parse_spec`.
        labels: see `answers_part`.
        rows: likewise.
        k: likewise.
        folder: see `try_encoder`.
        progress: likewise.
    """
    own = own_figures(gallery, labels, rows, k)
    specs = map(parse_spec, encoders)
    figures = [own, *(try_encoder(spec, gallery, labels, rows, k, folder, progress) for spec in specs)]
    figures.sort(key=lambda each: -np.nanmean(each.quality.precision))
    lines = [
        [verbatim(each.name), *map(interval, each.quality.measures.values()), _ms(each), 4 * each.d] for each in figures
    ]
    header = ["mean (95 % interval)", *own.quality.measures, "ms per photo", "bytes per photo"]
    cosine = CENTRED if len(gallery) >= FEWEST_TO_CENTRE else RAW
    asked = f"{len(rows):,} photos, each a query for the others by the {cosine} of the encoder's vectors, exact."
    section = f"## Encoders\n\n{asked}\n\n{table(header, lines)}"
    found = [
        {"encoder": each.name, "d": each.d, "ms": each.milliseconds} | means(each.quality.measures) for each in figures
    ]
    timed = [each for each in figures if each.milliseconds]
    if len(timed) < 2:
        return Part(section, {"encoders": found})
    plot = "![Plot of precision over milliseconds per photo](encoders.png)"
    return Part(f"{section}\n\n{plot}", {"encoders": found}, {"encoders.png": plot_encoders(timed)})


def _ms(figures: EncoderFigures) -> str:
    return "" if figures.milliseconds is None else f"{figures.milliseconds:.1f}"


def robustness_part(gallery: Gallery, rows: NDArray[np.int64], spaces: Spaces, progress: Progress) -> Part:
    """Measure how often changed photos find their originals.

    Args:
        gallery: whose photos are changed.
        rows: (q,) which ones.
        spaces: see `robustness`.
        progress: likewise.
    """
    ways = robustness(gallery, rows, spaces, progress)
    if not ways:
        return Part("## Robustness\n\nNone of the photos could be read: give --img_dir to measure it.", {})
    everything = {way: np.mean(list(firsts.values()), axis=0) for way, firsts in ways.items()}
    count = len(next(iter(everything.values())))
    lines = [[change, *(interval(firsts[change]) for firsts in ways.values())] for change in CHANGES]
    lines.append(["all of these", *map(interval, everything.values())])
    section = f"""## Robustness

{count:,} photos, each changed, and how often the original comes first (95 % interval):

{table(["change", *ways], lines)}

![Plot of how often the original comes first, by change](robustness.png)"""
    figures = {way: {change: float(each.mean()) for change, each in firsts.items()} for way, firsts in ways.items()}
    return Part(section, {"robustness": figures}, {"robustness.png": plot_robustness(ways)})


def duplicates_part(gallery: Gallery, near: float) -> Part:
    """Look for near-duplicates; where there are none, the report says nothing of them.

    Args:
        gallery: the photos.
        near: the distance up to which photos are near-duplicates.
    """
    found = groups(near_pairs(gallery, near), len(gallery.names))
    named = [[gallery.names[row] for row in group] for group in found]
    figures = {"near_duplicates": {"distance": near, "groups": named}}
    if not found:
        return Part("", figures)
    lines = [(number, len(group), ", ".join(map(verbatim, group[:4]))) for number, group in enumerate(named[:LINES], 1)]
    photos = [
        (gallery.photo_path(row), f"{number}: {gallery.names[row]}")
        for number, group in enumerate(found[:LINES], 1)
        for row in group[:4]
    ]
    section = f"""## Near-duplicates

{len(found):,} groups of photos within a distance of {near:g}, {sum(map(len, found)):,} photos in all.
They flatter every figure above.

{table(["group", "photos", "names"], lines)}

![The photos of these groups, each with the number of its group](duplicates.jpg)"""
    return Part(section, figures, {"duplicates.jpg": contact_sheet(photos, file_format="JPEG")})
