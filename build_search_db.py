#!/usr/bin/env python
"""Build the Faiss index of a vectors file: LIST.saved_predictions.npy in, LIST.faiss.index out."""

if __name__ == "__main__":  # before the other imports, which take a while
    from similar_images.script import begin

    begin()

from pathlib import Path

import click

from similar_images.files import is_half_in_place, readable_size
from similar_images.progress import progress_bars
from similar_images.script import OneSentence
from similar_images.store.faiss_index import EXACT_INDEXES, index_path
from similar_images.store.index_building import IndexSettings, build_index
from similar_images.store.index_update import update_index, why_build_again
from similar_images.store.vectors import open_vectors


class NumberOr(click.ParamType):
    """A number from 1 on, or a word that stands for None."""

    def __init__(self, word):
        """Take the word."""
        self.word = word
        self.name = f"n|{word}"

    def convert(self, value, param, ctx):
        """Return the number, or None for the word."""
        return None if value in (None, self.word) else click.IntRange(min=1).convert(value, param, ctx)


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option(
    "-i",
    "--input_vectors",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="Vectors file, as extract_image_vectors.py writes it.",
)
@click.option(
    "-o",
    "--output_filename",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Index to write.  [default: LIST.faiss.index]",
)
@click.option("-d", "--dimension", type=int, help="Dimension that the vectors must have: a check.")
@click.option("--nlist", type=NumberOr("auto"), default=100, help="Inverted lists; auto is 4 times the root of n.")
@click.option("--m", type=click.IntRange(min=1), default=16, help="PQ sub-quantizers.")
@click.option("--nbits", type=click.IntRange(1, 12), default=8, help="Bits per code.")
@click.option(
    "--pca", type=NumberOr("none"), default=128, help="Centre the vectors, and find candidates by this many components."
)
@click.option("--factory", help="A string for faiss.index_factory instead of the four options above.")
@click.option("--train_size", type=click.IntRange(min=1), help="Vectors to train on.  [default: enough]")
@click.option("--overwrite", is_flag=True, help="Replace an existing index.")
@click.option("--update", is_flag=True, help="Add to an existing index what its vectors file got, without training.")
@click.option("-v", "--verbose", is_flag=True, help="Say more about the index.")
def main(
    input_vectors, output_filename, dimension, nlist, m, nbits, pca, factory, train_size, overwrite, update, verbose
):
    """Build the Faiss index of a vectors file and check it against exact search.

    The default compares centred vectors: IVF100,PQ16 finds candidates, 128 principal components
    rank these. --pca none gives the published index, IVF100,PQ16 of the raw cosine. A gallery too small to
    train that gets less: fewer lists, so that each has 39 vectors, and below 1,024 vectors an exact index.
    """
    output = output_filename or index_path(input_vectors)
    with OneSentence("stopped: no index was written"):
        vectors = open_vectors(input_vectors)
        if dimension not in (None, vectors.array.shape[1]):
            raise ValueError(f"{input_vectors} holds vectors of dimension {vectors.array.shape[1]}, not {dimension}")
        if output.exists() and not (overwrite or update or is_half_in_place(output)):
            raise ValueError(f"{output} exists: keep it, --update it, or build it again with --overwrite")
        settings = IndexSettings(nlist, m, nbits, pca, factory, train_size)
        with progress_bars("vectors") as progress:
            if update and output.exists():
                card = update_index(vectors, output, progress)
            else:
                card = build_index(vectors, output, settings, progress)
    if card.index != card.asked_for:
        click.echo(f"{card.asked_for} does not fit {card.n:,} vectors of dimension {card.d}: {card.index} does.")
    size = f"{card.n:,} vectors, {readable_size(card.bytes)}"
    click.echo(f"{output}: {card.index}, {size}, trained in {card.train_seconds} s")
    check = card.self_check
    ways = {"approximate": "by the index alone", "reranked": f"{card.rerank} candidates compared by their vectors"}
    if card.index in EXACT_INDEXES:
        ways = {"reranked": "compared with every photo"}
    for name, words in ways.items() if check else ():
        click.echo(
            f"  recall@{check['k']} {check[f'recall_{name}']:.3f}, {check[f'ms_{name}']:.2f} ms per query, {words}"
        )
    if reason := why_build_again(card):
        click.echo(f"  {reason}: building it again with --overwrite mends that")
    if verbose and check:
        whether = "which it was trained on too" if check["trained_on_queries"] else "which it was not trained on"
        click.echo(
            f"  checked with {check['queries']} of its own vectors, {whether}; all of this stands in {output}.json"
        )


if __name__ == "__main__":
    main()
