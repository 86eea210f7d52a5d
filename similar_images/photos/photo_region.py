"""Where the photo is inside a picture: a screenshot, a letterboxed or a framed photo."""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from similar_images.photos.images import Box, Pixels

WORKING_SIDE = 384  # pixels, of the longer side, at most
NOISE_LEVELS = 6  # between neighbouring pixels; more is a step
MAX_NOISE_FRACTION = 0.015  # of steps along an empty line
MIN_EDGE_FRACTION = 0.5  # of a line's length, along which it differs from the next one where an edge is
MIN_EDGE_LENGTH = 24  # pixels; longer than any in text
MAX_EDGE_DISTANCE = 6  # pixels from the end of what isn't empty to the edge; compression blurs it
MARGIN = 3  # pixels at the ends of lines that may still be of the edge there
MIN_AREA, MAX_AREA = 0.05, 0.92  # of a photo, as fractions of the picture
MAX_ASPECT_RATIO = 4
MIN_SOLID_FRACTION = 0.6  # of its pieces' area, that the largest has where a block is no text
AMBIGUOUS_FRACTION = 0.8  # of the content of the first photo, above which the second may be meant as well

Levels = NDArray[np.int16]
Flags = NDArray[np.bool_]
Span = tuple[int, int]
Block = tuple[Span, Span]  # rows, columns


