"""Predictions of a network for the spectra of a scan."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from underpaint._version import __version__
from underpaint.data import EnergyAxis, Scan, valid_spectra
from underpaint.data.maps import INTERVAL_PROBABILITY, Results, from_unbounded, material_of, split_place
from underpaint.data.rebin import apply_rebin, rebin_matrix
from underpaint.errors import CoverageError, ModelError
from underpaint.physics.atomic import family_lines
from underpaint.physics.materials import PIGMENT_SHARE, Palette, library
from underpaint.pigments.predict.model import OnnxModel, open_model
from underpaint.pigments.weights import ModelCard, load_card, shipped_models
from underpaint.runtime.blocks import map_blocks
from underpaint.simulate.instrument_inputs import InstrumentConditions

AMOUNT_OUTPUTS = ("amount", "amount_low", "amount_high", "amount_reached")
_MAX_PERCENT = 100.0
UPPER_PROBABILITY = 0.97
"""Quantile of the network's distribution that is used as the 95 % point of an amount. The network is overconfident for
hidden pigments. In Monte Carlo panels, the 95 % point exceeds the true amount of 79 to 89 % of the hidden pigments. The
97 % point exceeds the true amount of 91 to 96 %.
"""
_LOG_ODDS_BY_OUTPUT = {
    "amount": 0.0,
    "amount_low": float(np.log((0.5 + 0.5 * INTERVAL_PROBABILITY) / (0.5 - 0.5 * INTERVAL_PROBABILITY))),
    "amount_high": float(np.log((1.0 - UPPER_PROBABILITY) / UPPER_PROBABILITY)),
}
_MIN_LOG_ODDS_DIFFERENCE = 1e-6
ArraysByOutput = dict[str, NDArray[Any]]
"""(n_row, n_column, n) arrays, by the name of the network's output. Amounts have the names of :class:`Amounts`."""
_VOLTAGE_MARGIN_KV = 1.0
MAX_WITHHELD_PROBABILITY, MIN_PROVEN_PROBABILITY = 0.5, 0.99
"""Maximum probability of groups that the spectrum contradicts, and minimum probability of groups that the spectrum
proves."""
_CORRECTION_REASONS = {
    np.float32(MAX_WITHHELD_PROBABILITY): (
        "Predicted by the network, but withheld because no line of the group is detected apart from lines of the tube"
    ),
    np.float32(
        MIN_PROVEN_PROBABILITY
    ): "Not predicted by the network, but added because lines exceed ten standard deviations",
}
_BATCH_SPECTRA = 256
"""Number of spectra per batch, so that the intermediate values of the network (20 MB) fit the processor's cache."""


