"""What the compact encoder learns from: random crops of photos, and what a teacher sees in each."""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from similar_images._files import replacing
from similar_images.images import Pixels, Source, area_shares, read_image
from similar_images.openvino_runtime import OpenVINORuntime
from similar_images.pca import principal_directions
from similar_images.vectors import normalise

Floats = NDArray[np.float32]

BLOCK = 1024  # crops a file
SAMPLE_BLOCKS = 2  # that the principal components are learnt from
SAMPLE_PLACES = 8  # of each of their crops, for levels that are not averaged
AREAS = (0.15, 1.0)  # of the photo
ASPECTS = (3 / 4, 4 / 3)  # of the crop's, against the photo's
COLOUR = 0.4  # brightness, contrast and saturation change by up to this part
MIXED = 0.25  # this part of the crops is laid over another one
ORDERS = 2**32 - 1  # keeps the seeds of orders apart from those of blocks
BATCH = 32


class Level(NamedTuple):
    """A layer of the teacher that is learnt from.

    Attributes:
        places: how many each way its features are wanted for.
        d: length of its reduced features.
    """

    places: int
    d: int


def prepare_crops(
    photos: Sequence[Path],
    teacher: OpenVINORuntime,
    folder: Path,
    *,
    side: int,
    levels: Sequence[Level],
    count: int,
    seed: int,
    progress: Callable[[int], None] = lambda done: None,
) -> None:
    """Write crops and what the teacher sees in them, in files of 1,024; those that are there already are kept.

    The teacher's features are centred and reduced to their principal components. Those of its last layer find better
    neighbours than the whole of them does, and than whitened ones (docs/quality.md).

    Args:
        photos: paths; one that can't be read is an error.
        teacher: runs the encoder that is to be matched.
        folder: where the files go.
        side: of the crops, in pixels; the teacher gets the same ones in its own size.
        levels: what is wanted of the teacher: first of its last layer, whose mean over places is its vector, then of
            the last layers that have so many places.
        count: how many crops, rounded up to whole files.
        seed: of everything that is random.
        progress: called with the number of crops that are done.

    Raises:
        EncoderError: see `OpenVINORuntime.feature_maps`.
        ImageReadError: see `images.read_image`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    components = folder / "components.npz"
    crops_of = partial(_crops, photos, side, teacher.encoder.size[0], seed=seed)
    if not components.exists():
        crops = np.concatenate([crops_of(block)[1] for block in range(SAMPLE_BLOCKS)])
        with replacing(components) as temporary, open(temporary, "wb") as file:
            np.savez(file, *itertools.chain.from_iterable(_components(teacher, crops, levels, seed)))
    with np.load(components) as arrays:
        values = list(arrays.values())
    reductions = list(zip(values[::2], values[1::2], strict=True))
    for block in range(math.ceil(count / BLOCK)):
        if not (path := _block_file(folder, block)).exists():
            small, large = crops_of(block)
            targets = _targets(teacher, large, levels, reductions)
            with replacing(path) as temporary, open(temporary, "wb") as file:
                np.savez(file, small, *targets)
        progress(BLOCK)


def _block_file(folder: Path, block: int) -> Path:
    return folder / f"crops-{block:04}.npz"


def read_crops(folder: Path, count: int) -> tuple[Pixels, list[NDArray[np.float16]]]:
    """Return the crops (c, side, side, 3) uint8 and, for each level, the reduced features (c, places, places, d)."""
    paths = [_block_file(folder, block) for block in range(math.ceil(count / BLOCK))]
    with np.load(paths[0]) as arrays:
        whole = {name: np.empty((len(paths) * BLOCK, *arrays[name].shape[1:]), arrays[name].dtype) for name in arrays}
    for block, path in enumerate(paths):
        with np.load(path) as arrays:
            for name, array in whole.items():
                array[block * BLOCK : (block + 1) * BLOCK] = arrays[name]
    pixels, *targets = whole.values()
    return pixels, targets


def _components(
    teacher: OpenVINORuntime, crops: Pixels, levels: Sequence[Level], seed: int
) -> Iterator[tuple[Floats, Floats]]:
    """Yield the mean and the principal directions of each level: of vectors in the first, of places in the others."""
    random = np.random.default_rng(seed)
    samples: list[list[Floats]] = [[] for _ in levels]
    for last, *earlier in _seen(teacher, crops, levels):
        samples[0].append(last.mean(axis=(1, 2)))
        for sample, maps in zip(samples[1:], earlier, strict=True):
            down, across = random.integers(maps.shape[1], size=(2, SAMPLE_PLACES))
            sample.append(maps[:, down, across].reshape(-1, maps.shape[3]))
    for level, sample in zip(levels, samples, strict=True):
        vectors = np.concatenate(sample)
        yield vectors.mean(axis=0), principal_directions(vectors, level.d, seed)


def _targets(
    teacher: OpenVINORuntime,
    crops: Pixels,
    levels: Sequence[Level],
    reductions: Sequence[tuple[Floats, Floats]],
) -> list[NDArray[np.float16]]:
    """Return the centred and reduced features of each level, (c, places, places, d)."""
    batches = [
        [_reduced(maps, *reduction) for maps, reduction in zip(seen, reductions, strict=True)]
        for seen in _seen(teacher, crops, levels)
    ]
    return [np.concatenate(level) for level in zip(*batches, strict=True)]


def _reduced(maps: Floats, mean: Floats, directions: Floats) -> NDArray[np.float16]:
    reduced = (maps.reshape(-1, len(mean)) - mean) @ directions.T  # one product of matrices, not one for each row
    return reduced.reshape(*maps.shape[:3], -1).astype(np.float16)


def _seen(teacher: OpenVINORuntime, crops: Pixels, levels: Sequence[Level]) -> Iterator[list[Floats]]:
    """Yield what the teacher sees at each place of each level, (b, places, places, D), batch by batch.

    The mean over the places of the first level is the teacher's vector. An encoder that does not average places, as
    VGG16, has the same to say of each.
    """
    averages = _averages_places(teacher, crops[:2])
    first, *rest = (places for places, _ in levels)
    for start in range(0, len(crops), BATCH):
        batch = crops[start : start + BATCH]
        last, *earlier = teacher.feature_maps(batch, (2, *rest))
        if not averages:
            last = teacher.encode(batch)[:, None, None].repeat(first, axis=1).repeat(first, axis=2)
        yield [_averaged(last, first), *(_averaged(maps, places) for maps, places in zip(earlier, rest, strict=True))]


def _averages_places(teacher: OpenVINORuntime, crops: Pixels) -> bool:
    vectors, means = teacher.encode(crops), teacher.feature_maps(crops)[0].mean(axis=(1, 2))
    return vectors.shape == means.shape and np.allclose(normalise(vectors), normalise(means), atol=1e-3)


def _averaged(maps: Floats, places: int) -> Floats:
    """Return feature maps with so many places each way, by the area that each covers."""
    if maps.shape[1] == places:
        return maps
    shares = area_shares(maps.shape[1], places)
    averaged: Floats = np.einsum("ph,nhwc,qw->npqc", shares, maps, shares, optimize=True)
    return averaged


def _crops(photos: Sequence[Path], side: int, large_side: int, block: int, seed: int) -> tuple[Pixels, Pixels]:
    """Return a block of crops in the student's and in the teacher's size."""
    random = np.random.default_rng((seed, block))
    turns, positions = np.divmod(np.arange(block * BLOCK, (block + 1) * BLOCK), len(photos))
    orders = {turn: np.random.default_rng((seed, ORDERS, turn)).permutation(len(photos)) for turn in set(turns)}
    chosen = [photos[orders[turn][position]] for turn, position in zip(turns, positions, strict=True)]
    with ThreadPoolExecutor() as pool:
        made = pool.map(partial(_crop, sides=(side, large_side)), chosen, random.spawn(BLOCK))
        small, large = (np.stack(crops) for crops in zip(*made, strict=True))
    shares = np.where(random.random(BLOCK) < MIXED, random.uniform(0.3, 0.5, BLOCK), 0)[:, None, None, None]
    return _mixed(small, shares), _mixed(large, shares)


def _mixed(crops: Pixels, shares: Floats) -> Pixels:
    return np.rint((1 - shares) * crops + shares * np.roll(crops, 1, axis=0)).astype(np.uint8)


def _crop(photo: Source, random: np.random.Generator, sides: tuple[int, ...]) -> list[Pixels]:
    """Return a part of a photo in changed colours, in each size."""
    image = Image.fromarray(read_image(photo))
    area = random.uniform(*AREAS)
    aspect = math.exp(random.uniform(math.log(ASPECTS[0]), math.log(ASPECTS[1])))
    width, height = min(1, math.sqrt(area * aspect)), min(1, math.sqrt(area / aspect))
    left, top = random.uniform(0, 1 - width), random.uniform(0, 1 - height)
    box = (left * image.width, top * image.height, (left + width) * image.width, (top + height) * image.height)
    colours = _colour_change(random)
    crops = [image.resize((side, side), Image.Resampling.BILINEAR, box).convert("RGB", colours) for side in sides]
    return [np.array(crop) for crop in crops]


def _colour_change(random: np.random.Generator) -> tuple[float, ...]:
    """Return the matrix (3, 4), row by row, of a random change of brightness, contrast and saturation."""
    brightness, contrast, saturation = random.uniform(1 - COLOUR, 1 + COLOUR, 3)
    grey = np.full((3, 3), 1 / 3)
    colours = brightness * contrast * (grey + saturation * (np.eye(3) - grey))
    offset = np.full((3, 1), 127.5 * brightness * (1 - contrast))
    return tuple(np.hstack([colours, offset]).ravel().tolist())
