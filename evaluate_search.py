#!/usr/bin/env python
"""Measure a gallery: its index, its answers where labels exist, its robustness, and its near-duplicates."""

if __name__ == "__main__":  # before the other imports, which take a while
    from similar_images.script import begin

    begin()

import sys
import time
from pathlib import Path

import click

from similar_images.evaluation import sections
from similar_images.evaluation.answer_quality import spaces_of
from similar_images.evaluation.labels import labels_of
from similar_images.evaluation.report import check_writable, write_report
from similar_images.progress import progress_bars
from similar_images.script import OneSentence
from similar_images.search.gallery import NEAR_DUPLICATE_DISTANCE, Gallery

INDEX_QUERIES, ROBUSTNESS_PHOTOS = 200, 120  # photos that index and robustness are measured with


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
@click.option("--queries", type=click.IntRange(min=10), default=10_000, help="Queries, at most.")
@click.option("--k", type=click.IntRange(min=1), default=10, help="k of precision@k.")
@click.option("--target_recall", type=click.FloatRange(0, 1), default=0.95, help="Recall@10 to reach cheapest.")
@click.option("--apply", is_flag=True, help="Make the setting that does so that of the index.")
@click.option(
    "--encoder", "encoders", multiple=True, metavar="NAME[:LAYER][=WEIGHTS]", help="Another to try; several times."
)
@click.option(
    "--near", type=click.FloatRange(min=0), default=NEAR_DUPLICATE_DISTANCE, help="Distance of near-duplicates."
)
@click.option("--robustness/--no-robustness", "changes", default=True, help="Whether to change and encode photos.")
def main(index, output_dir, img_dir, labels, queries, k, target_recall, apply, encoders, near, changes):  # fmt: skip
    """Measure the gallery of INDEX and write a report: report.html, report.md, report.json, and pictures."""
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
        rows, spaces = sections.sample(searchable, min(queries, INDEX_QUERIES)), spaces_of(gallery)
        todo = {"Index": lambda: sections.index_part(gallery, rows, target_recall)}
        if known:
            arguments = {"labels": known, "rows": sections.sample(known.labelled(), queries), "k": k}
            todo["Answers"] = lambda: sections.answers_part(gallery, **arguments, spaces=spaces)
        else:
            click.echo("No two photos have a label in common: give --labels FILE to measure the answers.", err=True)
        if encoders:
            todo["Encoders"] = with_bars(sections.encoders_part, gallery, encoders, **arguments, folder=output)
        if changes:
            changed = sections.sample(rows, ROBUSTNESS_PHOTOS)
            todo["Robustness"] = with_bars(sections.robustness_part, gallery, changed, spaces)
        todo["Near-duplicates"] = lambda: sections.duplicates_part(gallery, near)
        measured, failed = measure(todo)
        seconds = time.perf_counter() - began
        write_report(output, gallery.path.name, [sections.head_part(gallery, sys.argv, seconds), *measured.values()])
        best = measured["Index"].figures["cheapest"] if apply and "Index" in measured else None
        if best and best["nprobe"]:
            gallery.store.set_effort(best["nprobe"], best["rerank"])
            click.echo(f"From now on the index is searched with nprobe {best['nprobe']}, {best['rerank']} re-ranked.")
        if failed:
            raise ValueError(f"the report in {output} lacks {', '.join(failed)}, for the reason above")
    click.echo(f"{output}: report.html, report.md, report.json and pictures, in {seconds:.0f} s")


def with_bars(part, *given, **named):
    """Return what measures a part and shows how far it has got."""

    def measured():
        with progress_bars("photos") as progress:
            return part(*given, **named, progress=progress)

    return measured


def measure(todo):
    """Measure and print each part; return those that could be measured, by name, and the names of the others."""
    measured, failed = {}, []
    for name, part in todo.items():
        click.echo(f"Measuring: {name} ...", err=True)
        try:
            measured[name] = part()
        except (ValueError, OSError) as error:
            click.echo(f"{name}: {error}", err=True)
            failed.append(name)
        else:
            click.echo(f"{measured[name].section}\n")
    return measured, failed


if __name__ == "__main__":
    main()
