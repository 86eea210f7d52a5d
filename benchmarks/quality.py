#!/usr/bin/env python
"""Compare ways from a photo to a vector by the answers they give: what docs/quality.md holds."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click
import numpy as np
from PIL import Image, ImageOps

from similar_images.encoding.encoders import load_encoder
from similar_images.encoding.runtimes import open_runtime
from similar_images.evaluation.answer_quality import answer_quality
from similar_images.evaluation.encoder_comparison import centred_units, parse_spec
from similar_images.evaluation.labels import labels_of
from similar_images.evaluation.report import interval, machine, table
from similar_images.photos.file_list import list_photos
from similar_images.photos.images import read_image
from similar_images.store.pca import principal_components
from similar_images.store.vectors import normalise

K = 10
BATCH = 32
BILINEAR, NEAREST = Image.Resampling.BILINEAR, Image.Resampling.NEAREST
RESIZES = {
    "resized ignoring aspect ratio, antialiased": lambda image, size: image.resize(size, BILINEAR),
    "resized ignoring aspect ratio, nearest neighbour": lambda image, size: image.resize(size, NEAREST),
    "middle square": lambda image, size: ImageOps.fit(image, size, BILINEAR),
    "padded with grey": lambda image, size: ImageOps.pad(image, size, BILINEAR, color="grey"),
}


@click.command(context_settings={"show_default": True})
@click.argument("photos", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--encoder", default="vgg16", metavar="NAME[:LAYER][=WEIGHTS]", help="With trained weights.")
def main(photos, encoder):
    """PHOTOS has one folder for each label; each photo asks for the others, by exact search.

    The first line is the default, compared by the centred cosine; each line below it changes one thing.
    """
    names = list_photos(photos)
    labels = labels_of(names, "folders")
    runtime = open_runtime(load_encoder(parse_spec(encoder)), precision="f32")
    lines = []

    def add(way, units):
        quality = answer_quality(units, labels, labels.labelled(), K)
        lines.append([way, interval(quality.precision), f"{np.nanmean(quality.average_precision):.3f}"])
        click.echo("  ".join(lines[-1]), err=True)

    vectors = {way: encode(runtime, photos, names, resize) for way, resize in RESIZES.items()}
    for way, some in vectors.items():
        add(way, centred_units(some))
    plain = next(iter(vectors.values()))
    add("raw cosine", normalise(plain))
    for count in (256, 128):
        add(f"{count} components alone", reduced(centred_units(plain), count))
    mirrored = encode(runtime, photos, names, lambda image, size: ImageOps.mirror(image.resize(size, BILINEAR)))
    add("mean with the mirrored photo, for gallery and query", centred_units(normalise(plain) + normalise(mirrored)))
    add("square roots (power normalisation)", centred_units(np.sign(plain) * np.sqrt(np.abs(plain))))
    header = ["from photo to vector", f"precision@{K} (95 % interval)", "mean average precision"]
    asked = f"`benchmarks/quality.py {photos.name} --encoder {encoder.partition('=')[0]}`, {len(names):,} photos with "
    asked += f"{len(labels.names)} labels, {time.strftime('%Y-%m-%d')}, {machine()}."
    click.echo(f"{asked}\n\n{table(header, lines)}")


def encode(runtime, photos, names, resize):
    """Return the vectors (n, d) of photos that are brought to the encoder's size by `resize`."""

    def pixels(name):
        return np.array(resize(Image.fromarray(read_image(photos / name)), runtime.encoder.size))

    with ThreadPoolExecutor() as pool:
        read = pool.map(pixels, names)
        batches = [[next(read) for _ in names[start : start + BATCH]] for start in range(0, len(names), BATCH)]
    return np.concatenate([runtime.encode(np.stack(batch)) for batch in batches])


def reduced(units, count):
    """Return the first principal components (n, count) of units (n, d), L2-normalised."""
    components, _ = principal_components(units, count, seed=0)
    return normalise(units @ components.T)


if __name__ == "__main__":
    main()
