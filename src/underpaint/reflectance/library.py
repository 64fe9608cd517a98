"""Measured reflectance spectra of pigments, their provenance, and readers of tables and spectral libraries."""

import csv
import io
import json
import re
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from underpaint.errors import ScanError
from underpaint.io.cubes._wavelengths import WAVENUMBER, find_unit, to_nm
from underpaint.reflectance.hypotheses import BLACK, WHITES
from underpaint.reflectance.names import member_of, pigment_of, pigments_in
from underpaint.runtime.files import atomic_write
from underpaint.runtime.untrusted import fault_of_name, read_bounded

MAX_TABLE_BYTES = 256 * 2**20
MAX_WAVELENGTH_UM = 100.0
"""Wavelengths without a unit are assumed to be in um if none exceeds this number, otherwise in nm."""
MIN_WAVELENGTH_NM, MAX_WAVELENGTH_NM = 100.0, 100_000.0
MAX_FRACTION, MAX_PER_CENT = 2.0, 200.0
"""Limits of the 98th percentile of the values in a file. Up to the first limit, the values are taken as fractions; up
to the second, as per cent; above, as reflectance times 10,000."""


@dataclass(frozen=True)
class SpectrumTable:
    """Spectra with the same wavelengths.

    Parameters
    ----------
    names : tuple of str
    wavelength_nm : (n_band,) array
        Wavelengths in increasing order, without repetitions.
    reflectance : (n, n_band) array
        Fractions; NaN where the file has no usable value.
    notes : tuple of str
        Notes for the user on changes and assumptions made while reading.
    """

    names: tuple[str, ...]
    wavelength_nm: NDArray[np.float64]
    reflectance: NDArray[np.float64]
    notes: tuple[str, ...] = ()


def read_table(path: Path) -> SpectrumTable:
    """Read a CSV file (separated by commas, semicolons or tabs) or an ENVI spectral library (header or data file).

    Raises
    ------
    ScanError
        The file cannot be read, is neither CSV nor ENVI, or contains invalid wavelengths or no reflectance.
    """
    header = _find_envi_header(path)
    notes: list[str] = []
    names, wavelength, reflectance, unit_text = _read_envi(header, path) if header else _read_csv(path, notes)
    if wavelength.size < 2 or not np.isfinite(wavelength).all() or (wavelength <= 0).any():
        raise ScanError(
            f"Cannot read {path}: it has {wavelength.size} wavelengths, {int((wavelength > 0).sum())} of them positive "
            "numbers; at least two are needed, all of them positive. Correct the column or row of wavelengths."
        )
    for name in names:
        if name_fault := fault_of_name(name):
            raise ScanError(
                f"Cannot read {path}: a spectrum's name is not usable: {name_fault}. Correct the name in the file."
            )
    wavelength_unit = find_unit(unit_text)
    if not wavelength_unit:
        wavelength_unit = "um" if wavelength.max() <= MAX_WAVELENGTH_UM else "nm"
        notes.append(f"{path.name}: wavelengths without a unit are assumed to be in {wavelength_unit}")
    file_wavelength, wavelength = wavelength, to_nm(wavelength, wavelength_unit)
    if not np.array_equal(file_wavelength, wavelength):
        notes.append(
            f"{path.name}: {'wavenumbers' if wavelength_unit == WAVENUMBER else 'wavelengths'} converted to nm"
        )
    if wavelength.max() > MAX_WAVELENGTH_NM or wavelength.min() < MIN_WAVELENGTH_NM:
        raise ScanError(
            f"Cannot read {path}: its wavelengths run from {wavelength.min():g} to {wavelength.max():g} nm; those of "
            f"reflectance spectra lie between {MIN_WAVELENGTH_NM:g} and {MAX_WAVELENGTH_NM:,.0f} nm. Correct the "
            "wavelengths or their unit (nm, um or cm-1)."
        )
    reflectance, divisor = _as_fractions(reflectance, path)
    if divisor != 1.0:
        notes.append(f"{path.name}: reflectance divided by {divisor:g}")
    wavelength_order = np.argsort(wavelength, kind="stable")
    if (np.diff(wavelength) <= 0).any():
        notes.append(f"{path.name}: spectra sorted by wavelength; values of repeated wavelengths averaged")
    unique_wavelengths, unique_index = np.unique(wavelength, return_inverse=True)
    if unique_wavelengths.size < wavelength.size:
        with np.errstate(invalid="ignore"):
            is_finite = np.isfinite(reflectance)
            n_finite = np.stack(
                [np.bincount(unique_index, row, unique_wavelengths.size) for row in is_finite.astype(float)]
            )
            reflectance_sum = np.stack(
                [
                    np.bincount(unique_index, row, unique_wavelengths.size)
                    for row in np.where(is_finite, reflectance, 0.0)
                ]
            )
            reflectance = np.where(n_finite > 0, reflectance_sum / np.maximum(n_finite, 1), np.nan)
    else:
        reflectance = reflectance[:, wavelength_order]
    return SpectrumTable(tuple(names), unique_wavelengths, reflectance, tuple(notes))


