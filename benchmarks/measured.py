"""The forward model against spectra of pure metals from a micro-XRF instrument.

    python benchmarks/measured.py DATA --json FILE [--out DIR]

DATA holds Cu.txt, Fe.txt, Ti.txt and Zn.txt (EMSA): thick metals under a 30 kV rhodium tube with a polycapillary, whose
detector is not described. The unknowns -- take-off angle, the optic's cut-off, resolution, tails, shelf, pulse-pair
resolution -- are fitted once, on copper, and held for the others, which get their overall scale alone. Compared are
K-beta over K-alpha, the silicon escape peak and the shelf, each measured on both spectra in the same way. The path
is taken as evacuated and the detector's window as 12.5 um of beryllium: copper's lines say nothing of either. Values at
the end of their range (``LOW``, ``HIGH``) are not measurements.

Metals are crystals: at one angle they send the tube's continuum back in Bragg peaks, and between these only what their
thermal motion scatters. Copper's reflections 111 to 311 stand at 3.026, 3.492, 4.945 and 5.795 keV, which asks for a
scatter angle of 158 degrees; those of iron and zinc stand where their lattices then put them. So ``crystalline`` makes
of the model's coherent scatter (free atoms, as in paint) that of a powder. The grains of a metal lie otherwise than
those of a powder: the peaks' places are to be trusted, their heights are not. Zinc's 105 and 114 stand 0.07 keV above
its escape peak, which is measured as well.
"""

import argparse
import json
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy.integrate import quad
from scipy.optimize import least_squares

from underpaint.data import EnergyAxis
from underpaint.io import read_spectrum
from underpaint.physics.atomic import atomic_weight, family_lines
from underpaint.physics.forward import Emission, emit, pile_up, render, resolution_sigma, response_matrix
from underpaint.physics.instrument import Detector, Geometry, Instrument, Optic, Tube
from underpaint.physics.materials import Layer, Stratigraphy

Array = NDArray[np.float64]
DENSITY = {"Cu": 8.96, "Fe": 7.87, "Ti": 4.51, "Zn": 7.14}
STRUCTURE = {"Cu": "fcc", "Fe": "bcc", "Ti": "hcp", "Zn": "hcp"}
EDGES = {"Cu": (3.6149,), "Fe": (2.8665,), "Ti": (2.9508, 4.6855), "Zn": (2.6649, 4.9468)}
"""Lattice constants, angstrom: the edge, and the height of a hexagonal cell (CRC Handbook)."""
ATOMS = {
    "fcc": ((0.0, 0.0, 0.0), (0.0, 0.5, 0.5), (0.5, 0.0, 0.5), (0.5, 0.5, 0.0)),
    "bcc": ((0.0, 0.0, 0.0), (0.5, 0.5, 0.5)),
    "hcp": ((0.0, 0.0, 0.0), (1.0 / 3.0, 2.0 / 3.0, 0.5)),
}
"""Places of the atoms in the cell, shares of its edges."""
DEBYE_K = {"Cu": 343.0, "Fe": 470.0, "Ti": 420.0, "Zn": 327.0}
"""Debye temperatures, K (Kittel)."""
ROOM_K = 295.0
HIGHEST_INDEX = 20
KEV_ANGSTROM = 12.398419843
"""Energy times wavelength."""
BRAGG_WIDTH = 0.003
"""Standard deviation of a Bragg peak's energy, share of it: beam and detector take in some angles."""
SHELF_KEV = {"Cu": (5.15, 5.6), "Fe": (3.4, 4.2), "Ti": (3.3, 3.5), "Zn": (3.95, 4.55)}
"""Ranges without lines, escape peaks, Bragg peaks or scattered L lines of the tube."""
ESCAPE_KEV = 1.74
"""Silicon K-alpha."""
ESCAPE_WINDOW_KEV = 0.36
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
START = (68.0, 40.0, 0.075, 0.03, 0.15, 0.005, 2.0, 0.003, 0.4, 1.0)
LOW = (30.0, 4.0, 0.03, 1e-4, 0.03, 2e-3, 0.4, 1e-5, 0.01, 0.998)
HIGH = (80.0, 60.0, 0.16, 0.2, 0.4, 0.1, 4.0, 0.05, 5.0, 1.002)
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
        result["metals"][metal] = compare(measurement, model, unknowns)
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
        raise SystemExit(f"{metal}.txt has no energy axis")
    return Measurement(metal, np.asarray(spectrum.counts, dtype=np.float64), spectrum.axis)


def fit(measurement: Measurement) -> Array:
    """Return the unknowns of copper's spectrum."""
    low, start, high = np.log(LOW), np.log(START), np.log(HIGH)

    def residuals(values: Array) -> Array:
        model = predict(measurement, np.exp(values))[measurement.fitted]
        counts = measurement.counts[measurement.fitted]
        # diffraction peaks, which no model of the metal alone has, must not pull: hence the loss that follows;
        # three per cent in addition to counting noise, so that the highest peak does not decide alone
        return (counts - model) / np.sqrt(model + (0.03 * model) ** 2 + 1.0)

    solution = least_squares(
        residuals, start, bounds=(low, high), loss="soft_l1", diff_step=1e-3, ftol=1e-3, max_nfev=40
    )
    return np.asarray(np.exp(solution.x))


