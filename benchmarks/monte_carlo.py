"""The forward model against XMI-MSIM, an independent Monte Carlo code, on layered paints.

    python benchmarks/monte_carlo.py REFERENCE --json FILE

REFERENCE is a folder with mc_panels.json and mc_panels.npz: spectra, and counts of every line by number of
interactions. One common scale factor (solid angle, current, time: the median over all families) is taken out, then

- line families K and L above 2.8 keV with over 5,000 counts are compared;
- so is the background from 3 to 25 keV, per keV: all counts less those of the lines, against scattered tube radiation,
  lines after coherent or Compton scatter, and escape peaks. Where a bin holds a strong line, the Monte Carlo error of
  that line (0.4 % of it, its authors say) is not small beside the background; such bins, in which it is over a tenth
  of the background, are shown but do not count; nor does the background of samples with pile-up.

The Monte Carlo's own source and its efficiency (every interaction in the crystal counts) are used.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from underpaint.physics.forward import ORDERS, SCATTER, Detail, Emission, efficiency, emit
from underpaint.physics.forward.response import escape_lines, escape_share
from underpaint.physics.instrument import Detector, Geometry, Instrument, SourceSpectrum
from underpaint.physics.materials import Layer, Stratigraphy

Array = NDArray[np.float64]
EDGES_KEV = np.arange(3.0, 26.0)
MIN_COUNTS = 5000.0
LINE_ERROR = 0.004
"""Monte Carlo error of line families, as stated with the reference."""
STEP_KEV = 0.1
ANGLE_DEG = 60.0


def main() -> None:
    """Compare, print a table, and write the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reference", type=Path, help="folder with mc_panels.json and mc_panels.npz")
    parser.add_argument("--json", type=Path, required=True)
    arguments = parser.parse_args()
    result = compare(arguments.reference)
    arguments.json.write_text(json.dumps(result, indent=1), "utf-8")
    show(result)


class Panels:
    """The reference, and our emission of the same samples under the same light."""

    def __init__(self, folder: Path) -> None:
        self.facts: dict[str, Any] = json.loads((folder / "mc_panels.json").read_text("utf-8"))
        with np.load(folder / "mc_panels.npz", allow_pickle=False) as arrays:
            self.arrays = {name: arrays[name] for name in arrays.files}
        self.samples: list[dict[str, Any]] = self.facts["samples"]
        self.instrument = self._behind(detector_air_cm=1.5)
        self.emission = self._emitted(self.samples, self.instrument)
        # Air that is a layer of the sample is not in the detector's path once more.
        in_air = [index for index, sample in enumerate(self.samples) if sample.get("air_as_layer")]
        self.rows = {index: (self.emission, index) for index in range(len(self.samples))}
        if in_air:
            emission = self._emitted([self.samples[index] for index in in_air], self._behind(detector_air_cm=0.0))
            self.rows |= {index: (emission, row) for row, index in enumerate(in_air)}
        pairs = [pair for index in range(len(self.samples)) for pair in self.families(index, 1000.0).values()]
        self.scale = float(np.exp(np.median([np.log(theirs / ours) for theirs, ours in pairs])))

    def _behind(self, detector_air_cm: float) -> Instrument:
        return Instrument(
            source_spectrum=self._source(),
            geometry=Geometry(
                incidence_angle_deg=ANGLE_DEG,
                takeoff_angle_deg=ANGLE_DEG,
                source_air_cm=0.0,
                detector_air_cm=detector_air_cm,
            ),
            detector=Detector(dead_layer_um=0.0),
        )

    def _emitted(self, samples: list[dict[str, Any]], instrument: Instrument) -> Emission:
        layers = [stratigraphy(sample, self._air(sample)) for sample in samples]
        return emit(layers, instrument, detail=Detail(weakest_exciting=1e-4))

    def _air(self, sample: dict[str, Any]) -> tuple[Layer, ...]:
        """Return the layer of air before a sample that has one: as long as the way to the detector."""
        if not sample.get("air_as_layer"):
            return ()
        air, path_cm = self.facts["air"], self.facts["geometry"]["detector_distance_cm"]
        thickness_um = 1e4 * path_cm * np.sin(np.radians(ANGLE_DEG))
        return (Layer(_normalised(air["composition_mass"]), air["density"], float(thickness_um)),)

    def _source(self) -> SourceSpectrum:
        nodes, photons = self.arrays["tube_cont_energy_keV"], self.arrays["tube_cont_phot_per_s_sr_mA_keV"]
        edges = np.arange(1.5, 40.0 + 1e-9, STEP_KEV)
        middle = (edges[1:] + edges[:-1]) / 2.0
        weight = np.interp(middle, nodes, photons) * STEP_KEV
        lines = self.facts["tube"]["lines"]
        return SourceSpectrum(
            energy_kev=(*middle.tolist(), *(line[0] for line in lines)),
            weight=(*weight.tolist(), *(line[1] for line in lines)),
        )

    def excited(self, index: int) -> Array:
        """Our counts of every line, unscaled, but for those that were scattered on their way."""
        emission, row = self.rows[index]
        photons = sum(getattr(emission, name)[row].sum(axis=0) for name in ORDERS if name != "rescattered")
        return np.asarray(photons * efficiency(self.instrument.detector, emission.lines.energy_kev))

    def families(self, index: int, fewest: float) -> dict[str, tuple[float, float]]:
        """Counts by family (theirs, ours unscaled) of those above 2.8 keV that both have."""
        theirs: dict[str, float] = {}
        lowest: dict[str, float] = {}
        for line in self.samples[index]["lines"]:
            family = f"{line['el']}_{line['line'][0]}"
            theirs[family] = theirs.get(family, 0.0) + line["counts"]
            lowest[family] = min(lowest.get(family, np.inf), line["energy_keV"])
        names, ours = np.asarray(self.rows[index][0].lines.family), self.excited(index)
        return {
            family: (counts, total)
            for family, counts in theirs.items()
            if counts > fewest and lowest[family] > 2.8 and family[-1] in "KL"
            if (total := float(ours[names == family].sum())) > 0
        }

    def background(self, index: int) -> tuple[Array, Array, Array]:
        """Counts per keV that are no line's (theirs, ours), and the lines' counts in the same bins."""
        energy, lines = self.arrays["energy_keV"], self.samples[index]["lines"]
        every = _per_kev(energy, self.arrays["unconv"][index, 2])
        of_lines = _per_kev([line["energy_keV"] for line in lines], [line["counts"] for line in lines])
        detector, (emission, row) = self.instrument.detector, self.rows[index]
        ours = np.zeros(EDGES_KEV.size - 1)
        for name in SCATTER:
            at = emission.source_kev if name == "coherent" else emission.compton_kev
            ours += _per_kev(at, getattr(emission, name)[row] * efficiency(detector, at))
        line_kev = emission.lines.energy_kev
        line_efficiency = efficiency(detector, line_kev)
        ours += _per_kev(line_kev, emission.rescattered[row].sum(axis=0) * line_efficiency)
        escaped = emission.line_photons[row] * line_efficiency * escape_share(detector, line_kev)
        ours += _per_kev(line_kev - escape_lines(detector)[0][0], escaped) - _per_kev(line_kev, escaped)
        return every - of_lines, self.scale * ours, of_lines


