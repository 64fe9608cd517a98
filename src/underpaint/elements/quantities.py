"""Quantities from element areas by fundamental parameters: mass per cent of a layer, areal mass of a thin one.

The areas do not determine all that the lines depend on: binder and carbonates have no recorded lines, the thickness is
unknown, and part of an element may be beneath. Hypotheses about these are therefore drawn at random. For each, mass
fractions are computed for which the forward model reproduces the measured areas (Sherman 1955 with enhancement, by
fixed-point iteration), the light elements being the remainder to one. The scale, counts per unit of the model, is from
the scattered tube radiation or a standard. Hypotheses are weighted by their predictions for other lines of the same
elements and for the sum of the fractions; the spread of what remains is the interval.

This is done for classes of pixels of similar composition; within a class, a pixel's quantities follow from its areas
with sensitivities that change linearly with composition.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.vq import kmeans2
from scipy.special import gammaincinv, ndtri

from underpaint.data import EnergyAxis, Scan
from underpaint.data.maps import AREAL_MASS, LEVEL, MASS_FRACTION, Estimate, Results, is_determined
from underpaint.elements.fit import fit_elements
from underpaint.errors import CoverageError, InstrumentError, SampleError, ScanError
from underpaint.physics.atomic import atomic_number, atomic_weight, compton_energy
from underpaint.physics.forward import Detail, efficiency, emit, response_matrix, source_spectrum
from underpaint.physics.instrument import Instrument, Scale
from underpaint.physics.materials import Layer, Stratigraphy, mass_fractions

Array = NDArray[np.float64]

KINDS = {
    "mass_percent": (MASS_FRACTION, "one homogeneous layer"),
    "surface": (MASS_FRACTION, "uppermost paint"),
    "ug_cm2": (AREAL_MASS, "thin layer"),
}
"""Kinds of quantities and what they refer to."""
MATRICES = {
    "paint": ((0.0, 1.0), {"C18H32O2": 3.0, "CO2": 0.7, "H2O": 0.3, "SiO2": 0.3}, 0.2),
    "oxides": ((1.0, 1.0), {"CO2": 1.0, "H2O": 1.0, "C": 0.3, "Na2O": 0.2, "MgO": 0.5}, 0.0),
}
"""Oxidised share of the elements; weights of the matrix without recorded lines; its usual minimum amount.

The weights are those of a Dirichlet distribution. Paint has a fifth of binder; less becomes unlikely gradually.
"""
OXYGEN = {
    "Na": 0.5, "Mg": 1.0, "Al": 1.5, "Si": 2.0, "P": 2.5, "S": 0.0, "Cl": 0.0, "K": 0.5, "Ti": 2.0, "V": 2.5,
    "Cr": 1.5, "Fe": 1.5, "Ga": 1.5, "Ge": 2.0, "As": 1.5, "Se": 0.0, "Br": 0.0, "Rb": 0.5, "Y": 1.5, "Zr": 2.0,
    "Nb": 2.5, "Mo": 3.0, "Ag": 0.5, "Sn": 2.0, "Sb": 2.0, "W": 3.0, "Au": 0.0, "Hg": 0.0, "Bi": 1.5, "Th": 2.0,
    "U": 2.67,
}  # fmt: skip
"""Oxygen atoms per atom of an element in its usual oxide; default 1."""
SENSITIVITY_ERROR = {"K": 0.03, "L": 0.05, "M": 0.15}
"""Relative error of a family's counts by the model: atomic data, response."""
SCALE_ERROR, TUBE_SCALE_ERROR = 0.1, 0.2
"""Relative error of the modelled ratio of scatter to fluorescence; the same for a tube without ``line_factor``.

Codes differ by a factor of 1.7 in the anode's lines over the continuum (``physics.forward.source``).
"""
LESS_DARK = 0.08
"""One standard deviation by which less binder than usual is unlikely, mass fraction."""
DETECTED_SIGMAS = 3.0
N_CLASSES, N_HYPOTHESES = 24, 96
_N_ROUNDS, _N_PIXEL_ROUNDS = 7, 5
THICK_G_CM2 = 10.0
_THICKNESS_UM = {"mass_percent": (50.0, np.inf), "surface": (5.0, 200.0)}
_MIN_FRACTION, _MIN_DARK = 1e-7, 0.01
_MIN_EFFECTIVE = 16.0
_STEP_FRACTION = 0.01
_MIN_SEEN = 0.01
"""Minimum share of the pixels for an element to be tested separately beneath the uppermost paint."""
_MIN_SCATTER, _MAX_SAMPLED = 100.0, 16384
_SEED = 2
_DETAIL = Detail(orders=2, weakest_exciting=5e-3)


