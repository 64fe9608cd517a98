"""The tube model against a gold tube measured directly, and against nothing else fitted away.

    python benchmarks/tube.py DATA --json FILE [--out DIR]

DATA is a folder of .mca spectra of a mini X-ray tube (gold, 25 kV) that shone into a silicon drift detector. The energy
scale comes from the Au L lines; fitted are the overall scale, the electronic noise, the path in air (which stands for
all absorbers on the way), the take-off angle at the anode and ``Tube.line_factor``. What is compared, 3 to 24 keV: the
continuum's shape per keV beside the lines, and the ratios of Au L-beta and L-gamma to L-alpha. Gold's M lines (2.1 keV)
are measured but not in the model.
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

from underpaint.forward import response_matrix, source_spectrum
from underpaint.instrument import Detector, Geometry, Instrument, Tube
from underpaint.io import read_spectrum
from underpaint.spectrum import EnergyAxis

Array = NDArray[np.float64]
VOLTAGE_KV = 25.0
LOW_KEV, HIGH_KEV = 3.0, 24.0
LINES_KEV = {"L-alpha": (9.45, 9.95), "L-beta": (11.05, 11.9), "L-gamma": (13.1, 13.95)}
BESIDE_KEV = 0.25
REACH = np.asarray([4.0, 1.0, 3.0, 1.4, 2.0])
"""How far the logarithms of the fitted values may rise."""
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
        comparison = Comparison(np.asarray(read_spectrum(path).counts, dtype=np.float64))
        result[path.stem] = comparison.figures()
        if arguments.out is not None:
            arguments.out.mkdir(parents=True, exist_ok=True)
            comparison.picture().savefig(arguments.out / f"{path.stem}.png", dpi=120)
    arguments.json.write_text(json.dumps(result, indent=1), "utf-8")
    show(result)


class Comparison:
    """One measured spectrum and the model fitted to it."""

    def __init__(self, counts: Array) -> None:
        self.counts = counts
        self.axis = calibrated(counts)
        self.fitted = (self.axis.energy_kev > LOW_KEV) & (self.axis.energy_kev < HIGH_KEV)
        start = np.log([counts[self.fitted].sum(), 0.09, 5.0, 20.0, 1.0])
        self.found = least_squares(self._residuals, start, bounds=(start - 4.0, start + REACH))
        self.scale, self.noise_kev, self.air_cm, self.takeoff_deg, self.line_factor = np.exp(self.found.x)
        self.model = self._model(self.found.x)

    def figures(self) -> dict[str, Any]:
        """Return what was fitted, and what was compared."""
        energy = self.axis.energy_kev
        beside = self.fitted.copy()
        for low, high in LINES_KEV.values():
            beside &= (energy < low - BESIDE_KEV) | (energy > high + BESIDE_KEV)
        per_kev = {}
        for low in range(int(LOW_KEV), int(HIGH_KEV)):
            inside = beside & (energy > low) & (energy < low + 1)
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
        return {
            "counts": float(self.counts[self.fitted].sum()),
            "gain_kev": self.axis.gain_kev,
            "zero_kev": self.axis.zero_kev,
            "noise_kev": float(self.noise_kev),
            "air_cm": float(self.air_cm),
            "takeoff_deg": float(self.takeoff_deg),
            "line_factor": float(self.line_factor),
            "continuum_model_over_measured_per_kev": per_kev,
            "continuum_max_rel": float(max(abs(ratio - 1.0) for ratio in per_kev.values())),
            "line_ratios": ratios,
        }

    def picture(self) -> Figure:
        """Return measured and modelled spectrum with their ratio."""
        figure = Figure(figsize=(9, 6), layout="constrained")
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        energy = self.axis.energy_kev
        upper.semilogy(energy, np.maximum(self.counts, 0.5), color="#999999", lw=0.8, label="measured")
        upper.semilogy(energy, np.maximum(self.model, 0.5), color="#0072b2", lw=1.2, label="model")
        upper.set(ylabel="counts per channel", xlim=(1.5, VOLTAGE_KV + 1.0), ylim=(1.0, 2.0 * self.counts[50:].max()))
        upper.legend()
        wide = np.ones(10) / 10.0
        ratio = np.convolve(self.counts, wide, "same") / np.maximum(np.convolve(self.model, wide, "same"), 1e-9)
        lower.plot(energy, ratio, color="#d55e00", lw=0.8)
        lower.axhline(1.0, color="black", lw=0.6)
        lower.set(ylim=(0.5, 1.5), ylabel="measured / model", xlabel="energy, keV")
        return figure

    def _residuals(self, values: Array) -> Array:
        expected = self._model(values)[self.fitted]
        # five per cent of the model beside counting noise: no tube formula is better
        return (self.counts[self.fitted] - expected) / np.sqrt(expected + (0.05 * expected) ** 2 + 1.0)

    def _model(self, values: Array) -> Array:
        scale, noise, air, takeoff, factor = np.exp(values)
        tube = Tube(anode="Au", voltage_kv=VOLTAGE_KV, takeoff_angle_deg=min(takeoff, 90.0), line_factor=factor)
        instrument = Instrument(tube=tube, geometry=Geometry(source_air_cm=air))
        energy, weight, width = source_spectrum(instrument)
        detector = DETECTOR.model_copy(update={"noise_fwhm_kev": float(noise)})
        expected = weight @ response_matrix(detector, self.axis, energy, width / np.sqrt(12.0))
        return np.asarray(scale * expected / expected[self.fitted].sum())

    def _areas(self, spectrum: Array) -> dict[str, float]:
        """Return net areas over straight lines between the means beside the peaks."""
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


def show(result: dict[str, Any]) -> None:
    """Print what was found."""
    titles = ("spectrum", "take-off", "air", "line factor", "L-beta", "L-gamma", "continuum per keV")
    table = Table(*titles, title="Au, 25 kV")
    for name, entry in result.items():
        ratios = [f"{value['model']:.3f} ({value['measured']:.3f})" for value in entry["line_ratios"].values()]
        table.add_row(
            name.split("kV_")[-1],
            f"{entry['takeoff_deg']:.0f} deg",
            f"{entry['air_cm']:.1f} cm",
            f"{entry['line_factor']:.2f}",
            *ratios,
            f"within {100 * entry['continuum_max_rel']:.0f} %",
        )
    console = Console()
    console.print(table)
    console.print("ratios to L-alpha: model (measured)")


def _centre(counts: Array, place: int) -> float:
    """Return the centre of gravity of a peak's top."""
    near = np.arange(place - 6, place + 7)
    top = np.maximum(counts[near] - 0.5 * counts[place], 0.0)
    return float(near @ top / top.sum())


if __name__ == "__main__":
    main()