@dataclass(frozen=True)
class Amounts:
    """Amounts of elements to compute, and the minimum amount at which a group is a pigment and not a trace.

    Parameters
    ----------
    names : tuple of str
        Names of the groups, with places.
    amount_indices : (n_name,) int array
        Position of each group among the amounts that the network predicts.
    edges : (n_edge,) array
        Mass fractions for which the network predicts log-odds.
    thresholds : (n_name,) array
        Minimum mass fraction of each group's element at which the group is a pigment.
    """

    names: tuple[str, ...]
    amount_indices: NDArray[np.intp]
    edges: NDArray[np.float64]
    thresholds: NDArray[np.float64]

    def __call__(self, log_odds: NDArray[np.float32]) -> dict[str, NDArray[np.float16]]:
        """Return (n, n_name) arrays of amounts in mass per cent, and of the probability that the threshold is reached.

        The amounts are the median, the 5 % point and the 95 % point.

        Parameters
        ----------
        log_odds : (n, n_amount n_edge) array
            Log-odds that the mass fraction reaches each edge, decreasing from edge to edge.

        Notes
        -----
        Between edges, log-odds are interpolated linearly in the logarithm of the mass fraction. A 5 % point below the
        lowest edge becomes 0, so that the amount has only an upper limit. A 95 % point above the highest edge becomes
        100 %.
        """
        log_odds_by_edge = log_odds.reshape(len(log_odds), -1, self.edges.size)[:, self.amount_indices]
        amounts_by_output: dict[str, NDArray[np.floating]] = {
            name: self._amount_at(log_odds_by_edge, target_log_odds)
            for name, target_log_odds in _LOG_ODDS_BY_OUTPUT.items()
        }
        amounts_by_output["amount_low"][log_odds_by_edge[..., 0] < _LOG_ODDS_BY_OUTPUT["amount_low"]] = 0.0
        amounts_by_output["amount_high"][log_odds_by_edge[..., -1] > _LOG_ODDS_BY_OUTPUT["amount_high"]] = _MAX_PERCENT
        amounts_by_output["amount_reached"] = 1.0 / (1.0 + np.exp(-self._log_odds_at_threshold(log_odds_by_edge)))
        return {name: output_values.astype(np.float16) for name, output_values in amounts_by_output.items()}

    def empty_arrays(self, shape: Sequence[int]) -> dict[str, NDArray[np.float16]]:
        """Return (*shape, n_name) arrays of NaN ("no answer") for each output of amounts."""
        return {name: np.full((*shape, len(self.names)), np.nan, np.float16) for name in AMOUNT_OUTPUTS}

    def _amount_at(self, log_odds_by_edge: NDArray[np.float32], target_log_odds: float) -> NDArray[np.float32]:
        """Return the mass per cent at which the log-odds have a target value, limited to the range of the edges."""
        n_edges_above = (log_odds_by_edge > target_log_odds).sum(axis=-1)
        edge_index = np.clip(n_edges_above - 1, 0, self.edges.size - 2)[..., None]
        log_odds_below, log_odds_above = (
            np.take_along_axis(log_odds_by_edge, edge_index + edge_offset, axis=-1)[..., 0] for edge_offset in (0, 1)
        )
        edge_fraction = np.clip(
            (log_odds_below - target_log_odds) / np.maximum(log_odds_below - log_odds_above, _MIN_LOG_ODDS_DIFFERENCE),
            0.0,
            1.0,
        )
        log_edges = np.log(self.edges)
        log_fraction = log_edges[edge_index[..., 0]] + edge_fraction * np.diff(log_edges)[edge_index[..., 0]]
        return np.asarray(100.0 * np.exp(log_fraction), np.float32)

    def _log_odds_at_threshold(self, log_odds_by_edge: NDArray[np.float32]) -> NDArray[np.float32]:
        log_edges = np.log(self.edges)
        upper_edge_indices = np.clip(np.searchsorted(self.edges, self.thresholds), 1, self.edges.size - 1)
        edge_fraction = (np.log(self.thresholds) - log_edges[upper_edge_indices - 1]) / (
            log_edges[upper_edge_indices] - log_edges[upper_edge_indices - 1]
        )
        name_indices = np.arange(len(self.names))
        return np.asarray(
            (1.0 - edge_fraction) * log_odds_by_edge[:, name_indices, upper_edge_indices - 1]
            + edge_fraction * log_odds_by_edge[:, name_indices, upper_edge_indices],
            np.float32,
        )


@dataclass(frozen=True)
class _SelectedColumns:
    """Columns of the network's outputs that are used for names and for quantities."""

    name_columns: list[int]
    quantity_columns: list[int]


