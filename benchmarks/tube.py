"""The tube model against a gold tube measured directly.

    python benchmarks/tube.py DATA --json FILE [--out DIR]

DATA is a folder of .mca spectra of a mini X-ray tube (gold, 25 kV) that shone into a silicon drift detector. The energy
scale comes from the Au L lines. Fitted are the overall scale, the electronic noise, the path in air (for all absorbers
in the beam) and one length or angle of the anode, which the files do not state, in three ways:

- foil: a transmission target, its thickness fitted, and ``Tube.line_factor``;
- foil, Ebel's lines: the same with the lines as published;
- thick anode: X-rays leave where the electrons enter, at a fitted take-off angle; and ``Tube.line_factor``.

What is compared, 3 to 24 keV: the continuum's shape per keV beside the lines, the ratios of Au L-beta and L-gamma to
L-alpha, and L-alpha over the continuum. Not in the model, and to be seen in the pictures: gold's M lines (2.1 keV), its
L-beta-5 line (L3-O4,5 at 11.92 keV, 1.3 % of the L3 lines), and traces of titanium and iron from the mount.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy.optimize import least_squares

from underpaint.data import EnergyAxis
from underpaint.io import read_spectrum
from underpaint.physics.forward import response_matrix, source_spectrum
from underpaint.physics.instrument import Detector, Geometry, Instrument, Tube

Array = NDArray[np.float64]
VOLTAGE_KV = 25.0
LOW_KEV, HIGH_KEV = 3.0, 24.0
LINES_KEV = {"L-alpha": (9.45, 9.95), "L-beta": (11.05, 11.9), "L-gamma": (13.1, 13.95)}
BESIDE_KEV = 0.25
RIVALS = ("foil, Ebel's lines", "thick anode")
"""In addition to the foil with lines of a fitted strength, whose figures come first."""
START = {"foil": 0.75, "thick anode": 20.0}
"""Thickness of a foil, um; take-off angle, degree."""
CONTINUUM_KEV = (5.0, 9.0)
"""Range of the continuum alone, with which L-alpha is compared."""
GOOD, FAIR = 0.05, 0.10
"""Deviations that the printed words call good and fair; five per cent is what tube formulas claim for themselves."""
DETECTOR = Detector(thickness_um=500.0, noise_fwhm_kev=0.09)
"""A drift detector of a usual kind; the measurement's own is not described."""


