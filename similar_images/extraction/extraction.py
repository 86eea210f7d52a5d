"""Photos to vectors: reads, encodes and writes a whole file list, and goes on where an earlier run stopped."""

import contextlib
import dataclasses
import hashlib
import json
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from msgspec.structs import asdict, replace

from similar_images.cards import EncoderCard, Failure, VectorsCard, relative_to_card
from similar_images.encoding.encoders import Encoder
from similar_images.encoding.runtimes import EarlierRows, Runtime, precision_of
from similar_images.extraction.reading import DEFAULT_WORKERS, ListedFiles, Photo, PhotoReader, read_photo
from similar_images.extraction.update import Plan, first_plan, plan_update
from similar_images.files import is_half_in_place, locked, put_in_place
from similar_images.photos.images import ImageReadError, Pixels, source_name
from similar_images.progress import Progress, no_progress
from similar_images.store.catalogue import REMOVED, Catalogue
from similar_images.store.facts import Facts
from similar_images.store.unfinished_vectors import UnfinishedVectors, left_by
from similar_images.store.vectors import VectorFile, VectorsError, open_vectors

CHECKPOINT_SECONDS = 2.0

# What a card says that only a run finds out.
RESULT_FIELDS = ("digest", "file_list_digest", "catalogue_digest", "failures", "request", "agreement")
# Of what a run is made of: which photos, and of which state of a gallery.
LISTING_FIELDS = ("n", "img_dir", "names", "updates")


@dataclass(frozen=True)
class Extraction:
    """What a run of `extract` did.

    Attributes:
        encoded: photos encoded by this run.
        kept: photos whose vectors were there: of an earlier run or, when updating, of the existing file.
        failures: the photos that could not be read.
        made_with: runtimes and precisions of all rows, see `cards.VectorsCard`.
        seconds: how long this run took.
        shares: which part of that went into waiting for photos to be decoded, for the encoder, and for the disk: 0 to 1
            each; they work side by side, so that the one with the largest share sets the pace.
        counts: when updating, photos by what happened to them: added, changed, renamed, removed.
    """

    encoded: int
    kept: int
    failures: list[Failure]
    made_with: list[str]
    seconds: float
    shares: dict[str, float]
    counts: dict[str, int] = field(default_factory=dict)


def check_request(names: Sequence[str], img_dir: Path, output: Path, *, overwrite: bool, update: bool) -> None:
    """Find what would stop `extract`, of which these are arguments, before an encoder is loaded for it.

    Raises:
        VectorsError: there is nothing to encode, the output exists, or its folder can't be written to.
    """
    if not names:
        raise VectorsError(f"there are no photos to encode: the list is empty, or {img_dir} holds none")
    if output.exists() and not (overwrite or update or is_half_in_place(output)):
        raise VectorsError(f"{output} exists: keep it, --update it, or make it again with --overwrite")
    if not os.access(output.parent, os.W_OK):
        raise VectorsError(f"{output} can't be written: {output.parent} is no folder that you may write to")


def extract(
    names: Sequence[str],
    img_dir: Path,
    output: Path,
    runtime: Runtime,
    *,
    batch_size: int | None = None,
    workers: int | None = None,
    overwrite: bool = False,
    update: bool = False,
    strict: bool = False,
    progress: Progress = no_progress,
) -> Extraction:
    """Write the vectors of all photos of a list, with list, catalogue and card.

    The output appears whole or not at all. When the run is interrupted, the same call goes on where it stopped and
    ends with the same vectors.

    Args:
        names: the photos, relative to `img_dir`; name i becomes row i, unless updating.
        img_dir: their folder.
        output: the .npy file to write, float32 (rows, d).
        runtime: what to encode with.
        batch_size: photos encoded at a time; None for what suits the runtime.
        workers: threads that read photos; None for one a processor core.
        overwrite: whether an existing output may be replaced, and an unfinished run with other options thrown away.
        update: bring an existing output up to date: what is new or changed is encoded and appended, rows follow
            photos that were renamed, and those of photos that left become zero. Photos that could not be read before
            are tried again.
        strict: stop at the first photo that can't be read, instead of leaving its row zero.
        progress: shows how many photos have been compared and encoded.

    Raises:
        VectorsError: the output exists, was begun with other options, doesn't fit for an update, or finds no room.
        BusyError: another run is writing the output.
        ImageReadError: a photo can't be read, and `strict`.
    """
    began = time.monotonic()
    with _writing(output):
        check_request(names, img_dir, output, overwrite=overwrite, update=update)
        if was_cut_off := is_half_in_place(output):
            put_in_place(output)
        batch_size, workers = batch_size or runtime.batch_size, workers or DEFAULT_WORKERS
        old = _open_old(output, runtime.encoder) if update and output.exists() else None
        plan = _plan(old, names, img_dir, workers, progress) if old else first_plan(names)
        _refuse_unreadable(plan, img_dir, strict)
        if old and not plan.is_needed and old.card.img_dir == relative_to_card(img_dir, output):
            return _result(old.card, plan, names, time.monotonic() - began)
        card = _card(runtime, plan, img_dir, output, old)
        made_of = _made_of(card, plan, batch_size, old)
        card.request = hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()
        if was_cut_off and not (overwrite or update):
            return _finished_before(output, card)

        unfinished = UnfinishedVectors(output, (card.n, card.d), made_of)
        disposable = tuple(made_of) if overwrite else LISTING_FIELDS if old else ()
        if old and not plan.changes_vectors:
            card = replace(old.card, img_dir=card.img_dir)
            unfinished.keep_vectors(plan.photos, card, disposable)
            return _result(card, plan, names, time.monotonic() - began)
        goes_on = unfinished.open(disposable)
        reader = PhotoReader(partial(read_photo, runtime.encoder, img_dir, strict), workers)
        try:
            if old and not goes_on:
                unfinished.take_over(old, plan.photos)
            kept = len(names) - len(plan.appended) + unfinished.done
            progress("encoding", kept, len(names))
            to_encode = list(enumerate(plan.appended, len(plan.photos)))
            written = _encode_all(to_encode, len(names), reader, runtime, unfinished, batch_size, progress)
            _refuse_if_all_failed(unfinished, img_dir, len(names))
            unfinished.finish(card)
        finally:
            unfinished.close()
    seconds = time.monotonic() - began
    return _result(card, plan, names, seconds, len(names) - kept, reader.waited / seconds, written / seconds)