def compare(folder: Path) -> dict[str, Any]:
    """Return the figures of all samples."""
    panels = Panels(folder)
    samples = {sample["name"]: _sample(panels, index) for index, sample in enumerate(panels.samples)}
    # sums of pulses, which the emission has not, are counted as background there
    piled_up = {sample["name"] for sample in panels.samples if sample.get("pile_up")}
    single = [entry for name, entry in samples.items() if name not in piled_up] or list(samples.values())
    return {
        "scale": panels.scale,
        "lines_max_rel": max(max(map(abs, entry["lines_rel"].values())) for entry in samples.values()),
        "background_max_rel_per_kev": max(entry["background_max_rel"] for entry in single),
        "background_total_max_rel": max(abs(entry["background_total_rel"]) for entry in single),
        "bins_compared": sum(entry["bins_compared"] for entry in single),
        "bins_under_strong_lines": sum(len(EDGES_KEV) - 1 - entry["bins_compared"] for entry in single),
        "samples": samples,
    }


def stratigraphy(sample: dict[str, Any], before: tuple[Layer, ...] = ()) -> Stratigraphy:
    """Return a sample of the reference, with layers before it."""
    entries = sample["layers_from_surface"]
    layers = [Layer(_normalised(entry["elements"]), entry["density"], entry["thickness_um"]) for entry in entries]
    return Stratigraphy((*before, *layers), sample["name"])


def _normalised(fractions: dict[str, float]) -> dict[str, float]:
    """Mass fractions that sum to one; they are rounded in the reference."""
    total = sum(fractions.values())
    return {element: fraction / total for element, fraction in fractions.items()}


def show(result: dict[str, Any]) -> None:
    """Print every sample's deviations."""
    table = Table("sample", "families, ours over theirs", "background per keV", "total", title="against XMI-MSIM 8.1")
    for name, entry in result["samples"].items():
        families = ", ".join(f"{family} {1 + value:.3f}" for family, value in entry["lines_rel"].items())
        low, high = entry["background_range"]
        table.add_row(name, families, f"{low:.2f} to {high:.2f}", f"{1 + entry['background_total_rel']:.3f}")
    console = Console()
    console.print(table)
    console.print(f"lines: {100 * result['lines_max_rel']:.1f} % at most")
    console.print(
        f"background, {result['bins_compared']} bins of 1 keV: {100 * result['background_max_rel_per_kev']:.1f} % at "
        f"most; {result['bins_under_strong_lines']} more lie under strong lines"
    )


def _sample(panels: Panels, index: int) -> dict[str, Any]:
    families = panels.families(index, MIN_COUNTS)
    theirs, ours, of_lines = panels.background(index)
    fit = LINE_ERROR * of_lines < 0.1 * theirs
    deviation = ours / theirs - 1.0
    return {
        "lines_rel": {family: panels.scale * mine / reference - 1.0 for family, (reference, mine) in families.items()},
        "background_ratio": (1.0 + deviation).tolist(),
        "background_counts": theirs.tolist(),
        "compared": fit.tolist(),
        "bins_compared": int(fit.sum()),
        "background_max_rel": float(np.abs(deviation[fit]).max()),
        "background_range": (1.0 + float(deviation[fit].min()), 1.0 + float(deviation[fit].max())),
        "background_total_rel": float(ours[fit].sum() / theirs[fit].sum() - 1.0),
    }


def _per_kev(energy: Any, counts: Any) -> Array:
    return np.histogram(np.asarray(energy), bins=EDGES_KEV, weights=np.asarray(counts))[0]


if __name__ == "__main__":
    main()
