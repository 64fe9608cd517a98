"""Virtual twins: the reflectance of a virtual panel's stratigraphies, beside their simulated X-ray scan.

K/S of every pigment is measured; how much it scatters is assumed (``names.toml``). A twin is drawn from one part of the
measured spectra and must be read with another (:func:`halves`), so that nothing is tested on itself.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from underpaint.errors import SampleError
from underpaint.physics.materials import Layer, Stratigraphy, library
from underpaint.reflectance.kubelka_munk import film, inside_the_paint, ratio, through_the_surface
from underpaint.reflectance.library import ReferenceSpectrum, ReflectanceLibrary
from underpaint.reflectance.names import member_of, name_table
from underpaint.runtime.files import atomic_write

Floats = NDArray[np.float64]

WAVELENGTH_NM: Floats = np.arange(410.0, 991.0, 5.0)
SUPPORT = 0.3
"""Reflectance of the board below the ground."""
GLOSS = (0.0, 0.03)
"""Range of the specular light that reaches the camera, from one side of the panel to the other."""
LIGHT_SPREAD = 0.05
"""How unevenly the panel is lit: relative, standard deviation of a slow change."""
CONCENTRATION_SPREAD = 0.05
NOISE = 0.003
"""Standard deviation of a pixel, in reflectance."""
COLOURLESS = ("sodium_arsenite",)
"""Pigments without a measured spectrum that are taken as white."""
SCALE_FACTOR = 10_000


@dataclass(frozen=True, eq=False)
class Twin:
    """A virtual cube.

    Parameters
    ----------
    reflectance : (row, column, n_band) float32 array
        Each pixel of the X-ray scan is ``magnification`` x ``magnification`` pixels.
    wavelength_nm : (n_band,) array
    drawn_from : tuple of str
        Patches whose spectra made it.
    """

    reflectance: NDArray[np.float32]
    wavelength_nm: Floats
    drawn_from: tuple[str, ...]


def halves(spectra: ReflectanceLibrary) -> tuple[ReflectanceLibrary, ReflectanceLibrary]:
    """Divide a library into two that share no patch and both have every pigment that was measured twice.

    The first has the set with the most spectra; of a pigment that is not in it, the patches that come first by name,
    and the second the others. A patch of one physical paint (a tube) is never divided.
    """
    pure = [spectrum for spectrum in spectra.spectra if spectrum.member and spectrum.pure]
    sources = [spectrum.source for spectrum in pure]
    largest = max(set(sources), key=sources.count)
    in_largest = {spectrum.member for spectrum in pure if spectrum.source == largest}
    tubes: dict[str, list[str]] = {}
    for spectrum in pure:
        if spectrum.member not in in_largest:
            tubes.setdefault(spectrum.member, []).append(_tube(spectrum))
    # the last by name: USGS before REVIGO's second tube, so that the rest keeps the longer series
    first = {member: sorted(set(names))[-1] for member, names in tubes.items() if len(set(names)) > 1}

    def in_first(spectrum: ReferenceSpectrum) -> bool:
        return spectrum.source == largest or (
            spectrum.pure and bool(spectrum.member) and first.get(spectrum.member) == _tube(spectrum)
        )

    # mixtures of a tube go with it
    chosen_tubes = {_tube(spectrum) for spectrum in spectra.spectra if in_first(spectrum)}
    choice = [spectrum.source == largest or _tube(spectrum) in chosen_tubes for spectrum in spectra.spectra]
    return spectra.subset(choice), spectra.subset([not chosen for chosen in choice])


def _tube(spectrum: ReferenceSpectrum) -> str:
    """Return what a patch is a sample of: REVIGO's patches 14A to 14F are of one tube."""
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
    """Return the virtual cube of a panel.

    Parameters
    ----------
    stratigraphies : sequence of Stratigraphy
        Of each pixel, row by row, with the pigments of their layers.
    shape : (int, int)
        Rows and columns of the panel.
    spectra : ReflectanceLibrary
        Pure spectra to draw from; of a pigment with several, one patch is drawn.
    wavelength_nm : (n_band,) array
    magnification : int
        Pixels of the cube along one of the scan.
    seed : int
        Of the choice of patches, gloss, light, concentration and noise.

    Raises
    ------
    SampleError
        A pigment of the panel has no spectrum.
    """
    rng = np.random.default_rng(seed)
    wavelength = np.asarray(wavelength_nm, dtype=np.float64)
    names = sorted(
        {name for stratigraphy in stratigraphies for layer in stratigraphy.layers for name in layer.pigments}
    )
    drawn = {name: _drawn(name, spectra, rng) for name in names}
    k_over_s = {name: _k_over_s(spectrum, wavelength) for name, spectrum in drawn.items()}
    colours = np.empty((len(stratigraphies), wavelength.size))
    for index, stratigraphy in enumerate(stratigraphies):
        below: Floats = np.full(wavelength.size, SUPPORT)
        for layer in reversed(stratigraphy.layers):
            absorption, scattering = _optics(layer, k_over_s, rng)
            below = film(absorption * layer.thickness_um, scattering * layer.thickness_um, below)
        colours[index] = below
    cube = colours.reshape(*shape, -1).repeat(magnification, axis=0).repeat(magnification, axis=1)
    n_row, n_column = cube.shape[:2]
    across, down = np.linspace(0, 1, n_column)[None, :, None], np.linspace(0, 1, n_row)[:, None, None]
    gloss = GLOSS[0] + (GLOSS[1] - GLOSS[0]) * across
    phase = rng.uniform(0, 2 * np.pi, size=2)
    light = 1.0 + LIGHT_SPREAD * (np.sin(2 * np.pi * across + phase[0]) + np.sin(2 * np.pi * down + phase[1]))
    measured = light * through_the_surface(cube, gloss) + rng.normal(0.0, NOISE, size=cube.shape)
    patches = tuple(sorted({spectrum.patch for spectrum in drawn.values() if spectrum is not None}))
    return Twin(np.maximum(measured, 0.0).astype(np.float32), wavelength, patches)


