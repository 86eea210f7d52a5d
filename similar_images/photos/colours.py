"""What Pillow decodes, in the colours that are meant: 8-bit sRGB over white."""

import io
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from itertools import product
from typing import Any

import numpy as np
from PIL import Image, ImageCms

BLOCK_PIXELS = 1 << 22  # converted at a time, so that a large photo takes little memory besides its own
MAX_PROFILE_BYTES = 1 << 22
SRGB_TOLERANCE = 2  # levels of 255 by which a profile may change colours and still be taken for sRGB
RESIZABLE = ("RGB", "RGBA", "L", "LA", "CMYK", "LAB")
WHITES = {"F": (1.0, 255.0, 65535.0), "I": (255.0, 65535.0)}

Work = Callable[[Image.Image], Image.Image]


def to_8_bit(image: Image.Image, factor: int = 1) -> Image.Image:
    """Return a photo in one of the modes of 8 bits that can be resized.

    Args:
        image: in any mode, not modified.
        factor: a large photo is reduced by this factor, so that all that follows takes little.
    """
    if factor == 1 and _is_resizable(image):
        return image
    return _by_blocks(image, partial(_block_to_8_bit, white=_white(image)), factor)


def to_srgb(image: Image.Image) -> Image.Image:
    """Return a photo as RGB, its ICC profile applied and transparency over white.

    Args:
        image: of a mode that `to_8_bit` returns, with its profile in `info`; not modified.
    """
    mode = image.mode.removesuffix("A")
    transform = _transform(image.info.get("icc_profile"), mode)
    if image.mode == "RGB" and transform is None:
        return image
    return _by_blocks(image, partial(_block_to_srgb, mode=mode, transform=transform))


def _by_blocks(image: Image.Image, work: Work, factor: int = 1) -> Image.Image:
    """Return what `work` makes of an image; a large one is put together from blocks, each reduced by a factor."""
    if image.width * image.height <= BLOCK_PIXELS:
        return work(image)
    whole = None
    for box in _boxes(image, factor):
        block = work(image.crop(box)).reduce(factor)
        whole = whole or Image.new(block.mode, (-(-image.width // factor), -(-image.height // factor)))
        whole.paste(block, (box[0] // factor, box[1] // factor))
    assert whole is not None
    whole.info = _info_without_transparency(image)
    return whole


def _info_without_transparency(image: Image.Image) -> dict[str | tuple[int, int], Any]:
    return {key: value for key, value in image.info.items() if key != "transparency"}


def _boxes(image: Image.Image, factor: int = 1) -> Iterator[tuple[int, int, int, int]]:
    """Yield blocks as left, top, right and bottom edge: rows as wide as possible, their sizes multiples of a factor."""
    across = min(image.width, BLOCK_PIXELS // factor * factor)
    down = max(1, BLOCK_PIXELS // across // factor) * factor
    for top, left in product(range(0, image.height, down), range(0, image.width, across)):
        yield left, top, min(left + across, image.width), min(top + down, image.height)


def _is_resizable(image: Image.Image) -> bool:
    return image.mode in RESIZABLE and "transparency" not in image.info


def _block_to_8_bit(block: Image.Image, white: float) -> Image.Image:
    if block.mode.startswith(("I", "F")):
        return _scaled(block, white)
    if _is_resizable(block):
        return block
    if block.has_transparency_data:
        return block.convert("LA" if block.mode == "La" else "RGBA")
    return block.convert("L" if block.mode == "1" else "RGB")


def _white(image: Image.Image) -> float:
    """Return which value is white where there are more than 8 bits: where no mode says it, the values do."""
    if image.mode not in WHITES:
        return 65535
    blocks = (np.asarray(image.crop(box)) for box in _boxes(image))
    highest = max(float(np.max(block, initial=0, where=np.isfinite(block))) for block in blocks)
    return next((white for white in WHITES[image.mode] if highest <= white), highest)


def _scaled(block: Image.Image, white: float) -> Image.Image:
    values = np.asarray(block)
    fractions = np.nan_to_num(values.astype(np.float32) / np.float32(white)).clip(0, 1)
    grey = Image.fromarray((fractions * 255 + 0.5).astype(np.uint8))
    if "transparency" in block.info:
        opaque = Image.fromarray((values != block.info["transparency"]).astype(np.uint8) * 255)
        grey = Image.merge("LA", (grey, opaque))
    grey.info = _info_without_transparency(block)
    return grey


def _block_to_srgb(block: Image.Image, mode: str, transform: ImageCms.ImageCmsTransform | None) -> Image.Image:
    colours = block if block.mode == mode else block.convert(mode)
    rgb = transform.apply(colours) if transform else colours.convert("RGB")
    if block.mode == mode:
        return rgb
    over_white = Image.new("RGB", block.size, "white")
    over_white.paste(rgb, mask=block.getchannel("A"))
    return over_white


@lru_cache(16)
def _transform(profile: bytes | None, mode: str) -> ImageCms.ImageCmsTransform | None:
    """Return what brings colours to sRGB; None where they are sRGB, or the profile is missing, damaged or of others."""
    if not profile or len(profile) > MAX_PROFILE_BYTES:
        return None
    try:
        theirs, srgb = ImageCms.ImageCmsProfile(io.BytesIO(profile)), ImageCms.createProfile("sRGB")
        transform = ImageCms.ImageCmsTransform(theirs, ImageCms.ImageCmsProfile(srgb), mode, "RGB")
    except (ImageCms.PyCMSError, OSError, ValueError):
        return None
    return None if mode == "RGB" and _changes_nothing(transform) else transform


def _changes_nothing(transform: ImageCms.ImageCmsTransform) -> bool:
    levels = np.arange(0, 256, 15, dtype=np.uint8)
    colours = np.stack(np.meshgrid(levels, levels, levels), -1).reshape(len(levels), -1, 3)
    changed = np.asarray(transform.apply(Image.fromarray(colours)))
    return bool(np.abs(changed.astype(int) - colours).max() <= SRGB_TOLERANCE)
