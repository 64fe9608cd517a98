"""A paragraph for a paper's methods, the data that results rest on, and what to cite."""

import hashlib
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from underpaint._version import __version__
from underpaint.data.maps import PRESENT_PROBABILITY, Results
from underpaint.display.report.layers import knows_places
from underpaint.display.report.title import machine
from underpaint.display.report.wording import CERTAIN, MEANINGS, thousands
from underpaint.physics.materials import library

AUTHORS, TITLE = "The underpaint authors", "underpaint"
PAPER = (
    "B. J. Xu, Y. Wu, P. Hao, M. Vermeulen and others, Can deep learning assist automatic identification of layered "
    "pigments from XRF data? Journal of Analytical Atomic Spectrometry 37 (2022) 2672–2682, doi:10.1039/d2ja00246a."
)
"""As in ``CITATION.cff``, which an installed package does not hold."""
_ENGINES = {
    "underpaint": "a linear fit of the line groups of the program's forward model",
    "fixed": "a linear fit of these line groups with one ratio of lines for the whole scan",
    "pymca": "PyMca's batch fit",
}


def citation(version: str = __version__) -> str:
    """Return what to cite for the program."""
    return f"{AUTHORS}, {TITLE}, version {version}."


def made_by(summary: Mapping[str, Any]) -> str:
    """Return the version that made the maps."""
    return str(summary.get("versions", {}).get("underpaint", __version__))


def methods_paragraph(results: Results) -> str:
    """Say how the maps were made, as a paper's methods section would.

    Parameters
    ----------
    results : Results
        As :func:`underpaint.io.read_results` returns them.
    """
    summary = results.summary
    sentences = [_scan(summary), _axis(results.calibration)]
    if results.has_elements:
        sentences.append(_fitted(results))
    if results.element_quantities:
        sentences.append(_quantified(results))
    if results.has_pigments:
        sentences += _requested(results)
    if "state" in results.stacks:
        sentences.append(
            "Where a group was not found, simulated spectra of the same counts with and without it tell whether "
            f"{supposed_burial(results) or 'it'} would have been seen."
        )
    return " ".join(own for own in sentences if own)


def supposed_burial(results: Results) -> str:
    """Say what absence is said of: "20 µm of it under 50 µm of paint"; "" where the results do not tell."""
    burial = results.settings_of("detectability").get("burial", {})
    if not {"cover_um", "hidden_um"} <= set(burial):
        return ""
    return f"{burial['hidden_um']:g} µm of it under {burial['cover_um']:g} µm of paint"


def data_versions(results: Results) -> list[tuple[str, str]]:
    """Return what the results rest on beside the program: model, tables of pigments, tables of atoms."""
    card = results.model_card
    model = " ".join(str(card[key]) for key in ("name", "version") if card.get(key))
    spectra = card.get("training", {}).get("n_spectra")
    trained = f", trained on {thousands(spectra)} simulated spectra" if isinstance(spectra, int) else ""
    versions = results.summary.get("versions", {})
    xraylib = versions.get("xraylib")
    rows = [
        ("Model", f"{model}{trained}" if model else ""),
        (
            "Pigment library",
            f"{len(library())} pigments in {len(library().groups)} groups, sha256 {library_hash()[:12]}",
        ),
        ("Atomic data", f"xraylib {xraylib}" if xraylib else ""),
        ("Versions", ", ".join(f"{name} {version}" for name, version in versions.items())),
    ]
    return [(name, text) for name, text in rows if text]


def library_hash() -> str:
    """Return the SHA-256 of this version's tables of pigments, in hexadecimal."""
    digest = hashlib.sha256()
    for table in sorted((files("underpaint.physics.materials") / "data").iterdir(), key=lambda own: own.name):
        if table.name.endswith(".toml"):
            digest.update(table.read_bytes().replace(b"\r\n", b"\n"))
    return digest.hexdigest()


def _scan(summary: Mapping[str, Any]) -> str:
    shape, step = summary.get("shape"), summary.get("step_mm")
    size = f" of {shape[0]} × {shape[1]} pixels" if shape else ""
    pitch = f" ({step[0]:g} × {step[1]:g} mm each)" if step else ""
    mean = summary.get("mean_pixel_counts")
    counts = f", {thousands(mean)} counts a pixel on average," if mean is not None else ""
    own = machine(summary.get("settings", {}))
    known = "" if own.startswith("not given") else f" recorded with {own}"
    return f"The X-ray fluorescence scan{size}{pitch}{known}{counts} was read by underpaint {made_by(summary)}."


def _axis(own: Mapping[str, Any]) -> str:
    if not own:
        return ""
    if own.get("source") == "given":
        return "The energy axis was given."
    residual = own.get("residual_ev")
    off = f", which it meets to {residual:.0f} eV" if isinstance(residual, int | float) else ""
    return f"The energy axis was found from the scan's own lines{off}."


def _fitted(results: Results) -> str:
    engine = str(results.settings_of("elements").get("engine") or results.settings.get("engine") or "underpaint")
    how = _ENGINES.get(engine, engine)
    return f"Net counts of {len(results.lines)} line families and their standard deviations come from {how}."


def _quantified(results: Results) -> str:
    label = results.quantity_label(results.element_quantities[0].partition(".")[0])
    return (
        f"The {label}, with 90 % intervals, comes from these counts by fundamental parameters: matrix, thickness and "
        "scale are drawn at random, and those draws weigh most with which the forward model gives all lines of the "
        "elements."
    )


def _requested(results: Results) -> list[str]:
    n_group = len(results.groups)
    asked = f"{n_group} elementary equivalence groups" if n_group else f"{len(results.pigments)} pigments"
    where = " anywhere in the paint, in its uppermost layer and below it" if knows_places(results) else ""
    card = results.model_card
    name = f" ({card['name']}, version {card.get('version', '?')})" if card.get("name") else ""
    sentences = [
        f"A neural network{name}, trained on simulated spectra of layered paint, gave for each pixel the "
        f"probability of {asked}{where}.",
        f"A group is called present where its probability exceeds {PRESENT_PROBABILITY:g}, and certain with a "
        f"{MEANINGS[CERTAIN]}.",
    ]
    if n_group:
        sentences.append(
            "Pigments within a group share its key element; those that hold the same elements were not told apart by "
            "the spectrum."
        )
    return sentences
