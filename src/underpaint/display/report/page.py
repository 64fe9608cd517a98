"""The report page: findings and pictures in the template."""

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
from underpaint.display.plot.images import composite_figure, panel_height, quantity_gallery, shown_unit
from underpaint.display.plot.layers import MOST_SECTIONS, Section, stratigraphy_sketch
from underpaint.display.plot.paints import paint_map
from underpaint.display.report.beside import Beside, data_url, look_beside
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
    LEAST_ARRANGEMENT,
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
from underpaint.display.report.methods import (
    PAPER,
    citation,
    data_versions,
    made_by,
    methods_paragraph,
    supposed_burial,
)
from underpaint.display.report.overview import MOST_SENTENCES, overview_lines
from underpaint.display.report.paints import MOST_ROWS, legend_rows
from underpaint.display.report.pdf import print_pdf
from underpaint.display.report.pigment_table import pigment_table
from underpaint.display.report.spots import SpotSpectrum
from underpaint.display.report.surface import surface_section
from underpaint.display.report.title import record_facts, title_facts
from underpaint.display.report.unexplained import explain_lines, line_text
from underpaint.display.report.wording import (
    LIST_LIMIT,
    MEANINGS,
    KeyFinding,
    before_bracket,
    by_certainty,
    capitalised,
    element_sentence,
    key_finding,
    line_name,
    listed,
    percent,
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
MOST_MEMBER_ROWS = 24
MOST_ELEMENTS = 28
MOST_IN_PICTURE = 12
"""Maps per picture: a taller picture leaves the printed page before it half empty."""
MOST_PLACE_ROWS = 16
MOST_IN_SHORT = 6
"""Paints in the legend of the short report."""
MOST_ORDERS = 20
_DPI = 115
_NO_COLOR = "#808080"
_MOST_ENERGIES = 4
_BEFORE_UNIT = re.compile(r"(?<=\d) (?=(?:%|σ|µ[mg]|[mc]m²?|k?eV|counts|pixels)(?!\w))")
"""A space that no line may break at: "63 %", "12 µm"."""
_HALF_PAGE_IN = 4.5
"""Height of a picture's maps of which two, reduced to the width of a printed page, fit on it with a heading."""


@dataclass(frozen=True)
class Picture:
    """An embedded picture and its alternative text."""

    source: str
    words: str


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
        As :func:`underpaint.io.write_results` made it.
    path : str or Path or None
        File to write; None: ``report.html`` or ``report.pdf`` in the folder.
    form : {"html", "pdf"}
        PDF is printed by a browser of this machine.
    scan : Scan, str or None
        The scan, or where it is, for spectra of typical spots; None looks where it was, and beside the results, and
        does without where it is gone.
    subject : str
        The object, in the user's words.
    full : bool
        With a row of pictures for each group, maps of places and thickness, spectra of typical spots, the table of
        pigments and all settings; else what a verdict rests on, with the spectra of regions that were drawn.

    Returns
    -------
    Path
        The file; one page without scripts, with all its pictures inside.

    Raises
    ------
    ScanError
        The folder holds no results, or the scan that was named cannot be read or is another.
    OutputError
        The file cannot be written, or no browser prints it.

    Examples
    --------
    >>> import underpaint as up
    >>> up.write_report("panel_underpaint", "panel.html", subject="A test panel").name
    'panel.html'
    """
    place = Path(folder)
    target = place / (PDF_FILE if form == "pdf" else REPORT_FILE) if path is None else Path(path)
    results = read_results(place)
    if path is not None:
        _refuse_to_replace(target, existing_scan_path(place, results.summary))
        _refuse_to_replace(target, split_location(scan)[0] if isinstance(scan, str) else None)
    findings = find_groups(results)
    beside = look_beside(place, results, findings if full else [], scan=scan, subject=subject)
    # Figures are full of cycles; a search for them would go through all that was imported, again and again.
    gc.freeze()
    try:
        text = render_report(results, beside=beside, findings=findings, full=full)
    finally:
        gc.unfreeze()
    if form == "pdf":
        print_pdf(text, target)
        return target
    with atomic_write(target) as part:
        part.write_text(text, encoding="utf-8")
    return target


def _refuse_to_replace(target: Path, scan: Path | None) -> None:
    """Refuse to write a report over its scan."""
    if scan is not None and belongs_to(target, scan):
        raise OutputError(
            f"Cannot write {target}: it is part of the scan {scan}, which stays as it is. Give another name."
        )


def render_report(
    results: Results, *, beside: Beside | None = None, findings: list[Finding] | None = None, full: bool = False
) -> str:
    """Return the report as one HTML page.

    Parameters
    ----------
    results : Results
        Results of any processes; sections without data are omitted. Unexplained lines are searched if not yet known.
    beside : Beside or None
        Pictures, regions, statements and spectra of spots.
    findings : list of Finding or None
        Findings of the results; None: they are computed.
    full : bool
        As of :func:`write_report`.
    """
    beside, summary = beside or Beside(), results.summary
    findings = by_certainty(find_groups(results) if findings is None else findings)
    if results.unexplained is None and results.has_pigments:
        results = explain_lines(results, anode=results.calibration.get("anode"))
    places, strong = place_shares(results), element_evidence(results)
    families = overview_lines(results, strong, findings)
    unexplained = [line.family for line in results.unexplained or ()]
    drawn = _drawn(strong, [*families, *unexplained], MOST_ELEMENTS if full else MOST_IN_PICTURE)
    return render(
        "page.html.jinja",
        full=full,
        n_sentence=len(findings) if full else MOST_SENTENCES,
        title=str(summary.get("name") or "scan"),
        overview=_overview(results, families),
        paints=_paints(results, families, beside.photograph.source if beside.photograph else "", full=full),
        alerts=results.alerts,
        facts=title_facts(summary, beside.subject),
        record=record_facts(summary),
        photograph=beside.photograph,
        pictures=beside.pictures,
        findings=findings,
        statements=[statement_text(each, _label(results, each.name)) for each in beside.statements],
        key_findings=_key_findings(results, findings, places, beside),
        meanings=MEANINGS,
        placed=f"{PLACED_PROBABILITY:g}",
        n_found=sum(not finding.doubtful for finding in findings),
        n_group=len(results.targets),
        absent=absent_names(results),
        has_pigments=results.has_pigments,
        has_elements=results.has_elements,
        elements=strong,
        spectrum=_spectrum(results, strong),
        spots=[_spot(own, summary) for own in beside.spots],
        without_spots=beside.without_spots if full or beside.regions else "",
        table=pigment_table(findings) if full else [],
        rows=_rows(results, findings) if full else [],
        gallery=_gallery(results, drawn),
        faint=_faint(results, drawn),
        quantities=_quantities(results, strong),
        unexplained=[line_text(line) for line in results.unexplained or ()],
        ordinary=results.ordinary,
        unlike=_unlike(results),
        layers=_layers(results, places, full=full),
        prior=_prior(results),
        answers=_answers(results, full=full),
        surface=surface_section(results, picture),
        unseen=_unseen(results),
        notes=[*beside.damaged, *_notes(results)],
        settings=_flat({key: own for key, own in results.settings.items() if key not in ("source", "alerts")}),
        card=_card(results),
        low_counts=_low_counts(summary),
        layer_limit=LAYER_LIMIT,
        methods=methods_paragraph(results),
        data=data_versions(results),
        citation=citation(made_by(summary)),
        paper=PAPER,
    )


def render(template: str, **values: Any) -> str:
    """Return a page of this folder's templates with values put in; text in them is escaped."""
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
            "listed": listed,
            "thousands": thousands,
            "before_bracket": before_bracket,
            "thickness": thickness_text,
            "capitalised": capitalised,
            "figures": two_figures,
        }
    )
    text = environment.get_template(template).render(version=__version__, **values)
    return _BEFORE_UNIT.sub("\N{NO-BREAK SPACE}", text)