def photo_region(pixels: Pixels) -> Box | None:
    """Return where the photo is inside a picture, by recursive X-Y cuts along empty lines and straight edges.

    Text falls apart into lines and words. A photo stays in one piece, or is a piece between straight edges.

    Args:
        pixels: (h, w, 3) uint8 RGB, not modified.

    Returns:
        Left, top, right and bottom edge as fractions of the picture's width and height; None where the picture is the
        photo itself, or has none, or several alike.

    Source: Nagy, Seth and Viswanathan, "A prototype document image analysis system for technical journals", 1992.
    """
    if not pixels.size:
        return None
    height, width = pixels.shape[:2]
    factor = -(-max(height, width) // WORKING_SIDE)
    small = np.asarray(Image.fromarray(pixels).reduce(factor), np.int16)
    block = _Page(np.ascontiguousarray(small.transpose(2, 0, 1))).photo()
    if block is None:
        return None
    (top, bottom), (left, right) = block
    top, bottom = (_exact(pixels[:, left * factor : right * factor], at, factor) for at in (top, bottom))
    left, right = (_exact(pixels[top:bottom].swapaxes(0, 1), at, factor) for at in (left, right))
    return left / width, top / height, right / width, bottom / height


class _Page:
    """A picture (3, h, w) that is cut into blocks."""

    def __init__(self, channels: Levels) -> None:
        self._green = channels[1]
        self._rows, self._columns = _Lines(channels), _Lines(channels.swapaxes(1, 2))
        self._whole: Block = (0, self._green.shape[0]), (0, self._green.shape[1])

    def photo(self) -> Block | None:
        """Return the photo's block, None where there is none, or none that stands out."""
        found = sorted(self._photos(self._whole), key=self._content, reverse=True)
        if not found or _area(found[0]) > MAX_AREA * _area(self._whole):
            return None
        alike = len(found) > 1 and self._content(found[1]) > AMBIGUOUS_FRACTION * self._content(found[0])
        return None if alike else found[0]

    def _photos(self, block: Block) -> list[Block]:
        """Return the innermost blocks that may be photos."""
        if _area(block) < MIN_AREA * _area(self._whole):
            return []
        found = [photo for piece in self._pieces(block) if piece != block for photo in self._photos(piece)]
        if not found and self._is_solid(block) and (photo := self._framed(block)):
            return [photo]
        return found

    def _pieces(self, block: Block) -> list[Block]:
        """Cut a block into rows, else into columns; itself where it can't be cut, [] where it is empty."""
        rows, columns = block
        spans = self._rows.spans(rows, columns)
        if spans != [rows]:
            return [(span, columns) for span in spans]
        return [(rows, span) for span in self._columns.spans(columns, rows)]

    def _is_solid(self, block: Block) -> bool:
        """Tell whether one piece of a block is most of it, as is no line of a text."""
        height, width = _sides(block)
        areas = [_area(part) for piece in self._pieces(block) for part in self._pieces(piece)]
        if max(height, width) > MAX_ASPECT_RATIO * min(height, width):
            return False
        return max(areas, default=0) > MIN_SOLID_FRACTION * sum(areas)

    def _framed(self, block: Block) -> Block | None:
        """Return a block with its sides moved to the edges nearby, None unless it has them and is framed by more."""
        rows = self._rows.framed(*block)
        columns = self._columns.framed(block[1], rows) if rows else None
        if not rows or not columns:
            return None
        inner = [end not in whole for span, whole in zip((rows, columns), self._whole, strict=True) for end in span]
        return (rows, columns) if all(inner[:2]) or all(inner[2:]) or sum(inner) > 2 else None

    def _content(self, block: Block) -> int:
        """Return how many pixels of a block have other than its two most common levels, which are a text's."""
        levels = self._green[slice(*block[0]), slice(*block[1])] // 8
        return int(np.sort(np.bincount(levels.ravel()))[:-2].sum())


class _Lines:
    """The lines (3, n, length) of a picture: its rows, or its columns."""

    def __init__(self, channels: Levels) -> None:
        self._channels = channels
        self._along, self._between = _differ(np.diff(channels, axis=2)), _differ(np.diff(channels, axis=1))
        self._crossing = _straight(self._along)

    def spans(self, span: Span, across: Span) -> list[Span]:
        """Cut a span of lines, seen only within `across`, at edges beside empty lines, or else at empty lines."""
        if min(span[1] - span[0], across[1] - across[0]) <= 2 * MARGIN + 2:
            return [span]
        lines, part = slice(*span), slice(across[0] + MARGIN, across[1] - 1 - MARGIN)
        empty = self._along[lines, part].mean(axis=1) <= MAX_NOISE_FRACTION
        empty &= ~self._crossing[lines, part].any(axis=1)
        edges = self._between[span[0] : span[1] - 1, slice(*across)].mean(axis=1) >= MIN_EDGE_FRACTION
        cuts = np.flatnonzero(edges & (np.convolve(empty, np.ones(5), "same")[:-1] > 0)) + 1
        if len(cuts):
            pieces = [piece for piece in pairwise([0, *cuts.tolist(), len(empty)]) if not empty[slice(*piece)].all()]
        else:
            pairs = np.concatenate([[False], empty[1:] & empty[:-1], [False]])
            pieces = _runs(~(pairs[1:] | pairs[:-1]))  # a lone empty line is none
        return [(span[0] + start, span[0] + end) for start, end in pieces]

    def framed(self, span: Span, across: Span) -> Span | None:
        """Return a span of lines with its ends moved to edges nearby; None where one has none."""
        first, last = (self._edge(at, self._channels[:, :, slice(*across)]) for at in span)
        return None if first is None or last is None or first >= last else (first, last)

    def _edge(self, at: int, lines: Levels) -> int | None:
        """Return the line before which the clearest edge near `at` is; the picture's own border is one."""
        n = lines.shape[1]
        if at < MARGIN or at > n - MARGIN:
            return 0 if at < MARGIN else n
        first = max(at - MAX_EDGE_DISTANCE, 1) - 1
        near = lines[:, first : at + MAX_EDGE_DISTANCE + 2]
        shares = _differ(near[:, 2:] - near[:, :-2]).mean(axis=1)
        shares = (shares[1:] + shares[:-1]) / 2
        return first + 2 + int(np.argmax(shares)) if shares.max(initial=0) >= MIN_EDGE_FRACTION else None


def _differ(differences: Levels) -> Flags:
    """Tell which of the differences (3, ...) are more than noise in any channel."""
    return np.asarray(np.abs(differences).max(axis=0) > NOISE_LEVELS)


def _straight(steps: Flags) -> Flags:
    """Tell which of the steps (n, length) are part of a straight edge across the lines, with few interruptions."""
    if len(steps) < MIN_EDGE_LENGTH:
        return np.zeros_like(steps)
    sums = np.cumsum(np.pad(steps, ((1, 0), (0, 0))), axis=0, dtype=np.int32)
    begins = sums[MIN_EDGE_LENGTH:] - sums[:-MIN_EDGE_LENGTH] >= 0.85 * MIN_EDGE_LENGTH
    begun = np.cumsum(np.pad(begins, ((MIN_EDGE_LENGTH, MIN_EDGE_LENGTH - 1), (0, 0))), axis=0, dtype=np.int32)
    return steps & (begun[MIN_EDGE_LENGTH:] > begun[:-MIN_EDGE_LENGTH])


def _runs(flags: Flags) -> list[Span]:
    """Return where runs of True begin and end."""
    changes = np.flatnonzero(np.diff(flags, prepend=False, append=False)).tolist()
    return list(zip(changes[::2], changes[1::2], strict=True))


def _sides(block: Block) -> Span:
    (top, bottom), (left, right) = block
    return bottom - top, right - left


def _area(block: Block) -> int:
    height, width = _sides(block)
    return height * width


def _exact(lines: Pixels, at: int, factor: int) -> int:
    """Return the line before which the edge is that is at `at` in lines `factor` times smaller."""
    if not 0 < at * factor < len(lines):
        return min(at * factor, len(lines))
    first = max((at - 2) * factor, 0)
    near = lines[first : (at + 2) * factor + 1].astype(np.int16)
    return first + 1 + int(np.argmax(np.minimum(np.abs(np.diff(near, axis=0)), 4 * NOISE_LEVELS).sum(axis=(1, 2))))
