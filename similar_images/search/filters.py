"""Parts of a gallery: by folder, which is what labels most collections, and by name."""

import fnmatch
import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def folder_of(name: str) -> str:
    """Return the folder that a photo's name begins with, "" for none."""
    return name.rpartition("/")[0]


def matching(names: Sequence[str], folder: str | None = None, pattern: str = "") -> NDArray[np.bool_]:
    """Return which photos are in a folder and have a name that fits a pattern.

    Args:
        names: (n,) names, relative to the photos' folder.
        folder: as `folder_of` gives it; None for all.
        pattern: part of the name, or with `*` and `?` the whole of it, in any case; "" for all.

    Returns:
        (n,) bool.
    """
    pattern = pattern.strip()
    whole = pattern if set("*?") & set(pattern) else f"*{pattern}*"
    fits = re.compile(fnmatch.translate(whole.replace("[", "[[]")), re.IGNORECASE).match
    return np.array([(folder is None or folder_of(name) == folder) and bool(fits(name)) for name in names], np.bool_)