def _drawn(name: str, spectra: ReflectanceLibrary, rng: np.random.Generator) -> ReferenceSpectrum | None:
    fitting = [spectrum for spectrum in spectra.spectra if spectrum.pure and spectrum.pigment == name]
    fitting = fitting or [
        spectrum for spectrum in spectra.spectra if spectrum.pure and spectrum.member == member_of(name)
    ]
    if not fitting:
        if name in COLOURLESS:
            return None
        raise SampleError(
            f"Cannot draw {library()[name].label}: the {len(spectra)} spectra hold none of it. Add one to the library."
        )
    patch = rng.choice(sorted({spectrum.patch for spectrum in fitting}))
    # on white the colour is seen down to the backing: of a film's views the darkest is nearest to an opaque paint
    return min(
        (spectrum for spectrum in fitting if spectrum.patch == patch),
        key=lambda spectrum: float(spectrum.reflectance.mean()),
    )


def _k_over_s(spectrum: ReferenceSpectrum | None, wavelength: Floats) -> Floats:
    """Return the K/S of an opaque paint; beyond the measured range it stays as at its end."""
    if spectrum is None:
        return np.full(wavelength.size, 1e-3)
    gloss = min(0.03, 0.8 * float(spectrum.reflectance.min()))
    measured = ratio(inside_the_paint(spectrum.reflectance, gloss))
    if spectrum.absorption is not None and spectrum.scattering is not None:
        of_film = spectrum.absorption / spectrum.scattering
        measured = np.where(np.isfinite(of_film), of_film, measured)
    return np.asarray(np.interp(wavelength, spectrum.wavelength_nm, measured))


def _optics(layer: Layer, k_over_s: Mapping[str, Floats], rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Return K and S of a layer, 1/um: those of its pigments by their share of the pigments' volume."""
    table = name_table()["scattering_per_um"]
    volumes = {name: share / library()[name].density for name, share in layer.pigments.items() if share > 0}
    total = sum(volumes.values())
    scattering = np.full(next(iter(k_over_s.values())).size, 1e-4)
    absorption = np.zeros_like(scattering)
    for name, volume in volumes.items():
        share = volume / total * rng.lognormal(0.0, CONCENTRATION_SPREAD)
        of_pigment = share * table.get(name, table.get(member_of(name), table["other"]))
        scattering = scattering + of_pigment
        absorption = absorption + of_pigment * k_over_s[name]
    return absorption, scattering


def save_twin(twin: Twin, path: str | Path, *, overwrite: bool = False) -> Path:
    """Write a cube as ENVI (band-interleaved by line, reflectance times 10,000): ``path`` is the header, ``.hdr``.

    Raises
    ------
    OutputError
        A file is there and ``overwrite`` is false, or it cannot be written.
    """
    header = Path(path).with_suffix(".hdr")
    stored = np.round(np.clip(twin.reflectance * SCALE_FACTOR, 0, 65_535)).astype("<u2")
    n_row, n_column, n_band = stored.shape
    with atomic_write(header.with_suffix(".img"), replace=overwrite) as part:
        part.write_bytes(np.ascontiguousarray(stored.transpose(0, 2, 1)).tobytes())
    wavelengths = ", ".join(f"{value:g}" for value in twin.wavelength_nm)
    lines = [
        "ENVI",
        f"description = {{A virtual panel, not a measurement; drawn from {'; '.join(twin.drawn_from)}}}",
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
    with atomic_write(header, replace=overwrite) as part:
        part.write_text("\n".join(lines) + "\n", encoding="ascii", errors="replace")
    return header
