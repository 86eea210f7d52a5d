"""A gallery in two dimensions, similar photos near each other, cached beside the index."""

import contextlib
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from similar_images.cards import CardError, MapCard, read_card, replacing_with_card
from similar_images.files import BusyError, is_unchanged
from similar_images.progress import Progress, no_progress
from similar_images.search.gallery import Gallery, GalleryError
from similar_images.store.pca import principal_components

Method = Literal["pca", "umap"]
Floats = NDArray[np.float32]

SAMPLE = 5000
UMAP_DIMENSIONS = 50


def methods() -> list[Method]:
    """Return the methods that `coordinates` has here: UMAP is a package of its own."""
    return ["pca", "umap"] if find_spec("umap") else ["pca"]


def coordinates(gallery: Gallery, method: Method = "pca", progress: Progress = no_progress) -> Floats:
    """Return where each photo of a gallery is on the map; read from disk where it was computed before.

    Args:
        gallery: the photos.
        method: "pca" puts the vectors' two principal components there; "umap" keeps neighbours together, and takes
            minutes for some ten thousand photos.
        progress: shows how many photos have been projected.

    Returns:
        (n, 2) float32, between -1 and 1; nan for photos without a vector.

    Raises:
        GalleryError: the vectors file is missing, and the index holds no components.

    Source: McInnes, Healy, Melville: UMAP (2018), for "umap".
    """
    if not gallery.can_compare:
        raise GalleryError("the map needs the vectors file, which is missing: put it back")
    file = map_path(gallery, method)
    cached = _cached(file, gallery, method)
    if cached is not None:
        return cached
    rows = gallery.searchable_rows()
    positions = np.full((len(gallery.names), 2), np.nan, np.float32)
    positions[rows] = _principal(gallery, rows, 2, progress) if method == "pca" else _umap(gallery, rows, progress)
    middle, half = (
        (np.nanmax(positions, axis=0) + np.nanmin(positions, axis=0)) / 2,
        np.ptp(positions[rows], axis=0) / 2,
    )
    positions = np.asarray((positions - middle) / np.where(half > 0, half, 1), np.float32)
    _cache(file, positions, gallery, method)
    return positions


def map_path(gallery: Gallery, method: Method) -> Path:
    """Return where a gallery's map is cached."""
    return gallery.path.with_name(f"{gallery.path.name}.{method}.npy")


def _principal(gallery: Gallery, rows: NDArray[np.int64], d_out: int, progress: Progress) -> Floats:
    """Return the first principal components (r, d_out) of rows (r,): the index's own, or of a sample."""
    if gallery.measure.can_focus:
        return gallery.store.components(rows)[:, :d_out]
    sample = gallery.units(np.sort(np.random.default_rng(0).permutation(rows)[:SAMPLE]))
    directions, _ = principal_components(sample - sample.mean(axis=0), d_out, seed=0)
    reduced = []
    for start in range(0, len(rows), SAMPLE):
        reduced.append(gallery.units(rows[start : start + SAMPLE]) @ directions.T)
        progress("projecting", min(len(rows), start + SAMPLE), len(rows))
    return np.concatenate(reduced)


def _umap(gallery: Gallery, rows: NDArray[np.int64], progress: Progress) -> Floats:
    from umap import UMAP

    reduced = _principal(gallery, rows, UMAP_DIMENSIONS, progress)
    return np.asarray(UMAP(random_state=0, n_jobs=1).fit_transform(reduced), np.float32)


def _cached(path: Path, gallery: Gallery, method: Method) -> Floats | None:
    """Return the map that a file holds; None where it is missing, damaged, or of other vectors."""
    try:
        card = read_card(path, MapCard)
        with open(path, "rb") as file:
            is_it = card and (card.method, card.vectors_digest) == (method, gallery.store.version)
            if card and is_it and card.digest and is_unchanged(file, card.digest):
                file.seek(0)
                return np.asarray(np.load(file), np.float32)
    except (OSError, CardError):
        pass
    return None


def _cache(file: Path, positions: Floats, gallery: Gallery, method: Method) -> None:
    card = MapCard(method=method, vectors_digest=gallery.store.version, n=len(positions))
    not_ours = contextlib.suppress(OSError, BusyError)  # computed again next time
    with not_ours, replacing_with_card(file, card) as temporary, open(temporary, "wb") as stream:
        np.save(stream, positions)
