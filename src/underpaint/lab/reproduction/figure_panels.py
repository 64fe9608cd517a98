"""Virtual paintings for the figures: their layers and their scans."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from underpaint.data import XU_NETWORK_AXIS, Scan
from underpaint.physics.forward import count, emit, render
from underpaint.physics.instrument import Instrument
from underpaint.physics.materials import Layer, Paint, Stratigraphy, ground_layer
from underpaint.simulate.recipes import figure7_recipe

BATCH_SIZE = 256
BARE = "bare"
"""Name of the paint of pixels without a layer."""
TOP_UM, LOWER_UM, GROUND_UM = (30.0, 100.0), (100.0, 150.0), 175.0
"""Thicknesses of upper paint, lower paint and ground, within those of the paper's mock-ups."""
N_THICKNESS = 6
ABSENT, BELOW, ABOVE = 0, 1, 2
"""Place of a pigment in a pixel: absent, only in the covered layer, in the uppermost layer."""

MassFractions = Mapping[str, float]


@dataclass(frozen=True)
class Painting:
    """A virtual painting: paints and thicknesses of each pixel.

    Parameters
    ----------
    tops, lowers : mapping of str to (mapping of str to float)
        Mass fractions of the dry pigments in each paint of the upper and the lower layer.
    top, lower : (n_row, n_column) arrays of str
        Paint of each pixel in the upper and the lower layer; ``bare`` without a layer.
    top_um, lower_um : (n_row, n_column) arrays
        Thickness in um. It has few distinct values, because each distinct stratigraphy is simulated once.
    formulas : mapping of str to str
        Chemical formulas that replace those of the library.
    """

    tops: Mapping[str, MassFractions]
    lowers: Mapping[str, MassFractions]
    top: NDArray[np.str_]
    lower: NDArray[np.str_]
    top_um: NDArray[np.float64]
    lower_um: NDArray[np.float64]
    formulas: Mapping[str, str]

    def stratigraphies(self) -> tuple[list[Stratigraphy], NDArray[np.int64]]:
        """Return the distinct stratigraphies, and the (n_row, n_column) index of the stratigraphy of each pixel."""
        keys = list(zip(*(array.ravel() for array in (self.top, self.top_um, self.lower, self.lower_um)), strict=True))
        number_by_key = {key: index for index, key in enumerate(dict.fromkeys(keys))}
        index = np.asarray([number_by_key[key] for key in keys]).reshape(self.top.shape)
        return [self._stratigraphy(*key) for key in number_by_key], index

    def places(self, pigments: Sequence[str]) -> NDArray[np.int64]:
        """Return the (n_row, n_column) place of the given pigments: ``ABSENT``, ``BELOW`` or ``ABOVE``."""
        place = np.full(self.top.shape, ABSENT)
        for paints, mask, code in ((self.lowers, self.lower, BELOW), (self.tops, self.top, ABOVE)):
            paints_with_pigment = [name for name, fractions in paints.items() if set(pigments) & set(fractions)]
            place[np.isin(mask, paints_with_pigment)] = code
        return place

    def _stratigraphy(self, top_name: str, top_um: float, lower_name: str, lower_um: float) -> Stratigraphy:
        layers: list[Layer] = []
        for paints, name, thickness in ((self.tops, top_name, top_um), (self.lowers, lower_name, lower_um)):
            if name != BARE:
                layers.append(Paint(dict(paints[name]), formulas=self.formulas).layer(float(thickness)))
        return Stratigraphy((*layers, ground_layer("chalk", GROUND_UM)))


def scan_painting(
    painting: Painting, instrument: Instrument, counts: float, rng: np.random.Generator, name: str, live_time_s: float
) -> Scan:
    """Simulate the scan of a painting with the full forward model, in the channels of the paper's network.

    Parameters
    ----------
    painting : Painting
        The painting.
    instrument : Instrument
        The instrument.
    counts : float
        Mean total counts per pixel; the counts of a pixel depend on its paints.
    rng : Generator
        Random number generator for the counts.
    name : str
        Name of the scan.
    live_time_s : float
        Live time per pixel in s. It is stored in the scan, and does not affect the counts.
    """
    stratigraphies, index = painting.stratigraphies()
    expected_counts = expected_spectra(stratigraphies, instrument)
    expected_counts *= counts / expected_counts[index].sum(axis=2).mean()
    spectra = np.stack([count(expected_counts[row], rng=rng) for row in index])
    return Scan(
        counts=spectra,
        axis=XU_NETWORK_AXIS,
        name=name,
        format="simulated",
        live_time_s=np.full(index.shape, live_time_s),
        notes=("Simulated: a virtual painting, not a measurement.",),
    )


def expected_spectra(stratigraphies: Sequence[Stratigraphy], instrument: Instrument) -> NDArray[np.float64]:
    """Return the (n, n_channel) expected spectra in the channels of the paper's network."""
    batches = [
        np.asarray(
            render(emit(stratigraphies[start : start + BATCH_SIZE], instrument), instrument.detector, XU_NETWORK_AXIS)
        )
        for start in range(0, len(stratigraphies), BATCH_SIZE)
    ]
    return np.concatenate(batches).astype(np.float64)


def crossed_strips(cell: int, gap: int, rng: np.random.Generator) -> Painting:
    """Return the panel of the paper's Fig. 7: four tops across six bottoms; each strip thins along its length."""
    recipe = figure7_recipe()
    rows, columns = (_strips(list(paints), cell, gap) for paints in (recipe.tops, recipe.bottoms))
    shape = (rows.size, columns.size)
    return Painting(
        tops=recipe.tops,
        lowers=recipe.bottoms,
        top=np.broadcast_to(rows[:, None], shape),
        lower=np.broadcast_to(columns, shape),
        top_um=_stepped_thickness(list(recipe.tops), rows, shape[1], recipe.top_thickness_um, rng),
        lower_um=_stepped_thickness(list(recipe.bottoms), columns, shape[0], recipe.bottom_thickness_um, rng).T,
        formulas=recipe.formulas,
    )


def _strips(names: list[str], cell: int, gap: int) -> NDArray[np.str_]:
    return np.asarray(
        [*([BARE] * gap), *(name_of_pixel for name in names for name_of_pixel in ([name] * cell + [BARE] * gap))]
    )


def _stepped_thickness(
    names: list[str],
    strips: NDArray[np.str_],
    length: int,
    limits: tuple[float, float],
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """Return the (n_strip_pixel, length) thickness, um, in steps along a random direction; zero between strips."""
    step = np.minimum(np.arange(length) * N_THICKNESS // length, N_THICKNESS - 1)
    profile_um = np.linspace(*limits, N_THICKNESS)[step]
    profile_by_name = {name: profile_um[:: rng.choice([-1, 1])] for name in names}
    return np.stack([profile_by_name.get(name, np.zeros(length)) for name in strips])
