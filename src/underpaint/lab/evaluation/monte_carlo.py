"""Evaluation on spectra of layered paints from an independent Monte Carlo code."""

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
from underpaint.lab.evaluation.groups import summarise_scores
from underpaint.lab.evaluation.simulated import AnswerFunction
from underpaint.physics.forward import count, counts_needed
from underpaint.physics.instrument import Detector, Geometry, Instrument, Tube
from underpaint.physics.materials import Layer, PigmentGroup, Stratigraphy, library
from underpaint.simulate.labels import MODEL_ERROR

Numbers = NDArray[np.float64]
FILE_NAMES = ("mc_panels.json", "mc_panels.npz")
CLAIM_PROBABILITY = 0.5
CHANNEL_FLOOR_KEV = 0.005
"""Half a channel width, in keV. The Monte Carlo code counts each photon in the channel below the photon's energy."""


@dataclass(frozen=True)
class Panels:
    """Monte Carlo spectra of samples with known layers.

    Parameters
    ----------
    names : tuple of str
        Names of the samples.
    expected_counts : (n, n_channel) array
        Noise-free counts in the channels of ``axis``.
    axis : EnergyAxis
    instrument : Instrument
        Instrument of the simulation.
    elements : tuple of frozenset of str
        Elements in the layers of each sample.
    pigment_elements : tuple of frozenset of str
        Elements in the dry materials of each sample, including the ground.
    lines : tuple of list of dict
        Emission lines of each sample and their counts.
    layers : tuple of list of dict
        Layers of each sample from the surface down: mass fractions of the ``elements``, ``density`` (g/cm3),
        ``thickness_um``.
    """

    names: tuple[str, ...]
    expected_counts: Numbers
    axis: EnergyAxis
    instrument: Instrument
    elements: tuple[frozenset[str], ...]
    pigment_elements: tuple[frozenset[str], ...]
    lines: tuple[list[dict[str, Any]], ...]
    layers: tuple[list[dict[str, Any]], ...] = ()

    def labels(self, groups: Sequence[str]) -> NDArray[np.uint8]:
        """Return (n, n_group) labels that are 1 if a dry material of the sample contains the group's element."""
        group_elements = [_library_group(name).element for name in groups]
        return np.asarray(
            [[element in elements for element in group_elements] for elements in self.pigment_elements], dtype=np.uint8
        )

    def element_labels(self, groups: Sequence[str]) -> NDArray[np.uint8]:
        """Return (n, n_group) labels that are 1 if any layer of the sample contains the group's element."""
        group_elements = [_library_group(name).element for name in groups]
        return np.asarray(
            [[element in elements for element in group_elements] for elements in self.elements], dtype=np.uint8
        )

    def counts_needed(self, groups: Sequence[str], model_error: float = 0.0) -> Numbers:
        """Return (n, n_group) total counts above which a group's key lines are visible. Missing lines give infinity.

        ``model_error`` is the relative error of the background under the lines.
        """
        sample_indices = range(len(self.names))
        return np.asarray(
            [
                [self._counts_needed(sample_index, name, model_error) for name in groups]
                for sample_index in sample_indices
            ]
        )

    def stratigraphies(self) -> tuple[Stratigraphy, ...]:
        """Return the stratigraphies of the samples. Every layer is a paint layer."""
        return tuple(
            Stratigraphy(tuple(map(_paint_layer, layers)), name)
            for name, layers in zip(self.names, self.layers, strict=True)
        )

    def _counts_needed(self, sample_index: int, group: str, model_error: float) -> float:
        families = _library_group(group).key_families
        group_lines = [line for line in self.lines[sample_index] if f"{line['el']}_{line['line'][0]}" in families]
        if not group_lines:
            return float("inf")
        line_counts, energy_kev = (
            np.asarray([line[field_name] for line in group_lines]) for field_name in ("counts", "energy_keV")
        )
        expected_counts = self.expected_counts[sample_index : sample_index + 1]
        detector = self.instrument.detector
        return float(
            counts_needed(line_counts[None], energy_kev, expected_counts, self.axis, detector, model_error=model_error)[
                0
            ]
        )

    def draw_spectra(self, counts: float, n_draw: int, seed: int) -> Spectra:
        """Draw ``n_draw`` spectra of each sample, in consecutive rows, with ``counts`` mean total counts."""
        rng = np.random.default_rng((seed, round(counts)))
        expected_counts = self.expected_counts * (counts / self.expected_counts.sum(axis=1, keepdims=True))
        return Spectra.from_instrument(
            count(np.repeat(expected_counts, n_draw, axis=0), rng=rng), self.axis, self.instrument
        )


