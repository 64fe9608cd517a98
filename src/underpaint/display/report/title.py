"""Title block: what was scanned, with what, when, and by which versions it was read."""

from collections.abc import Callable, Mapping
from typing import Any

from underpaint.display.report.wording import date_text, thousands

_KNOWN: dict[str, Callable[[Any], str]] = {
    "source_spectrum": lambda value: f"monochromatic beam of {value['energy_kev'][0]:g} keV",
    "tube.anode": lambda value: f"{value} anode",
    "tube.voltage_kv": lambda value: f"{value:g} kV",
}
_OBJECT_KEYS = ("object", "title", "sample", "painting", "artwork")


def title_facts(summary: Mapping[str, Any], subject: str = "") -> list[tuple[str, str]]:
    """Return names and texts of the title block; unknown entries are omitted.

    Parameters
    ----------
    summary : mapping
        Metadata of the scan, from :class:`underpaint.data.maps.Results`.
    subject : str
        The object, in the user's words; "" for the text in the scan's file.
    """
    shape, step = summary.get("shape"), summary.get("step_mm")
    settings = summary.get("settings", {})
    rows = [
        ("Object", subject or _of_file(summary, _OBJECT_KEYS)),
        ("Scan", str(settings.get("source") or summary.get("source", ""))),
        ("Date of the scan", scan_date(summary)),
        ("Format", str(summary.get("format", ""))),
        ("Size", "" if not shape else f"{shape[0]} rows × {shape[1]} columns, {shape[2]} channels"),
        ("Pixel step", "" if not step else f"{step[0]:g} × {step[1]:g} mm"),
        ("Detector", str(summary.get("detector") or "")),
        ("Instrument", machine(settings)),
        ("Instrument parameters used", _told(settings.get("instrument_told"))),
        ("Counts", _counts(summary)),
        ("Maps made", date_text(str(summary.get("written", "")))),
    ]
    return [(name, text) for name, text in rows if text]


def scan_date(summary: Mapping[str, Any]) -> str:
    """Return the date of the scan in its file; dates in 1970 are ignored, because the clock was not set."""
    facts = summary.get("metadata", {})
    found = [str(own) for key, own in facts.items() if "date" in key.lower() or "start_time" in key.lower()]
    return date_text(next((own for own in found if own and "1970" not in own), ""))


def machine(settings: Mapping[str, Any]) -> str:
    """Return the name of the instrument, or its values as determined from the spectra."""
    own = settings.get("instrument_settings", {})
    tube = own.get("tube", {})
    if settings.get("instrument"):
        return f"{own.get('name', '')}: {tube.get('anode', '?')} anode, {tube.get('voltage_kv', '?')} kV"
    calibration = settings.get("calibration", {})
    known = calibration.get("known", {})
    # What is not among the known values is an assumption.
    texts = [f"{say(known[path]['value'])} ({known[path]['origin']})" for path, say in _KNOWN.items() if path in known]
    if not known and calibration.get("anode"):  # results of earlier versions
        texts = [f"{calibration['anode']} anode seen in the scattered lines"]
    return "; ".join(["not given", *texts])


def _of_file(summary: Mapping[str, Any], keys: tuple[str, ...]) -> str:
    facts = {str(key).lower(): own for key, own in summary.get("metadata", {}).items()}
    return next((str(facts[key]) for key in keys if isinstance(facts.get(key), str) and facts[key].strip()), "")


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
