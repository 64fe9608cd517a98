"""Writing of fit configurations for PyMca (``.cfg``) from an instrument, line families and a sample."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from underpaint.data import EnergyAxis
from underpaint.errors import InstrumentError, SampleError
from underpaint.physics.atomic import atomic_number
from underpaint.physics.forward import source_spectrum
from underpaint.physics.instrument import AIR, AIR_DENSITY, Detector, Filter, Instrument, Tube
from underpaint.physics.instrument.pymca import (
    LONG_TAIL_FLAG,
    PYMCA_SHELLS,
    SHORT_TAIL_FLAG,
    UM_PER_CM,
    PymcaConfiguration,
    Untranslated,
    read_pymca,
)
from underpaint.physics.materials import Layer, mass_fractions
from underpaint.runtime.files import atomic_write

__all__ = ["PymcaConfiguration", "Untranslated", "read_pymca", "write_pymca"]

Sections = dict[str, dict[str, object]]

_DETECTOR_FILTER_NAMES = ("absorber", "kapton", "contact", "Filter 6", "Filter 7")
_MAX_BEAM_FILTERS = 10
"""Maximum number of beam filters, whose names in PyMca end in a single digit."""
_MIN_SCATTERED_FRACTION = 0.1
"""Minimum intensity, relative to the strongest line, of an anode line that is written with a scatter peak."""
_NON_ABSORBING_MATRIX: list[object] = ["C1", 1.0, 1e-6]
"""Matrix that is too thin to absorb X-rays. Without a matrix, PyMca ignores angles, beam filters and all but one
energy.
"""
_SIMPLE_FORMULA = re.compile(r"(?:[A-Z][a-z]?\d*)+")
_DEFAULT_FIT: dict[str, object] = {
    "linearfitflag": 0, "fitweight": 1, "fitfunction": 0, "continuum": 0, "stripflag": 1, "stripalgorithm": 1,
    "snipwidth": 30, "stripfilterwidth": 1, "stripwidth": 1, "stripiterations": 20000, "stripconstant": 1.0,
    "escapeflag": 1, "sumflag": 0, "scatterflag": 1, "use_limit": 1, "maxiter": 10, "deltachi": 0.001,
    "linpolorder": 5, "exppolorder": 6,
}  # fmt: skip
_DEFAULT_PEAK_SHAPE: dict[str, object] = {
    "st_arearatio": 0.05, "st_sloperatio": 0.5, "lt_arearatio": 0.02, "lt_sloperatio": 10.0,
    "step_heightratio": 0.0001, "eta_factor": 0.02, "fixedst_arearatio": 0, "fixedst_sloperatio": 0,
    "fixedlt_arearatio": 0, "fixedlt_sloperatio": 0, "fixedstep_heightratio": 0, "fixedeta_factor": 0,
    "deltast_arearatio": 0.03, "deltast_sloperatio": 0.49, "deltalt_arearatio": 0.015, "deltalt_sloperatio": 7.0,
    "deltastep_heightratio": 5e-05, "deltaeta_factor": 0.02,
}  # fmt: skip
_DEFAULT_CONCENTRATIONS: dict[str, object] = {
    "distance": 10.0, "area": 0.3, "flux": 1e10, "time": 1.0, "useattenuators": 1, "usematrix": 0,
    "usemultilayersecondary": 0, "reference": "Auto",
}  # fmt: skip
_IN_WEIGHTS_REASON = "it is contained only in the weights of the energies"
_NO_COUNTERPART = {
    "tube.line_factor": _IN_WEIGHTS_REASON,
    "optic": _IN_WEIGHTS_REASON,
    "source_spectrum.width_kev": "PyMca treats every energy as a line",
    "geometry.seen_air_cm": "PyMca does not model the scatter of air in view",
    "detector.shelf_fraction": "PyMca's step has a constant height, not a constant area",
    "detector.pulse_pair_us": "PyMca's sum peaks do not follow from the rate",
    "detector.dead_time_us": "PyMca does not model dead time",
}


def write_pymca(
    instrument: Instrument,
    axis: EnergyAxis,
    families: Sequence[str],
    path: str | Path,
    matrix: Sequence[Layer] = (),
) -> tuple[Untranslated, ...]:
    """Write a fit configuration for PyMca, atomically.

    Parameters
    ----------
    instrument : Instrument
        Only values that were set are written; all other settings are disabled. A tube is written twice: as PyMca's
        tube, and as the energies of the spectrum that leaves its window.
    axis : EnergyAxis
        Energy calibration. PyMca will fit the channels above 1 keV.
    families : sequence of str
        Line families to fit, e.g. ``Fe_K``, ``Pb_L``, or ``W_L3`` for a single subshell.
    path : str or Path
        The file to write.
    matrix : sequence of Layer
        Layers of the sample, from the surface down. If there are none, a film that absorbs nothing is written. PyMca's
        line ratios are then those of a thin sample.

    Returns
    -------
    tuple of Untranslated
        Settings of the instrument that a PyMca configuration cannot contain.

    Raises
    ------
    InstrumentError
        A line family is invalid, or the instrument has more filters than PyMca supports.
    OutputError
        The file cannot be written.
    """
    materials: Sections = {}
    named_layers = [(layer.name or f"Layer{index}", layer) for index, layer in enumerate(matrix)]
    for name, layer in named_layers:
        if not _is_formula(name):
            materials[name] = _material_section(layer.mass_fractions, name)
    layer_rows = [_attenuator_row(name, layer.density, layer.thickness_um) for name, layer in named_layers]
    hypermetflag, tail_settings = _tail_settings(instrument.detector)
    sections: Sections = {
        "attenuators": _attenuators_section(instrument, layer_rows, materials),
        "multilayer": {f"Layer{layer_index}": [1, *layer_row] for layer_index, layer_row in enumerate(layer_rows)}
        if len(layer_rows) > 1
        else {},
        "peaks": _peaks_section(families),
        "fit": {**_DEFAULT_FIT, "hypermetflag": hypermetflag, **_energies_section(instrument), **_channel_limits(axis)},
        "tube": _tube_section(instrument.tube) if _has_tube(instrument) else {},
        "detector": _detector_section(instrument.detector, axis),
        "peakshape": {**_DEFAULT_PEAK_SHAPE, **tail_settings},
        "concentrations": _DEFAULT_CONCENTRATIONS,
        "materials": {},
    }
    with atomic_write(path) as temporary_path:
        temporary_path.write_text(_configuration_text(sections, materials), "utf-8")
    return _without_counterpart(instrument)


def _has_tube(instrument: Instrument) -> bool:
    return instrument.source_spectrum is None and "tube" in instrument.model_fields_set


def _has_source(instrument: Instrument) -> bool:
    return instrument.source_spectrum is not None or _has_tube(instrument)


def _attenuators_section(
    instrument: Instrument, matrix: Sequence[list[object]], material_sections: Sections
) -> dict[str, object]:
    geometry, detector = instrument.geometry, instrument.detector
    geometry_fields, detector_fields = geometry.model_fields_set, detector.model_fields_set
    air_row: list[object] = ["Air", AIR_DENSITY]
    if {"source_air_cm", "detector_air_cm"} & geometry_fields:
        material_sections["Air"] = _material_section(AIR, "dry air")
    beam_filters = [_filter_row(filter_sheet, material_sections) for filter_sheet in instrument.filters]
    if "source_air_cm" in geometry_fields:
        beam_filters.append([*air_row, geometry.source_air_cm])
    if len(beam_filters) > _MAX_BEAM_FILTERS:
        raise InstrumentError(
            f"Cannot write {instrument.name!r} for PyMca: it has {len(beam_filters)} filters with the air before the "
            f"sample, PyMca supports {_MAX_BEAM_FILTERS}. Combine sheets of one material."
        )
    attenuator_rows: dict[str, object] = {
        f"BeamFilter{index}": [1, *filter_sheet, 1.0] for index, filter_sheet in enumerate(beam_filters)
    }
    filter_names = [*_DETECTOR_FILTER_NAMES, *(f"Filter {index}" for index in range(8, 8 + len(detector.filters)))]
    for name, filter_sheet in zip(filter_names, detector.filters, strict=False):
        attenuator_rows[name] = [1, *_filter_row(filter_sheet, material_sections), 1.0]
    if "detector_air_cm" in geometry_fields:
        attenuator_rows["atmosphere"] = [1, *air_row, geometry.detector_air_cm, 1.0]
    if "window" in detector_fields:
        attenuator_rows["window"] = [1, *_filter_row(detector.window, material_sections), 1.0]
    crystal_formula = f"{detector.material}1"
    if "dead_layer_um" in detector_fields:
        attenuator_rows["deadlayer"] = [
            1,
            *_attenuator_row(crystal_formula, detector.density, detector.dead_layer_um),
            1.0,
        ]
    is_detector_enabled = int(bool({"density", "thickness_um"} & detector_fields))
    attenuator_rows["Detector"] = [
        is_detector_enabled,
        *_attenuator_row(crystal_formula, detector.density, detector.thickness_um),
        1.0,
    ]
    beam_and_detector_angles = [geometry.incidence_angle_deg, geometry.takeoff_angle_deg]
    scattering_settings = [int(geometry.scatter_angle_deg is not None), geometry.scattering_angle_deg]
    matrix_row = [*matrix, _NON_ABSORBING_MATRIX][0] if len(matrix) < 2 else ["MULTILAYER", 0.0, 0.0]
    attenuator_rows["Matrix"] = [
        int(_has_source(instrument)),
        *matrix_row,
        *beam_and_detector_angles,
        *scattering_settings,
    ]
    return attenuator_rows


def _attenuator_row(material: str, density: float, thickness_um: float) -> list[object]:
    return [material, density, thickness_um / UM_PER_CM]


def _filter_row(filter_sheet: Filter, material_sections: Sections) -> list[object]:
    """Return the configuration's row for a filter.

    If PyMca cannot read the filter's formula, a material of this name is added to ``material_sections``.
    """
    if not _is_formula(filter_sheet.formula):
        material_sections[filter_sheet.formula] = _material_section(
            mass_fractions(filter_sheet.formula), filter_sheet.formula
        )
    return _attenuator_row(filter_sheet.formula, filter_sheet.density, filter_sheet.thickness_um)


def _is_formula(name: str) -> bool:
    """Return whether PyMca can read a formula. The formula may contain elements and integers, but no brackets."""
    if not _SIMPLE_FORMULA.fullmatch(name):
        return False
    try:
        return bool(mass_fractions(name))
    except SampleError:
        return False


def _material_section(element_fractions: Mapping[str, float], material_comment: str) -> dict[str, object]:
    return {
        "Comment": material_comment,
        "Density": 1.0,
        "Thickness": 1.0,
        "CompoundList": [f"{element}1" for element in element_fractions],
        "CompoundFraction": list(element_fractions.values()),
    }


def _peaks_section(families: Sequence[str]) -> dict[str, object]:
    shells_by_element: dict[str, list[str]] = {}
    for family in families:
        element, _, shell = family.partition("_")
        try:
            is_family = shell in PYMCA_SHELLS and atomic_number(element) > 0
        except SampleError:
            is_family = False
        if not is_family:
            raise InstrumentError(
                f"Cannot write the family {family!r} for PyMca: an element and one of the shells "
                f"{', '.join(PYMCA_SHELLS)} are needed. Write it like Fe_K or Pb_L3."
            )
        shells_by_element.setdefault(element, []).append(shell)
    return dict(shells_by_element)


def _energies_section(instrument: Instrument) -> dict[str, object]:
    """Return the settings of the source spectrum. A tube's spectrum is that behind its window, before all filters."""
    if not _has_source(instrument):
        return {"energy": None}
    geometry = instrument.geometry.model_copy(update={"source_air_cm": 0.0})
    energies, energy_weights, line_widths = source_spectrum(
        instrument.model_copy(update={"filters": (), "geometry": geometry})
    )
    energy_weights = energy_weights / energy_weights.sum()
    has_scatter = line_widths == 0
    if _has_tube(instrument):
        has_scatter &= energy_weights >= _MIN_SCATTERED_FRACTION * energy_weights[has_scatter].max(initial=0.0)
    return {
        "energy": energies.tolist(),
        "energyweight": energy_weights.tolist(),
        "energyflag": [1] * energies.size,
        "energyscatter": has_scatter.astype(int).tolist(),
    }


