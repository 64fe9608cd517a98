"""The forward model against spectra of pure metals from a micro-XRF instrument.

    python benchmarks/measured.py DATA --json FILE [--out DIR]

DATA holds Cu.txt, Fe.txt, Ti.txt and Zn.txt (EMSA): thick metals under a 30 kV rhodium tube with a polycapillary, whose
detector is not described. The unknowns -- take-off angle, the optic's cut-off, resolution, tails, shelf, pulse-pair
resolution -- are fitted once, on copper, and held for the others, which get their overall scale alone. Compared are
K-beta over K-alpha, the silicon escape peak and the shelf, each measured on both spectra by the same windows. The path
is taken as evacuated and the detector's window as 12.5 um of beryllium: copper's lines say nothing of either. Where the
shelf is there is also scattered soft radiation of the tube, of which the model has too much. Values at the end of their
range (``LOW``, ``HIGH``) are not measurements.
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy.optimize import least_squares

from underpaint.atomic import family_lines
from underpaint.forward import emit, pile_up, render
from underpaint.instrument import Detector, Geometry, Instrument, Optic, Tube
from underpaint.io import read_spectrum
from underpaint.sample import Layer, Stratigraphy
from underpaint.spectrum import EnergyAxis

Array = NDArray[np.float64]
DENSITY = {"Cu": 8.96, "Fe": 7.87, "Ti": 4.51, "Zn": 7.14}
SHELF_KEV = {"Cu": (4.4, 5.8), "Fe": (3.4, 4.4), "Ti": (3.3, 3.9), "Zn": (4.8, 6.2)}
"""Where neither line nor escape peak nor the tube's scattered L lines lie."""
LIVE_S = 30.0
RHODIUM_L_KEV = (2.5, 3.2)
LOW_KEV, HIGH_KEV = 3.3, 22.0
NAMES = (
    "takeoff_deg",
    "cutoff_kev",
    "noise_kev",
    "tail_fraction",
    "tail_width_kev",
    "long_tail_fraction",
    "long_tail_width_kev",
    "shelf_fraction",
    "pulse_pair_us",
    "gain_factor",
)
START = (45.0, 20.0, 0.08, 0.03, 0.12, 0.02, 1.5, 0.001, 0.4, 1.0)
LOW = (30.0, 4.0, 0.03, 1e-4, 0.03, 2e-3, 0.4, 1e-5, 0.01, 0.998)
HIGH = (65.0, 60.0, 0.16, 0.2, 0.4, 0.1, 4.0, 0.05, 5.0, 1.002)
INCIDENCE_DEG = 90.0
"""The beam comes straight down; the files' headers say 45 degrees for the detector."""


def main() -> None:
    """Fit copper, predict the others, print a table, write figures and JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of the metals' spectra")
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--out", type=Path, help="folder for the pictures")
    arguments = parser.parse_args()
    unknowns = fit(measure("Cu", arguments.data))
    result: dict[str, Any] = {"fitted_on_copper": dict(zip(NAMES, unknowns.tolist(), strict=True)), "metals": {}}
    for metal in DENSITY:
        measurement = measure(metal, arguments.data)
        model = predict(measurement, unknowns)
        result["metals"][metal] = compare(measurement, model)
        if arguments.out is not None:
            arguments.out.mkdir(parents=True, exist_ok=True)
            picture(measurement, model).savefig(arguments.out / f"{metal}.png", dpi=120)
    for name in ("beta_over_alpha", "escape", "shelf"):
        entries = [entry[name] for entry in result["metals"].values() if name in entry]
        result[f"{name}_max_rel"] = max(abs(entry["model"] / entry["measured"] - 1.0) for entry in entries)
    arguments.json.write_text(json.dumps(result, indent=1), "utf-8")
    show(result)


@dataclass(frozen=True)
class Measurement:
    """A metal's counts on its axis."""

    metal: str
    counts: Array
    axis: EnergyAxis

    @property
    def fitted(self) -> NDArray[np.bool_]:
        """Channels that are compared."""
        return (self.axis.energy_kev > LOW_KEV) & (self.axis.energy_kev < HIGH_KEV)


