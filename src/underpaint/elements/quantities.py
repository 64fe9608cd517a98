"""Mass fractions in a layer, or areal masses of a thin layer, from element areas by fundamental parameters.

The areas do not determine all parameters of a paint. Binder and carbonates have no recorded lines ("dark matrix"). The
thickness of a layer is unknown, and part of an element may be in lower layers. Random hypotheses are drawn for the
undetermined parameters. For each hypothesis, fixed-point iteration finds the mass fractions for which the forward model
(Sherman 1955 with enhancement) reproduces the measured areas. Light elements make up the remainder of the mass
fractions to one. The scale is the ratio of measured to modelled counts. The scale is determined from the scattered tube
radiation or from a standard. A hypothesis has a large weight if it predicts the other lines of the elements, and a
plausible sum of mass fractions. The credible interval is computed from the weighted hypotheses.

The hypotheses are evaluated for classes of pixels with similar composition. Within a class, sensitivities convert the
areas of a pixel to quantities. The logarithm of a sensitivity is a linear function of the composition.
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
from underpaint.data.maps import AREAL_MASS, INTERVAL_PROBABILITY, MASS_FRACTION, Estimate, Results, is_determined
from underpaint.elements.fit import fit_elements
from underpaint.errors import CoverageError, InstrumentError, SampleError, ScanError
from underpaint.physics.atomic import atomic_number, atomic_weight, compton_energy
from underpaint.physics.forward import Detail, efficiency, emit, response_matrix, source_spectrum
from underpaint.physics.instrument import Instrument, Scale
from underpaint.physics.materials import Layer, Stratigraphy, mass_fractions

Array = NDArray[np.float64]

QUANTITY_KINDS = {
    "mass_percent": (MASS_FRACTION, "one homogeneous layer"),
    "surface": (MASS_FRACTION, "uppermost paint"),
    "ug_cm2": (AREAL_MASS, "thin layer"),
}
"""Result quantity, and assumed structure of the sample, for each kind of request."""
MATRICES = {
    "paint": ((0.0, 1.0), {"C18H32O2": 3.0, "CO2": 0.7, "H2O": 0.3, "SiO2": 0.3}, 0.2),
    "oxides": ((1.0, 1.0), {"CO2": 1.0, "H2O": 1.0, "C": 0.3, "Na2O": 0.2, "MgO": 0.5}, 0.0),
}
"""For each matrix: range of the oxidised fraction of elements, weights of dark compounds, and minimum dark fraction.

Dark compounds have no recorded lines. The weights are parameters of a Dirichlet distribution. Binder is typically at
least a fifth of a paint by mass. Dark fractions below the minimum are improbable but possible.
"""
OXYGEN_PER_ATOM = {
    "Na": 0.5, "Mg": 1.0, "Al": 1.5, "Si": 2.0, "P": 2.5, "S": 0.0, "Cl": 0.0, "K": 0.5, "Ti": 2.0, "V": 2.5,
    "Cr": 1.5, "Fe": 1.5, "Ga": 1.5, "Ge": 2.0, "As": 1.5, "Se": 0.0, "Br": 0.0, "Rb": 0.5, "Y": 1.5, "Zr": 2.0,
    "Nb": 2.5, "Mo": 3.0, "Ag": 0.5, "Sn": 2.0, "Sb": 2.0, "W": 3.0, "Au": 0.0, "Hg": 0.0, "Bi": 1.5, "Th": 2.0,
    "U": 2.67,
}  # fmt: skip
"""Oxygen atoms per atom of an element in its common oxide; 1 for other elements."""
MODELLED_COUNTS_ERROR = {"K": 0.03, "L": 0.05, "M": 0.15}
"""Relative error of a family's modelled counts, by shell, due to errors of atomic data and detector response."""
SCALE_ERROR, TUBE_SCALE_ERROR = 0.1, 0.2
"""Relative error of the modelled ratio of scatter to fluorescence: in general, and for tubes without ``line_factor``.

Simulation codes differ by a factor of 1.7 in the ratio of anode lines to continuum (``physics.forward.source``).
"""
MIN_DARK_FRACTION_SIGMA = 0.08
"""Standard deviation of the prior for dark mass fractions below the minimum of the matrix."""
DETECTION_SIGMAS = 3.0
N_PIXEL_CLASSES, N_HYPOTHESES = 24, 96
_N_CLASS_ITERATIONS, _N_PIXEL_ITERATIONS = 7, 5
INFINITE_AREAL_DENSITY = 10.0
_DEFAULT_THICKNESS_UM = {"mass_percent": (50.0, np.inf), "surface": (5.0, 200.0)}
_MIN_MASS_FRACTION, _MIN_DARK_FRACTION = 1e-7, 0.01
_MIN_EFFECTIVE_HYPOTHESES = 16.0
_RELATIVE_AMOUNT_STEP = 0.01
_MIN_DETECTED_FRACTION = 0.01
"""Minimum fraction of pixels with an element for separate hypotheses on the element in lower layers."""
_MIN_SCATTER_COUNTS, _MAX_SAMPLE_PIXELS = 100.0, 16384
_SEED = 2
_TRANSPORT_DETAIL = Detail(orders=2, weakest_exciting=5e-3)