def _key_findings(
    results: Results, findings: list[Finding], places: list[PlaceShares], beside: Beside
) -> list[KeyFinding]:
    """Return the findings in words, each with the regions that contain it."""
    return [key_finding(finding, places, _region_shares(results[finding.name], beside)) for finding in findings]


def _label(results: Results, name: str) -> str:
    """Return what people call a group, a line, or a paint."""
    return results.short_label(name) if name in results.materials else line_name(name)


def _region_shares(probability: NDArray[np.float32], beside: Beside) -> dict[str, float]:
    answered = {name: mask & np.isfinite(probability) for name, mask in beside.regions.items()}
    return {
        name: float((probability[mask] > PRESENT_PROBABILITY).mean()) for name, mask in answered.items() if mask.any()
    }


def _spot(spot: SpotSpectrum, summary: Mapping[str, Any]) -> Picture:
    """Draw the spectrum of a spot over the mean spectrum, scaled to the same number of pixels."""
    axis, total, shape = EnergyAxis.through(summary.get("energy_kev")), summary.get("sum_counts"), summary.get("shape")
    mean = None
    if total is not None and shape and len(total) == spot.counts.size:
        mean = np.asarray(total, float) * spot.n_pixel / (shape[0] * shape[1])
    usable = axis if axis is not None and axis.n_channel == spot.counts.size else None
    labels = ("here", "as many average pixels")
    figure = plot.spectrum(usable, spot.counts, mean, spot.families, title=spot.title, labels=labels, height_in=3.0)
    named = listed([line_name(family) for family in spot.families], 20) or "no line"
    return picture(figure, f"Spectrum of {spot.title}; lines above three standard deviations: {named}.")


