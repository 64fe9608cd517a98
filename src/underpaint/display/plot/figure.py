"""Creation and saving of figures without the global state of pyplot."""

import re
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import FixedFormatter, FuncFormatter

from underpaint.runtime.files import atomic_write

TEXT_SIZE = 8.0
SMALL_SIZE = 7.0
NO_ANSWER_COLOR = "#c4c4c4"
DPI = 100


class _LiteralTextFigure(Figure):
    """Figure that draws all text literally. By default, matplotlib draws text between dollar signs as a formula.

    Only numeric tick labels, such as powers of ten, remain formulas.
    """

    def draw(self, renderer: Any) -> None:
        for text in _literal_texts(self):
            text.set_parse_math(False)
        super().draw(renderer)


def _literal_texts(artist: Artist) -> Iterator[Text]:
    """Yield all text except numeric tick labels, which are slow to create."""
    if isinstance(artist, Text):
        yield artist
    elif isinstance(artist, Axis):
        yield artist.label
        if isinstance(artist.get_major_formatter(), FixedFormatter | FuncFormatter):
            yield from artist.get_majorticklabels()
    else:
        for child in artist.get_children():
            yield from _literal_texts(child)


def new_figure(width_inch: float, height_inch: float) -> Figure:
    """Return an empty figure of a size in inches, independent of pyplot."""
    figure = _LiteralTextFigure(figsize=(width_inch, height_inch), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def close_fit(
    figure: Figure, left_margin_inch: float, right_margin_inch: float, bottom_margin_inch: float, top_margin_inch: float
) -> Figure:
    """Set the margins of a figure, in inches, which is much faster than using a layout engine."""
    width, height = figure.get_size_inches()
    figure.subplots_adjust(
        left_margin_inch / width,
        bottom_margin_inch / height,
        1 - right_margin_inch / width,
        1 - top_margin_inch / height,
    )
    return figure


def put_title(axes: Axes, text: str, *, size: float = TEXT_SIZE, left: bool = False, pad: float = 6.0) -> None:
    """Write a title ``pad`` points above axes, which is faster than matplotlib's automatic position."""
    axes.set_title(text, fontsize=size, loc="left" if left else "center", pad=pad, y=1.0)


def short_label(label: str) -> str:
    """Remove the examples in brackets from a pigment's label, and keep the place after the brackets."""
    return re.sub(r" \(.*\)", "", label)


def quiet_axes(axes: Axes) -> None:
    """Make the ticks of axes small and the frame thin."""
    axes.tick_params(labelsize=SMALL_SIZE, width=0.6, length=2.5)
    for spine in axes.spines.values():
        spine.set_linewidth(0.6)


def to_png(figure: Figure, dpi: int = DPI) -> bytes:
    """Return a figure as PNG bytes without a date, so that equal figures give equal bytes.

    Compression level 4 takes half the time of the default level 6; the files are 2 % larger.
    """
    stream = BytesIO()
    figure.savefig(stream, format="png", dpi=dpi, metadata={"Software": "underpaint"}, pil_kwargs={"compress_level": 4})
    return stream.getvalue()


def save_png(figure: Figure, path: str | Path, dpi: int = 150) -> None:
    """Write a figure as PNG; an interrupted call leaves no partial file.

    Raises
    ------
    OutputError
        The file cannot be written.
    """
    with atomic_write(path) as partial_path:
        partial_path.write_bytes(to_png(figure, dpi))