@dataclass(frozen=True)
class QuantityRequest:
    """Request for quantities; the parameters are those of :func:`quantify`.

    Parameters
    ----------
    kind, matrix : str
        Names in ``QUANTITY_KINDS`` and ``MATRICES``.
    thickness_um : (float, float) or None
        Range of the layer's thickness, in um.

    Raises
    ------
    SampleError
        The quantity or the matrix is unknown, the thickness range is not valid, or a thickness is given for areal
        masses.
    """

    kind: str
    matrix: str = "paint"
    thickness_um: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        """Raise an error for invalid requests."""
        kind, matrix, thickness_um = self.kind, self.matrix, self.thickness_um
        if kind not in QUANTITY_KINDS:
            raise SampleError(f"Cannot compute quantities {kind!r}: available are {', '.join(QUANTITY_KINDS)}.")
        if matrix not in MATRICES:
            raise SampleError(
                f"Cannot compute quantities with the matrix {matrix!r}: available are {', '.join(MATRICES)}."
            )
        if thickness_um is not None and not 0 < thickness_um[0] <= thickness_um[1]:
            raise SampleError(
                f"Cannot compute quantities of a layer {thickness_um[0]:g} to {thickness_um[1]:g} um thick: the "
                "thickness must be above 0, and the second number not below the first. Give the range as (20, 100)."
            )
        if kind == "ug_cm2" and thickness_um is not None:
            raise SampleError(
                "Cannot use a thickness for ug/cm2: the areal mass of a thin layer follows from its lines alone. Omit "
                "the thickness, or use mass_percent."
            )

    def check(self, instrument: Instrument | None) -> None:
        """Raise an error if areal masses are requested and the instrument is unknown (None) or has no scale.

        Raises
        ------
        InstrumentError
            The scale is missing.
        """
        if self.kind == "ug_cm2" and (instrument is None or instrument.scale is None):
            instrument_name = "not given" if instrument is None else instrument.name
            raise InstrumentError(
                f"Cannot give ug/cm2: the instrument {instrument_name!r} has no scale, so that areas are relative."
                " Measure a material of known composition and run `underpaint calibrate --standard FILE --composition "
                "...`, or ask for mass_percent."
            )

    def record(self) -> dict[str, Any]:
        """Return the request as a JSON-serialisable dictionary; an infinite thickness becomes None."""
        limits_um = (
            None
            if self.thickness_um is None
            else [limit_um if np.isfinite(limit_um) else None for limit_um in self.thickness_um]
        )
        return {"kind": self.kind, "matrix": self.matrix, "thickness_um": limits_um}


def line_areas(maps: Results, quantity: str) -> Array:
    """Return the (n_pixel, n_line) values, in counts, of ``area`` or ``area_sigma`` for all line families."""
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
    """Return maps of quantities of the elements of a scan, with 90 % intervals.

    Parameters
    ----------
    scan : Scan
        Scan with an energy axis.
    instrument : Instrument
        Source, geometry and detector, and ``scale`` if a standard was measured.
    kind : {"mass_percent", "surface", "ug_cm2"}
        Mass per cent in one homogeneous layer, mass per cent in the uppermost paint, or areal mass of a thin layer
        (ug/cm2). With "surface", part of each element may be in lower layers.
    maps : Results, optional
        Element maps; by default they are fitted.
    matrix : {"paint", "oxides"}
        Assumption on oxygen and on compounds without recorded lines. "paint" assumes binder, carbonate and partly
        oxidised elements. "oxides" assumes minerals.
    thickness_um : (float, float), optional
        Range of the thickness of the layer, in um; the upper limit may be infinite. Default: 50 um to infinity for the
        homogeneous layer, 5 to 200 um for the uppermost paint.

    Returns
    -------
    Results
        ``mass_fraction`` (%) or ``areal_mass`` (ug/cm2) of each element, with 90 % intervals. If the lower limit is
        zero, only the upper limit is determined. Pixels without a spectrum are NaN. Notes state the origin of the scale
        and the assumptions.

    Raises
    ------
    InstrumentError
        Areal masses are requested for an instrument without a scale.
    SampleError
        The quantity or the matrix is unknown, or the thickness is not valid.
    CoverageError
        No element has a modelled line, or too little scattered tube radiation was recorded.
    ScanError
        Scan and maps have different sizes.

    Examples
    --------
    A map of lead in mass per cent: ``quantify(scan, load_instrument("scanner.toml")).mass_fraction.sel(element="Pb",
    quantile=0.5)``.
    """
    maps = fit_elements(scan, instrument=instrument) if maps is None else maps
    axis = scan.require_axis()
    if maps.shape != scan.shape[:2]:
        raise ScanError(
            f"Cannot compute quantities: the scan has {scan.shape[0]} x {scan.shape[1]} pixels, the element maps have "
            f"{maps.shape[0]} x {maps.shape[1]}; give the maps of this scan."
        )
    scatter_channels = scatter_window(instrument, axis)
    scatter_counts = np.asarray(scan.counts[:, :, scatter_channels].sum(axis=2).compute(), np.float64).ravel()
    live_time_s = None if scan.live_time_s is None else np.asarray(scan.live_time_s, np.float64).ravel()
    area, sigma = (line_areas(maps, quantity_name) for quantity_name in ("area", "area_sigma"))
    quantifier = Quantifier(
        maps.lines, area, sigma, scatter_counts, instrument, axis,
        kind=kind, matrix=matrix, thickness_um=thickness_um, live_times_s=live_time_s,
    )  # fmt: skip
    quantities = (
        quantifier(area, sigma, scatter_counts, live_time_s)
        .astype(np.float32)
        .reshape(*scan.shape[:2], len(quantifier.elements), 3)
    )
    quantity, sample_text = QUANTITY_KINDS[kind]
    settings = QuantityRequest(kind, matrix, thickness_um).record() | {
        "sample": sample_text,
        "instrument": instrument.name,
        "families": list(quantifier.families),
    }
    central_value, lower_limit, upper_limit = np.moveaxis(quantities, 3, 0)
    is_above_zero = lower_limit > 0
    notes = quantifier.notes
    if (
        is_above_zero.any()
        and is_determined(quantity, Estimate(central_value, lower_limit, upper_limit))[is_above_zero].mean() < 0.5
    ):
        notes = (*notes, quantifier.wide_interval_note)
    return Results.of_quantities(
        quantity,
        quantifier.elements,
        central_value,
        lower_limit,
        upper_limit,
        step_mm=scan.step_mm,
        notes=notes,
        settings=settings,
    )


