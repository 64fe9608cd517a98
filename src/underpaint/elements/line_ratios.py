"""Variation of an element's line ratios in random paint, from the forward model.

Upper layers and the paint itself absorb soft lines more than hard ones, and other elements' lines excite some shells
more than others, so a line family has no fixed shape. Random stratigraphies give its mean shape and the variation
around it; the same holds for the scattered tube radiation.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import scipy.linalg
import xraylib
from numpy.typing import NDArray

from underpaint.data import EnergyAxis
from underpaint.elements._families import CANDIDATES, family_template, is_recorded
from underpaint.physics.atomic import SHELLS
from underpaint.physics.forward import efficiency, emit, response_matrix
from underpaint.physics.instrument import Detector, Filter, Geometry, Instrument, Tube
from underpaint.physics.materials import Layer, Stratigraphy, load_palette
from underpaint.runtime.cache import cached_arrays
from underpaint.simulate import RandomStratigraphies, StratigraphySampler

Array = NDArray[np.float64]

N_STRATIGRAPHIES = 1000
N_NEAREST = 150
"""Number of stratigraphies nearest in composition that determine the ratios of a class of pixels."""
RATE_ERROR = {"K": 0.015, "L": 0.04, "M": 0.12}
"""Relative error of a line's share in its family by the tables of radiative rates, by shell."""
_MIN_SHARE = 0.003
"""Minimum share of a family in the line counts of a stratigraphy that contributes to its ratios."""
_MIN_STRATIGRAPHIES, _FALLBACK_STRATIGRAPHIES = 30, 40
_N_CHANGES, _N_SCATTER_CHANGES = 5, 8
_EXTRA_FRACTION = (3e-4, 0.1)
"""Mass fractions of elements that paint rarely has, added so that their ratios are known as well."""
_SEED = 1
USUAL_INSTRUMENTS = tuple(
    Instrument(
        name=f"{anode} {voltage_kv:.0f} kV",
        tube=Tube.model_validate({"anode": anode, "voltage_kv": voltage_kv}),
        filters=filters,
        geometry=Geometry.model_validate({"incidence_angle_deg": incidence, "takeoff_angle_deg": takeoff}),
    )
    for anode, voltage_kv, incidence, takeoff, filters in (
        ("Rh", 50.0, 90.0, 45.0, ()),
        ("Rh", 40.0, 60.0, 60.0, ()),
        ("Rh", 30.0, 90.0, 50.0, ()),
        ("Mo", 40.0, 90.0, 45.0, ()),
        ("Ag", 40.0, 45.0, 45.0, ()),
        ("Rh", 50.0, 50.0, 50.0, (Filter(formula="Al", density=2.7, thickness_um=100.0),)),
    )
)
"""Common scanners, used in place of an unknown instrument."""


@dataclass(frozen=True)
class LineCounts:
    """Line and scatter counts of random stratigraphies.

    Parameters
    ----------
    family : tuple of str
        Of each line, ``Pb_L``.
    shell : (n_line,) int array
        Shell of the vacancy, index into ``SHELLS``.
    energy_kev : (n_line,) array
        keV.
    counts : (n, n_line) array
        Counts of each line on a common scale, detected.
    scatter : (n, n_energy) array
        Scattered tube radiation, lines after Compton scatter included, counts.
    scatter_kev, scatter_spread_kev : (n_energy,) arrays
        Energies, and the standard deviations of the bins, keV.
    """

    family: tuple[str, ...]
    shell: NDArray[np.int64]
    energy_kev: Array
    counts: Array
    scatter: Array
    scatter_kev: Array
    scatter_spread_kev: Array


def simulate_line_counts(instrument: Instrument, n: int = N_STRATIGRAPHIES) -> LineCounts:
    """Simulate random stratigraphies of the default palette, with rare elements added.

    Parameters
    ----------
    instrument : Instrument
        Source, filters, geometry and crystal; the channels do not matter.
    n : int
        Number of stratigraphies.
    """
    detector = instrument.detector
    same = {"name": "", "note": "", "scale": None, "detector": Detector.model_validate({})}
    photons = _photons(instrument.model_copy(update=same), n)
    return replace(
        photons,
        counts=photons.counts * efficiency(detector, photons.energy_kev),
        scatter=photons.scatter * efficiency(detector, photons.scatter_kev),
    )


