"""Simulate virtual twins: reflectance cubes of virtual panels whose X-ray scans are also simulated.

K/S of each pigment is measured; the scattering coefficient S is assumed (``names.toml``). A twin is simulated from one
half of the measured spectra. A twin must be classified with the other half (:func:`split_halves`), so that reference
and test data are separate.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from underpaint.errors import SampleError
from underpaint.physics.materials import Layer, Stratigraphy, library
from underpaint.reflectance.kubelka_munk import (
    film_reflectance,
    internal_reflectance,
    k_over_s_from_reflectance,
    measured_reflectance,
)
from underpaint.reflectance.library import ReferenceSpectrum, ReflectanceLibrary
from underpaint.reflectance.names import member_of, name_table
from underpaint.runtime.files import atomic_write

Floats = NDArray[np.float64]

WAVELENGTH_NM: Floats = np.arange(410.0, 991.0, 5.0)
"""Default bands of a twin."""
BOARD_REFLECTANCE = 0.3
"""Reflectance of the wooden board below the ground."""
GLOSS_LIMITS = (0.0, 0.03)
"""Specular reflectance at the left and at the right edge of the panel, with linear variation across the panel."""
LIGHT_AMPLITUDE = 0.05
"""Amplitude of the illumination's variation along each side of the panel, relative to its mean."""
CONCENTRATION_SPREAD = 0.05
"""Standard deviation, over the pixels, of the logarithm of a pigment's concentration."""
NOISE = 0.003
"""Standard deviation of the reflectance noise in one band of one pixel."""
COLOURLESS_PIGMENTS = ("sodium_arsenite",)
"""Pigments that lack a measured spectrum and are simulated as white."""
SCALE_FACTOR = 10_000
"""Stored value of a reflectance of 1."""


@dataclass(frozen=True, eq=False)
class Twin:
    """A simulated reflectance cube of a virtual panel.

    Parameters
    ----------
    reflectance : (row, column, n_band) float32 array
        Reflectance as a fraction. ``magnification`` x ``magnification`` pixels cover one pixel of the X-ray scan.
    wavelength_nm : (n_band,) array
        Wavelengths of the bands.
    source_patches : tuple of str
        Identifiers of the patches whose measured spectra were used.
    """

    reflectance: NDArray[np.float32]
    wavelength_nm: Floats
    source_patches: tuple[str, ...]


def split_halves(spectra: ReflectanceLibrary) -> tuple[ReflectanceLibrary, ReflectanceLibrary]:
    """Split a library into two halves without a common patch. Pigments measured on two paints are in both halves.

    The first half contains all spectra from the source with the most spectra. For each pigment that this source lacks
    and several paints contain, the first half also contains the paint whose name is last in the alphabet. The second
    half contains all other spectra. All spectra of one paint (one tube) are in the same half.
    """
    pure_spectra = [spectrum for spectrum in spectra.spectra if spectrum.member and spectrum.pure]
    spectrum_sources = [spectrum.source for spectrum in pure_spectra]
    largest_source = max(set(spectrum_sources), key=spectrum_sources.count)
    members_of_largest_source = {spectrum.member for spectrum in pure_spectra if spectrum.source == largest_source}
    paints_by_member: dict[str, list[str]] = {}
    for spectrum in pure_spectra:
        if spectrum.member not in members_of_largest_source:
            paints_by_member.setdefault(spectrum.member, []).append(_paint_of(spectrum))
    # the paint with the last name is from USGS rather than REVIGO; the longer REVIGO series stay in the second half
    first_half_paints = {
        member: sorted(set(paint_names))[-1]
        for member, paint_names in paints_by_member.items()
        if len(set(paint_names)) > 1
    }

    def is_in_first_half(spectrum: ReferenceSpectrum) -> bool:
        return spectrum.source == largest_source or (
            spectrum.pure and bool(spectrum.member) and first_half_paints.get(spectrum.member) == _paint_of(spectrum)
        )

    # mixtures made from a paint are put in the same half as the paint
    first_half_paint_names = {_paint_of(spectrum) for spectrum in spectra.spectra if is_in_first_half(spectrum)}
    first_half_mask = [
        spectrum.source == largest_source or _paint_of(spectrum) in first_half_paint_names
        for spectrum in spectra.spectra
    ]
    return spectra.subset(first_half_mask), spectra.subset([not is_in_first for is_in_first in first_half_mask])