def scatter_window(instrument: Instrument, axis: EnergyAxis) -> slice:
    """Return the channels in which scattered radiation is measured.

    The channels contain the Compton and Rayleigh peaks of the strongest high-energy source line. If there is no such
    line, or the axis ends below the peaks, the continuum from 0.6 to 0.9 of the highest energy is used.

    Raises
    ------
    CoverageError
        The axis ends below the channels in which scattered radiation is measured.
    """
    energy_kev, photons, width_kev = source_spectrum(instrument)
    is_line = (width_kev == 0) & (energy_kev > 8.0) & (energy_kev < axis.stop_kev)
    if is_line.any():
        # lines are weighted by energy, so that K-alpha is selected rather than L lines
        line_kev = float(energy_kev[is_line][np.argmax(photons[is_line] * energy_kev[is_line])])
        compton_kev = float(compton_energy(np.array([line_kev]), instrument.geometry.scattering_angle_deg)[0])
        start_kev, stop_kev = 0.965 * compton_kev, 1.015 * line_kev
    else:
        start_kev, stop_kev = 0.6 * instrument.highest_kev, min(0.9 * instrument.highest_kev, axis.stop_kev)
    if stop_kev - start_kev < 0.3:
        raise CoverageError(
            f"Cannot compute quantities: the spectra end at {axis.stop_kev:.1f} keV, and scattered tube radiation is "
            f"measured above {start_kev:.1f} keV. Correct the voltage of the instrument, or record higher energies."
        )
    is_in_window = (axis.energy_kev >= start_kev) & (axis.energy_kev <= stop_kev)
    return slice(int(np.flatnonzero(is_in_window)[0]), int(np.flatnonzero(is_in_window)[-1]) + 1)


class ModelledCounts(NamedTuple):
    """Modelled counts of a batch of stratigraphies, without conversion to measured counts.

    Parameters
    ----------
    counts : (n, n_layer, n_family) array
        Counts of line families, by layer of origin.
    scatter : (n,) array
        Counts in the scatter window, including counts of lines.
    """

    counts: Array
    scatter: Array


def predict_counts(
    stratigraphies: Sequence[Stratigraphy],
    instrument: Instrument,
    axis: EnergyAxis,
    families: Sequence[str],
    scatter_channels: slice,
) -> ModelledCounts:
    """Return the modelled counts of stratigraphies, by line family and in the scatter window."""
    emission = emit(stratigraphies, instrument, detail=_TRANSPORT_DETAIL, workers=2, single=True)
    detector, lines = instrument.detector, emission.lines
    is_family = np.stack([np.asarray([name == family for name in lines.family]) for family in families], axis=1)
    detection_matrix = is_family * efficiency(detector, lines.energy_kev)[:, None]

    def window_counts(energy_kev: Array, width_kev: Array | float) -> Array:
        spread_kev = np.zeros(energy_kev.size) + np.asarray(width_kev) / np.sqrt(12.0)
        return np.asarray(response_matrix(detector, axis, energy_kev, spread_kev)[:, scatter_channels].sum(axis=1))

    scatter = (
        np.asarray(emission.line_photons) @ window_counts(lines.energy_kev, 0.0)
        + np.asarray(emission.coherent) @ window_counts(emission.source_kev, emission.width_kev)
        + np.asarray(emission.shifted) @ window_counts(emission.compton_kev, emission.compton_width_kev)
    )
    return ModelledCounts(
        np.asarray(emission.layer_photons, np.float64) @ detection_matrix, np.asarray(scatter, np.float64)
    )


class _Hypotheses(NamedTuple):
    """Hypotheses on parameters that the areas do not determine; the first hypothesis has central values.

    Parameters
    ----------
    oxidised_fraction : (n,) array
        Oxidised fraction of the elements.
    light_fractions : (n, n_light) array
        Mass fractions of light elements in the dark compounds.
    scale_factor : (n,) array
        Factor that multiplies the scale.
    family_factors : (n, n_family) array
        Factor that multiplies each family's modelled counts.
    thickness_um : (n,) array
        Thickness of the layer, in um.
    lower_fraction : (n, n_element) array
        Fraction of each element's counts from beneath the uppermost paint.
    lower_thickness_um : (n,) array
        Thickness of the layer beneath the uppermost paint, in um.
    dark_fraction : (n,) array
        Mass fraction of dark compounds in a thin layer.
    ground_areal_density : (n,) array
        Areal mass of the ground, in g/cm2.
    """

    oxidised_fraction: Array
    light_fractions: Array
    scale_factor: Array
    family_factors: Array
    thickness_um: Array
    lower_fraction: Array
    lower_thickness_um: Array
    dark_fraction: Array
    ground_areal_density: Array


class _Solution(NamedTuple):
    """Amounts for n pairs of class and hypothesis.

    Parameters
    ----------
    amount : (n, n_element) array
        Mass fractions, or areal masses in g/cm2.
    sensitivity : (n, n_element) array
        Modelled counts divided by the amount.
    lower_fraction : (n, n_element) array
        Fraction of each element's counts from beneath the uppermost paint.
    scale, scatter, log_weight : (n,) arrays
        Scale, modelled scatter counts, and logarithm of the hypothesis weight.
    """

    amount: Array
    sensitivity: Array
    lower_fraction: Array
    scale: Array
    scatter: Array
    log_weight: Array