@dataclass(frozen=True)
class QuantityRequest:
    """Requested quantities, as for :func:`quantify`.

    Parameters
    ----------
    kind, matrix : str
    thickness_um : (float, float) or None

    Raises
    ------
    SampleError
        There is no such quantity or matrix, or the range of thickness is none, or is not used.
    """

    kind: str
    matrix: str = "paint"
    thickness_um: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        """Refuse invalid requests."""
        kind, matrix, thickness_um = self.kind, self.matrix, self.thickness_um
        if kind not in KINDS:
            raise SampleError(f"Cannot compute quantities {kind!r}: there are {', '.join(KINDS)}.")
        if matrix not in MATRICES:
            raise SampleError(f"Cannot compute quantities with the matrix {matrix!r}: there are {', '.join(MATRICES)}.")
        if thickness_um is not None and not 0 < thickness_um[0] <= thickness_um[1]:
            raise SampleError(
                f"Cannot compute quantities of a layer {thickness_um[0]:g} to {thickness_um[1]:g} um thick: the "
                "thickness is above 0, and the second number not below the first. Give it as (20, 100)."
            )
        if kind == "ug_cm2" and thickness_um is not None:
            raise SampleError(
                "Cannot use a thickness for ug/cm2: the areal mass of a thin layer follows from its lines alone. Leave "
                "the thickness out, or use mass_percent."
            )

    def check(self, instrument: Instrument | None) -> None:
        """Refuse areal masses of an instrument without a scale.

        Raises
        ------
        InstrumentError
            The instrument has no scale; None: the instrument is unknown.
        """
        if self.kind == "ug_cm2" and (instrument is None or instrument.scale is None):
            name = "not given" if instrument is None else instrument.name
            raise InstrumentError(
                f"Cannot give ug/cm2: the instrument {name!r} has no scale, without which areas are relative. Measure "
                "a material of known composition and run `underpaint calibrate --standard FILE --composition ...`, or "
                "ask for mass_percent."
            )

    def record(self) -> dict[str, Any]:
        """Return the request as stored with results, JSON-serialisable; None for no upper limit of the thickness."""
        ends = None if self.thickness_um is None else [end if np.isfinite(end) else None for end in self.thickness_um]
        return {"kind": self.kind, "matrix": self.matrix, "thickness_um": ends}


def line_areas(maps: Results, quantity: str) -> Array:
    """Return (n_pixel, n_line) areas, or deviations "area_sigma", of all line families, counts."""
    return np.stack([maps.map(quantity, line).ravel() for line in maps.lines], axis=1).astype(np.float64)


def quantify(
    scan: Scan,
    instrument: Instrument,
    *,
    kind: str = "mass_percent",
    maps: Results | None = None,
    matrix: str = "paint",
    thickness_um: tuple[float, float] | None = None,
) -> Results:
    """Map quantities of the elements of a scan, with 90 % intervals.

    Parameters
    ----------
    scan : Scan
        Counts with an energy axis.
    instrument : Instrument
        Source, geometry, detector, and ``scale`` if a standard was measured.
    kind : {"mass_percent", "surface", "ug_cm2"}
        Mass per cent of a homogeneous layer, mass per cent of the uppermost paint (part of each element may lie
        beneath), or areal mass of a thin layer, ug/cm2.
    maps : Results, optional
        The fitted areas; by default they are fitted.
    matrix : {"paint", "oxides"}
        Compounds without recorded lines: binder, carbonate and partly oxidised elements, or minerals.
    thickness_um : (float, float), optional
        Range of the layer's thickness, um; the upper end may be infinite. Default: 50 um to infinity of the
        homogeneous layer, 5 to 200 um of the uppermost paint.

    Returns
    -------
    Results
        ``mass_fraction`` (%) or ``areal_mass`` (ug/cm2) of each element, with 90 % intervals. An interval that begins
        at zero is an upper limit; NaN: no spectrum. Notes give the source of the scale and the assumptions.

    Raises
    ------
    InstrumentError
        Areal masses of an instrument without a scale.
    SampleError
        Unknown quantity or matrix, or invalid thickness. CoverageError No element has a modelled line, or too little
        scattered tube radiation was recorded.
    ScanError
        The scan and the maps differ in size.

    Examples
    --------
    ``quantify(scan, load_instrument("ours.toml")).mass_fraction.sel(element="Pb", quantile=0.5)``: a map of lead, %.
    """
    maps = fit_elements(scan, instrument=instrument) if maps is None else maps
    axis = scan.require_axis()
    if maps.shape != scan.shape[:2]:
        raise ScanError(
            f"Cannot compute quantities: the scan has {scan.shape[0]} x {scan.shape[1]} pixels, the element maps "
            f"{maps.shape[0]} x {maps.shape[1]}; give the maps of this scan."
        )
    window = scatter_window(instrument, axis)
    scatter = np.asarray(scan.counts[:, :, window].sum(axis=2).compute(), np.float64).ravel()
    seconds = None if scan.live_time_s is None else np.asarray(scan.live_time_s, np.float64).ravel()
    area, sigma = (line_areas(maps, quantity_name) for quantity_name in ("area", "area_sigma"))
    model = Quantifier(
        maps.lines, area, sigma, scatter, instrument, axis,
        kind=kind, matrix=matrix, thickness_um=thickness_um, seconds=seconds,
    )  # fmt: skip
    cube = model(area, sigma, scatter, seconds).astype(np.float32).reshape(*scan.shape[:2], len(model.elements), 3)
    quantity, sample = KINDS[kind]
    settings = QuantityRequest(kind, matrix, thickness_um).record() | {
        "sample": sample,
        "instrument": instrument.name,
        "families": list(model.families),
    }
    value, low, high = np.moveaxis(cube, 3, 0)
    detected = low > 0
    notes = model.notes
    if detected.any() and is_determined(quantity, Estimate(value, low, high))[detected].mean() < 0.5:
        notes = (*notes, model.wide_note)
    return Results.of_quantities(
        quantity, model.elements, value, low, high, step_mm=scan.step_mm, notes=notes, settings=settings
    )


