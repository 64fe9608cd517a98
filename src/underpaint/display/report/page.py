"""Report page, made by inserting findings and figures into a template."""

import gc
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import jinja2
import numpy as np
from numpy.typing import NDArray

from underpaint._version import __version__
from underpaint.data import EnergyAxis, Scan
from underpaint.data.maps import (
    AMOUNT,
    CANNOT_EXCLUDE,
    MAX_INFORMATIVE_PERCENT,
    NOT_DETECTED,
    PIGMENT,
    PLACED_PROBABILITY,
    PRESENT,
    PRESENT_PROBABILITY,
    STATES,
    SURFACE_UM,
    TRACE,
    UNLIKE_SIGMA,
    Results,
    summarise_quantity,
    unit_of,
)
from underpaint.display import plot
from underpaint.display.plot.images import composite_figure, display_unit, panel_height, quantity_gallery
from underpaint.display.plot.layers import MAX_SECTIONS, Section, stratigraphy_sketch
from underpaint.display.plot.paints import paint_map
from underpaint.display.report.findings import (
    LAYER_LIMIT,
    Evidence,
    Finding,
    absent_names,
    element_evidence,
    find_groups,
    is_present,
    low_count_share,
)
from underpaint.display.report.layers import (
    MIN_ARRANGEMENT_SHARE,
    Arrangement,
    PlaceShares,
    find_arrangements,
    has_places,
    knows_places,
    order_rows,
    order_text,
    place_shares,
    present_groups,
    share_below_in_paint,
    thickness_text,
    two_figures,
)
from underpaint.display.report.overview import MAX_SENTENCES, overview_lines
from underpaint.display.report.paints import MAX_ROWS, legend_rows
from underpaint.display.report.pdf import print_pdf
from underpaint.display.report.pigment_table import pigment_table, surface_section
from underpaint.display.report.spots import SpotSpectrum
from underpaint.display.report.supplements import Supplements, data_url, read_supplements
from underpaint.display.report.title import (
    PAPER,
    assumed_layers_text,
    citation,
    data_versions,
    methods_paragraph,
    record_facts,
    title_facts,
    version_of_maps,
)
from underpaint.display.report.unexplained import explain_lines, line_text
from underpaint.display.report.wording import (
    LIST_LIMIT,
    MEANINGS,
    KeyFinding,
    by_certainty,
    capitalised,
    element_sentence,
    join_names,
    key_finding,
    line_name,
    percent,
    short_label,
    statement_text,
    thousands,
)
from underpaint.errors import OutputError, SampleError
from underpaint.io import read_results, split_location
from underpaint.io._scan_files import belongs_to
from underpaint.io.results.sidecars import existing_scan_path
from underpaint.physics.materials import library
from underpaint.runtime.files import atomic_write

REPORT_FILE, PDF_FILE = "report.html", "report.pdf"
MAX_MEMBER_ROWS = 24
MAX_ELEMENTS = 28
MAX_MAPS_IN_FIGURE = 12
"""Maximum number of maps in a figure. A taller figure would leave empty space on the preceding printed page."""
MAX_PLACE_ROWS = 16
MAX_PAINTS_IN_SHORT_REPORT = 6
"""Maximum number of paints in the legend of the short report."""
MAX_LAYER_ORDERS = 20
_DPI = 115
_UNKNOWN_COLOR = "#808080"
_MAX_PEAK_ENERGIES = 4
_SPACE_BEFORE_UNIT = re.compile(r"(?<=\d) (?=(?:%|σ|µ[mg]|[mc]m²?|k?eV|counts|pixels)(?!\w))")
"""Space between a number and its unit ("63 %", "12 µm"), where a line must not break."""
_HALF_PAGE_HEIGHT_INCH = 4.5
"""Maximum height of the maps in a figure, in inches. Two figures of this height and a heading fit on a printed page."""


@dataclass(frozen=True)
class EmbeddedFigure:
    """Image for the ``src`` attribute of an ``img`` element, and a description of the image."""

    source: str
    description: str


