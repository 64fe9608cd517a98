"""The page: findings and pictures put into the template."""

import base64
import gc
import math
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import jinja2
import numpy as np
from numpy.typing import NDArray

from underpaint import __version__
from underpaint.data import EnergyAxis, Scan
from underpaint.data.maps import (
    ABSENT,
    CANNOT_EXCLUDE,
    PLACED_PROBABILITY,
    PRESENT,
    PRESENT_PROBABILITY,
    SURFACE_UM,
    UNDECIDED,
    UNLIKE_SIGMA,
    DetectabilityMaps,
    ElementMaps,
    OpenSet,
    PigmentMaps,
    UnlikenessMap,
)
from underpaint.display import plot
from underpaint.display.plot.images import panel_height
from underpaint.display.plot.strata import MOST_SECTIONS, Section, stratigraphy_sketch
from underpaint.display.report.beside import Beside, look_beside
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
    found_groups,
    has_places,
    knows_places,
    order_rows,
    order_text,
    place_shares,
    thickness_text,
)
from underpaint.display.report.methods import (
    PAPER,
    citation,
    data_versions,
    made_by,
    methods_paragraph,
    supposed_burial,
)
from underpaint.display.report.pdf import print_pdf
from underpaint.display.report.pigment_table import pigment_table
from underpaint.display.report.spots import SpotSpectrum
from underpaint.display.report.title import title_facts
from underpaint.display.report.unexplained import explain_lines, line_text
from underpaint.display.report.wording import (
    LIST_LIMIT,
    MEANINGS,
    KeyFinding,
    before_bracket,
    capitalised,
    key_finding,
    line_name,
    listed,
    percent,
    thousands,
)
from underpaint.errors import OutputError, SampleError
from underpaint.io import read_detectability, read_maps, read_open_set, split_location
from underpaint.io._scan_files import belongs_to
from underpaint.io.results.sidecars import scan_place
from underpaint.physics.materials import library
from underpaint.runtime.files import whole_file

REPORT_FILE, PDF_FILE = "report.html", "report.pdf"
MOST_MEMBER_ROWS = 24
MOST_ELEMENTS = 28
MOST_IN_PICTURE = 12
"""Maps in a picture: printed pages that hold taller ones stay half empty before them."""
MOST_PLACE_ROWS = 16
MOST_ORDERS = 20
_DPI = 115
_NO_COLOR = "#808080"
_MOST_ENERGIES = 4
_HALF_PAGE_IN = 4.5
"""Height of a picture's maps of which two, reduced to the width of a printed page, fit on it with a heading."""


@dataclass(frozen=True)
class Picture:
    """An embedded picture with the words that stand for it."""

    source: str
    words: str