def scatter_window(instrument: Instrument, axis: EnergyAxis) -> slice:
    """Return the channels that measure the scattered radiation: the hardest strong line's Compton and Rayleigh peaks.

    If the axis ends below them, or the source has no such line: the continuum from 0.6 to 0.9 of the highest energy.

    Raises
    ------
    CoverageError
        The axis ends below that as well.
    """
    energy, weight, width = source_spectrum(instrument)
    lines = (width == 0) & (energy > 8.0) & (energy < axis.stop_kev)
    if lines.any():
        # of the K lines, alpha's
        strongest = float(energy[lines][np.argmax(weight[lines] * energy[lines])])
        shifted = float(compton_energy(np.array([strongest]), instrument.geometry.scattering_angle_deg)[0])
        low, high = 0.965 * shifted, 1.015 * strongest
    else:
        low, high = 0.6 * instrument.highest_kev, min(0.9 * instrument.highest_kev, axis.stop_kev)
    if high - low < 0.3:
        raise CoverageError(
            f"Cannot compute quantities: the spectra end at {axis.stop_kev:.1f} keV, and scattered tube radiation is "
            f"measured from {low:.1f} keV on. Give an instrument whose voltage fits, or record harder radiation."
        )
    used = (axis.energy_kev >= low) & (axis.energy_kev <= high)
    return slice(int(np.flatnonzero(used)[0]), int(np.flatnonzero(used)[-1]) + 1)


class Response(NamedTuple):
    """Modelled counts of a batch of stratigraphies, on the model's scale.

    Parameters
    ----------
    counts : (n, n_layer, n_family) array
        By layer of origin.
    scatter : (n,) array
        Counts in the scatter window, including lines.
    """

    counts: Array
    scatter: Array


def predicted(
    stratigraphies: Sequence[Stratigraphy],
    instrument: Instrument,
    axis: EnergyAxis,
    families: Sequence[str],
    window: slice,
) -> Response:
    """Return the modelled counts of stratigraphies."""
    emission = emit(stratigraphies, instrument, detail=_DETAIL, workers=2, single=True)
    detector, lines = instrument.detector, emission.lines
    of_family = np.stack([np.asarray([name == family for name in lines.family]) for family in families], axis=1)
    detected = of_family * efficiency(detector, lines.energy_kev)[:, None]

    def in_window(energy: Array, width: Array | float) -> Array:
        spread = np.zeros(energy.size) + np.asarray(width) / np.sqrt(12.0)
        return np.asarray(response_matrix(detector, axis, energy, spread)[:, window].sum(axis=1))

    scatter = (
        np.asarray(emission.line_photons) @ in_window(lines.energy_kev, 0.0)
        + np.asarray(emission.coherent) @ in_window(emission.source_kev, emission.width_kev)
        + np.asarray(emission.shifted) @ in_window(emission.compton_kev, emission.compton_width_kev)
    )
    return Response(np.asarray(emission.layer_photons, np.float64) @ detected, np.asarray(scatter, np.float64))


class _Hypotheses(NamedTuple):
    """Unknowns that the areas do not determine, n_hypothesis of each; the first has the central values."""

    oxidised: Array
    light: Array
    scale: Array
    error: Array
    thickness_um: Array
    beneath: Array
    beneath_um: Array
    dark: Array
    ground: Array


class _Solution(NamedTuple):
    """Of n systems: quantities (n, n_element), sensitivities, shares from beneath, scale, scatter and log weights."""

    amount: Array
    sensitivity: Array
    beneath: Array
    scale: Array
    scatter: Array
    weight: Array


