"""Random instruments for training libraries, which make networks robust to differences between instruments."""

from collections.abc import Sequence

import numpy as np

from underpaint.physics.instrument import (
    Detector,
    Filter,
    Geometry,
    Instrument,
    Optic,
    SourceSpectrum,
    Tube,
)

ANODES = ("Rh", "Ag", "Mo", "W", "Pd", "Cu", "Au")
ANODE_WEIGHTS = (0.40, 0.20, 0.12, 0.12, 0.06, 0.05, 0.05)
FILTER_MATERIALS = (("Al", 2.70, 500.0), ("Ti", 4.51, 50.0), ("Cu", 8.96, 25.0), ("C22H10N2O5", 1.42, 300.0))


def random_instrument(rng: np.random.Generator) -> Instrument:
    """Draw an instrument whose tube, filters, geometry and detector are typical of scanners.

    The voltage is 20 to 55 kV, and a quarter of the instruments have a filter. Air paths are log-uniform up to 12 cm.
    Intensities of low-energy lines vary tenfold. ``docs/explanations/forward-model.md`` lists the ranges of all values.
    """
    incidence_angle_deg, takeoff_angle_deg = float(rng.uniform(45, 90)), float(rng.uniform(30, 80))
    tube = Tube(
        anode=str(rng.choice(ANODES, p=ANODE_WEIGHTS)),
        # whole kilovolts, so that different instruments use the same cached tables
        voltage_kv=float(rng.integers(20, 56)),
        window=Filter(formula="Be", density=1.848, thickness_um=float(rng.choice([50.0, 100.0, 127.0, 200.0, 300.0]))),
        # tube lines are up to 1.7 times as strong in measurements and in other models as in Ebel's model
        line_factor=log_uniform(rng, 0.9, 1.8),
    )
    geometry = Geometry(
        incidence_angle_deg=incidence_angle_deg,
        takeoff_angle_deg=takeoff_angle_deg,
        scatter_angle_deg=float(rng.uniform(90, 150)),
        source_air_cm=log_uniform(rng, 0.5, 10.0),
        detector_air_cm=log_uniform(rng, 0.3, 12.0),
    )
    return Instrument(
        name="random", tube=tube, filters=random_filters(rng), geometry=geometry, detector=random_detector(rng)
    )


def random_detector(rng: np.random.Generator) -> Detector:
    """Draw a silicon drift detector: FWHM of 125 to 175 eV at Mn K, random window, thickness, tail and shelf."""
    return Detector(
        thickness_um=float(rng.uniform(300, 1000)),
        dead_layer_um=float(rng.uniform(0.02, 0.3)),
        window=Filter(formula="Be", density=1.848, thickness_um=log_uniform(rng, 7.0, 60.0)),
        noise_fwhm_kev=float(rng.uniform(0.04, 0.125)),
        fano=float(rng.uniform(0.11, 0.13)),
        shelf_fraction=log_uniform(rng, 3e-4, 1e-2),
        tail_fraction=log_uniform(rng, 1e-3, 4e-2),
        tail_width_kev=float(rng.uniform(0.06, 0.4)),
    )


def random_filters(rng: np.random.Generator) -> tuple[Filter, ...]:
    """Draw no filter in three of four cases, and one filter in the others."""
    if rng.random() < 0.75:
        return ()
    formula, density, max_thickness_um = FILTER_MATERIALS[int(rng.integers(len(FILTER_MATERIALS)))]
    return (Filter(formula=formula, density=density, thickness_um=float(rng.uniform(0.1, 1.0)) * max_thickness_um),)


INSTRUMENT_KINDS: tuple[tuple[str, float], ...] = (
    ("scanner", 0.45),
    ("benchtop", 0.18),
    ("hand_held", 0.2),
    ("polycapillary", 0.14),
    ("monochromatic", 0.03),
)
"""Kinds of instruments and their weights. The kinds differ in tube, filters, optics and air paths."""
_POLYMER_FILM = ("C10H8O4", 1.38)
_AIR_FORMULA = "N7O2"
"""Formula of air without argon. The mass fractions of nitrogen and oxygen are correct within 2 %."""


def any_instrument(rng: np.random.Generator) -> Instrument:
    """Draw an instrument of any kind: scanner, benchtop, hand-held, polycapillary or monochromatic.

    Values that do not depend on the kind are drawn by :func:`random_instrument`.
    """
    instrument_kind, base_instrument = choose_weighted(rng, INSTRUMENT_KINDS), random_instrument(rng)
    if instrument_kind == "benchtop":
        return base_instrument.model_copy(update={"geometry": _chamber_geometry(rng, base_instrument.geometry)})
    if instrument_kind == "hand_held":
        return _hand_held_instrument(rng, base_instrument)
    if instrument_kind == "polycapillary":
        return base_instrument.model_copy(update={"optic": _polycapillary_optic(rng), "filters": ()})
    if instrument_kind == "monochromatic":
        energy_kev = float(rng.choice([17.44, 20.2, 22.1, rng.uniform(10.0, 35.0)]))
        source_spectrum = SourceSpectrum(energy_kev=(energy_kev,), weight=(1.0,))
        return base_instrument.model_copy(update={"source_spectrum": source_spectrum, "filters": ()})
    return base_instrument


