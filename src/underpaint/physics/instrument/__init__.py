"""Instruments (tube, filters, geometry, detector), presets, and instrument files."""

import math
from importlib.resources import files
from pathlib import Path

from pydantic import ValidationError

from underpaint.errors import InstrumentError, reason_of
from underpaint.physics.instrument.models import (
    AIR,
    AIR_DENSITY,
    ANODES,
    Detector,
    Filter,
    Geometry,
    Instrument,
    Optic,
    Scale,
    SourceSpectrum,
    Tube,
    instrument_from,
)
from underpaint.runtime.files import atomic_write
from underpaint.runtime.toml_text import to_toml
from underpaint.runtime.untrusted import MAX_SETTINGS_BYTES, read_bounded, read_toml

__all__ = [
    "AIR",
    "AIR_DENSITY",
    "ANODES",
    "Detector",
    "Filter",
    "Geometry",
    "Instrument",
    "Optic",
    "Scale",
    "SourceSpectrum",
    "Tube",
    "instrument_from",
    "load_instrument",
    "preset_names",
    "read_source_spectrum",
    "save_instrument",
]


def preset_names() -> tuple[str, ...]:
    """Return the names of the instruments that ship with the package."""
    folder = files("underpaint.physics.instrument") / "presets"
    return tuple(sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml")))


def load_instrument(name_or_path: str | Path) -> Instrument:
    """Read a preset (by name), or an instrument file or PyMca configuration ``.cfg`` (by path).

    PyMca configurations are read by :func:`~underpaint.physics.instrument.pymca.read_pymca`.

    Raises
    ------
    InstrumentError
        The preset or the file does not exist, or a field is wrong. The message names the field.
    """
    name = str(name_or_path)
    path = Path(str(files("underpaint.physics.instrument") / "presets" / f"{name}.toml"))
    if name not in preset_names():
        path = Path(name_or_path)
    if not path.is_file():
        raise InstrumentError(
            f"No instrument {name!r}: it is neither a file nor one of the presets {', '.join(preset_names())}."
        )
    from underpaint.physics.instrument.pymca import is_pymca, read_pymca

    if is_pymca(path):
        return read_pymca(path).instrument
    return instrument_from(read_toml(path, InstrumentError, "the instrument"), name)


def save_instrument(
    instrument: Instrument, path: str | Path, *, only_known: bool = False, replace: bool = True
) -> None:
    """Write an instrument file (TOML), atomically.

    Parameters
    ----------
    instrument : Instrument
    path : str or Path
        File to write.
    only_known : bool
        Whether to omit settings that were not given, so that default values are not mistaken for known values.
    replace : bool
        Whether to replace an existing file, or to raise an error if the file exists.

    Raises
    ------
    OutputError
        The file cannot be written.
    """
    with atomic_write(path, replace=replace) as temporary_path:
        settings_table = instrument.model_dump(mode="json", exclude_none=True, exclude_unset=only_known)
        temporary_path.write_text(to_toml(settings_table), "utf-8")


def read_source_spectrum(path: str | Path) -> SourceSpectrum:
    """Read a table of the source spectrum, with columns for energy (keV), photons and, optionally, bin width (keV).

    Columns are separated by commas, semicolons or blanks. A header line and lines that begin with ``#`` are skipped.

    Raises
    ------
    InstrumentError
        The file is missing, a value is not a number, or the values are not physical.
    """
    spectrum_path = Path(path)
    try:
        file_text = read_bounded(spectrum_path, MAX_SETTINGS_BYTES, InstrumentError).decode("utf-8")
    except (InstrumentError, UnicodeDecodeError) as error:
        raise InstrumentError(
            f"Cannot read the source spectrum {spectrum_path}: {reason_of(error).rstrip('.')}. "
            "Give a text file of two or three columns."
        ) from error
    table_rows = [_split_columns(line) for line in file_text.splitlines() if line.strip() and not line.startswith("#")]
    if table_rows and not any(_are_finite_numbers([header_text]) for header_text in table_rows[0]):
        table_rows = table_rows[1:]
    for row_number, table_row in enumerate(table_rows, start=1):
        if not _are_finite_numbers(table_row) or len(table_row) not in {2, 3} or len(table_row) != len(table_rows[0]):
            raise InstrumentError(
                f"Cannot read the source spectrum {spectrum_path}: row {row_number} holds {' '.join(table_row)[:80]!r}"
                "; each row needs energy (keV) and photons, and either all rows or no row the bin width (keV)."
            )
    columns = [
        tuple(float(number_text) for number_text in column_texts) for column_texts in zip(*table_rows, strict=True)
    ]
    try:
        return SourceSpectrum(**dict(zip(("energy_kev", "weight", "width_kev"), columns, strict=False)))
    except ValidationError as error:
        raise InstrumentError(f"Cannot use the source spectrum {spectrum_path}: {error.errors()[0]['msg']}.") from error


def _split_columns(line: str) -> list[str]:
    return line.replace(",", " ").replace(";", " ").split()


def _are_finite_numbers(number_texts: list[str]) -> bool:
    try:
        return all(math.isfinite(float(number_text)) for number_text in number_texts)
    except ValueError:
        return False
