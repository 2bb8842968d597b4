"""Finds frames that are woven of two moments: interlaced video, whether or not it is flagged so."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int16, UInt8

EDGE = 10
"""Levels by which a row stands out from both its neighbours, in a comb."""
SUSPECT = 0.002
"""Share of comb-like pixels from which on a frame is compared with its neighbours in time."""
FEWEST = 16
"""Comb-like pixels that tell anything."""
FEWEST_MOVED = 200
"""Comb-like pixels of odd rows that tell whether these are moved, of which there are many possibilities."""
APART = 2.5
"""How much worse the fields of one order must fit than those of the other, or unmoved fields than moved ones."""
FARTHEST = 24
"""Pixels that the camera may pan between two fields."""


def comb_share(frame: UInt8[np.ndarray, "h w 3"]) -> float:
    """Share of pixels, in every fourth column, that look like the teeth of a comb; 0 if they are very few."""
    teeth = _teeth(_rows(frame, 4))
    return float(teeth.mean()) if teeth.sum() >= FEWEST else 0.0


def is_woven(frames: Sequence[UInt8[np.ndarray, "h w 3"]]) -> bool:
    """Whether the middle one of three frames in a row shows two moments, in its even and in its odd rows.

    Then its teeth vanish if the even rows of one moment meet the odd rows of the moment next to it, which is those of
    the frame before or after, and grow with those of the other side; or, where the camera pans fast, they vanish if
    the odd rows are moved sideways. Fine stripes and noise do the same on both sides and in both directions.
    """
    before, now, after = (_rows(frame, 1) for frame in frames)
    if before.shape != now.shape or after.shape != now.shape:
        return False
    teeth = _teeth(now)
    top_first = _edges(now, before)[teeth].sum() + _edges(after, now)[teeth].sum()
    bottom_first = _edges(before, now)[teeth].sum() + _edges(now, after)[teeth].sum()
    return bool(max(top_first, bottom_first) > APART * min(top_first, bottom_first)) or _pans(now, after, teeth)


def _pans(now: Int16[np.ndarray, "h w"], after: Int16[np.ndarray, "h w"], teeth: Bool[np.ndarray, "inner w"]) -> bool:
    """Whether the odd rows lie half as far to one side as the next frame does, where there are teeth."""
    between = now[:-2:2] // 2 + now[2::2] // 2
    mask = teeth[::2][: len(between)]
    half, fits = _sideways(between, now[1::2][: len(between)], mask, FARTHEST)
    if half == 0 or min(fits[0], fits[-half]) <= APART * fits[half]:
        return False
    whole, fits = _sideways(between, after[:-2:2] // 2 + after[2::2] // 2, mask, 2 * FARTHEST)
    return abs(abs(whole) - 2 * abs(half)) <= 1 and min(fits[0], fits[-whole]) > APART * fits[whole]


def _sideways(
    rows: Int16[np.ndarray, "h w"], others: Int16[np.ndarray, "h w"], mask: Bool[np.ndarray, "h w"], far: int
) -> tuple[int, dict[int, float]]:
    """By how many pixels `others` lie to the right of `rows`, where `mask` says, and the misfit of each distance."""
    far = min(far, rows.shape[1] // 4)
    inner = slice(far, rows.shape[1] - far)
    mask, rows = mask[:, inner], rows[:, inner]
    if mask.sum() < FEWEST_MOVED:
        return 0, {0: 0.0}
    fits = {
        shift: float(np.abs(others[:, inner.start + shift : inner.stop + shift] - rows)[mask].mean())
        for shift in range(-far, far + 1)
    }
    return min(fits, key=fits.__getitem__), fits


def _rows(frame: UInt8[np.ndarray, "h w 3"], step: int) -> Int16[np.ndarray, "h columns"]:
    """Four times the brightness of every column, or of fewer."""
    part = frame[:, ::step].astype(np.int16)
    return part[..., 0] + 2 * part[..., 1] + part[..., 2]


def _teeth(rows: Int16[np.ndarray, "h w"]) -> Bool[np.ndarray, "inner w"]:
    """For each row but the first and last, what stands out from both neighbours, as three more rows in turn do."""
    teeth = np.zeros((max(0, len(rows) - 2), rows.shape[1]), bool)
    out = 2 * rows[1:-1] - rows[:-2] - rows[2:]
    out[2 * np.abs(rows[:-2] - rows[2:]) > np.abs(out)] = 0
    up, down = out > 8 * EDGE, out < -8 * EDGE
    group = (up[:-3] & down[1:-2] & up[2:-1] & down[3:]) | (down[:-3] & up[1:-2] & down[2:-1] & up[3:])
    for place in range(4):
        teeth[place : place + len(group)] |= group
    return teeth


def _edges(even: Int16[np.ndarray, "h w"], odd: Int16[np.ndarray, "h w"]) -> Int16[np.ndarray, "inner w"]:
    """How much rows stand out from their neighbours, with the even rows of one frame among the odd ones of another."""
    woven = odd.copy()
    woven[::2] = even[::2]
    return np.abs(2 * woven[1:-1] - woven[:-2] - woven[2:])
