"""Layered paints by an independent Monte Carlo simulator, scored sample by sample."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from underpaint.data import EnergyAxis
from underpaint.errors import ScanError
from underpaint.lab.evaluation.answering import Spectra
from underpaint.lab.evaluation.groups import summarise
from underpaint.lab.evaluation.simulated import Answer
from underpaint.physics.forward import count, counts_needed
from underpaint.physics.instrument import Detector, Geometry, Instrument, Tube
from underpaint.physics.materials import Layer, PigmentGroup, Stratigraphy, library
from underpaint.simulate.labels import MODEL_ERROR

Numbers = NDArray[np.float64]
FILES = ("mc_panels.json", "mc_panels.npz")
THRESHOLD = 0.5
CHANNEL_FLOOR_KEV = 0.005
"""Photons are put into the channel below their energy: half a channel low on average."""


@dataclass(frozen=True)
class Panels:
    """Monte Carlo spectra of known layers.

    Parameters
    ----------
    names : tuple of str
    expected : (n, n_channel) array
        Noise-free counts on ``axis``.
    axis : EnergyAxis
    instrument : Instrument
        As simulated.
    elements : tuple of frozenset of str
        All elements of each sample's layers.
    pigments : tuple of frozenset of str
        Elements of its dry materials, the ground's included.
    lines : tuple of list of dict
        Counts of every line.
    layers : tuple of list of dict
        Layers from the surface: ``elements`` by mass, ``density`` (g/cm3), ``thickness_um``.
    """

    names: tuple[str, ...]
    expected: Numbers
    axis: EnergyAxis
    instrument: Instrument
    elements: tuple[frozenset[str], ...]
    pigments: tuple[frozenset[str], ...]
    lines: tuple[list[dict[str, Any]], ...]
    layers: tuple[list[dict[str, Any]], ...] = ()

    def labels(self, groups: Sequence[str]) -> NDArray[np.uint8]:
        """Return (n, n_group): a group is present where a material contains its element."""
        group_elements = [_group(name).element for name in groups]
        return np.asarray(
            [[element in present for element in group_elements] for present in self.pigments], dtype=np.uint8
        )

    def contained_elements(self, groups: Sequence[str]) -> NDArray[np.uint8]:
        """Return (n, n_group): any layer contains the group's element, from any material."""
        group_elements = [_group(name).element for name in groups]
        return np.asarray(
            [[element in present for element in group_elements] for present in self.elements], dtype=np.uint8
        )

    def counts_needed(self, groups: Sequence[str], model_error: float = 0.0) -> Numbers:
        """Return (n, n_group) counts of a spectrum from which a group's key lines are visible; infinite if never.

        ``model_error`` is the relative error of the counts under them.
        """
        rows = range(len(self.names))
        return np.asarray([[self._needed(row, name, model_error) for name in groups] for row in rows])

    def stratigraphies(self) -> tuple[Stratigraphy, ...]:
        """Return the layers of every sample; all count as paint."""
        return tuple(
            Stratigraphy(tuple(map(_layer, layers)), name) for name, layers in zip(self.names, self.layers, strict=True)
        )

    def _needed(self, row: int, group: str, model_error: float) -> float:
        families = _group(group).key_families
        lines = [line for line in self.lines[row] if f"{line['el']}_{line['line'][0]}" in families]
        if not lines:
            return float("inf")
        counts, energy = (np.asarray([line[key] for line in lines]) for key in ("counts", "energy_keV"))
        expected = self.expected[row : row + 1]
        detector = self.instrument.detector
        return float(counts_needed(counts[None], energy, expected, self.axis, detector, model_error=model_error)[0])

    def drawn(self, counts: float, draws: int, seed: int) -> Spectra:
        """Return each sample ``draws`` times in a row, counted: the sum is ``counts`` on average."""
        rng = np.random.default_rng((seed, round(counts)))
        scaled = self.expected * (counts / self.expected.sum(axis=1, keepdims=True))
        return Spectra.of_instrument(count(np.repeat(scaled, draws, axis=0), rng=rng), self.axis, self.instrument)


def read_panels(folder: str | Path) -> Panels:
    """Read ``mc_panels.json`` and ``mc_panels.npz``.

    Raises
    ------
    ScanError
        A file is missing or has other contents.
    """
    facts_path, arrays_path = (Path(folder) / name for name in FILES)
    try:
        facts = json.loads(facts_path.read_text("utf-8"))
        with np.load(arrays_path, allow_pickle=False) as arrays:
            spectra = np.asarray(arrays["conv"][:, -1], dtype=np.float64)
        return _panels(facts, spectra)
    except (OSError, ValueError, KeyError) as error:
        file_names = " and ".join(FILES)
        raise ScanError(
            f"Cannot read the Monte Carlo panels in {folder}: {error}. Give the folder that holds {file_names}."
        ) from error