class Quantifier:
    """Quantities from areas, prepared on a sample of a scan's pixels, ready for any of them.

    Parameters
    ----------
    names : sequence of str
        Line families, ``Fe_K``.
    area, sigma : (n, n_family) arrays
        Of the pixels from which the classes are made.
    scatter : (n,) array
        Their counts in :func:`scatter_window`.
    instrument : Instrument
    axis : EnergyAxis
    kind, matrix, thickness_um
        As for :func:`quantify`.
    seconds : (n,) array, optional
        Their live times.
    """

    def __init__(
        self,
        names: Sequence[str],
        area: Array,
        sigma: Array,
        scatter: Array,
        instrument: Instrument,
        axis: EnergyAxis,
        *,
        kind: str = "mass_percent",
        matrix: str = "paint",
        thickness_um: tuple[float, float] | None = None,
        seconds: Array | None = None,
        n_classes: int = N_CLASSES,
        n_hypotheses: int = N_HYPOTHESES,
    ) -> None:
        QuantityRequest(kind, matrix, thickness_um).check(instrument)
        self.kind, self.instrument, self.axis = kind, instrument, axis
        self.window = scatter_window(instrument, axis)
        is_excitation_known = (
            instrument.source_spectrum is not None or "line_factor" in instrument.tube.model_fields_set
        )
        self.scale = instrument.scale or Scale(
            counts_per_scatter=1.0, error=SCALE_ERROR if is_excitation_known else TUBE_SCALE_ERROR
        )
        self._scale_error, self._usual_dark = max(self.scale.error, 0.03), MATRICES[matrix][2]
        self._by_time = self.scale.counts_per_s is not None and seconds is not None
        if not self._by_time and self.scale.counts_per_scatter is None:
            raise InstrumentError(
                f"Cannot compute quantities: the scale of the instrument {instrument.name!r} is per second, and the "
                "scan has no live times. Measure the standard again with `underpaint calibrate --standard`."
            )
        self._names = tuple(names)
        valid = np.isfinite(area).all(axis=1) & (scatter > 0)
        if self._by_time and seconds is not None:
            valid &= seconds > 0
        if scatter[valid].sum() < _MIN_SCATTER:
            raise CoverageError(
                f"Cannot compute quantities: {scatter[valid].sum():.0f} counts of scattered tube radiation were "
                f"recorded, at least {_MIN_SCATTER:.0f} are needed to determine the dark matrix. Check the energy axis."
            )
        rows = np.flatnonzero(valid)
        rows = rows[np.sort(np.random.default_rng(_SEED).permutation(len(rows))[:_MAX_SAMPLED])]
        area, sigma, scatter = area[rows], sigma[rows], scatter[rows]
        self.elements, self._main, self._other = self._chosen(sigma.mean(axis=0))
        if not self.elements:
            raise CoverageError(
                f"Cannot compute quantities: none of {', '.join(names)} is a line that the source excites."
            )
        self.families = tuple(self._names[index] for index in self._main)
        self._oxygen = np.asarray(
            [OXYGEN.get(symbol, 1.0) * atomic_weight("O") / atomic_weight(symbol) for symbol in self.elements]
        )
        factors = [self.scale.factor(name) for name in self._names]
        self._factor = np.asarray([factor for factor, _ in factors])
        self._family_error = np.asarray(
            [
                error if name in self.scale.families else float(np.hypot(error, _model_error(name)))
                for name, (_, error) in zip(self._names, factors, strict=True)
            ]
        )
        detected = area[:, self._main] > DETECTED_SIGMAS * sigma[:, self._main]
        self._seen = np.flatnonzero(detected.mean(axis=0) > min(_MIN_SEEN, detected.mean(axis=0).max() / 2))
        self._seen = self._seen if self._seen.size else np.arange(len(self.elements))
        self._hypotheses = self._draw(matrix, thickness_um, n_hypotheses)
        self.notes = self._notes(matrix, thickness_um)

        points = _points(area, scatter)
        n_classes = min(n_classes, len(np.unique(points, axis=0)))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # a class may stay empty
            centres, label = kmeans2(points, n_classes, minit="++", rng=np.random.default_rng(_SEED))
        present = np.unique(label)
        self._centres = centres[present]
        time = np.ones(len(area)) if not self._by_time or seconds is None else seconds[rows]
        # deviations do not average out: interference is the same in all pixels of a class
        mean = [
            [np.mean(values[label == index], axis=0) for index in present] for values in (area, sigma, scatter, time)
        ]
        self._prepare(*(np.asarray(values) for values in mean))

    def __call__(self, area: Array, sigma: Array, scatter: Array, seconds: Array | None = None) -> Array:
        """Return (n, n_element, 3) values and the ends of their 90 % intervals; NaN without a spectrum."""
        result = np.full((len(area), len(self.elements), 3), np.nan)
        valid = np.isfinite(area).all(axis=1) & (scatter > 0)
        if self._by_time and seconds is not None:
            valid &= seconds > 0
        points = _points(area[valid], scatter[valid])
        label = np.argmin((self._centres**2).sum(axis=1) - 2.0 * points @ self._centres.T, axis=1)
        rows = np.flatnonzero(valid)
        for index in np.unique(label):
            of_class = rows[label == index]
            time = np.ones(len(of_class)) if not self._by_time or seconds is None else seconds[of_class]
            result[of_class] = self._pixels(index, area[of_class], sigma[of_class], scatter[of_class], time)
        return result

    def _chosen(self, sigma: Array) -> tuple[tuple[str, ...], list[int], list[int]]:
        """Return elements, the family that determines the mass of each most precisely, and the other families."""
        source = {"Ar"} if self.instrument.source_spectrum is not None else {"Ar", self.instrument.tube.anode}
        symbols = [name.partition("_")[0] for name in self._names]
        traces = dict.fromkeys(sorted(set(symbols)), 1e-4)
        light = {name: (1.0 - sum(traces.values())) * part for name, part in mass_fractions("CH2O").items()}
        for name, part in light.items():
            traces[name] = traces.get(name, 0.0) + part
        layer = Layer(traces, 1.0, 1e4 * THICK_G_CM2)
        counts = predicted([Stratigraphy((layer,))], self.instrument, self.axis, self._names, self.window).counts[0, 0]
        # the model does not predict a part of a family, ``Pb_L3``
        usable = [
            index
            for index, name in enumerate(self._names)
            if symbols[index] not in source and name[-1] in SENSITIVITY_ERROR and counts[index] > 0
        ]
        precision = counts / np.maximum(sigma, 1e-9) * [SENSITIVITY_ERROR["K"] / _model_error(n) for n in self._names]
        best: dict[str, int] = {}
        for index in sorted(usable, key=lambda index: float(precision[index])):
            best[symbols[index]] = index
        elements = tuple(sorted(best, key=atomic_number))
        main = [best[element] for element in elements]
        return elements, main, [index for index in usable if index not in main]

    # -- hypotheses ----------------------------------------------------------------------------------------------

    def _draw(self, matrix: str, thickness_um: tuple[float, float] | None, n: int) -> _Hypotheses:
        """Draw hypotheses, each of their numbers spread evenly (Latin hypercube); the first is the middle."""
        from scipy.stats import qmc  # takes a third of a second to import

        (least, most), weights, _ = MATRICES[matrix]
        light = {
            name: fraction for name, fraction in weights.items() if not set(mass_fractions(name)) & set(self.elements)
        }
        self._light = tuple(sorted({symbol for name in light for symbol in mass_fractions(name)}))
        n_family, n_element = len(self._names), len(self.elements)
        sampler = qmc.LatinHypercube(6 + len(light) + n_family + 2 * n_element, rng=np.random.default_rng(_SEED))
        drawn = sampler.random(n)
        drawn[0] = 0.5
        single, shares, errors, layer_draws, how_much = np.split(
            drawn, np.cumsum([6, len(light), n_family, n_element]), axis=1
        )
        shares = gammaincinv(np.asarray(list(light.values())), shares)
        shares /= shares.sum(axis=1, keepdims=True)
        low, high = thickness_um or _THICKNESS_UM.get(self.kind, (1.0, np.inf))
        # a uniformly distributed inverse includes infinity
        thickness = (
            low * (high / low) ** single[:, 2] if np.isfinite(high) else low / np.maximum(1.0 - single[:, 2], 1e-9)
        )
        beneath = _drawn_beneath(layer_draws, how_much, self._seen) * (self.kind == "surface")
        return _Hypotheses(
            oxidised=least + (most - least) * np.clip(1.6 * single[:, 0] - 0.3, 0.0, 1.0),
            light=shares @ [[mass_fractions(name).get(symbol, 0.0) for symbol in self._light] for name in light],
            scale=np.exp(self._scale_error * ndtri(single[:, 1])),
            error=np.exp(self._family_error * ndtri(errors)),
            thickness_um=thickness,
            beneath=beneath,
            beneath_um=30.0 * 10.0 ** single[:, 3],
            dark=0.05 + 0.4 * single[:, 4],
            ground=0.01 * 50.0 ** single[:, 5],
        )

    def _draw_like(self, log_weights: Sequence[Array]) -> None:
        """Add as many hypotheses for each class: thickness and shares from beneath are near those that fit it."""
        rng, hypotheses, n = np.random.default_rng(_SEED + 1), self._hypotheses, len(log_weights[0])
        parents = np.concatenate([rng.choice(n, n, p=_tempered(weight)) for weight in log_weights])
        permuted = np.concatenate([rng.permutation(n) for _ in log_weights])
        beneath = hypotheses.beneath[parents]
        changed = rng.uniform(size=beneath.shape) < 0.5 / beneath.shape[1]
        more = _Hypotheses(*(values[permuted] for values in hypotheses))._replace(
            thickness_um=hypotheses.thickness_um[parents] * np.exp(0.3 * rng.standard_normal(parents.size)),
            beneath=np.where(changed, 1.0 - beneath, beneath),
            beneath_um=hypotheses.beneath_um[parents],
        )
        self._hypotheses = _Hypotheses(*(np.concatenate(pair) for pair in zip(hypotheses, more, strict=True)))

    # -- classes -------------------------------------------------------------------------------------------------

    def _prepare(self, area: Array, sigma: Array, scatter: Array, seconds: Array) -> None:
        """Solve every class under every hypothesis; keep the values that pixels need."""
        n_class, n = len(area), len(self._hypotheses.scale)
        classes, which = np.repeat(np.arange(n_class), n), np.tile(np.arange(n), n_class)

        def solve(classes: NDArray[np.intp], which: NDArray[np.intp]) -> _Solution:
            return self._solve(area[classes], sigma[classes], scatter[classes], seconds[classes], which)

        solved = solve(classes, which)
        if self.kind == "surface":
            # few hypotheses about the layers beneath fit a class: more are drawn around those that do
            self._draw_like([solved.weight[classes == index] for index in range(n_class)])
            again = n + np.arange(n_class * n)
            more = solve(classes, again)
            solved = _Solution(*(np.concatenate(pair) for pair in zip(solved, more, strict=True)))
            classes, which = np.tile(classes, 2), np.concatenate([which, again])
        self._base = _Solution(*(values[which == 0] for values in solved))
        self._slopes = self._derivatives()
        self._ratio = np.empty((n_class, len(self.elements), 3))
        for index in range(n_class):
            in_class = classes == index
            weight = _tempered(solved.weight[in_class])
            ratios = solved.amount[in_class] / np.maximum(self._base.amount[index], 1e-300)
            for element, share in enumerate(solved.beneath[in_class].T):
                under = share > 0.5
                is_mixed = under.any() and not under.all()
                fair = _fairly(weight, solved.weight[in_class], under) if is_mixed else weight
                self._ratio[index, element] = _quantiles(ratios[:, element], fair)

    def _solve(self, area: Array, sigma: Array, scatter: Array, seconds: Array, which: NDArray[np.intp]) -> _Solution:
        """Find the amounts that reproduce the areas of the main families under each hypothesis."""
        main, hypotheses = self._main, self._hypotheses
        least = 1e-4 * np.maximum(area, 0.0).sum(axis=1, keepdims=True)
        goal = np.maximum(area, np.maximum(least, 0.1 * sigma)) / self._factor
        oxygen = hypotheses.oxidised[which, None] * self._oxygen
        share = goal[:, main] / goal[:, main].sum(axis=1, keepdims=True)
        amount = 0.5 * share / (share * (1.0 + oxygen)).sum(axis=1, keepdims=True)
        if self.kind == "ug_cm2":
            amount = 1e-4 * amount
        beneath = amount * hypotheses.beneath[which]
        total = np.ones(len(area))
        for step in range(_N_ROUNDS + 1):
            predicted_counts = predicted(
                [self._stratigraphy(*row) for row in zip(amount, beneath, oxygen, which, strict=True)],
                self.instrument, self.axis, self._names, self.window,
            )  # fmt: skip
            counts = predicted_counts.counts * hypotheses.error[which, None]
            upper, lower = counts[:, 0][:, main], counts[:, 1:].sum(axis=1)[:, main]
            scale = self._scale_of(scatter, predicted_counts.scatter, seconds) * hypotheses.scale[which]
            sensitivity = upper / np.maximum(amount, 1e-300)
            if step == _N_ROUNDS:
                break
            left = np.maximum(goal[:, main] - scale[:, None] * lower, 1e-3 * goal[:, main])
            amount = np.clip(left / (scale[:, None] * np.maximum(sensitivity, 1e-300)), 0.1 * amount, 10.0 * amount)
            if self.kind != "ug_cm2":
                amount, total = _closed(amount, oxygen)
            if hypotheses.beneath.any():
                target = hypotheses.beneath[which] * goal[:, main] / np.maximum(scale[:, None] * lower, 1e-300)
                beneath = np.maximum(beneath, _MIN_FRACTION * (hypotheses.beneath[which] > 0)) * np.clip(
                    target, 0.1, 10.0
                )
                beneath, _ = _closed(beneath, oxygen, 0.15)
        weight = -0.5 * (np.log(np.maximum(total, 1.0)) / self._scale_error) ** 2
        if self.kind != "ug_cm2":
            dark = 1.0 - (amount * (1.0 + oxygen)).sum(axis=1)
            weight = weight - 0.5 * (np.maximum(self._usual_dark - dark, 0.0) / LESS_DARK) ** 2
        # layers beneath cannot contribute more than the detected counts
        excess = np.log(np.maximum(scale[:, None] * lower / goal[:, main], 1.0))
        weight = weight - 0.5 * ((excess / 0.1) ** 2 * (area[:, main] > DETECTED_SIGMAS * sigma[:, main])).sum(axis=1)
        every = scale[:, None] * counts.sum(axis=1)
        # the prediction is as uncertain as the main family: uninformative for an element that is nearly absent
        min_known = goal[:, main] - area[:, main] / self._factor[main]
        doubt = np.maximum(sigma[:, main] / self._factor[main], min_known) / goal[:, main]
        for index in self._other:
            element = self.elements.index(self._names[index].partition("_")[0])
            error = _model_error(self._names[index]) * np.maximum(area[:, index], every[:, index])
            spread = every[:, index] * doubt[:, element]
            off = area[:, index] / self._factor[index] - every[:, index]
            weight = weight - 0.5 * off**2 / (sigma[:, index] ** 2 + error**2 + spread**2)
        beneath = scale[:, None] * lower / goal[:, main]
        return _Solution(amount, sensitivity, beneath, scale, predicted_counts.scatter, weight)

    def _scale_of(self, scatter: Array, modelled: Array, seconds: Array) -> Array:
        """Return counts over those of the model."""
        if self._by_time and self.scale.counts_per_s is not None:
            return self.scale.counts_per_s * seconds
        return scatter / modelled * (self.scale.counts_per_scatter or 1.0)

    def _stratigraphy(self, amount: Array, beneath: Array, oxygen: Array, which: int) -> Stratigraphy:
        hypotheses = self._hypotheses
        light, dark = (
            dict(zip(self._light, hypotheses.light[which].tolist(), strict=True)),
            float(hypotheses.dark[which]),
        )
        ground = Layer(light, 1.0, 1e4 * (THICK_G_CM2 if self.kind == "ug_cm2" else float(hypotheses.ground[which])))
        if self.kind == "ug_cm2":
            areal = float((amount * (1.0 + oxygen)).sum() / (1.0 - dark))
            return Stratigraphy((self._layer(amount / areal, oxygen, light, areal), ground))
        areal = _areal(float(hypotheses.thickness_um[which]), amount, oxygen)
        top = self._layer(amount, oxygen, light, areal)
        if self.kind == "surface":
            under = self._layer(beneath, oxygen, light, _areal(float(hypotheses.beneath_um[which]), beneath, oxygen))
            return Stratigraphy((top, under, ground))
        return Stratigraphy((top,) if areal >= THICK_G_CM2 else (top, ground))

    def _layer(self, amount: Array, oxygen: Array, light: Mapping[str, float], areal: float) -> Layer:
        dark = max(1.0 - float((amount * (1.0 + oxygen)).sum()), 0.0)
        fractions = {name: dark * share for name, share in light.items()}
        for name, part in zip(self.elements, amount, strict=True):
            fractions[name] = fractions.get(name, 0.0) + float(part)
        fractions["O"] = fractions.get("O", 0.0) + float(amount @ oxygen)
        total = sum(fractions.values())
        return Layer({name: part / total for name, part in fractions.items()}, 1.0, 1e4 * areal)

    def _derivatives(self) -> tuple[Array, Array]:
        """Return how the logarithms of sensitivity (n_class, n_element, n_element) and scatter change with amounts."""
        base, n = self._base, len(self.elements)
        oxygen = self._hypotheses.oxidised[0] * self._oxygen
        unit = 1.0 if self.kind != "ug_cm2" else 0.1 * base.amount.sum(axis=1, keepdims=True)[:, :, None]
        changed = base.amount[:, None, :] + _STEP_FRACTION * unit * np.eye(n)
        flat = changed.reshape(-1, n)
        if self.kind != "ug_cm2":
            flat, _ = _closed(flat, oxygen)
        changed = flat.reshape(changed.shape)
        zeros = np.zeros(n)
        counts = predicted(
            [self._stratigraphy(row, zeros, oxygen, 0) for row in (*flat, *base.amount)],
            self.instrument, self.axis, self._names, self.window,
        )  # fmt: skip
        counts = Response(np.maximum(counts.counts[:, 0][:, self._main], 1e-300), counts.scatter)
        sensitivity = np.log(counts.counts[: len(flat)].reshape(changed.shape) / np.maximum(changed, 1e-300))
        at = np.log(counts.counts[len(flat) :] / np.maximum(base.amount, 1e-300))
        scatter, at_scatter = np.log(counts.scatter[: len(flat)].reshape(-1, n)), np.log(counts.scatter[len(flat) :])
        step = np.broadcast_to(_STEP_FRACTION * unit * np.ones((len(base.amount), n, 1)), (len(base.amount), n, 1))
        by_amount = (sensitivity - at[:, None, :]) / step
        return np.swapaxes(by_amount, 1, 2), (scatter - at_scatter[:, None]) / step[:, :, 0]

    # -- pixels --------------------------------------------------------------------------------------------------

    def _pixels(self, index: int, area: Array, sigma: Array, scatter: Array, seconds: Array) -> Array:
        """Return (n, n_element, 3) of pixels of one class."""
        main = self._main
        ratio = area[:, main] / self._factor[main]
        deviation = sigma[:, main] / self._factor[main]
        at, sensitivity = self._base.amount[index], self._base.sensitivity[index]
        by_amount, scatter_by_amount = (slope[index] for slope in self._slopes)
        oxygen = self._hypotheses.oxidised[0] * self._oxygen
        amount = np.broadcast_to(at, ratio.shape)
        for _ in range(_N_PIXEL_ROUNDS):
            off = np.clip(amount, 0.0, None) - at
            local_sensitivity = sensitivity * np.exp(np.clip(off @ by_amount.T, -1.0, 1.0))
            modelled = self._base.scatter[index] * np.exp(np.clip(off @ scatter_by_amount, -1.0, 1.0))
            scale = self._scale_of(scatter, modelled, seconds)[:, None]
            new = ratio / (scale * local_sensitivity)
            if self.kind != "ug_cm2":
                new, _ = _closed(new, oxygen)
            amount = 0.5 * (amount + new)
        amount = new
        noise = np.hypot(
            deviation / (scale * local_sensitivity), 0.0 if self._by_time else amount / np.sqrt(scatter[:, None])
        )
        middle, low, high = np.moveaxis(self._ratio[index], 1, 0)
        value, reach, size = amount * middle, float(ndtri(0.5 + 0.5 * LEVEL)) * noise * middle, np.abs(amount)
        ends = value - np.hypot(size * (middle - low), reach), value + np.hypot(size * (high - middle), reach)
        unit = 1e6 if self.kind == "ug_cm2" else 100.0
        result = unit * np.stack([value, np.maximum(ends[0], 0.0), ends[1]], axis=2)
        if self.kind != "ug_cm2":
            result[..., 2] = np.clip(result[..., 2], 0.0, 100.0)
        return result

    @property
    def wide_note(self) -> str:
        """Return a note where most intervals are wide."""
        note = "Most intervals are too wide for a value to be quoted: compare places by the maps."
        if not self._by_time:
            note += (
                " The layers below scatter as well, by an unknown amount: a standard and live times do without scatter."
            )
        if self.kind == "mass_percent":
            note += " Under a layer that hides all beneath it (--thickness 500-inf) intervals are narrower."
        return note

    def _notes(self, matrix: str, thickness_um: tuple[float, float] | None) -> tuple[str, ...]:
        if self.instrument.scale is None:
            scale = (
                "No standard: the scale is relative, from the scattered tube radiation by the model; with the dark "
                "matrix the elements sum to 100 %. `underpaint calibrate --standard` makes it absolute."
            )
        elif self._by_time:
            scale = f"The scale is absolute, from a standard, per second of live time ({self.scale.error:.0%})."
        else:
            scale = (
                f"The scale is absolute, from a standard, per count of scattered radiation ({self.scale.error:.0%})."
            )
        low, high = thickness_um or _THICKNESS_UM.get(self.kind, (0.0, np.inf))
        thick = f"{low:g} um thick or thicker" if np.isinf(high) else f"{low:g} to {high:g} um thick"
        assumed = {
            "mass_percent": f"Assumed: one homogeneous layer, {thick}",
            "surface": f"Assumed: an uppermost paint, {thick}, and any part of an element beneath it",
            "ug_cm2": "Assumed: all lines come from one thin layer on a thick substrate without lines",
        }[self.kind]
        return scale, f"{assumed}; the matrix without lines is taken as {matrix}."