def measure(metal: str, folder: Path) -> Measurement:
    """Read a metal's spectrum."""
    spectrum = read_spectrum(folder / f"{metal}.txt")
    if spectrum.axis is None:
        message = f"{metal}.txt has no energy axis"
        raise SystemExit(message)
    return Measurement(metal, np.asarray(spectrum.counts, dtype=np.float64), spectrum.axis)


def fit(measurement: Measurement) -> Array:
    """Return the unknowns that copper's spectrum asks for."""
    low, start, high = np.log(LOW), np.log(START), np.log(HIGH)

    def residuals(values: Array) -> Array:
        model = predict(measurement, np.exp(values))[measurement.fitted]
        counts = measurement.counts[measurement.fitted]
        # diffraction peaks, which no model of the metal alone has, must not pull: hence the loss that follows;
        # three per cent beside counting noise, so that the highest peak does not decide alone
        return (counts - model) / np.sqrt(model + (0.03 * model) ** 2 + 1.0)

    found = least_squares(residuals, start, bounds=(low, high), loss="soft_l1", diff_step=1e-3, max_nfev=40)
    return np.asarray(np.exp(found.x))


def predict(measurement: Measurement, unknowns: Array) -> Array:
    """Return the model's counts, scaled to the measured ones."""
    value = dict(zip(NAMES, unknowns.tolist(), strict=True))
    energy = np.linspace(1.0, 30.0, 59)
    passed = np.exp(-((energy / value["cutoff_kev"]) ** 2))
    instrument = Instrument(
        tube=Tube(anode="Rh", voltage_kv=30.0),
        geometry=Geometry(
            incidence_angle_deg=INCIDENCE_DEG,
            takeoff_angle_deg=value["takeoff_deg"],
            source_air_cm=0.0,
            detector_air_cm=0.0,
        ),
        # total reflection in capillaries is lost beyond an energy
        optic=Optic(energy_kev=tuple(energy.tolist()), transmission=tuple(passed.tolist())),
        detector=Detector(
            noise_fwhm_kev=value["noise_kev"],
            tail_fraction=value["tail_fraction"],
            tail_width_kev=value["tail_width_kev"],
            long_tail_fraction=value["long_tail_fraction"],
            long_tail_width_kev=value["long_tail_width_kev"],
            shelf_fraction=value["shelf_fraction"],
            pulse_pair_us=value["pulse_pair_us"],
        ),
    )
    axis = measurement.axis
    axis = EnergyAxis(axis.gain_kev * value["gain_factor"], axis.zero_kev, axis.n_channel)
    metal = Layer({measurement.metal: 1.0}, DENSITY[measurement.metal], 500.0)
    expected = render(emit([Stratigraphy((metal,))], instrument), instrument.detector, axis)
    piled = pile_up(expected, measurement.counts.sum() / LIVE_S, instrument.detector, axis)[0]
    fitted = measurement.fitted
    return np.asarray(piled * measurement.counts[fitted].sum() / piled[fitted].sum())


def compare(measurement: Measurement, model: Array) -> dict[str, dict[str, float]]:
    """Return what was measured on both spectra in the same way, as shares of K-alpha."""
    figures: dict[str, dict[str, float]] = {}
    for name, spectrum in (("measured", measurement.counts), ("model", model)):
        alpha_kev, beta_kev = k_lines(measurement.metal)
        alpha = net(measurement.axis, spectrum, alpha_kev, 0.2)
        low, high = SHELF_KEV[measurement.metal]
        energy = measurement.axis.energy_kev
        inside = (energy > low) & (energy < high)
        values = {
            "beta_over_alpha": net(measurement.axis, spectrum, beta_kev, 0.2) / alpha,
            # the median: diffraction peaks rise in the window
            "shelf": float(np.median(spectrum[inside])) / measurement.axis.gain_kev / alpha,
        }
        escape_kev = alpha_kev - 1.74
        # titanium's escape peak lies under the tube's scattered L lines
        if not RHODIUM_L_KEV[0] < escape_kev < RHODIUM_L_KEV[1]:
            values["escape"] = net(measurement.axis, spectrum, escape_kev, 0.18) / alpha
        for key, value in values.items():
            figures.setdefault(key, {})[name] = value
    return figures