@lru_cache(maxsize=16)
def _photons(instrument: Instrument, n: int) -> LineCounts:
    """Return the emission of the stratigraphies, photons; the same for all scans with one source and geometry."""

    def make() -> dict[str, NDArray[Any]]:
        emission = emit(_stratigraphies(n), instrument, workers=2, single=True)
        # argon and scatter of the air are excluded: argon is a family of the fit
        return {
            "family": np.asarray(emission.lines.family),
            "shell": emission.lines.shell,
            "energy_kev": emission.lines.energy_kev,
            "counts": np.asarray(emission.line_photons, np.float32),
            "scatter": np.concatenate(
                [emission.coherent, emission.compton + emission.multiple], axis=1, dtype=np.float32
            ),
            "scatter_kev": np.concatenate([emission.source_kev, emission.compton_kev]),
            "scatter_spread_kev": np.concatenate([emission.width_kev, emission.compton_width_kev]) / np.sqrt(12.0),
        }

    settings = {"instrument": instrument.model_dump(mode="json"), "n": n, "seed": _SEED, "xraylib": xraylib.__version__}
    arrays = cached_arrays("line_counts", settings, ("physics", "simulate", "elements"), make)
    return LineCounts(tuple(arrays.pop("family").tolist()), **arrays)


@lru_cache(maxsize=4)
def _stratigraphies(n: int) -> tuple[Stratigraphy, ...]:
    """Draw random stratigraphies, the same for all instruments."""
    sampler = StratigraphySampler(RandomStratigraphies(palette=load_palette().pigments))
    rng = np.random.default_rng(_SEED)
    elements = sorted({family.partition("_")[0] for family in CANDIDATES})
    return tuple(_with_extra(rng, sampler.draw(rng), elements) for _ in range(n))


def _with_extra(rng: np.random.Generator, stratigraphy: Stratigraphy, elements: Sequence[str]) -> Stratigraphy:
    """Return the stratigraphy with up to three elements more in one of its layers."""
    index = int(rng.integers(len(stratigraphy.layers)))
    layer = stratigraphy.layers[index]
    added = {
        str(element): float(np.exp(rng.uniform(*np.log(_EXTRA_FRACTION))))
        for element in rng.choice(elements, int(rng.integers(0, 4)), replace=False)
    }
    rest = 1.0 - sum(added.values())
    fractions = {element: rest * fraction for element, fraction in layer.mass_fractions.items()}
    for element, fraction in added.items():
        fractions[element] = fractions.get(element, 0.0) + fraction
    changed = Layer(fractions, layer.density, layer.thickness_um, layer.name)
    layers = (*stratigraphy.layers[:index], changed, *stratigraphy.layers[index + 1 :])
    return Stratigraphy(layers, stratigraphy.name)


@dataclass(frozen=True)
class Shapes:
    """Shapes of line families and of scatter for pixels of about one composition, in bins.

    Parameters
    ----------
    templates : (n_family, n_bin) array
        Mean shapes, one count each.
    changes : tuple of (n_change, n_bin) arrays
        One-sigma changes of each family's shape for one count.
    scatter : (1, n_bin) array
        Mean shape of the scattered radiation, one count.
    scatter_changes : (n_change, n_bin) array
        One-sigma changes of it for one count.
    """

    templates: Array
    changes: tuple[Array, ...]
    scatter: Array
    scatter_changes: Array