def _model_error(family: str) -> float:
    return SENSITIVITY_ERROR[family.partition("_")[2][0]]


def _points(area: Array, scatter: Array) -> Array:
    """Return the coordinates of pixels for the classes: roots of shares, whose noise is uniform."""
    counts = np.concatenate([np.maximum(area, 0.0), np.maximum(scatter, 0.0)[:, None]], axis=1)
    return np.asarray(np.sqrt(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1e-9)))


def _closed(amount: Array, oxygen: Array, min_dark: float = _MIN_DARK) -> tuple[Array, Array]:
    """Return amounts that add up to at most one per sample, and the sums before."""
    total = (np.maximum(amount, 0.0) * (1.0 + oxygen)).sum(axis=1) / (1.0 - min_dark)
    return amount / np.maximum(total, 1.0)[:, None], total


def _areal(thickness_um: float, amount: Array, oxygen: Array) -> float:
    """Return g/cm2 of a layer: heavy compounds have 5 g/cm3, binder 1."""
    solid = min(float((amount * (1.0 + oxygen)).sum()), 1.0)
    density = 1.0 / (solid / 5.0 + (1.0 - solid))
    return float(min(1e-4 * thickness_um * density, THICK_G_CM2))


def _tempered(log_weight: Array) -> Array:
    """Return weights that sum to one, flattened until several hypotheses count: their errors are not independent."""
    for power in np.geomspace(1.0, 1e-4, 40):
        weight = np.exp(power * (log_weight - log_weight.max()))
        weight /= weight.sum()
        if 1.0 / (weight**2).sum() >= min(_MIN_EFFECTIVE, 0.5 * weight.size):
            break
    return np.asarray(weight)


