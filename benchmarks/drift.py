#!/usr/bin/env python
"""Let galleries grow whose index only is added to, and compare it with one that is built anew: see docs/scale.md."""

import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import click
import numpy as np
from contenders import median_ms
from numpy.typing import NDArray
from simulation import simulated

from similar_images.evaluation.report import machine, table
from similar_images.photos.file_list import folder_of
from similar_images.store.base import Effort
from similar_images.store.exact_search import distances_to_others, exact_neighbours, recall_at_k
from similar_images.store.facts import Facts
from similar_images.store.faiss_store import FaissStore
from similar_images.store.index_building import IndexSettings, build_index
from similar_images.store.index_update import update_index, why_build_again
from similar_images.store.vectors import list_path, open_vectors

GROWTHS = (0.1, 0.5, 1.0)
ASKED = 400
K = 10
ROUNDING = 1e-5
CLUSTERS = 40
Floats = NDArray[np.float32]
Ids = NDArray[np.int64]


@click.command(context_settings={"show_default": True})
@click.argument("vectors", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--simulate", type=int, help="How many vectors to simulate from the real ones, which are their kinds.")
@click.option("-o", "--output", type=click.Path(path_type=Path), default="benchmarks/drift.md", help="Where to write.")
def main(vectors: tuple[Path, ...], simulate: int | None, output: Path) -> None:
    """Build an index of half of each gallery, add the rest to it, and build it anew.

    What is added is of the same kind, or of other kinds: folders, or clusters where there are none.
    """
    lines = []
    for file in vectors:
        for others in (False, True):
            rows, kinds = gallery(file, simulate, others)
            name = f"{len(rows):,} {'simulated' if simulate else file.name.partition('.')[0]}"
            for line in growing(rows, kinds):
                lines.append([name, "others" if others else "the same", *line])
                click.echo(lines[-1], err=True)
    head = [
        "vectors", "kind of what is added", "growth", "recall@10, built anew", "without the vectors file, built anew",
        "ms, built anew", "neighbours as in the new space", "precision@10 by exact search, in the new space", "advice",
    ]  # fmt: skip
    given = " ".join([*(file.name for file in vectors), *([f"--simulate {simulate}"] if simulate else [])])
    report = f"`benchmarks/drift.py {given}` on {machine()}.\n\n{table(head, lines)}\n"
    output.write_text(report, encoding="utf-8")
    click.echo(report)


def gallery(file: Path, simulate: int | None, others: bool) -> tuple[Floats, NDArray[np.str_] | None]:
    """Return vectors, what is added first being last, and the labels of their photos, where there are any."""
    array, random = np.load(file).astype(np.float32), np.random.default_rng(0)
    names = list_path(file).read_text().splitlines() if list_path(file).exists() else []
    folders = np.array([folder_of(name) for name in names])
    kinds = clusters(array) if len(np.unique(folders)) < 2 else folders
    order = random.permutation(len(array))
    if others:
        rank = dict(zip(random.permutation(np.unique(kinds)).tolist(), range(len(array)), strict=False))
        order = np.array(sorted(order.tolist(), key=lambda row: rank[kinds[row].item()]))
    if not simulate:
        return array[order], None if kinds is not folders else kinds[order]
    halves = np.array_split(array[order], 2) if others else [array, array]
    chunks = [chunk for seed, half in enumerate(halves) for chunk in simulated(half, simulate // 2, seed)]
    return np.concatenate(chunks), None


def clusters(array: Floats) -> Ids:
    """Return the k-means cluster of each vector."""
    import faiss

    kmeans = faiss.Kmeans(array.shape[1], CLUSTERS, seed=0)
    kmeans.train(array)
    labels: Ids = kmeans.assign(array)[1]
    return labels


def growing(rows: Floats, kinds: NDArray[np.str_] | None) -> Iterator[list[str]]:
    """Yield a line of the table after each growth."""
    base = len(rows) // 2
    with tempfile.TemporaryDirectory() as name:
        file, index, anew = Path(name, "v.npy"), Path(name, "v.faiss.index"), Path(name, "anew.faiss.index")
        np.save(file, rows[:base])
        (Path(name) / "v.npy.txt").write_text("".join(f"{row}.jpg\n" for row in range(base)))
        build_index(open_vectors(file), index, IndexSettings())
        for growth in GROWTHS:
            store = FaissStore(index)
            there, wanted = len(store), round(base * (1 + growth))
            store.add(rows[there:wanted], [Facts(0, f"{row}.jpg") for row in range(there, wanted)])
            advice = why_build_again(update_index(open_vectors(file), index))
            build_index(open_vectors(file), anew, IndexSettings())
            asking = np.sort(np.random.default_rng(1).choice(wanted, min(wanted, ASKED), replace=False))
            added, built = FaissStore(index), FaissStore(anew)
            (near, *ours), (near_anew, *theirs) = measured(added, asking), measured(built, asking)
            same = np.mean([len({*one} & {*other}) / K for one, other in zip(near, near_anew, strict=True)])
            precisions = ["", ""] if kinds is None else [precision(kinds, asking, each) for each in (near, near_anew)]
            figures = [f"{one:.3f}, {other:.3f}" for one, other in zip(ours, theirs, strict=True)]
            yield [f"{growth:.0%}", *figures, f"{same:.3f}", ", ".join(filter(None, precisions)), advice or ""]


def measured(store: FaissStore, asking: Ids) -> tuple[Ids, float, float, float]:
    """Return the exact neighbours (q, 10) of rows, recall@10 with and without the vectors file, and ms per query."""
    units, queries = store.measure.units, store.vectors(asking)
    exact = exact_neighbours(units(queries), store.chunks(), K + 1, units)
    others = partial(distances_to_others, store.distances, list(queries), asking)
    nearest = others(list(exact), K) * np.float32(1 + ROUNDING)
    recalls = [
        recall_at_k(nearest, others(list(store.search(queries, K + 1, effort=Effort(rerank=rerank))[0]), K))
        for rerank in (None, 0)
    ]
    ms = median_ms(lambda query: store.search(query[None], K), queries)
    without = np.array([[row for row in line if row != own][:K] for line, own in zip(exact, asking, strict=True)])
    return without, recalls[0], recalls[1], ms


def precision(kinds: NDArray[np.str_], asking: Ids, found: Ids) -> str:
    """Return which fraction of what was found is of the kind that was asked by."""
    return f"{(kinds[found] == kinds[asking][:, None]).mean():.3f}"


if __name__ == "__main__":
    main()