def main() -> None:
    """Compare every spectrum, print a table, write figures and JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of .mca files")
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--out", type=Path, help="folder for the pictures")
    arguments = parser.parse_args()
    result = {}
    for path in sorted(arguments.data.glob("*.mca")):
        counts = np.asarray(read_spectrum(path).counts, dtype=np.float64)
        foil = Comparison(counts, "foil")
        result[path.stem] = foil.figures() | {name: Comparison(counts, name).figures() for name in RIVALS}
        if arguments.out is not None:
            arguments.out.mkdir(parents=True, exist_ok=True)
            foil.picture().savefig(arguments.out / f"{path.stem}.png", dpi=120)
    arguments.json.write_text(json.dumps(result, indent=1), "utf-8")
    show(result)


class Comparison:
    """One measured spectrum and the model fitted to it."""

    def __init__(self, counts: Array, kind: str) -> None:
        self.counts, self.kind = counts, kind
        self.foil = kind != "thick anode"
        self.axis = calibrated(counts)
        self.fitted = (self.axis.energy_kev > LOW_KEV) & (self.axis.energy_kev < HIGH_KEV)
        start = np.log([counts[self.fitted].sum(), 0.09, 3.0, START[kind.split(",", maxsplit=1)[0]], 1.0])
        reach = np.asarray([4.0, 1.0, 5.0, 1.4, 1e-9 if "Ebel" in kind else 1.0])
        self.found = least_squares(self._residuals, start, bounds=(start - reach, start + reach))
        self.model = self._model(self.found.x)

    def figures(self) -> dict[str, Any]:
        """Return the fitted and the compared values."""
        energy = self.axis.energy_kev
        mask = self.fitted.copy()
        for low, high in LINES_KEV.values():
            mask &= (energy < low - BESIDE_KEV) | (energy > high + BESIDE_KEV)
        per_kev = {}
        for low in range(int(LOW_KEV), int(HIGH_KEV)):
            inside = mask & (energy > low) & (energy < low + 1)
            if inside.sum() > 20:
                per_kev[f"{low}-{low + 1}"] = float(self.model[inside].sum() / self.counts[inside].sum())
        measured, modelled = (self._areas(spectrum) for spectrum in (self.counts, self.model))
        ratios = {
            name: {
                "measured": measured[name] / measured["L-alpha"],
                "model": modelled[name] / modelled["L-alpha"],
            }
            for name in ("L-beta", "L-gamma")
        }
        ratios["L-alpha over continuum"] = {
            "measured": measured["L-alpha"] / self._between(self.counts),
            "model": modelled["L-alpha"] / self._between(self.model),
        }
        continuum = float(max(abs(ratio - 1.0) for ratio in per_kev.values()))
        lines = {name: ratio["model"] / ratio["measured"] - 1.0 for name, ratio in ratios.items()}
        _, noise, air, shape, factor = (float(value) for value in np.exp(self.found.x))
        return {
            "counts": float(self.counts[self.fitted].sum()),
            "gain_kev": self.axis.gain_kev,
            "zero_kev": self.axis.zero_kev,
            "noise_kev": noise,
            "air_cm": air,
            ("target_um" if self.foil else "takeoff_deg"): shape,
            "line_factor": factor,
            "misfit": 2.0 * float(self.found.cost) / int(self.fitted.sum()),
            "continuum_model_over_measured_per_kev": per_kev,
            "continuum_max_rel": continuum,
            "line_ratios": ratios,
            "line_ratios_rel": lines,
            "judged": {"continuum": rating(continuum)} | {name: rating(value) for name, value in lines.items()},
        }

    def picture(self) -> Figure:
        """Return measured and modelled spectrum with their ratio."""
        figure = Figure(figsize=(9, 6), layout="constrained")
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        energy = self.axis.energy_kev
        upper.semilogy(energy, np.maximum(self.counts, 0.5), color="#999999", lw=0.8, label="measured")
        upper.semilogy(energy, np.maximum(self.model, 0.5), color="#0072b2", lw=1.2, label=f"model: {self.kind}")
        upper.set(ylabel="counts per channel", xlim=(1.5, energy[-1]), ylim=(1.0, 2.0 * self.counts[50:].max()))
        upper.legend()
        wide = np.ones(10) / 10.0
        ratio = np.convolve(self.counts, wide, "same") / np.maximum(np.convolve(self.model, wide, "same"), 1e-9)
        lower.plot(energy, ratio, color="#d55e00", lw=0.8)
        lower.axhline(1.0, color="black", lw=0.6)
        lower.set(ylim=(0.5, 1.5), ylabel="measured / model,\n0.1 keV means", xlabel="energy, keV")
        return figure

    def _residuals(self, values: Array) -> Array:
        expected = self._model(values)[self.fitted]
        # five per cent of the model in addition to counting noise: no tube formula is better
        return (self.counts[self.fitted] - expected) / np.sqrt(expected + (0.05 * expected) ** 2 + 1.0)

    def _model(self, values: Array) -> Array:
        scale, noise, air, shape, factor = (float(value) for value in np.exp(values))
        anode = (
            {"target_um": shape, "electron_angle_deg": 90.0, "takeoff_angle_deg": 90.0}
            if self.foil
            else {"takeoff_angle_deg": min(shape, 90.0)}
        )
        tube = Tube(anode="Au", voltage_kv=VOLTAGE_KV, line_factor=factor, **anode)
        instrument = Instrument(tube=tube, geometry=Geometry(source_air_cm=air))
        energy, weight, width = source_spectrum(instrument)
        detector = DETECTOR.model_copy(update={"noise_fwhm_kev": noise})
        expected = weight @ response_matrix(detector, self.axis, energy, width / np.sqrt(12.0))
        return np.asarray(scale * expected / expected[self.fitted].sum())

    def _between(self, spectrum: Array) -> float:
        low, high = CONTINUUM_KEV
        return float(spectrum[(self.axis.energy_kev > low) & (self.axis.energy_kev < high)].sum())

    def _areas(self, spectrum: Array) -> dict[str, float]:
        """Return net areas over lines between the means on both sides of the peaks."""
        energy, areas = self.axis.energy_kev, {}
        for name, (low, high) in LINES_KEV.items():
            inside = (energy > low) & (energy < high)
            left = (energy > low - BESIDE_KEV) & (energy < low - 0.05)
            right = (energy > high + 0.05) & (energy < high + BESIDE_KEV)
            level = 0.5 * (spectrum[left].mean() + spectrum[right].mean())
            areas[name] = float(spectrum[inside].sum() - level * inside.sum())
        return areas


def calibrated(counts: Array) -> EnergyAxis:
    """Return the axis from Au L-alpha, the strongest peak, and L-gamma, which no other line blurs as it does L-beta."""
    alpha = int(counts[300:].argmax()) + 300
    start, stop = round(1.33 * alpha), round(1.42 * alpha)
    gamma = int(counts[start:stop].argmax()) + start
    places = [_centre(counts, place) for place in (alpha, gamma)]
    gain = (13.382 - 9.705) / (places[1] - places[0])
    return EnergyAxis(gain, 9.705 - gain * places[0], counts.size)


def rating(deviation: float) -> str:
    """Return a word for the deviation of a model."""
    size = abs(deviation)
    return "good" if size < GOOD else "fair" if size < FAIR else "poor"


def show(result: dict[str, Any]) -> None:
    """Print what was found."""
    titles = ("spectrum", "anode", "fitted", "air", "lines", "misfit", "L-beta", "L-gamma", "L-alpha", "continuum")
    table = Table(*titles, title="Au, 25 kV: model over measured, less one")
    for name, entry in result.items():
        for kind, figures in (("foil", entry), *((rival, entry[rival]) for rival in RIVALS)):
            shape = f"{figures['target_um']:.2f} um" if "target_um" in figures else f"{figures['takeoff_deg']:.0f} deg"
            table.add_row(
                name.split("uA_")[-1].removesuffix("_unfilt1") if kind == "foil" else "",
                kind,
                shape,
                f"{figures['air_cm']:.1f} cm",
                f"x {figures['line_factor']:.2f}",
                f"{figures['misfit']:.2f}",
                *(f"{100 * value:+.0f} % {rating(value)}" for value in figures["line_ratios_rel"].values()),
                f"within {100 * figures['continuum_max_rel']:.0f} % {figures['judged']['continuum']}",
            )
    console = Console(width=150)
    console.print(table)
    console.print("L-beta, L-gamma: over L-alpha. L-alpha: over the continuum from 5 to 9 keV. Continuum: worst keV.")


def _centre(counts: Array, place: int) -> float:
    """Return the centre of gravity of a peak's top."""
    near = np.arange(place - 6, place + 7)
    top = np.maximum(counts[near] - 0.5 * counts[place], 0.0)
    return float(near @ top / top.sum())


if __name__ == "__main__":
    main()
