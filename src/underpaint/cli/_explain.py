"""``explain``: which layers could have made the spectrum of a pixel or a region."""

from dataclasses import dataclass
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.table import Table

from underpaint.calibrate import check_instrument, resolve_energy_axis
from underpaint.cli._console import say_warning
from underpaint.errors import CoverageError, ScanError
from underpaint.io import load
from underpaint.physics.instrument import load_instrument
from underpaint.physics.materials import ground_layer, library
from underpaint.pigments.explain import (
    Explanation,
    ModelError,
    explain,
    given_groups,
    read_spot,
    region_spectrum,
    seen_by_network,
)
from underpaint.pigments.explain.words import estimate_text, group_name
from underpaint.pipeline.paints import spectrum_knowledge
from underpaint.runtime.progress import Progress

WORKERS = 2
"""Processes: one for each independent run."""


@dataclass(frozen=True)
class Request:
    """What the command line asks for.

    Parameters
    ----------
    pixel : str or None
        "12,40".
    region : Path or None
        File.
    pigments : tuple of str
        Groups or pigments that are there; empty: the network is asked.
    instrument, model, ground : str
    calibrated : bool
        False: trust the file's energy axis.
    model_error_percent : float
        Relative error of the model in a bin.
    counts_scale : float or None
        As for :func:`underpaint.load`.
    trust_instrument : bool
        Use the instrument although the lines contradict its axis.
    """

    pixel: str | None
    region: Path | None
    pigments: tuple[str, ...]
    instrument: str | None
    model: str
    ground: str
    calibrated: bool
    model_error_percent: float
    counts_scale: float | None = None
    trust_instrument: bool = False


def explained_spot(source: str, request: Request, progress: Progress) -> Explanation:
    """Sum the spectra of a pixel or region and explain them.

    Raises
    ------
    UnderpaintError
        The scan, the pixel or region, the proposals, the instrument or the model cannot be used.
    """
    if (request.pixel is None) == (request.region is None):
        raise ScanError("Cannot tell what to explain: give either --pixel ROW,COLUMN or --region FILE.")
    given = None if request.instrument is None else load_instrument(request.instrument)
    wanted = given_groups(request.pigments) if request.pigments else None
    ground_layer(request.ground, 100.0)
    progress("Opening the scan", 0, 1)
    scan = load(source, counts_scale=request.counts_scale)
    mask = read_spot(request.pixel, request.region, scan.shape[:2])
    progress("Finding the energy axis", 0, 1)
    axis = resolve_energy_axis(scan, calibrated=request.calibrated)
    alerts = () if given is None else check_instrument(axis, given, trusted=request.trust_instrument)
    for alert in (*axis.alerts, *alerts):
        say_warning(alert)
    if axis.beam_kev is not None and wanted is None:
        raise CoverageError(
            f"Cannot ask the network for pigments: scan {scan.name!r} was excited by a monochromatic beam of "
            f"{axis.beam_kev:.2f} keV, and the networks learned on spectra of X-ray tubes. Name them with --pigments."
        )
    knowledge = spectrum_knowledge(scan, axis, given)
    progress("Reading the spectra", 0, 1)
    spectrum = region_spectrum(axis.scan, mask)
    if wanted is None:
        progress("Asking the network", 0, 1)
        wanted = seen_by_network(spectrum, request.ground, request.model, knowledge.known())
    error = ModelError(independent=request.model_error_percent / 100)
    return explain(
        spectrum,
        knowledge.instrument,
        wanted,
        ground=request.ground,
        error=error,
        workers=WORKERS,
        progress=progress,
    )


def table(explanation: Explanation) -> Table | None:
    """Return the layers as a table for people; None where nothing may be stated."""
    if not explanation.stated:
        return None
    counts = explanation.spectrum.counts.sum()
    result = Table(title=f"{explanation.spectrum.name}: {counts:,.0f} counts", title_justify="left", box=SIMPLE_HEAD)
    for head in (
        "layer",
        "thickness, 90 %",
        "group",
        "in this layer, P",
        "share of the dry pigment, range",
        "pigments",
    ):
        result.add_column(head)
    for layer in explanation.layers:
        for row, (name, chance) in enumerate(layer.presence.items()):
            first = (str(layer.layer + 1), estimate_text(layer.thickness)) if row == 0 else ("", "")
            members = ", ".join(
                f"{library()[member].label} {chance:.2f}"
                for member, chance in explanation.members(name, layer.layer).items()
            )
            share = estimate_text(layer.shares[name], share=True)
            result.add_row(*first, group_name(name), f"{chance:.2f}", share, members)
    return result
