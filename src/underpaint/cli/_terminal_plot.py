"""A spectrum drawn in the terminal with braille dots, eight to a character."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

_BLANK = 0x2800
# Bits of a braille character by (row, column) of its 4 x 2 dots.
_BITS = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]])
_MARGIN = 8


@dataclass(frozen=True)
class Frame:
    """Size in characters, and the range of energies or channels that is shown."""

    width: int
    height: int
    start: float
    stop: float

    def column(self, position: float) -> int:
        """Return the character column of an energy or channel."""
        return round((position - self.start) / (self.stop - self.start) * (self.width - 1))


def draw(counts: NDArray[np.float64], frame: Frame, labels: Mapping[str, float], title: str, unit: str) -> list[str]:
    """Draw counts as lines of text: labels above, braille, an axis below.

    Parameters
    ----------
    counts : (n,) array
        Counts, evenly spaced from ``frame.start`` to ``frame.stop``; drawn on a logarithmic axis.
    frame : Frame
        Size and range.
    labels : mapping of str to float
        Line names with their positions, the most important first; those without room are left out.
    title, unit : str
        Shown above, and below at the end of the axis.
    """
    heights, low, high = _heights(counts, 2 * frame.width, 4 * frame.height)
    body = _braille(heights, frame.height)
    scale = [f"{high:.0e}", *[""] * (frame.height - 2), f"{low:.0e}"] if frame.height > 1 else [f"{high:.0e}"]
    lines = [title]
    lines += [" " * (_MARGIN + 1) + row for row in _label_rows(labels, frame)]
    lines += [f"{tick:>{_MARGIN}}|{row}" for tick, row in zip(scale, body, strict=True)]
    return [*lines, " " * (_MARGIN + 1) + _ticks(frame, unit)]


def _heights(counts: NDArray[np.float64], n_dot: int, n_level: int) -> tuple[NDArray[np.int64], float, float]:
    """Highest count of each dot column as a level from 0 to ``n_level``, and the counts of lowest and highest level."""
    edges = np.linspace(0, counts.size, n_dot + 1)
    tallest = np.array([counts[int(a) : max(math.ceil(b), int(a) + 1)].max() for a, b in pairwise(edges)])
    high = max(float(tallest.max()), 1.0)
    # What lies under the continuum, such as the channels below the threshold, need not be shown.
    low = max(high / 1e5, 0.5, 0.5 * float(np.percentile(tallest, 10)))
    low = min(low, high / 10)
    share = np.log(np.maximum(tallest, low) / low) / max(math.log(high / low), 1e-9)
    return np.round(share * n_level).astype(np.int64), low, high


def _braille(heights: NDArray[np.int64], n_row: int) -> list[str]:
    level = 4 * n_row - np.arange(4 * n_row)[:, None]
    # A line two dots thick, so that the flanks of a peak hang together.
    dots = (level <= heights[None, :]) & (level > heights[None, :] - np.maximum(_drop(heights), 1)[None, :])
    cells = dots.reshape(n_row, 4, -1, 2)
    codes = _BLANK + (cells * _BITS[None, :, None, :]).sum(axis=(1, 3))
    return ["".join(chr(code) for code in row) for row in codes]


def _drop(heights: NDArray[np.int64]) -> NDArray[np.int64]:
    """How far each column stands above the lower one of its neighbours."""
    padded = np.pad(heights, 1, mode="edge")
    return heights - np.minimum(padded[:-2], padded[2:])


def _label_rows(labels: Mapping[str, float], frame: Frame, n_row: int = 3) -> list[str]:
    """Place labels above their lines, on as many rows as needed (at most ``n_row``)."""
    rows = [[" "] * frame.width for _ in range(n_row)]
    for text, position in labels.items():
        if not frame.start <= position <= frame.stop:
            continue
        first = min(max(frame.column(position) - len(text) // 2, 0), max(frame.width - len(text), 0))
        for row in reversed(rows):
            if all(cell == " " for cell in row[max(first - 1, 0) : first + len(text) + 1]):
                row[first : first + len(text)] = list(text)[: frame.width - first]
                break
    return [text for row in rows if (text := "".join(row).rstrip())]


def _ticks(frame: Frame, unit: str) -> str:
    span = frame.stop - frame.start
    step = next(step for step in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10**5) if span / step <= 10)
    row = [" "] * (frame.width + 6 + len(unit))
    last = 0.0
    for position in np.arange(math.ceil(frame.start / step) * step, frame.stop, step):
        text, first = f"{position:g}", frame.column(position)
        row[first : first + len(text)] = list(text)
        last = first + len(text)
    row[int(last) + 1 : int(last) + 1 + len(unit)] = list(unit)
    return "".join(row).rstrip()
