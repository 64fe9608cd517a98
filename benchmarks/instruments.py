"""Calibration of random instruments from a scan by `underpaint calibrate`, compared with the truth.

    python benchmarks/instruments.py --json FILE [--n 200] [--seed 0] [--quick]

Each scan is virtual: 16 random easel paintings under one random tube, filters, geometry and detector
(``synth.randomise``), a path in air that the detector sees, pile-up, Poisson noise, 10 million to a billion counts in
all, as mapping scanners collect; 1,024 to 4,096 channels that end at 21 to 55 keV, zero off by up to 0.15 keV. The
calibration is given the counts alone.

An instrument's answer counts as wrong where it is off, whatever the reason; a right "unknown" is one where the truth is
not recorded. What is recorded is known from the forward model:

- the anode, where Rayleigh and Compton peaks of its K lines over 15 keV each stand ten deviations over what lies under
  them, and are a tenth of it: W and Au have none, those of Cu lie under a pigment's own lines;
- the voltage, where the axis ends a keV above it and the top 2 keV of the continuum hold 100 counts;
- the angle, where the anode is recorded.
"""

import argparse
import json
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from underpaint import __version__
from underpaint.calibrate import Calibration, calibrate
from underpaint.data import EnergyAxis, Scan
from underpaint.data.peaks import resolution_fwhm_kev
from underpaint.errors import CalibrationError
from underpaint.physics.atomic import atomic_number, compton_energy, edge_energy, family_lines
from underpaint.physics.forward import Emission, count, emit, pile_up, render, source_spectrum
from underpaint.physics.instrument import Instrument, SourceSpectrum
from underpaint.physics.materials import Stratigraphy, load_palette
from underpaint.runtime.threads import limit_to_one_blas_thread
from underpaint.simulate.draw import RandomStratigraphies, StratigraphySampler
from underpaint.simulate.randomise import log_uniform, random_instrument

Array = NDArray[np.float64]
SIDE = 4
"""Rows and columns of a scan."""
COUNTS = (1e7, 1e9)
CHANNELS = (1024, 2048, 4096)
FULL_SCALE_KEV, ZERO_KEV = (21.0, 55.0), 0.15
SEEN_AIR_CM = (0.05, 5.0)
PILE_UP = (1e-4, 2e-2)
"""Rate times pulse-pair resolution."""
CLEAR_KEV = 15.0
MIN_SIGMAS, MIN_SHARE = 10.0, 0.1
END_KEV, END_COUNTS = 2.0, 100.0
PROCESSES = 2
QUICK = 20
TARGETS = {
    "anode_percent": ("anode right where recorded, %", 99.0),
    "voltage_percent": ("voltage within 1 kV where anode and end are recorded, %", 99.0),
    "gain_percent": ("gain within 0.05 %, % of the scans", 99.0),
    "zero_percent": ("zero within 5 eV, % of the scans", 99.0),
    "angle_percent": ("angle within 5 degrees where recorded, %", 99.0),
}
KILOVOLT, GAIN_SHARE, ZERO_EV, ANGLE_DEG = 1.0, 5e-4, 5.0, 5.0


@dataclass(frozen=True)
class Virtual:
    """A scan with its true values, and which of them it shows."""

    seed: int
    instrument: Instrument
    counts: NDArray[np.int32]
    anode_recorded: bool
    end_recorded: bool


@dataclass(frozen=True)
class Verdict:
    """Truth and answer of one scan; None where there is no answer."""

    seed: int
    anode: str
    voltage_kv: float
    angle_deg: float
    fwhm_ev: float
    total_counts: float
    anode_recorded: bool
    end_recorded: bool
    error: str = ""
    found_anode: str | None = None
    found_voltage_kv: float | None = None
    voltage_error_kv: float | None = None
    found_angle_deg: float | None = None
    gain_off: float | None = None
    zero_off_ev: float | None = None
    fwhm_off: float | None = None
    seconds: float = 0.0

    @property
    def voltage_off_kv(self) -> float | None:
        """Voltage found minus the true one."""
        return None if self.found_voltage_kv is None else self.found_voltage_kv - self.voltage_kv


