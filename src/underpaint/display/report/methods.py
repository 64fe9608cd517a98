"""Methods paragraph for a paper, data versions, and citation."""

import hashlib
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from underpaint._version import __version__
from underpaint.data.maps import PRESENT_PROBABILITY, Results
from underpaint.display.report.layers import knows_places
from underpaint.display.report.title import instrument_text as described_instrument
from underpaint.display.report.wording import CERTAIN, MEANINGS, thousands
from underpaint.physics.materials import library

AUTHORS, TITLE = "The underpaint authors", "underpaint"
PAPER = (
    "B. J. Xu, Y. Wu, P. Hao, M. Vermeulen and others, Can deep learning assist automatic identification of layered "
    "pigments from XRF data? Journal of Analytical Atomic Spectrometry 37 (2022) 2672–2682, doi:10.1039/d2ja00246a."
)
"""Citation as in ``CITATION.cff``, which is not part of an installed package."""
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
    """Return the layers assumed for exclusion: "20 µm of it under 50 µm of paint"; "" if unknown."""
    burial = results.settings_of("detectability").get("burial", {})
    if not {"cover_um", "hidden_um"} <= set(burial):
        return ""
    return f"{burial['hidden_um']:g} µm of it under {burial['cover_um']:g} µm of paint"


def data_versions(results: Results) -> list[tuple[str, str]]:
    """Return the versions of the data on which results depend: model, pigment library, atomic data."""
    model_card = results.model_card
    model = " ".join(str(model_card[key]) for key in ("name", "version") if model_card.get(key))
    spectra = model_card.get("training", {}).get("n_spectra")
    training_text = f", trained on {thousands(spectra)} simulated spectra" if isinstance(spectra, int) else ""
    versions = results.summary.get("versions", {})
    xraylib = versions.get("xraylib")
    version_rows = [
        ("Model", f"{model}{training_text}" if model else ""),
        (
            "Pigment library",
            f"{len(library())} pigments in {len(library().groups)} groups, sha256 {library_hash()[:12]}",
        ),
        ("Atomic data", f"xraylib {xraylib}" if xraylib else ""),
        ("Versions", ", ".join(f"{name} {version}" for name, version in versions.items())),
    ]
    return [(name, text) for name, text in version_rows if text]


def library_hash() -> str:
    """Return the SHA-256 of the pigment tables of this version, in hexadecimal."""
    digest = hashlib.sha256()
    for path in sorted((files("underpaint.physics.materials") / "data").iterdir(), key=lambda path: path.name):
        if path.name.endswith(".toml"):
            digest.update(path.read_bytes().replace(b"\r\n", b"\n"))
    return digest.hexdigest()


def _scan_text(summary: Mapping[str, Any]) -> str:
    shape, step = summary.get("shape"), summary.get("step_mm")
    size_text = f" of {shape[0]} × {shape[1]} pixels" if shape else ""
    step_text = f" ({step[0]:g} × {step[1]:g} mm each)" if step else ""
    mean_counts = summary.get("mean_pixel_counts")
    counts_text = f", {thousands(mean_counts)} counts a pixel on average," if mean_counts is not None else ""
    instrument = described_instrument(summary.get("settings", {}))
    instrument_text = "" if instrument.startswith("not given") else f" recorded with {instrument}"
    scan_text = f"The X-ray fluorescence scan{size_text}{step_text}{instrument_text}{counts_text}"
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