def any_detector(rng: np.random.Generator) -> Detector:
    """Draw a detector with :func:`random_detector`. In some cases, add air or a polymer film in front."""
    filters = []
    if rng.random() < 0.4:
        filters.append(Filter(formula=_AIR_FORMULA, density=0.0012, thickness_um=1e4 * float(rng.uniform(0.0, 6.0))))
    if rng.random() < 0.15:
        formula, density = _POLYMER_FILM
        filters.append(Filter(formula=formula, density=density, thickness_um=log_uniform(rng, 3.0, 50.0)))
    return random_detector(rng).model_copy(update={"filters": tuple(filters)})


def _chamber_geometry(rng: np.random.Generator, geometry: Geometry) -> Geometry:
    """Return a geometry without air in half of the cases (vacuum or helium), and with air paths in the other half."""
    air_paths_cm = (0.0, 0.0) if rng.random() < 0.5 else tuple(log_uniform(rng, 0.3, 5.0) for _ in range(2))
    return geometry.model_copy(update=dict(zip(("source_air_cm", "detector_air_cm"), air_paths_cm, strict=True)))


def _hand_held_instrument(rng: np.random.Generator, base_instrument: Instrument) -> Instrument:
    """Return a hand-held instrument: Rh, Ag or W anode, 15 kV or 30 to 50 kV, up to two filters."""
    voltage_kv = 15.0 if rng.random() < 0.15 else float(rng.integers(30, 51))
    anode = choose(rng, ("Rh", "Ag", "W"), (0.5, 0.35, 0.15))
    filters = []
    if rng.random() < 0.6:
        filters.append(Filter(formula="Al", density=2.70, thickness_um=log_uniform(rng, 25.0, 500.0)))
    if rng.random() < 0.4:
        formula, density, max_thickness_um = FILTER_MATERIALS[int(rng.integers(1, 3))]
        filters.append(
            Filter(formula=formula, density=density, thickness_um=float(rng.uniform(0.3, 1.0)) * max_thickness_um)
        )
    air_paths_cm = {field_name: log_uniform(rng, 0.2, 2.0) for field_name in ("source_air_cm", "detector_air_cm")}
    return base_instrument.model_copy(
        update={
            "tube": base_instrument.tube.model_copy(update={"voltage_kv": voltage_kv, "anode": anode}),
            "filters": tuple(filters),
            "geometry": base_instrument.geometry.model_copy(update=air_paths_cm),
        }
    )


def _polycapillary_optic(rng: np.random.Generator) -> Optic:
    """Return a random polycapillary. The transmission drops steeply towards high and slowly towards low energies."""
    energy_kev = np.geomspace(2.0, 60.0, 40)
    upper_cutoff_kev, steepness, lower_cutoff_kev = (
        rng.uniform(12.0, 28.0),
        rng.uniform(2.0, 5.0),
        rng.uniform(2.0, 6.0),
    )
    transmission = (
        1.0 / (1.0 + (energy_kev / upper_cutoff_kev) ** steepness) / (1.0 + (lower_cutoff_kev / energy_kev) ** 2)
    )
    return Optic(energy_kev=tuple(energy_kev.tolist()), transmission=tuple(transmission.tolist()))


def perturb_instrument(instrument: Instrument, rng: np.random.Generator) -> Instrument:
    """Return an instrument whose angles, air paths and detector response deviate slightly from the given one."""
    geometry, detector = instrument.geometry, instrument.detector
    return instrument.model_copy(
        update={
            "name": f"{instrument.name}, perturbed",
            "geometry": geometry.model_copy(
                update={
                    "incidence_angle_deg": float(np.clip(geometry.incidence_angle_deg + rng.normal(0, 3), 30, 90)),
                    "takeoff_angle_deg": float(np.clip(geometry.takeoff_angle_deg + rng.normal(0, 3), 20, 90)),
                    "source_air_cm": geometry.source_air_cm * float(rng.lognormal(0, 0.2)),
                    "detector_air_cm": geometry.detector_air_cm * float(rng.lognormal(0, 0.2)),
                }
            ),
            "detector": detector.model_copy(
                update={
                    "noise_fwhm_kev": detector.noise_fwhm_kev * float(rng.lognormal(0, 0.1)),
                    "tail_fraction": detector.tail_fraction * float(rng.lognormal(0, 0.3)),
                    "shelf_fraction": detector.shelf_fraction * float(rng.lognormal(0, 0.3)),
                }
            ),
        }
    )


def choose(rng: np.random.Generator, items: Sequence[str], weights: Sequence[float]) -> str:
    """Draw a random item. The weights need not sum to one."""
    probabilities = np.asarray(weights, dtype=np.float64)
    return str(rng.choice(list(items), p=probabilities / probabilities.sum()))


def choose_weighted(rng: np.random.Generator, items: Sequence[tuple[str, float]]) -> str:
    """Draw a random item from (item, weight) pairs."""
    return choose(rng, [item for item, _ in items], [weight for _, weight in items])


def log_uniform(rng: np.random.Generator, minimum: float, maximum: float) -> float:
    """Draw a random number between two limits from a log-uniform distribution."""
    return float(np.exp(rng.uniform(np.log(minimum), np.log(maximum))))