def virtual_scan(seed: int) -> Virtual:
    """Draw an instrument and its paintings, and scan them."""
    rng = np.random.default_rng(seed)
    instrument = _draw_instrument(rng)
    sampler = StratigraphySampler(RandomStratigraphies(palette=load_palette().pigments))
    paintings = [sampler.draw(rng) for _ in range(SIDE**2)]
    emission = emit(paintings, instrument)
    expected = np.asarray(render(emission, instrument.detector), dtype=np.float64)
    scale = log_uniform(rng, *COUNTS) / expected.sum()
    detector = instrument.detector.model_copy(update={"pulse_pair_us": 1.0})
    # the scanner stays equally long everywhere: bright pixels have the higher rate
    brightness = expected.sum(axis=1) / expected.sum(axis=1).mean()
    piled = pile_up(expected * scale, 1e6 * log_uniform(rng, *PILE_UP) * brightness, detector, axis_of(instrument))
    counts = count(np.asarray(piled), rng=rng)
    anode, end = _recorded(paintings, instrument, emission, expected.sum(0), scale)
    return Virtual(seed, instrument, counts.reshape(SIDE, SIDE, -1), anode, end)


def _draw_instrument(rng: np.random.Generator) -> Instrument:
    drawn = random_instrument(rng)
    n_channel = int(rng.choice(CHANNELS))
    axis = {
        "n_channel": n_channel,
        "gain_kev": float(rng.uniform(*FULL_SCALE_KEV)) / n_channel,
        "zero_kev": float(rng.uniform(-ZERO_KEV, ZERO_KEV)),
    }
    air = {"seen_air_cm": log_uniform(rng, *SEEN_AIR_CM)}
    parts = {"detector": drawn.detector.model_copy(update=axis), "geometry": drawn.geometry.model_copy(update=air)}
    return drawn.model_copy(update=parts)


def axis_of(instrument: Instrument) -> EnergyAxis:
    """Return the true axis."""
    detector = instrument.detector
    return EnergyAxis(detector.gain_kev, detector.zero_kev, detector.n_channel)


def _recorded(
    paintings: Sequence[Stratigraphy], instrument: Instrument, emission: Emission, total: Array, scale: float
) -> tuple[bool, bool]:
    """Whether the anode's scattered K lines are detectable, and whether the end of the continuum was recorded."""
    end = _end_recorded(instrument, emission, scale)
    edge = edge_energy(atomic_number(instrument.tube.anode), 0)
    if edge >= instrument.tube.voltage_kv:
        return False, end
    energy, share = family_lines(instrument.tube.anode, "K", instrument.tube.voltage_kv)
    strongest = float(energy[np.argmax(share)])
    shifted = float(compton_energy(np.asarray([strongest]), instrument.geometry.scattering_angle_deg)[0])
    if strongest < CLEAR_KEV:
        return False, end
    lines = _scattered_lines(paintings, instrument)
    coherent = np.where(emission.width_kev == 0, np.asarray(emission.coherent), 0.0)
    bare = _only(emission, coherent, 0.0 * np.asarray(emission.compton))
    rayleigh = np.asarray(render(bare, instrument.detector)).sum(0)
    stands = partial(_stands_out, instrument=instrument, total=total, scale=scale)
    return stands(strongest, rayleigh) and stands(shifted, lines), end


def _scattered_lines(paintings: Sequence[Stratigraphy], instrument: Instrument) -> Array:
    """Return the Compton scatter of the tube's lines alone, (n_channel,)."""
    energy, weight, width = source_spectrum(instrument)
    line = width == 0
    source = SourceSpectrum(energy_kev=tuple(energy[line]), weight=tuple(weight[line]))
    geometry = instrument.geometry.model_copy(update={"source_air_cm": 0.0})
    source_instrument = instrument.model_copy(update={"source_spectrum": source, "filters": (), "geometry": geometry})
    emission = emit(paintings, source_instrument)
    only = _only(emission, 0.0 * np.asarray(emission.coherent), np.asarray(emission.compton))
    return np.asarray(np.asarray(render(only, instrument.detector), dtype=np.float64).sum(0))


def _only(emission: Emission, coherent: Array, compton: Array) -> Emission:
    """Return an emission with some scatter alone."""
    names = ("primary", "secondary", "tertiary", "by_scatter", "rescattered", "multiple", "air")
    none: dict[str, Any] = {name: 0.0 * np.asarray(getattr(emission, name)) for name in names}
    return replace(emission, coherent=coherent, compton=compton, **none)


def _stands_out(energy_kev: float, peak: Array, *, instrument: Instrument, total: Array, scale: float) -> bool:
    axis = axis_of(instrument)
    if axis.stop_kev < energy_kev + 0.5:
        return False
    window = np.abs(axis.energy_kev - energy_kev) < 0.5 * _fwhm_kev(instrument, energy_kev)
    signal, under = scale * peak[window].sum(), scale * (total - peak)[window].sum()
    return bool(signal > MIN_SIGMAS * np.sqrt(signal + under) and signal > MIN_SHARE * under)