def write_report(
    folder: str | Path,
    path: str | Path | None = None,
    *,
    form: Literal["html", "pdf"] = "html",
    scan: Scan | str | None = None,
    subject: str = "",
    full: bool = False,
) -> Path:
    """Write the report of a folder of results.

    Parameters
    ----------
    folder : str or Path
        Folder written by :func:`underpaint.io.write_results`.
    path : str or Path or None
        File to write; by default ``report.html`` or ``report.pdf`` in the folder.
    form : {"html", "pdf"}
        Format of the file. An installed browser prints the PDF.
    scan : Scan, str or None
        The scan or its path, from which spectra of spots are read. If None, the scan is searched for at its original
        path and in the folder of results. Without a scan, the report contains no spectra of spots.
    subject : str
        The object, in the user's words.
    full : bool
        Whether to include figures for each group, maps of places and thickness, spectra of typical spots, the table of
        pigments and all settings. The short report contains the evidence and the spectra of drawn regions.

    Returns
    -------
    Path
        Path of the file. The report is a single page that contains all figures and no scripts.

    Raises
    ------
    ScanError
        The folder contains no results, the given scan cannot be read, or the results belong to another scan.
    OutputError
        The file cannot be written, or no browser can print the PDF.

    Examples
    --------
    >>> import underpaint as up
    >>> up.write_report("panel_underpaint", "panel.html", subject="A test panel").name
    'panel.html'
    """
    folder_path = Path(folder)
    target = folder_path / (PDF_FILE if form == "pdf" else REPORT_FILE) if path is None else Path(path)
    results = read_results(folder_path)
    if path is not None:
        _refuse_to_replace(target, existing_scan_path(folder_path, results.summary))
        _refuse_to_replace(target, split_location(scan)[0] if isinstance(scan, str) else None)
    findings = find_groups(results)
    supplements = read_supplements(folder_path, results, findings if full else [], scan=scan, subject=subject)
    # Figures contain many reference cycles. Without ``gc.freeze``, each search for cycles would visit all imported
    # objects.
    gc.freeze()
    try:
        page_html = render_report(results, supplements=supplements, findings=findings, full=full)
    finally:
        gc.unfreeze()
    if form == "pdf":
        print_pdf(page_html, target)
        return target
    with atomic_write(target) as partial_path:
        partial_path.write_text(page_html, encoding="utf-8")
    return target


def _refuse_to_replace(target: Path, scan: Path | None) -> None:
    """Raise an error if the target is a file of the scan."""
    if scan is not None and belongs_to(target, scan):
        raise OutputError(
            f"Cannot write {target}: it is part of the scan {scan}, which is not replaced. Give another name."
        )


def render_report(
    results: Results,
    *,
    supplements: Supplements | None = None,
    findings: list[Finding] | None = None,
    full: bool = False,
) -> str:
    """Return the report as one HTML page.

    Parameters
    ----------
    results : Results
        Results of a scan. The report omits quantities that the results do not contain. Unexplained lines are determined
        if the results do not contain them.
    supplements : Supplements or None
        Pictures, regions, statements and spectra of spots.
    findings : list of Finding or None
        Findings from the results. If None, the findings are determined.
    full : bool
        See :func:`write_report`.
    """
    supplements, summary = supplements or Supplements(), results.summary
    findings = by_certainty(find_groups(results) if findings is None else findings)
    if results.unexplained is None and results.has_pigments:
        results = explain_lines(results, anode=results.calibration.get("anode"))
    group_places, significant_lines = place_shares(results), element_evidence(results)
    families = overview_lines(results, significant_lines, findings)
    unexplained = [line.family for line in results.unexplained or ()]
    drawn_lines = _drawn_lines(
        significant_lines, [*families, *unexplained], MAX_ELEMENTS if full else MAX_MAPS_IN_FIGURE
    )
    return render(
        "page.html.jinja",
        full=full,
        n_sentence=len(findings) if full else MAX_SENTENCES,
        title=str(summary.get("name") or "scan"),
        overview=_overview_figure(results, families),
        paints=_paint_section(
            results, families, supplements.photograph.source if supplements.photograph else "", full=full
        ),
        alerts=results.alerts,
        facts=title_facts(summary, supplements.subject),
        record=record_facts(summary),
        photograph=supplements.photograph,
        pictures=supplements.pictures,
        findings=findings,
        statements=[
            statement_text(statement, _subject_label(results, statement.name)) for statement in supplements.statements
        ],
        key_findings=_key_findings(results, findings, group_places, supplements),
        meanings=MEANINGS,
        placed=f"{PLACED_PROBABILITY:g}",
        n_found=sum(not finding.is_doubtful for finding in findings),
        n_group=len(results.targets),
        absent=absent_names(results),
        has_pigments=results.has_pigments,
        has_elements=results.has_elements,
        elements=significant_lines,
        spectrum=_spectrum_figure(results, significant_lines),
        spots=[_spot_figure(spot, summary) for spot in supplements.spots],
        without_spots=supplements.without_spots if full or supplements.regions else "",
        table=pigment_table(findings) if full else [],
        rows=_figure_rows(results, findings) if full else [],
        gallery=_element_figures(results, drawn_lines),
        faint=_weak_line_names(results, drawn_lines),
        quantities=_quantity_section(results, significant_lines),
        unexplained=[line_text(line) for line in results.unexplained or ()],
        ordinary=results.ordinary,
        unlike=_unlikeness_section(results),
        layers=_layer_section(results, group_places, full=full),
        prior=_prior_text(results),
        answers=_answer_section(results, full=full),
        surface=surface_section(results, embed_figure),
        unseen=_hidden_groups(results),
        notes=[*supplements.damaged, *_remaining_notes(results)],
        settings=_flatten_settings(
            {key: entry for key, entry in results.settings.items() if key not in ("source", "alerts")}
        ),
        card=_model_card_section(results),
        low_counts=_low_count_fraction(summary),
        layer_limit=LAYER_LIMIT,
        methods=methods_paragraph(results),
        data=data_versions(results),
        citation=citation(version_of_maps(summary)),
        paper=PAPER,
    )