def _spectrum(results: Results, strong: list[Evidence]) -> Picture | None:
    summary, calibration = results.summary, results.calibration
    total = summary.get("sum_counts")
    if total is None:
        return None
    families = list(dict.fromkeys([*(line.family for line in strong), *calibration.get("found", [])]))
    axis, anode = EnergyAxis.through(summary.get("energy_kev")), calibration.get("anode")
    figure = plot.spectrum(axis, np.asarray(total, float), summary.get("max_counts"), families, anode=anode)
    named = listed([line_name(family) for family in families], 30) or "no line"
    return picture(figure, f"Sum and maximum spectrum on a logarithmic axis; labelled lines: {named}.")


def _overview(results: Results, families: list[str]) -> Picture | None:
    """Draw element maps as red, green and blue."""
    if not families:
        return None
    parts = [(line_name(name), results[name], float(np.nanpercentile(results[name], 99)) or 1.0) for name in families]
    figure = composite_figure(parts, step_mm=results.step_mm)
    return picture(figure, f"Element maps as red, green and blue: {', '.join(part[0] for part in parts)}.")


def _paints(results: Results, families: list[str], photograph: str, *, full: bool) -> dict[str, Any] | None:
    """The map of the paints and their legend; None without paints."""
    if not results.paints:
        return None
    assigned = sum(area.share for area in results.paints)
    rows = legend_rows(results, families, photograph)[: MOST_ROWS if full else MOST_IN_SHORT]
    words = f"Map of {len(results.paints)} paints; their numbers, pictures and groups are in the table below."
    return {
        "picture": picture(paint_map(results), words),
        "rows": rows,
        "rest": len(results.paints) - len(rows),
        "assigned": assigned,
        "layered": any(area.stratigraphy for area in results.paints),
    }


def _rows(results: Results, findings: list[Finding]) -> list[dict[str, Any]]:
    """One row of pictures per group found, and below it one per member."""
    drawn: set[str] = set()
    rows = []
    for finding in findings:
        members = []
        for member in finding.leanings:
            # A composite pigment belongs to two groups, and is drawn once.
            if member.name not in drawn and len(drawn) < MOST_MEMBER_ROWS:
                drawn.add(member.name)
                members.append(_row(results, member))
        rows.append(_row(results, finding) | {"members": members})
    return rows


def _row(results: Results, finding: Finding) -> dict[str, Any]:
    lines = listed([line_name(evidence.family) for evidence in finding.evidence]) or "no element"
    words = (
        f"{finding.label}: probability map, {lines} map, overlay, and scatter of probability against line area. "
        f"Probability is over one half on {percent(finding.share)} of the surface."
    )
    return {"finding": finding, "picture": picture(plot.pigment_row(results, finding.name), words)}