def _channel_limits(axis: EnergyAxis) -> dict[str, object]:
    first_channel = int(np.clip(np.ceil(axis.channel(1.0)), 0, axis.n_channel - 1))
    return {"xmin": first_channel, "xmax": axis.n_channel - 1}


def _tube_section(tube: Tube) -> dict[str, object]:
    target_settings = {} if tube.target_um is None else {"anodethickness": tube.target_um / UM_PER_CM}
    return {
        "anode": tube.anode,
        "voltage": tube.voltage_kv,
        "alphae": tube.electron_angle_deg,
        "alphax": tube.takeoff_angle_deg,
        "window": tube.window.formula,
        "windowdensity": tube.window.density,
        "windowthickness": tube.window.thickness_um / UM_PER_CM,
        "transmission": int(tube.target_um is not None),
        **target_settings,
        "filter1": "He",
        "filter1density": 0.000118,
        "filter1thickness": 0.0,
    }


def _detector_section(detector: Detector, axis: EnergyAxis) -> dict[str, object]:
    calibration_parameters = {
        "zero": axis.zero_kev,
        "gain": axis.gain_kev,
        "noise": detector.noise_fwhm_kev,
        "fano": detector.fano,
    }
    parameter_deltas = {"deltazero": 0.1, "deltagain": 0.001, "deltanoise": 0.05, "deltafano": 0.114, "deltasum": 1e-08}
    free_flags = {f"fixed{name}": 0 for name in calibration_parameters}
    return {
        "detele": detector.material,
        **calibration_parameters,
        **free_flags,
        "sum": 1e-08,
        "fixedsum": 1,
        **parameter_deltas,
        "nthreshold": 4,
    }


