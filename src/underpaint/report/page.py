"""The page: findings and pictures put into the template."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from numpy.typing import NDArray

from underpaint import __version__, plot
from underpaint.files import whole_file
from underpaint.io import read_detectability, read_open_set, read_results
from underpaint.maps import (
    ABSENT,
    CANNOT_EXCLUDE,
    PRESENT,
    UNDECIDED,
    UNLIKE_SIGMA,
    DetectabilityMaps,
    ElementMaps,
    OpenSet,
    PigmentMaps,
    UnlikenessMap,
)
from underpaint.report.findings import (
    LAYER_LIMIT,
    Evidence,
    Finding,
    absent_names,
    element_evidence,
    find_groups,
    low_count_share,
)
from underpaint.report.layers import (
    find_arrangements,
    found_groups,
    knows_places,
    order_rows,
    order_text,
    place_shares,
    thickness_text,
)
from underpaint.report.unexplained import explain_lines, line_text
from underpaint.spectrum import EnergyAxis

REPORT_FILE = "report.html"
MOST_MEMBER_ROWS = 24
MOST_ELEMENTS = 28
MOST_PLACE_ROWS = 16
MOST_ORDERS = 20
_DPI = 115
_LIST_LIMIT = 12
_MOST_ENERGIES = 4


@dataclass(frozen=True)
class Picture:
    """An embedded picture with the words that stand for it."""

    source: str
    words: str


def write_report(folder: str | Path, path: str | Path | None = None) -> Path:
    """Write the report of a folder of results.

    Parameters
    ----------
    folder : str or Path
        As :func:`underpaint.io.write_results` made it.
    path : str or Path or None
        File to write; None: ``report.html`` in the folder.

    Returns
    -------
    Path
        The file; one page without scripts, with all its pictures inside.

    Raises
    ------
    ScanError
        The folder holds no results.
    OutputError
        The file cannot be written.
    """
    target = Path(folder) / REPORT_FILE if path is None else Path(path)
    text = render_report(
        *read_results(folder), detectability=read_detectability(folder), open_set=read_open_set(folder)
    )
    with whole_file(target) as part:
        part.write_text(text, encoding="utf-8")
    return target


def render_report(
    pigments: PigmentMaps | None,
    elements: ElementMaps | None,
    summary: Mapping[str, Any],
    *,
    detectability: DetectabilityMaps | None = None,
    open_set: OpenSet | None = None,
) -> str:
    """Return the report as one HTML page.

    Parameters
    ----------
    pigments, elements : PigmentMaps, ElementMaps or None
        What was concluded; what is None is left out.
    summary : mapping
        As :func:`underpaint.io.read_results` returns it.
    detectability : DetectabilityMaps or None
        What cannot be excluded.
    open_set : OpenSet or None
        What nothing explains; None: its lines are looked for in the maps.
    """
    findings = [] if pigments is None else find_groups(pigments, elements)
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
    template = environment.from_string((files("underpaint.report") / "page.html.jinja").read_text("utf-8"))
    return template.render(
        title=str(summary.get("name") or "scan"),
        facts=_facts(summary),
        findings=findings,
        n_group=0 if pigments is None else len(pigments.select("group")) or len(pigments.names),
        absent=[] if pigments is None else absent_names(pigments),
        has_pigments=pigments is not None,
        has_elements=elements is not None,
        spectrum=_spectrum(summary, strong),
        rows=_rows(pigments, elements, findings),
        gallery=_gallery(elements, strong),
        faint=_faint(elements, strong),
        unexplained=[line_text(own) for own in open_set.lines],
        ordinary=open_set.ordinary,
        unlike=_unlike(open_set.unlikeness),
        layers=_layers(pigments),
        prior=_prior(pigments),
        hidden=_hidden(detectability),
        notes=_notes(pigments, elements, summary),
        settings=_settings(summary),
        card=_card(pigments),
        low_counts=_low_counts(summary),
        layer_limit=LAYER_LIMIT,
        version=__version__,
    )


def percent(share: float) -> str:
    """Write a share as a percentage that is as precise as it needs to be."""
    if share > 0.995 and share < 1:
        return "over 99 %"
    return f"{100 * share:.0f} %" if share >= 0.1 else f"{100 * share:.1f} %"


def line_name(family: str) -> str:
    """Write ``Hg_L`` as "Hg L"."""
    return plot.siegbahn(family)


def listed(names: list[str] | tuple[str, ...], limit: int = _LIST_LIMIT) -> str:
    """Write names in a row, and of very many only how many more there are."""
    shown = ", ".join(names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"


def capitalised(sentence: str) -> str:
    """Begin a sentence with a capital and leave the rest of it as it is."""
    return sentence[:1].upper() + sentence[1:]


def _facts(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Title block: what was scanned, and with what it was read."""
    shape, step = summary.get("shape"), summary.get("step_mm")
    settings = summary.get("settings", {})
    machine = settings.get("instrument_settings", {})
    rows = [
        ("Scan", str(settings.get("source") or summary.get("source", ""))),
        ("Date of the scan", _date(summary)),
        ("Format", str(summary.get("format", ""))),
        ("Size", "" if not shape else f"{shape[0]} rows × {shape[1]} columns, {shape[2]} channels"),
        ("Pixel step", "" if not step else f"{step[0]:g} × {step[1]:g} mm"),
        ("Detector", str(summary.get("detector") or "")),
        ("Instrument", _machine(settings, machine)),
        ("Told to the network", _told(summary.get("settings", {}).get("instrument_told"))),
        ("Counts", _counts(summary)),
        ("Report made", str(summary.get("written", ""))),
        ("Versions", ", ".join(f"{name} {own}" for name, own in summary.get("versions", {}).items())),
    ]
    return [(name, text) for name, text in rows if text]