def _gallery(results: Results, strong: list[Evidence]) -> list[Picture]:
    pictures = []
    for names in _parts([line.family for line in strong], MOST_IN_PICTURE):
        words = "Element maps, net counts: " + ", ".join(line_name(name) for name in names) + "."
        pictures.append(picture(plot.element_gallery(results, names), words))
    if results.scatter_peaks:
        words = f"Maps of scatter, counts: {', '.join(results.scatter_peaks)}."
        gallery = plot.element_gallery(results, results.scatter_peaks, columns=len(results.scatter_peaks))
        pictures.append(picture(gallery, words))
    return pictures


def _quantities(results: Results, strong: list[Evidence]) -> dict[str, Any] | None:
    """Table of the elements' quantities, and maps of the elements whose lines stand out, in the order of the lines."""
    if not results.element_quantities:
        return None
    summaries = {name: summarise_quantity(name, results.estimate(name)) for name in results.element_quantities}
    family_of = dict(zip(summaries, results.settings_of("quantities").get("families", ()), strict=False))
    rank = {line.family: index for index, line in enumerate(strong)}
    ordered = sorted(summaries, key=lambda name: rank.get(family_of.get(name, ""), len(rank)))
    drawn = [name for name in ordered if family_of.get(name) in rank][:MOST_ELEMENTS]
    words = "Maps of {}, hatched where not determined: "
    label = results.quantity_label(ordered[0].partition(".")[0])
    return {
        "label": label,
        "rows": [(name.partition(".")[2], summaries[name]) for name in ordered],
        "unit": shown_unit(unit_of(ordered[0])),
        "notes": results.process_notes.get("quantities", ()),
        "pictures": [
            picture(quantity_gallery(results, part), words.format(label) + ", ".join(part) + ".")
            for part in _parts(drawn, MOST_IN_PICTURE)
        ],
    }


def _parts(names: list[str], most: int) -> list[list[str]]:
    return [names[first : first + most] for first in range(0, len(names), most)]


def _drawn(strong: list[Evidence], named: list[str], most: int) -> list[Evidence]:
    """Return the lines whose maps are drawn: those that the first pages name, and the most certain of the others."""
    others = [line for line in strong if line.family not in named]
    kept = {line.family for line in others[: max(most - len(set(named)), 0)]} | set(named)
    return [line for line in strong if line.family in kept][:most]


def _faint(results: Results, strong: list[Evidence]) -> list[str]:
    shown = {line.family for line in strong}
    return [line_name(name) for name in results.lines if name not in shown]


def _unlike(results: Results) -> dict[str, Any] | None:
    """Return how many pixels have an unassigned peak, its usual energies, and a map if they are frequent."""
    if "unlikeness" not in results.stacks:
        return None
    n_flagged = int(results.unlike.sum())
    energies = results.map("peak_kev")[results.unlike]
    words = f"Map of the strongest unassigned peak, in standard deviations; {n_flagged} pixels over 5."
    title = "unassigned peak (standard deviations)"
    return {
        "n": n_flagged,
        "remarkable": results.is_unlike,
        "share": results.unlike_share,
        "sigma": UNLIKE_SIGMA,
        "energies": _common_energies(energies),
        "picture": picture(plot.unlikeness_map(results, title=title), words) if results.is_unlike else None,
    }


def _common_energies(energy_kev: NDArray[np.float32]) -> list[str]:
    """Energies of leftover peaks, to 0.1 keV, the most frequent first."""
    values, counts = np.unique(np.round(energy_kev, 1), return_counts=True)
    order = np.argsort(-counts, kind="stable")[:_MOST_ENERGIES]
    return [f"{values[index]:.1f} keV" for index in order]


