"""What the compact encoder learns from: random crops of photos, and what a teacher sees in each."""

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

from similar_images._files import replacing
from similar_images.images import Pixels, Source, area_shares, read_image
from similar_images.openvino_runtime import OpenVINORuntime
from similar_images.pca import principal_directions
from similar_images.vectors import normalise

Floats = NDArray[np.float32]

BLOCK = 1024  # crops a file
SAMPLE_BLOCKS = 2  # that the principal components are learnt from
AREAS = (0.15, 1.0)  # of the photo
ASPECTS = (3 / 4, 4 / 3)  # of the crop's, against the photo's
COLOUR = 0.4  # brightness, contrast and saturation change by up to this part
ORDERS = 2**32 - 1  # keeps the seeds of orders apart from those of blocks
MIXED = 0.25  # this part of the crops is laid over another one
BATCH = 32


def prepare_crops(
    photos: Sequence[Path],
    teacher: OpenVINORuntime,
    folder: Path,
    *,
    side: int,
    places: int,
    d: int,
    count: int,
    seed: int,
    progress: Callable[[int], None] = lambda done: None,
) -> None:
    """Write crops and what the teacher sees in them, in files of 1,024; those that are there already are kept.

    The teacher's features are centred and reduced to their principal components, which finds better neighbours than the
    whole of them does, and than whitened ones (docs/quality.md).

    Args:
        photos: paths; one that can't be read is an error.
        teacher: runs the encoder that is to be matched.
        folder: where the files go.
        side: of the crops, in pixels; the teacher gets the same ones in its own size.
        places: how many each way the teacher's features are wanted for.
        d: length of the reduced features.
        count: how many crops, rounded up to whole files.
        seed: of everything that is random.
        progress: called with the number of crops that are done.

    Raises:
        EncoderError: see `OpenVINORuntime.regions`.
        ImageReadError: see `images.read_image`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    components = folder / "components.npz"
    large_side = teacher.encoder.size[0]
    if not components.exists():
        crops = np.concatenate([_crops(photos, side, large_side, block, seed)[1] for block in range(SAMPLE_BLOCKS)])
        vectors = _seen(teacher, crops, places).mean(axis=(1, 2))
        with replacing(components) as temporary, open(temporary, "wb") as file:
            np.savez(file, mean=vectors.mean(axis=0), directions=principal_directions(vectors, d, seed))
    with np.load(components) as arrays:
        mean, directions = arrays["mean"], arrays["directions"]
    for block in range(math.ceil(count / BLOCK)):
        if not (path := _block_file(folder, block)).exists():
            small, large = _crops(photos, side, large_side, block, seed)
            targets = (_seen(teacher, large, places) - mean) @ directions.T
            with replacing(path) as temporary, open(temporary, "wb") as file:
                np.savez(file, pixels=small, targets=targets.astype(np.float16))
        progress(BLOCK)


def _block_file(folder: Path, block: int) -> Path:
    return folder / f"crops-{block:04}.npz"


def read_crops(folder: Path, count: int) -> tuple[Pixels, NDArray[np.float16]]:
    """Return the crops (c, side, side, 3) uint8 and the teacher's reduced features (c, places, places, d) float16."""
    paths = [_block_file(folder, block) for block in range(math.ceil(count / BLOCK))]
    with np.load(paths[0]) as arrays:
        pixels = np.empty((len(paths) * BLOCK, *arrays["pixels"].shape[1:]), np.uint8)
        targets = np.empty((len(paths) * BLOCK, *arrays["targets"].shape[1:]), np.float16)
    for block, path in enumerate(paths):
        rows = slice(block * BLOCK, (block + 1) * BLOCK)
        with np.load(path) as arrays:
            pixels[rows], targets[rows] = arrays["pixels"], arrays["targets"]
    return pixels, targets


def _seen(teacher: OpenVINORuntime, crops: Pixels, places: int) -> Floats:
    """Return what the teacher sees at each place, (c, places, places, D); the mean over places is its vector.

    An encoder that does not average places, as VGG16, has the same to say of each.
    """
    batches = [crops[start : start + BATCH] for start in range(0, len(crops), BATCH)]
    if not _averages_places(teacher, batches[0][:2]):
        vectors = np.concatenate([teacher.encode(batch) for batch in batches])
        return np.broadcast_to(vectors[:, None, None], (len(crops), places, places, vectors.shape[1]))
    seen = np.concatenate([teacher.regions(batch) for batch in batches])
    shares = area_shares(seen.shape[1], places)
    averaged: Floats = np.einsum("ph,nhwc,qw->npqc", shares, seen, shares, optimize=True)
    return averaged


def _averages_places(teacher: OpenVINORuntime, crops: Pixels) -> bool:
    vectors, means = teacher.encode(crops), teacher.regions(crops).mean(axis=(1, 2))
    return vectors.shape == means.shape and np.allclose(normalise(vectors), normalise(means), atol=1e-3)


def _crops(photos: Sequence[Path], side: int, large_side: int, block: int, seed: int) -> tuple[Pixels, Pixels]:
    """Return a block of crops in the student's and in the teacher's size."""
    random = np.random.default_rng((seed, block))
    turns, places = np.divmod(np.arange(block * BLOCK, (block + 1) * BLOCK), len(photos))
    orders = {turn: np.random.default_rng((seed, ORDERS, turn)).permutation(len(photos)) for turn in set(turns)}
    chosen = [photos[orders[turn][place]] for turn, place in zip(turns, places, strict=True)]
    with ThreadPoolExecutor() as pool:
        made = pool.map(partial(_crop, sides=(side, large_side)), chosen, random.spawn(BLOCK))
        small, large = (np.stack(crops) for crops in zip(*made, strict=True))
    shares = np.where(random.random(BLOCK) < MIXED, random.uniform(0.3, 0.5, BLOCK), 0)[:, None, None, None]
    return _mixed(small, shares), _mixed(large, shares)


def _mixed(crops: Pixels, shares: Floats) -> Pixels:
    return np.rint((1 - shares) * crops + shares * np.roll(crops, 1, axis=0)).astype(np.uint8)


def _crop(photo: Source, random: np.random.Generator, sides: tuple[int, ...]) -> list[Pixels]:
    image = Image.fromarray(read_image(photo))
    for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        image = enhance(image).enhance(random.uniform(1 - COLOUR, 1 + COLOUR))
    area = random.uniform(*AREAS)
    aspect = math.exp(random.uniform(math.log(ASPECTS[0]), math.log(ASPECTS[1])))
    width, height = min(1, math.sqrt(area * aspect)), min(1, math.sqrt(area / aspect))
    left, top = random.uniform(0, 1 - width), random.uniform(0, 1 - height)
    box = (left * image.width, top * image.height, (left + width) * image.width, (top + height) * image.height)
    return [np.array(image.resize((side, side), Image.Resampling.BILINEAR, box)) for side in sides]
