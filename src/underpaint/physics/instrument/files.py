"""Instrument files (TOML) and the presets that ship with the package."""

import math
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, get_args

from pydantic import BaseModel, TypeAdapter, ValidationError

from underpaint.errors import InstrumentError
from underpaint.physics.instrument.instrument import Instrument, SourceSpectrum
from underpaint.runtime.files import whole_file
from underpaint.runtime.untrusted import MOST_SETTINGS_BYTES, faults_in_words, read_bounded, read_toml

_UNITS = {"kev": "keV", "kv": "kV", "um": "um", "cm": "cm", "deg": "degree", "us": "us"}
"""Of a setting, by the end of its name."""
_MOST_SHOWN = 1e15
"""No float can be made of whole numbers of hundreds of digits."""


def preset_names() -> tuple[str, ...]:
    """Names of the instruments that ship with the package."""
    folder = files("underpaint.physics.instrument") / "presets"
    return tuple(sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml")))


def load_instrument(name_or_path: str | Path) -> Instrument:
    """Read a preset by name, or an instrument file by path.

    Raises
    ------
    InstrumentError
        There is no such preset or file, or a field is wrong; the message names the field.
    """
    name = str(name_or_path)
    path = Path(str(files("underpaint.physics.instrument") / "presets" / f"{name}.toml"))
    if name not in preset_names():
        path = Path(name_or_path)
    if not path.is_file():
        raise InstrumentError(
            f"No instrument {name!r}: it is neither a file nor one of the presets {', '.join(preset_names())}."
        )
    return _parse(read_toml(path, InstrumentError, "the instrument"), name)


def save_instrument(instrument: Instrument, path: str | Path) -> None:
    """Write an instrument file (TOML), whole or not at all.

    Raises
    ------
    OutputError
        The file cannot be written.
    """
    with whole_file(path) as part:
        part.write_text(to_toml(instrument.model_dump(mode="json", exclude_none=True)), "utf-8")


def read_source_spectrum(path: str | Path) -> SourceSpectrum:
    """Read a tabulated exciting spectrum: columns of energy, keV, photons and, if there is a third, bin width, keV.

    Commas, semicolons or blanks part the columns; lines that begin with ``#`` and a line of titles are passed over.

    Raises
    ------
    InstrumentError
        The file is missing, a line is no number, or the table is not physical; the message says where.
    """
    source = Path(path)
    try:
        text = read_bounded(source, MOST_SETTINGS_BYTES, InstrumentError).decode("utf-8")
    except (InstrumentError, UnicodeDecodeError) as error:
        raise InstrumentError(
            f"Cannot read the source spectrum {source}: {error}. Give a text file of two or three columns."
        ) from error
    rows = [_columns(line) for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if rows and not any(_numbers([entry]) for entry in rows[0]):
        rows = rows[1:]
    for number, row in enumerate(rows, start=1):
        if not _numbers(row) or len(row) not in {2, 3} or len(row) != len(rows[0]):
            raise InstrumentError(
                f"Cannot read the source spectrum {source}: row {number} holds {' '.join(row)[:80]!r}; each needs "
                "energy in keV, photons and, in all rows or none, the bin's width in keV."
            )
    columns = [tuple(float(value) for value in column) for column in zip(*rows, strict=True)]
    try:
        return SourceSpectrum(**dict(zip(("energy_kev", "weight", "width_kev"), columns, strict=False)))
    except ValidationError as error:
        raise InstrumentError(f"Cannot use the source spectrum {source}: {error.errors()[0]['msg']}.") from error


def _columns(line: str) -> list[str]:
    return line.replace(",", " ").replace(";", " ").split()


def _numbers(row: list[str]) -> bool:
    try:
        return all(math.isfinite(float(value)) for value in row)
    except ValueError:
        return False


def to_toml(table: dict[str, Any], prefix: str = "") -> str:
    """Write nested tables of plain values as TOML text."""
    lines = [f"{key} = {_value(value)}" for key, value in table.items() if not isinstance(value, dict)]
    for key, value in table.items():
        if isinstance(value, dict):
            lines += ["", f"[{prefix}{key}]", to_toml(value, f"{prefix}{key}.").rstrip("\n")]
    return "\n".join(lines) + "\n"


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        return f'"{escaped}"'
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_value(item)}" for key, item in value.items()) + " }"
    return repr(value)


def _parse(table: dict[str, Any], name: str) -> Instrument:
    try:
        return Instrument.model_validate(table)
    except ValidationError as error:
        raise InstrumentError(
            f"Cannot use the instrument {name!r}: {faults_in_words(error.errors(), _hint)}."
        ) from error


def _settings_at(place: tuple[Any, ...]) -> type[BaseModel] | None:
    """Return the settings that a fault's place lies in; None where they are no settings."""
    inner: type[BaseModel] | None = Instrument
    for part in place:
        if isinstance(part, int):  # an entry of a tuple, whose settings were found with the tuple's name
            continue
        field = None if inner is None else inner.model_fields.get(part)
        kinds = () if field is None else (field.annotation, *get_args(field.annotation))
        inner = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)
    return inner


def _hint(fault: Any) -> str:
    """Return the nearest known key for an unknown one, or the number met with its unit, in brackets; else ""."""
    model = _settings_at(fault["loc"][:-1])
    if model is None or not fault["loc"]:
        return ""
    key, value = str(fault["loc"][-1]), fault["input"]
    if fault["type"] == "extra_forbidden":
        near = get_close_matches(key, model.model_fields, n=1)
        known = f"did you mean {near[0]}?" if near else f"known keys are {', '.join(model.model_fields)}"
        return f" (unknown key; {known})"
    if key not in model.model_fields or isinstance(value, bool) or not isinstance(value, int | float):
        return ""
    if not abs(value) < _MOST_SHOWN:
        return ""
    unit = _UNITS.get(key.rpartition("_")[2], "")
    smaller = {"keV": "eV", "kV": "V"}.get(unit)
    is_smaller = smaller is not None and _is_allowed(value / 1000, model.model_fields[key])
    remedy = f"; is it in {smaller}? then {value / 1000:g}" if is_smaller else ""
    return f" (it is {value:g}{' ' if unit else ''}{unit}{remedy})"


def _is_allowed(value: float, field: Any) -> bool:
    try:
        TypeAdapter(Annotated[field.annotation, *field.metadata]).validate_python(value)
    except ValidationError:
        return False
    return True