@dataclass(frozen=True)
class AnswerPlan:
    """Planned predictions of a network for spectra on an energy axis.

    Parameters
    ----------
    model : OnnxModel
    axis : EnergyAxis
        Energy axis of the spectra.
    conditions : InstrumentConditions
        Values for the network's instrument inputs.
    notes : tuple of str
        Notes on outputs that are omitted.
    settings : dict
        Settings for the results, as JSON values.
    amounts : Amounts or None
        Amounts to compute, or None for a network without amounts.
    """

    model: OnnxModel
    axis: EnergyAxis
    conditions: InstrumentConditions
    notes: tuple[str, ...]
    settings: dict[str, Any]
    selected_columns: _SelectedColumns
    amounts: Amounts | None = None

    @property
    def quantities(self) -> tuple[str, ...]:
        """Names of the quantities that are predicted in addition to probabilities."""
        return tuple(self.model.card.quantities[index] for index in self.selected_columns.quantity_columns)

    def empty_arrays(self, shape: tuple[int, int]) -> ArraysByOutput:
        """Return (n_row, n_column, n) arrays of NaN ("no answer") for each output."""
        arrays = {
            name: np.full((*shape, len(columns)), np.nan, np.float32)
            for name, columns in self._columns_by_output.items()
        }
        return arrays if self.amounts is None else arrays | self.amounts.empty_arrays(shape)

    def __call__(self, counts: NDArray[Any], present: NDArray[np.bool_] | None = None) -> ArraysByOutput:
        """Return the predictions for (n_row, n_column, n_channel) counts, in the format of :meth:`empty_arrays`."""
        arrays = self.empty_arrays((counts.shape[0], counts.shape[1]))
        is_usable = valid_spectra(counts) if present is None else present & valid_spectra(counts)
        recorded_kev = np.array([[self.axis.start_kev, self.axis.stop_kev]], dtype=np.float32)
        instrument_values = self.conditions.inputs(self.model.card.instrument_inputs)
        rows, columns_of_pixels = np.nonzero(is_usable)
        for batch_start in range(0, rows.size, _BATCH_SPECTRA):
            batch_pixels = (
                rows[batch_start : batch_start + _BATCH_SPECTRA],
                columns_of_pixels[batch_start : batch_start + _BATCH_SPECTRA],
            )
            outputs = _run_network(
                self.model, apply_rebin(counts[batch_pixels], self._rebin_matrix), recorded_kev, instrument_values
            )
            outputs_by_name = dict(zip(self.model.card.output_names, outputs, strict=True))
            for name, columns in self._columns_by_output.items():
                arrays[name][batch_pixels] = outputs_by_name[name][:, columns]
            if self.amounts is not None:
                for name, amount_values in self.amounts(outputs_by_name["amount"]).items():
                    arrays[name][batch_pixels] = amount_values
        return arrays

    def withhold(self, arrays: ArraysByOutput, groups: Sequence[str], needed_log_odds: NDArray[np.floating]) -> None:
        """Limit the probability of a group and its members to 0.5 where the group's log-odds are below those needed.

        ``needed_log_odds`` is an (n_row, n_column, n_group) array.
        """
        model_card = self.model.card
        groups_of_columns = [
            {split_place(name)[0] for name in model_card.groups[index]} for index in self.selected_columns.name_columns
        ]
        is_member_of_group = np.asarray(
            [[group in column_groups for column_groups in groups_of_columns] for group in groups]
        ).reshape(len(groups), -1)
        group_log_odds = np.full(needed_log_odds.shape, -np.inf, np.float32)
        known_indices, columns = self._columns_of_groups(groups)
        group_log_odds[..., known_indices] = arrays["log_odds"][..., columns]
        is_withheld = (group_log_odds < needed_log_odds) @ is_member_of_group
        for name, max_output_value in (("log_odds", 0.0), ("probability", MAX_WITHHELD_PROBABILITY)):
            np.minimum(arrays[name], max_output_value, out=arrays[name], where=is_withheld)

    def confirm(self, arrays: ArraysByOutput, groups: Sequence[str], is_proven: NDArray[np.bool_]) -> None:
        """Raise the probability of groups to 0.99 where the (n_row, n_column, n_group) mask ``is_proven`` is true."""
        known_indices, columns = self._columns_of_groups(groups)
        log_odds = float(np.log(MIN_PROVEN_PROBABILITY / (1.0 - MIN_PROVEN_PROBABILITY)))
        for name, min_output_value in (("log_odds", log_odds), ("probability", MIN_PROVEN_PROBABILITY)):
            predictions = arrays[name][..., columns]
            arrays[name][..., columns] = np.where(
                is_proven[..., known_indices] & (predictions < min_output_value),
                np.float32(min_output_value),
                predictions,
            )

    def _columns_of_groups(self, groups: Sequence[str]) -> tuple[list[int], list[int]]:
        """Return the indices of the groups that the network predicts, and the columns of these groups."""
        names = [self.model.card.names[index] for index in self.selected_columns.name_columns]
        known_indices = [index for index, group in enumerate(groups) if group in names]
        return known_indices, [names.index(groups[index]) for index in known_indices]

    def results(self, arrays: ArraysByOutput, *, step_mm: tuple[float, float] | None) -> Results:
        """Convert arrays of predictions, whose probabilities at places are first limited in place, to results."""
        self._limit_places(arrays)
        quantities = [arrays[name] for name in ("quantity", "sigma") if name in arrays]
        pigments = Results.of_pigments(
            **self.model.card.entries_of(self.selected_columns.name_columns),
            probability=arrays["probability"],
            log_odds=arrays["log_odds"],
            step_mm=step_mm,
            notes=(*self.notes, *self.model.card.limits),
            settings=self.settings,
            quantities=_quantity_maps(self.quantities, *quantities) if quantities else None,
        )
        if self.amounts is None:
            return pigments
        threshold_by_name = dict(zip(self.amounts.names, map(float, self.amounts.thresholds), strict=True))
        amount_arrays = [arrays[name] for name in AMOUNT_OUTPUTS]
        return pigments | Results.of_amounts(
            self.amounts.names, *amount_arrays, step_mm=step_mm, settings={"pigment_share": threshold_by_name}
        )

    def _limit_places(self, arrays: ArraysByOutput) -> None:
        """Limit the probability of a group at each place to that of the group anywhere."""
        names = [self.model.card.names[index] for index in self.selected_columns.name_columns]
        for column, name in enumerate(names):
            group = split_place(name)[0]
            if group != name and group in names:
                for predictions in (arrays["log_odds"], arrays["probability"]):
                    at_place = predictions[..., column]
                    np.minimum(at_place, predictions[..., names.index(group)], out=at_place)

    def add_notes(self, results: Results, checked_groups: Sequence[str] = ()) -> Results:
        """Return results with notes on pixels without an answer and on corrected probabilities."""
        n_row, n_column = results.shape
        n_unanswered_pixels, notes = int((~results.has_prediction).sum()), list(results.process_notes["pigments"])
        if n_unanswered_pixels:
            notes.append(
                f"{n_unanswered_pixels} of {n_row * n_column} pixels have no answer, because they have no spectrum or "
                "no counts."
            )
        for probability, reason in _CORRECTION_REASONS.items():
            n_corrected_pixels = {
                name: int((results[name] == probability).sum()) for name in checked_groups if results.holds(name)
            }
            label_texts = [
                f"{results.short_label(name)} ({n_pixel} pixel{'' if n_pixel == 1 else 's'})"
                for name, n_pixel in n_corrected_pixels.items()
                if n_pixel
            ]
            if label_texts:
                notes.append(f"{reason}: {', '.join(label_texts)}.")
        return replace(results, process_notes={**results.process_notes, "pigments": tuple(notes)})

    @cached_property
    def _rebin_matrix(self) -> csr_array:
        return rebin_matrix(self.axis, self.model.card.axis.edges_kev)

    @cached_property
    def _columns_by_output(self) -> dict[str, list[int]]:
        """Columns that are used from each output, without the output of amounts."""
        columns_by_output = {
            "quantity": self.selected_columns.quantity_columns,
            "sigma": self.selected_columns.quantity_columns,
        }
        names = (name for name in self.model.card.output_names if name != "amount")
        return {name: columns_by_output.get(name, self.selected_columns.name_columns) for name in names}


