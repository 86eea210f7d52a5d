#!/usr/bin/env python
"""Measure this project against what a user would write otherwise, in turn and in one run: what `make bench` runs."""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from itertools import cycle, islice
from pathlib import Path

import click
import numpy as np
from simulation import write_simulated

from similar_images.encoding.runtimes import processor_has_bf16
from similar_images.evaluation.report import machine, table
from similar_images.photos.file_list import list_photos
from similar_images.photos.samples import draw_samples

ROOT = Path(__file__).parents[1]
VGG16_GFLOP = 30.9  # per photo, up to fc2: 15.47 billion multiplications and as many additions, less fc3


def measure(name, **arguments):
    """Run a contender in a process of its own and return its figures."""
    click.echo(f"  {name} {arguments.get('precision') or arguments.get('kind') or ''}", err=True)
    command = [sys.executable, ROOT / "benchmarks" / "contenders.py", name, json.dumps(arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise click.ClickException(f"{name} failed: {done.stderr.strip()[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def in_turn(rounds, contenders):
    """Run contenders, given as name: call, in turn for some rounds; return the median of each figure."""
    figures = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, call in contenders.items():
            figures[name].append(call())
    return {
        name: {key: statistics.median(run[key] for run in runs) for key in runs[0]} for name, runs in figures.items()
    }


def extraction(images, names, folder, rounds):
    """(a) and (e): photos per second, and how near that is to what the processor can do."""
    low = "bf16" if processor_has_bf16() else "f32"
    ours = {precision: str(folder / f"{precision}.npy") for precision in ("f32", low)}
    run = {"plain Keras loop": lambda: measure("plain_extraction", images=images, names=names)}
    for precision, output in ours.items():
        run[f"ours, {precision}"] = lambda precision=precision, output=output: measure(
            "our_extraction", images=images, names=names, output=output, precision=precision
        )
    if find_spec("nncf"):
        run["ours, int8"] = lambda: measure(
            "our_extraction", images=images, names=names, output=str(folder / "int8.npy"), precision="int8"
        )
    run[f"encoder alone, {low}"] = lambda: measure("encoder_alone", count=len(names), precision=low)
    for precision in dict.fromkeys(("f32", low)):
        run[f"matrix product, {precision}"] = lambda precision=precision: measure("matrix_product", precision=precision)
    found = in_turn(rounds, run)
    plain, alone = found["plain Keras loop"]["photos/s"], found[f"encoder alone, {low}"]["photos/s"]
    rows = []
    for name, figures in found.items():
        if "photos/s" not in figures:
            continue
        rate = figures["photos/s"]
        shares = [f"{figures[f'{what} share']:.0%}" if "encode share" in figures else "" for what in
                  ("decode", "encode", "write")]  # fmt: skip
        tflops = rate * VGG16_GFLOP / 1000
        rows.append([name, f"{rate:.1f}", f"{rate / plain:.2f}", f"{rate / alone:.2f}", *shares, f"{tflops:.2f}"])
    text = table(["", "photos/s", "/ plain", "/ encoder alone", "decode", "encode", "write", "TFLOP/s"], rows)
    ceilings = {name: figures["TFLOP/s"] for name, figures in found.items() if "TFLOP/s" in figures}
    text += "\n\n" + "; ".join(f"{name} of 4096 x 4096: {flops:.2f} TFLOP/s" for name, flops in ceilings.items())
    best = found[f"encoder alone, {low}"]["photos/s"] * VGG16_GFLOP / 1000 / ceilings[f"matrix product, {low}"]
    text += f". The encoder alone reaches {best:.0%} of that in {low}.\n\n" + agreement(folder, low)
    starts = [f"{name} {found[name]['start s']:.2f} s" for name in ("plain Keras loop", f"ours, {low}")]
    text += "\n\nFrom the start of Python until the first batch can be encoded: " + "; ".join(starts) + "."
    return text, Path(ours[low])


def agreement(folder, low):
    """Return how far vectors of fewer bits are from those of float32."""
    exact = np.load(folder / "f32.npy")
    lines = []
    for precision in dict.fromkeys((low, "int8")):
        if (folder / f"{precision}.npy").exists():
            other = np.load(folder / f"{precision}.npy")
            cosines = (exact * other).sum(1) / np.linalg.norm(exact, axis=1) / np.linalg.norm(other, axis=1)
            lines.append(f"{precision}: cosine to f32 at least {cosines.min():.5f}, mean {cosines.mean():.5f}")
    return "; ".join(lines) + "."


def queries(images, names, vectors, rounds):
    """(b): from a fresh process to the first answer, then one answer after another."""
    index = vectors.with_suffix(".faiss.index")
    script = [sys.executable, ROOT / "build_search_db.py", "-i", vectors, "-o", index, "--overwrite"]
    subprocess.run(script, check=True, capture_output=True)
    arguments = {"images": images, "names": names[:20], "index": str(index)}
    found = in_turn(rounds, {
        "plain": lambda: measure("plain_queries", vectors=str(vectors), **arguments),
        "ours": lambda: measure("our_queries", **arguments),
        "plain start": lambda: measure("plain_start", vectors=str(vectors), index=str(index)),
        "our start": lambda: measure("notebook_start", index=str(index)),
    })  # fmt: skip
    plain, ours = found["plain"], found["ours"]
    rows = [
        [what, f"{one:.{digits}f} {unit}", f"{other:.{digits}f} {unit}", f"{one / other:.1f}"]
        for what, one, other, unit, digits in (
            ("start of Python to a usable panel", found["plain start"]["s"], found["our start"]["s"], "s", 2),
            ("start of Python to the first answer to a photo", plain["cold s"], ours["cold s"], "s", 2),
            ("photo to hits, warm", plain["warm ms"], ours["warm ms"], "ms", 1),
        )
    ]
    rows.append(["random pick, warm", "", f"{ours['random pick ms']:.2f} ms", ""])
    return table(["", "plain", "ours", "plain / ours"], rows)


def indexes(real, n, folder):
    """(c): one vectors file, several indexes; the queries are not in it."""
    vectors, asked = folder / "gallery.npy", folder / "queries.npy"
    write_simulated(real, n, vectors)
    write_simulated(real, 200, asked, seed=1)
    arguments = {"vectors": str(vectors), "queries": str(asked)}
    found = {"ours": measure("our_index", **arguments)}
    for kind in ("IVF100,PQ16", "Flat", "HNSW32"):
        found[kind] = measure("plain_index", kind=kind, **arguments)
    plain = found["IVF100,PQ16"]
    rows = [
        [name, f"{f['build s']:.1f}", f"{plain['build s'] / f['build s']:.2f}", f"{f['peak MB']:,.0f}",
         f"{f['MB']:.1f}", f"{f['recall@10']:.3f}", f"{f['ms']:.2f}"]
        for name, f in found.items()
    ]  # fmt: skip
    head = ["", "build, s", "IVF100,PQ16 / it", "peak, MB", "size, MB", "recall@10", "ms per query, one thread"]
    return table(head, rows)


def memory(images, names, folder):
    """(d): the most memory that an extraction takes, and that of ten times as many photos."""
    rows = []
    for name, contender, count in (("plain Keras loop", "plain_extraction", 64), ("ours", "our_extraction", 160)):
        output = {"output": str(folder / "memory.npy")} if contender == "our_extraction" else {}
        few, many = (
            measure(contender, images=images, names=list(islice(cycle(names), size)), **output)["peak MB"]
            for size in (count, 10 * count)
        )
        rows.append([name, f"{count}: {few:,.0f} MB", f"{10 * count:,}: {many:,.0f} MB", f"{many - few:+,.0f} MB"])
    return table(["", "photos: peak", "ten times as many", "growth"], rows)


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--images", type=click.Path(exists=True, file_okay=False), help="Photos.  [default: drawn samples]")
@click.option(
    "--vectors",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Real vectors that the index is measured with.  [default: those of the photos]",
)
@click.option("--quick", is_flag=True, help="Fewer photos, one round, a smaller index: two minutes, rough figures.")
@click.option("-o", "--output", type=click.Path(path_type=Path), default="benchmarks/report.md", help="Where to write.")
def main(images, vectors, quick, output):
    """Measure extraction, queries, indexes and memory against the plain way, side by side."""
    count, rounds, n = (96, 1, 5_000) if quick else (512, 3, 40_000)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if images is None:
            images = str(folder / "samples")
            draw_samples(Path(images))
        photos = [photo.decode("utf-8", "strict") if isinstance(photo, bytes) else photo for photo in
                  list_photos(Path(images))]  # fmt: skip
        names = list(islice(cycle(photos), count))
        parts = {}
        extracted, made = extraction(images, names, folder, rounds)
        parts[f"Extraction: VGG16 fc2, seeded weights, {count} photos of {len(photos)} files, decoding included"] = (
            extracted
        )
        parts["Queries"] = queries(images, names, made, rounds)
        real = np.load(vectors or made).astype(np.float32)
        parts[f"Index: {n:,} simulated vectors of dimension {real.shape[1]}, 200 queries"] = indexes(real, n, folder)
        parts["Memory of an extraction"] = memory(images, photos, folder)
    how = "once" if rounds == 1 else f"in {rounds} rounds, medians"
    head = f"`make bench`{' QUICK=1' if quick else ''} on {machine()}. Contenders ran in turn, {how}."
    report = "\n\n".join([head, *(f"## {title}\n\n{text}" for title, text in parts.items())]) + "\n"
    output.write_text(report, encoding="utf-8")
    click.echo(report)
    click.echo(f"{output} holds this too; it took {(time.monotonic() - began) / 60:.1f} minutes.", err=True)


if __name__ == "__main__":
    main()