def _end_recorded(instrument: Instrument, emission: Emission, scale: float) -> bool:
    axis, end = axis_of(instrument), instrument.tube.voltage_kv
    scatter = np.asarray(render(_without_lines(emission), instrument.detector)).sum(0)
    top = scale * scatter[(axis.energy_kev > end - END_KEV) & (axis.energy_kev < end)].sum()
    return bool(axis.stop_kev > end + 1.0 and top > END_COUNTS)


def _without_lines(emission: Emission) -> Emission:
    return _only(emission, np.asarray(emission.coherent), np.asarray(emission.compton))


def _fwhm_kev(instrument: Instrument, energy_kev: float) -> float:
    return float(resolution_fwhm_kev(energy_kev, instrument.detector.noise_fwhm_kev, instrument.detector.fano))


def evaluate(seed: int) -> Verdict:
    """Calibrate one scan and compare the result with the truth."""
    virtual = virtual_scan(seed)
    instrument = virtual.instrument
    verdict = Verdict(
        seed=seed,
        anode=instrument.tube.anode,
        voltage_kv=instrument.tube.voltage_kv,
        angle_deg=instrument.geometry.scattering_angle_deg,
        fwhm_ev=1e3 * _fwhm_kev(instrument, 5.9),
        total_counts=float(virtual.counts.sum(dtype=np.float64)),
        anode_recorded=virtual.anode_recorded,
        end_recorded=virtual.end_recorded,
    )
    start = time.perf_counter()
    try:
        calibration = calibrate(Scan(virtual.counts, name=f"virtual {seed}"), tube=True)
    except CalibrationError as error:
        return replace(verdict, error=str(error), seconds=time.perf_counter() - start)
    return _compared(verdict, calibration, instrument, time.perf_counter() - start)


def _compared(verdict: Verdict, calibration: Calibration, instrument: Instrument, seconds: float) -> Verdict:
    true = axis_of(instrument)
    return replace(
        verdict,
        found_anode=calibration.anode,
        found_voltage_kv=calibration.voltage_kv,
        voltage_error_kv=calibration.voltage_uncertainty_kv,
        found_angle_deg=calibration.scatter_angle_deg,
        gain_off=calibration.axis.gain_kev / true.gain_kev - 1.0,
        zero_off_ev=1e3 * (calibration.axis.zero_kev - true.zero_kev),
        fwhm_off=float(calibration.fwhm_kev(5.9)) / (1e-3 * verdict.fwhm_ev) - 1.0,
        seconds=seconds,
    )


