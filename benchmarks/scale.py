#!/usr/bin/env python
"""Build and search galleries of real vectors, and of up to a million simulated ones: what docs/scale.md holds."""

import json
import shutil
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import click
import numpy as np
from contenders import median_ms, peak_mb
from simulation import write_simulated

from similar_images.evaluation.report import machine, table
from similar_images.search.gallery import Gallery
from similar_images.store.exact_search import exact_neighbours, recall_at_k
from similar_images.store.index_building import IndexSettings, build_index
from similar_images.store.measure import FOCUS
from similar_images.store.vectors import open_vectors

HELD_OUT = 300


def build(folder, nlist):
    """Build an index; return what that took."""
    began = time.perf_counter()
    card = build_index(open_vectors(folder / "v.npy"), folder / "v.faiss.index", IndexSettings(nlist=nlist))
    return {"index": card.index, "s": time.perf_counter() - began, "MB": card.bytes / 1e6, "peak MB": peak_mb()}


def search(folder, nlist):
    """Search the index on one thread for vectors that are not in it; return what that took, and how much it found."""
    import faiss

    faiss.omp_set_num_threads(1)
    gallery, queries = Gallery.open(folder / "v.faiss.index"), np.load(folder / "queries.npy").astype(np.float32)
    ways = {"focus 0": (0, None), "default": (FOCUS, None), "alone": (0, 0)}
    figures, found = {}, {}
    for way, (focus, rerank) in ways.items():
        run = partial(gallery.search, focus=focus, rerank=rerank)
        figures[f"{way} ms"] = median_ms(run, queries)
        found[way] = np.array([[hit.image_id for hit in run(query)] for query in queries])
        figures.setdefault("peak MB", peak_mb())
    for way, (focus, _) in ways.items():
        exact = exact_distances(gallery, queries, focus)
        figures[f"{way} recall"] = recall_at_k(exact, distances(gallery, queries, found[way], focus))
    return {"nprobe": gallery.store.effort.nprobe, "rerank": gallery.store.effort.rerank, **figures}


def exact_distances(gallery, queries, focus):
    """Return the distances (q, 10) of queries to their nearest neighbours, by comparing them with all."""
    units = partial(gallery.measure.units, focus=focus)
    return distances(gallery, queries, exact_neighbours(units(queries), gallery.store.chunks(), 10, units), focus)


def distances(gallery, queries, rows, focus):
    """Return the exact distances (q, k) of queries to rows (q, k)."""
    return np.array([gallery.distances(*pair, focus) for pair in zip(queries, rows, strict=True)])


def held_out(real, folder):
    """Write real vectors as a gallery, but for the last, which are the queries; return how many it has."""
    np.save(folder / "v.npy", real[:-HELD_OUT])
    np.save(folder / "queries.npy", real[-HELD_OUT:])
    return len(real) - HELD_OUT


def simulate(real, folder, n):
    """Write a simulated gallery of n vectors, and others as queries; return n."""
    needed = 4 * n * real.shape[1]
    if shutil.disk_usage(folder).free < 1.1 * needed:
        raise click.ClickException(f"{n:,} vectors need {needed / 1e9:.0f} GB in {folder}: choose another --folder")
    write_simulated(real, n, folder / "v.npy")
    write_simulated(real, HELD_OUT, folder / "queries.npy", seed=1)
    return n


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option(
    "--vectors",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Real vectors, from which others are simulated.",
)
@click.option(
    "--sizes", default="real,40000,1000000", help="How many vectors, separated by commas; real holds the last 300 out."
)
@click.option("--nlist", type=int, help="Inverted lists.  [default: by the rule of --nlist auto]")
@click.option(
    "--folder",
    type=click.Path(exists=True, file_okay=False),
    help="Where a gallery goes while it is measured.  [default: the system's temporary folder]",
)
@click.option("-o", "--output", type=click.Path(path_type=Path), default="benchmarks/scale.md", help="Where to write.")
@click.option("--step", hidden=True, type=click.Choice(["build", "search"]))
def main(vectors, sizes, nlist, folder, output, step):
    """Make galleries of several sizes, and build and search each in a process of its own."""
    if step:
        print(json.dumps({"build": build, "search": search}[step](Path(folder), nlist)))
        return
    real = np.load(vectors).astype(np.float32)
    rows = []
    for size in sizes.split(","):
        with tempfile.TemporaryDirectory(dir=folder) as name:
            here = Path(name)
            n = held_out(real, here) if size == "real" else simulate(real, here, int(size))
            (here / "v.npy.txt").write_text("".join(f"{row}.jpg\n" for row in range(n)))
            built, found = (run(step, vectors, here, nlist) for step in ("build", "search"))
        rows.append(
            [f"{n:,} {'real' if size == 'real' else 'simulated'}", built["index"], f"{built['s']:.1f}",
             f"{built['peak MB']:,.0f}", f"{built['MB']:.2f}", f"{found['nprobe']}, {found['rerank']}",
             *(f"{found[f'{way} recall']:.3f}, {found[f'{way} ms']:.2f}" for way in ("focus 0", "default", "alone")),
             f"{found['peak MB']:,.0f}"]
        )  # fmt: skip
        click.echo(rows[-1], err=True)
    head = ["vectors", "index", "build, s", "peak, MB", "index, MB", "nprobe, re-ranked", "focus 0: recall@10, ms",
            "default focus: recall@10, ms", "without the vectors file: recall@10, ms",
            "peak of opening and searching, MB"]  # fmt: skip
    report = f"`benchmarks/scale.py --sizes {sizes}` on {machine()}.\n\n{table(head, rows)}\n"
    output.write_text(report, encoding="utf-8")
    click.echo(report)


def run(step, vectors, folder, nlist):
    """Run one step in a process of its own, a search on one thread; return its figures."""
    command = [sys.executable, __file__, "--vectors", vectors, "--folder", folder, "--step", step]
    command += ["--nlist", str(nlist)] if nlist else []
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


if __name__ == "__main__":
    main()
