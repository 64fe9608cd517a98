"""Virtual mock-ups in place of the paper's, which are not public: every figure made from them is called virtual."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from underpaint.data import XU_NETWORK_AXIS, EnergyAxis
from underpaint.physics.forward import count, emit, render
from underpaint.physics.instrument import Instrument, load_instrument
from underpaint.physics.materials import Layer, Paint, Stratigraphy, ground_layer
from underpaint.simulate.randomise import perturbed
from underpaint.simulate.recipes import PanelRecipe, load_recipe

INSTRUMENT = "elio"
BINDER_SPREAD, DENSITY_SPREAD, THICKNESS_SPREAD = 0.10, 0.05, 0.03
VOLTAGE_SPREAD = 0.01
"""Standard deviations, relative, of binder, density, thickness and voltage."""
GAIN_DRIFT, ZERO_DRIFT_KEV = 0.0005, 0.003
"""Standard deviations of the energy scale from part to part: relative, and keV."""
AT_ONCE = 256


@dataclass(frozen=True)
class Mockups:
    """Counted spectra of known structures: the 64 of Table 2, virtual, or a user's.

    Parameters
    ----------
    counts : (n, n_channel) int array
        On the channels of ``axis``.
    top, bottom : (n,) arrays of str
        Names of the paints: ``Top 1``, ``Bottom 2B``.
    top_um : (n,) array
        Thickness of the top, um; NaN where it is not known.
    pigments : tuple of n tuples of str
        What lies in top and bottom, by pigment name.
    instrument : Instrument
        The machine that looked: an ELIO, perturbed.
    axis : EnergyAxis
        As the machine states it; by default the channels of the paper's network.
    stratigraphies : tuple of Stratigraphy
        What was painted; empty where the mock-ups are measured ones.
    """

    counts: NDArray[np.int32] | NDArray[np.float32]
    top: NDArray[np.str_]
    bottom: NDArray[np.str_]
    top_um: NDArray[np.float64]
    pigments: tuple[tuple[str, ...], ...]
    instrument: Instrument
    axis: EnergyAxis = XU_NETWORK_AXIS
    stratigraphies: tuple[Stratigraphy, ...] = ()

    def __len__(self) -> int:
        return len(self.counts)

    @property
    def structure(self) -> NDArray[np.int64]:
        """(n,) number of each spectrum's structure."""
        names = np.char.add(np.char.add(self.top, "/"), self.bottom)
        return np.asarray(np.unique(names, return_inverse=True)[1], dtype=np.int64)


def paint_mockups(n_spectra: int, counts: float, seed: int, axis: EnergyAxis = XU_NETWORK_AXIS) -> Mockups:
    """Paint and measure the virtual mock-ups; everything is drawn from the seed.

    Parameters
    ----------
    n_spectra : int
        Of the 64 structures together.
    counts : float
        Mean counts of a spectrum.
    seed : int
    axis : EnergyAxis
        As the machine states it.

    The machine is an ELIO whose tube, angles, air and response are off by a little; each strip grows from its
    thinnest to its thickest; binder and density scatter from spectrum to spectrum, and the calibration drifts. The
    physics is the full forward model: scatter, all orders, noise.
    """
    rng = np.random.default_rng(seed)
    instrument = machine(rng)
    recipe = load_recipe("table2")
    pairs = [(top, bottom) for top in recipe.tops for bottom in recipe.bottoms]
    sizes = [len(part) for part in np.array_split(np.arange(n_spectra), len(pairs))]
    rows = [(*pair, place) for pair, n in zip(pairs, sizes, strict=True) for place in np.linspace(0.0, 1.0, n)]
    drawn = [_structure(recipe, top, bottom, place, rng) for top, bottom, place in rows]
    stratigraphies = [stratigraphy for stratigraphy, _ in drawn]
    return Mockups(
        counts=_measure(stratigraphies, instrument, counts, axis, rng),
        top=np.asarray([row[0] for row in rows]),
        bottom=np.asarray([row[1] for row in rows]),
        top_um=np.asarray([thickness for _, thickness in drawn]),
        pigments=tuple(tuple({**recipe.tops[top], **recipe.bottoms[bottom]}) for top, bottom, _ in rows),
        instrument=instrument,
        axis=axis,
        stratigraphies=tuple(stratigraphies),
    )


def machine(rng: np.random.Generator) -> Instrument:
    """Return an ELIO as one could meet it; measured tubes have lines up to 1.7 times as strong as Ebel's."""
    elio = perturbed(load_instrument(INSTRUMENT), rng)
    tube = elio.tube
    window = tube.window.model_copy(update={"thickness_um": tube.window.thickness_um * rng.lognormal(0.0, 0.2)})
    update = {
        "voltage_kv": tube.voltage_kv * (1.0 + rng.normal(0.0, VOLTAGE_SPREAD)),
        "line_factor": rng.uniform(1.0, 1.7),
        "window": window,
    }
    return elio.model_copy(update={"tube": tube.model_copy(update=update)})


def _structure(
    recipe: PanelRecipe, top: str, bottom: str, place: float, rng: np.random.Generator
) -> tuple[Stratigraphy, float]:
    """Return the layers at a place along a strip, and the top's thickness, um."""
    thickness = _along(recipe.top_thickness_um, place, rng)
    layers = (
        _layer(recipe, recipe.tops[top], thickness, rng),
        _layer(recipe, recipe.bottoms[bottom], _along(recipe.bottom_thickness_um, rng.random(), rng), rng),
        ground_layer(recipe.ground, _along(recipe.ground_thickness_um, rng.random(), rng)),
    )
    return Stratigraphy(layers, f"{top} over {bottom}"), thickness


def _along(limits: tuple[float, float], place: float, rng: np.random.Generator) -> float:
    low, high = limits
    return float(np.clip(low + (high - low) * (place + rng.normal(0.0, THICKNESS_SPREAD)), low, high))


def _layer(recipe: PanelRecipe, shares: object, thickness: float, rng: np.random.Generator) -> Layer:
    ratio = recipe.pigment_to_binder * rng.lognormal(0.0, BINDER_SPREAD)
    paint = Paint(dict(shares), pigment_to_binder=ratio, binder=recipe.binder, formulas=recipe.formulas)  # type: ignore[call-overload]
    layer = paint.layer(thickness)
    density = layer.density * float(rng.lognormal(0.0, DENSITY_SPREAD))
    return Layer(layer.mass_fractions, density, thickness, layer.name, layer.pigments)


def _measure(
    stratigraphies: list[Stratigraphy],
    instrument: Instrument,
    counts: float,
    axis: EnergyAxis,
    rng: np.random.Generator,
) -> NDArray[np.int32]:
    parts = []
    for start in range(0, len(stratigraphies), AT_ONCE):
        emission = emit(stratigraphies[start : start + AT_ONCE], instrument, single=True)
        # the calibration drifts from part to part, as it does in the course of a day
        gain, zero = 1.0 + rng.normal(0.0, GAIN_DRIFT), rng.normal(0.0, ZERO_DRIFT_KEV)
        seen = EnergyAxis(axis.gain_kev * gain, axis.zero_kev * gain + zero, axis.n_channel)
        parts.append(np.asarray(render(emission, instrument.detector, seen), dtype=np.float64))
    expected = np.concatenate(parts)
    return count(expected * counts / expected.sum(axis=1).mean(), rng=rng)
