#!/usr/bin/env python
"""Build and search simulated galleries of up to a million vectors: what docs/scale.md holds."""

import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click
import numpy as np
from contenders import median_ms, peak_mb
from simulation import write_simulated

from similar_images.evaluation import exact_neighbours, recall_at_k
from similar_images.evaluation_report import machine, table
from similar_images.gallery import Gallery
from similar_images.index_building import IndexSettings, build_index
from similar_images.vectors import normalise, open_vectors


def build(folder):
    """Build an index with lists by rule; return what that took."""
    began = time.perf_counter()
    card = build_index(open_vectors(folder / "v.npy"), folder / "v.faiss.index", IndexSettings(nlist=None))
    return {"index": card.index, "s": time.perf_counter() - began, "MB": card.bytes / 1e6, "peak MB": peak_mb()}


def search(folder):
    """Open the index and search it for vectors that are not in it; return what that took, and how much it found."""
    import faiss

    faiss.omp_set_num_threads(1)
    gallery = Gallery.open(folder / "v.faiss.index")
    queries = normalise(np.load(folder / "queries.npy"))
    ms = median_ms(gallery.search, queries)
    found, peak = np.array([[hit.distance for hit in gallery.search(query)] for query in queries]), peak_mb()
    nearest = exact_neighbours(queries, gallery.vectors.chunks(), 10)
    recall = recall_at_k(np.array([gallery.distances(*pair) for pair in zip(queries, nearest, strict=True)]), found)
    return {"nprobe": gallery.index.nprobe, "ms": ms, "recall": recall, "peak MB": peak}


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option(
    "--vectors",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Real vectors to simulate galleries from.",
)
@click.option("--sizes", default="40000,400000,1000000", help="How many vectors, separated by commas.")
@click.option(
    "--folder",
    type=click.Path(exists=True, file_okay=False),
    help="Where a gallery goes while it is measured.  [default: the system's temporary folder]",
)
@click.option("-o", "--output", type=click.Path(path_type=Path), default="benchmarks/scale.md", help="Where to write.")
@click.option("--step", hidden=True, type=click.Choice(["build", "search"]))
def main(vectors, sizes, folder, output, step):
    """Simulate galleries of several sizes, and build and search each in a process of its own."""
    if step:
        print(json.dumps({"build": build, "search": search}[step](Path(folder))))
        return
    real = np.load(vectors).astype(np.float32)
    rows = []
    for n in map(int, sizes.split(",")):
        with tempfile.TemporaryDirectory(dir=folder) as name:
            here = Path(name)
            needed = 4 * n * real.shape[1]
            if shutil.disk_usage(here).free < 1.1 * needed:
                raise click.ClickException(
                    f"{n:,} vectors need {needed / 1e9:.0f} GB in {here}: choose another --folder"
                )
            write_simulated(real, n, here / "v.npy")
            write_simulated(real, 200, here / "queries.npy", seed=1)
            (here / "v.npy.txt").write_text("".join(f"{row}.jpg\n" for row in range(n)))
            built, found = (run(step, vectors, here) for step in ("build", "search"))
        rows.append(
            [f"{n:,}", f"{needed / 1e9:.2f}", built["index"], f"{built['s'] / 60:.2f}", f"{built['peak MB']:,.0f}",
             f"{built['MB']:.1f}", found["nprobe"], f"{found['recall']:.3f}", f"{found['ms']:.2f}",
             f"{found['peak MB']:,.0f}"]
        )  # fmt: skip
        click.echo(rows[-1], err=True)
    head = ["vectors", "they take, GB", "index", "build, minutes", "peak, MB", "index, MB", "nprobe", "recall@10",
            "ms a query, one thread", "peak of opening and searching, MB"]  # fmt: skip
    report = f"`benchmarks/scale.py` on {machine()}.\n\n{table(head, rows)}\n"
    output.write_text(report, encoding="utf-8")
    click.echo(report)


def run(step, vectors, folder):
    """Run one step in a process of its own; return its figures."""
    command = [sys.executable, __file__, "--vectors", vectors, "--folder", folder, "--step", step]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


if __name__ == "__main__":
    main()
