"""Element areas against the counts of every line that an independent Monte Carlo code gives.

    python benchmarks/element_truth.py REFERENCE [REFERENCE ...] --counts 1e4 1e5 1e6 --json FILE

REFERENCE is a folder with mc_panels.json and mc_panels.npz. All its samples, drawn with counting noise, make one scan,
which is fitted by

- ``underpaint``: the fit of `underpaint elements`, the instrument given;
- ``found``: the same without the instrument;
- ``fixed``: one set of line ratios for the whole scan, families chosen from it;
- ``pymca``: PyMca's FastXRFLinearFit of these families.

Present is a family with over 20 stated deviations of true counts; absent one without any. ``told`` deviations are those
of a fit that knows the true line ratios and whose only error is counting. Spreads are by bootstrap over the samples.
Samples with pile-up count for false shares alone, since the true counts do not know which photons are lost.
"""

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from monte_carlo import Panels
from underpaint.data import EnergyAxis, Scan, survey
from underpaint.elements import ElementFit, prepare_fit
from underpaint.elements.variable_fit import VariableFit, fit_least_squares
from underpaint.lab.evaluation.simulated import unseen_instruments
from underpaint.physics.forward import efficiency, emit, render, response_matrix
from underpaint.physics.forward.response import axis_of
from underpaint.physics.instrument import Instrument
from underpaint.physics.materials import load_palette
from underpaint.simulate import RandomStratigraphies, StratigraphySampler

Array = NDArray[np.float64]
ENGINES = ("underpaint", "found", "fixed", "pymca")
AXIS = EnergyAxis(0.01, 0.005, 4096)
"""The reference puts a line into the channel below, 0 to 10 eV low."""
SN_K_SCALE = 0.934
"""Tin's K lines in the spectra over the counts that the reference states for them, measured on the spectra."""
AREA_DRAWS, FALSE_DRAWS = 20, 500
PRESENT_SIGMAS, IDEAL_SIGMAS, POWER_SIGMAS, FALSE_SIGMAS = 20.0, 10.0, 8.0, 5.0
MIN_SAMPLES = 5
OVERLAP_KEV = 0.15
TIMED_SPECTRA = 8192
BOOTSTRAPS = 200
SIMULATED, SIMULATED_SEED, SIMULATED_COUNTS = 150, 4000, (1e4, 1e5)
INTERVAL_SIGMAS = 1.645