def summary(verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """Return each figure, and every failure with its reasons."""
    recorded = [verdict for verdict in verdicts if verdict.anode_recorded]
    ended = [verdict for verdict in recorded if verdict.end_recorded]
    claimed = [verdict for verdict in verdicts if verdict.found_voltage_kv is not None]
    off = {verdict.seed: reasons for verdict in verdicts if (reasons := faults(verdict))}
    return {
        "instruments": len(verdicts),
        "not_calibrated": sum(bool(verdict.error) for verdict in verdicts),
        "anode_recorded": len(recorded),
        "anode_percent": _percent(verdict.found_anode == verdict.anode for verdict in recorded),
        "anode_unknown_though_recorded": sum(verdict.found_anode is None for verdict in recorded),
        "anode_right_though_not_recorded": sum(
            verdict.found_anode == verdict.anode for verdict in verdicts if not verdict.anode_recorded
        ),
        "anode_wrong": sum(verdict.found_anode not in {None, verdict.anode} for verdict in verdicts),
        "voltage_recorded": len(ended),
        "voltage_percent": _percent(_near(verdict.voltage_off_kv, 0.0, KILOVOLT) for verdict in ended),
        "voltage_unknown_though_recorded": sum(verdict.found_voltage_kv is None for verdict in ended),
        "voltage_claimed": len(claimed),
        "voltage_wrong": sum(_wrong_voltage(verdict) for verdict in verdicts),
        "voltage_off_median_kv": _median([verdict.voltage_off_kv for verdict in claimed]),
        "voltage_within_two_deviations_percent": _percent(
            _near(verdict.voltage_off_kv, 0.0, 2.0 * (verdict.voltage_error_kv or 0.0)) for verdict in claimed
        ),
        "gain_percent": _percent(_near(verdict.gain_off, 0.0, GAIN_SHARE) for verdict in verdicts),
        "zero_percent": _percent(_near(verdict.zero_off_ev, 0.0, ZERO_EV) for verdict in verdicts),
        "angle_percent": _percent(_near(verdict.found_angle_deg, verdict.angle_deg, ANGLE_DEG) for verdict in recorded),
        "angle_wrong": sum(_wrong_angle(verdict) for verdict in verdicts),
        "gain_off_median_percent": 100.0 * _median([verdict.gain_off for verdict in verdicts]),
        "zero_off_median_ev": _median([verdict.zero_off_ev for verdict in verdicts]),
        "width_off_median_percent": 100.0 * _median([verdict.fwhm_off for verdict in verdicts]),
        "seconds_median": _median([verdict.seconds for verdict in verdicts]),
        "failures": [asdict(verdict) | {"faults": off[verdict.seed]} for verdict in verdicts if verdict.seed in off],
        "version": __version__,
    }


def faults(verdict: Verdict) -> list[str]:
    """Return the errors of an answer, and the values that are missing though they were recorded."""
    if verdict.error:
        return ["no calibration"]
    missed_anode = verdict.anode_recorded and verdict.found_anode != verdict.anode
    missed_end = verdict.anode_recorded and verdict.end_recorded and verdict.found_voltage_kv is None
    missed_angle = verdict.anode_recorded and verdict.found_angle_deg is None
    checks = {
        "anode": missed_anode or verdict.found_anode not in {None, verdict.anode},
        "voltage": missed_end or _wrong_voltage(verdict),
        "angle": missed_angle or _wrong_angle(verdict),
        "gain": not _near(verdict.gain_off, 0.0, GAIN_SHARE),
        "zero": not _near(verdict.zero_off_ev, 0.0, ZERO_EV),
    }
    return [name for name, off in checks.items() if off]


def _wrong_voltage(verdict: Verdict) -> bool:
    return verdict.voltage_off_kv is not None and not _near(verdict.voltage_off_kv, 0.0, KILOVOLT)


def _wrong_angle(verdict: Verdict) -> bool:
    return verdict.found_angle_deg is not None and not _near(verdict.found_angle_deg, verdict.angle_deg, ANGLE_DEG)


def _near(value: float | None, truth: float, within: float) -> bool:
    return value is not None and abs(value - truth) <= within


def _percent(rights: Any) -> float:
    values = list(rights)
    return 100.0 * sum(values) / len(values) if values else float("nan")


def _median(values: Sequence[float | None]) -> float:
    finite = [abs(value) for value in values if value is not None]
    return float(np.median(finite)) if finite else float("nan")


def tables(result: dict[str, Any]) -> list[Table]:
    """Return the figures with their targets, and the failures."""
    figures = Table("figure", "measured", "target", title=f"{result['instruments']} random instruments")
    for name, (title, target) in TARGETS.items():
        figures.add_row(title, f"{result[name]:.1f}", f"{target:g}")
    for name, value in result.items():
        if name not in {*TARGETS, "instruments", "failures", "version"}:
            figures.add_row(name.replace("_", " "), f"{value:.3g}" if isinstance(value, float) else str(value), "")
    return [figures, _failures_table(result["failures"])]


def _failures_table(failures: Sequence[dict[str, Any]]) -> Table:
    table = Table("seed", "faults", "anode", "kV", "angle", "gain off, %", "zero off, eV", title="failures")
    for verdict in failures:
        off = ["-" if verdict[name] is None else f"{factor * verdict[name]:+.3f}" for name, factor in
               (("gain_off", 100.0), ("zero_off_ev", 1.0))]  # fmt: skip
        pairs = (
            (f"{verdict['anode']}{'' if verdict['anode_recorded'] else ' (hidden)'}", verdict["found_anode"]),
            (f"{verdict['voltage_kv']:g}{'' if verdict['end_recorded'] else ' (hidden)'}", verdict["found_voltage_kv"]),
            (f"{verdict['angle_deg']:.0f}", verdict["found_angle_deg"]),
        )
        texts = [f"{true} -> {answer if not isinstance(answer, float) else round(answer, 1)}" for true, answer in pairs]
        table.add_row(str(verdict["seed"]), verdict["error"][:60] or ", ".join(verdict["faults"]), *texts, *off)
    return table


def main() -> None:
    """Parse, judge, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--n", type=int, default=200, help="instruments")
    parser.add_argument("--seed", type=int, default=0, help="of the first instrument; the others follow")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK} instruments")
    options = parser.parse_args()
    seeds = range(options.seed, options.seed + (QUICK if options.quick else options.n))
    with ProcessPoolExecutor(PROCESSES, mp_context=get_context("spawn"), initializer=limit_to_one_blas_thread) as pool:
        verdicts = list(pool.map(evaluate, seeds))
    result = summary(verdicts)
    for table in tables(result):
        Console(width=140).print(table)
    options.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
