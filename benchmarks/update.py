#!/usr/bin/env python
"""Update galleries of simulated vectors and small photos, and measure what that takes beyond encoding."""

import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
from contenders import peak_mb
from PIL import Image

from similar_images.encoding.encoders import Encoder, EncoderSpec
from similar_images.evaluation.report import machine, table
from similar_images.extraction.extraction import extract, needs_update
from similar_images.photos.file_list import list_photos

NEW = 100


@dataclass
class NoEncoder:
    """A runtime that takes no time, so that what is measured is everything else; see `runtimes.Runtime`."""

    encoder: Encoder
    name: str = "none"
    precision: str = "f32"
    agreement: float = 1.0
    batch_size: int = 32

    def encode_all(self, batches):
        """Yield vectors of ones."""
        for tag, pixels in batches:
            yield tag, np.ones((len(pixels), self.encoder.dimension), np.float32)


def updated(folder, d):
    """Extract the vectors of `folder`/photos, or update them; return what that took."""
    began = time.perf_counter()
    runtime = NoEncoder(Encoder(EncoderSpec("mobilenet_v2", weights="none"), (32, 32), d, "0" * 64))
    names = list_photos(folder / "photos")
    done = extract(names, folder / "photos", folder / "v.npy", runtime, update=True)
    return {"s": time.perf_counter() - began, "encoded": done.encoded, "peak MB": peak_mb()}


def compared(folder, d):
    """Find out that nothing has changed; return what that took."""
    began = time.perf_counter()
    assert not needs_update(list_photos(folder / "photos"), folder / "photos", folder / "v.npy")
    return {"s": time.perf_counter() - began, "encoded": 0, "peak MB": peak_mb()}


def draw(folder, rows):
    """Draw photos of a few kB each, all of them different, 1,000 to a folder."""
    random = np.random.default_rng(rows.start)
    for row in rows:
        photo = folder / f"{row // 1000:03}" / f"{row:07}.jpg"
        photo.parent.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(random.integers(0, 255, (8, 8, 3), np.uint8))
        coarse.resize((96, 96)).save(photo)


def run(step, folder, d):
    """Run one step in a process of its own; return its figures."""
    command = [sys.executable, __file__, "--folder", folder, "--dimension", str(d), "--step", step]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--photos", default=40_000, help="How many photos the gallery has.")
@click.option("--unchanged", default=100_000, help="How many photos a gallery has in which nothing changes.")
@click.option("--dimension", default=4096, help="Of the vectors.")
@click.option("--folder", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Where to put them.")
@click.option("--step", hidden=True, type=click.Choice(["updated", "compared"]))
def main(photos, unchanged, dimension, folder, step):
    """Make a gallery, update it in several ways, each in a process of its own, and print what that took."""
    if step:
        print(json.dumps({"updated": updated, "compared": compared}[step](folder, dimension)))
        return
    with tempfile.TemporaryDirectory(dir=folder) as name:
        here = Path(name)
        draw(here / "photos" / "all", range(photos))
        took = {f"{photos:,} photos for the first time": run("updated", here, dimension)}
        draw(here / "photos" / "all", range(photos, photos + NEW))
        took[f"{NEW} new ones"] = run("updated", here, dimension)
        took["nothing new"] = run("updated", here, dimension)
        (here / "photos" / "all").rename(here / "photos" / "renamed")
        took["their folder renamed"] = run("updated", here, dimension)
        draw(here / "photos" / "renamed", range(photos + NEW, unchanged))
        (here / "v.npy").unlink()
        run("updated", here, 4)
        took[f"{unchanged:,} listed and compared, nothing new"] = run("compared", here, 4)
    first = next(iter(took.values()))["s"]
    rows = [
        [what, f"{it['encoded']:,}", f"{it['s']:.1f}", f"{it['s'] / first:.3f}", f"{it['peak MB']:,.0f}"]
        for what, it in took.items()
    ]
    head = ["update of", "encoded", "s, without encoding", "share of the first time", "peak, MB"]
    click.echo(
        f"`benchmarks/update.py --photos {photos} --unchanged {unchanged}` on {machine()}.\n\n{table(head, rows)}"
    )


if __name__ == "__main__":
    main()