def main() -> None:
    """Fit, print tables, and write the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reference", type=Path, nargs="+", help="folder with mc_panels.json and mc_panels.npz")
    parser.add_argument("--counts", type=float, nargs="+", default=[1e4, 1e5, 1e6], help="counts of a spectrum")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, required=True)
    arguments = parser.parse_args()
    truth = Truth.read(arguments.reference)
    result: dict[str, Any] = {"samples": len(truth.names), "seed": arguments.seed}
    for counts in arguments.counts:
        result[f"{counts:.0e}".replace("+0", "")] = figures = at_counts(truth, counts, arguments.seed)
        show(figures, counts)
    result["spectra_per_s"] = speeds(truth, arguments.seed)
    Console().print(result["spectra_per_s"])
    result["simulated"] = {
        name: coverage(instrument, arguments.seed) for name, instrument in unseen_instruments().items()
    }
    Console().print(result["simulated"])
    arguments.json.write_text(json.dumps(result, indent=1), "utf-8")


@dataclass(frozen=True)
class Truth:
    """The reference: spectra without noise, and true counts of lines.

    Parameters
    ----------
    names : list of str
    spectra : (n_sample, n_channel) array
        Counts, one in all.
    lines : list of dict
        By sample: family to (energies, keV, and counts on the scale of the spectra).
    piled_up : (n_sample,) bool array
    instrument : Instrument
    """

    names: list[str]
    spectra: Array
    lines: list[dict[str, tuple[Array, Array]]]
    piled_up: NDArray[np.bool_]
    instrument: Instrument

    @classmethod
    def read(cls, folders: list[Path]) -> "Truth":
        """Read the samples of all folders."""
        names, spectra, lines, piled_up = [], [], [], []
        for folder in folders:
            panels = Panels(folder)
            for sample, spectrum in zip(panels.samples, panels.arrays["conv"][:, 2], strict=True):
                total = float(spectrum.sum())
                names.append(sample["name"])
                spectra.append(spectrum / total)
                piled_up.append(bool(sample.get("pile_up")))
                lines.append(_lines_of(sample["lines"], total))
        axis = {"gain_kev": AXIS.gain_kev, "zero_kev": AXIS.zero_kev, "n_channel": AXIS.n_channel}
        detector = panels.instrument.detector.model_copy(update={**axis, "noise_fwhm_kev": 0.07})
        instrument = panels.instrument.model_copy(update={"detector": detector})
        return cls(names, np.stack(spectra), lines, np.asarray(piled_up), instrument)

    def areas(self, families: tuple[str, ...]) -> Array:
        """(n_sample, n_family) true counts."""
        return np.asarray([[float(of.get(name, ((), np.zeros(0)))[1].sum()) for name in families] for of in self.lines])

    def scan(self, counts: float, draws: int, seed: int) -> Scan:
        """Return a scan of one row a sample, ``draws`` spectra each."""
        rng = np.random.default_rng(seed)
        rows = [rng.poisson(counts * spectrum, (draws, spectrum.size)).astype(np.uint32) for spectrum in self.spectra]
        return Scan(da.from_array(np.stack(rows), chunks=(1, -1, -1)), AXIS, name="monte carlo")


def _lines_of(rows: list[dict[str, Any]], total: float) -> dict[str, tuple[Array, Array]]:
    lines: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        family = f"{row['el']}_{row['line'][0]}"
        scale = SN_K_SCALE if family == "Sn_K" else 1.0
        lines.setdefault(family, []).append((row["energy_keV"], scale * row["counts"] / total))
    return {name: (np.asarray(pairs)[:, 0], np.asarray(pairs)[:, 1]) for name, pairs in lines.items()}


def at_counts(truth: Truth, counts: float, seed: int) -> dict[str, Any]:
    """Return the figures of all engines at one number of counts."""
    scan = truth.scan(counts, FALSE_DRAWS, seed)
    summary = survey(scan)
    result: dict[str, Any] = {}
    ideal_sigma: dict[str, Array] = {}
    for engine in ENGINES:
        instrument = None if engine == "found" else truth.instrument
        name = "underpaint" if engine == "found" else engine
        fit = prepare_fit(summary, AXIS, instrument=instrument, engine=name)
        if isinstance(fit.engine, VariableFit):
            # all families of the fit are judged, not only those that the scan shows
            fit = prepare_fit(summary, AXIS, instrument=instrument, families=fit.engine.names)
        if engine == "underpaint":
            ideal_sigma = ideal_sigma_of(truth, fit, counts)
        fitted = np.concatenate([fit(np.asarray(scan.counts[row : row + 1])) for row in range(len(truth.names))])
        result[engine] = _by_family(truth, fit.names, fitted, counts, ideal_sigma)
    return result


def ideal_sigma_of(truth: Truth, fit: ElementFit, counts: float) -> dict[str, Array]:
    """Return by family the (n_sample,) counting deviations of a fit that knows each sample's true line ratios."""
    engine: Any = fit.engine
    detector = truth.instrument.detector
    binned = engine.bins(counts * truth.spectra, np.float32)
    sigma = np.zeros((len(truth.names), len(engine.names)))
    for row, index in enumerate(engine.class_of(binned)):
        class_solver = engine.classes[index]
        free = class_solver.solution.columns[: class_solver.n_free].copy()
        for column, name in enumerate(engine.names):
            if name in truth.lines[row]:
                energy, share = truth.lines[row][name]
                response = engine.bins(response_matrix(detector, AXIS, energy)) / efficiency(detector, energy)[:, None]
                free[column] = share / share.sum() @ response
        variance = np.maximum(binned[row].astype(np.float64), 0.2)
        gain = fit_least_squares(binned[row], free, class_solver.shapes.scatter_changes * counts, variance).gain
        sigma[row] = np.sqrt(gain[: len(engine.names)] ** 2 @ variance)
    return {name: sigma[:, column] for column, name in enumerate(engine.names)}