class Quantifier:
    """Computation of quantities from the element areas of pixels, prepared with a sample of a scan's pixels.

    Parameters
    ----------
    names : sequence of str
        Line families, such as ``Fe_K``.
    area, sigma : (n, n_family) arrays
        Areas and standard deviations of the sample, in counts.
    scatter : (n,) array
        Counts of the sample in :func:`scatter_window`.
    instrument : Instrument
        Source, geometry and detector, with or without scale.
    axis : EnergyAxis
        Energy axis of the scan.
    kind, matrix, thickness_um
        See :func:`quantify`.
    live_times_s : (n,) array, optional
        Live times of the sample, in s.
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
        live_times_s: Array | None = None,
        n_pixel_classes: int = N_PIXEL_CLASSES,
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
        self._scale_error, self._min_typical_dark = max(self.scale.error, 0.03), MATRICES[matrix][2]
        self._by_time = self.scale.counts_per_s is not None and live_times_s is not None
        if not self._by_time and self.scale.counts_per_scatter is None:
            raise InstrumentError(
                f"Cannot compute quantities: the scale of the instrument {instrument.name!r} is per second, and the "
                "scan has no live times. Measure the standard again with `underpaint calibrate --standard`."
            )
        self._names = tuple(names)
        is_valid = np.isfinite(area).all(axis=1) & (scatter > 0)
        if self._by_time and live_times_s is not None:
            is_valid &= live_times_s > 0
        if scatter[is_valid].sum() < _MIN_SCATTER_COUNTS:
            raise CoverageError(
                f"Cannot compute quantities: {scatter[is_valid].sum():.0f} counts of scattered tube radiation were "
                f"recorded, at least {_MIN_SCATTER_COUNTS:.0f} are needed. Check the energy axis."
            )
        sample_rows = np.flatnonzero(is_valid)
        sample_rows = sample_rows[
            np.sort(np.random.default_rng(_SEED).permutation(len(sample_rows))[:_MAX_SAMPLE_PIXELS])
        ]
        area, sigma, scatter = area[sample_rows], sigma[sample_rows], scatter[sample_rows]
        self.elements, self._main, self._other = self._select_families(sigma.mean(axis=0))
        if not self.elements:
            raise CoverageError(
                f"Cannot compute quantities: the source excites none of {', '.join(names)}. Check the instrument."
            )
        self.families = tuple(self._names[index] for index in self._main)
        self._oxygen = np.asarray(
            [OXYGEN_PER_ATOM.get(symbol, 1.0) * atomic_weight("O") / atomic_weight(symbol) for symbol in self.elements]
        )
        factors_and_errors = [self.scale.factor(name) for name in self._names]
        self._factor = np.asarray([factor for factor, _ in factors_and_errors])
        self._family_error = np.asarray(
            [
                error if name in self.scale.families else float(np.hypot(error, _model_error(name)))
                for name, (_, error) in zip(self._names, factors_and_errors, strict=True)
            ]
        )
        is_detected = area[:, self._main] > DETECTION_SIGMAS * sigma[:, self._main]
        self._detected_elements = np.flatnonzero(
            is_detected.mean(axis=0) > min(_MIN_DETECTED_FRACTION, is_detected.mean(axis=0).max() / 2)
        )
        self._detected_elements = (
            self._detected_elements if self._detected_elements.size else np.arange(len(self.elements))
        )
        self._hypotheses = self._draw_hypotheses(matrix, thickness_um, n_hypotheses)
        self.notes = self._make_notes(matrix, thickness_um)

        class_coordinates = _class_coordinates(area, scatter)
        n_pixel_classes = min(n_pixel_classes, len(np.unique(class_coordinates, axis=0)))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # k-means warns of empty classes
            class_centres, pixel_classes = kmeans2(
                class_coordinates, n_pixel_classes, minit="++", rng=np.random.default_rng(_SEED)
            )
        class_labels = np.unique(pixel_classes)
        self._centres = class_centres[class_labels]
        live_time_s = np.ones(len(area)) if not self._by_time or live_times_s is None else live_times_s[sample_rows]
        # standard deviations are averaged, since interference is the same in all pixels of a class
        class_means = [
            [np.mean(values[pixel_classes == index], axis=0) for index in class_labels]
            for values in (area, sigma, scatter, live_time_s)
        ]
        self._prepare_classes(*(np.asarray(values) for values in class_means))

    def __call__(self, area: Array, sigma: Array, scatter: Array, live_times_s: Array | None = None) -> Array:
        """Return (n, n_element, 3) values, lower limits and upper limits (90 % interval); NaN for missing spectra."""
        quantities = np.full((len(area), len(self.elements), 3), np.nan)
        is_valid = np.isfinite(area).all(axis=1) & (scatter > 0)
        if self._by_time and live_times_s is not None:
            is_valid &= live_times_s > 0
        class_coordinates = _class_coordinates(area[is_valid], scatter[is_valid])
        pixel_classes = np.argmin((self._centres**2).sum(axis=1) - 2.0 * class_coordinates @ self._centres.T, axis=1)
        valid_rows = np.flatnonzero(is_valid)
        for index in np.unique(pixel_classes):
            class_rows = valid_rows[pixel_classes == index]
            live_time_s = (
                np.ones(len(class_rows)) if not self._by_time or live_times_s is None else live_times_s[class_rows]
            )
            quantities[class_rows] = self._pixel_quantities(
                index, area[class_rows], sigma[class_rows], scatter[class_rows], live_time_s
            )
        return quantities

    def _select_families(self, sigma: Array) -> tuple[tuple[str, ...], list[int], list[int]]:
        """Return the elements, the index of each element's most precise family, and the indices of other families."""
        excluded_elements = (
            {"Ar"} if self.instrument.source_spectrum is not None else {"Ar", self.instrument.tube.anode}
        )
        symbols = [name.partition("_")[0] for name in self._names]
        fractions = dict.fromkeys(sorted(set(symbols)), 1e-4)
        light_fractions = {
            name: (1.0 - sum(fractions.values())) * fraction for name, fraction in mass_fractions("CH2O").items()
        }
        for name, fraction in light_fractions.items():
            fractions[name] = fractions.get(name, 0.0) + fraction
        layer = Layer(fractions, 1.0, 1e4 * INFINITE_AREAL_DENSITY)
        counts = predict_counts([Stratigraphy((layer,))], self.instrument, self.axis, self._names, self.window).counts[
            0, 0
        ]
        # families of a single shell, ``Pb_L3``, are not modelled
        usable_indices = [
            index
            for index, name in enumerate(self._names)
            if symbols[index] not in excluded_elements and name[-1] in MODELLED_COUNTS_ERROR and counts[index] > 0
        ]
        relative_precision = (
            counts / np.maximum(sigma, 1e-9) * [MODELLED_COUNTS_ERROR["K"] / _model_error(n) for n in self._names]
        )
        best_family: dict[str, int] = {}
        for index in sorted(usable_indices, key=lambda index: float(relative_precision[index])):
            best_family[symbols[index]] = index
        elements = tuple(sorted(best_family, key=atomic_number))
        main_families = [best_family[element] for element in elements]
        return elements, main_families, [index for index in usable_indices if index not in main_families]

    # -- hypotheses ----------------------------------------------------------------------------------------------

    def _draw_hypotheses(self, matrix: str, thickness_um: tuple[float, float] | None, n: int) -> _Hypotheses:
        """Draw hypotheses by Latin hypercube (evenly spread parameters); the first hypothesis has central values."""
        from scipy.stats import qmc  # importing scipy.stats takes a third of a second

        (min_oxidised_fraction, max_oxidised_fraction), compound_weights, _ = MATRICES[matrix]
        light_weights = {
            name: weight
            for name, weight in compound_weights.items()
            if not set(mass_fractions(name)) & set(self.elements)
        }
        self._light = tuple(sorted({symbol for name in light_weights for symbol in mass_fractions(name)}))
        n_family, n_element = len(self._names), len(self.elements)
        hypercube = qmc.LatinHypercube(
            6 + len(light_weights) + n_family + 2 * n_element, rng=np.random.default_rng(_SEED)
        )
        hypercube_samples = hypercube.random(n)
        hypercube_samples[0] = 0.5
        scalar_draws, compound_fractions, error_draws, layer_draws, fraction_draws = np.split(
            hypercube_samples, np.cumsum([6, len(light_weights), n_family, n_element]), axis=1
        )
        compound_fractions = gammaincinv(np.asarray(list(light_weights.values())), compound_fractions)
        compound_fractions /= compound_fractions.sum(axis=1, keepdims=True)
        min_thickness_um, max_thickness_um = thickness_um or _DEFAULT_THICKNESS_UM.get(self.kind, (1.0, np.inf))
        # the inverse thickness is uniform, so that infinite thickness is included
        thickness_um_draws = (
            min_thickness_um * (max_thickness_um / min_thickness_um) ** scalar_draws[:, 2]
            if np.isfinite(max_thickness_um)
            else min_thickness_um / np.maximum(1.0 - scalar_draws[:, 2], 1e-9)
        )
        lower_fraction = _draw_lower_fractions(layer_draws, fraction_draws, self._detected_elements) * (
            self.kind == "surface"
        )
        return _Hypotheses(
            oxidised_fraction=min_oxidised_fraction
            + (max_oxidised_fraction - min_oxidised_fraction) * np.clip(1.6 * scalar_draws[:, 0] - 0.3, 0.0, 1.0),
            light_fractions=compound_fractions
            @ [[mass_fractions(name).get(symbol, 0.0) for symbol in self._light] for name in light_weights],
            scale_factor=np.exp(self._scale_error * ndtri(scalar_draws[:, 1])),
            family_factors=np.exp(self._family_error * ndtri(error_draws)),
            thickness_um=thickness_um_draws,
            lower_fraction=lower_fraction,
            lower_thickness_um=30.0 * 10.0 ** scalar_draws[:, 3],
            dark_fraction=0.05 + 0.4 * scalar_draws[:, 4],
            ground_areal_density=0.01 * 50.0 ** scalar_draws[:, 5],
        )

    def _add_similar_hypotheses(self, log_weights: Sequence[Array]) -> None:
        """Add hypotheses for each class; thickness and lower layers resemble those of hypotheses that fit the class."""
        rng, hypotheses, n = np.random.default_rng(_SEED + 1), self._hypotheses, len(log_weights[0])
        parent_indices = np.concatenate(
            [rng.choice(n, n, p=_tempered_weights(log_weight)) for log_weight in log_weights]
        )
        permuted_indices = np.concatenate([rng.permutation(n) for _ in log_weights])
        lower_fraction = hypotheses.lower_fraction[parent_indices]
        is_changed = rng.uniform(size=lower_fraction.shape) < 0.5 / lower_fraction.shape[1]
        new_hypotheses = _Hypotheses(
            *(hypothesis_values[permuted_indices] for hypothesis_values in hypotheses)
        )._replace(
            thickness_um=hypotheses.thickness_um[parent_indices]
            * np.exp(0.3 * rng.standard_normal(parent_indices.size)),
            lower_fraction=np.where(is_changed, 1.0 - lower_fraction, lower_fraction),
            lower_thickness_um=hypotheses.lower_thickness_um[parent_indices],
        )
        self._hypotheses = _Hypotheses(
            *(np.concatenate(hypothesis_arrays) for hypothesis_arrays in zip(hypotheses, new_hypotheses, strict=True))
        )

    # -- classes -------------------------------------------------------------------------------------------------

    def _prepare_classes(self, area: Array, sigma: Array, scatter: Array, live_times_s: Array) -> None:
        """Solve all classes for all hypotheses, and store what the computation of pixels needs."""
        n_class, n = len(area), len(self._hypotheses.scale_factor)
        class_index, hypothesis_index = np.repeat(np.arange(n_class), n), np.tile(np.arange(n), n_class)

        def solve_systems(class_index: NDArray[np.intp], hypothesis_index: NDArray[np.intp]) -> _Solution:
            return self._solve_amounts(
                area[class_index], sigma[class_index], scatter[class_index], live_times_s[class_index], hypothesis_index
            )

        solution = solve_systems(class_index, hypothesis_index)
        if self.kind == "surface":
            # few hypotheses about the lower layers fit the spectrum of a class, so variants of those that fit are added
            self._add_similar_hypotheses([solution.log_weight[class_index == index] for index in range(n_class)])
            added_hypotheses = n + np.arange(n_class * n)
            added_solution = solve_systems(class_index, added_hypotheses)
            solution = _Solution(
                *(np.concatenate(solution_arrays) for solution_arrays in zip(solution, added_solution, strict=True))
            )
            class_index, hypothesis_index = (
                np.tile(class_index, 2),
                np.concatenate([hypothesis_index, added_hypotheses]),
            )
        self._base = _Solution(*(solution_values[hypothesis_index == 0] for solution_values in solution))
        self._slopes = self._log_derivatives()
        self._ratio = np.empty((n_class, len(self.elements), 3))
        for index in range(n_class):
            is_in_class = class_index == index
            hypothesis_weight = _tempered_weights(solution.log_weight[is_in_class])
            amount_ratios = solution.amount[is_in_class] / np.maximum(self._base.amount[index], 1e-300)
            for element, lower_layer_fraction in enumerate(solution.lower_fraction[is_in_class].T):
                is_in_lower_layer = lower_layer_fraction > 0.5
                has_both_hypotheses = is_in_lower_layer.any() and not is_in_lower_layer.all()
                element_weight = (
                    _equal_prior_weights(hypothesis_weight, solution.log_weight[is_in_class], is_in_lower_layer)
                    if has_both_hypotheses
                    else hypothesis_weight
                )
                self._ratio[index, element] = _weighted_quantiles(amount_ratios[:, element], element_weight)

    def _solve_amounts(
        self, area: Array, sigma: Array, scatter: Array, live_times_s: Array, hypothesis_index: NDArray[np.intp]
    ) -> _Solution:
        """For each hypothesis, return the amounts for which the model reproduces the areas of the main families."""
        main_families, hypotheses = self._main, self._hypotheses
        min_area = 1e-4 * np.maximum(area, 0.0).sum(axis=1, keepdims=True)
        target_counts = np.maximum(area, np.maximum(min_area, 0.1 * sigma)) / self._factor
        oxygen = hypotheses.oxidised_fraction[hypothesis_index, None] * self._oxygen
        relative_counts = target_counts[:, main_families] / target_counts[:, main_families].sum(axis=1, keepdims=True)
        amount = 0.5 * relative_counts / (relative_counts * (1.0 + oxygen)).sum(axis=1, keepdims=True)
        if self.kind == "ug_cm2":
            amount = 1e-4 * amount
        lower_amount = amount * hypotheses.lower_fraction[hypothesis_index]
        amount_sum = np.ones(len(area))
        for iteration in range(_N_CLASS_ITERATIONS + 1):
            predicted_counts = predict_counts(
                list(map(self._make_stratigraphy, amount, lower_amount, oxygen, hypothesis_index)),
                self.instrument, self.axis, self._names, self.window,
            )  # fmt: skip
            counts = predicted_counts.counts * hypotheses.family_factors[hypothesis_index, None]
            upper_counts, lower_counts = counts[:, 0][:, main_families], counts[:, 1:].sum(axis=1)[:, main_families]
            count_scale = (
                self._count_scale(scatter, predicted_counts.scatter, live_times_s)
                * hypotheses.scale_factor[hypothesis_index]
            )
            sensitivity = upper_counts / np.maximum(amount, 1e-300)
            if iteration == _N_CLASS_ITERATIONS:
                break
            upper_target = np.maximum(
                target_counts[:, main_families] - count_scale[:, None] * lower_counts,
                1e-3 * target_counts[:, main_families],
            )
            amount = np.clip(
                upper_target / (count_scale[:, None] * np.maximum(sensitivity, 1e-300)), 0.1 * amount, 10.0 * amount
            )
            if self.kind != "ug_cm2":
                amount, amount_sum = _normalise_amounts(amount, oxygen)
            if hypotheses.lower_fraction.any():
                lower_factor = (
                    hypotheses.lower_fraction[hypothesis_index]
                    * target_counts[:, main_families]
                    / np.maximum(count_scale[:, None] * lower_counts, 1e-300)
                )
                lower_amount = np.maximum(
                    lower_amount, _MIN_MASS_FRACTION * (hypotheses.lower_fraction[hypothesis_index] > 0)
                ) * np.clip(lower_factor, 0.1, 10.0)
                lower_amount, _ = _normalise_amounts(lower_amount, oxygen, 0.15)
        log_weight = -0.5 * (np.log(np.maximum(amount_sum, 1.0)) / self._scale_error) ** 2
        if self.kind != "ug_cm2":
            dark_fraction = 1.0 - (amount * (1.0 + oxygen)).sum(axis=1)
            log_weight -= 0.5 * (np.maximum(self._min_typical_dark - dark_fraction, 0.0) / MIN_DARK_FRACTION_SIGMA) ** 2
        # lower layers cannot contribute more counts than are detected
        log_count_excess = np.log(
            np.maximum(count_scale[:, None] * lower_counts / target_counts[:, main_families], 1.0)
        )
        log_weight -= 0.5 * (
            (log_count_excess / 0.1) ** 2 * (area[:, main_families] > DETECTION_SIGMAS * sigma[:, main_families])
        ).sum(axis=1)
        predicted_total = count_scale[:, None] * counts.sum(axis=1)
        # the prediction has the relative error of the main family; this error is large for nearly absent elements
        uncertain_counts = target_counts[:, main_families] - area[:, main_families] / self._factor[main_families]
        relative_error = (
            np.maximum(sigma[:, main_families] / self._factor[main_families], uncertain_counts)
            / target_counts[:, main_families]
        )
        for index in self._other:
            element = self.elements.index(self._names[index].partition("_")[0])
            error = _model_error(self._names[index]) * np.maximum(area[:, index], predicted_total[:, index])
            prediction_error = predicted_total[:, index] * relative_error[:, element]
            residual = area[:, index] / self._factor[index] - predicted_total[:, index]
            log_weight -= 0.5 * residual**2 / (sigma[:, index] ** 2 + error**2 + prediction_error**2)
        lower_amount = count_scale[:, None] * lower_counts / target_counts[:, main_families]
        return _Solution(amount, sensitivity, lower_amount, count_scale, predicted_counts.scatter, log_weight)

    def _count_scale(self, scatter: Array, modelled_scatter: Array, live_times_s: Array) -> Array:
        """Return the scale: the ratio of measured to modelled counts."""
        if self._by_time and self.scale.counts_per_s is not None:
            return self.scale.counts_per_s * live_times_s
        return scatter / modelled_scatter * (self.scale.counts_per_scatter or 1.0)

    def _make_stratigraphy(
        self, amount: Array, lower_amount: Array, oxygen: Array, hypothesis_index: int
    ) -> Stratigraphy:
        hypotheses = self._hypotheses
        light_fractions, dark_fraction = (
            dict(zip(self._light, hypotheses.light_fractions[hypothesis_index].tolist(), strict=True)),
            float(hypotheses.dark_fraction[hypothesis_index]),
        )
        ground_layer = Layer(
            light_fractions,
            1.0,
            1e4
            * (
                INFINITE_AREAL_DENSITY
                if self.kind == "ug_cm2"
                else float(hypotheses.ground_areal_density[hypothesis_index])
            ),
        )
        if self.kind == "ug_cm2":
            areal_density = float((amount * (1.0 + oxygen)).sum() / (1.0 - dark_fraction))
            return Stratigraphy(
                (self._make_layer(amount / areal_density, oxygen, light_fractions, areal_density), ground_layer)
            )
        areal_density = _areal_density(float(hypotheses.thickness_um[hypothesis_index]), amount, oxygen)
        upper_layer = self._make_layer(amount, oxygen, light_fractions, areal_density)
        if self.kind == "surface":
            lower_layer = self._make_layer(
                lower_amount,
                oxygen,
                light_fractions,
                _areal_density(float(hypotheses.lower_thickness_um[hypothesis_index]), lower_amount, oxygen),
            )
            return Stratigraphy((upper_layer, lower_layer, ground_layer))
        return Stratigraphy((upper_layer,) if areal_density >= INFINITE_AREAL_DENSITY else (upper_layer, ground_layer))

    def _make_layer(
        self, amount: Array, oxygen: Array, light_fractions: Mapping[str, float], areal_density: float
    ) -> Layer:
        dark_fraction = max(1.0 - float((amount * (1.0 + oxygen)).sum()), 0.0)
        fractions = {name: dark_fraction * element_fraction for name, element_fraction in light_fractions.items()}
        for name, fraction in zip(self.elements, amount, strict=True):
            fractions[name] = fractions.get(name, 0.0) + float(fraction)
        fractions["O"] = fractions.get("O", 0.0) + float(amount @ oxygen)
        fraction_sum = sum(fractions.values())
        return Layer({name: fraction / fraction_sum for name, fraction in fractions.items()}, 1.0, 1e4 * areal_density)

    def _log_derivatives(self) -> tuple[Array, Array]:
        """Return the derivatives of log sensitivity and of log scatter with respect to the amounts.

        The derivatives of log sensitivity have the shape (n_class, n_element, n_element).
        """
        base_solution, n = self._base, len(self.elements)
        oxygen = self._hypotheses.oxidised_fraction[0] * self._oxygen
        unit_amount = (
            1.0 if self.kind != "ug_cm2" else 0.1 * base_solution.amount.sum(axis=1, keepdims=True)[:, :, None]
        )
        changed_amount = base_solution.amount[:, None, :] + _RELATIVE_AMOUNT_STEP * unit_amount * np.eye(n)
        amount_rows = changed_amount.reshape(-1, n)
        if self.kind != "ug_cm2":
            amount_rows, _ = _normalise_amounts(amount_rows, oxygen)
        changed_amount = amount_rows.reshape(changed_amount.shape)
        no_lower_amount = np.zeros(n)
        counts = predict_counts(
            [
                self._make_stratigraphy(layer_amount, no_lower_amount, oxygen, 0)
                for layer_amount in (*amount_rows, *base_solution.amount)
            ],
            self.instrument, self.axis, self._names, self.window,
        )  # fmt: skip
        counts = ModelledCounts(np.maximum(counts.counts[:, 0][:, self._main], 1e-300), counts.scatter)
        sensitivity = np.log(
            counts.counts[: len(amount_rows)].reshape(changed_amount.shape) / np.maximum(changed_amount, 1e-300)
        )
        base_sensitivity = np.log(counts.counts[len(amount_rows) :] / np.maximum(base_solution.amount, 1e-300))
        scatter, base_scatter = (
            np.log(counts.scatter[: len(amount_rows)].reshape(-1, n)),
            np.log(counts.scatter[len(amount_rows) :]),
        )
        amount_step = np.broadcast_to(
            _RELATIVE_AMOUNT_STEP * unit_amount * np.ones((len(base_solution.amount), n, 1)),
            (len(base_solution.amount), n, 1),
        )
        sensitivity_slope = (sensitivity - base_sensitivity[:, None, :]) / amount_step
        return np.swapaxes(sensitivity_slope, 1, 2), (scatter - base_scatter[:, None]) / amount_step[:, :, 0]

    # -- pixels --------------------------------------------------------------------------------------------------

    def _pixel_quantities(self, index: int, area: Array, sigma: Array, scatter: Array, live_times_s: Array) -> Array:
        """Return the (n, n_element, 3) values, lower limits and upper limits for pixels of one class."""
        main_families = self._main
        corrected_counts = area[:, main_families] / self._factor[main_families]
        counts_deviation = sigma[:, main_families] / self._factor[main_families]
        base_amount, sensitivity = self._base.amount[index], self._base.sensitivity[index]
        sensitivity_slope, scatter_slope = (class_slopes[index] for class_slopes in self._slopes)
        oxygen = self._hypotheses.oxidised_fraction[0] * self._oxygen
        amount = np.broadcast_to(base_amount, corrected_counts.shape)
        for _ in range(_N_PIXEL_ITERATIONS):
            amount_change = np.clip(amount, 0.0, None) - base_amount
            local_sensitivity = sensitivity * np.exp(np.clip(amount_change @ sensitivity_slope.T, -1.0, 1.0))
            modelled_scatter = self._base.scatter[index] * np.exp(np.clip(amount_change @ scatter_slope, -1.0, 1.0))
            count_scale = self._count_scale(scatter, modelled_scatter, live_times_s)[:, None]
            new_amount = corrected_counts / (count_scale * local_sensitivity)
            if self.kind != "ug_cm2":
                new_amount, _ = _normalise_amounts(new_amount, oxygen)
            amount = 0.5 * (amount + new_amount)
        amount = new_amount
        amount_noise = np.hypot(
            counts_deviation / (count_scale * local_sensitivity),
            0.0 if self._by_time else amount / np.sqrt(scatter[:, None]),
        )
        median_ratio, low_ratio, high_ratio = np.moveaxis(self._ratio[index], 1, 0)
        central_value, noise_half_width, abs_amount = (
            amount * median_ratio,
            float(ndtri(0.5 + 0.5 * INTERVAL_PROBABILITY)) * amount_noise * median_ratio,
            np.abs(amount),
        )
        interval_limits = (
            central_value - np.hypot(abs_amount * (median_ratio - low_ratio), noise_half_width),
            central_value + np.hypot(abs_amount * (high_ratio - median_ratio), noise_half_width),
        )
        unit_factor = 1e6 if self.kind == "ug_cm2" else 100.0
        quantities = unit_factor * np.stack(
            [central_value, np.maximum(interval_limits[0], 0.0), interval_limits[1]], axis=2
        )
        if self.kind != "ug_cm2":
            quantities[..., 2] = np.clip(quantities[..., 2], 0.0, 100.0)
        return quantities

    @property
    def wide_interval_note(self) -> str:
        """Note for results whose intervals are mostly wide."""
        note_text = "Most intervals are too wide to quote values; the maps can be used to compare areas."
        if not self._by_time:
            note_text += (
                " Lower layers also scatter, by an unknown amount. Scatter is not needed with a standard and "
                "live times."
            )
        if self.kind == "mass_percent":
            note_text += " For a layer that hides all lower layers (--thickness 500-inf), intervals are narrower."
        return note_text

    def _make_notes(self, matrix: str, thickness_um: tuple[float, float] | None) -> tuple[str, ...]:
        if self.instrument.scale is None:
            scale_text = (
                "Without a standard, the scale is relative, from the scattered tube radiation and the model; elements "
                "and dark matrix sum to 100 %. `underpaint calibrate --standard` determines an absolute scale."
            )
        elif self._by_time:
            scale_text = f"The scale is absolute, from a standard, per second of live time ({self.scale.error:.0%})."
        else:
            scale_text = (
                f"The scale is absolute, from a standard, per count of scattered radiation ({self.scale.error:.0%})."
            )
        min_thickness_um, max_thickness_um = thickness_um or _DEFAULT_THICKNESS_UM.get(self.kind, (0.0, np.inf))
        thickness_text = (
            f"{min_thickness_um:g} um thick or thicker"
            if np.isinf(max_thickness_um)
            else f"{min_thickness_um:g} to {max_thickness_um:g} um thick"
        )
        assumptions = {
            "mass_percent": f"Assumed: one homogeneous layer, {thickness_text}",
            "surface": f"Assumed: an uppermost paint, {thickness_text}, above unknown parts of the elements",
            "ug_cm2": "Assumed: all lines come from one thin layer on a thick substrate without lines",
        }[self.kind]
        return scale_text, f"{assumptions}; the matrix without lines is assumed to be {matrix}."


