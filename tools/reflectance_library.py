"""Build the reflectance library that ships with the package from the three measured sets.

``python tools/reflectance_library.py FOLDER`` takes a folder with ``kremer``, ``usgs`` and ``revigo`` as their makers
publish them, and writes ``src/underpaint/reflectance/data/library.npz``. Which spectrum means which pigment is in
``names.toml`` beside it.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from underpaint.reflectance.kubelka_munk import film_optics, internal_reflectance
from underpaint.reflectance.library import ReferenceSpectrum, ReflectanceLibrary, envi_entries
from underpaint.reflectance.names import name_table

Floats = NDArray[np.float64]
TARGET = Path(__file__).resolve().parents[1] / "src" / "underpaint" / "reflectance" / "data" / "library.npz"
KREMER = "Deborah 2022, Hyperspectral Pigment Dataset, doi 10.5281/zenodo.5592485, 10.1109/WHISPERS56178.2022.9955067"
USGS = "Kokaly et al. 2017, USGS Spectral Library Version 7, Data Series 1035, doi 10.3133/ds1035"
REVIGO = "Geldof et al. 2018, Heritage Science 6:17, doi 10.1186/s40494-018-0181-6"
KREMER_BACKING = (0.12, 0.25, 0.47, 0.93)
"""Of the four stripes under each patch; not stated, so taken from the most transparent patches (smalt at 960 nm)."""
SPECULAR = 0.03
"""Gloss in both sets' values: black paints read 0.03 to 0.05."""
STEP_NM, INFRARED_STEP_NM, INFRARED_NM, LAST_NM = 5.0, 20.0, 1000.0, 2500.0


def resample(wavelength: Floats, values: Floats, grid: Floats) -> Floats:
    """Return the means over the cells of a grid, of the straight lines between the points."""
    steps = np.diff(wavelength)
    integral = np.concatenate([[0.0], np.cumsum(steps * (values[1:] + values[:-1]) / 2)])
    edges = np.concatenate([[grid[0]], (grid[1:] + grid[:-1]) / 2, [grid[-1]]])
    edges = np.clip(edges, wavelength[0], wavelength[-1])
    # between points the integral of a straight line is a parabola: take it exactly
    place = np.clip(np.searchsorted(wavelength, edges, side="right") - 1, 0, steps.size - 1)
    along = edges - wavelength[place]
    slope = (values[place + 1] - values[place]) / steps[place]
    total = integral[place] + values[place] * along + slope * along**2 / 2
    return np.asarray(np.diff(total) / np.diff(edges))


def kremer(folder: Path) -> Iterator[ReferenceSpectrum]:
    """Yield the 398 patches in four shades; a patch's K and S stand at its last, on white."""
    header = envi_entries((folder / "__speclib_averages.hdr").read_text("utf-8"))
    wavelength = np.asarray(header["wavelength"].split(","), dtype=np.float64)
    values = np.fromfile(folder / "__speclib_averages.sli", "<f4").reshape(-1, wavelength.size).astype(np.float64)
    cells = [[cell.strip() for cell in header[key].split(",")] for key in ("pnumber", "pname", "spectra names")]
    pigments = {str(number): pigment for pigment, numbers in name_table()["kremer"].items() for number in numbers}
    grid = np.arange(410.0, 995.0 + 1, STEP_NM)
    spectra = np.stack([resample(wavelength, row, grid) for row in values])
    for index, (number, name, key) in enumerate(zip(*cells, strict=True)):
        patch, shade = key.rsplit("_sh", 1)
        pigment = pigments.get(number, "")
        optics: tuple[Floats | None, Floats | None] = (None, None)
        if shade == "4" and pigment:
            four = internal_reflectance(spectra[index - 3 : index + 1], SPECULAR)
            backing = internal_reflectance(np.asarray(KREMER_BACKING), SPECULAR)[:, None] + np.zeros(grid.size)
            optics = film_optics(four, backing)
        yield ReferenceSpectrum(
            name=f"Kremer {number} {re.sub(r'--[0-9]$', '', name).replace('--', ', ').strip(' ,')}",
            pigment=pigment,
            wavelength_nm=grid,
            reflectance=spectra[index],
            source=KREMER,
            licence="CC BY 4.0",
            patch=f"kremer {patch}",
            shade=shade,
            shares={pigment: 1.0} if pigment else {},
            absorption=optics[0],
            scattering=optics[1],
        )


