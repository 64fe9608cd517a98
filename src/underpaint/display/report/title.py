"""Title block of the report, paragraph for the methods section of a paper, data versions, and citation."""

import hashlib
import re
from collections.abc import Callable, Mapping
from importlib.resources import files
from typing import Any

from underpaint._version import __version__
from underpaint.data.maps import PRESENT_PROBABILITY, Results
from underpaint.display.report.layers import knows_places
from underpaint.display.report.wording import CERTAIN, MEANINGS, date_text, thousands
from underpaint.physics.materials import library

AUTHORS, TITLE = "The underpaint authors", "underpaint"
PAPER = (
    "B. J. Xu, Y. Wu, P. Hao, M. Vermeulen and others, Can deep learning assist automatic identification of layered "
    "pigments from XRF data? Journal of Analytical Atomic Spectrometry 37 (2022) 2672–2682, doi:10.1039/d2ja00246a."
)
"""Citation from ``CITATION.cff``, a file that an installed package does not contain."""
_ENGINES = {
    "underpaint": "a linear fit of the line families of the program's forward model",
    "fixed": "a linear fit of these line families with one set of line ratios for the whole scan",
    "pymca": "PyMca's batch fit",
}


def citation(version: str = __version__) -> str:
    """Return the citation of the program."""
    return f"{AUTHORS}, {TITLE}, version {version}."


def version_of_maps(summary: Mapping[str, Any]) -> str:
    """Return the version of underpaint that computed the maps."""
    return str(summary.get("versions", {}).get("underpaint", __version__))


def methods_paragraph(results: Results) -> str:
    """Return a paragraph on the computation of the maps, for the methods section of a paper.

    Parameters
    ----------
    results : Results
        Results from :func:`underpaint.io.read_results`.
    """
    summary = results.summary
    sentences = [_scan_text(summary), _axis_text(results.calibration)]
    if results.has_elements:
        sentences.append(_element_fit_text(results))
    if results.element_quantities:
        sentences.append(_quantities_text(results))
    if results.has_pigments:
        sentences += _network_texts(results)
    if "state" in results.stacks:
        sentences.append(
            "Where a group was not detected, simulated spectra with the same counts determine whether "
            f"{assumed_layers_text(results) or 'the group'} would have been detected."
        )
    return " ".join(sentence for sentence in sentences if sentence)


def assumed_layers_text(results: Results) -> str:
    """Return the layers assumed when a group is excluded, such as "20 µm of it under 50 µm of paint"; "" if unknown."""
    assumed_layers = results.settings_of("detectability").get("burial", {})
    if not {"cover_um", "hidden_um"} <= set(assumed_layers):
        return ""
    return f"{assumed_layers['hidden_um']:g} µm of it under {assumed_layers['cover_um']:g} µm of paint"


def data_versions(results: Results) -> list[tuple[str, str]]:
    """Return the versions of the data on which results depend: model, pigment library, atomic data."""
    model_card = results.model_card
    model_name = " ".join(str(model_card[key]) for key in ("name", "version") if model_card.get(key))
    n_spectra = model_card.get("training", {}).get("n_spectra")
    training_text = f", trained on {thousands(n_spectra)} simulated spectra" if isinstance(n_spectra, int) else ""
    versions = results.summary.get("versions", {})
    xraylib_version = versions.get("xraylib")
    version_rows = [
        ("Model", f"{model_name}{training_text}" if model_name else ""),
        (
            "Pigment library",
            f"{len(library())} pigments in {len(library().groups)} groups, sha256 {library_hash()[:12]}",
        ),
        ("Atomic data", f"xraylib {xraylib_version}" if xraylib_version else ""),
        ("Versions", ", ".join(f"{name} {version}" for name, version in versions.items())),
    ]
    return [(name, text) for name, text in version_rows if text]


def library_hash() -> str:
    """Return the SHA-256 digest of this version's pigment tables, in hexadecimal."""
    digest = hashlib.sha256()
    for path in sorted((files("underpaint.physics.materials") / "data").iterdir(), key=lambda path: path.name):
        if path.name.endswith(".toml"):
            digest.update(path.read_bytes().replace(b"\r\n", b"\n"))
    return digest.hexdigest()


def _scan_text(summary: Mapping[str, Any]) -> str:
    shape, step_mm = summary.get("shape"), summary.get("step_mm")
    size_text = f" of {shape[0]} × {shape[1]} pixels" if shape else ""
    step_text = f" ({step_mm[0]:g} × {step_mm[1]:g} mm each)" if step_mm else ""
    mean_counts = summary.get("mean_pixel_counts")
    counts_text = f", {thousands(mean_counts)} counts a pixel on average," if mean_counts is not None else ""
    recorded_instrument = instrument_text(summary.get("settings", {}))
    recording_text = "" if recorded_instrument.startswith("not given") else f" recorded with {recorded_instrument}"
    scan_text = f"The X-ray fluorescence scan{size_text}{step_text}{recording_text}{counts_text}"
    return f"{scan_text} was read by underpaint {version_of_maps(summary)}."


