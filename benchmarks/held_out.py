#!/usr/bin/env python
"""Compare the compact encoder with others on folders that it never learnt from: what docs/compact_encoder.md holds."""

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click
import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))

from similar_images._files import card_path
from similar_images.answer_quality import answer_quality
from similar_images.compact import INCLUDED_WEIGHTS
from similar_images.encoder_comparison import spec_of_words
from similar_images.encoders import EncoderSpec, load_encoder
from similar_images.evaluation_report import interval, machine, table
from similar_images.file_list import list_photos
from similar_images.filters import folder_of
from similar_images.images import read_image, resize
from similar_images.labels import Labels, labels_of
from similar_images.robustness import CHANGES
from similar_images.runtimes import open_runtime
from similar_images.vectors import normalise

K = 10
BATCH = 32
CELLS = 3  # of the colour histogram's grid, each way
COLOURS = 4  # levels of red, of green and of blue
SAME_OBJECT = ("turned by 90 degrees", "middle 70 %", "30 % darker")


@click.command(context_settings={"show_default": True})
@click.argument("photos", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--teacher", default="mobilenet_v2", metavar="NAME[=WEIGHTS]", help="The encoder that was learnt from.")
def main(photos, teacher):
    """PHOTOS has one folder a label; those count that the card of the compact encoder's weights names as held out."""
    held = json.loads(card_path(INCLUDED_WEIGHTS).read_text())["held_out"]
    names = [name for name in list_photos(photos) if folder_of(name) in held]
    labels = labels_of(names, "folders")
    images = [Image.fromarray(read_image(photos / name)) for name in names]
    trained = {
        "compact": encoder(EncoderSpec("compact")),
        f"its teacher, {teacher.partition('=')[0]}": encoder(spec_of_words(teacher)),
    }
    baselines = {
        "VGG16 fc2, untrained": encoder(EncoderSpec("vgg16", weights="none")),
        f"colour histogram, {CELLS}x{CELLS} cells of {COLOURS**3} colours": colour_histograms,
    }
    answers, firsts = [], []
    for way, encode in (trained | baselines).items():
        vectors, milliseconds = encode(images)
        quality = answer_quality(vectors, labels, labels.labelled(), K)
        answers.append([way, vectors.shape[1], f"{milliseconds:.1f}", interval(quality.precision),
                        f"{np.nanmean(quality.average_precision):.3f}"])  # fmt: skip
        if way in trained:
            changed = {change: encode([apply(image) for image in images])[0] for change, apply in CHANGES.items()}
            score = same_object(vectors, *(changed[change] for change in SAME_OBJECT))
            firsts.append([way, f"{score:.2f}", *(original_first(vectors, each) for each in changed.values())])
        click.echo(f"{answers[-1]}", err=True)
    header = ["encoder", "numbers", "ms a photo", f"precision@{K} (95 % interval)", "mean average precision"]
    asked = f"`benchmarks/held_out.py {photos.name}`, {len(names):,} photos with {len(labels.names)} labels, "
    asked += f"{time.strftime('%Y-%m-%d')}, {machine()}."
    click.echo(f"{asked}\n\n{table(header, answers)}\n\n{table(['original found first', 'N-S', *CHANGES], firsts)}")


def encoder(spec):
    """Return the function from PIL images to L2-normalised vectors (n, d) and the milliseconds an image took."""
    runtime = open_runtime(load_encoder(spec))

    def encode(images):
        with ThreadPoolExecutor() as pool:
            pixels = np.stack(list(pool.map(runtime.encoder.pixels, images)))
        runtime.encode(pixels[:BATCH])
        began = time.perf_counter()
        vectors = [runtime.encode(pixels[start : start + BATCH]) for start in range(0, len(pixels), BATCH)]
        return normalise(np.concatenate(vectors)), (time.perf_counter() - began) * 1000 / len(pixels)

    return encode


def colour_histograms(images):
    """Return L2-normalised square roots of colour histograms of the cells of images, and the milliseconds one took."""
    began = time.perf_counter()
    side = CELLS * 32
    vectors = []
    for image in images:
        levels = resize(np.array(image), (side, side)) // (256 // COLOURS)
        colours = levels @ np.array([COLOURS**2, COLOURS, 1])
        cells = colours.reshape(CELLS, 32, CELLS, 32).swapaxes(1, 2).reshape(CELLS**2, -1)
        vectors.append(np.concatenate([np.bincount(cell, minlength=COLOURS**3) for cell in cells]))
    return normalise(np.sqrt(vectors)), (time.perf_counter() - began) * 1000 / len(images)


def original_first(vectors, changed):
    """Return the part of changed photos whose nearest photo is the one that they were made of."""
    return float(((changed @ vectors.T).argmax(axis=1) == np.arange(len(vectors))).mean())


def same_object(*views):
    """Return the mean N-S score of groups that each hold one photo in four ways."""
    everything = np.concatenate(views)
    each = Labels(list(range(len(views[0]))), np.tile(np.eye(len(views[0]), dtype=bool), (len(views), 1)))
    return answer_quality(everything, each, np.arange(len(everything))).measures["N-S score"].mean()


if __name__ == "__main__":
    main()
