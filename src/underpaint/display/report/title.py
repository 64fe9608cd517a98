"""Title block of the report (object, instrument, date), and entries on the scan for the methods section."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from underpaint.display.report.wording import date_text, thousands

_DESCRIPTIONS: dict[str, Callable[[Any], str]] = {
    "source_spectrum": lambda value: f"monochromatic beam of {value['energy_kev'][0]:g} keV",
    "tube.anode": lambda value: f"{value} anode",
    "tube.voltage_kv": lambda value: f"{value:g} kV",
}
_OBJECT_KEYS = ("object", "title", "sample", "painting", "artwork")


def title_facts(summary: Mapping[str, Any], subject: str = "") -> list[tuple[str, str]]:
    """Return the entries of the title block as (name, text); unknown entries are omitted.

    Parameters
    ----------
    summary : mapping
        Metadata of the scan, from :class:`underpaint.data.maps.Results`.
    subject : str
        The object, in the user's words; "" for the text in the scan's file.
    """
    shape, step_mm = summary.get("shape"), summary.get("step_mm")
    settings = summary.get("settings", {})
    entries = [
        ("Object", subject or _metadata_text(summary, _OBJECT_KEYS)),
        ("Scan", re.split(r"[\\/]", _scan_location(summary))[-1]),
        ("Date of the scan", scan_date(summary)),
        ("Size", "" if not shape else f"{shape[0]} rows × {shape[1]} columns, {shape[2]} channels"),
        ("Pixel step", "" if not step_mm else f"{step_mm[0]:g} × {step_mm[1]:g} mm"),
        ("Detector", str(summary.get("detector") or "")),
        ("Instrument", instrument_text(settings)),
    ]
    return [(name, text) for name, text in entries if text]


def record_facts(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return entries on the scan's file, format and counts as (name, text); unknown entries are omitted."""
    entries = [
        ("File", _scan_location(summary)),
        ("Format", str(summary.get("format", ""))),
        ("Instrument parameters used", _instrument_inputs_text(summary.get("settings", {}).get("instrument_told"))),
        ("Counts", _counts_text(summary)),
        ("Maps made", date_text(str(summary.get("written", "")))),
    ]
    return [(name, text) for name, text in entries if text]


def _scan_location(summary: Mapping[str, Any]) -> str:
    """Return the location of the scan."""
    return str(summary.get("settings", {}).get("source") or summary.get("source", ""))


def scan_date(summary: Mapping[str, Any]) -> str:
    """Return the date of the scan from its file; dates in 1970 are ignored, because they mean an unset clock."""
    metadata = summary.get("metadata", {})
    dates = [str(value) for key, value in metadata.items() if "date" in key.lower() or "start_time" in key.lower()]
    return date_text(next((value for value in dates if value and "1970" not in value), ""))


def instrument_text(settings: Mapping[str, Any]) -> str:
    """Return a text with the instrument's name, or with its values determined from the spectra."""
    instrument = settings.get("instrument_settings", {})
    tube = instrument.get("tube", {})
    if settings.get("instrument"):
        return f"{instrument.get('name', '')}: {tube.get('anode', '?')} anode, {tube.get('voltage_kv', '?')} kV"
    calibration = settings.get("calibration", {})
    known_values = calibration.get("known", {})
    # Values that are not known are assumptions and are omitted.
    texts = [
        f"{describe(known_values[path]['value'])} ({known_values[path]['origin']})"
        for path, describe in _DESCRIPTIONS.items()
        if path in known_values
    ]
    if not known_values and calibration.get("anode"):  # results of earlier versions
        texts = [f"{calibration['anode']} anode detected by its scattered lines"]
    return "; ".join(["not given", *texts])


def _metadata_text(summary: Mapping[str, Any], keys: tuple[str, ...]) -> str:
    metadata = {str(key).lower(): value for key, value in summary.get("metadata", {}).items()}
    return next(
        (str(metadata[key]) for key in keys if isinstance(metadata.get(key), str) and metadata[key].strip()), ""
    )


def _instrument_inputs_text(given_values: Mapping[str, Any] | None) -> str:
    """Return the instrument parameters that were given to the network; "" for a network without such inputs."""
    if given_values is None:
        return ""
    formats = {
        "anode": "{} anode",
        "voltage_kv": "{:.1f} kV",
        "incidence_deg": "incidence {:.0f}°",
        "takeoff_deg": "take-off {:.0f}°",
        "scatter_deg": "scattering angle {:.0f}°",
        "fwhm_kev": "{:.3f} keV FWHM at Mn Kα",
    }
    texts = [text.format(given_values[key]) for key, text in formats.items() if given_values.get(key) is not None]
    return ", ".join(texts) if texts else "none, neither given nor determined"


def _counts_text(summary: Mapping[str, Any]) -> str:
    total_counts, mean_counts = summary.get("total_counts"), summary.get("mean_pixel_counts")
    if total_counts is None or mean_counts is None:
        return ""
    n_missing, n_empty = summary.get("n_missing", 0), summary.get("n_empty", 0)
    missing_text = f"; {n_missing} pixels missing, {n_empty} empty" if n_missing or n_empty else ""
    return f"{thousands(total_counts)} in total, {thousands(mean_counts)} per pixel{missing_text}"
