"""Virtual paintings for the figures: their layers, drawn by code, and their scans."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from underpaint.data import XU_NETWORK_AXIS, Scan
from underpaint.physics.forward import count, emit, render
from underpaint.physics.instrument import Instrument
from underpaint.physics.materials import Layer, Paint, Stratigraphy, ground_layer
from underpaint.simulate.recipes import figure7_recipe

AT_ONCE = 256
BARE = "bare"
TOP_UM, LOWER_UM, GROUND_UM = (30.0, 100.0), (100.0, 150.0), 175.0
"""Thicknesses of upper paint, lower paint and ground, within those of the paper's mock-ups."""
N_THICKNESS = 6
ABSENT, BELOW, ABOVE = 0, 1, 2
"""Place of a pigment in a pixel: absent, only in the covered layer, in the uppermost layer."""

Shares = Mapping[str, float]


@dataclass(frozen=True)
class Painting:
    """The painting: paints and thicknesses by pixel.

    Parameters
    ----------
    tops, lowers : mapping of str to (mapping of str to float)
        Mass shares of the dry pigments by paint; the paint ``bare`` is no layer.
    top, lower : (n_row, n_column) arrays of str
        The paint of each pixel, uppermost and covered.
    top_um, lower_um : (n_row, n_column) arrays
        Thickness, um; few distinct values, since each distinct stratigraphy is simulated once.
    formulas : mapping of str to str
        Chemical formulas in place of the library's.
    """

    tops: Mapping[str, Shares]
    lowers: Mapping[str, Shares]
    top: NDArray[np.str_]
    lower: NDArray[np.str_]
    top_um: NDArray[np.float64]
    lower_um: NDArray[np.float64]
    formulas: Mapping[str, str]

    def stratigraphies(self) -> tuple[list[Stratigraphy], NDArray[np.int64]]:
        """Return the distinct stratigraphies and each pixel's number among them, (n_row, n_column)."""
        keys = list(zip(*(each.ravel() for each in (self.top, self.top_um, self.lower, self.lower_um)), strict=True))
        number = {key: index for index, key in enumerate(dict.fromkeys(keys))}
        index = np.asarray([number[key] for key in keys]).reshape(self.top.shape)
        return [self._stratigraphy(*key) for key in number], index

    def places(self, pigments: Sequence[str]) -> NDArray[np.int64]:
        """Return the (n_row, n_column) place of any of these pigments: ``ABSENT``, ``BELOW`` or ``ABOVE``."""
        place = np.full(self.top.shape, ABSENT)
        for paints, mask, mark in ((self.lowers, self.lower, BELOW), (self.tops, self.top, ABOVE)):
            holding = [name for name, shares in paints.items() if set(pigments) & set(shares)]
            place[np.isin(mask, holding)] = mark
        return place

    def _stratigraphy(self, top: str, top_um: float, lower: str, lower_um: float) -> Stratigraphy:
        layers: list[Layer] = []
        for paints, name, thickness in ((self.tops, top, top_um), (self.lowers, lower, lower_um)):
            if name != BARE:
                layers.append(Paint(dict(paints[name]), formulas=self.formulas).layer(float(thickness)))
        return Stratigraphy((*layers, ground_layer("chalk", GROUND_UM)))


def scan_painting(
    painting: Painting, instrument: Instrument, counts: float, rng: np.random.Generator, name: str, live_time_s: float
) -> Scan:
    """Scan a painting with the full forward model on the channels of the paper's network.

    Parameters
    ----------
    painting : Painting
        The painting.
    instrument : Instrument
        The instrument.
    counts : float
        Mean counts a pixel; the pixels differ as their paints do.
    rng : Generator
        Draws the counts.
    name : str
        The scan's.
    live_time_s : float
        Seconds per pixel; recorded, not used.
    """
    stratigraphies, index = painting.stratigraphies()
    expected = expected_spectra(stratigraphies, instrument)
    expected *= counts / expected[index].sum(axis=2).mean()
    counted = np.stack([count(expected[row], rng=rng) for row in index])
    return Scan(
        counts=counted,
        axis=XU_NETWORK_AXIS,
        name=name,
        format="simulated",
        live_time_s=np.full(index.shape, live_time_s),
        notes=("Simulated: a virtual painting, not a measurement.",),
    )


def expected_spectra(stratigraphies: Sequence[Stratigraphy], instrument: Instrument) -> NDArray[np.float64]:
    """Return (n, n_channel) expected spectra on the channels of the paper's network."""
    parts = [
        np.asarray(
            render(emit(stratigraphies[start : start + AT_ONCE], instrument), instrument.detector, XU_NETWORK_AXIS)
        )
        for start in range(0, len(stratigraphies), AT_ONCE)
    ]
    return np.concatenate(parts).astype(np.float64)


def crossed_strips(cell: int, gap: int, rng: np.random.Generator) -> Painting:
    """Return the panel of the paper's Fig. 7: four tops over six bottoms, each strip thinning along its length."""
    recipe = figure7_recipe()
    rows, columns = (_strips(list(paints), cell, gap) for paints in (recipe.tops, recipe.bottoms))
    shape = (rows.size, columns.size)
    return Painting(
        tops=recipe.tops,
        lowers=recipe.bottoms,
        top=np.broadcast_to(rows[:, None], shape),
        lower=np.broadcast_to(columns, shape),
        top_um=_drawn_down(list(recipe.tops), rows, shape[1], recipe.top_thickness_um, rng),
        lower_um=_drawn_down(list(recipe.bottoms), columns, shape[0], recipe.bottom_thickness_um, rng).T,
        formulas=recipe.formulas,
    )


def _strips(names: list[str], cell: int, gap: int) -> NDArray[np.str_]:
    return np.asarray([*([BARE] * gap), *(each for name in names for each in ([name] * cell + [BARE] * gap))])


def _drawn_down(
    names: list[str],
    strips: NDArray[np.str_],
    length: int,
    limits: tuple[float, float],
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """Return (n_strip_pixel, length) thickness in steps, um: each strip in its own direction; zero between strips."""
    step = np.minimum(np.arange(length) * N_THICKNESS // length, N_THICKNESS - 1)
    levels = np.linspace(*limits, N_THICKNESS)[step]
    along = {name: levels[:: rng.choice([-1, 1])] for name in names}
    return np.stack([along.get(name, np.zeros(length)) for name in strips])
