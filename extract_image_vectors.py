#!/usr/bin/env python
"""Compute the feature vectors of photos: a file list or a folder in, LIST.saved_predictions.npy out."""

if __name__ == "__main__":  # before the other imports, which take a while
    from similar_images.script import begin

    begin()

from functools import partial
from pathlib import Path

import click

from similar_images.encoding.conversion import converted_before, int8_file
from similar_images.encoding.encoders import EncoderSpec, label, load_encoder, load_or_save_encoder
from similar_images.encoding.runtimes import open_runtime
from similar_images.extraction.extraction import check_request, earlier_rows, extract, sample_photos
from similar_images.photos.file_list import list_photos, read_file_list
from similar_images.photos.images import source_name
from similar_images.progress import progress_bars
from similar_images.script import OneSentence
from similar_images.store.faiss_index import GalleryIndexError, index_path
from similar_images.store.index_update import update_index, why_build_again
from similar_images.store.vectors import SUFFIX, open_vectors

PUBLISHED_MODEL = Path("vgg_4096.keras")


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option(
    "-l",
    "--filename_list",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Names of photos, one per line, relative to --img_dir.  [default: every photo below --img_dir]",
)
@click.option(
    "-d",
    "--img_dir",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default="ms_coco/val2014",
    help="Folder of the photos.",
)
@click.option(
    "-o",
    "--output_filename",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Vectors file to write.  [default: LIST.saved_predictions.npy]",
)
@click.option(
    "-m",
    "--model_filename",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Keras model to load, any from RGB pixels to a vector; the encoder is made and saved there if it "
    "doesn't exist.  [default: vgg_4096.keras for vgg16 fc2 with imagenet weights]",
)
@click.option(
    "-b",
    "--batch_size",
    type=click.IntRange(min=1),
    help="Photos per batch.  [default: 32; on a GPU what its memory takes]",
)
@click.option("--workers", type=click.IntRange(min=1), help="Threads that read photos.  [default: one per core]")
@click.option(
    "--runtime",
    type=click.Choice(["auto", "openvino", "tensorflow"]),
    default="auto",
    help="What runs the encoder: auto is TensorFlow where it sees a GPU, else OpenVINO.",
)
@click.option(
    "--precision",
    type=click.Choice(["auto", "f32", "bf16", "int8"]),
    default="auto",
    help="Number format: auto is bf16 where the processor has it and the vectors stay the same, else f32; int8 is "
    "calibrated on the photos and approximate.",
)
@click.option(
    "--encoder",
    default="vgg16",
    help="efficientnet_lite0, a model of keras.applications, or two joined by '+'.",
)
@click.option("--layer", type=click.Choice(["fc1", "fc2"]), help="Layer of vgg16.  [default: fc2]")
@click.option(
    "--weights",
    default="imagenet",
    help="imagenet (those of efficientnet_lite0 come through pip), none (untrained), or a weights file of the encoder.",
)
@click.option(
    "--resize",
    type=click.Choice(["bilinear", "keras"]),
    default="bilinear",
    help="How photos are resized, ignoring aspect ratio: antialiased, or nearest neighbour as published.",
)
@click.option("--overwrite", is_flag=True, help="Replace an existing output.")
@click.option(
    "--update",
    is_flag=True,
    help="Bring the output up to date: encode what is new or changed, follow renames, take out what left.",
)
@click.option("--strict", is_flag=True, help="Stop at the first photo that can't be read.")
@click.option("-v", "--verbose", is_flag=True, help="Name every photo that could not be read.")
def main(filename_list, img_dir, output_filename, model_filename, batch_size, workers, runtime, precision, encoder,
         layer, weights, resize, overwrite, update, strict, verbose):  # fmt: skip
    """Compute the feature vectors of photos, float32 (photos, dimension), row i for line i of the list.

    With --update, rows stay where they are, new ones are appended, and those of photos that left are zero: the list of
    all rows is OUTPUT.txt.

    Interrupted, the same command goes on where it stopped.
    """
    with OneSentence("stopped: the same command goes on from here"):
        names = read_file_list(filename_list) if filename_list else list_photos(img_dir)
        output = output_filename or Path(f"{filename_list or img_dir.resolve().name}{SUFFIX}")
        check_request(names, img_dir, output, overwrite=overwrite, update=update)
        spec = EncoderSpec(encoder, layer, weights, resize)
        if model_filename is None and (encoder, layer or "fc2", weights) == ("vgg16", "fc2", "imagenet"):
            model_filename = PUBLISHED_MODEL
        if model_filename:
            loaded = load_or_save_encoder(spec, model_filename)
        else:
            loaded = converted_before(spec) or load_encoder(spec)
        if not loaded.spec.is_trained:
            click.echo(f"{label(loaded.card(output))}: similar vectors mean little.", err=True)
        photos = partial(sample_photos, names, img_dir, loaded)
        earlier = earlier_rows(output, overwrite=overwrite, update=update)
        ready = open_runtime(loaded, runtime, precision, photos, int8_file(output, loaded), earlier)
        with progress_bars("photos") as progress:
            done = extract(names, img_dir, output, ready, batch_size=batch_size, workers=workers, overwrite=overwrite,
                           update=update, strict=strict, progress=progress)  # fmt: skip
        index = index_path(output)
        followed = follow(index, output) if update and index.exists() else None
    rate = f" in {done.seconds:.1f} s ({done.encoded / done.seconds:.1f} photos/s)" if done.encoded else ""
    click.echo(
        f"{output}: {len(names):,} photos, {done.encoded:,} encoded{rate}, {done.kept:,} kept, "
        f"{len(done.failures):,} could not be read"
    )
    if done.counts:
        click.echo("  " + ", ".join(f"{count:,} {what}" for what, count in done.counts.items()))
    waits = ", ".join(f"{share:.0%} {what}" for what, share in done.shares.items())
    latest, *before = done.made_with
    others = f", beside earlier rows by {' and '.join(before)}" if before else ""
    click.echo(f"  {latest}{others}{f'; of the time went {waits}' if done.encoded else ''}")
    if followed:
        click.echo(f"  {index}: {followed}")
    for failure in done.failures if verbose else done.failures[:10]:
        click.echo(f"  {source_name(failure.name)}: {failure.reason}")
    if len(done.failures) > 10 and not verbose:
        click.echo(f"  and {len(done.failures) - 10:,} more: all are named in {output}.json, and here with -v")


def follow(index, vectors):
    """Bring the index of a vectors file up to date, and return what became of it."""
    try:
        card = update_index(open_vectors(vectors), index)
    except GalleryIndexError as error:
        return f"not brought up to date, {error}"
    reason = why_build_again(card)
    advice = f"; {reason}: build_search_db.py --overwrite mends that" if reason else ""
    return f"up to date, {card.n:,} photos{advice}"


if __name__ == "__main__":
    main()