def render(template: str, **values: Any) -> str:
    """Fill a template of this package with escaped values, and return the text."""
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: (files("underpaint.display.report") / name).read_text("utf-8")),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters.update(
        {
            "percent": percent,
            "lines": line_name,
            "element_sentence": element_sentence,
            "listed": join_names,
            "thousands": thousands,
            "before_bracket": short_label,
            "thickness": thickness_text,
            "capitalised": capitalised,
            "figures": two_figures,
        }
    )
    rendered_page = environment.get_template(template).render(version=__version__, **values)
    return _SPACE_BEFORE_UNIT.sub("\N{NO-BREAK SPACE}", rendered_page)


def _key_findings(
    results: Results, findings: list[Finding], places: list[PlaceShares], supplements: Supplements
) -> list[KeyFinding]:
    """Return the text of each finding, including the regions in which its group occurs."""
    return [key_finding(finding, places, _region_shares(results[finding.name], supplements)) for finding in findings]


def _subject_label(results: Results, name: str) -> str:
    """Return the display label of a group, a line, or a paint."""
    return results.short_label(name) if name in results.materials else line_name(name)


def _region_shares(probability: NDArray[np.float32], supplements: Supplements) -> dict[str, float]:
    answered_masks = {name: mask & np.isfinite(probability) for name, mask in supplements.regions.items()}
    return {
        name: float((probability[mask] > PRESENT_PROBABILITY).mean())
        for name, mask in answered_masks.items()
        if mask.any()
    }


def _spot_figure(spot: SpotSpectrum, summary: Mapping[str, Any]) -> EmbeddedFigure:
    """Draw the spectrum of a spot, and the mean spectrum of the scan multiplied by the spot's number of pixels."""
    scan_axis, sum_counts, shape = (
        EnergyAxis.from_energies(summary.get("energy_kev")),
        summary.get("sum_counts"),
        summary.get("shape"),
    )
    mean_counts = None
    if sum_counts is not None and shape and len(sum_counts) == spot.counts.size:
        mean_counts = np.asarray(sum_counts, float) * spot.n_pixel / (shape[0] * shape[1])
    matching_axis = scan_axis if scan_axis is not None and scan_axis.n_channel == spot.counts.size else None
    curve_labels = ("spot", "mean of the scan, same number of pixels")
    figure = plot.spectrum(
        matching_axis, spot.counts, mean_counts, spot.families, title=spot.title, labels=curve_labels, height_inch=3.0
    )
    line_names = join_names([line_name(family) for family in spot.families], 20) or "no line"
    return embed_figure(figure, f"Spectrum of {spot.title}; lines above three standard deviations: {line_names}.")


