"""Photos to vectors: reads, encodes and writes a whole file list, and goes on where an earlier run stopped."""

import hashlib
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from similar_images._files import Card, relative_to_card
from similar_images.encoders import Encoder
from similar_images.images import ImageReadError, Pixels, source_name
from similar_images.runtimes import TensorFlowRuntime
from similar_images.vectors import UnfinishedVectors, VectorFile, VectorsError, open_vectors, read_names

CHECKPOINT_SECONDS = 2.0
READ_THREADS = min(8, (os.cpu_count() or 1) + 1)

Photo = Pixels | Card  # or what is to be said of a photo that can't be read


@dataclass(frozen=True)
class Extraction:
    """What a run of `extract` did.

    Attributes:
        encoded: photos encoded by this run.
        kept: rows taken over from an earlier run or, when updating, from the existing file.
        failures: row, name and reason of every photo that could not be read.
        seconds: how long this run took.
    """

    encoded: int
    kept: int
    failures: list[Card]
    seconds: float


def check_request(names: Sequence[str], img_dir: Path, output: Path, *, overwrite: bool, update: bool) -> None:
    """Find what would stop `extract`, of which these are arguments, before an encoder is loaded for it.

    Raises:
        VectorsError: there is nothing to encode, the output exists, or its folder can't be written to.
    """
    if not names:
        raise VectorsError(f"there are no photos to encode: the list is empty, or {img_dir} holds none")
    if output.exists() and not (overwrite or update):
        raise VectorsError(f"{output} exists: keep it, --update it, or make it again with --overwrite")
    if not os.access(output.parent, os.W_OK):
        raise VectorsError(f"{output} can't be written: {output.parent} is no folder that you may write to")


def extract(
    names: Sequence[str],
    img_dir: Path,
    output: Path,
    encoder: Encoder,
    *,
    batch_size: int = 32,
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
        output: the .npy file to write, float32 (len(names), encoder.dimension).
        encoder: what to encode with.
        batch_size: photos encoded at a time.
        overwrite: whether an existing output may be replaced, and an unfinished run with other options thrown away.
        update: take over the rows of names that an existing output has, and encode the others; photos that could not
            be read before are tried again.
        strict: stop at the first photo that can't be read, instead of leaving its row zero.
        progress: called with the number of photos that have been dealt with since the last call.

    Raises:
        VectorsError: the output exists, was begun with other options, doesn't fit for an update, or finds no room.
        ImageReadError: a photo can't be read, and `strict`.
    """
    began = time.monotonic()
    check_request(names, img_dir, output, overwrite=overwrite, update=update)
    old = _open_old(output, encoder) if update and output.exists() else None
    old_rows = _readable_rows(old) if old else {}
    to_encode = [row for row, name in enumerate(names) if name not in old_rows]
    card = encoder.card(output) | {"img_dir": relative_to_card(img_dir, output)}
    made_of = card | {"names": _digest(names), "batch_size": batch_size, "updates": old.card["digest"] if old else None}

    unfinished = UnfinishedVectors(output, (len(names), encoder.dimension), made_of)
    goes_on = unfinished.open(start_anew=overwrite)
    try:
        if old and not goes_on:
            _take_over(old, old_rows, names, unfinished)
        kept = len(names) - len(to_encode) + unfinished.done
        progress(kept)
        read = partial(_read, encoder, img_dir, names, strict)
        _encode_all(to_encode, read, TensorFlowRuntime(encoder), unfinished, batch_size, progress)
        if len(unfinished.failures) == len(names):
            unfinished.discard()
            first = unfinished.failures[0]
            raise VectorsError(
                f"none of the {len(names):,} photos could be read, is --img_dir {img_dir} right? "
                f"({source_name(first['name'])}: {first['reason']})"
            )
        unfinished.finish(card, names)
    finally:
        unfinished.close()
    return Extraction(len(names) - kept, kept, list(unfinished.failures.values()), time.monotonic() - began)


def _digest(names: Sequence[str]) -> str:
    return hashlib.sha256(b"\0".join(map(os.fsencode, names))).hexdigest()


def _open_old(output: Path, encoder: Encoder) -> VectorFile:
    old = open_vectors(output)
    if old.card.get("weights_digest") != encoder.weights_digest or old.card["resize"] != encoder.spec.resize:
        raise VectorsError(f"{output} was made by another encoder: give the same one, or --overwrite")
    return old


def _readable_rows(old: VectorFile) -> dict[str, int]:
    names = read_names(old.path, len(old.array), old.card["file_list_digest"])
    failed = {failure["row"] for failure in old.card["failures"]}
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
        return {"row": row, "name": names[row], "reason": error.reason}


def _encode_all(
    rows: list[int],
    read: Callable[[int], Photo],
    runtime: TensorFlowRuntime,
    unfinished: UnfinishedVectors,
    batch_size: int,
    progress: Callable[[int], None],
) -> None:
    """Encode `rows` from `unfinished.done` on, in batches that don't depend on where an earlier run stopped."""
    starts = range(unfinished.done, len(rows), batch_size)
    done, saved_at = unfinished.done, time.monotonic()
    try:
        for members, photos in _read_ahead([rows[start : start + batch_size] for start in starts], read):
            unfinished.failures |= {photo["row"]: photo for photo in photos if isinstance(photo, dict)}
            for row, vector in zip(members, _encode(photos, runtime, min(batch_size, len(rows))), strict=False):
                unfinished.write(row, vector)
            done += len(members)
            progress(len(members))
            if time.monotonic() - saved_at > CHECKPOINT_SECONDS:
                unfinished.checkpoint(done)
                saved_at = time.monotonic()
    finally:
        unfinished.checkpoint(done)


def _encode(photos: list[Photo], runtime: TensorFlowRuntime, batch_size: int) -> NDArray[np.float32]:
    """Return (batch_size, d) vectors: of the photos in order, zero for those that could not be read, then padding."""
    batch = np.zeros((batch_size, *runtime.shape), np.uint8)
    readable = np.zeros(batch_size, bool)
    for place, photo in enumerate(photos):
        if not isinstance(photo, dict):
            batch[place], readable[place] = photo, True
    if not readable.any():
        return np.zeros((batch_size, runtime.dimension), np.float32)
    return np.where(readable[:, None], runtime.encode(batch), np.float32(0))


def _read_ahead(batches: list[list[int]], read: Callable[[int], Photo]) -> Iterator[tuple[list[int], list[Photo]]]:
    """Yield each batch of rows with its photos, while threads read the next one."""
    reading: deque[tuple[list[int], list[Future[Photo]]]] = deque()
    with ThreadPoolExecutor(READ_THREADS) as pool:
        try:
            for batch in [*batches, []]:
                reading.append((batch, [pool.submit(read, row) for row in batch]))
                if len(reading) > 1:
                    rows, photos = reading.popleft()
                    yield rows, [photo.result() for photo in photos]
        finally:
            pool.shutdown(cancel_futures=True)
