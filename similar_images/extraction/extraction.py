"""Photos to vectors: reads, encodes and writes a whole file list, and goes on where an earlier run stopped."""

import contextlib
import hashlib
import json
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from msgspec.structs import asdict

from similar_images.cards import CardError, Failure, UnfinishedCard, VectorsCard, read_card, relative_to_card
from similar_images.encoding.encoders import Encoder
from similar_images.encoding.runtimes import EarlierRows, Runtime, precision_of
from similar_images.files import is_half_in_place, locked, part_of, put_in_place
from similar_images.photos.images import ImageReadError, Pixels, source_name
from similar_images.store.unfinished_vectors import UnfinishedVectors
from similar_images.store.vectors import VectorFile, VectorsError, open_vectors, read_names

CHECKPOINT_SECONDS = 2.0
DEFAULT_WORKERS = os.cpu_count() or 1

RESULTS = (
    "digest",
    "file_list_digest",
    "failures",
    "request",
    "agreement",
)  # what a card says that only a run finds out

Photo = Pixels | Failure  # or what is to be said of a photo that can't be read


@dataclass(frozen=True)
class Extraction:
    """What a run of `extract` did.

    Attributes:
        encoded: photos encoded by this run.
        kept: rows taken over from an earlier run or, when updating, from the existing file.
        failures: the photos that could not be read.
        made_with: runtimes and precisions of all rows, see `cards.VectorsCard`.
        seconds: how long this run took.
        shares: which part of that went into waiting for photos to be decoded, for the encoder, and for the disk: 0 to 1
            each; they work side by side, so that the one with the largest share sets the pace.
    """

    encoded: int
    kept: int
    failures: list[Failure]
    made_with: list[str]
    seconds: float
    shares: dict[str, float]


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
    progress: Callable[[int], None] = lambda photos: None,
) -> Extraction:
    """Write the vectors of all photos of a list, with card and names.

    The output appears whole or not at all. When the run is interrupted, the same call goes on where it stopped and
    ends with the same bytes.

    Args:
        names: the photos, relative to `img_dir`; name i becomes row i.
        img_dir: their folder.
        output: the .npy file to write, float32 (len(names), d).
        runtime: what to encode with.
        batch_size: photos encoded at a time; None for what suits the runtime.
        workers: threads that read photos; None for one a processor core.
        overwrite: whether an existing output may be replaced, and an unfinished run with other options thrown away.
        update: take over the rows of names that an existing output has, and encode the others; photos that could not
            be read before are tried again.
        strict: stop at the first photo that can't be read, instead of leaving its row zero.
        progress: called with the number of photos that have been dealt with since the last call.

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
        encoder, batch_size = runtime.encoder, batch_size or runtime.batch_size
        old = _open_old(output, encoder) if update and output.exists() else None
        old_rows = _readable_rows(old) if old else {}
        to_encode = [row for row, name in enumerate(names) if name not in old_rows]
        card = VectorsCard(**asdict(encoder.card(output)), n=len(names), img_dir=relative_to_card(img_dir, output))
        _say_what_encoded(card, runtime if to_encode else None, old if len(to_encode) < len(names) else None)
        made_of = _made_of(card, names, batch_size, old)
        card.request = hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()
        if was_cut_off and not (overwrite or update):
            return _finished_before(output, card)

        unfinished = UnfinishedVectors(output, (len(names), encoder.dimension), made_of)
        goes_on = unfinished.open(start_anew=overwrite)
        reading = _Reading(partial(_read, encoder, img_dir, names, strict), workers or DEFAULT_WORKERS)
        try:
            if old and not goes_on:
                _take_over(old, old_rows, names, unfinished)
            kept = len(names) - len(to_encode) + unfinished.done
            progress(kept)
            written = _encode_all(to_encode, reading, runtime, unfinished, batch_size, progress)
            _refuse_if_all_failed(unfinished, img_dir)
            unfinished.finish(card, names)
        finally:
            unfinished.close()
    seconds = time.monotonic() - began
    shares = {"decode": reading.waited / seconds, "write": written / seconds}
    shares["encode"] = 1 - sum(shares.values())
    return Extraction(len(names) - kept, kept, card.failures, card.made_with, seconds, shares)


@contextlib.contextmanager
def _writing(output: Path) -> Iterator[None]:
    """Keep other runs from writing the output, and say what the disk refuses."""
    try:
        with locked(output):
            yield
    except OSError as error:
        raise VectorsError(
            f"{output} can't be written ({error.strerror}): mend that, then the same command goes on"
        ) from error


def _refuse_if_all_failed(unfinished: UnfinishedVectors, img_dir: Path) -> None:
    n = unfinished.shape[0]
    if len(unfinished.failures) == n:
        unfinished.discard()
        first = unfinished.failures[0]
        raise VectorsError(
            f"none of the {n:,} photos could be read, is --img_dir {img_dir} right? "
            f"({source_name(first.name)}: {first.reason})"
        )


def _say_what_encoded(card: VectorsCard, runtime: Runtime | None, old: VectorFile | None) -> None:
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
    with contextlib.suppress(CardError):  # a damaged record is begun anew
        left = None if overwrite else read_card(part_of(output), UnfinishedCard)
        if left and (made_with := left.made_of.get("made_with")):
            return EarlierRows(precision_of(made_with), 1.0, unfinished=True)
    if not (update and output.exists()):
        return None
    card = open_vectors(output).card
    return EarlierRows(precision_of(card.made_with), card.agreement, unfinished=False)


def _made_of(card: VectorsCard, names: Sequence[str], batch_size: int, old: VectorFile | None) -> dict[str, Any]:
    """Return what a run depends on, as JSON gives it back."""
    options = {"names": _digest(names), "batch_size": batch_size, "updates": old.card.digest if old else None}
    depends_on: dict[str, Any] = json.loads(json.dumps(msgspec.to_builtins(card) | options))
    return {key: depends_on[key] for key in depends_on if key not in RESULTS}


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
        photos = list(pool.map(partial(_read, encoder, img_dir, names, False), rows.tolist()))
    width, height = encoder.size
    readable = [photo for photo in photos if not isinstance(photo, Failure)]
    return np.array(readable, np.uint8).reshape(-1, height, width, 3)


def _digest(names: Sequence[str]) -> str:
    return hashlib.sha256(b"\0".join(map(os.fsencode, names))).hexdigest()


def _open_old(output: Path, encoder: Encoder) -> VectorFile:
    old = open_vectors(output)
    if (old.card.weights_digest, old.card.resize) != (encoder.weights_digest, encoder.spec.resize):
        raise VectorsError(f"{output} was made by another encoder: give the same one, or --overwrite")
    return old


def _readable_rows(old: VectorFile) -> dict[str, int]:
    names = read_names(old.path, len(old.array), old.card.file_list_digest)
    failed = {failure.row for failure in old.card.failures}
    return {name: row for row, name in enumerate(names) if row not in failed}


def _take_over(old: VectorFile, old_rows: dict[str, int], names: Sequence[str], unfinished: UnfinishedVectors) -> None:
    for row, name in enumerate(names):
        if name in old_rows:
            unfinished.write(row, old.array[old_rows[name]])


def _read(encoder: Encoder, img_dir: Path, names: Sequence[str], strict: bool, row: int) -> Photo:
    try:
        return encoder.pixels(img_dir / names[row])
    except ImageReadError as error:
        if strict:
            raise
        return Failure(row=row, name=names[row], reason=error.reason)


class _Reading:
    """Reads photos in threads, batch by batch and one batch ahead.

    Attributes:
        waited: seconds that were spent on waiting for photos.
    """

    def __init__(self, read: Callable[[int], Photo], workers: int) -> None:
        self._read, self._workers = read, workers
        self.waited = 0.0

    def batches(self, batches: list[list[int]]) -> Iterator[tuple[list[int], list[Photo]]]:
        """Yield each batch of rows with its photos, while threads read the next one."""
        reading: deque[tuple[list[int], list[Future[Photo]]]] = deque()
        with ThreadPoolExecutor(self._workers) as pool:
            try:
                for batch in [*batches, []]:
                    reading.append((batch, [pool.submit(self._read, row) for row in batch]))
                    if len(reading) > 1:
                        rows, coming = reading.popleft()
                        began = time.monotonic()
                        photos = [photo.result() for photo in coming]
                        self.waited += time.monotonic() - began
                        yield rows, photos
            finally:
                pool.shutdown(cancel_futures=True)


def _encode_all(
    rows: list[int],
    reading: _Reading,
    runtime: Runtime,
    unfinished: UnfinishedVectors,
    batch_size: int,
    progress: Callable[[int], None],
) -> float:
    """Encode `rows` from `unfinished.done` on, in batches that don't depend on where an earlier run stopped.

    Returns:
        Seconds that were spent on writing.
    """
    members = [rows[start : start + batch_size] for start in range(unfinished.done, len(rows), batch_size)]
    batches = _as_pixels(reading.batches(members), runtime.encoder.size, min(batch_size, len(rows)))
    done, written, saved_at = unfinished.done, 0.0, time.monotonic()
    try:
        for (batch, failures), vectors in runtime.encode_all(batches):
            began = time.monotonic()
            unfinished.failures |= failures
            for row, vector in zip(batch, vectors, strict=False):
                unfinished.write(row, vector * (row not in failures))
            done += len(batch)
            if time.monotonic() - saved_at > CHECKPOINT_SECONDS:
                unfinished.checkpoint(done)
                saved_at = time.monotonic()
            written += time.monotonic() - began
            progress(len(batch))
    finally:
        unfinished.checkpoint(done)
    return written


def _as_pixels(
    batches: Iterable[tuple[list[int], list[Photo]]], size: tuple[int, int], batch_size: int
) -> Iterator[tuple[tuple[list[int], dict[int, Failure]], Pixels]]:
    """Yield batches as ((rows, failures by row), pixels), all of one size: black where there is no photo."""
    width, height = size
    for rows, photos in batches:
        pixels = np.zeros((batch_size, height, width, 3), np.uint8)
        failures = {photo.row: photo for photo in photos if isinstance(photo, Failure)}
        for place, photo in enumerate(photos):
            if not isinstance(photo, Failure):
                pixels[place] = photo
        yield (rows, failures), pixels
