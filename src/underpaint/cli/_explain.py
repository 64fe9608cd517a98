"""Command ``explain``: layer structures that are consistent with a spectrum."""

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
    groups_by_network,
    read_spot,
    region_spectrum,
)
from underpaint.pigments.explain.words import estimate_text, group_name
from underpaint.pipeline.paints import spectrum_knowledge
from underpaint.runtime.progress import Progress

N_WORKERS = 2
"""Number of worker processes, one per independent run."""


@dataclass(frozen=True)
class ExplainRequest:
    """Arguments of the command ``explain``.

    Parameters
    ----------
    pixel : str or None
        Pixel as "row,column", counted from 0, e.g. "12,40".
    region : Path or None
        File with a mask or a list of pixels.
    pigments : tuple of str
        Groups or pigments that the user knows to be present. If empty, the network identifies the groups.
    instrument, model, ground : str
        Instrument (preset or file), network, and name of the ground below the paint.
    calibrated : bool
        Whether the energy axis is calibrated from the scan's lines. If False, the file's axis is used.
    model_error_percent : float
        Error of the forward model in each bin, in per cent of the modelled counts.
    counts_scale : float or None
        Value that is stored for one count, as for :func:`underpaint.load`.
    trust_instrument : bool
        Use the instrument even if the scan's lines contradict its axis.
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


def explain_spot(scan_location: str, request: ExplainRequest, progress: Progress) -> Explanation:
    """Find the layer structures that are consistent with the sum spectrum of a pixel or region.

    Raises
    ------
    UnderpaintError
        The scan, the pixel or region, the pigments, the instrument or the model cannot be used.
    """
    if (request.pixel is None) == (request.region is None):
        raise ScanError("Cannot tell what to explain: give either --pixel ROW,COLUMN or --region FILE.")
    given_instrument = None if request.instrument is None else load_instrument(request.instrument)
    named_groups = given_groups(request.pigments) if request.pigments else None
    ground_layer(request.ground, 100.0)
    progress("Opening the scan", 0, 1)
    scan = load(scan_location, counts_scale=request.counts_scale)
    mask = read_spot(request.pixel, request.region, scan.shape[:2])
    progress("Finding the energy axis", 0, 1)
    calibrated_scan = resolve_energy_axis(scan, calibrated=request.calibrated)
    alerts = (
        ()
        if given_instrument is None
        else check_instrument(calibrated_scan, given_instrument, trusted=request.trust_instrument)
    )
    for alert in (*calibrated_scan.alerts, *alerts):
        say_warning(alert)
    if calibrated_scan.beam_kev is not None and named_groups is None:
        raise CoverageError(
            f"Cannot identify pigments by the network: scan {scan.name!r} was excited by a monochromatic beam of "
            f"{calibrated_scan.beam_kev:.2f} keV, and the networks were trained on spectra of X-ray tubes. Name the "
            f"pigments with "
            "--pigments."
        )
    knowledge = spectrum_knowledge(scan, calibrated_scan, given_instrument)
    progress("Reading the spectra", 0, 1)
    spectrum = region_spectrum(calibrated_scan.scan, mask)
    if named_groups is None:
        progress("Running the network", 0, 1)
        named_groups = groups_by_network(spectrum, request.ground, request.model, knowledge.known_conditions())
    model_error = ModelError(independent=request.model_error_percent / 100)
    return explain(
        spectrum,
        knowledge.instrument,
        named_groups,
        ground=request.ground,
        error=model_error,
        workers=N_WORKERS,
        progress=progress,
    )


def layer_table(explanation: Explanation) -> Table | None:
    """Return a table of the layers, or None if the two independent runs disagree."""
    if not explanation.is_stated:
        return None
    total_counts = explanation.spectrum.counts.sum()
    layers_table = Table(
        title=f"{explanation.spectrum.name}: {total_counts:,.0f} counts",
        title_justify="left",
        caption="The spectrum rarely distinguishes the pigments of a group: trust the group first.",
        caption_justify="left",
        box=SIMPLE_HEAD,
    )
    for heading in (
        "layer",
        "thickness, 90 %",
        "group",
        "in this layer, P",
        "share of the dry pigment (range)",
        "pigments",
    ):
        layers_table.add_column(heading)
    for layer_estimate in explanation.layers:
        for group_index, (group, group_probability) in enumerate(layer_estimate.presence.items()):
            layer_cells = (
                (str(layer_estimate.layer + 1), estimate_text(layer_estimate.thickness))
                if group_index == 0
                else ("", "")
            )
            members_text = ", ".join(
                f"{library()[member].label} {member_probability:.2f}"
                for member, member_probability in explanation.members(group, layer_estimate.layer).items()
            )
            share_text = estimate_text(layer_estimate.shares[group], share=True)
            layers_table.add_row(*layer_cells, group_name(group), f"{group_probability:.2f}", share_text, members_text)
    return layers_table
