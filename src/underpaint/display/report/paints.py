"""Legend of the paints: picture, area, groups and layers of each paint."""

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
from underpaint.display.report.supplements import data_url

MAX_ROWS = 16
_PATCH_PIXELS = 150
_FADED_WHITE_FRACTION = 0.85
"""Fraction of white that is mixed into the pixels of all other paints in a paint's picture."""

RgbImage = NDArray[np.float64]


def legend_rows(results: Results, families: Sequence[str], photograph: str = "") -> list[dict[str, Any]]:
    """Return the legend entries of the largest paints.

    Parameters
    ----------
    results : Results
        Results with paints.
    families : sequence of str
        Up to three line families, drawn in red, green and blue if there is no photograph.
    photograph : str
        Registered photograph as a data URL; "" without a photograph.
    """
    paint_numbers = results.map("paint")
    image = _photograph_image(photograph, paint_numbers.shape) if photograph else _composite_image(results, families)
    return [
        {
            "number": area.number,
            "color": paint_color(area.number),
            "patch": _patch_url(image, paint_numbers == area.number),
            "share": area.share,
            "area": _area_text(area),
            "groups": groups_text(results, area),
            "layers": area.stratigraphy,
        }
        for area in results.paints[:MAX_ROWS]
    ]


def groups_text(results: Results, area: PaintArea) -> str:
    """Return a text that lists the groups of a paint, with traces last."""
    trace_names = [name for name, state in area.groups.items() if state == TRACE]
    group_texts = [results.short_label(name) for name in area.groups if name not in trace_names]
    group_texts += [f"{results.short_label(name)} ({STATES[TRACE]})" for name in trace_names]
    return ", ".join(group_texts)


def _area_text(area: PaintArea) -> str:
    pixels_text = f"{area.n_pixel:,} pixel{'s' * (area.n_pixel != 1)}"
    if area.area_mm2 is None:
        return pixels_text
    area_text = f"{area.area_mm2 / 100:,.1f} cm²" if area.area_mm2 >= 100 else f"{area.area_mm2:.1f} mm²"
    return f"{pixels_text}, {area_text}"


def _composite_image(results: Results, families: Sequence[str]) -> RgbImage:
    """Return an (n_row, n_column, 3) picture of up to three line maps, each scaled to its 99th percentile."""
    image = np.zeros((*results.shape, 3))
    for channel, name in enumerate(families[:3]):
        area = np.nan_to_num(results[name])
        image[:, :, channel] = np.clip(area / max(float(np.percentile(area, 99)), 1e-9), 0.0, 1.0)
    return image


def _photograph_image(source: str, shape: tuple[int, ...]) -> RgbImage:
    with Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))) as photograph:
        resized_image = photograph.convert("RGB").resize((shape[1], shape[0]), Image.Resampling.BOX)
    return np.asarray(resized_image, dtype=np.float64) / 255.0


def _patch_url(image: RgbImage, mask: NDArray[np.bool_]) -> str:
    """Return the picture of a paint, in which other paints are faded, as a data URL."""
    stride = max(-(-max(mask.shape) // _PATCH_PIXELS), 1)
    image, mask = image[::stride, ::stride], mask[::stride, ::stride]
    faded_image = np.where(mask[:, :, None], image, image + _FADED_WHITE_FRACTION * (1.0 - image))
    picture = Image.fromarray(np.round(255 * faded_image).astype(np.uint8))
    stream = io.BytesIO()
    picture.save(stream, "PNG")
    return data_url(stream.getvalue(), "png")
