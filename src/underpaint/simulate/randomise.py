"""Random instruments: what a network must be indifferent to."""

from collections.abc import Sequence

import numpy as np

from underpaint.physics.instrument import Detector, Filter, Geometry, Instrument, Tube

ANODES = ("Rh", "Ag", "Mo", "W", "Pd", "Cu", "Au")
ANODE_WEIGHTS = (0.40, 0.20, 0.12, 0.12, 0.06, 0.05, 0.05)
FILTER_MATERIALS = (("Al", 2.70, 500.0), ("Ti", 4.51, 50.0), ("Cu", 8.96, 25.0), ("C22H10N2O5", 1.42, 300.0))


def random_instrument(rng: np.random.Generator) -> Instrument:
    """Draw a tube, filters, geometry and detector as the scanners in use have them.

    The ranges are those of ``docs/explanations/training-data.md``: anode, 20-55 kV, filters in a quarter of the
    cases, angles, air paths up to 12 cm (log-uniform) and detector windows, so that soft lines vary tenfold.
    """
    incidence, takeoff = float(rng.uniform(45, 90)), float(rng.uniform(30, 80))
    tube = Tube(
        anode=str(rng.choice(ANODES, p=ANODE_WEIGHTS)),
        # whole kilovolts: the tube's tables are then shared between draws
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


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """Draw one number whose logarithm is uniform."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))
