#!/usr/bin/env python
"""Measure a gallery: its index, its answers where labels exist, its robustness, and its near-duplicates."""

if __name__ == "__main__":  # before the other imports, which take a while
    from similar_images._script import begin

    begin()

import sys
import tempfile
import time
from pathlib import Path

import click
import numpy as np

from extract_image_vectors import encoding_bar
from similar_images import evaluation_report as report
from similar_images._script import OneSentence
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
    with OneSentence("stopped: no report was written"):
        began = time.perf_counter()
        gallery = Gallery.open(index, img_dir)
        searchable = gallery.searchable_rows()
        if len(searchable) < 2:
            raise ValueError(f"{index} finds {len(searchable)} photo: there is nothing to measure of fewer than two")
        known = labels_of(gallery.names, labels, searchable)
        if encoders and known is None:
            raise ValueError("encoders are compared by labels, which these photos don't have: give --labels FILE")
        check_writable(output)
        rows, asking = sample(searchable, min(queries, 200)), sample(known.labelled(), queries) if known else None
        measured, failed = measure(
            {
                "Index": lambda: index_part(gallery, rows, target_recall),
                "Answers": lambda: answer_part(gallery, known, asking, k),
                "Encoders": lambda: encoders_part(gallery, encoders, known, asking, k, output),
                "Robustness": lambda: robustness_part(gallery, rows) if changes else None,
                "Near-duplicates": lambda: duplicates_part(gallery, near),
            }
        )
        seconds = time.perf_counter() - began
        report.write_report(output, gallery, [*measured.values()], seconds)
        if apply and "Index" in measured:
            apply_setting(gallery, measured["Index"].figures["cheapest"])
        if failed:
            raise ValueError(f"the report in {output} lacks {', '.join(failed)}, for the reason above")
    click.echo(f"{output}: report.md, report.json and pictures, in {seconds:.0f} s")


def check_writable(folder):
    """Make the folder of the report, and see that it can be written to before much time is spent on measuring."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise ValueError(
            f"{folder} is no folder that you may write to ({error.strerror}): give --output_dir"
        ) from error


def measure(parts):
    """Measure and print each part; return those that could be measured, by name, and the names of the others."""
    measured, failed = {}, []
    for name, part in parts.items():
        try:
            found = part()
        except (ValueError, OSError) as error:
            say(f"{name}: {error}")
            failed.append(name)
        else:
            if found:
                click.echo(f"{found.section}\n")
                measured[name] = found
    return measured, failed


def apply_setting(gallery, best):
    """Make the cheapest setting that of the index."""
    if best and best["nprobe"]:
        gallery.index.card.nprobe, gallery.index.card.rerank = best["nprobe"], best["rerank"]
        write_card(gallery.path, gallery.index.card)
        click.echo(f"From now on the index is searched with nprobe {best['nprobe']} and {best['rerank']} re-ranked.")


def sample(rows, count):
    """Return up to `count` of rows, seeded, in order."""
    return np.sort(np.random.default_rng(0).permutation(rows)[:count])


def index_part(gallery, rows, target):
    """Measure the index."""
    say("Comparing the index with exact search ...")
    points = operating_points(gallery, rows)
    best = cheapest(points, target)
    figures = {"index": [vars(point) for point in points], "cheapest": vars(best) if best else None}
    pictures = {"index.png": report.plot_operating_points(points)}
    return report.Part(report.index_section(points, target, best, len(rows)), figures, pictures)


def answer_part(gallery, labels, asking, k):
    """Measure the answers, where photos have labels."""
    if labels is None:
        say("No two photos have a label in common: give --labels FILE to measure the answers.")
        return None
    say("Comparing the answers with the labels ...")
    quality = answer_quality(gallery.stored(np.arange(len(gallery.names))), labels, asking, k)
    by_label = quality.by_label(labels)
    shown = quality.found[:, :5]
    worst = [
        (gallery.photo_path(row), f"{'?' if first else ''} {gallery.names[row]}")
        for number in quality.worst(WORST)
        for first, row in [(True, quality.rows[number]), *((False, row) for row in shown[number])]
    ]
    pictures = {
        "labels.png": report.plot_labels(by_label, quality.found.shape[1]),
        "worst.png": contact_sheet(worst, columns=1 + shown.shape[1]),
    }
    figures = {"answers": quality.means(), "labels": by_label, "confusions": quality.confusions(labels)[:100]}
    return report.Part(report.answer_section(quality, labels), figures, pictures)


def encoders_part(gallery, encoders, labels, asking, k, output):
    """Encode the photos with other encoders and measure their answers."""
    if not encoders:
        return None
    figures = []
    for words in encoders:
        say(f"Trying {words} ...")
        figures.append(try_encoder(spec_of_words(words), gallery, labels, asking, k, output, encoding_bar))
    found = [{"encoder": each.name, "d": each.d, "ms": each.milliseconds} | each.quality.means() for each in figures]
    pictures = {"encoders.png": report.plot_encoders(figures)}
    return report.Part(report.encoders_section(figures), {"encoders": found}, pictures)


def robustness_part(gallery, rows):
    """Change photos and search for them."""
    say("Changing photos and searching for them ...")
    with click.progressbar(length=len(rows), file=sys.stderr, hidden=not sys.stderr.isatty()) as bar:
        firsts = robustness(gallery, rows, lambda done: bar.update(1))
    if not len(next(iter(firsts.values()))):
        say("None of the photos could be read: give --img_dir to measure robustness.")
        return None
    figures = {"robustness": {name: float(values.mean()) for name, values in firsts.items()}}
    return report.Part(report.robustness_section(firsts), figures, {"robustness.png": report.plot_robustness(firsts)})


def duplicates_part(gallery, near):
    """Look for near-duplicates."""
    say("Looking for near-duplicates ...")
    nearest, pairs, distances = near_pairs(gallery)
    distance = gap_threshold(nearest) if near is None else near
    found = groups(pairs[distances <= distance], len(gallery.names))
    names = [[gallery.names[row] for row in group] for group in found]
    figures = {"near_duplicates": {"distance": distance, "groups": names}}
    return report.Part(report.duplicates_section(gallery, found, distance), figures, {})


def say(what):
    """Say what is being done, where somebody may be waiting for it."""
    click.echo(what, err=True)


if __name__ == "__main__":
    main()
