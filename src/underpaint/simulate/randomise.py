"""Random instruments, to which a network must be robust."""

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
    """Draw a tube, filters, geometry and detector as the scanners in use have them.

    The ranges are those of ``docs/explanations/forward-model.md``: anode, 20-55 kV, filters in a quarter of the
    cases, angles, air paths up to 12 cm (log-uniform) and detector windows, so that soft lines vary tenfold.
    """
    incidence, takeoff = float(rng.uniform(45, 90)), float(rng.uniform(30, 80))
    tube = Tube(
        anode=str(rng.choice(ANODES, p=ANODE_WEIGHTS)),
        # integer kilovolts, so that draws share the tube's tables
        voltage_kv=float(rng.integers(20, 56)),
        window=Filter(formula="Be", density=1.848, thickness_um=float(rng.choice([50.0, 100.0, 127.0, 200.0, 300.0]))),
        # measured tubes and other codes have lines up to 1.7 times as strong as Ebel
        line_factor=log_uniform(rng, 0.9, 1.8),
    )
    geometry = Geometry(
        incidence_angle_deg=incidence,
        takeoff_angle_deg=takeoff,
        scatter_angle_deg=float(rng.uniform(90, 150)),
        source_air_cm=log_uniform(rng, 0.5, 10.0),
        detector_air_cm=log_uniform(rng, 0.3, 12.0),
    )
    return Instrument(
        name="random", tube=tube, filters=random_filters(rng), geometry=geometry, detector=random_detector(rng)
    )


def random_detector(rng: np.random.Generator) -> Detector:
    """Draw a silicon drift detector: 125-175 eV at Mn K, window, thickness, tail and shelf."""
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
    """Draw no filter (three in four) or one sheet."""
    if rng.random() < 0.75:
        return ()
    formula, density, most = FILTER_MATERIALS[int(rng.integers(len(FILTER_MATERIALS)))]
    return (Filter(formula=formula, density=density, thickness_um=float(rng.uniform(0.1, 1.0)) * most),)


KINDS: tuple[tuple[str, float], ...] = (
    ("scanner", 0.45),
    ("benchtop", 0.18),
    ("hand_held", 0.2),
    ("polycapillary", 0.14),
    ("monochromatic", 0.03),
)
"""Kinds of instrument with their weights; other kinds than scanners differ in tube, filters, optics and paths."""
_POLYMER = ("C10H8O4", 1.38)
_AIR = "N7O2"
"""Air without its argon, by mass within 2 %."""


def any_instrument(rng: np.random.Generator) -> Instrument:
    """Draw an instrument of any kind: scanner, benchtop in air, helium or vacuum, hand-held, polycapillary, one energy.

    Other values are those of :func:`random_instrument`.
    """
    kind, base = choose_weighted(rng, KINDS), random_instrument(rng)
    if kind == "benchtop":
        return base.model_copy(update={"geometry": _in_chamber(rng, base.geometry)})
    if kind == "hand_held":
        return _hand_held(rng, base)
    if kind == "polycapillary":
        return base.model_copy(update={"optic": _polycapillary(rng), "filters": ()})
    if kind == "monochromatic":
        energy = float(rng.choice([17.44, 20.2, 22.1, rng.uniform(10.0, 35.0)]))
        source = SourceSpectrum(energy_kev=(energy,), weight=(1.0,))
        return base.model_copy(update={"source_spectrum": source, "filters": ()})
    return base


def any_detector(rng: np.random.Generator) -> Detector:
    """Draw a detector as :func:`random_detector` does, now and then behind more air or a polymer film."""
    sheets = []
    if rng.random() < 0.4:
        sheets.append(Filter(formula=_AIR, density=0.0012, thickness_um=1e4 * float(rng.uniform(0.0, 6.0))))
    if rng.random() < 0.15:
        formula, density = _POLYMER
        sheets.append(Filter(formula=formula, density=density, thickness_um=log_uniform(rng, 3.0, 50.0)))
    return random_detector(rng).model_copy(update={"filters": tuple(sheets)})


def _in_chamber(rng: np.random.Generator, geometry: Geometry) -> Geometry:
    """Return a geometry in vacuum or helium (half of the cases; helium absorbs as little as vacuum), else in air."""
    paths = (0.0, 0.0) if rng.random() < 0.5 else tuple(log_uniform(rng, 0.3, 5.0) for _ in range(2))
    return geometry.model_copy(update=dict(zip(("source_air_cm", "detector_air_cm"), paths, strict=True)))


def _hand_held(rng: np.random.Generator, base: Instrument) -> Instrument:
    """Return a hand-held instrument: Rh, Ag or W, 15 or 30-50 kV, short paths, often one or two filters."""
    voltage = 15.0 if rng.random() < 0.15 else float(rng.integers(30, 51))
    anode = choose(rng, ("Rh", "Ag", "W"), (0.5, 0.35, 0.15))
    sheets = []
    if rng.random() < 0.6:
        sheets.append(Filter(formula="Al", density=2.70, thickness_um=log_uniform(rng, 25.0, 500.0)))
    if rng.random() < 0.4:
        formula, density, most = FILTER_MATERIALS[int(rng.integers(1, 3))]
        sheets.append(Filter(formula=formula, density=density, thickness_um=float(rng.uniform(0.3, 1.0)) * most))
    paths = {name: log_uniform(rng, 0.2, 2.0) for name in ("source_air_cm", "detector_air_cm")}
    return base.model_copy(
        update={
            "tube": base.tube.model_copy(update={"voltage_kv": voltage, "anode": anode}),
            "filters": tuple(sheets),
            "geometry": base.geometry.model_copy(update=paths),
        }
    )


def _polycapillary(rng: np.random.Generator) -> Optic:
    """Return the transmission of a polycapillary: it falls steeply above an energy, and slowly below another."""
    energy = np.geomspace(2.0, 60.0, 40)
    fall, steep, rise = rng.uniform(12.0, 28.0), rng.uniform(2.0, 5.0), rng.uniform(2.0, 6.0)
    share = 1.0 / (1.0 + (energy / fall) ** steep) / (1.0 + (rise / energy) ** 2)
    return Optic(energy_kev=tuple(energy.tolist()), transmission=tuple(share.tolist()))


def perturbed(instrument: Instrument, rng: np.random.Generator) -> Instrument:
    """Return a preset as one actual machine of its kind: angles, air, window and response off by a little."""
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
    """Draw one item by weights that need not sum to one."""
    probability = np.asarray(weights, dtype=np.float64)
    return str(rng.choice(list(items), p=probability / probability.sum()))


def choose_weighted(rng: np.random.Generator, items: Sequence[tuple[str, float]]) -> str:
    """Draw one of some (item, weight) pairs."""
    return choose(rng, [item for item, _ in items], [weight for _, weight in items])


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """Draw one number whose logarithm is uniform."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))