def usgs(folder: Path) -> Iterator[ReferenceSpectrum]:
    """Yield the artists' pigments, and powders of minerals that were pigments."""
    content = json.loads((folder / "splib07_pigments_minerals.json").read_text("utf-8"))
    for name, pigment in name_table()["usgs"].items():
        wavelength = np.asarray([v or np.nan for v in content[name]["wavelength_um"]], dtype=np.float64) * 1e3
        values = np.asarray([np.nan if v is None else v for v in content[name]["reflectance"]], dtype=np.float64)
        good = np.isfinite(wavelength) & np.isfinite(values)
        first, last = max(350.0, wavelength[good][0]), min(LAST_NM, wavelength[good][-1])
        grid = np.concatenate(
            [np.arange(350.0, INFRARED_NM, STEP_NM), np.arange(INFRARED_NM, LAST_NM + 1, INFRARED_STEP_NM)]
        )
        grid = grid[(grid >= first) & (grid <= last)]
        paint = re.search(r"GDS(7[789]\d|80\d|81[0-6])", name) is not None
        yield ReferenceSpectrum(
            name=f"USGS {name}",
            pigment=pigment,
            wavelength_nm=grid,
            reflectance=resample(wavelength[good], values[good], grid),
            source=USGS,
            licence="US public domain",
            patch=f"usgs {name}",
            medium="acrylic or powder (artists' pigment)" if paint else "powder (mineral)",
            shares={pigment: 1.0},
        )


def revigo(folder: Path) -> Iterator[ReferenceSpectrum]:
    """Yield the oil paints and their mixtures, on white and on black; K and S stand at the spectrum on white."""
    with (folder / "revigo-aggregated-palette-spectral-data.txt").open(encoding="utf-8") as file:
        head, *rows = csv.reader(file, delimiter="\t")
    grid = np.asarray(head[1:], dtype=np.float64)
    values = {row[0]: np.asarray(row[1:], dtype=np.float64) / 100 for row in rows if row}
    names = name_table()["revigo"]
    for line in (folder / "revigo-mixture-specifications.txt").read_text("utf-8").splitlines():
        if not line.strip():
            continue
        key, recipe = line.split("\t")
        parts, masses = recipe.split("|")
        shares: dict[str, float] = {}
        for part, mass in zip(parts.split("-"), map(float, masses.split("-")), strict=True):
            if mass > 0:
                shares[names[part]] = shares.get(names[part], 0.0) + mass
        total = sum(shares.values())
        shares = {pigment: mass / total for pigment, mass in shares.items()}
        films = [(f"{key}_ow", f"{key}_w", "on white"), (f"{key}_ob", f"{key}_b", "on black")]
        if any(name not in values for film in films for name in film[:2]):
            continue
        measured = internal_reflectance(np.stack([values[film] for film, _, _ in films]), SPECULAR)
        cards = internal_reflectance(np.stack([values[card] for _, card, _ in films]), SPECULAR)
        absorption, scattering = film_optics(measured, cards)
        for film, _, shade in films:
            yield ReferenceSpectrum(
                name=f"REVIGO {key} {recipe}",
                pigment=main_pigment(shares),
                wavelength_nm=grid,
                reflectance=values[film],
                source=REVIGO,
                licence="CC0",
                patch=f"revigo {key}",
                shade=shade,
                medium="oil",
                shares=MappingProxyType(shares),
                absorption=absorption if shade == "on white" else None,
                scattering=scattering if shade == "on white" else None,
            )


COLOURLESS = ("lead_white", "zinc_white", "barium_white", "chalk", "bone_black")
"""Parts that tint: a mixture is named after its other part."""


def main_pigment(shares: dict[str, float]) -> str:
    """Return the part that gives a mixture its colour; of tints alone, the greatest."""
    coloured = {pigment: share for pigment, share in shares.items() if pigment not in COLOURLESS} or shares
    return max(coloured, key=lambda pigment: coloured[pigment])


def build(folder: Path) -> ReflectanceLibrary:
    """Return the library of the three sets."""
    return ReflectanceLibrary((*kremer(folder / "kremer"), *usgs(folder / "usgs"), *revigo(folder / "revigo")))


def main() -> None:
    """Write the library."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    library = build(parser.parse_args().folder)
    path = library.save(TARGET, overwrite=True)
    print(
        f"Wrote {path}: {len(library)} spectra of {len(library.members)} pigments, {path.stat().st_size / 1e6:.2f} MB."
    )


if __name__ == "__main__":
    main()