def read_panels(folder: str | Path) -> Panels:
    """Read ``mc_panels.json`` and ``mc_panels.npz``.

    Raises
    ------
    ScanError
        A file is missing, or its contents are not those of Monte Carlo panels.
    """
    description_path, array_path = (Path(folder) / name for name in FILE_NAMES)
    try:
        panel_description = json.loads(description_path.read_text("utf-8"))
        with np.load(array_path, allow_pickle=False) as array_file:
            spectra = np.asarray(array_file["conv"][:, -1], dtype=np.float64)
        return _panels_from_description(panel_description, spectra)
    except (OSError, ValueError, KeyError) as error:
        file_names = " and ".join(FILE_NAMES)
        raise ScanError(
            f"Cannot read the Monte Carlo panels in {folder}: {error}. Give the folder that contains {file_names}."
        ) from error


def _panels_from_description(panel_description: dict[str, Any], spectra: Numbers) -> Panels:
    samples, tube, geometry, detector = (
        panel_description[name] for name in ("samples", "tube", "geometry", "detector")
    )
    return Panels(
        names=tuple(sample["name"] for sample in samples),
        expected_counts=np.maximum(spectra, 0.0),
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
            frozenset(element for layer in sample["layers_from_surface"] for element in layer["elements"])
            for sample in samples
        ),
        pigment_elements=tuple(_pigment_elements(sample, panel_description["materials"]) for sample in samples),
        lines=tuple(sample["lines"] for sample in samples),
        layers=tuple(sample["layers_from_surface"] for sample in samples),
    )


def _paint_layer(layer_description: dict[str, Any]) -> Layer:
    """Return a layer of paint. The rounded mass fractions in the file are normalised to a sum of one."""
    mass_fraction_sum = sum(layer_description["elements"].values())
    mass_fractions = {
        element: mass_fraction / mass_fraction_sum for element, mass_fraction in layer_description["elements"].items()
    }
    return Layer(
        mass_fractions,
        layer_description["density"],
        layer_description["thickness_um"],
        pigments=layer_description["components"],
    )


def _pigment_elements(sample: dict[str, Any], materials: dict[str, Any]) -> frozenset[str]:
    component_names = (name for layer in sample["layers_from_surface"] for name in layer["components"])
    return frozenset(element for name in component_names for element in materials[name]["formula"])


def panel_scores(
    panels: Panels,
    answer_function: AnswerFunction,
    groups: Sequence[str],
    counts: float,
    n_draw: int,
    seed: int,
    *,
    with_line_labels: bool = False,
) -> Any:
    """Score the answers for several draws of every sample.

    A group is present if a dry material of the sample contains the element of the group.
    With ``with_line_labels``, a group is present if any layer contains the element. With ``with_line_labels``,
    visibility also includes the model error of training.

    Returns
    -------
    dict
        Scores over all draws, as from :func:`~.groups.summarise_scores`, and ``samples`` with the results of each
        sample.
        ``there`` and ``visible`` list the groups that are present in the sample, and those that are visible.
        ``found``, ``missed`` and ``claimed_without_its_element`` are numbers of draws for each group.
        A group is missed if it is visible but not claimed.
        ``missed`` and ``claimed_without_its_element`` outside ``samples`` are sums over all samples and groups.
    """
    labels = panels.element_labels(groups) if with_line_labels else panels.labels(groups)
    is_visible = (labels == 1) & (panels.counts_needed(groups, MODEL_ERROR if with_line_labels else 0.0) <= counts)
    group_probability = np.nan_to_num(answer_function(panels.draw_spectra(counts, n_draw, seed)), nan=0.0)
    n_claims = (group_probability > CLAIM_PROBABILITY).reshape(len(panels.names), n_draw, len(groups)).sum(axis=1)
    lacks_element = np.asarray(
        [[_library_group(name).element not in elements for name in groups] for elements in panels.elements]
    )
    samples = {
        name: {
            "there": _selected_names(groups, labels[sample_index] == 1),
            "visible": _selected_names(groups, is_visible[sample_index]),
            "found": _numbers_by_group(groups, n_claims[sample_index]),
            "missed": _numbers_by_group(groups, np.where(is_visible[sample_index], n_draw - n_claims[sample_index], 0)),
            "claimed_without_its_element": _numbers_by_group(
                groups, np.where(lacks_element[sample_index], n_claims[sample_index], 0)
            ),
        }
        for sample_index, name in enumerate(panels.names)
    }
    scores = summarise_scores(
        group_probability, np.repeat(labels, n_draw, axis=0), np.repeat(is_visible, n_draw, axis=0), groups
    )
    return {
        **scores,
        "samples": samples,
        "draws": n_draw,
        "missed": int(np.where(is_visible, n_draw - n_claims, 0).sum()),
        "claimed_without_its_element": int(np.where(lacks_element, n_claims, 0).sum()),
    }


def _library_group(name: str) -> PigmentGroup:
    return library().group(name)


def _selected_names(groups: Sequence[str], is_selected: NDArray[np.bool_]) -> list[str]:
    return [name for name, is_name_selected in zip(groups, is_selected, strict=True) if is_name_selected]


def _numbers_by_group(groups: Sequence[str], counts: NDArray[np.integer]) -> dict[str, int]:
    return {name: int(claim_count) for name, claim_count in zip(groups, counts, strict=True) if claim_count}
