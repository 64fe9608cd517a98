"""The legend of the painting: its paints with picture, area, groups and layers."""

import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from underpaint.data.maps import STATES, TRACE, Results
from underpaint.data.paint_areas import PaintArea
from underpaint.display.plot.paints import paint_color
from underpaint.display.report.beside import data_url

MOST_ROWS = 16
_PATCH_PIXELS = 150
_FADED = 0.85
"""How far what is not of a paint goes towards white in its picture."""

Image3 = NDArray[np.float64]


def legend_rows(results: Results, families: Sequence[str], photograph: str = "") -> list[dict[str, Any]]:
    """Return a row for each of the larger paints.

    Parameters
    ----------
    results : Results
        With paints.
    families : sequence of str
        Up to three line families, red, green and blue of the pictures where there is no photograph.
    photograph : str
        The photograph over the maps as a data URL; "": none.
    """
    label = results.map("paint")
    image = _photograph(photograph, label.shape) if photograph else _composite(results, families)
    return [
        {
            "number": area.number,
            "color": paint_color(area.number),
            "patch": _patch(image, label == area.number),
            "share": area.share,
            "area": _area_text(area),
            "groups": groups_text(results, area),
            "layers": area.stratigraphy,
        }
        for area in results.paints[:MOST_ROWS]
    ]


def groups_text(results: Results, area: PaintArea) -> str:
    """Return the groups of a paint in words; traces after the others."""
    traces = [name for name, state in area.groups.items() if state == TRACE]
    parts = [results.short_label(name) for name in area.groups if name not in traces]
    parts += [f"{results.short_label(name)} ({STATES[TRACE]})" for name in traces]
    return ", ".join(parts)


def _area_text(area: PaintArea) -> str:
    pixels = f"{area.n_pixel:,} pixel{'s' * (area.n_pixel != 1)}"
    if area.area_mm2 is None:
        return pixels
    size = f"{area.area_mm2 / 100:,.1f} cm²" if area.area_mm2 >= 100 else f"{area.area_mm2:.1f} mm²"
    return f"{pixels}, {size}"


def _composite(results: Results, families: Sequence[str]) -> Image3:
    """Return the (n_row, n_column, 3) picture of three families, each to its 99th percentile."""
    image = np.zeros((*results.shape, 3))
    for channel, name in enumerate(families[:3]):
        area = np.nan_to_num(results[name])
        image[:, :, channel] = np.clip(area / max(float(np.percentile(area, 99)), 1e-9), 0.0, 1.0)
    return image


def _photograph(source: str, shape: tuple[int, ...]) -> Image3:
    with Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))) as photograph:
        small = photograph.convert("RGB").resize((shape[1], shape[0]), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float64) / 255.0


def _patch(image: Image3, mask: NDArray[np.bool_]) -> str:
    """Return the picture with all but a paint faded, as a data URL."""
    every = max(-(-max(mask.shape) // _PATCH_PIXELS), 1)
    image, mask = image[::every, ::every], mask[::every, ::every]
    faded = np.where(mask[:, :, None], image, image + _FADED * (1.0 - image))
    picture = Image.fromarray(np.round(255 * faded).astype(np.uint8))
    stream = io.BytesIO()
    picture.save(stream, "PNG")
    return data_url(stream.getvalue(), "png")