def _as_fractions(reflectance: NDArray[np.float64], path: Path) -> tuple[NDArray[np.float64], float]:
    """Return the reflectance as fractions, and the divisor of the values. Impossible reflectances become NaN."""
    reflectance = np.where(np.isfinite(reflectance) & (reflectance > -1e4) & (reflectance < 1e6), reflectance, np.nan)
    if not np.isfinite(reflectance).any():
        raise ScanError(
            f"Cannot read {path}: it holds no reflectance (0 to 1, 0 to 100 per cent, or 0 to 10,000). Check the file."
        )
    high_percentile = float(np.nanpercentile(reflectance, 98))
    divisor = 1.0 if high_percentile <= MAX_FRACTION else 100.0 if high_percentile <= MAX_PER_CENT else 10_000.0
    reflectance = reflectance / divisor
    return np.where((reflectance > -0.1) & (reflectance < MAX_FRACTION), reflectance, np.nan), divisor


def _read_csv(path: Path, notes: list[str]) -> tuple[list[str], NDArray[np.float64], NDArray[np.float64], str]:
    """Return names, wavelengths, values and the header cell with the unit. Assumptions are appended to ``notes``."""
    file_bytes = read_bounded(path, MAX_TABLE_BYTES, ScanError)
    if b"\0" in file_bytes[:4096]:
        raise ScanError(
            f"Cannot read {path} as a table of spectra: it is a binary file. Give CSV with names and wavelengths, or "
            "an ENVI spectral library (.hdr beside .sli)."
        )
    file_text = file_bytes.decode("utf-8-sig", errors="replace")
    delimiter = max("\t;,", key=file_text[:20_000].count)
    rows = [
        [cell.strip() for cell in row] for row in csv.reader(file_text.splitlines(), delimiter=delimiter) if any(row)
    ]
    rows = [row for row in rows if row and not row[0].startswith("#")]
    if len(rows) < 2 or len(rows[0]) < 2:
        raise ScanError(
            f"Cannot read {path} as a table of spectra: it has {len(rows)} rows of {len(rows[0]) if rows else 0} "
            "columns. Put wavelengths in the first column and a named spectrum in each further one, or the same by "
            "rows."
        )
    max_columns = max(map(len, rows))
    cells = [row + [""] * (max_columns - len(row)) for row in rows]
    has_decimal_comma = delimiter != ","
    if has_decimal_comma and any(re.fullmatch(r"[-+]?\d*,\d+\s*%?", cell) for row in cells for cell in row):
        notes.append(f"{path.name}: decimal commas read as points")
    first_row = [_parse_number(cell, has_decimal_comma=has_decimal_comma) for cell in cells[0][1:]]
    first_column = [_parse_number(row[0], has_decimal_comma=has_decimal_comma) for row in cells[1:]]
    if np.isfinite(first_row).all() and not np.isfinite(first_column).all():
        notes.append(f"{path.name}: the first row is assumed to contain the wavelengths")
        names, wavelength = [row[0] for row in cells[1:]], np.asarray(first_row)
        row_values = [
            [_parse_number(cell, has_decimal_comma=has_decimal_comma) for cell in row[1:]] for row in cells[1:]
        ]
        return names, wavelength, np.asarray(row_values), cells[0][0]
    if not np.isfinite(first_column).any():
        raise ScanError(
            f"Cannot read {path} as a table of spectra: neither its first row nor its first column holds wavelengths. "
            "Put wavelengths in the first column and a named spectrum in each further column, or the same in rows."
        )
    if not re.search(r"wave|lambda|λ|nm|[uµμ]m|cm", cells[0][0].casefold()):
        notes.append(f"{path.name}: the first column, {cells[0][0][:40]!r}, is assumed to contain the wavelengths")
    spectrum_rows = [
        row for row, wavelength_value in zip(cells[1:], first_column, strict=True) if np.isfinite(wavelength_value)
    ]
    wavelength = np.asarray([wavelength_value for wavelength_value in first_column if np.isfinite(wavelength_value)])
    reflectance = np.asarray(
        [[_parse_number(cell, has_decimal_comma=has_decimal_comma) for cell in row[1:]] for row in spectrum_rows]
    ).T
    names = [cell or f"column {column_number}" for column_number, cell in enumerate(cells[0][1:], 2)]
    return names, wavelength, reflectance, cells[0][0]


