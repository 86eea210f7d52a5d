"""ICC profiles made by hand, and the colours that they mean, computed without the library that reads profiles."""

import struct

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# Columns: the XYZ of red, green and blue, adapted to D50. Source: http://www.brucelindbloom.com, RGB/XYZ matrices.
SRGB = np.array(
    [[0.4360747, 0.3850649, 0.1430804], [0.2225045, 0.7168786, 0.0606169], [0.0139322, 0.0971045, 0.7141733]]
)
ADOBE_RGB = np.array(
    [[0.6097559, 0.2052401, 0.1492240], [0.3111242, 0.6256560, 0.0632197], [0.0194811, 0.0608902, 0.7448387]]
)
PROPHOTO = np.array([[0.7976749, 0.1351917, 0.0313534], [0.2880402, 0.7118741, 0.0000857], [0, 0, 0.8252100]])
DISPLAY_P3 = np.array([[0.51512, 0.29198, 0.15710], [0.24120, 0.69225, 0.06657], [-0.00105, 0.04189, 0.78407]])
DOT_GAIN = 1.5
D50 = np.array([0.9642, 1.0, 0.8249])


def rgb_profile(matrix: Floats, gamma: float) -> bytes:
    """Return the profile of a screen with these primaries and this gamma."""
    primaries = {f"{name}XYZ": _xyz(matrix[:, at]) for at, name in enumerate("rgb")}
    return _profile("RGB ", "XYZ ", primaries | {f"{name}TRC": _curve(gamma) for name in "rgb"})


def srgb_profile() -> bytes:
    """Return that of sRGB, its curve as a table as most cameras have it."""
    curve = np.round(65535 * to_linear(np.linspace(0, 1, 1024))).astype(int)
    table = struct.pack(">4s4xI1024H", b"curv", 1024, *curve)
    primaries = {f"{name}XYZ": _xyz(SRGB[:, at]) for at, name in enumerate("rgb")}
    return _profile("RGB ", "XYZ ", primaries | {f"{name}TRC": table for name in "rgb"})


def grey_profile(gamma: float) -> bytes:
    return _profile("GRAY", "XYZ ", {"kTRC": _curve(gamma)})


def cmyk_profile() -> bytes:
    """Return the profile of a press with ideal inks: cyan takes red away, black all, by a power of `DOT_GAIN`."""
    grid = np.stack(np.meshgrid(*[np.linspace(0, 1, 9)] * 4, indexing="ij"), -1).reshape(-1, 4)
    lab = _lab(((1 - grid[:, :3]) * (1 - grid[:, 3:])) ** DOT_GAIN @ SRGB.T)
    nodes = np.round(np.stack([lab[:, 0] * 2.55, lab[:, 1] + 128, lab[:, 2] + 128], -1)).clip(0, 255)
    identity = bytes(range(256))
    table = struct.pack(">4s4xBBBx9i", b"mft1", 4, 3, 9, *(65536 * np.eye(3, dtype=int)).ravel())
    return _profile("CMYK", "Lab ", {"A2B0": table + identity * 4 + nodes.astype(np.uint8).tobytes() + identity * 3})


def to_linear(srgb: Floats) -> Floats:
    """Return linear light 0..1 of sRGB values 0..1."""
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def from_linear(light: Floats) -> Floats:
    light = light.clip(0, 1)
    return np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)


def in_space(srgb: NDArray[np.uint8], matrix: Floats, gamma: float) -> NDArray[np.uint8]:
    """Return the values (..., 3) that show sRGB colours (..., 3) in a space of other primaries and another gamma."""
    light = to_linear(srgb / 255) @ (np.linalg.inv(matrix) @ SRGB).T
    return np.round(255 * light.clip(0, 1) ** (1 / gamma)).astype(np.uint8)


def as_inks(srgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the inks (..., 4) that `cmyk_profile` shows as sRGB colours (..., 3), without black."""
    paper = to_linear(srgb / 255) ** (1 / DOT_GAIN)
    return np.concatenate([np.round(255 * (1 - paper)), np.zeros((*srgb.shape[:-1], 1))], -1).astype(np.uint8)


def _profile(space: str, connection: str, tags: dict[str, bytes]) -> bytes:
    tags |= {"wtpt": _xyz(D50), "desc": b"desc" + struct.pack(">4xI", 5) + b"test\0" + bytes(78)}
    table, data, begin = struct.pack(">I", len(tags)), b"", 132 + 12 * len(tags)
    for name, content in tags.items():
        table += struct.pack(">4sII", name.encode(), begin + len(data), len(content))
        data += content + bytes(-len(content) % 4)
    size = 128 + len(table) + len(data)
    header = struct.pack(
        ">I4sI4s4s4s12x4s28x", size, b"test", 0x02100000, b"mntr", space.encode(), connection.encode(), b"acsp"
    )
    header += struct.pack(">3i", *(np.round(D50 * 65536).astype(int))) + bytes(48)
    return header + table + data


def _xyz(values: Floats) -> bytes:
    return struct.pack(">4s4x3i", b"XYZ ", *np.round(values * 65536).astype(int))


def _curve(gamma: float) -> bytes:
    return struct.pack(">4s4xIH", b"curv", 1, round(gamma * 256))


def _lab(xyz: Floats) -> Floats:
    ratios = xyz / D50
    roots = np.where(ratios > (6 / 29) ** 3, np.cbrt(ratios), ratios / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.stack([116 * roots[:, 1] - 16, 500 * (roots[:, 0] - roots[:, 1]), 200 * (roots[:, 1] - roots[:, 2])], -1)