def _result(
    card: VectorsCard,
    plan: Plan,
    names: Sequence[str],
    seconds: float,
    encoded: int = 0,
    decode: float = 0,
    write: float = 0,
) -> Extraction:
    failures = [failure for failure in card.failures if failure.reason != REMOVED]
    shares = {"decode": decode, "write": write, "encode": (1 - decode - write) if encoded else 0.0}
    return Extraction(encoded, len(names) - encoded, failures, card.made_with, seconds, shares, plan.counts)


def needs_update(names: Sequence[str], img_dir: Path, output: Path) -> bool:
    """Tell whether `extract` would change an output that it updates, which takes no encoder to find out.

    Raises:
        VectorsError: the output is missing or damaged.
    """
    old = open_vectors(output)
    files = ListedFiles(img_dir, names, DEFAULT_WORKERS, no_progress)
    return old.card.img_dir != relative_to_card(img_dir, output) or plan_update(_photos(old), names, files).is_needed


def _plan(old: VectorFile, names: Sequence[str], img_dir: Path, workers: int, progress: Progress) -> Plan:
    files = ListedFiles(img_dir, names, workers, progress)
    plan = plan_update(_photos(old), names, files)
    for photo in files.recorded([plan.photos[row] for row in plan.unrecorded]):
        plan.photos[photo.row] = photo
    return plan


def _photos(old: VectorFile) -> list[Facts]:
    with contextlib.closing(Catalogue.of_vectors(old.path, old.card)) as catalogue:
        return list(catalogue.all())


