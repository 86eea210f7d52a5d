#!/usr/bin/env python
"""Train the compact encoder on your photos: a small network learns to see what a large encoder sees."""

if __name__ == "__main__":  # before the other imports, which take a while
    from similar_images._script import begin

    begin()

import csv
import hashlib
import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click
import numpy as np

from similar_images._files import card_path, replacing
from similar_images._script import OneSentence
from similar_images.answer_quality import answer_quality
from similar_images.compact import (
    INCLUDED_WEIGHTS,
    SIDE,
    compact_encoder,
    compact_network,
    fit_reduction,
    load_weights,
    save_weights,
)  # fmt: skip
from similar_images.distillation import distil
from similar_images.encoder_comparison import spec_of_words
from similar_images.encoders import load_encoder
from similar_images.file_list import list_photos
from similar_images.filters import folder_of
from similar_images.images import read_resized
from similar_images.labels import Labels
from similar_images.runtimes import open_runtime, processor_has_bf16
from similar_images.training_crops import Level, prepare_crops, read_crops
from similar_images.vectors import normalise
from similar_images.weights import digest_of_weights

BATCH = 64
LEVELS = (Level(7, 256), Level(14, 96), Level(28, 48))  # the network's stages, from the end
FITTED = 2048  # crops that the reduction is fitted to


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option(
    "-d",
    "--img_dir",
    "img_dirs",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    multiple=True,
    required=True,
    help="Folder of photos to learn from; several times for several.",
)
@click.option(
    "-o",
    "--output_filename",
    type=click.Path(dir_okay=False, path_type=Path),
    default="compact_encoder.npz",
    help="Weights file to write, which the other scripts take with --encoder compact --weights FILE.",
)
@click.option("--teacher", default="mobilenet_v2", metavar="NAME[=WEIGHTS]", help="Encoder to learn from.")
@click.option("--weights", default="none", help="To start from: none, imagenet (which come with the project), a file.")
@click.option("--hold_out", type=click.IntRange(min=0), default=0, help="Folders, drawn by the seed, to test on only.")
@click.option("--crops", type=click.IntRange(min=1), default=40_960, help="Random crops to prepare, 0.2 MB each.")
@click.option("--steps", type=click.IntRange(min=1), default=4_000, help="Batches to learn from.")
@click.option("--batch_size", type=click.IntRange(min=1), default=128, help="Crops a batch.")
@click.option("--learning_rate", type=click.FloatRange(min=0, min_open=True), default=4e-3, help="The highest.")
@click.option("--seed", type=click.IntRange(min=0), default=0, help="Of all that is random.")
def main(img_dirs, output_filename, teacher, weights, hold_out, crops, steps, batch_size, learning_rate, seed):
    """Train the compact encoder by distillation: a weights file, and a card that says what it learnt from.

    Crops, checkpoints and the curve lie in OUTPUT.training. Interrupted, the same command goes on where it stopped.
    """
    folder = output_filename.with_name(f"{output_filename.name}.training")
    with OneSentence("stopped: the same command goes on from here"):
        labels, held = split(img_dirs, hold_out, seed)
        learnt = [path for path, label in labels.items() if label not in held]
        tested = {path: label for path, label in labels.items() if label in held}
        runtime = open_runtime(load_encoder(spec_of_words(teacher)), "openvino", "f32")
        network = compact_network("mixed_bfloat16" if processor_has_bf16() else "float32")
        encoder = compact_encoder(network)
        if weights != "none":
            load_weights(encoder, INCLUDED_WEIGHTS if weights == "imagenet" else Path(weights))
        settings = {
            "teacher": runtime.encoder.spec.name, "teacher_digest": runtime.encoder.weights_digest,
            "started_from": None if weights == "none" else digest_of_weights(encoder.get_weights()),
            "photos": len(learnt), "photos_digest": digest_of_photos(learnt, labels), "held_out": held,
            "crops": crops, "steps": steps, "batch_size": batch_size, "learning_rate": learning_rate, "seed": seed,
        }  # fmt: skip
        begin(output_filename, folder, settings)
        click.echo(f"{len(learnt):,} photos to learn from, {len(tested):,} to test on.", err=True)
        with bar("Crops", crops) as shown:
            prepare_crops(learnt, runtime, folder, side=SIDE, levels=LEVELS, count=crops, seed=seed,
                          progress=shown.update)  # fmt: skip
        pixels, targets = read_crops(folder, crops)
        test_pixels = read_all(tested, (SIDE, SIDE))

        def precision_now():
            fit_reduction(encoder, pixels[:FITTED])
            return precision(encoder.predict_on_batch, test_pixels, tested)

        with open(folder / "curve.csv", "a", newline="") as curve, bar("Steps", steps) as shown:
            for progress in distil(network, pixels, targets, folder / "checkpoints", steps=steps,
                                   batch_size=batch_size, learning_rate=learning_rate, seed=seed):  # fmt: skip
                csv.writer(curve).writerow([*progress, precision_now()])
                curve.flush()
                shown.update(progress.step - shown.pos)
        reached = {
            "precision@10": precision_now(),
            "teacher's precision@10": precision(runtime.encode, read_all(tested, runtime.encoder.size), tested),
        }
        save_weights(encoder, output_filename)
        describe(output_filename, settings | reached)
    click.echo(f"{output_filename}: {reached}")