def _spectrum_figure(results: Results, significant_lines: list[Evidence]) -> EmbeddedFigure | None:
    summary, calibration = results.summary, results.calibration
    sum_counts = summary.get("sum_counts")
    if sum_counts is None:
        return None
    families = list(dict.fromkeys([*(line.family for line in significant_lines), *calibration.get("found", [])]))
    axis, anode = EnergyAxis.from_energies(summary.get("energy_kev")), calibration.get("anode")
    figure = plot.spectrum(axis, np.asarray(sum_counts, float), summary.get("max_counts"), families, anode=anode)
    line_names = join_names([line_name(family) for family in families], 30) or "no line"
    return embed_figure(figure, f"Sum and maximum spectrum on a logarithmic axis; labelled lines: {line_names}.")


def _overview_figure(results: Results, families: list[str]) -> EmbeddedFigure | None:
    """Draw element maps in red, green and blue."""
    if not families:
        return None
    scaled_maps = [
        (line_name(name), results[name], float(np.nanpercentile(results[name], 99)) or 1.0) for name in families
    ]
    figure = composite_figure(scaled_maps, step_mm=results.step_mm)
    return embed_figure(figure, f"Element maps as red, green and blue: {', '.join(part[0] for part in scaled_maps)}.")


def _paint_section(results: Results, families: list[str], photograph: str, *, full: bool) -> dict[str, Any] | None:
    """Return the map of the paints and the legend of the map; None for results without paints."""
    if not results.paints:
        return None
    assigned_share = sum(area.share for area in results.paints)
    rows = legend_rows(results, families, photograph)[: MAX_ROWS if full else MAX_PAINTS_IN_SHORT_REPORT]
    description = f"Map of {len(results.paints)} paints; their numbers, pictures and groups are in the table below."
    return {
        "picture": embed_figure(paint_map(results), description),
        "rows": rows,
        "rest": len(results.paints) - len(rows),
        "assigned": assigned_share,
        "layered": any(area.stratigraphy for area in results.paints),
    }


def _figure_rows(results: Results, findings: list[Finding]) -> list[dict[str, Any]]:
    """Return a row of figures for each detected group, followed by rows for its members."""
    drawn_names: set[str] = set()
    figure_rows = []
    for finding in findings:
        member_rows = []
        for member in finding.separate_findings:
            # A composite pigment belongs to two groups but is drawn only once.
            if member.name not in drawn_names and len(drawn_names) < MAX_MEMBER_ROWS:
                drawn_names.add(member.name)
                member_rows.append(_figure_row(results, member))
        figure_rows.append(_figure_row(results, finding) | {"members": member_rows})
    return figure_rows


def _figure_row(results: Results, finding: Finding) -> dict[str, Any]:
    line_names = join_names([line_name(evidence.family) for evidence in finding.evidence]) or "no element"
    description = (
        f"{finding.label}: probability map, {line_names} map, overlay, and scatter of probability against line area. "
        f"Probability exceeds one half on {percent(finding.share)} of the surface."
    )
    return {"finding": finding, "picture": embed_figure(plot.pigment_row(results, finding.name), description)}


def _element_figures(results: Results, drawn_lines: list[Evidence]) -> list[EmbeddedFigure]:
    pictures = []
    for names in _split_batches([line.family for line in drawn_lines], MAX_MAPS_IN_FIGURE):
        description = "Element maps, net counts: " + ", ".join(line_name(name) for name in names) + "."
        pictures.append(embed_figure(plot.element_gallery(results, names), description))
    if results.scatter_peaks:
        description = f"Maps of scatter, counts: {', '.join(results.scatter_peaks)}."
        scatter_figure = plot.element_gallery(results, results.scatter_peaks, columns=len(results.scatter_peaks))
        pictures.append(embed_figure(scatter_figure, description))
    return pictures