def _model_error(family: str) -> float:
    return MODELLED_COUNTS_ERROR[family.partition("_")[2][0]]


def _class_coordinates(area: Array, scatter: Array) -> Array:
    """Return coordinates for classifying pixels: square roots of count fractions, whose noise is uniform."""
    counts = np.concatenate([np.maximum(area, 0.0), np.maximum(scatter, 0.0)[:, None]], axis=1)
    return np.asarray(np.sqrt(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1e-9)))


def _normalise_amounts(
    amount: Array, oxygen: Array, min_dark_fraction: float = _MIN_DARK_FRACTION
) -> tuple[Array, Array]:
    """Return amounts normalised to a sum of at most one per sample, and the sums before normalisation."""
    amount_sum = (np.maximum(amount, 0.0) * (1.0 + oxygen)).sum(axis=1) / (1.0 - min_dark_fraction)
    return amount / np.maximum(amount_sum, 1.0)[:, None], amount_sum


def _areal_density(thickness_um: float, amount: Array, oxygen: Array) -> float:
    """Return the areal density in g/cm2 of a layer of compounds (5 g/cm3) and binder (1 g/cm3)."""
    solid_fraction = min(float((amount * (1.0 + oxygen)).sum()), 1.0)
    layer_density = 1.0 / (solid_fraction / 5.0 + (1.0 - solid_fraction))
    return float(min(1e-4 * thickness_um * layer_density, INFINITE_AREAL_DENSITY))


