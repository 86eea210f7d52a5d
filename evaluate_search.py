#!/usr/bin/env python
"""Measure a gallery: its index, its answers where labels exist, its robustness, and its near-duplicates."""

import json
import sys
import time
from pathlib import Path

import click
import numpy as np

from extract_image_vectors import encoding_bar
from similar_images import evaluation_report as report
from similar_images.answer_quality import answer_quality
from similar_images.cards import write_card
from similar_images.contact_sheet import contact_sheet
from similar_images.duplicate_groups import gap_threshold, groups, near_pairs
from similar_images.encoder_comparison import spec_of_words, try_encoder
from similar_images.gallery import Gallery
from similar_images.index_quality import cheapest, operating_points
from similar_images.labels import labels_of
from similar_images.robustness import robustness

WORST = 12


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.argument("index", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "-o",
    "--output_dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of the report.  [default: INDEX.evaluation]",
)
@click.option("-d", "--img_dir", type=click.Path(file_okay=False), help="Where the photos are, if they have moved.")
@click.option("--labels", default="folders", help="folders, a CSV file (name,label), or COCO's instances JSON.")
@click.option("--queries", type=click.IntRange(min=10), default=10_000, help="Photos that ask, at the most.")
@click.option("--k", type=click.IntRange(min=1), default=10, help="Results that precision looks at.")
@click.option("--target_recall", type=click.FloatRange(0, 1), default=0.95, help="Recall@10 to reach cheapest.")
@click.option("--apply", is_flag=True, help="Make the setting that does so that of the index.")
@click.option(
    "--encoder", "encoders", multiple=True, metavar="NAME[:LAYER][=WEIGHTS]", help="Another to try; several times."
)
@click.option("--near", type=click.FloatRange(min=0), help="Distance of near-duplicates.  [default: by the gap]")
@click.option("--robustness/--no-robustness", "changes", default=True, help="Whether to change and encode photos.")
def main(index, output_dir, img_dir, labels, queries, k, target_recall, apply, encoders, near, changes):  # fmt: skip
    """Measure the gallery of INDEX and write a report: report.md, report.json, and pictures."""
    output = output_dir or index.with_name(index.name + ".evaluation")
    try:
        gallery = Gallery.open(index, img_dir)
        output.mkdir(parents=True, exist_ok=True)
        began = time.perf_counter()
        sections, figures = [f"# {index.name}\n\n{gallery!r}"], {"gallery": repr(gallery)}
        rows = sample(gallery.searchable_rows(), queries)
        known = labels_of(gallery.names, labels)
        asking = sample(np.intersect1d(known.labelled(), gallery.searchable_rows()), queries) if known else None
        for measure in (
            lambda: index_part(gallery, sample(rows, 200), target_recall, apply, output),
            lambda: answer_part(gallery, known, asking, k, output),
            lambda: encoders_part(gallery, encoders, known, asking, k, output) if encoders else None,
            lambda: robustness_part(gallery, sample(rows, 200), output) if changes else None,
            lambda: duplicates_part(gallery, near),
        ):
            part = measure()
            if part:
                section, found = part
                click.echo(f"{section}\n")
                sections.append(section)
                figures |= found
        seconds = time.perf_counter() - began
        (output / "report.md").write_text("\n\n".join(sections) + "\n", encoding="utf-8")
        (output / "report.json").write_text(json.dumps(figures | {"seconds": seconds}, indent=2) + "\n")
    except KeyboardInterrupt:
        raise click.ClickException("stopped: no report was written") from None
    except (ValueError, OSError) as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"{output}: report.md, report.json and pictures, in {seconds:.0f} s")


def sample(rows, count):
    """Return up to `count` of rows, seeded, in order."""
    return np.sort(np.random.default_rng(0).permutation(rows)[:count])


def index_part(gallery, rows, target, apply, output):
    """Measure the index; return section and figures."""
    say("Comparing the index with exact search ...")
    points = operating_points(gallery, rows)
    best = cheapest(points, target)
    report.plot_operating_points(points, output / "index.png")
    section = report.index_section(points, target, best, len(rows))
    if apply and best and best.nprobe:
        gallery.index.card.nprobe, gallery.index.card.rerank = best.nprobe, best.rerank
        write_card(gallery.path, gallery.index.card)
        section += f"\n\nFrom now on the index is searched with nprobe {best.nprobe} and {best.rerank} re-ranked."
    return section, {"index": [vars(point) for point in points], "cheapest": vars(best) if best else None}


def answer_part(gallery, labels, asking, k, output):
    """Measure the answers, where photos have labels; return section and figures."""
    if labels is None:
        say("No two photos have a label in common: give --labels FILE to measure the answers.")
        return None
    say("Comparing the answers with the labels ...")
    quality = answer_quality(gallery.stored(np.arange(len(gallery.names))), labels, asking, k)
    by_label = quality.by_label(labels)
    report.plot_labels(by_label, k, output / "labels.png")
    worst = [
        (gallery.photo_path(row), f"{'?' if first else ''} {gallery.names[row]}")
        for number in quality.worst(WORST)
        for first, row in [(True, quality.rows[number]), *((False, row) for row in quality.found[number, :5])]
    ]
    (output / "worst.png").write_bytes(contact_sheet(worst, columns=1 + min(5, k)))
    figures = {"answers": quality.means(), "labels": by_label, "confusions": quality.confusions(labels)[:100]}
    return report.answer_section(quality, labels), figures


def encoders_part(gallery, encoders, labels, asking, k, output):
    """Encode the photos with other encoders and measure their answers; return section and figures."""
    if labels is None:
        raise ValueError("encoders are compared by labels, which these photos don't have: give --labels FILE")
    figures = []
    for words in encoders:
        say(f"Trying {words} ...")
        figures.append(try_encoder(spec_of_words(words), gallery, labels, asking, k, output, encoding_bar))
    report.plot_encoders(figures, output / "encoders.png")
    found = [{"encoder": each.name, "d": each.d, "ms": each.milliseconds} | each.quality.means() for each in figures]
    return report.encoders_section(figures), {"encoders": found}


def robustness_part(gallery, rows, output):
    """Change photos and search for them; return section and figures."""
    say("Changing photos and searching for them ...")
    with click.progressbar(length=len(rows), file=sys.stderr, hidden=not sys.stderr.isatty()) as bar:
        firsts = robustness(gallery, rows, lambda done: bar.update(1))
    if not len(next(iter(firsts.values()))):
        say("None of the photos could be read: give --img_dir to measure robustness.")
        return None
    report.plot_robustness(firsts, output / "robustness.png")
    return report.robustness_section(firsts), {"robustness": {name: float(v.mean()) for name, v in firsts.items()}}


def duplicates_part(gallery, near):
    """Look for near-duplicates; return section and figures."""
    say("Looking for near-duplicates ...")
    nearest, pairs, distances = near_pairs(gallery)
    distance = gap_threshold(nearest) if near is None else near
    found = groups(pairs[distances <= distance], len(gallery.names))
    names = [[gallery.names[row] for row in group] for group in found]
    return report.duplicates_section(gallery, found, distance), {
        "near_duplicates": {"distance": distance, "groups": names}
    }


def say(what):
    """Say what is being done, where somebody may be waiting for it."""
    click.echo(what, err=True)


if __name__ == "__main__":
    main()