@contextlib.contextmanager
def _writing(output: Path) -> Iterator[None]:
    """Keep other runs from writing the output, and say what the disk refuses."""
    try:
        with locked(output):
            yield
    except (OSError, sqlite3.OperationalError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise VectorsError(f"{output} can't be written ({reason}): mend that, then the same command goes on") from error


def _refuse_unreadable(plan: Plan, img_dir: Path, strict: bool) -> None:
    for photo in plan.photos:
        if strict and photo.state == "unreadable":
            raise ImageReadError(source_name(img_dir / photo.name), photo.reason)


def _refuse_if_all_failed(unfinished: UnfinishedVectors, img_dir: Path, photos: int) -> None:
    if len(unfinished.catalogue.absent) == unfinished.shape[0]:
        first = next(photo for photo in unfinished.catalogue.all() if photo.state == "unreadable")
        unfinished.discard()
        raise VectorsError(
            f"none of the {photos:,} photos could be read, is --img_dir {img_dir} right? "
            f"({source_name(first.name)}: {first.reason})"
        )


def _card(runtime: Runtime, plan: Plan, img_dir: Path, output: Path, old: VectorFile | None) -> VectorsCard:
    card = VectorsCard(
        **asdict(runtime.encoder.card(output)),
        n=len(plan.photos) + len(plan.appended),
        img_dir=relative_to_card(img_dir, output),
        began_as=old.card.lineage if old else None,
    )
    keeps = any(photo.state == "present" for photo in plan.photos)
    _record_runtimes(card, runtime if plan.appended else None, old if keeps else None)
    return card


def _record_runtimes(card: VectorsCard, runtime: Runtime | None, old: VectorFile | None) -> None:
    """Write on the card what encodes its new rows, if there are any, and what has encoded those taken over."""
    ways = {f"{runtime.name} {runtime.precision}": runtime.agreement} if runtime else {}
    if old:
        ways |= dict.fromkeys((way for way in old.card.made_with if way not in ways), old.card.agreement)
    card.made_with = list(ways)
    card.agreement = min(ways.values(), default=1.0)


def earlier_rows(output: Path, *, overwrite: bool, update: bool) -> EarlierRows | None:
    """Return how the rows were encoded that `extract`, of which these are arguments, would go on from.

    Raises:
        VectorsError: the vectors that are there can't be used.
    """
    left = None if overwrite else left_by(output)
    if left and (made_with := left.made_of["made_with"]):
        return EarlierRows(precision_of(made_with), 1.0, unfinished=True)
    if not (update and output.exists()):
        return None
    card = open_vectors(output).card
    return EarlierRows(precision_of(card.made_with), card.agreement, unfinished=False)


def _made_of(card: VectorsCard, plan: Plan, batch_size: int, old: VectorFile | None) -> dict[str, Any]:
    """Return what a run depends on, as JSON gives it back."""
    names = hashlib.sha256(repr((plan.photos, plan.appended)).encode()).hexdigest()
    options = {"names": names, "batch_size": batch_size, "update": old is not None}
    options["updates"] = old.card.digest if old else None
    depends_on: dict[str, Any] = json.loads(json.dumps(msgspec.to_builtins(card) | options))
    return {key: depends_on[key] for key in depends_on if key not in RESULT_FIELDS}


def _finished_before(output: Path, card: VectorsCard) -> Extraction:
    """Return what an earlier run did that was cut off when its output was complete."""
    made = open_vectors(output).card
    if made.request != card.request:
        raise VectorsError(f"{output} exists: keep it, --update it, or make it again with --overwrite")
    return Extraction(0, made.n, made.failures, made.made_with, 0.0, {"decode": 0.0, "write": 0.0, "encode": 0.0})


def sample_photos(names: Sequence[str], img_dir: Path, encoder: Encoder, count: int) -> Pixels:
    """Return up to `count` photos (s, height, width, 3) uint8, spread over the list; unreadable ones are left out."""
    rows = np.unique(np.linspace(0, len(names) - 1, count).round().astype(int))
    with ThreadPoolExecutor(DEFAULT_WORKERS) as pool:
        chosen = [names[row] for row in rows.tolist()]
        photos = list(pool.map(partial(read_photo, encoder, img_dir, False), rows.tolist(), chosen))
    width, height = encoder.size
    readable = [photo.pixels for photo in photos if photo.pixels is not None]
    return np.array(readable, np.uint8).reshape(-1, height, width, 3)


def _open_old(output: Path, encoder: Encoder) -> VectorFile:
    opened = open_vectors(output)
    old = dataclasses.replace(opened, card=opened.described())
    if not _is_of(old.card, encoder.card(output)):
        raise VectorsError(f"{output} was made by another encoder: give the same one, or --overwrite")
    return old


def _is_of(old: VectorsCard, encoder: EncoderCard) -> bool:
    """Tell whether vectors were made by an encoder; the published ones know their weights by name only."""
    if old.weights_digest:
        return (old.weights_digest, old.resize) == (encoder.weights_digest, encoder.resize)
    known = ("encoder", "layer", "weights", "resize", "size", "d")
    return all(getattr(old, name) == getattr(encoder, name) for name in known)


def _encode_all(
    to_encode: list[tuple[int, str]],
    total: int,
    reader: PhotoReader,
    runtime: Runtime,
    unfinished: UnfinishedVectors,
    batch_size: int,
    progress: Progress,
) -> float:
    """Encode rows from `unfinished.done` on, in batches that don't depend on where an earlier run stopped.

    Args:
        to_encode: (row, name) of the photos to encode.
        total: how many photos there are with those that needn't be encoded.
        reader: reads them.
        runtime: encodes them.
        unfinished: takes their vectors.
        batch_size: how many are encoded at a time.
        progress: see `extract`.

    Returns:
        Seconds that were spent on writing.
    """
    members = [to_encode[start : start + batch_size] for start in range(unfinished.done, len(to_encode), batch_size)]
    batches = _as_pixels(reader.batches(members), runtime.encoder.size, min(batch_size, len(to_encode)))
    unsaved: list[Facts] = []
    done, written, saved_at = unfinished.done, 0.0, time.monotonic()
    try:
        for photos, vectors in runtime.encode_all(batches):
            began = time.monotonic()
            for photo, vector in zip(photos, vectors, strict=False):
                unfinished.write(photo.row, vector * (photo.state == "present"))
            unsaved += photos
            done += len(photos)
            if time.monotonic() - saved_at > CHECKPOINT_SECONDS:
                unfinished.checkpoint(done, unsaved)
                unsaved, saved_at = [], time.monotonic()
            written += time.monotonic() - began
            progress("encoding", total - len(to_encode) + done, total)
    finally:
        unfinished.checkpoint(done, unsaved)
    return written


def _as_pixels(
    batches: Iterable[list[Photo]], size: tuple[int, int], batch_size: int
) -> Iterator[tuple[list[Facts], Pixels]]:
    """Yield batches as what is known of their photos and their pixels, all of one size: black for no photo."""
    width, height = size
    for photos in batches:
        pixels = np.zeros((batch_size, height, width, 3), np.uint8)
        for place, photo in enumerate(photos):
            if photo.pixels is not None:
                pixels[place] = photo.pixels
        yield [photo.facts for photo in photos], pixels