def _tempered_weights(log_weight: Array) -> Array:
    """Return normalised weights, tempered to let several hypotheses contribute, since model errors are correlated."""
    for temper_exponent in np.geomspace(1.0, 1e-4, 40):
        weight = np.exp(temper_exponent * (log_weight - log_weight.max()))
        weight /= weight.sum()
        if 1.0 / (weight**2).sum() >= min(_MIN_EFFECTIVE_HYPOTHESES, 0.5 * weight.size):
            break
    return np.asarray(weight)


def _draw_lower_fractions(element_draws: Array, fraction_draws: Array, detected_elements: NDArray[np.intp]) -> Array:
    """Return the (n, n_element) fractions of each element's counts from beneath the uppermost paint.

    In a third of the hypotheses, lower layers emit no counts. In another third, lower layers emit counts of one
    detected element. In the last third, lower layers emit counts of random elements.
    """
    n, n_element = element_draws.shape
    fraction_beneath = np.where(fraction_draws < 0.3, fraction_draws / 0.3, 1.0)
    hypothesis_type = np.arange(n) % 3
    is_single_element = np.arange(n_element) == detected_elements[np.arange(n) // 3 % detected_elements.size][:, None]
    return np.asarray(
        fraction_beneath
        * np.where(
            hypothesis_type[:, None] == 1, is_single_element, (hypothesis_type[:, None] == 2) & (element_draws < 0.4)
        )
    )


def _equal_prior_weights(weight: Array, log_weight: Array, is_in_lower_layer: NDArray[np.bool_]) -> Array:
    """Return weights for which an element's prior probability of being in lower layers is one half."""
    posterior_odds = np.exp(
        np.clip(log_weight[is_in_lower_layer].max() - log_weight[~is_in_lower_layer].max(), -20.0, 20.0)
    )
    regularised_weight = weight + 1e-12
    lower_weight, other_weight = (
        posterior_odds * regularised_weight / regularised_weight[is_in_lower_layer].sum(),
        regularised_weight / regularised_weight[~is_in_lower_layer].sum(),
    )
    return np.asarray(np.where(is_in_lower_layer, lower_weight, other_weight) / (1.0 + posterior_odds))


def _weighted_quantiles(values: Array, weight: Array) -> Array:
    """Return the weighted median, and the lower and upper limits of the 90 % interval."""
    value_order = np.argsort(values)
    cumulative_weight = np.cumsum(weight[value_order]) - 0.5 * weight[value_order]
    return np.asarray(
        np.interp(
            [0.5, 0.5 - 0.5 * INTERVAL_PROBABILITY, 0.5 + 0.5 * INTERVAL_PROBABILITY],
            cumulative_weight,
            values[value_order],
        )
    )