def _layers(results: Results, places: list[PlaceShares], *, full: bool) -> dict[str, Any] | None:
    """Return the groups by depth; None for a model without places."""
    if not knows_places(results):
        return None
    shown = [own.name for own in places if full and has_places(results, own.name)][:MOST_PLACE_ROWS]
    words = "Probability anywhere, at the surface and below it, of groups that were found."
    arrangements = find_arrangements(results)
    return {
        "places": places,
        "arrangements": arrangements,
        "rest": max(1.0 - sum(own.share for own in arrangements), 0.0) if places else 0.0,
        "orders": [
            {
                "pair": " and ".join(results.short_label(name) for name in (own.first, own.second)),
                "order": own,
                "answer": order_text(results, own),
            }
            for own in order_rows(results)[:MOST_ORDERS]
        ],
        "pictures": [
            picture(plot.place_gallery(results, part), words) for part in _parts(shown, _rows_of_places(results))
        ],
        "thickness": _thickness(results) if full else None,
        "thickness_of_paint": float(results.thickness_of_paint.mean()) if "quantity" in results.stacks else 0.0,
        "below_in_paint": share_below_in_paint(results),
        "sketch": _sketch(results, arrangements),
    }


def _rows_of_places(results: Results) -> int:
    """Return how many groups' rows fill half a printed page: of more in a picture all would be too small to read."""
    return max(int(_HALF_PAGE_IN / panel_height(results.shape, results.step_mm)), 1)


