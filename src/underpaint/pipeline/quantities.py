"""Quantities of a scan's elements beside the results of its fit: maps as TIFF, and a table."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from underpaint.data import EnergyAxis
from underpaint.elements.quantities import Quantities, check_request, quantify
from underpaint.errors import InstrumentError, OutputError
from underpaint.io import load, read_results, read_summary, write_tiff
from underpaint.io.results.csv_text import write_csv
from underpaint.physics.instrument import Instrument, load_instrument
from underpaint.pipeline.plan import Settings
from underpaint.runtime.files import whole_file

FOLDER = "element_quantities"
TABLE = "element_quantities.csv"
_COLUMNS = (
    "element", "unit", "determined_share", "median", "median_low_90", "median_high_90", "limit_share",
    "median_upper_limit", "not_determined_share", "note",
)  # fmt: skip


@dataclass(frozen=True)
class Request:
    """What quantities are wanted, as for :func:`~underpaint.elements.quantify`."""

    kind: str
    matrix: str = "paint"
    thickness_um: tuple[float, float] | None = None

    def check(self, instrument: str | Path | None) -> None:
        """Refuse what cannot be computed before the scan is read.

        Raises
        ------
        InstrumentError, SampleError
            As for :func:`~underpaint.elements.quantify`.
        """
        known = Instrument(name="not given") if instrument is None else load_instrument(instrument)
        check_request(self.kind, self.matrix, self.thickness_um, known)


def add_quantities(source: str | Path, folder: str | Path, settings: Settings, request: Request) -> Quantities:
    """Compute quantities from the element maps of finished results, and write them beside the others.

    Parameters
    ----------
    source : str or Path
        The scan.
    folder : str or Path
        Its results.
    settings : Settings
        With which the results were made.
    request : Request

    Returns
    -------
    Quantities

    Raises
    ------
    InstrumentError
        Nothing is known of the instrument, or the areal mass of one without a scale is wanted.
    CoverageError, ScanError
        As for :func:`~underpaint.elements.quantify`; or there are no results.
    OutputError
        The maps cannot be written.
    """
    summary = read_summary(folder)
    recorded = summary["settings"].get("instrument_settings")
    if recorded is None:
        raise InstrumentError(
            f"Cannot compute quantities of {source}: nothing is known of the instrument, whose tube and geometry the "
            "model needs. Run `underpaint calibrate` on the scan and give the file that it writes with --instrument."
        )
    energy = np.asarray(summary["energy_kev"], np.float64)
    axis = EnergyAxis(float((energy[-1] - energy[0]) / (energy.size - 1)), float(energy[0]), energy.size)
    scan = load(source, detector=settings.detector, shape=settings.shape, counts_scale=settings.counts_scale)
    maps = read_results(folder, lazily=False)
    quantities = quantify(
        scan.with_axis(axis),
        Instrument.model_validate(recorded),
        kind=request.kind,
        maps=maps,
        matrix=request.matrix,
        thickness_um=request.thickness_um,
    )
    write_quantities(Path(folder), quantities)
    return quantities


def write_quantities(folder: Path, quantities: Quantities) -> None:
    """Write a TIFF of each element's value and ends of the 90 % interval, and a table of medians.

    Raises
    ------
    OutputError
        They cannot be written.
    """
    parts = {"": quantities.value, ".low_90": quantities.low, ".high_90": quantities.high}
    notes = " ".join(quantities.notes)
    try:
        for index, name in enumerate(quantities.names):
            for end, cube in parts.items():
                path = folder / FOLDER / f"{name}.{quantities.kind}{end}.tif"
                what = f"{name}, {quantities.unit}{end.replace('.', ', ')}; NaN: not determined. {notes}"
                write_tiff(path, cube[:, :, index], what.encode("ascii", "replace").decode(), quantities.step_mm)
        with whole_file(folder / TABLE) as part, part.open("w", newline="", encoding="utf-8") as stream:
            write_csv(stream, [_COLUMNS, *_rows(quantities)])
    except OSError as error:
        raise OutputError(
            f"Cannot write quantities to {folder}: {error}. Check that it is writable and that the disk is not full."
        ) from error


def _rows(quantities: Quantities) -> list[list[Any]]:
    """Return a row an element: pixels where it is determined, where there is but an upper limit, and where neither."""
    rows: list[list[Any]] = []
    for index, name in enumerate(quantities.names):
        value, low, high = (cube[:, :, index] for cube in (quantities.value, quantities.low, quantities.high))
        known = np.isfinite(value)
        determined, limited = known & (low > 0), known & ~(low > 0)
        medians = [_median(one, determined) for one in (value, low, high)]
        shares = [f"{float(where.mean()):.4g}" for where in (determined, limited, ~known)]
        limit = _median(high, limited)
        rows.append(
            [name, quantities.unit, shares[0], *medians, shares[1], limit, shares[2], " ".join(quantities.notes)]
        )
    return rows


def _median(values: NDArray[np.float32], where: NDArray[np.bool_]) -> str:
    return f"{float(np.median(values[where])):.4g}" if where.any() else ""