def _paint_of(spectrum: ReferenceSpectrum) -> str:
    """Return the identifier of a patch's paint. REVIGO's patches 14A to 14F, for example, are of one paint."""
    return spectrum.patch[:9] if spectrum.patch.startswith("revigo") else spectrum.patch


def panel_reflectance(
    stratigraphies: Sequence[Stratigraphy],
    shape: tuple[int, int],
    spectra: ReflectanceLibrary,
    *,
    wavelength_nm: ArrayLike = WAVELENGTH_NM,
    magnification: int = 2,
    seed: int = 0,
) -> Twin:
    """Simulate the reflectance cube of a virtual panel.

    Parameters
    ----------
    stratigraphies : sequence of Stratigraphy
        Layers of each pixel. The pixels are listed row by row.
    shape : (int, int)
        Numbers of rows and columns of the panel.
    spectra : ReflectanceLibrary
        Library from which one patch with pure spectra is drawn at random for each pigment.
    wavelength_nm : (n_band,) array
        Wavelengths of the bands.
    magnification : int
        Number of cube pixels along the side of one X-ray scan pixel.
    seed : int
        Seed of the random numbers: choice of patches, illumination, concentration and noise.

    Returns
    -------
    Twin

    Raises
    ------
    SampleError
        The library has no spectrum of a pigment of the panel.
    """
    rng = np.random.default_rng(seed)
    wavelength = np.asarray(wavelength_nm, dtype=np.float64)
    pigment_names = sorted(
        {name for stratigraphy in stratigraphies for layer in stratigraphy.layers for name in layer.pigments}
    )
    spectrum_of = {name: _draw_spectrum(name, spectra, rng) for name in pigment_names}
    k_over_s = {name: _k_over_s(spectrum, wavelength) for name, spectrum in spectrum_of.items()}
    pixel_spectra = np.empty((len(stratigraphies), wavelength.size))
    for index, stratigraphy in enumerate(stratigraphies):
        backing: Floats = np.full(wavelength.size, BOARD_REFLECTANCE)
        for layer in reversed(stratigraphy.layers):
            absorption, scattering = _layer_optics(layer, k_over_s, rng)
            backing = film_reflectance(absorption * layer.thickness_um, scattering * layer.thickness_um, backing)
        pixel_spectra[index] = backing
    cube = pixel_spectra.reshape(*shape, -1).repeat(magnification, axis=0).repeat(magnification, axis=1)
    n_row, n_column = cube.shape[:2]
    column_fraction, row_fraction = np.linspace(0, 1, n_column)[None, :, None], np.linspace(0, 1, n_row)[:, None, None]
    gloss = GLOSS_LIMITS[0] + (GLOSS_LIMITS[1] - GLOSS_LIMITS[0]) * column_fraction
    phase = rng.uniform(0, 2 * np.pi, size=2)
    illumination = 1.0 + LIGHT_AMPLITUDE * (
        np.sin(2 * np.pi * column_fraction + phase[0]) + np.sin(2 * np.pi * row_fraction + phase[1])
    )
    noisy_reflectance = illumination * measured_reflectance(cube, gloss) + rng.normal(0.0, NOISE, size=cube.shape)
    source_patches = tuple(sorted({spectrum.patch for spectrum in spectrum_of.values() if spectrum is not None}))
    return Twin(np.maximum(noisy_reflectance, 0.0).astype(np.float32), wavelength, source_patches)