def predict(measurement: Measurement, unknowns: Array) -> Array:
    """Return the model's counts, scaled to the measured ones."""
    value = dict(zip(NAMES, unknowns.tolist(), strict=True))
    detector = Detector(
        noise_fwhm_kev=value["noise_kev"],
        tail_fraction=value["tail_fraction"],
        tail_width_kev=value["tail_width_kev"],
        long_tail_fraction=value["long_tail_fraction"],
        long_tail_width_kev=value["long_tail_width_kev"],
        shelf_fraction=value["shelf_fraction"],
        pulse_pair_us=value["pulse_pair_us"],
    )
    axis = measurement.axis
    axis = EnergyAxis(axis.gain_kev * value["gain_factor"], axis.zero_kev, axis.n_channel)
    emission, bragg_kev, bragg = sent(measurement.metal, value["takeoff_deg"], value["cutoff_kev"])
    expected = render(emission, detector, axis) + bragg @ response_matrix(
        detector, axis, bragg_kev, BRAGG_WIDTH * bragg_kev
    )
    piled = pile_up(expected, measurement.counts.sum() / LIVE_S, detector, axis)[0]
    fitted = measurement.fitted
    return np.asarray(piled * measurement.counts[fitted].sum() / piled[fitted].sum())


@lru_cache(maxsize=64)
def sent(metal: str, takeoff_deg: float, cutoff_kev: float) -> tuple[Emission, Array, Array]:
    """Return the emission of a metal, and the (n_peak,) energies, keV, and photons of its Bragg peaks."""
    energy = np.linspace(1.0, 30.0, 59)
    passed = np.exp(-((energy / cutoff_kev) ** 2))
    instrument = Instrument(
        tube=Tube(anode="Rh", voltage_kv=30.0),
        geometry=Geometry(
            incidence_angle_deg=INCIDENCE_DEG, takeoff_angle_deg=takeoff_deg, source_air_cm=0.0, detector_air_cm=0.0
        ),
        # total reflection in capillaries is lost beyond an energy
        optic=Optic(energy_kev=tuple(energy.tolist()), transmission=tuple(passed.tolist())),
    )
    emission = emit([Stratigraphy((Layer({metal: 1.0}, DENSITY[metal], 500.0),))], instrument)
    return crystalline(emission, metal, INCIDENCE_DEG + takeoff_deg)


def crystalline(emission: Emission, metal: str, scatter_deg: float) -> tuple[Emission, Array, Array]:
    """Return an emission whose first-order coherent scatter is that of a powder, and its Bragg peaks.

    Free atoms scatter as if the structure factor were one. Of a powder of one element it is, with q = 4 pi s,
    ``1 - exp(-2 B s**2)`` between the peaks, and in them
    ``exp(-2 B s**2) 2 pi**2 / (n v q**2) sum |F|**2 delta(q - q_hkl)`` for n atoms in a cell of volume v
    (Warren 1969, ch. 4 and 11). Its mean is one where the peaks are dense.
    """
    per_kev = np.sin(np.radians(scatter_deg / 2.0)) / KEV_ANGSTROM
    bins = emission.width_kev > 0
    continuum = emission.coherent[0, bins] / emission.width_kev[bins]
    shaking = thermal_factor(metal)
    diffuse = 1.0 - np.exp(-2.0 * shaking * (emission.source_kev * per_kev) ** 2)
    place, strength = reflections(metal)
    peak_kev, wave = place / per_kev, 4.0 * np.pi * place
    density = np.interp(peak_kev, emission.source_kev[bins], continuum, left=0.0, right=0.0)
    share = np.exp(-2.0 * shaking * place**2) * 2.0 * np.pi**2 / wave**2 * strength
    photons = density * share / (4.0 * np.pi * per_kev)
    nonzero = photons > 0
    return replace(emission, coherent=emission.coherent * diffuse), peak_kev[nonzero], photons[nonzero]


@lru_cache
def reflections(metal: str) -> tuple[Array, Array]:
    """Return where a lattice reflects, sin(theta) / wavelength, 1/angstrom, and the sums of |F|**2 / (n v) there."""
    edge, *height = EDGES[metal]
    indices = np.asarray(list(product(range(-HIGHEST_INDEX, HIGHEST_INDEX + 1), repeat=3)), dtype=np.float64)
    h, k, l_index = indices.T
    if height:
        inverse_square = (h**2 + h * k + k**2) / (0.75 * edge**2) + (l_index / height[0]) ** 2
        volume = np.sqrt(0.75) * edge**2 * height[0]
    else:
        inverse_square, volume = (h**2 + k**2 + l_index**2) / edge**2, edge**3
    atoms = np.asarray(ATOMS[STRUCTURE[metal]])
    strength = np.abs(np.exp(2j * np.pi * indices @ atoms.T).sum(axis=1)) ** 2 / (len(atoms) * volume)
    # farther out the indices do not reach every reflection
    selected = (inverse_square > 0) & (inverse_square < (HIGHEST_INDEX / max([edge, *height])) ** 2) & (strength > 1e-9)
    place, group = np.unique(np.round(np.sqrt(inverse_square[selected]) / 2.0, 6), return_inverse=True)
    return np.asarray(place), np.bincount(group, strength[selected]).astype(np.float64)