def _drawn_beneath(draws: Array, how_much: Array, detected: NDArray[np.intp]) -> Array:
    """Return (n, n_element) shares of each element's counts from beneath the uppermost paint.

    In a third of the hypotheses no counts are from beneath, in a third those of one detected element, in a third those
    of any.
    """
    n, n_element = draws.shape
    share = np.where(how_much < 0.3, how_much / 0.3, 1.0)
    third = np.arange(n) % 3
    is_single = np.arange(n_element) == detected[np.arange(n) // 3 % detected.size][:, None]
    return np.asarray(share * np.where(third[:, None] == 1, is_single, (third[:, None] == 2) & (draws < 0.4)))


def _fairly(weight: Array, log_weight: Array, under: NDArray[np.bool_]) -> Array:
    """Return weights with equal prior probability that an element is beneath or not."""
    odds = np.exp(np.clip(log_weight[under].max() - log_weight[~under].max(), -20.0, 20.0))
    within = weight + 1e-12
    beneath, not_beneath = odds * within / within[under].sum(), within / within[~under].sum()
    return np.asarray(np.where(under, beneath, not_beneath) / (1.0 + odds))


def _quantiles(values: Array, weight: Array) -> Array:
    """Return median and the ends of the interval."""
    order = np.argsort(values)
    cumulated = np.cumsum(weight[order]) - 0.5 * weight[order]
    return np.asarray(np.interp([0.5, 0.5 - 0.5 * LEVEL, 0.5 + 0.5 * LEVEL], cumulated, values[order]))