def _quantity_section(results: Results, significant_lines: list[Evidence]) -> dict[str, Any] | None:
    """Return the table of element quantities, and maps of the elements that have significant lines."""
    if not results.element_quantities:
        return None
    summaries = {name: summarise_quantity(name, results.estimate(name)) for name in results.element_quantities}
    family_of = dict(zip(summaries, results.settings_of("quantities").get("families", ()), strict=False))
    rank_by_family = {line.family: index for index, line in enumerate(significant_lines)}
    sorted_names = sorted(summaries, key=lambda name: rank_by_family.get(family_of.get(name, ""), len(rank_by_family)))
    drawn_names = [name for name in sorted_names if family_of.get(name) in rank_by_family][:MAX_ELEMENTS]
    description_format = "Maps of {}, hatched where not determined: "
    quantity_label = results.quantity_label(sorted_names[0].partition(".")[0])
    return {
        "label": quantity_label,
        "rows": [(name.partition(".")[2], summaries[name]) for name in sorted_names],
        "unit": display_unit(unit_of(sorted_names[0])),
        "notes": results.process_notes.get("quantities", ()),
        "pictures": [
            embed_figure(
                quantity_gallery(results, name_batch),
                description_format.format(quantity_label) + ", ".join(name_batch) + ".",
            )
            for name_batch in _split_batches(drawn_names, MAX_MAPS_IN_FIGURE)
        ],
    }


def _split_batches(names: list[str], max_number: int) -> list[list[str]]:
    return [names[first_index : first_index + max_number] for first_index in range(0, len(names), max_number)]


def _drawn_lines(significant_lines: list[Evidence], named_families: list[str], max_number: int) -> list[Evidence]:
    """Return the lines to draw: lines that the first pages name, and the most certain other lines."""
    unnamed_lines = [line for line in significant_lines if line.family not in named_families]
    drawn_families = {line.family for line in unnamed_lines[: max(max_number - len(set(named_families)), 0)]} | set(
        named_families
    )
    return [line for line in significant_lines if line.family in drawn_families][:max_number]


def _weak_line_names(results: Results, drawn_lines: list[Evidence]) -> list[str]:
    drawn_families = {line.family for line in drawn_lines}
    return [line_name(name) for name in results.lines if name not in drawn_families]


def _unlikeness_section(results: Results) -> dict[str, Any] | None:
    """Return the fraction of spectra with unassigned peaks, the energies of these peaks, and a significance map."""
    if "unlikeness" not in results.stacks:
        return None
    n_flagged = int(results.unlike_pixels.sum())
    peak_energies_kev = results.map("peak_kev")[results.unlike_pixels]
    description = f"Map of the strongest unassigned peak, in standard deviations; {n_flagged} pixels exceed 5."
    title = "unassigned peak (standard deviations)"
    return {
        "n": n_flagged,
        "remarkable": results.is_unlike,
        "share": results.unlike_share,
        "sigma": UNLIKE_SIGMA,
        "energies": _common_energies(peak_energies_kev),
        "picture": embed_figure(plot.unlikeness_map(results, title=title), description) if results.is_unlike else None,
    }


def _common_energies(energy_kev: NDArray[np.float32]) -> list[str]:
    """Return the energies of unassigned peaks, rounded to 0.1 keV, the most frequent first."""
    distinct_kev, counts = np.unique(np.round(energy_kev, 1), return_counts=True)
    sorted_indices = np.argsort(-counts, kind="stable")[:_MAX_PEAK_ENERGIES]
    return [f"{distinct_kev[index]:.1f} keV" for index in sorted_indices]


def _layer_section(results: Results, places: list[PlaceShares], *, full: bool) -> dict[str, Any] | None:
    """Return the contents of the section on layers; None for a model that predicts no places."""
    if not knows_places(results):
        return None
    shown_groups = [place.name for place in places if full and has_places(results, place.name)][:MAX_PLACE_ROWS]
    description = "Probability of the detected groups anywhere, at the surface, and below."
    arrangements = find_arrangements(results)
    return {
        "places": places,
        "arrangements": arrangements,
        "rest": max(1.0 - sum(arrangement.share for arrangement in arrangements), 0.0) if places else 0.0,
        "orders": [
            {
                "pair": " and ".join(results.short_label(name) for name in (order.first_group, order.second_group)),
                "order": order,
                "answer": order_text(results, order),
            }
            for order in order_rows(results)[:MAX_LAYER_ORDERS]
        ],
        "pictures": [
            embed_figure(plot.place_gallery(results, group_batch), description)
            for group_batch in _split_batches(shown_groups, _max_place_rows(results))
        ],
        "thickness": _thickness_figure(results) if full else None,
        "thickness_of_paint": float(results.thickness_of_paint.mean()) if "quantity" in results.stacks else 0.0,
        "below_in_paint": share_below_in_paint(results),
        "sketch": _stratigraphy_figure(results, arrangements),
    }