def _sketch(results: Results, arrangements: list[Arrangement]) -> Picture | None:
    """Draw the most widespread arrangements as sections."""
    if not arrangements:
        return None
    colors = {results.short_label(name): _color(name) for name in present_groups(results)}

    def colored(labels: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
        return tuple((label, colors.get(label, _NO_COLOR)) for label in labels)

    sections = [
        Section(
            f"{percent(arrangement.share)} of the area",
            thickness_text(arrangement.thickness).replace("about ", "").replace("thickness not determined", ""),
            colored(arrangement.surface),
            colored(arrangement.below),
            colored(arrangement.unplaced),
        )
        for arrangement in arrangements[:MOST_SECTIONS]
    ]
    words = (
        "Sketch of layers, not to scale: "
        + "; ".join(f"{percent(arrangement.share)}, {arrangement.text}" for arrangement in arrangements)
        + "."
    )
    return picture(stratigraphy_sketch(sections), words)


def _color(name: str) -> str:
    """Return the colour that stands for a group or pigment."""
    try:
        return library()[name].color if name in library() else library().group(name).color
    except SampleError:
        return _NO_COLOR


def _thickness(results: Results) -> Picture | None:
    if "quantity" not in results.stacks:
        return None
    title = "thickness of the uppermost layer of paint (µm) and its 90 % interval"
    return picture(plot.thickness_map(results, title=title), f"Maps of the {title}; hatched where not determined.")


def _prior(results: Results) -> str:
    """Return a text on the prior within the groups; "" without a stated prior."""
    prior = results.settings_of("pigments").get("member_prior")
    if not prior:
        return ""
    years = (
        ""
        if prior["years"] is None
        else f", in use in {prior['years'][0]} to {prior['years'][1]} or else hardly likely"
    )
    if prior["palette"]:
        return f"even weights for the {len(prior['palette'])} pigments of the palette{years}"
    return f"even weights for all pigments that the model knows{years}; a palette (--palette) states a better one"


def _judged(results: Results) -> list[str]:
    """Return the groups whose state at each pixel is known."""
    return [name for (name,) in results.stacks["state"].keys] if "state" in results.stacks else []


def _unseen(results: Results) -> list[tuple[str, float]]:
    """Return the groups that were not found and could be hidden below others, with the share of the area."""
    judged = _judged(results) if results.knows_hiding else []
    names = [name for name in judged if results.holds(name) and not is_present(results[name])]
    shares = [(results.short_label(name), results.state_shares(name)[CANNOT_EXCLUDE]) for name in names]
    return sorted(((label, share) for label, share in shares if share >= LEAST_ARRANGEMENT), key=lambda each: -each[1])


_STATE_COLUMNS = (PIGMENT, PRESENT, TRACE, NOT_DETECTED, CANNOT_EXCLUDE)
_OF_AMOUNTS = {PIGMENT, TRACE}
"""States that only a network with amounts gives."""


def _answers(results: Results, *, full: bool) -> dict[str, Any] | None:
    """Table and maps of the answer about each group."""
    names = _judged(results)
    if not names:
        return None
    cover_um = results.settings_of("detectability").get("burial", {}).get("cover_um", math.inf)
    shares = {name: results.state_shares(name) for name in names}
    columns = [state for state in _STATE_COLUMNS if results.amounts or state not in _OF_AMOUNTS]
    ordered = sorted(names, key=lambda name: shares[name][NOT_DETECTED])
    rows = [
        {
            "label": results.label(name),
            "shares": [shares[name][state] for state in columns],
            "limit": _limit(results, name),
            "threshold": results.settings_of("amounts").get("pigment_share", {}).get(name),
        }
        for name in ordered
    ]
    worth_maps = results.knows_hiding or bool(results.amounts)
    most = MOST_ELEMENTS if full else MOST_IN_PICTURE
    drawn = [name for name in ordered if worth_maps and shares[name][NOT_DETECTED] < 1][:most]
    words = "Maps of the answer about each group: pigment, present, trace, not detected, cannot be excluded."
    parts = _parts(drawn, MOST_IN_PICTURE)
    return {
        "states": [STATES[state] for state in columns],
        "rows": rows,
        "hiding": results.knows_hiding,
        "amounts": bool(results.amounts),
        "pictures": [picture(plot.detectability_gallery(results, part), words) for part in parts],
        "notes": results.process_notes.get("detectability", ()),
        "supposed": supposed_burial(results) or "as much of it as was supposed",
        "cover_um": cover_um,
        "deeper": _thicker_than(results, cover_um),
    }


def _limit(results: Results, name: str) -> float | None:
    """Return the median of the upper limits, %, where a group is not detected; None where that is not known."""
    if not results.knows_amount(name):
        return None
    limits = results.estimate(f"{AMOUNT}.{name}").high[results.map("state", name) == NOT_DETECTED]
    median = float(np.median(limits)) if limits.size else math.inf
    return median if median < MAX_INFORMATIVE_PERCENT else None


def _thicker_than(results: Results, thickness_um: float) -> float:
    """Return the share of the area whose uppermost layer is, by its median, thicker; 0 where that is not known."""
    if "quantity" not in results.stacks:
        return 0.0
    known = results.answered
    thick = results.is_determined(SURFACE_UM) & (results.map("quantity", SURFACE_UM) > thickness_um)
    return float((thick & known).sum() / max(known.sum(), 1))


def _notes(results: Results) -> list[str]:
    """Return the notes that no other section of the report has."""
    sections = (results.process_notes.get(process, ()) for process in ("detectability", "quantities"))
    elsewhere = {*_card(results)["limits"], *results.alerts, *(note for notes in sections for note in notes)}
    return [note for note in results.notes if note not in elsewhere]


def _flat(value: Any, name: str = "") -> list[tuple[str, str]]:
    """Nested settings as (name, text) pairs."""
    if isinstance(value, Mapping):
        return [pair for key, part in value.items() for pair in _flat(part, f"{name}.{key}" if name else str(key))]
    if isinstance(value, list | tuple):
        return [(name, ", ".join(map(str, value)))] if value else []
    if value is None or value == "":
        return []
    return [(name, f"{value:.6g}" if isinstance(value, float) else str(value))]


def _card(results: Results) -> dict[str, Any]:
    """Model card as far as a reader needs it."""
    card = results.model_card
    return {
        "name": " ".join(str(card.get(key, "")) for key in ("name", "version")).strip(),
        "figures": _flat({part: _plain(limit) for part, limit in dict(card.get("figures", {})).items()})[:LIST_LIMIT],
        "limits": [str(limit) for limit in card.get("limits", [])],
        "training": _flat({k: v for k, v in dict(card.get("training", {})).items() if k != "config"}),
    }


def _plain(figures: Any) -> Any:
    """Omit tables by name, which have hundreds of figures."""
    if not isinstance(figures, Mapping):
        return figures
    return {key: figure for key, figure in figures.items() if not isinstance(figure, Mapping)}


def _low_counts(summary: Mapping[str, Any]) -> float:
    counts = summary.get("pixel_counts")
    return 0.0 if counts is None else low_count_share(np.asarray(counts, float))


def picture(figure: Any, words: str) -> Picture:
    """Return a figure as a picture to embed."""
    return Picture(data_url(plot.to_png(figure, _DPI), "png"), words)