def _axis_text(calibration: Mapping[str, Any]) -> str:
    if not calibration:
        return ""
    if calibration.get("source") == "given":
        return "The energy axis was given."
    residual = calibration.get("residual_ev")
    residual_text = f" with a residual of {residual:.0f} eV" if isinstance(residual, int | float) else ""
    return f"The energy axis was determined from the lines of the scan{residual_text}."


def _element_fit_text(results: Results) -> str:
    engine = str(results.settings_of("elements").get("engine") or results.settings.get("engine") or "underpaint")
    engine_text = _ENGINES.get(engine, engine)
    return f"Net counts of {len(results.lines)} line families and their standard deviations come from {engine_text}."


def _quantities_text(results: Results) -> str:
    label = results.quantity_label(results.element_quantities[0].partition(".")[0])
    return (
        f"The {label}, with 90 % intervals, comes from these counts by fundamental parameters: matrix, thickness and "
        "scale are drawn at random, and each draw is weighted by the agreement of the forward model with all measured "
        "lines."
    )


def _network_texts(results: Results) -> list[str]:
    n_group = len(results.groups)
    answer_text = f"{n_group} elementary equivalence groups" if n_group else f"{len(results.pigments)} pigments"
    place_text = " anywhere in the paint, in its uppermost layer and below" if knows_places(results) else ""
    model_card = results.model_card
    model_text = f" ({model_card['name']}, version {model_card.get('version', '?')})" if model_card.get("name") else ""
    sentences = [
        f"A neural network{model_text}, trained on simulated spectra of layered paint, gave for each pixel the "
        f"probability of {answer_text}{place_text}.",
        f"A group is called present where its probability exceeds {PRESENT_PROBABILITY:g}, and certain with a "
        f"{MEANINGS[CERTAIN]}.",
    ]
    if n_group:
        sentences.append(
            "Pigments within a group share its key element; the spectrum does not distinguish pigments with the "
            "same elements."
        )
    return sentences


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
        The object, in the user's words; "" selects the text in the scan's file.
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
    """Return the recorded location of the scan."""
    return str(summary.get("settings", {}).get("source") or summary.get("source", ""))


def scan_date(summary: Mapping[str, Any]) -> str:
    """Return the date of the scan from its file. Dates in 1970 are ignored, because they come from unset clocks."""
    metadata = summary.get("metadata", {})
    date_texts = [str(value) for key, value in metadata.items() if "date" in key.lower() or "start_time" in key.lower()]
    return date_text(next((value for value in date_texts if value and "1970" not in value), ""))


def instrument_text(settings: Mapping[str, Any]) -> str:
    """Return a text on the instrument: its name and tube, or else the values determined from the spectra."""
    instrument = settings.get("instrument_settings", {})
    tube = instrument.get("tube", {})
    if settings.get("instrument"):
        return f"{instrument.get('name', '')}: {tube.get('anode', '?')} anode, {tube.get('voltage_kv', '?')} kV"
    calibration = settings.get("calibration", {})
    known_values = calibration.get("known", {})
    # Values that ``known`` does not contain are assumptions, and are omitted.
    value_texts = [
        f"{describe(known_values[path]['value'])} ({known_values[path]['origin']})"
        for path, describe in _DESCRIPTIONS.items()
        if path in known_values
    ]
    if not known_values and calibration.get("anode"):  # results of earlier versions
        value_texts = [f"{calibration['anode']} anode detected by its scattered lines"]
    return "; ".join(["not given", *value_texts])


def _metadata_text(summary: Mapping[str, Any], keys: tuple[str, ...]) -> str:
    metadata = {str(key).lower(): value for key, value in summary.get("metadata", {}).items()}
    return next(
        (str(metadata[key]) for key in keys if isinstance(metadata.get(key), str) and metadata[key].strip()), ""
    )


def _instrument_inputs_text(given_values: Mapping[str, Any] | None) -> str:
    """Return a text on the instrument parameters given to the network; "" for a network that takes none."""
    if given_values is None:
        return ""
    text_formats = {
        "anode": "{} anode",
        "voltage_kv": "{:.1f} kV",
        "incidence_deg": "incidence {:.0f}°",
        "takeoff_deg": "take-off {:.0f}°",
        "scatter_deg": "scattering angle {:.0f}°",
        "fwhm_kev": "{:.3f} keV FWHM at Mn Kα",
    }
    value_texts = [
        text.format(given_values[key]) for key, text in text_formats.items() if given_values.get(key) is not None
    ]
    return ", ".join(value_texts) if value_texts else "none, neither given nor determined"


def _counts_text(summary: Mapping[str, Any]) -> str:
    total_counts, mean_counts = summary.get("total_counts"), summary.get("mean_pixel_counts")
    if total_counts is None or mean_counts is None:
        return ""
    n_missing, n_empty = summary.get("n_missing", 0), summary.get("n_empty", 0)
    missing_text = f"; {n_missing} pixels missing, {n_empty} empty" if n_missing or n_empty else ""
    return f"{thousands(total_counts)} in total, {thousands(mean_counts)} per pixel{missing_text}"