def _by_family(
    truth: Truth, names: tuple[str, ...], fitted: NDArray[np.float32], counts: float, ideal_sigma: dict[str, Array]
) -> dict[str, Any]:
    true = counts * truth.areas(names)
    return {
        name: _family(truth, name, true[:, column], fitted[:, :, column].astype(np.float64), ideal_sigma.get(name))
        for column, name in enumerate(names)
    }


def _family(truth: Truth, name: str, true: Array, fitted: Array, ideal_sigma: Array | None) -> dict[str, Any]:
    """Figures of a family from (n_sample, n_draw, 2) areas and deviations."""
    area, sigma = fitted[..., 0], fitted[..., 1]
    z = (area - true[:, None]) / np.maximum(sigma, 1e-9)
    stated = np.median(sigma, axis=1)
    present = (true > PRESENT_SIGMAS * stated) & ~truth.piled_up
    absent = true == 0
    few = slice(AREA_DRAWS)
    result: dict[str, Any] = {"n": int(present.sum()), "n_absent": int(absent.sum())}
    if present.any():
        relative = area[present, few] / true[present, None] - 1.0
        result |= {
            "median_rel": float(np.median(relative)),
            "median_rel_spread": _spread(relative, np.median),
            "max_rel": float(np.abs(relative.mean(axis=1)).max()),
            "rms_z_present": _rms(z[present, few]),
            "rms_z_present_spread": _spread(z[present, few], _rms),
            "sigma_over_area": float(np.median(sigma[present, few] / true[present, None])),
        }
    if absent.any():
        result |= {
            "rms_z_absent": _rms(z[absent, few]),
            "false_share": float((z[absent] > FALSE_SIGMAS).mean()),
            "false_share_spread": _spread(z[absent] > FALSE_SIGMAS, np.mean),
        }
    if ideal_sigma is not None:
        clear = (true > IDEAL_SIGMAS * ideal_sigma) & ~truth.piled_up
        able = (true > POWER_SIGMAS * ideal_sigma) & ~truth.piled_up
        over = np.asarray([_overlapped(name, of) for of in truth.lines])
        if clear.any():
            result |= {
                "n_told": int(clear.sum()),
                "rms_z_told": _rms(z[clear, few]),
                "sigma_ratio": float(np.median(stated[clear] / ideal_sigma[clear])),
            }
        for key, rows in (("power", able & ~over), ("power_overlapped", able & over)):
            if rows.any():
                result[key] = float((area[rows] > FALSE_SIGMAS * sigma[rows]).mean())
                result[f"{key}_n"] = int(rows.sum())
    return result


def _overlapped(name: str, lines: dict[str, tuple[Array, Array]]) -> bool:
    """Whether a stronger family of the sample has lines under this one's strongest."""
    if name not in lines:
        return False
    energy, share = lines[name]
    strongest = energy[share.argmax()]
    return any(
        float(lines_of_other[1][np.abs(lines_of_other[0] - strongest) < OVERLAP_KEV].sum()) > float(share.max())
        for family, lines_of_other in lines.items()
        if family != name
    )


def _rms(values: Array) -> float:
    return float(np.sqrt(np.mean(values**2)))


def _spread(by_sample: NDArray[Any], figure: Any) -> float:
    """Standard deviation of a figure of (n_sample, n_draw) values over bootstraps of the samples."""
    rng = np.random.default_rng(0)
    drawn = (figure(by_sample[rng.integers(len(by_sample), size=len(by_sample))]) for _ in range(BOOTSTRAPS))
    return float(np.std([*drawn]))


