"""``explain``: which layers could have made the spectrum of a pixel or a region."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table

from underpaint.calibrate import Beam, check_instrument, merge_knowledge, resolve_energy_axis
from underpaint.cli._console import say_warning
from underpaint.errors import CoverageError, SampleError, ScanError
from underpaint.io import load
from underpaint.physics.instrument import load_instrument
from underpaint.physics.materials import Paint, coating_layer, support_layer
from underpaint.pigments.explain import (
    Candidate,
    Explanation,
    Film,
    explain,
    ground_film,
    measured,
    paint_film,
    propose_from_network,
    read_spot,
    region_spectrum,
)
from underpaint.pigments.explain.words import in_words, interval_text, layer_name
from underpaint.runtime.progress import Progress
from underpaint.runtime.untrusted import read_toml

USUAL = "elio"
"""The scanner where none is given: of it is taken what neither the scan's file nor its lines tell."""
_EXAMPLE = (
    '[[stratigraphy]] name = "one"; layers = [{ pigments = { vermilion = 1 }, thickness_um = 30 }, '
    '{ ground = "chalk", thickness_um = 200 }]'
)


@dataclass(frozen=True)
class Request:
    """What the command line asks for.

    Parameters
    ----------
    pixel : str or None
        "12,40".
    region, layers : Path or None
        Files.
    instrument, model, ground : str
    calibrated : bool
        False: trust the file's energy axis.
    model_error_percent : float
    counts_scale : float or None
        As for :func:`underpaint.load`.
    trust_instrument : bool
        Use the instrument although the lines contradict its axis.
    """

    pixel: str | None
    region: Path | None
    layers: Path | None
    instrument: str | None
    model: str
    ground: str
    calibrated: bool
    model_error_percent: float
    counts_scale: float | None = None
    trust_instrument: bool = False


def explained_spot(source: str, asked: Request, progress: Progress) -> Explanation:
    """Sum the spectra of a pixel or region and explain them.

    Raises
    ------
    UnderpaintError
        The scan, the pixel or region, the proposals, the instrument or the model cannot be used.
    """
    if (asked.pixel is None) == (asked.region is None):
        raise ScanError("Cannot tell what to explain: give either --pixel ROW,COLUMN or --region FILE.")
    given = None if asked.instrument is None else load_instrument(asked.instrument)
    candidates = None if asked.layers is None else read_proposals(asked.layers)
    ground_film(asked.ground, 100.0)
    progress("Opening the scan", 0, 1)
    scan = load(source, counts_scale=asked.counts_scale)
    mask = read_spot(asked.pixel, asked.region, scan.shape[:2])
    progress("Finding the energy axis", 0, 1)
    axis = resolve_energy_axis(scan, calibrated=asked.calibrated)
    alerts = () if given is None else check_instrument(axis, given, trusted=asked.trust_instrument)
    for alert in (*axis.alerts, *alerts):
        say_warning(alert)
    if axis.beam_kev is not None and candidates is None:
        raise CoverageError(
            f"Cannot propose stratigraphies: scan {scan.name!r} was excited by a monochromatic beam of "
            f"{axis.beam_kev:.2f} keV, and the networks learned on spectra of X-ray tubes. Propose them with --layers."
        )
    knowledge = merge_knowledge(
        scan,
        user_instrument=given,
        calibration=axis.calibration,
        beam=None if axis.beam_kev is None else Beam(axis.beam_kev, axis.known().scatter_deg),
        usual=load_instrument(USUAL),
        measured_axis=True,
    )
    scan, own = axis.scan, knowledge.instrument
    progress("Reading the spectra", 0, 1)
    spectrum = region_spectrum(scan, mask)
    chosen = measured(spectrum, own, model_error=asked.model_error_percent / 100)
    found = None
    if candidates is None:
        progress("Asking the network", 0, 1)
        found, candidates = propose_from_network(spectrum, asked.ground, asked.model, knowledge.known())
    return explain(spectrum, chosen, candidates, own, found=found, progress=progress)


def read_proposals(path: Path) -> list[Candidate]:
    """Read ``[[stratigraphy]]`` tables with ``layers``, the top one first.

    Thicknesses and shares are where the fit begins; those of paints and grounds are free, supports and coatings stay.

    Raises
    ------
    SampleError
        Not TOML, no stratigraphy, or a layer that cannot be made.
    """
    try:
        table = read_toml(path, SampleError, "the stratigraphies")
        proposals = table["stratigraphy"]
        found = [_candidate(entry, index) for index, entry in enumerate(proposals)]
    except (KeyError, TypeError, AttributeError) as error:
        raise SampleError(f"Cannot read the stratigraphies {path}: {error}. The file looks like {_EXAMPLE}.") from error
    if not found:
        raise SampleError(f"Cannot compare: {path} holds no stratigraphy. The file looks like {_EXAMPLE}.")
    return found


