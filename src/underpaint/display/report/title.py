"""Title block of the report (object, instrument, date), and further facts of the scan for its section on methods."""

import re
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
        ("Scan", re.split(r"[\\/]", _source(summary))[-1]),
        ("Date of the scan", scan_date(summary)),
        ("Size", "" if not shape else f"{shape[0]} rows × {shape[1]} columns, {shape[2]} channels"),
        ("Pixel step", "" if not step else f"{step[0]:g} × {step[1]:g} mm"),
        ("Detector", str(summary.get("detector") or "")),
        ("Instrument", machine(settings)),
    ]
    return [(name, text) for name, text in rows if text]


def record_facts(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return names and texts of what the scan and its processing are recorded by; unknown ones are left out."""
    rows = [
        ("File", _source(summary)),
        ("Format", str(summary.get("format", ""))),
        ("Instrument parameters used", _parameters(summary.get("settings", {}).get("instrument_told"))),
        ("Counts", _counts(summary)),
        ("Maps made", date_text(str(summary.get("written", "")))),
    ]
    return [(name, text) for name, text in rows if text]


def _source(summary: Mapping[str, Any]) -> str:
    """Return the location of the scan."""
    return str(summary.get("settings", {}).get("source") or summary.get("source", ""))


def scan_date(summary: Mapping[str, Any]) -> str:
    """Return the date of the scan in its file; dates in 1970 are ignored, because the clock was not set."""
    facts = summary.get("metadata", {})
    dates = [str(value) for key, value in facts.items() if "date" in key.lower() or "start_time" in key.lower()]
    return date_text(next((value for value in dates if value and "1970" not in value), ""))


def machine(settings: Mapping[str, Any]) -> str:
    """Return the name of the instrument, or its values as determined from the spectra."""
    instrument = settings.get("instrument_settings", {})
    tube = instrument.get("tube", {})
    if settings.get("instrument"):
        return f"{instrument.get('name', '')}: {tube.get('anode', '?')} anode, {tube.get('voltage_kv', '?')} kV"
    calibration = settings.get("calibration", {})
    known = calibration.get("known", {})
    # What is not among the known values is an assumption.
    texts = [f"{say(known[path]['value'])} ({known[path]['origin']})" for path, say in _KNOWN.items() if path in known]
    if not known and calibration.get("anode"):  # results of earlier versions
        texts = [f"{calibration['anode']} anode seen in the scattered lines"]
    return "; ".join(["not given", *texts])


def _of_file(summary: Mapping[str, Any], keys: tuple[str, ...]) -> str:
    facts = {str(key).lower(): value for key, value in summary.get("metadata", {}).items()}
    return next((str(facts[key]) for key in keys if isinstance(facts.get(key), str) and facts[key].strip()), "")


def _parameters(known: Mapping[str, Any] | None) -> str:
    """Return the instrument parameters that were given to the network; "" for a network without such inputs."""
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
    texts = [text.format(known[key]) for key, text in words.items() if known.get(key) is not None]
    return ", ".join(texts) if texts else "none: neither given nor found"


def _counts(summary: Mapping[str, Any]) -> str:
    total, mean = summary.get("total_counts"), summary.get("mean_pixel_counts")
    if total is None or mean is None:
        return ""
    missing, empty = summary.get("n_missing", 0), summary.get("n_empty", 0)
    gaps = f"; {missing} pixels missing, {empty} empty" if missing or empty else ""
    return f"{thousands(total)} in all, {thousands(mean)} a pixel{gaps}"