def plan_answers(
    axis: EnergyAxis,
    model: str | Path | OnnxModel = "default",
    palette: Palette | Sequence[str] | None = None,
    *,
    instrument: InstrumentConditions | None = None,
    threads: int | None = None,
) -> AnswerPlan:
    """Plan the predictions of a network for an energy axis, with the parameters and errors of :func:`identify`."""
    loaded_model = model if isinstance(model, OnnxModel) else open_model(model, threads=threads)
    check_coverage(axis, loaded_model.card)
    conditions = instrument or InstrumentConditions()
    selected_columns, notes = _selected_columns(loaded_model.card, palette)
    selected_columns, unexcited_notes = _omit_unexcited(loaded_model.card, selected_columns, conditions)
    settings, amounts = (
        _result_settings(loaded_model, axis, palette, conditions),
        _plan_amounts(loaded_model.card, selected_columns, palette),
    )
    return AnswerPlan(loaded_model, axis, conditions, (*notes, *unexcited_notes), settings, selected_columns, amounts)


def identify(
    scan: Scan,
    model: str | Path | OnnxModel = "default",
    palette: Palette | Sequence[str] | None = None,
    *,
    instrument: InstrumentConditions | None = None,
    threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Results:
    """Find the pigments in every pixel.

    Parameters
    ----------
    scan : Scan
        Scan with an energy axis, which is read block by block.
    model : str, Path or OnnxModel
        Name of an included model, path of an ``.onnx`` file, or an open model.
    palette : Palette, sequence of str, or None
        Names of possible pigments, or None for all pigments. Other pigments and groups without a possible pigment are
        omitted.
    instrument : InstrumentConditions or None
        Known values of the scanner, which are inputs of some networks and are stored in the settings of the results.
    threads : int or None
        Number of CPU threads of the network.
    progress : callable or None
        Called after every block with the number of completed rows and the total number.

    Returns
    -------
    Results
        Probabilities and log-odds. Some networks also predict thickness and shares of the groups at the surface. Values
        are NaN ("no answer") for missing pixels and for pixels without counts on the network's axis. Values are also
        NaN for pixels with counts that are negative or not finite.

    Raises
    ------
    CalibrationError
        The scan has no energy axis.
    CoverageError
        The scan does not cover the energy range of the model.
    ModelError
        The model cannot be opened, or predicts no pigment of the palette.
    """
    answer_plan = plan_answers(scan.require_axis(), model, palette, instrument=instrument, threads=threads)
    n_row, n_column, _ = scan.shape
    arrays = answer_plan.empty_arrays((n_row, n_column))
    for _, block_slices, block_arrays in map_blocks(scan, answer_plan, threads=1):
        for name, output_array in arrays.items():
            output_array[block_slices] = block_arrays[name]
        if progress is not None:
            progress(block_slices[0].stop, n_row)
    scan_summary = {"name": scan.name, "notes": list(scan.notes), "settings": {"source": scan.source}}
    return replace(answer_plan.add_notes(answer_plan.results(arrays, step_mm=scan.step_mm)), summary=scan_summary)


def check_coverage(axis: EnergyAxis, model_card: ModelCard) -> None:
    """Raise an error if a scan does not cover the energy range of a model.

    Raises
    ------
    CoverageError
        The scan does not cover the energy range. The message names both ranges and a suitable model.
    """
    if covers(axis, model_card):
        return
    start_kev, stop_kev = needed_range(model_card)
    raise CoverageError(
        f"Cannot map with model {model_card.name!r}: it needs {start_kev:.2f}-{stop_kev:.2f} keV, "
        f"the scan covers {axis.start_kev:.2f}-{axis.stop_kev:.2f} keV. {_coverage_advice(axis, model_card)}"
    )


def covers(axis: EnergyAxis, model_card: ModelCard) -> bool:
    """Return whether an energy axis covers the range of a model to within one bin at either end."""
    start_kev, stop_kev = needed_range(model_card)
    tolerance_kev = model_card.axis.bin_kev
    return axis.start_kev <= start_kev + tolerance_kev and axis.stop_kev >= stop_kev - tolerance_kev


def needed_range(model_card: ModelCard) -> tuple[float, float]:
    """Return the energy range that a scan has to cover for a model, in keV."""
    if model_card.needs_full_axis or model_card.narrowest_kev is None:
        return model_card.axis.start_kev, model_card.axis.stop_kev
    return model_card.narrowest_kev


def _coverage_advice(axis: EnergyAxis, model_card: ModelCard) -> str:
    for name in shipped_models():
        if name == model_card.name:
            continue
        start_kev, stop_kev = needed_range(load_card(name))
        if axis.start_kev <= start_kev and axis.stop_kev >= stop_kev:
            return f"Use model {name!r} (--model {name}), which needs {start_kev:.2f}-{stop_kev:.2f} keV."
    return "Check the energy calibration with `underpaint calibrate`, or train a model for this range."


def _selected_columns(
    model_card: ModelCard, palette: Palette | Sequence[str] | None
) -> tuple[_SelectedColumns, tuple[str, ...]]:
    """Return the columns of the pigments of a palette, and a note on pigments that the network does not predict."""
    if palette is None:
        return _SelectedColumns(
            list(range(len(model_card.names))), _quantity_columns(model_card, set(model_card.names))
        ), ()
    palette_names = set(palette.pigments if isinstance(palette, Palette) else palette)
    known_indices = [index for index, name in enumerate(model_card.names) if split_place(name)[0] in palette_names]
    unknown_names = sorted(palette_names.difference(model_card.names))
    if not known_indices:
        raise ModelError(
            f"Cannot map with model {model_card.name!r}: it knows none of the palette's pigments "
            f"({', '.join(unknown_names) or 'the palette is empty'}). It knows: {', '.join(model_card.names)}."
        )
    names = {model_card.names[index] for index in known_indices} | {
        group for index in known_indices for group in model_card.groups[index]
    }
    selected_indices = [index for index, name in enumerate(model_card.names) if name in names]
    unknown_note = f"Model {model_card.name!r} does not know these pigments of the palette: {', '.join(unknown_names)}."
    return _SelectedColumns(selected_indices, _quantity_columns(model_card, names)), (
        unknown_note,
    ) if unknown_names else ()


def _omit_unexcited(
    model_card: ModelCard, selected_columns: _SelectedColumns, conditions: InstrumentConditions
) -> tuple[_SelectedColumns, tuple[str, ...]]:
    """Return the columns of the names whose key lines the tube voltage excites, and a note on omitted names."""
    if conditions.voltage_kv is None:
        return selected_columns, ()
    max_energy_kev = conditions.voltage_kv + _VOLTAGE_MARGIN_KV

    def is_excited(family: str) -> bool:
        element, shell = family.split("_")
        return family_lines(element, shell, max_energy_kev)[0].size > 0

    unexcited_indices = [
        index
        for index in selected_columns.name_columns
        if model_card.elements[index] and not any(map(is_excited, model_card.elements[index]))
    ]
    if not unexcited_indices:
        return selected_columns, ()
    excited_indices = [index for index in selected_columns.name_columns if index not in unexcited_indices]
    group_indices = [
        index
        for index in unexcited_indices
        if model_card.kinds[index] == "group" and split_place(model_card.names[index])[1] == "anywhere"
    ]
    labels = ", ".join(model_card.labels[index] for index in group_indices or unexcited_indices)
    note = f"Not identifiable, because {conditions.voltage_kv:g} kV do not excite the lines: {labels}."
    return _SelectedColumns(
        excited_indices, _quantity_columns(model_card, {model_card.names[index] for index in excited_indices})
    ), (note,)


def _plan_amounts(
    model_card: ModelCard, selected_columns: _SelectedColumns, palette: Palette | Sequence[str] | None
) -> Amounts | None:
    """Return the amounts to compute for the selected groups, with the thresholds of the palette or of the library."""
    selected_names = {model_card.names[index] for index in selected_columns.name_columns}
    names = tuple(name for name in model_card.amounts if name in selected_names)
    if not names:
        return None
    pigment_shares = {group.name: group.pigment_share for group in library().groups}
    pigment_shares |= palette.pigment_share if isinstance(palette, Palette) else {}
    return Amounts(
        names,
        np.asarray([model_card.amounts.index(name) for name in names], np.intp),
        np.asarray(model_card.amount_edges, float),
        np.asarray([pigment_shares.get(split_place(name)[0], PIGMENT_SHARE) for name in names]),
    )


def _quantity_columns(model_card: ModelCard, names: set[str]) -> list[int]:
    """Return the columns of the thickness and of the groups' shares, but not those of the members' shares."""
    groups = {
        name for name, entry_kind in zip(model_card.names, model_card.kinds, strict=True) if entry_kind == "group"
    }
    answered_names = groups & names or names
    quantity_materials = [material_of(name) for name in model_card.quantities]
    return [
        index for index, material in enumerate(quantity_materials) if material is None or material in answered_names
    ]


def _quantity_maps(
    names: tuple[str, ...], quantity_values: NDArray[np.float32], quantity_sigmas: NDArray[np.float32]
) -> tuple[tuple[str, ...], NDArray[np.float32], NDArray[np.float32]]:
    for column, name in enumerate(names):
        quantity_values[:, :, column] = from_unbounded(name, quantity_values[:, :, column])
    return names, quantity_values, quantity_sigmas


def _result_settings(
    model: OnnxModel, axis: EnergyAxis, palette: Palette | Sequence[str] | None, conditions: InstrumentConditions
) -> dict[str, Any]:
    palette_names = None if palette is None else list(palette.pigments if isinstance(palette, Palette) else palette)
    instrument_settings = {"instrument_told": conditions.facts()} if model.card.instrument_inputs else {}
    return {
        **instrument_settings,
        "model": model.card_record,
        "palette": palette_names,
        "recorded_kev": [axis.start_kev, axis.stop_kev],
        "package_version": __version__,
    }


def _run_network(
    model: OnnxModel,
    counts: NDArray[np.float32],
    recorded_kev: NDArray[np.float32],
    instrument_values: NDArray[np.float32],
) -> tuple[NDArray[np.float32], ...]:
    outputs = model(counts, np.repeat(recorded_kev, len(counts), axis=0), instrument_values)
    # Spectra without counts on the network's axis have no answer.
    is_empty = counts.sum(axis=1) <= 0
    for output_values in outputs:
        output_values[is_empty] = np.nan
    return outputs