def _candidate(entry: Mapping[str, Any], index: int) -> Candidate:
    return Candidate(str(entry.get("name", f"proposal {index + 1}")), tuple(_film(own) for own in entry["layers"]))


def _film(entry: Mapping[str, Any]) -> Film:
    thickness = entry.get("thickness_um")
    if "ground" in entry:
        return ground_film(entry["ground"], entry["thickness_um"])
    if "support" in entry:
        return Film(support_layer(entry["support"], thickness), None, None)
    if "coating" in entry:
        return Film(coating_layer(entry["coating"], thickness), None, None)
    known = {key: entry[key] for key in ("pigment_to_binder", "binder", "density") if key in entry}
    return paint_film(Paint(entry["pigments"], **known), entry["thickness_um"])


def tables(found: Explanation) -> Group:
    """Return the tables for people: the candidates, and the layers of the best one."""
    return Group(_candidates(found), _layers(found))


def _candidates(found: Explanation) -> Table:
    counts = found.measured.counts.sum()
    table = Table(title=f"{found.spectrum.name}: {counts:,.0f} counts", title_justify="left", box=SIMPLE_HEAD)
    table.add_column("stratigraphy, best first")
    best, widened = found.best, found.goodness.dispersion
    # as the sentences below the table have it
    over = "more than best" if widened == 1.0 else f"more than best, over {widened:.1f}"
    for head in ("deviance", over, "free", "AIC, more"):
        table.add_column(head, justify="right")
    for fit in found.fits:
        rise = (fit.deviance - best.deviance) / widened
        more = (f"{rise:+,.0f}", str(fit.n_parameter), f"{fit.aic - best.aic:+,.0f}")
        table.add_row(fit.candidate.name, f"{fit.deviance:,.0f}", *more)
    return table


def _layers(found: Explanation) -> Table:
    best = found.best
    level = found.intervals[0].level if found.intervals else 0.9
    title = f"best: {best.candidate.name} (intervals at {100 * level:.0f} %)"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    for head in ("layer", "", "thickness", "share of the dry pigment"):
        table.add_column(head)
    for index in range(len(best.candidate.films)):
        own = [entry for entry in found.intervals if entry.layer == index]
        thickness = next((interval_text(entry) for entry in own if not entry.pigment), "as given")
        shares = "\n".join(f"{entry.pigment}: {interval_text(entry)}" for entry in own if entry.pigment)
        table.add_row(str(index + 1), layer_name(best.candidate, index), thickness, shares)
    return table


def record(found: Explanation) -> dict[str, Any]:
    """Return the same as plain values for JSON."""
    best = found.best
    return {
        "name": found.spectrum.name,
        "counts": float(found.measured.counts.sum()),
        "range_kev": [found.measured.axis.start_kev, found.measured.axis.stop_kev],
        "model_error": found.measured.model_error,
        "network": None if found.suspects is None else found.suspects.probability,
        "candidates": [
            {
                "name": fit.candidate.name,
                "layers": [layer_name(fit.candidate, index) for index in range(len(fit.candidate.films))],
                "thickness_um": fit.thickness_um.tolist(),
                "shares": fit.candidate.shares(fit.place),
                "deviance": fit.deviance,
                "delta_deviance": fit.deviance - best.deviance,
                "poisson_deviance": fit.poisson_deviance,
                "n_parameter": fit.n_parameter,
                "n_channel": fit.n_channel,
                "aic": fit.aic,
                "delta_aic": fit.aic - best.aic,
                "settled": fit.settled,
            }
            for fit in found.fits
        ],
        "intervals": [
            {
                "layer": own.layer + 1,
                "quantity": f"share of {own.pigment}" if own.pigment else "thickness_um",
                "value": own.value if own.determined else None,
                "low": own.low,
                "high": own.high,
                "level": own.level,
                "text": interval_text(own),
            }
            for own in found.intervals
        ],
        "goodness": asdict(found.goodness) | {"fits": found.goodness.fits},
        "pigments": [
            {
                "pigment": own.pigment,
                "layers": [layer + 1 for layer in own.layers],
                "delta_deviance": own.difference,
                "needed": own.needed,
                "lines": [asdict(line) | {"missing": line.missing} for line in own.lines],
                "would_fit_as_well": list(own.as_well),
                "in_its_place": dict(own.alike),
            }
            for own in found.evidence
        ],
        "order": {
            "determined": found.order.determined,
            "layered": found.order.layered,
            "one_layer": found.order.mixed,
            "swapped": found.order.swapped,
            "other": found.order.other,
        },
        "unexplained": [line.family for line in found.unexplained],
        "words": in_words(found),
    }