def speeds(truth: Truth, seed: int) -> dict[str, Any]:
    """Spectra a second with planning, all engines on the same families and the same array in memory."""
    spectra = np.asarray(truth.scan(1e5, -(-TIMED_SPECTRA // len(truth.names)), seed).counts).reshape(
        -1, AXIS.n_channel
    )
    scan = Scan(da.from_array(spectra[None, :TIMED_SPECTRA], chunks=(1, 1024, -1)), AXIS)
    summary = survey(scan)
    instrument = truth.instrument
    names = prepare_fit(
        summary, AXIS, instrument=instrument
    ).names  # the stratigraphies are simulated once an instrument
    result: dict[str, Any] = {}
    for engine in ("underpaint", "fixed", "pymca"):
        started = time.perf_counter()
        fit = prepare_fit(summary, AXIS, families=names, instrument=instrument, engine=engine)
        planned = time.perf_counter()
        for first in range(0, TIMED_SPECTRA, 1024):
            fit(spectra[None, first : first + 1024])
        ended = time.perf_counter()
        result[engine] = round(TIMED_SPECTRA / (ended - started))
        result[f"{engine}_planned"] = round(TIMED_SPECTRA / (ended - planned))
    result["families"] = len(names)
    result["ratio_to_pymca"] = round(result["underpaint"] / result["pymca"], 2)
    result["ratio_to_pymca_planned"] = round(result["underpaint_planned"] / result["pymca_planned"], 2)
    return result


def coverage(instrument: Instrument, seed: int) -> dict[str, Any]:
    """How often 90 % intervals hold the counts of random stratigraphies of our own forward model (simulated).

    Of families whose true counts are over five stated deviations, and of all others that are there.
    """
    sampler = StratigraphySampler(RandomStratigraphies(palette=load_palette().pigments))
    rng = np.random.default_rng(SIMULATED_SEED + seed)
    emission = emit([sampler.draw(rng) for _ in range(SIMULATED)], instrument, single=True)
    axis, lines = axis_of(instrument.detector), emission.lines
    expected = np.asarray(render(emission, instrument.detector, axis), np.float64)
    detected = np.asarray(emission.line_photons, np.float64) * efficiency(instrument.detector, lines.energy_kev)
    result: dict[str, Any] = {}
    for counts in SIMULATED_COUNTS:
        scale = counts / expected.sum(axis=1, keepdims=True)
        drawn = rng.poisson(scale * expected).astype(np.uint32)[None]
        summary = survey(Scan(da.from_array(drawn, chunks=(1, -1, -1)), axis))
        fit = prepare_fit(summary, axis, instrument=instrument)
        engine: Any = fit.engine
        shown = engine(drawn[0])
        area, sigma = shown.area[:, : len(engine.names)], shown.sigma[:, : len(engine.names)]
        of_family = [np.asarray([name == family for family in lines.family]) for name in engine.names]
        true = np.stack([scale[:, 0] * detected[:, columns].sum(axis=1) for columns in of_family], axis=1)
        covered = np.abs(area - true) < INTERVAL_SIGMAS * sigma
        clear = true > FALSE_SIGMAS * sigma
        result[f"{counts:.0e}".replace("+0", "")] = {
            "clear": float(covered[clear].mean()),
            "n_clear": int(clear.sum()),
            "faint": float(covered[(true > 0) & ~clear].mean()),
        }
    return result


def show(figures: dict[str, Any], counts: float) -> None:
    """Print a table of the families that are present in five samples, or claimed where they are absent."""
    console = Console()
    for engine, families in figures.items():
        columns = "family", "n", "median %", "max %", "rms z", "rms z absent", "false %", "power", "sigma ratio"
        table = Table(*columns, title=f"{engine}, {counts:.0e} counts")
        for name, entry in families.items():
            if entry["n"] < MIN_SAMPLES and entry.get("false_share", 0.0) == 0 and entry.get("power", 1.0) == 1:
                continue
            cells = (
                _percent(entry.get("median_rel")),
                _percent(entry.get("max_rel")),
                _number(entry.get("rms_z_present")),
                _number(entry.get("rms_z_absent")),
                _percent(entry.get("false_share")),
                _number(entry.get("power")),
                _number(entry.get("sigma_ratio")),
            )
            table.add_row(name, str(entry["n"]), *cells)
        console.print(table)


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.2f}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


if __name__ == "__main__":
    main()