def _date(summary: Mapping[str, Any]) -> str:
    """Date of the scan as its file says; a clock that was never set says 1970."""
    facts = summary.get("metadata", {})
    found = [str(own) for key, own in facts.items() if "date" in key.lower() or "start_time" in key.lower()]
    return next((own for own in found if own and "1970" not in own), "")


def _machine(settings: Mapping[str, Any], machine: Mapping[str, Any]) -> str:
    tube = machine.get("tube", {})
    if settings.get("instrument"):
        return f"{machine.get('name', '')}: {tube.get('anode', '?')} anode, {tube.get('voltage_kv', '?')} kV"
    anode = settings.get("calibration", {}).get("anode")
    # Nobody told the voltage, and the spectrum does not show it: what stands in the settings is an assumption.
    return f"not given; {anode} anode seen in the scattered lines" if anode else "not given"


def _told(known: Mapping[str, Any] | None) -> str:
    """What a network that asks for the instrument was told of it."""
    if known is None:
        return ""
    words = {
        "anode": "{} anode",
        "voltage_kv": "{:.1f} kV",
        "incidence_deg": "incidence {:.0f}°",
        "takeoff_deg": "take-off {:.0f}°",
        "scatter_deg": "scattering angle {:.0f}°",
        "fwhm_kev": "{:.3f} keV FWHM at Mn Kα",
    }
    told = [text.format(known[key]) for key, text in words.items() if known.get(key) is not None]
    return ", ".join(told) if told else "nothing: neither given nor found"


def _counts(summary: Mapping[str, Any]) -> str:
    total, mean = summary.get("total_counts"), summary.get("mean_pixel_counts")
    if total is None or mean is None:
        return ""
    missing, empty = summary.get("n_missing", 0), summary.get("n_empty", 0)
    gaps = f"; {missing} pixels missing, {empty} empty" if missing or empty else ""
    return f"{thousands(total)} in all, {thousands(mean)} a pixel{gaps}"


def thousands(value: float) -> str:
    """Write a number with narrow spaces between its thousands."""
    return f"{value:,.0f}".replace(",", "\u202f")


def before_bracket(label: str) -> str:
    """Leave out the examples that a group's label gives in brackets."""
    return label.partition(" (")[0]


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


def _gallery(elements: ElementMaps | None, strong: list[Evidence]) -> Picture | None:
    if elements is None or not strong:
        return None
    names = [own.family for own in strong][:MOST_ELEMENTS]
    words = "Element maps, net counts: " + ", ".join(line_name(name) for name in names) + "."
    return _picture(plot.element_gallery(elements, names), words)


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


def _layers(pigments: PigmentMaps | None) -> dict[str, Any] | None:
    """What lies at the surface and what below; None for a model that knows no places."""
    if pigments is None or not knows_places(pigments):
        return None
    places, names = place_shares(pigments), found_groups(pigments)
    shown = [own.name for own in places][:MOST_PLACE_ROWS]
    words = "Probability anywhere, at the surface and below it, of " + listed([own.label for own in places]) + "."
    told = find_arrangements(pigments)
    return {
        "places": places,
        "arrangements": told,
        "rest": max(1.0 - sum(own.share for own in told), 0.0) if names else 0.0,
        "orders": [
            {
                "pair": " and ".join(_plain_label(pigments, name) for name in (own.one, own.other)),
                "order": own,
                "answer": order_text(pigments, own),
            }
            for own in order_rows(pigments)[:MOST_ORDERS]
        ],
        "picture": _picture(plot.place_gallery(pigments, shown), words) if shown else None,
        "thickness": _thickness(pigments),
    }


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


def _hidden(own: DetectabilityMaps | None) -> dict[str, Any] | None:
    """Table and maps of what is present, absent, undecided, or cannot be excluded."""
    if own is None:
        return None
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
    picture = _picture(plot.detectability_gallery(own, drawn), words) if drawn else None
    return {"rows": sorted(rows, key=lambda row: -row["hidden"]), "picture": picture, "notes": own.notes}


def _notes(pigments: PigmentMaps | None, elements: ElementMaps | None, summary: Mapping[str, Any]) -> list[str]:
    calibration = summary.get("settings", {}).get("calibration", {}).get("notes", [])
    limits = set(_card(pigments).get("limits", []))
    own = [
        *calibration,
        *summary.get("notes", []),
        *(elements.notes if elements else ()),
        *(pigments.notes if pigments else ()),
    ]
    return [note for note in dict.fromkeys(map(str, own)) if note not in limits]


def _settings(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    return _flat({key: value for key, value in summary.get("settings", {}).items() if key != "source"})


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
        "figures": _flat(card.get("figures", {}))[:_LIST_LIMIT],
        "limits": [str(own) for own in card.get("limits", [])],
        "training": _flat({k: v for k, v in dict(card.get("training", {})).items() if k != "config"}),
    }


def _low_counts(summary: Mapping[str, Any]) -> float:
    counts = summary.get("pixel_counts")
    return 0.0 if counts is None else low_count_share(np.asarray(counts, float))


def _picture(figure: Any, words: str) -> Picture:
    encoded = base64.b64encode(plot.to_png(figure, _DPI)).decode("ascii")
    return Picture(f"data:image/png;base64,{encoded}", words)