def thermal_factor(metal: str) -> float:
    """Return Debye's B at room temperature, square angstrom (Warren 1969, eq. 11.77)."""
    temperature, mass = DEBYE_K[metal], atomic_weight(metal)
    ratio = temperature / ROOM_K
    mean = quad(lambda x: x / np.expm1(x), 0.0, ratio)[0] / ratio
    return float(11492.0 * ROOM_K / (mass * temperature**2) * (mean + ratio / 4.0))


def compare(measurement: Measurement, model: Array, unknowns: Array) -> dict[str, dict[str, float]]:
    """Return values measured in the same way on both spectra, as shares of K-alpha."""
    figures: dict[str, dict[str, float]] = {}
    for name, spectrum in (("measured", measurement.counts), ("model", model)):
        alpha_kev, beta_kev = k_lines(measurement.metal)
        alpha = net(measurement.axis, spectrum, alpha_kev, 0.2)
        low, high = SHELF_KEV[measurement.metal]
        energy = measurement.axis.energy_kev
        inside = (energy > low) & (energy < high)
        values = {
            "beta_over_alpha": net(measurement.axis, spectrum, beta_kev, 0.2) / alpha,
            "shelf": float(spectrum[inside].mean()) / measurement.axis.gain_kev / alpha,
        }
        # titanium's escape peak lies under the tube's scattered L lines
        if not RHODIUM_L_KEV[0] < alpha_kev - ESCAPE_KEV < RHODIUM_L_KEV[1]:
            values["escape"] = escape_peak(measurement, spectrum, unknowns) / alpha
        for key, value in values.items():
            figures.setdefault(key, {})[name] = value
    return figures


def k_lines(metal: str) -> tuple[float, float]:
    """Return the mean energies of K-alpha and K-beta, keV."""
    energy, share = family_lines(metal, "K", 30.0)
    beta = energy > energy[share.argmax()] * 1.05
    return float(np.average(energy[~beta], weights=share[~beta])), float(np.average(energy[beta], weights=share[beta]))


def escape_peak(measurement: Measurement, spectrum: Array, unknowns: Array) -> float:
    """Return the counts of K-alpha's escape peak, by least squares with Bragg peaks and a linear background."""
    value, energy = dict(zip(NAMES, unknowns.tolist(), strict=True)), measurement.axis.energy_kev
    at = k_lines(measurement.metal)[0] - ESCAPE_KEV
    sine = np.sin(np.radians((INCIDENCE_DEG + value["takeoff_deg"]) / 2.0))
    bragg = reflections(measurement.metal)[0] * KEV_ANGSTROM / sine
    bragg = bragg[np.abs(bragg - at) < ESCAPE_WINDOW_KEV]
    # unresolved reflections are one peak
    groups = np.split(bragg, np.flatnonzero(np.diff(bragg) > 0.04) + 1) if bragg.size else []
    centres = np.asarray([at, *(group.mean() for group in groups)])
    spread = BRAGG_WIDTH * centres * (np.arange(centres.size) > 0)
    sigma = np.hypot(resolution_sigma(Detector(noise_fwhm_kev=value["noise_kev"]), centres), spread)
    inside = np.abs(energy - at) < ESCAPE_WINDOW_KEV
    gain = measurement.axis.gain_kev
    peaks = np.exp(-0.5 * ((energy[inside, None] - centres) / sigma) ** 2) * gain / (sigma * np.sqrt(2.0 * np.pi))
    columns = np.column_stack([peaks, np.ones(inside.sum()), energy[inside] - at])
    weight = 1.0 / np.sqrt(measurement.counts[inside] + 1.0)
    coefficients = np.linalg.lstsq(columns * weight[:, None], spectrum[inside] * weight, rcond=None)[0]
    return float(coefficients[0])


def net(axis: EnergyAxis, spectrum: Array, centre_kev: float, half_kev: float) -> float:
    """Return the counts of a peak over a line through narrow windows on both sides."""
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
    model_text = "fitted" if measurement.metal == "Cu" else "predicted, scale alone fitted"
    upper.set_title(f"{measurement.metal}, thick; {model_text}")
    alpha, beta = k_lines(measurement.metal)
    marks = {"K-beta": beta, "escape": alpha - ESCAPE_KEV, "2 K-alpha": 2 * alpha, "K-alpha + K-beta": alpha + beta}
    for name, place in marks.items():
        position = (place, 1.2 * counts.max())
        upper.annotate(name, position, rotation=90, fontsize=7, ha="center", va="top", color="#555555")
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