def k_lines(metal: str) -> tuple[float, float]:
    """Return the mean energies of K-alpha and K-beta, keV."""
    energy, share = family_lines(metal, "K", 30.0)
    beta = energy > energy[share.argmax()] * 1.05
    return float(np.average(energy[~beta], weights=share[~beta])), float(np.average(energy[beta], weights=share[beta]))


def net(axis: EnergyAxis, spectrum: Array, centre_kev: float, half_kev: float) -> float:
    """Return the counts of a peak over a straight line through narrow windows beside it."""
    energy = axis.energy_kev
    inside = np.abs(energy - centre_kev) < half_kev
    sides = [np.abs(energy - centre_kev - way * (half_kev + 0.03)) < 0.03 for way in (-1.0, 1.0)]
    level = 0.5 * sum(float(spectrum[side].mean()) for side in sides)
    return float(spectrum[inside].sum() - level * inside.sum())


def picture(measurement: Measurement, model: Array) -> Figure:
    """Return measured and modelled spectrum with their residuals in standard deviations."""
    figure = Figure(figsize=(9, 6), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    energy, counts = measurement.axis.energy_kev, measurement.counts
    upper.semilogy(energy, np.maximum(counts, 0.5), color="#999999", lw=0.8, label="measured")
    upper.semilogy(energy, np.maximum(model, 0.5), color="#0072b2", lw=1.1, label="model")
    upper.set(ylabel="counts per channel", xlim=(2.0, HIGH_KEV), ylim=(0.8, 2.0 * counts.max()))
    how = "fitted" if measurement.metal == "Cu" else "predicted, scale alone fitted"
    upper.set_title(f"{measurement.metal}, thick; {how}")
    alpha, beta = k_lines(measurement.metal)
    marks = {"K-beta": beta, "escape": alpha - 1.74, "2 K-alpha": 2 * alpha, "K-alpha + K-beta": alpha + beta}
    for name, place in marks.items():
        where = (place, 1.2 * counts.max())
        upper.annotate(name, where, rotation=90, fontsize=7, ha="center", va="top", color="#555555")
    upper.legend(loc="upper right")
    smooth = np.convolve(counts - model, np.ones(5), "same") / np.sqrt(np.convolve(model, np.ones(5), "same") + 1.0)
    lower.plot(energy, smooth, color="#d55e00", lw=0.8)
    lower.axhline(0.0, color="black", lw=0.6)
    lower.set(ylabel="difference / sigma\n(5 channels)", xlabel="energy, keV", yscale="symlog")
    return figure


def show(result: dict[str, Any]) -> None:
    """Print what was fitted and compared."""
    table = Table("metal", "K-beta / K-alpha", "escape / K-alpha", "shelf per keV / K-alpha", title="model (measured)")
    for metal, entry in result["metals"].items():
        table.add_row(metal, *(_cell(entry.get(name)) for name in ("beta_over_alpha", "escape", "shelf")))
    console = Console(width=120)
    console.print(table)
    console.print(
        "fitted on copper:", {name: float(f"{value:.3g}") for name, value in result["fitted_on_copper"].items()}
    )


def _cell(value: dict[str, float] | None) -> str:
    if value is None:
        return "not to be seen"
    ratio = value["model"] / value["measured"]
    return f"{value['model']:.4f} ({value['measured']:.4f}) {100 * (ratio - 1):+.0f} %"


if __name__ == "__main__":
    main()