def write_report(
    folder: str | Path,
    path: str | Path | None = None,
    *,
    form: Literal["html", "pdf"] = "html",
    scan: Scan | str | None = None,
    subject: str = "",
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
    """
    place = Path(folder)
    target = place / (PDF_FILE if form == "pdf" else REPORT_FILE) if path is None else Path(path)
    pigments, elements, summary = read_maps(place, lazily=True)
    if path is not None:
        _refuse_to_replace(target, scan_place(place, summary))
        _refuse_to_replace(target, split_location(scan)[0] if isinstance(scan, str) else None)
    findings = [] if pigments is None else find_groups(pigments, elements)
    beside = look_beside(place, pigments, elements, findings, summary, scan=scan, subject=subject)
    # Figures are full of cycles; a search for them would go through all that was imported, again and again.
    gc.freeze()
    try:
        text = render_report(
            pigments,
            elements,
            summary,
            detectability=read_detectability(place, lazily=True),
            open_set=read_open_set(place),
            beside=beside,
            findings=findings,
        )
    finally:
        gc.unfreeze()
    if form == "pdf":
        print_pdf(text, target)
        return target
    with whole_file(target) as part:
        part.write_text(text, encoding="utf-8")
    return target


def _refuse_to_replace(target: Path, scan: Path | None) -> None:
    """Refuse to write a report over the scan that it tells of, wherever that is."""
    if scan is not None and belongs_to(target, scan):
        raise OutputError(
            f"Cannot write {target}: it is part of the scan {scan}, which stays as it is. Give another name."
        )


def render_report(
    pigments: PigmentMaps | None,
    elements: ElementMaps | None,
    summary: Mapping[str, Any],
    *,
    detectability: DetectabilityMaps | None = None,
    open_set: OpenSet | None = None,
    beside: Beside | None = None,
    findings: list[Finding] | None = None,
) -> str:
    """Return the report as one HTML page.

    Parameters
    ----------
    pigments, elements : PigmentMaps, ElementMaps or None
        What was concluded; what is None is left out.
    summary : mapping
        As :func:`underpaint.io.read_maps` returns it.
    detectability : DetectabilityMaps or None
        What cannot be excluded.
    open_set : OpenSet or None
        What nothing explains; None: its lines are looked for in the maps.
    beside : Beside or None
        The photograph, regions, and spectra of spots.
    findings : list of Finding or None
        Those of the maps, if they are known already; None: they are looked for.
    """
    beside = beside or Beside()
    if findings is None:
        findings = [] if pigments is None else find_groups(pigments, elements)
    places = [] if pigments is None else place_shares(pigments)
    strong = [] if elements is None else element_evidence(elements)
    open_set = open_set or _open_set(pigments, elements, summary)
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters.update(
        {
            "percent": percent,
            "lines": line_name,
            "listed": listed,
            "thousands": thousands,
            "before_bracket": before_bracket,
            "thickness": thickness_text,
            "capitalised": capitalised,
        }
    )
    template = environment.from_string((files("underpaint.display.report") / "page.html.jinja").read_text("utf-8"))
    return template.render(
        title=str(summary.get("name") or "scan"),
        alerts=list(map(str, summary.get("settings", {}).get("alerts", []))),
        facts=title_facts(summary, beside.subject),
        photograph=beside.photograph,
        findings=findings,
        key_findings=_key_findings(pigments, findings, places, beside),
        meanings=MEANINGS,
        placed=f"{PLACED_PROBABILITY:g}",
        n_group=0 if pigments is None else len(pigments.select("group")) or len(pigments.names),
        absent=[] if pigments is None else absent_names(pigments),
        has_pigments=pigments is not None,
        has_elements=elements is not None,
        spectrum=_spectrum(summary, strong),
        spots=[_spot(own, summary) for own in beside.spots],
        without_spots=beside.without_spots,
        table=pigment_table(findings),
        rows=_rows(pigments, elements, findings),
        gallery=_gallery(elements, strong),
        faint=_faint(elements, strong),
        unexplained=[line_text(own) for own in open_set.lines],
        ordinary=open_set.ordinary,
        unlike=_unlike(open_set.unlikeness),
        layers=_layers(pigments, places),
        prior=_prior(pigments),
        hidden=_hidden(detectability, pigments),
        unseen=_unseen(pigments, detectability),
        notes=[*beside.damaged, *_notes(pigments, elements, summary)],
        settings=_settings(summary),
        card=_card(pigments),
        low_counts=_low_counts(summary),
        layer_limit=LAYER_LIMIT,
        methods=methods_paragraph(pigments, elements, summary, detectability),
        data=data_versions(pigments, summary),
        citation=citation(made_by(summary)),
        paper=PAPER,
        version=__version__,
    )


def _key_findings(
    pigments: PigmentMaps | None, findings: list[Finding], places: list[PlaceShares], beside: Beside
) -> list[KeyFinding]:
    """Say each finding in words, with the regions that hold it."""
    if pigments is None:
        return []
    return [key_finding(own, places, _region_shares(pigments[own.name], beside)) for own in findings]


def _region_shares(probability: NDArray[np.float32], beside: Beside) -> dict[str, float]:
    answered = {name: mask & np.isfinite(probability) for name, mask in beside.regions.items()}
    return {
        name: float((probability[mask] > PRESENT_PROBABILITY).mean()) for name, mask in answered.items() if mask.any()
    }


def _spot(own: SpotSpectrum, summary: Mapping[str, Any]) -> Picture:
    """Draw a spot's spectrum over the mean of all pixels, scaled to as many."""
    axis, total, shape = _axis(summary), summary.get("sum_counts"), summary.get("shape")
    mean = None
    if total is not None and shape and len(total) == own.counts.size:
        mean = np.asarray(total, float) * own.n_pixel / (shape[0] * shape[1])
    usable = axis if axis is not None and axis.n_channel == own.counts.size else None
    labels = ("here", "as many average pixels")
    figure = plot.spectrum(usable, own.counts, mean, own.families, title=own.title, labels=labels, height_in=3.0)
    named = listed([line_name(family) for family in own.families], 20) or "no line"
    return _picture(figure, f"Spectrum of {own.title}; lines above three standard deviations: {named}.")


def _spectrum(summary: Mapping[str, Any], strong: list[Evidence]) -> Picture | None:
    total = summary.get("sum_counts")
    if total is None:
        return None
    found = summary.get("settings", {}).get("calibration", {}).get("found", [])
    families = list(dict.fromkeys([*(own.family for own in strong), *found]))
    anode = summary.get("settings", {}).get("calibration", {}).get("anode")
    figure = plot.spectrum(_axis(summary), np.asarray(total, float), summary.get("max_counts"), families, anode=anode)
    named = listed([line_name(own) for own in families], 30) or "no line"
    return _picture(figure, f"Sum and maximum spectrum on a logarithmic axis; labelled lines: {named}.")


def _axis(summary: Mapping[str, Any]) -> EnergyAxis | None:
    energy = summary.get("energy_kev")
    if energy is None or len(energy) < 2:
        return None
    gain = float(energy[-1] - energy[0]) / (len(energy) - 1)
    return EnergyAxis(gain, float(energy[0]), len(energy))


def _rows(pigments: PigmentMaps | None, elements: ElementMaps | None, findings: list[Finding]) -> list[dict[str, Any]]:
    """One row of pictures per group found, and below it one per member."""
    if pigments is None:
        return []
    drawn: set[str] = set()
    rows = []
    for own in findings:
        members = []
        for member in own.leanings:
            # A composite pigment belongs to two groups, and is drawn once.
            if member.name not in drawn and len(drawn) < MOST_MEMBER_ROWS:
                drawn.add(member.name)
                members.append(_row(pigments, elements, member))
        rows.append(_row(pigments, elements, own) | {"members": members})
    return rows


def _row(pigments: PigmentMaps, elements: ElementMaps | None, own: Finding) -> dict[str, Any]:
    lines = listed([line_name(evidence.family) for evidence in own.evidence]) or "no element"
    words = (
        f"{own.label}: probability map, {lines} map, overlay, and scatter of probability against line area. "
        f"Probability is over one half on {percent(own.share)} of the surface."
    )
    return {"finding": own, "picture": _picture(plot.pigment_row(pigments, elements, own.name), words)}


def _gallery(elements: ElementMaps | None, strong: list[Evidence]) -> list[Picture]:
    if elements is None:
        return []
    pictures = []
    for names in _parts([own.family for own in strong][:MOST_ELEMENTS], MOST_IN_PICTURE):
        words = "Element maps, net counts: " + ", ".join(line_name(name) for name in names) + "."
        pictures.append(_picture(plot.element_gallery(elements, names), words))
    return pictures


def _parts(names: list[str], most: int) -> list[list[str]]:
    return [names[first : first + most] for first in range(0, len(names), most)]


def _faint(elements: ElementMaps | None, strong: list[Evidence]) -> list[str]:
    if elements is None:
        return []
    shown = {own.family for own in strong[:MOST_ELEMENTS]}
    return [line_name(name) for name in elements.names if name not in shown]


def _open_set(pigments: PigmentMaps | None, elements: ElementMaps | None, summary: Mapping[str, Any]) -> OpenSet:
    if pigments is None or elements is None:
        return OpenSet()
    return explain_lines(pigments, elements, anode=summary.get("settings", {}).get("calibration", {}).get("anode"))


def _unlike(own: UnlikenessMap | None) -> dict[str, Any] | None:
    """Share of the spectra that are unlike all that is known, where their peaks lie, and a map if there are any."""
    if own is None:
        return None
    n_flagged = int(own.flagged.sum())
    energies = own.energy_kev[own.flagged]
    words = f"Map of the strongest peak that nothing known explains, in standard deviations; {n_flagged} pixels over 5."
    title = "peak that nothing known explains (standard deviations)"
    return {
        "n": n_flagged,
        "remarkable": own.is_remarkable,
        "share": own.share,
        "sigma": UNLIKE_SIGMA,
        "energies": _common_energies(energies),
        "picture": _picture(plot.unlikeness_map(own, title=title), words) if own.is_remarkable else None,
    }


def _common_energies(energy_kev: NDArray[np.float32]) -> list[str]:
    """Energies of leftover peaks, to 0.1 keV, the most frequent first."""
    values, counts = np.unique(np.round(energy_kev, 1), return_counts=True)
    order = np.argsort(-counts, kind="stable")[:_MOST_ENERGIES]
    return [f"{values[index]:.1f} keV" for index in order]


def _layers(pigments: PigmentMaps | None, places: list[PlaceShares]) -> dict[str, Any] | None:
    """What lies at the surface and what below; None for a model that knows no places."""
    if pigments is None or not knows_places(pigments):
        return None
    shown = [own.name for own in places if has_places(pigments, own.name)][:MOST_PLACE_ROWS]
    words = "Probability anywhere, at the surface and below it, of groups that were found."
    told = find_arrangements(pigments)
    return {
        "places": places,
        "arrangements": told,
        "rest": max(1.0 - sum(own.share for own in told), 0.0) if places else 0.0,
        "orders": [
            {
                "pair": " and ".join(_plain_label(pigments, name) for name in (own.one, own.other)),
                "order": own,
                "answer": order_text(pigments, own),
            }
            for own in order_rows(pigments)[:MOST_ORDERS]
        ],
        "pictures": [
            _picture(plot.place_gallery(pigments, part), words) for part in _parts(shown, _rows_of_places(pigments))
        ],
        "thickness": _thickness(pigments),
        "sketch": _sketch(pigments, told),
    }


def _rows_of_places(pigments: PigmentMaps) -> int:
    """Return how many groups' rows fill half a printed page: of more in a picture all would be too small to read."""
    return max(int(_HALF_PAGE_IN / panel_height(pigments.probability.shape[:2], pigments.step_mm)), 1)


def _sketch(pigments: PigmentMaps, told: list[Arrangement]) -> Picture | None:
    """Draw the most widespread arrangements as sections."""
    if not told:
        return None
    colors = {_plain_label(pigments, name): _color(name) for name in found_groups(pigments)}

    def held(labels: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
        return tuple((label, colors.get(label, _NO_COLOR)) for label in labels)

    sections = [
        Section(
            f"{percent(own.share)} of the area",
            thickness_text(own.thickness).replace("about ", "").replace("thickness not determined", ""),
            held(own.surface),
            held(own.below),
            held(own.unplaced),
        )
        for own in told[:MOST_SECTIONS]
    ]
    words = "Sketch of layers, not to scale: " + "; ".join(f"{percent(own.share)}, {own.text}" for own in told) + "."
    return _picture(stratigraphy_sketch(sections), words)


def _color(name: str) -> str:
    """Return the colour that stands for a group or pigment."""
    try:
        return library()[name].color if name in library() else library().group(name).color
    except SampleError:
        return _NO_COLOR


def _thickness(pigments: PigmentMaps) -> Picture | None:
    if pigments.quantities is None:
        return None
    title = "thickness of the uppermost layer of paint (µm) and its 90 % interval"
    return _picture(plot.thickness_map(pigments, title=title), f"Maps of the {title}; hatched where not determined.")


def _plain_label(pigments: PigmentMaps, name: str) -> str:
    return before_bracket(pigments.labels[pigments.names.index(name)])


def _prior(pigments: PigmentMaps | None) -> str:
    """Say what the prior inside the groups rests on; empty where none was stated."""
    own = {} if pigments is None else pigments.settings.get("member_prior")
    if not own:
        return ""
    years = "" if own["years"] is None else f", in use in {own['years'][0]} to {own['years'][1]} or else hardly likely"
    if own["palette"]:
        return f"even weights for the {len(own['palette'])} pigments of the palette{years}"
    return f"even weights for all pigments that the model knows{years}; a palette (--palette) states a better one"


def _unseen(pigments: PigmentMaps | None, own: DetectabilityMaps | None) -> list[tuple[str, float]]:
    """Return the groups that were not found and could lie unseen under what was, and in how much of the area."""
    if pigments is None or own is None:
        return []
    names = [name for name in own.names if name in pigments.names and not is_present(pigments[name])]
    found = [(_plain_label(pigments, name), own.share(name, CANNOT_EXCLUDE)) for name in names]
    return sorted(((label, share) for label, share in found if share >= LEAST_ARRANGEMENT), key=lambda each: -each[1])


def _hidden(own: DetectabilityMaps | None, pigments: PigmentMaps | None) -> dict[str, Any] | None:
    """Table and maps of what is present, absent, undecided, or cannot be excluded."""
    if own is None:
        return None
    cover_um = own.settings.get("burial", {}).get("cover_um", math.inf)
    rows: list[dict[str, Any]] = [
        {
            "label": label,
            "present": own.share(name, PRESENT),
            "absent": own.share(name, ABSENT),
            "hidden": own.share(name, CANNOT_EXCLUDE),
            "undecided": own.share(name, UNDECIDED),
        }
        for name, label in zip(own.names, own.labels, strict=True)
    ]
    drawn = [name for name in own.names if own.share(name, ABSENT) < 1][:MOST_ELEMENTS]
    words = "Maps of where each group is present, absent, undecided, or cannot be excluded."
    parts = _parts(drawn, MOST_IN_PICTURE)
    return {
        "rows": sorted(rows, key=lambda row: -row["hidden"]),
        "pictures": [_picture(plot.detectability_gallery(own, part), words) for part in parts],
        "notes": own.notes,
        "supposed": supposed_burial(own) or "as much of it as was supposed",
        "cover_um": cover_um,
        "deeper": _thicker_than(pigments, cover_um),
    }


def _thicker_than(pigments: PigmentMaps | None, thickness_um: float) -> float:
    """Return the share of the area whose uppermost layer is, by its median, thicker; 0 where that is not known."""
    if pigments is None or pigments.quantities is None:
        return 0.0
    known = np.isfinite(pigments.probability[:, :, 0])
    thick = pigments.quantities.determined(SURFACE_UM) & (pigments.thickness_um()[0] > thickness_um)
    return float((thick & known).sum() / max(known.sum(), 1))


def _notes(pigments: PigmentMaps | None, elements: ElementMaps | None, summary: Mapping[str, Any]) -> list[str]:
    calibration = summary.get("settings", {}).get("calibration", {}).get("notes", [])
    limits = set(_card(pigments).get("limits", []))
    own = [
        *summary.get("notes", []),
        *calibration,
        *(elements.notes if elements else ()),
        *(pigments.notes if pigments else ()),
    ]
    return [note for note in dict.fromkeys(map(str, own)) if note not in limits]


def _settings(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    return _flat({key: value for key, value in summary.get("settings", {}).items() if key not in ("source", "alerts")})


def _flat(value: Any, name: str = "") -> list[tuple[str, str]]:
    """Nested settings as (name, text) pairs."""
    if isinstance(value, Mapping):
        return [pair for key, own in value.items() for pair in _flat(own, f"{name}.{key}" if name else str(key))]
    if isinstance(value, list | tuple):
        return [(name, ", ".join(map(str, value)))] if value else []
    if value is None or value == "":
        return []
    return [(name, f"{value:.6g}" if isinstance(value, float) else str(value))]


def _card(pigments: PigmentMaps | None) -> dict[str, Any]:
    """Model card as far as a reader needs it."""
    card = {} if pigments is None else pigments.settings.get("model", {})
    if not isinstance(card, Mapping):
        return {"name": str(card), "figures": [], "limits": [], "training": []}
    return {
        "name": " ".join(str(card.get(key, "")) for key in ("name", "version")).strip(),
        "figures": _flat({part: _plain(own) for part, own in dict(card.get("figures", {})).items()})[:LIST_LIMIT],
        "limits": [str(own) for own in card.get("limits", [])],
        "training": _flat({k: v for k, v in dict(card.get("training", {})).items() if k != "config"}),
    }


def _plain(figures: Any) -> Any:
    """Leave out what is told of each name: hundreds of figures."""
    if not isinstance(figures, Mapping):
        return figures
    return {key: own for key, own in figures.items() if not isinstance(own, Mapping)}


def _low_counts(summary: Mapping[str, Any]) -> float:
    counts = summary.get("pixel_counts")
    return 0.0 if counts is None else low_count_share(np.asarray(counts, float))


def _picture(figure: Any, words: str) -> Picture:
    encoded = base64.b64encode(plot.to_png(figure, _DPI)).decode("ascii")
    return Picture(f"data:image/png;base64,{encoded}", words)