class LineRatios:
    """Shapes of families and scatter in the bins of a fit, and how they vary with composition.

    Parameters
    ----------
    simulated : sequence of LineCounts
        Of the instrument, or of those that may be it.
    detector : Detector
        Response.
    axis : EnergyAxis
    rebin : callable
        Turns (..., n_channel) counts into (..., n_bin).
    families : sequence of str
        Families to fit, ``Pb_L``, or ``Pb_L3`` for one shell; those outside the bins are ignored.
    excitation_kev : float
        Highest photon energy, keV: for families that the stratigraphies do not have.
    """

    def __init__(
        self,
        simulated: Sequence[LineCounts],
        detector: Detector,
        axis: EnergyAxis,
        rebin: Callable[[Array], Array],
        families: Iterable[str],
        excitation_kev: float,
    ) -> None:
        self.names: tuple[str, ...] = ()
        self._lines: list[Array] = []
        self._shares: list[Array] = []
        areas: list[Array] = []
        for family in families:
            template = family_template(family, detector, axis, excitation_kev)
            if template is None or not is_recorded(template.counts, rebin(template.counts)):
                continue
            self.names += (family,)
            energy, counts = _joined_lines(simulated, family)
            area = counts.sum(axis=1)
            if not area.any():
                energy, counts = np.zeros(1), np.zeros((len(counts), 1))
                self._lines.append(rebin(template.counts)[None])
            else:
                response = rebin(response_matrix(detector, axis, energy))
                # areas are detected counts
                self._lines.append(response / efficiency(detector, energy)[:, None])
            areas.append(area)
            self._shares.append(counts / np.maximum(area, 1e-300)[:, None])
        area = np.stack(areas, axis=1)
        self.relative = area / np.maximum(area.sum(axis=1, keepdims=True), 1e-300)
        rendered = [
            entry.scatter @ rebin(response_matrix(detector, axis, entry.scatter_kev, entry.scatter_spread_kev))
            for entry in simulated
        ]
        scatter = np.concatenate(rendered)
        self._scatter = scatter / scatter.sum(axis=1, keepdims=True)
        self._common = [self._shape(index, np.ones(len(area))) for index in range(len(self.names))]
        self.common = np.stack([mean for mean, _ in self._common])
        """(n_family, n_bin) mean shapes over all stratigraphies."""

    def near(self, area: Array) -> Shapes:
        """Return the shapes for pixels with about these (n_family,) areas."""
        area = np.maximum(area, 0.0)
        place = np.log(area / max(float(area.sum()), 1e-9) + _MIN_SHARE)
        distance = ((np.log(self.relative + _MIN_SHARE) - place) ** 2).sum(axis=1)
        nearest = np.argpartition(distance, N_NEAREST)[:N_NEAREST]
        weight = np.zeros(len(distance))
        weight[nearest] = 1.001 - distance[nearest] / max(float(distance[nearest].max()), 1e-12)
        is_supported = (self.relative[nearest] > _MIN_SHARE).sum(axis=0) >= _MIN_STRATIGRAPHIES
        shapes = [
            self._shape(index, weight) if is_supported[index] and area[index] > 0 else self._common[index]
            for index in range(len(self.names))
        ]
        return Shapes(
            np.stack([mean for mean, _ in shapes]),
            tuple(changes for _, changes in shapes),
            *self._scatter_shape(weight),
        )

    def _shape(self, index: int, weight: Array) -> tuple[Array, Array]:
        """Return (n_bin,) mean template of a family, and its (n_change, n_bin) one-sigma changes."""
        share, lines = self._shares[index], self._lines[index]
        if len(lines) == 1:
            return lines[0], np.zeros((0, lines.shape[1]))
        relative = self.relative[:, index]
        weight = np.where(relative > _MIN_SHARE, weight, 0.0)
        if np.count_nonzero(weight) < _MIN_STRATIGRAPHIES:
            fewest = np.sort(relative)[-min(_FALLBACK_STRATIGRAPHIES, int(np.count_nonzero(relative)))]
            weight = ((relative >= fewest) & (relative > 0)).astype(np.float64)
        use = np.flatnonzero(weight)
        weight = weight[use] / weight[use].sum()
        mean = weight @ share[use]
        off = np.sqrt(weight)[:, None] * (share[use] - mean)
        # errors of the tables: independent for each line, with shares that add up to one
        error = (np.eye(mean.size) - mean) * (RATE_ERROR[self.names[index].partition("_")[2][0]] * mean)[:, None]
        value, vector = np.linalg.eigh(off.T @ off + error.T @ error)
        value = np.sqrt(np.maximum(value[-_N_CHANGES:], 0.0))
        return mean @ lines, (vector[:, -_N_CHANGES:] * value).T @ lines

    def _scatter_shape(self, weight: Array) -> tuple[Array, Array]:
        """Return (1, n_bin) mean shape of the scatter, and its (n_change, n_bin) one-sigma changes.

        It includes lines after Compton scatter: from stratigraphies unlike the pixel, these would appear as bumps next
        to lines and reduce precision.
        """
        use = np.flatnonzero(weight)
        weight = weight[use] / weight[use].sum()
        mean = weight @ self._scatter[use] + 1e-12
        root = np.sqrt(mean)
        off = np.sqrt(weight)[:, None] * (self._scatter[use] / root - root)
        _, vector = scipy.linalg.eigh(off @ off.T, subset_by_index=(len(off) - _N_SCATTER_CHANGES, len(off) - 1))
        return np.asarray(mean[None]), np.asarray(vector.T @ off * root)


def _joined_lines(simulated: Sequence[LineCounts], family: str) -> tuple[Array, Array]:
    """Return (n_line,) energies, keV, and (n, n_line) counts of a family's lines in all simulations."""
    symbol, _, shell = family.partition("_")
    parts = []
    for entry in simulated:
        of_family = np.asarray([name == f"{symbol}_{shell[0]}" for name in entry.family])
        if len(shell) > 1:
            of_family &= entry.shell == SHELLS.index(shell)
        parts.append((entry.energy_kev[of_family], entry.counts[:, of_family]))
    energies = np.unique(np.concatenate([energy for energy, _ in parts]))
    joined = []
    for energy, counts in parts:
        spread = np.zeros((len(counts), energies.size))
        spread[:, np.searchsorted(energies, energy)] = counts
        joined.append(spread)
    return energies, np.concatenate(joined)
