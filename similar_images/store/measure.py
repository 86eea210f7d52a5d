"""The measure of similarity, defined once: the centred cosine, with a dial from "the same photo" to "the same kind".

A photo's unit is its vector L2-normalised, less the mean of the gallery's L2-normalised vectors, and L2-normalised
again. The similarity of two photos is the cosine of their units, which is about 0 for photos that have nothing in
common; their distance is the squared L2 distance between the units, 2 - 2 * similarity. With a focus p the units are
weighed first: each of their leading principal components by the p-th power of its scale, its standard deviation in
proportion to that of the directions behind them.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from similar_images.store.vectors import is_extreme, normalise

Floats = NDArray[np.float32]

FOCUS = 0.1
NEIGHBOURS = 3  # first hits that the panel asks by as well, see `query_expansion`; 5 find no more, see docs/quality.md
FOCUS_COMPONENTS = 128  # leading components that a focus weighs
PRECISE_BELOW = 0.01  # squared; as 2 - 2 cos, which is quicker, smaller distances have few correct digits
FEWEST_TO_CENTRE = 20  # the mean of fewer says too little, see docs/quality.md
MIN_VARIANCE = 1e-6  # squared, around the mean: all photos are the same
NO_SIMILARITY = 2.0  # the distance of what has nothing in common
MIN_NORM = 1e-5  # from the mean: that near to it, what is left is rounding


@dataclass(frozen=True, eq=False)
class Measure:
    """How similar two photos of a gallery are.

    Attributes:
        mean: (d,) float32, of the gallery's L2-normalised vectors; None for the raw cosine.
        components: (c, d) float32, orthonormal principal directions of the gallery's units; none for the raw cosine.
        scales: (w,) float32, w <= c: of the first w of these.
    """

    mean: Floats | None
    components: Floats
    scales: Floats

    @classmethod
    def raw(cls, d: int) -> "Measure":
        """Return the raw cosine of vectors of dimension d."""
        return cls(None, np.zeros((0, d), np.float32), np.zeros(0, np.float32))

    @classmethod
    def about(cls, mean: Floats, n: int) -> "Measure":
        """Return the centred cosine about the mean (d,) of n L2-normalised vectors; raw for few, or for equal ones."""
        spread = 1 - np.vecdot(mean, mean, dtype=np.float64)
        raw = cls.raw(len(mean))
        return raw if n < FEWEST_TO_CENTRE or spread < MIN_VARIANCE else replace(raw, mean=mean)

    @property
    def can_focus(self) -> bool:
        """Whether there are components to weigh."""
        return len(self.scales) > 0

    def units(self, vectors: NDArray[np.floating], focus: float = 0) -> Floats:
        """Return the units (n, d) float32 of vectors (n, d) of any scale, weighed by a focus and L2-normalised again.

        What has no direction becomes zeros.
        """
        units = normalise(vectors)
        if self.mean is None:
            return units
        has_vector = units.any(axis=1)
        units -= self.mean
        units[~has_vector | (np.vecdot(units, units) < MIN_NORM**2)] = 0
        units = normalise(units)
        if not focus:
            return units
        leading = self.components[: len(self.scales)]
        return normalise(units + ((self.weights(focus) - 1) * (units @ leading.T)) @ leading)

    def vectors_of(self, units: Floats) -> Floats:
        """Return the L2-normalised vectors (n, d) float32 that have the directions (n, d) as their units."""
        units = normalise(units)
        if self.mean is None:
            return units
        along = units @ self.mean
        lengths = np.sqrt(along**2 + 1 - self.mean @ self.mean) - along
        return np.where(units.any(axis=1, keepdims=True), self.mean + lengths[:, None] * units, 0)

    def weights(self, focus: float) -> Floats:
        """Return what a focus weighs the leading components (w,) by."""
        return self.scales ** np.float32(focus)

    def units_of_components(self, components: Floats) -> Floats:
        """Return the units (n, d) that components (n, c) alone tell of."""
        return normalise(components) @ self.components


class Comparison:
    """A vector made ready to be compared with many.

    Attributes:
        unit: (d,) float32, its unit.
        components: (c,) float32, those of the unit; the unit itself where the measure has none.
        focus: what units are weighed by.
        length: of the weighed unit.
    """

    def __init__(self, measure: Measure, vector: Floats, focus: float = 0) -> None:
        """Take a vector (d,) of any scale."""
        self.measure = measure
        self.focus = focus if measure.can_focus else 0
        self.unit = measure.units(vector[None])[0]
        self.components = np.vecdot(measure.components, self.unit) if len(measure.components) else self.unit
        self._weights = measure.weights(self.focus)
        self._extra = self._weights**2 - 1
        self._along = self._extra * self.components[: len(self._extra)]
        self.length = float(np.sqrt(1 + np.vecdot(self._along, self.components[: len(self._extra)])))
        self._shift = 0.0 if measure.mean is None else float(np.vecdot(measure.mean, self.unit))
        self._offset = 0.0 if measure.mean is None else float(np.vecdot(measure.mean, measure.mean))

    @property
    def towards(self) -> Floats:
        """(d,) float32; the dot product of another unit with it is the cosine times the length of that, weighed."""
        leading = self.measure.components[: len(self._along)]
        return np.asarray((self.unit + self._along @ leading) / np.float32(self.length), np.float32)

    def distances(self, vectors: Floats, components: Callable[[], Floats]) -> Floats:
        """Return the squared L2 distances (n,) to vectors, equal ones equally far, and 0 from themselves.

        Args:
            vectors: (n, d) float32 of any scale; it is infinitely far to zeros.
            components: gives those (n, c) of their units; asked only where a focus weighs them.
        """
        mean = self.measure.mean
        with np.errstate(all="ignore"):
            squares = np.vecdot(vectors, vectors)
            lengths = np.sqrt(squares)
            cosines = np.vecdot(vectors, self.unit) / lengths
            centred = np.float32(1)
            if mean is not None:
                centred = 1 - 2 * np.vecdot(vectors, mean) / lengths + self._offset
                cosines = (cosines - self._shift) / np.sqrt(centred)
            if self.focus:
                leading = components()[:, : len(self._extra)]
                cosines += np.vecdot(leading, self._along)
                cosines /= self.length * np.sqrt(1 + np.vecdot(leading**2, self._extra))
            distances: Floats = np.asarray(2 - 2 * cosines, np.float32)
        imprecise = ~(distances > PRECISE_BELOW) | is_extreme(squares) | ~(centred > PRECISE_BELOW)
        if imprecise.any():
            distances[imprecise] = self._precisely(vectors[imprecise])
        return distances

    def _precisely(self, vectors: Floats) -> Floats:
        """Return the distances without the cancellation of 2 - 2 cos: (|x - y|^2 - (|x| - |y|)^2) / (|x| |y|)."""
        units = self.measure.units(vectors)
        differences = units - self.unit
        squares, length = np.vecdot(differences, differences), np.float32(self.length)
        if self.focus:
            w = len(self._extra)
            along = differences @ self.measure.components[:w].T
            squares += np.vecdot(along**2, self._extra)
            lengths = np.sqrt(1 + np.vecdot((self.components[:w] + along) ** 2, self._extra))
            squares = np.maximum(0, squares - (lengths - length) ** 2) / (lengths * length)
        squares[~units.any(axis=1)] = NO_SIMILARITY
        return np.where(vectors.any(axis=1), squares, np.inf)

    def distances_by_components(self, components: Floats) -> Floats:
        """Return the squared L2 distances (n,) to units of which only components (n, c) are known; inf to zeros."""
        weights = np.ones(len(self.components), np.float32)
        weights[: len(self._weights)] = self._weights
        weighed = components * weights
        lengths = np.sqrt(np.vecdot(weighed, weighed))
        with np.errstate(invalid="ignore"):
            weighed /= lengths[:, None]
        weighed -= normalise((self.components * weights)[None])
        return np.where(lengths > 0, np.vecdot(weighed, weighed), np.inf)
