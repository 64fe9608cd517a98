"""Up to three maps as one picture: red, green and blue."""

from collections.abc import Sequence

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from numpy.typing import NDArray

from underpaint.display.plot.figure import NO_ANSWER_COLOR, TEXT_SIZE, close_fit, new_figure, short_label
from underpaint.display.plot.images import PANEL_WIDTH_IN, Step, bare, hatch, panel_height, pixel_aspect, scale_bar

CHANNELS = ("red", "green", "blue")
_WRITTEN = ("#c23b22", "#2e8b3d", "#2a5db0")


def composite_figure(
    parts: Sequence[tuple[str, NDArray[np.float32], float]],
    *,
    step_mm: Step = None,
    hatched: NDArray[np.bool_] | None = None,
) -> Figure:
    """Draw maps as red, green and blue.

    Parameters
    ----------
    parts : sequence of (label, (n_row, n_column) array, top)
        At most three; the top is drawn at full colour. An empty array leaves its colour out. NaN is drawn grey.
    step_mm : (float, float) or None
        Distance between pixels along rows and columns, mm.
    hatched : (n_row, n_column) array of bool or None
        Where the first of them would not be seen.

    Raises
    ------
    ValueError
        There is no map, or more than three.
    """
    used = [(label, values, top, n) for n, (label, values, top) in enumerate(parts) if values.size]
    if not 0 < len(used) <= len(CHANNELS):
        raise ValueError(f"Cannot lay {len(used)} maps over one another; one to three can be.")
    shape = used[0][1].shape
    image = np.zeros((*shape, 3))
    for _, values, top, channel in used:
        image[:, :, channel] = values / top
    image[~np.isfinite(image).all(axis=2)] = to_rgb(NO_ANSWER_COLOR)
    height = 2.0 * panel_height(shape, step_mm)
    figure = new_figure(2.0 * PANEL_WIDTH_IN, height + 0.45)
    axes = figure.add_subplot()
    axes.imshow(np.clip(image, 0.0, 1.0), interpolation="nearest", aspect=pixel_aspect(step_mm))
    bare(axes)
    scale_bar(axes, shape, step_mm)
    if hatched is not None:
        hatch(axes, hatched, "white")
    close_fit(figure, 0.1, 0.1, 0.1, 0.35)
    for line, (label, _, _, channel) in enumerate(used):
        figure.text(
            0.02 + 0.325 * line, 1 - 0.2 / (height + 0.45), f"{CHANNELS[channel]}: {short_label(label)}",
            color=_WRITTEN[channel], fontsize=TEXT_SIZE, ha="left",
        )  # fmt: skip
    return figure
