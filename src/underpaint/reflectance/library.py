"""Measured reflectance spectra of pigments with their provenance."""

import io
import json
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from underpaint.errors import ScanError
from underpaint.reflectance.hypotheses import BLACK, WHITES
from underpaint.reflectance.names import member_of, pigment_of, pigments_in
from underpaint.reflectance.tables import read_table
from underpaint.runtime.files import atomic_write
from underpaint.runtime.untrusted import read_bounded

MAX_BYTES = 256 * 2**20
STORED_STEP = 1e-4
"""Reflectance is stored as an integer multiple of this."""
FORMAT = "underpaint reflectance library 1"


@dataclass(frozen=True, eq=False)
class ReferenceSpectrum:
    """One measured spectrum.

    Parameters
    ----------
    name : str
        Name in the source.
    pigment : str
        Key in the pigment library (:func:`underpaint.physics.materials.library`). For a mixture, the pigment that gives
        the colour. "" if the spectrum is of no pigment of the library; such a spectrum counts for the answer "none of
        these".
    wavelength_nm : (n_band,) array
        Increasing.
    reflectance : (n_band,) array
        Fractions.
    source, licence : str
        Citation, and the licence under which the spectrum may be redistributed.
    patch : str
        Identifier of the painted patch. Spectra of one patch are not independent of each other.
    shade : str
        View of the patch: ``1`` to ``4`` from black to white backing, ``on white``, ...
    medium : str
        Binder or "powder"; "" if unknown.
    shares : mapping of str to float
        Mass fraction of each pigment in the dry paint; a single entry if the source states no mixture.
    absorption, scattering : (n_band,) array or None
        Kubelka-Munk K and S times the film thickness, if the film was measured on two or more backings; NaN in bands
        where the film is opaque.
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
        """Member of the pigment (:func:`underpaint.reflectance.names.member_of`); "" without a known pigment."""
        return member_of(self.pigment) if self.pigment else ""

    @property
    def pure(self) -> bool:
        """Whether the spectrum is of a single pigment rather than of a mixture."""
        return len(self.shares) < 2


@dataclass(frozen=True, eq=False)
class ReflectanceLibrary:
    """An immutable sequence of reference spectra.

    Parameters
    ----------
    spectra : tuple of ReferenceSpectrum
    notes : tuple of str
        Changes made while reading a file: scaling, sorting, excluded spectra.

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
        """Members that have at least one pure spectrum, sorted by name."""
        return tuple(sorted({spectrum.member for spectrum in self.spectra if spectrum.member and spectrum.pure}))

    @property
    def sources(self) -> tuple[str, ...]:
        """Citations of the sources with their licences, without duplicates."""
        return tuple(
            dict.fromkeys(f"{spectrum.source} ({spectrum.licence})" for spectrum in self.spectra if spectrum.source)
        )

    def subset(self, keep: Iterable[bool]) -> "ReflectanceLibrary":
        """Return a library of the spectra for which ``keep`` is true."""
        return replace(
            self,
            spectra=tuple(spectrum for spectrum, is_included in zip(self.spectra, keep, strict=True) if is_included),
        )

    def with_spectra(self, more: "ReflectanceLibrary | Sequence[ReferenceSpectrum]") -> "ReflectanceLibrary":
        """Return a library with additional spectra and the notes of both."""
        added_library = more if isinstance(more, ReflectanceLibrary) else ReflectanceLibrary(tuple(more))
        return ReflectanceLibrary((*self.spectra, *added_library.spectra), (*self.notes, *added_library.notes))

    def save(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Write the library with its provenance to an ``.npz`` file that :func:`read` reads.

        Raises
        ------
        OutputError
            The file exists and ``overwrite`` is false, or it cannot be written.
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
    """Return the library included in the package; ``docs/explanations/reflectance.md`` lists the sources."""
    packed_bytes = (files("underpaint.reflectance") / "data" / "library.npz").read_bytes()
    return _unpack(packed_bytes, "the library of the package")


def read(path: str | Path) -> ReflectanceLibrary:
    """Read a library from a CSV file, an ENVI spectral library or a file of :meth:`ReflectanceLibrary.save`.

    A CSV file contains one spectrum per column, with the wavelengths in the first column and the names in the first
    row, or the transposed table. Wavelengths may be in nm, um or cm-1 and in any order; reflectance may be a fraction
    or per cent. Conversions are listed in ``notes``. The pigment is determined from the name of the spectrum
    (:func:`underpaint.reflectance.names.pigment_of`). A name such as "azurite + lead white" denotes a mixture, for
    which equal mass fractions are assumed. Each spectrum counts as a separate patch, but names ``patch#shade`` with the
    same ``patch`` belong to one patch.

    Raises
    ------
    ScanError
        The file cannot be read, has none of these formats, or contains no usable spectrum.
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