def _parse_number(cell: str, *, has_decimal_comma: bool) -> float:
    cell = cell.strip("% ")
    cell = re.sub(r"\s*(nm|um|µm|μm)$", "", cell)
    if has_decimal_comma:
        cell = cell.replace(",", ".")
    try:
        return float(cell)
    except ValueError:
        return float("nan")


def _find_envi_header(path: Path) -> Path | None:
    """Return the path of the ENVI header that ``path`` is, or that belongs to it; None if there is no header."""
    for candidate in (path, path.with_suffix(".hdr"), path.with_name(path.name + ".hdr")):
        if candidate.is_file():
            with candidate.open("rb") as file:
                if file.read(4) == b"ENVI":
                    return candidate
    return None


def _read_envi(header: Path, path: Path) -> tuple[list[str], NDArray[np.float64], NDArray[np.float64], str]:
    header_entries = envi_entries(read_bounded(header, MAX_TABLE_BYTES, ScanError).decode("utf-8", errors="replace"))
    try:
        n_band, n_spectrum = int(header_entries["samples"]), int(header_entries["lines"])
        numpy_types = {"1": "u1", "2": "i2", "3": "i4", "4": "f4", "5": "f8", "12": "u2", "13": "u4"}
        dtype = np.dtype(
            (">" if header_entries.get("byte order", "0") == "1" else "<") + numpy_types[header_entries["data type"]]
        )
        offset_bytes = int(header_entries.get("header offset", "0"))
        scale = float(header_entries.get("reflectance scale factor", "1"))
        wavelength = np.asarray([float(cell) for cell in header_entries["wavelength"].split(",")])
        if min(n_band, n_spectrum) < 1 or wavelength.size != n_band or offset_bytes < 0 or not scale > 0:
            raise ValueError(f"{n_spectrum} spectra of {n_band} bands, {wavelength.size} wavelengths")
    except (KeyError, ValueError) as error:
        raise ScanError(
            f"Cannot read {header}: the header of the spectral library is incomplete ({str(error)[:100]}). The header "
            "needs samples, lines, data type and wavelength; export it again."
        ) from error
    data_path = next((candidate for candidate in _data_file_candidates(header, path) if candidate.is_file()), None)
    if data_path is None:
        raise ScanError(
            f"Cannot read {header}: its data file is missing. Copy {header.with_suffix('.sli').name} beside it."
        )
    file_bytes = read_bounded(data_path, MAX_TABLE_BYTES, ScanError)
    if len(file_bytes) - offset_bytes < n_band * n_spectrum * dtype.itemsize:
        raise ScanError(
            f"Cannot read {data_path}: it has {len(file_bytes)} bytes, too few for {n_spectrum} spectra of {n_band} "
            "bands. Copy it again."
        )
    stored_values = (
        np.frombuffer(file_bytes, dtype, n_band * n_spectrum, offset_bytes)
        .reshape(n_spectrum, n_band)
        .astype(np.float64)
    )
    if header_entries.get("data ignore value", "").casefold() not in {"", "nan"}:
        with suppress(ValueError):
            stored_values = np.where(stored_values == float(header_entries["data ignore value"]), np.nan, stored_values)
    names = [cell.strip() for cell in header_entries.get("spectra names", "").split(",")]
    if len(names) != n_spectrum:
        names = [f"spectrum {index + 1}" for index in range(n_spectrum)]
    return names, wavelength, stored_values / scale, header_entries.get("wavelength units", "")