def split(img_dirs, hold_out, seed):
    """Return the label of each photo, which is its folder, and the labels that are held out."""
    labels = {folder / name: folder_of(name) for folder in img_dirs for name in list_photos(folder)}
    folders = set(labels.values())
    if hold_out >= len(folders):
        raise ValueError(f"--hold_out {hold_out} leaves nothing to learn from: there are {len(folders)} folders")
    known = sorted(folders - {""})
    return labels, sorted(np.random.default_rng(seed).choice(known, hold_out, replace=False).tolist())


def digest_of_photos(paths, labels):
    """Return what tells lists of photos apart, wherever their folders are."""
    return hashlib.sha256(b"\n".join(os.fsencode(f"{labels[path]}/{path.name}") for path in paths)).hexdigest()


def begin(output_filename, folder, settings):
    """Make the folder of a training, or see that what it holds is of the same settings."""
    if output_filename.exists() and not folder.exists():
        raise ValueError(f"{output_filename} exists: keep it, and give another --output_filename")
    folder.mkdir(parents=True, exist_ok=True)
    training = card_path(folder / "training")
    if training.exists() and json.loads(training.read_text()) != settings:
        raise ValueError(f"{folder} holds a training with other settings: remove it, or give another --output_filename")
    describe(folder / "training", settings)


def describe(path, facts):
    """Write what a file was made of beside it."""
    with replacing(card_path(path)) as temporary:
        temporary.write_text(json.dumps(facts, indent=2) + "\n")


def read_all(paths, size):
    """Return the pixels of photos, each (height, width, 3) uint8."""
    with ThreadPoolExecutor() as pool:
        return list(pool.map(lambda path: read_resized(path, size), paths))


def precision(encode, pixels, tested):
    """Return the precision@10 of vectors of photos of labels that were held out; None where no two share one."""
    names = sorted(set(tested.values()))
    labels = Labels(names, np.array([[label == name for name in names] for label in tested.values()], bool, ndmin=2))
    if not len(labels.labelled()):
        return None
    batches = [np.stack(pixels[start : start + BATCH]) for start in range(0, len(pixels), BATCH)]
    vectors = normalise(np.concatenate([encode(batch) for batch in batches]))
    return float(answer_quality(vectors, labels, labels.labelled()).precision.mean())


def bar(what, length):
    """Show on a terminal how far a part of the training has got."""
    return click.progressbar(length=length, label=what, show_pos=True, file=sys.stderr, hidden=not sys.stderr.isatty())


if __name__ == "__main__":
    main()
