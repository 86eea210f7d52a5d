#!/usr/bin/env python
"""Simulate relevance feedback in a gallery whose folders are its labels: precision@10 before and after one round."""

import click
import numpy as np

from similar_images.evaluation.measures import precision_at_k
from similar_images.photos.file_list import folder_of
from similar_images.search.feedback import rocchio
from similar_images.search.gallery import Gallery

K = 10


@click.command(context_settings={"show_default": True})
@click.argument("index", type=click.Path(exists=True, dir_okay=False))
@click.option("--marks", default=3, help="Hits marked as relevant, and as many as irrelevant, going down the results.")
def main(index, marks):
    """Every photo asks once; a person marks hits by its folder; then the search is repeated with the marks.

    Twice: over all photos, where the marked ones may come up again, and over those that were not marked, which is the
    stricter question (residual collection).
    """
    gallery = Gallery.open(index)
    units = gallery.units(np.arange(len(gallery)))
    folders = np.array([folder_of(name) for name in gallery.names])
    before, after, rest_before, rest_after = [], [], [], []
    for row, unit in enumerate(units):
        others = np.arange(len(units)) != row
        ranked = nearest(units, unit, others)
        right = folders[ranked] == folders[row]
        relevant, irrelevant = ranked[right][:marks], ranked[~right][:marks]
        moved = rocchio(unit, units[relevant], units[irrelevant])
        unmarked = others.copy()
        unmarked[np.concatenate([relevant, irrelevant])] = False
        for results, query, among in (
            (before, unit, others),
            (after, moved, others),
            (rest_before, unit, unmarked),
            (rest_after, moved, unmarked),
        ):
            results.append(folders[nearest(units, query, among)[:K]] == folders[row])
    click.echo(f"{len(units):,} photos in {len(set(folders))} folders, {marks} + {marks} marks: precision@{K}")
    click.echo(f"all photos        {precision_at_k(np.array(before)):.3f} -> {precision_at_k(np.array(after)):.3f}")
    click.echo(
        f"unmarked photos   {precision_at_k(np.array(rest_before)):.3f} -> {precision_at_k(np.array(rest_after)):.3f}"
    )


def nearest(units, query, among):
    """Return the rows among which may be found, nearest to the query first."""
    return np.argsort(np.where(among, -(units @ query), np.inf), kind="stable")[: among.sum()]


if __name__ == "__main__":
    main()