def _panels(facts: dict[str, Any], spectra: Numbers) -> Panels:
    samples, tube, geometry, detector = (facts[name] for name in ("samples", "tube", "geometry", "detector"))
    return Panels(
        names=tuple(sample["name"] for sample in samples),
        expected=np.maximum(spectra, 0.0),
        axis=EnergyAxis(detector["gain_keV"], detector["zero_keV"] + CHANNEL_FLOOR_KEV, spectra.shape[1]),
        instrument=Instrument(
            name="Monte Carlo",
            tube=Tube(anode=tube["anode"], voltage_kv=tube["kV"]),
            geometry=Geometry(
                incidence_angle_deg=geometry["take_in_deg"],
                takeoff_angle_deg=geometry["take_off_deg"],
                scatter_angle_deg=geometry["scattering_angle_deg"],
                source_air_cm=0.0,
                detector_air_cm=detector["air_path_cm"],
            ),
            detector=Detector(noise_fwhm_kev=detector["noise_fwhm_keV"], fano=detector["fano"]),
        ),
        elements=tuple(
            frozenset(symbol for layer in sample["layers_from_surface"] for symbol in layer["elements"])
            for sample in samples
        ),
        pigments=tuple(_pigment_elements(sample, facts["materials"]) for sample in samples),
        lines=tuple(sample["lines"] for sample in samples),
        layers=tuple(sample["layers_from_surface"] for sample in samples),
    )


def _layer(facts: dict[str, Any]) -> Layer:
    """Return a layer of paint; its mass fractions are rounded in the file, its materials are none of the library."""
    total = sum(facts["elements"].values())
    fractions = {element: fraction / total for element, fraction in facts["elements"].items()}
    return Layer(fractions, facts["density"], facts["thickness_um"], pigments=facts["components"])


def _pigment_elements(sample: dict[str, Any], materials: dict[str, Any]) -> frozenset[str]:
    named = (name for layer in sample["layers_from_surface"] for name in layer["components"])
    return frozenset(symbol for name in named for symbol in materials[name]["formula"])


def panel_scores(
    panels: Panels, answer: Answer, groups: Sequence[str], counts: float, draws: int, seed: int, *, lines: bool = False
) -> Any:
    """Score the answers to several draws of every sample.

    A group is present where a dry material contains its element; with ``lines`` where any layer does, and visible with
    the model error of training.

    Returns
    -------
    dict
        As of :func:`~.groups.summarise` over all draws; ``samples``: by name the groups ``there``, those ``visible``,
        and by group in how many of the draws it was ``found``, ``missed`` although it shows,
        and ``claimed_without_its_element``; ``missed`` and ``claimed_without_its_element``: in how many draws of all.
    """
    labels = panels.contained_elements(groups) if lines else panels.labels(groups)
    visible = (labels == 1) & (panels.counts_needed(groups, MODEL_ERROR if lines else 0.0) <= counts)
    probability = np.nan_to_num(answer(panels.drawn(counts, draws, seed)), nan=0.0)
    claims = (probability > THRESHOLD).reshape(len(panels.names), draws, len(groups)).sum(axis=1)
    without = np.asarray([[_group(name).element not in elements for name in groups] for elements in panels.elements])
    samples = {
        name: {
            "there": _named(groups, labels[row] == 1),
            "visible": _named(groups, visible[row]),
            "found": _counts(groups, claims[row]),
            "missed": _counts(groups, np.where(visible[row], draws - claims[row], 0)),
            "claimed_without_its_element": _counts(groups, np.where(without[row], claims[row], 0)),
        }
        for row, name in enumerate(panels.names)
    }
    figures = summarise(probability, np.repeat(labels, draws, axis=0), np.repeat(visible, draws, axis=0), groups)
    return {
        **figures,
        "samples": samples,
        "draws": draws,
        "missed": int(np.where(visible, draws - claims, 0).sum()),
        "claimed_without_its_element": int(np.where(without, claims, 0).sum()),
    }


def _group(name: str) -> PigmentGroup:
    return library().group(name)


def _named(groups: Sequence[str], which: NDArray[np.bool_]) -> list[str]:
    return [name for name, is_named in zip(groups, which, strict=True) if is_named]


def _counts(groups: Sequence[str], how_often: NDArray[np.integer]) -> dict[str, int]:
    return {name: int(number) for name, number in zip(groups, how_often, strict=True) if number}