def _data_file_candidates(header: Path, path: Path) -> list[Path]:
    candidates = [header.with_suffix(extension) for extension in (".sli", ".SLI", ".slb", ".lib", ".dat", ".img", "")]
    return [*([path] if path != header else []), *candidates]


def envi_entries(header_text: str) -> dict[str, str]:
    """Return the entries of an ENVI header. Keys are in lower case, and values have no braces."""
    entries_by_key = {}
    for key, braced_value, plain_value in re.findall(
        r"(?m)^\s*([^=\n{}]+?)\s*=\s*(?:\{([^}]*)\}|([^\n{]*))", header_text
    ):
        entries_by_key[key.casefold()] = " ".join((braced_value or plain_value).split())
    return entries_by_key


MAX_BYTES = 256 * 2**20
STORED_STEP = 1e-4
"""Reflectance is stored as an integer multiple of this step."""
FORMAT = "underpaint reflectance library 1"


@dataclass(frozen=True, eq=False)
class ReferenceSpectrum:
    """One measured spectrum.

    Parameters
    ----------
    name : str
        Name of the spectrum in its source.
    pigment : str
        Key in the pigment library (:func:`underpaint.physics.materials.library`). For a mixture, the pigment that
        determines the colour. "" if the library lacks the pigment; such a spectrum supports the answer "none of these".
    wavelength_nm : (n_band,) array
        Wavelengths, increasing.
    reflectance : (n_band,) array
        Reflectance as a fraction.
    source, licence : str
        Citation of the source, and the licence under which the spectrum may be redistributed.
    patch : str
        Identifier of the painted patch. Spectra from the same patch are not independent of each other.
    shade : str
        Identifier of one measurement of the patch: ``1`` to ``4`` from black to white backing, ``on white``, ...
    medium : str
        Binder or "powder"; "" if unknown.
    shares : mapping of str to float
        Mass fraction of each pigment in the dry paint. There is a single entry if the source states no mixture.
    absorption, scattering : (n_band,) array or None
        Kubelka-Munk K and S, each times the film thickness. NaN in bands where the film is opaque; None unless the film
        was measured on two or more backings.
    """

    name: str
    pigment: str
    wavelength_nm: NDArray[np.float64]
    reflectance: NDArray[np.float64]
    source: str = ""
    licence: str = ""
    patch: str = ""
    shade: str = ""
    medium: str = ""
    shares: Mapping[str, float] = field(default_factory=dict)
    absorption: NDArray[np.float64] | None = None
    scattering: NDArray[np.float64] | None = None

    @property
    def member(self) -> str:
        """Member of the pigment (:func:`underpaint.reflectance.names.member_of`); "" if the pigment is unknown."""
        return member_of(self.pigment) if self.pigment else ""

    @property
    def pure(self) -> bool:
        """Whether the spectrum is that of a single pigment, not of a mixture."""
        return len(self.shares) < 2