def _draw_spectrum(name: str, spectra: ReflectanceLibrary, rng: np.random.Generator) -> ReferenceSpectrum | None:
    candidate_spectra = [spectrum for spectrum in spectra.spectra if spectrum.pure and spectrum.pigment == name]
    candidate_spectra = candidate_spectra or [
        spectrum for spectrum in spectra.spectra if spectrum.pure and spectrum.member == member_of(name)
    ]
    if not candidate_spectra:
        if name in COLOURLESS_PIGMENTS:
            return None
        raise SampleError(
            f"Cannot simulate {library()[name].label}: none of the {len(spectra)} spectra is of this pigment. Add a "
            "spectrum to the library."
        )
    patch = rng.choice(sorted({spectrum.patch for spectrum in candidate_spectra}))
    # a white backing shows through a film, so the darkest spectrum is the closest to that of an opaque paint
    return min(
        (spectrum for spectrum in candidate_spectra if spectrum.patch == patch),
        key=lambda spectrum: float(spectrum.reflectance.mean()),
    )


def _k_over_s(spectrum: ReferenceSpectrum | None, wavelength: Floats) -> Floats:
    """Return the K/S of an opaque paint. Outside the measured wavelengths, K/S is assumed to be constant."""
    if spectrum is None:
        return np.full(wavelength.size, 1e-3)
    gloss = min(0.03, 0.8 * float(spectrum.reflectance.min()))
    opaque_k_over_s = k_over_s_from_reflectance(internal_reflectance(spectrum.reflectance, gloss))
    if spectrum.absorption is not None and spectrum.scattering is not None:
        film_k_over_s = spectrum.absorption / spectrum.scattering
        opaque_k_over_s = np.where(np.isfinite(film_k_over_s), film_k_over_s, opaque_k_over_s)
    return np.asarray(np.interp(wavelength, spectrum.wavelength_nm, opaque_k_over_s))


def _layer_optics(layer: Layer, k_over_s: Mapping[str, Floats], rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Return K and S of a layer, in 1/um: means over its pigments, weighted by volume."""
    scattering_table = name_table()["scattering_per_um"]
    pigment_volumes = {
        name: volume_fraction / library()[name].density
        for name, volume_fraction in layer.pigments.items()
        if volume_fraction > 0
    }
    total_volume = sum(pigment_volumes.values())
    scattering = np.full(next(iter(k_over_s.values())).size, 1e-4)
    absorption = np.zeros_like(scattering)
    for name, pigment_volume in pigment_volumes.items():
        volume_fraction = pigment_volume / total_volume * rng.lognormal(0.0, CONCENTRATION_SPREAD)
        pigment_scattering = volume_fraction * scattering_table.get(
            name, scattering_table.get(member_of(name), scattering_table["other"])
        )
        scattering = scattering + pigment_scattering
        absorption = absorption + pigment_scattering * k_over_s[name]
    return absorption, scattering


def save_twin(twin: Twin, path: str | Path, *, overwrite: bool = False) -> Path:
    """Write a twin as an ENVI cube of reflectance times 10,000, and return the path of the header.

    Raises
    ------
    OutputError
        The header or data file exists and ``overwrite`` is false, or a file cannot be written.
    """
    header = Path(path).with_suffix(".hdr")
    stored_values = np.round(np.clip(twin.reflectance * SCALE_FACTOR, 0, 65_535)).astype("<u2")
    n_row, n_column, n_band = stored_values.shape
    with atomic_write(header.with_suffix(".img"), replace=overwrite) as draft_path:
        draft_path.write_bytes(np.ascontiguousarray(stored_values.transpose(0, 2, 1)).tobytes())
    wavelengths = ", ".join(f"{wavelength_nm:g}" for wavelength_nm in twin.wavelength_nm)
    header_lines = [
        "ENVI",
        f"description = {{A virtual panel, not a measurement; drawn from {'; '.join(twin.source_patches)}}}",
        f"samples = {n_column}",
        f"lines = {n_row}",
        f"bands = {n_band}",
        "header offset = 0",
        "file type = ENVI Standard",
        "data type = 12",
        "interleave = bil",
        "byte order = 0",
        f"reflectance scale factor = {SCALE_FACTOR}",
        "wavelength units = Nanometers",
        f"wavelength = {{{wavelengths}}}",
    ]
    with atomic_write(header, replace=overwrite) as draft_path:
        draft_path.write_text("\n".join(header_lines) + "\n", encoding="ascii", errors="replace")
    return header