def _tail_settings(detector: Detector) -> tuple[int, dict[str, object]]:
    """Return ``hypermetflag`` and the settings of the enabled tails. Area ratios are relative to the Gaussian."""
    tail_kinds = (("st", "tail", SHORT_TAIL_FLAG), ("lt", "long_tail", LONG_TAIL_FLAG))
    enabled_tails = [tail for tail in tail_kinds if f"{tail[1]}_fraction" in detector.model_fields_set]
    gaussian_fraction = 1 - sum(getattr(detector, f"{tail_name}_fraction") for _, tail_name, _ in enabled_tails)
    hypermet_flag, peak_shape = 1, dict[str, object]()
    for tail_prefix, tail_name, tail_flag in enabled_tails:
        hypermet_flag += tail_flag
        peak_shape[f"{tail_prefix}_arearatio"] = getattr(detector, f"{tail_name}_fraction") / gaussian_fraction
        peak_shape[f"{tail_prefix}_sloperatio"] = getattr(detector, f"{tail_name}_width_kev")
        peak_shape |= {f"fixed{tail_prefix}_arearatio": 1, f"fixed{tail_prefix}_sloperatio": 1}
    return hypermet_flag, peak_shape


def _without_counterpart(instrument: Instrument) -> tuple[Untranslated, ...]:
    """Return the instrument's settings that a PyMca configuration cannot contain."""
    settings = instrument.model_dump(exclude_unset=True, exclude_none=True)
    untranslated = []
    for setting_path, missing_reason in _NO_COUNTERPART.items():
        section, _, setting_name = setting_path.partition(".")
        section_values = settings.get(section, {})
        if section in settings and (not setting_name or setting_name in section_values):
            untranslated.append(
                Untranslated(
                    setting_path, str(section_values[setting_name] if setting_name else section_values), missing_reason
                )
            )
    if (
        not _has_source(instrument)
        and {"incidence_angle_deg", "takeoff_angle_deg"} & settings.get("geometry", {}).keys()
    ):
        untranslated.append(
            Untranslated(
                "geometry", str(settings["geometry"]), "PyMca uses the angles only if the excitation energies are given"
            )
        )
    return tuple(untranslated)


def _configuration_text(sections: Sections, materials: Sections) -> str:
    material_sections = {
        f"materials.{entry_name.replace('.', '_|_')}": section_values
        for entry_name, section_values in materials.items()
    }
    text_lines = []
    for section, section_values in (sections | material_sections).items():
        text_lines += [
            f"[{section}]",
            *(f"{entry_name} = {_setting_text(entry_value)}" for entry_name, entry_value in section_values.items()),
            "",
        ]
    return "\n".join(text_lines)


def _setting_text(setting_value: object) -> str:
    if isinstance(setting_value, list):
        # without a trailing comma, PyMca reads a single value as a scalar, not as a list
        return ", ".join(map(str, setting_value)) + ("," if len(setting_value) == 1 else "")
    return str(setting_value).replace("%", "%%")
