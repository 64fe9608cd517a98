"""``explain``: proposed stratigraphies of a TOML file, fitted to one pixel."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.table import Table

from underpaint.api import on_its_energy_axis
from underpaint.errors import SampleError, ScanError
from underpaint.explain import StratigraphyFit, compare
from underpaint.instrument import load_instrument
from underpaint.io import load
from underpaint.sample import Layer, Paint, Stratigraphy, coating_layer, ground_layer, support_layer

_EXAMPLE = (
    '[[stratigraphy]] name = "one"; layers = [{ pigments = { vermilion = 1 }, thickness_um = 30 }, '
    '{ ground = "chalk", thickness_um = 200 }]'
)


def explain_pixel(
    source: str, row: int, column: int, layers: Path, instrument: str
) -> tuple[Table, list[dict[str, Any]]]:
    """Fit the proposals to a pixel; return a table for people and records for JSON, the best first.

    Raises
    ------
    UnderpaintError
        The scan, the pixel, the proposals or the instrument cannot be used.
    """
    proposals, own = read_proposals(layers), load_instrument(instrument)
    scan = load(source)
    if not (0 <= row < scan.shape[0] and 0 <= column < scan.shape[1]):
        message = f"No pixel ({row}, {column}): rows are 0 to {scan.shape[0] - 1}, columns 0 to {scan.shape[1] - 1}."
        raise ScanError(message)
    axis = on_its_energy_axis(scan)
    fits = compare(axis.scan.pixel(row, column), proposals, own)
    return _table(fits, row, column), [_record(fit) for fit in fits]


def read_proposals(path: Path) -> list[Stratigraphy]:
    """Read ``[[stratigraphy]]`` tables with ``layers``, the top one first.

    Raises
    ------
    SampleError
        Not TOML, no stratigraphy, or a layer that cannot be made.
    """
    try:
        table = tomllib.loads(path.read_text("utf-8"))
        proposals = table["stratigraphy"]
        found = [_stratigraphy(entry, index) for index, entry in enumerate(proposals)]
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, KeyError, TypeError, AttributeError) as error:
        message = f"Cannot read the stratigraphies {path}: {error}. The file looks like {_EXAMPLE}."
        raise SampleError(message) from error
    if not found:
        message = f"Cannot compare: {path} holds no stratigraphy. The file looks like {_EXAMPLE}."
        raise SampleError(message)
    return found


def _stratigraphy(entry: Mapping[str, Any], index: int) -> Stratigraphy:
    return Stratigraphy(tuple(_layer(own) for own in entry["layers"]), str(entry.get("name", f"proposal {index + 1}")))


def _layer(entry: Mapping[str, Any]) -> Layer:
    thickness = entry.get("thickness_um")
    if "ground" in entry:
        return ground_layer(entry["ground"], entry["thickness_um"])
    if "support" in entry:
        return support_layer(entry["support"], thickness)
    if "coating" in entry:
        return coating_layer(entry["coating"], thickness)
    known = {key: entry[key] for key in ("pigment_to_binder", "binder", "density") if key in entry}
    return Paint(entry["pigments"], **known).layer(entry["thickness_um"])


def _table(fits: list[StratigraphyFit], row: int, column: int) -> Table:
    table = Table(title=f"pixel ({row}, {column}), best first", title_justify="left")
    for title in ("stratigraphy", "layer", "thickness (um)", "deviance"):
        table.add_column(title)
    for fit in fits:
        name, deviance = fit.stratigraphy.name, f"{fit.deviance:.0f} ({fit.n_channel} channels)"
        for layer, value, error in zip(fit.stratigraphy.layers, fit.thickness_um, fit.uncertainty_um, strict=True):
            table.add_row(name, layer.name, f"{value:.3g} ± {error:.2g}", deviance)
            name = deviance = ""
    return table


def _record(fit: StratigraphyFit) -> dict[str, Any]:
    return {
        "name": fit.stratigraphy.name,
        "layers": [layer.name for layer in fit.stratigraphy.layers],
        "thickness_um": fit.thickness_um.tolist(),
        "uncertainty_um": fit.uncertainty_um.tolist(),
        "deviance": fit.deviance,
        "n_channel": fit.n_channel,
    }