def _max_place_rows(results: Results) -> int:
    """Return the number of rows of maps that fill half a printed page; more rows would be too small to read."""
    return max(int(_HALF_PAGE_HEIGHT_INCH / panel_height(results.shape, results.step_mm)), 1)


def _stratigraphy_figure(results: Results, arrangements: list[Arrangement]) -> EmbeddedFigure | None:
    """Draw the most widespread layer arrangements as cross-sections."""
    if not arrangements:
        return None
    colors = {results.short_label(name): _color_of(name) for name in present_groups(results)}

    def with_colors(labels: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
        return tuple((label, colors.get(label, _UNKNOWN_COLOR)) for label in labels)

    sections = [
        Section(
            f"{percent(arrangement.share)} of the area",
            thickness_text(arrangement.thickness).replace("about ", "").replace("thickness not determined", ""),
            with_colors(arrangement.surface),
            with_colors(arrangement.below),
            with_colors(arrangement.unplaced),
        )
        for arrangement in arrangements[:MAX_SECTIONS]
    ]
    description = (
        "Sketch of layers, not to scale: "
        + "; ".join(f"{percent(arrangement.share)}, {arrangement.text}" for arrangement in arrangements)
        + "."
    )
    return embed_figure(stratigraphy_sketch(sections), description)


def _color_of(name: str) -> str:
    """Return the colour of a group or pigment."""
    try:
        return library()[name].color if name in library() else library().group(name).color
    except SampleError:
        return _UNKNOWN_COLOR


def _thickness_figure(results: Results) -> EmbeddedFigure | None:
    if "quantity" not in results.stacks:
        return None
    title = "thickness of the uppermost layer of paint (µm) and its 90 % interval"
    return embed_figure(plot.thickness_map(results, title=title), f"Maps of the {title}; hatched where not determined.")


def _prior_text(results: Results) -> str:
    """Return a text on the prior probabilities of pigments within a group; "" if the results state none."""
    member_prior = results.settings_of("pigments").get("member_prior")
    if not member_prior:
        return ""
    period_text = (
        ""
        if member_prior["years"] is None
        else f", reduced outside their period of use, {member_prior['years'][0]} to {member_prior['years'][1]}"
    )
    if member_prior["palette"]:
        return f"equal weights for the {len(member_prior['palette'])} pigments of the palette{period_text}"
    return f"equal weights for all pigments of the model{period_text}; a palette (--palette) gives a better prior"


def _groups_with_state(results: Results) -> list[str]:
    """Return the groups that have a state map."""
    return [name for (name,) in results.stacks["state"].keys] if "state" in results.stacks else []


def _hidden_groups(results: Results) -> list[tuple[str, float]]:
    """Return each undetected but possibly hidden group, and the fraction of the area in which it may be hidden."""
    group_names = _groups_with_state(results) if results.knows_hiding else []
    hidden_names = [name for name in group_names if results.holds(name) and not is_present(results[name])]
    hidden_shares = [(results.short_label(name), results.state_shares(name)[CANNOT_EXCLUDE]) for name in hidden_names]
    return sorted(
        ((label, share) for label, share in hidden_shares if share >= MIN_ARRANGEMENT_SHARE),
        key=lambda entry: -entry[1],
    )


_STATE_COLUMNS = (PIGMENT, PRESENT, TRACE, NOT_DETECTED, CANNOT_EXCLUDE)
_AMOUNT_STATES = {PIGMENT, TRACE}
"""States that exist only if the network predicts amounts."""


def _answer_section(results: Results, *, full: bool) -> dict[str, Any] | None:
    """Return a table and maps of the states of all groups."""
    names = _groups_with_state(results)
    if not names:
        return None
    cover_um = results.settings_of("detectability").get("burial", {}).get("cover_um", math.inf)
    state_shares = {name: results.state_shares(name) for name in names}
    shown_states = [state for state in _STATE_COLUMNS if results.amounts or state not in _AMOUNT_STATES]
    sorted_names = sorted(names, key=lambda name: state_shares[name][NOT_DETECTED])
    table_rows = [
        {
            "label": results.label(name),
            "shares": [state_shares[name][state] for state in shown_states],
            "limit": _median_upper_limit(results, name),
            "threshold": results.settings_of("amounts").get("pigment_share", {}).get(name),
        }
        for name in sorted_names
    ]
    has_maps = results.knows_hiding or bool(results.amounts)
    max_number = MAX_ELEMENTS if full else MAX_MAPS_IN_FIGURE
    drawn_names = [name for name in sorted_names if has_maps and state_shares[name][NOT_DETECTED] < 1][:max_number]
    description = "Maps of the state of each group: pigment, present, trace, not detected, cannot be excluded."
    name_batches = _split_batches(drawn_names, MAX_MAPS_IN_FIGURE)
    return {
        "states": [STATES[state] for state in shown_states],
        "rows": table_rows,
        "hiding": results.knows_hiding,
        "amounts": bool(results.amounts),
        "pictures": [
            embed_figure(plot.detectability_gallery(results, name_batch), description) for name_batch in name_batches
        ],
        "notes": results.process_notes.get("detectability", ()),
        "supposed": assumed_layers_text(results) or "the assumed layer",
        "cover_um": cover_um,
        "deeper": _thicker_fraction(results, cover_um),
    }


def _median_upper_limit(results: Results, name: str) -> float | None:
    """Return the median upper limit of a group's amount, in %, where the group is not detected; None if unknown."""
    if not results.knows_amount(name):
        return None
    upper_limits = results.estimate(f"{AMOUNT}.{name}").high[results.map("state", name) == NOT_DETECTED]
    median_limit = float(np.median(upper_limits)) if upper_limits.size else math.inf
    return median_limit if median_limit < MAX_INFORMATIVE_PERCENT else None


def _thicker_fraction(results: Results, thickness_um: float) -> float:
    """Return the fraction of the area in which the uppermost layer is thicker than ``thickness_um``; 0 if unknown."""
    if "quantity" not in results.stacks:
        return 0.0
    has_prediction = results.has_prediction
    is_thicker = results.is_determined(SURFACE_UM) & (results.map("quantity", SURFACE_UM) > thickness_um)
    return float((is_thicker & has_prediction).sum() / max(has_prediction.sum(), 1))


def _remaining_notes(results: Results) -> list[str]:
    """Return the notes that no other section of the report contains."""
    noted_sections = (results.process_notes.get(process, ()) for process in ("detectability", "quantities"))
    notes_elsewhere = {
        *_model_card_section(results)["limits"],
        *results.alerts,
        *(note for notes in noted_sections for note in notes),
    }
    return [note for note in results.notes if note not in notes_elsewhere]


def _flatten_settings(value: Any, name: str = "") -> list[tuple[str, str]]:
    """Return nested settings as (name, text) pairs."""
    if isinstance(value, Mapping):
        return [
            pair
            for key, entry in value.items()
            for pair in _flatten_settings(entry, f"{name}.{key}" if name else str(key))
        ]
    if isinstance(value, list | tuple):
        return [(name, ", ".join(map(str, value)))] if value else []
    if value is None or value == "":
        return []
    return [(name, f"{value:.6g}" if isinstance(value, float) else str(value))]


def _model_card_section(results: Results) -> dict[str, Any]:
    """Return the parts of the model card that are shown in the report."""
    card = results.model_card
    return {
        "name": " ".join(str(card.get(key, "")) for key in ("name", "version")).strip(),
        "figures": _flatten_settings(
            {score_name: _overall_scores(entry) for score_name, entry in dict(card.get("figures", {})).items()}
        )[:LIST_LIMIT],
        "limits": [str(entry) for entry in card.get("limits", [])],
        "training": _flatten_settings({k: v for k, v in dict(card.get("training", {})).items() if k != "config"}),
    }


def _overall_scores(scores: Any) -> Any:
    """Return the overall scores without the scores of single groups."""
    if not isinstance(scores, Mapping):
        return scores
    return {key: entry for key, entry in scores.items() if not isinstance(entry, Mapping)}


def _low_count_fraction(summary: Mapping[str, Any]) -> float:
    pixel_counts = summary.get("pixel_counts")
    return 0.0 if pixel_counts is None else low_count_share(np.asarray(pixel_counts, float))


def embed_figure(figure: Any, description: str) -> EmbeddedFigure:
    """Return a figure as an embedded image with a description."""
    return EmbeddedFigure(data_url(plot.to_png(figure, _DPI), "png"), description)