@dataclass(frozen=True, eq=False)
class ReflectanceLibrary:
    """An immutable sequence of reference spectra.

    Parameters
    ----------
    spectra : tuple of ReferenceSpectrum
    notes : tuple of str
        Notes on changes made while reading a file: scaling, sorting, excluded spectra.

    Examples
    --------
    >>> library = builtin()
    >>> "azurite" in library.members
    True
    """

    spectra: tuple[ReferenceSpectrum, ...]
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "spectra", tuple(self.spectra))

    def __len__(self) -> int:
        return len(self.spectra)

    @cached_property
    def members(self) -> tuple[str, ...]:
        """Names of the members that have at least one pure spectrum, sorted."""
        return tuple(sorted({spectrum.member for spectrum in self.spectra if spectrum.member and spectrum.pure}))

    @property
    def sources(self) -> tuple[str, ...]:
        """Citations of the sources and their licences, without duplicates."""
        return tuple(
            dict.fromkeys(f"{spectrum.source} ({spectrum.licence})" for spectrum in self.spectra if spectrum.source)
        )

    def subset(self, keep: Iterable[bool]) -> "ReflectanceLibrary":
        """Return a library of the spectra for which ``keep``, a value for each spectrum, is true."""
        return replace(
            self,
            spectra=tuple(spectrum for spectrum, is_included in zip(self.spectra, keep, strict=True) if is_included),
        )

    def with_spectra(self, more: "ReflectanceLibrary | Sequence[ReferenceSpectrum]") -> "ReflectanceLibrary":
        """Return this library, extended by the spectra and notes of ``more``."""
        added_library = more if isinstance(more, ReflectanceLibrary) else ReflectanceLibrary(tuple(more))
        return ReflectanceLibrary((*self.spectra, *added_library.spectra), (*self.notes, *added_library.notes))

    def save(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Write the spectra and their provenance to an ``.npz`` file, which :func:`read` can read.

        Raises
        ------
        OutputError
            The file exists and ``overwrite`` is false, or the file cannot be written.
        """
        indices_by_grid: dict[bytes, list[int]] = {}
        for index, spectrum in enumerate(self.spectra):
            indices_by_grid.setdefault(spectrum.wavelength_nm.tobytes(), []).append(index)
        arrays: dict[str, NDArray[np.generic]] = {}
        for grid_number, indices in enumerate(indices_by_grid.values()):
            grid_spectra = [self.spectra[index] for index in indices]
            arrays[f"index_{grid_number}"] = np.asarray(indices, dtype=np.int32)
            arrays[f"wavelength_nm_{grid_number}"] = grid_spectra[0].wavelength_nm
            stored_values = np.round(np.stack([spectrum.reflectance for spectrum in grid_spectra]) / STORED_STEP)
            arrays[f"reflectance_{grid_number}"] = np.clip(stored_values, -32767, 32767).astype(np.int16)
            film_positions = [
                position for position, spectrum in enumerate(grid_spectra) if spectrum.absorption is not None
            ]
            arrays[f"film_{grid_number}"] = np.asarray(film_positions, dtype=np.int32)
            optics = [
                (grid_spectra[position].absorption, grid_spectra[position].scattering) for position in film_positions
            ]
            shape = (len(film_positions), 2, grid_spectra[0].wavelength_nm.size)
            arrays[f"film_optics_{grid_number}"] = np.asarray(optics, dtype=np.float16).reshape(shape)
        text_record = {
            "format": FORMAT,
            "notes": list(self.notes),
            "spectra": [_text_record(spectrum) for spectrum in self.spectra],
        }
        arrays["texts"] = np.frombuffer(json.dumps(text_record).encode(), dtype=np.uint8)
        with atomic_write(path, replace=overwrite) as draft_path, draft_path.open("wb") as file:
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
        return Path(path)


@lru_cache(maxsize=1)
def builtin() -> ReflectanceLibrary:
    """Return the library included in the package. ``docs/explanations/reflectance.md`` lists its sources."""
    packed_bytes = (files("underpaint.reflectance") / "data" / "library.npz").read_bytes()
    return _unpack(packed_bytes, "the library of the package")


def read(path: str | Path) -> ReflectanceLibrary:
    """Read a library from a CSV file, an ENVI spectral library or a file of :meth:`ReflectanceLibrary.save`.

    A CSV file contains one spectrum per column; the first column holds the wavelengths and the first row the names. The
    rows and columns of the table may be exchanged. Wavelengths may be in nm, um or cm-1, in any order. Reflectance may
    be a fraction or per cent. Conversions are listed in ``notes``. The name of a spectrum determines its pigment
    (:func:`underpaint.reflectance.names.pigment_of`). A name such as "azurite + lead white" denotes a mixture, whose
    mass fractions are assumed to be equal. Each spectrum counts as a separate patch, unless its name has the form
    ``patch#shade``. Spectra with the same ``patch`` belong to one patch.

    Raises
    ------
    ScanError
        The file cannot be read, is in none of these formats, or contains no usable spectrum.
    """
    path = Path(path)
    if path.suffix.lower() == ".npz":
        return _unpack(read_bounded(path, MAX_BYTES, ScanError), str(path))
    spectra_table = read_table(path)
    spectra, background_names = [], []
    for name, reflectance in zip(spectra_table.names, spectra_table.reflectance, strict=True):
        is_finite = np.isfinite(reflectance)
        if is_finite.sum() < 2:
            continue
        pigments = pigments_in(name)
        if len(pigments) < 2:
            pigments = tuple(filter(None, [pigment_of(name)]))
        coloured_pigments = [
            member_pigment for member_pigment in pigments if member_of(member_pigment) not in {*WHITES, BLACK}
        ]
        pigment = next(iter([*coloured_pigments, *pigments]), "")
        background_names += [] if pigment else [name]
        patch, _, shade = name.partition("#")
        spectra.append(
            ReferenceSpectrum(
                name=name,
                pigment=pigment,
                wavelength_nm=spectra_table.wavelength_nm[is_finite],
                reflectance=reflectance[is_finite],
                source=path.name,
                patch=f"{path.name}: {patch.strip()}",
                shade=shade.strip(),
                shares=MappingProxyType({member_pigment: 1 / len(pigments) for member_pigment in pigments}),
            )
        )
    if not spectra:
        raise ScanError(
            f"Cannot use {path}: none of its {len(spectra_table.names)} spectra has two usable values; reflectance is "
            "stored as 0 to 1, 0 to 100 per cent, or 0 to 10,000. Correct the file."
        )
    notes = spectra_table.notes
    if background_names:
        name_list = ", ".join(background_names[:5]) + (", ..." if len(background_names) > 5 else "")
        note = (
            f"{path.name}: {len(background_names)} names are of no known pigment and count as background: {name_list}"
        )
        notes = (*notes, note)
    return ReflectanceLibrary(tuple(spectra), notes)


_TEXT_FIELDS = ("name", "pigment", "source", "licence", "patch", "shade", "medium")


def _text_record(spectrum: ReferenceSpectrum) -> dict[str, object]:
    return {key: getattr(spectrum, key) for key in _TEXT_FIELDS} | {"shares": dict(spectrum.shares)}


def _unpack(packed_bytes: bytes, source_label: str) -> ReflectanceLibrary:
    try:
        with np.load(io.BytesIO(packed_bytes), allow_pickle=False) as arrays:
            text_record = json.loads(arrays["texts"].tobytes())
            if text_record["format"] != FORMAT:
                raise KeyError(text_record["format"])
            spectra: list[ReferenceSpectrum | None] = [None] * len(text_record["spectra"])
            grid_number = 0
            while f"index_{grid_number}" in arrays:
                wavelength = arrays[f"wavelength_nm_{grid_number}"].astype(np.float64)
                reflectance = arrays[f"reflectance_{grid_number}"] * STORED_STEP
                optics_by_position = dict(
                    zip(arrays[f"film_{grid_number}"].tolist(), arrays[f"film_optics_{grid_number}"], strict=True)
                )
                for position, index in enumerate(arrays[f"index_{grid_number}"].tolist()):
                    spectrum_record = text_record["spectra"][index]
                    optics = optics_by_position.get(position)
                    spectra[index] = ReferenceSpectrum(
                        **{key: str(spectrum_record[key]) for key in _TEXT_FIELDS},
                        shares=MappingProxyType(
                            {str(key): float(mass_fraction) for key, mass_fraction in spectrum_record["shares"].items()}
                        ),
                        wavelength_nm=wavelength,
                        reflectance=reflectance[position],
                        absorption=None if optics is None else optics[0].astype(np.float64),
                        scattering=None if optics is None else optics[1].astype(np.float64),
                    )
                grid_number += 1
    except (KeyError, ValueError, IndexError, TypeError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise ScanError(
            f"Cannot read {source_label}: it is not a reflectance library ({type(error).__name__}: "
            f"{str(error)[:100]}). Give a file written by `ReflectanceLibrary.save`, a CSV table or an ENVI spectral "
            "library."
        ) from error
    if any(spectrum is None for spectrum in spectra):
        raise ScanError(f"Cannot read {source_label}: it is incomplete. Copy or save the file again.")
    return ReflectanceLibrary(
        tuple(spectrum for spectrum in spectra if spectrum), tuple(map(str, text_record["notes"]))
    )
