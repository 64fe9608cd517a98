"""Answers of a network to the spectra of a scan."""

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
from underpaint.data.maps import Results, from_unbounded, material_of, split_place
from underpaint.data.rebin import apply_rebin, rebin_matrix
from underpaint.errors import CoverageError, ModelError
from underpaint.physics.atomic import family_lines
from underpaint.physics.materials import PIGMENT_SHARE, Palette, library
from underpaint.pigments.predict.amounts import AMOUNT_OUTPUTS, Amounts
from underpaint.pigments.predict.model import OnnxModel, open_model
from underpaint.pigments.weights import ModelCard, load_card, shipped
from underpaint.runtime.blocks import map_blocks
from underpaint.simulate.instrument_inputs import InstrumentConditions

Arrays = dict[str, NDArray[Any]]
"""By name of the network's output, (n_row, n_column, n); amounts by their points, as :class:`Amounts` returns them."""
_VOLTAGE_MARGIN_KV = 1.0
WITHHELD_PROBABILITY, PROVEN_PROBABILITY = 0.5, 0.99
"""Maximum probability of groups contradicted by the spectrum, and minimum probability of groups proven by it."""
_CORRECTION_REASONS = {
    np.float32(WITHHELD_PROBABILITY): (
        "Found by the network, and withheld because no line of the group is detected, or only lines that the tube emits"
    ),
    np.float32(PROVEN_PROBABILITY): "Missed by the network, and added because its lines exceed ten standard deviations",
}
_BATCH_SPECTRA = 256
"""Number of spectra in a batch, so that the network's intermediate values (20 MB) fit the processor's cache."""


@dataclass(frozen=True)
class _SelectedColumns:
    """Columns of the network's outputs that are used: for names, and for quantities."""

    names: list[int]
    quantities: list[int]


@dataclass(frozen=True)
class AnswerPlan:
    """Outputs of a network for spectra on an energy axis, known before any spectrum is read.

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
        Settings for the results, as values for JSON.
    amounts : Amounts or None
        Amounts to compute; None for a network without amounts.
    """

    model: OnnxModel
    axis: EnergyAxis
    conditions: InstrumentConditions
    notes: tuple[str, ...]
    settings: dict[str, Any]
    selected: _SelectedColumns
    amounts: Amounts | None = None

    @property
    def quantities(self) -> tuple[str, ...]:
        """Names of the quantities that are answered beside probabilities."""
        return tuple(self.model.card.quantities[index] for index in self.selected.quantities)

    def arrays(self, shape: tuple[int, int]) -> Arrays:
        """Return (n_row, n_column, n) arrays by name, initialised to "no answer"."""
        arrays = {name: np.full((*shape, len(columns)), np.nan, np.float32) for name, columns in self._columns.items()}
        return arrays if self.amounts is None else arrays | self.amounts.empty(shape)

    def __call__(self, counts: NDArray[Any], present: NDArray[np.bool_] | None = None) -> Arrays:
        """Return the answers to (n_row, n_column, n_channel) counts, by the names of :meth:`arrays`."""
        arrays = self.arrays((counts.shape[0], counts.shape[1]))
        usable = valid_spectra(counts) if present is None else present & valid_spectra(counts)
        recorded = np.array([[self.axis.start_kev, self.axis.stop_kev]], dtype=np.float32)
        instrument_values = self.conditions.inputs(self.model.card.instrument_inputs)
        row, column = np.nonzero(usable)
        for first in range(0, row.size, _BATCH_SPECTRA):
            at = row[first : first + _BATCH_SPECTRA], column[first : first + _BATCH_SPECTRA]
            answers = _run(self.model, apply_rebin(counts[at], self._matrix), recorded, instrument_values)
            by_name = dict(zip(self.model.card.output_names, answers, strict=True))
            for name, columns in self._columns.items():
                arrays[name][at] = by_name[name][:, columns]
            if self.amounts is not None:
                for name, values in self.amounts(by_name["amount"]).items():
                    arrays[name][at] = values
        return arrays

    def withhold(self, arrays: Arrays, groups: Sequence[str], needed: NDArray[np.floating]) -> None:
        """Limit the probability of groups to one half where their log-odds are under those needed; also of members.

        ``needed`` is (n_row, n_column, n_group).
        """
        card = self.model.card
        groups_of = [{split_place(name)[0] for name in card.groups[index]} for index in self.selected.names]
        belongs = np.asarray([[group in names_of for names_of in groups_of] for group in groups]).reshape(
            len(groups), -1
        )
        answers = np.full(needed.shape, -np.inf, np.float32)
        known, columns = self._columns_of(groups)
        answers[..., known] = arrays["log_odds"][..., columns]
        withheld = (answers < needed) @ belongs
        for name, most in (("log_odds", 0.0), ("probability", WITHHELD_PROBABILITY)):
            np.minimum(arrays[name], most, out=arrays[name], where=withheld)

    def confirm(self, arrays: Arrays, groups: Sequence[str], proven: NDArray[np.bool_]) -> None:
        """Raise the probability, anywhere, of groups with certain lines; ``proven`` is (n_row, n_column, n_group)."""
        known, columns = self._columns_of(groups)
        log_odds = float(np.log(PROVEN_PROBABILITY / (1.0 - PROVEN_PROBABILITY)))
        for name, least in (("log_odds", log_odds), ("probability", PROVEN_PROBABILITY)):
            values = arrays[name][..., columns]
            arrays[name][..., columns] = np.where(proven[..., known] & (values < least), np.float32(least), values)

    def _columns_of(self, groups: Sequence[str]) -> tuple[list[int], list[int]]:
        """Return the indices of the groups that are answered, and the columns of their answers anywhere."""
        names = [self.model.card.names[index] for index in self.selected.names]
        known = [index for index, group in enumerate(groups) if group in names]
        return known, [names.index(groups[index]) for index in known]

    def results(self, arrays: Arrays, *, step_mm: tuple[float, float] | None) -> Results:
        """Return filled arrays as results."""
        quantities = [arrays[name] for name in ("quantity", "sigma") if name in arrays]
        pigments = Results.of_pigments(
            **self.model.card.of_names(self.selected.names),
            probability=arrays["probability"],
            log_odds=arrays["log_odds"],
            step_mm=step_mm,
            notes=(*self.notes, *self.model.card.limits),
            settings=self.settings,
            quantities=_quantities(self.quantities, *quantities) if quantities else None,
        )
        if self.amounts is None:
            return pigments
        threshold = {name: float(share) for name, share in zip(self.amounts.names, self.amounts.threshold, strict=True)}
        parts = [arrays[name] for name in AMOUNT_OUTPUTS]
        return pigments | Results.of_amounts(
            self.amounts.names, *parts, step_mm=step_mm, settings={"pigment_share": threshold}
        )

    def noted(self, results: Results, judged: Sequence[str] = ()) -> Results:
        """Return results with a note of how many pixels have no answer, and of what was withheld of groups judged."""
        n_row, n_column = results.shape
        n_silent, notes = int((~results.answered).sum()), list(results.process_notes["pigments"])
        if n_silent:
            notes.append(f"{n_silent} of {n_row * n_column} pixels have no answer: no spectrum, or no counts in it.")
        for probability, reason in _CORRECTION_REASONS.items():
            n_corrected = {name: int((results[name] == probability).sum()) for name in judged if results.holds(name)}
            label_texts = [
                f"{results.short_label(name)} ({n_pixel} pixel{'' if n_pixel == 1 else 's'})"
                for name, n_pixel in n_corrected.items()
                if n_pixel
            ]
            if label_texts:
                notes.append(f"{reason}: {', '.join(label_texts)}.")
        return replace(results, process_notes={**results.process_notes, "pigments": tuple(notes)})

    @cached_property
    def _matrix(self) -> csr_array:
        return rebin_matrix(self.axis, self.model.card.axis.edges_kev)

    @cached_property
    def _columns(self) -> dict[str, list[int]]:
        """Columns that are kept of each output but the amounts."""
        of_output = {"quantity": self.selected.quantities, "sigma": self.selected.quantities}
        names = (name for name in self.model.card.output_names if name != "amount")
        return {name: of_output.get(name, self.selected.names) for name in names}


def plan_answers(
    axis: EnergyAxis,
    model: str | Path | OnnxModel = "default",
    palette: Palette | Sequence[str] | None = None,
    *,
    instrument: InstrumentConditions | None = None,
    threads: int | None = None,
) -> AnswerPlan:
    """Plan what a network answers about spectra on an energy axis; parameters and errors as of :func:`identify`."""
    opened = model if isinstance(model, OnnxModel) else open_model(model, threads=threads)
    check_coverage(axis, opened.card)
    conditions = instrument or InstrumentConditions()
    selected, notes = _selected_columns(opened.card, palette)
    selected, unexcited_notes = _without_unexcited(opened.card, selected, conditions)
    settings, amounts = _settings(opened, axis, palette, conditions), _amounts(opened.card, selected, palette)
    return AnswerPlan(opened, axis, conditions, (*notes, *unexcited_notes), settings, selected, amounts)


def identify(
    scan: Scan,
    model: str | Path | OnnxModel = "default",
    palette: Palette | Sequence[str] | None = None,
    *,
    instrument: InstrumentConditions | None = None,
    threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Results:
    """Find the pigments of every pixel.

    Parameters
    ----------
    scan : Scan
        Counts with an energy axis; read block by block.
    model : str, Path or OnnxModel
        Name of a shipped model, path of an ``.onnx`` file, or a model that is open already.
    palette : Palette, sequence of str, or None
        Pigments that may be there, by name. Other pigments are left out of the answer, and so are groups to which
        none of them belongs. None asks for all.
    instrument : InstrumentConditions or None
        What is known of the scanner, told to networks that ask for it and kept in the results' settings; None: nothing.
    threads : int or None
        CPU threads of the network.
    progress : callable or None
        Called with (rows done, rows in all) after every block.

    Returns
    -------
    Results
        Probabilities and log-odds, and where the network answers them thickness and the groups' shares at the surface;
        NaN ("no answer") where a pixel is missing, holds no counts inside the network's axis, or holds a negative
        count or one that is not a number.

    Raises
    ------
    CalibrationError
        The scan has no energy axis.
    CoverageError
        The scan does not cover the energies that the model needs.
    ModelError
        The model cannot be opened, or knows no pigment of the palette.
    """
    plan = plan_answers(scan.require_axis(), model, palette, instrument=instrument, threads=threads)
    n_row, n_column, _ = scan.shape
    arrays = plan.arrays((n_row, n_column))
    for _, block, answers in map_blocks(scan, plan, threads=1):
        for name, array in arrays.items():
            array[block] = answers[name]
        if progress is not None:
            progress(block[0].stop, n_row)
    facts = {"name": scan.name, "notes": list(scan.notes), "settings": {"source": scan.source}}
    return replace(plan.noted(plan.results(arrays, step_mm=scan.step_mm)), summary=facts)


def check_coverage(axis: EnergyAxis, card: ModelCard) -> None:
    """Refuse a scan that does not cover what the model needs.

    Raises
    ------
    CoverageError
        The message gives both ranges and names a model that covers the scan.
    """
    if covers(axis, card):
        return
    start, stop = needed_range(card)
    raise CoverageError(
        f"Cannot map with model {card.name!r}: it needs {start:.2f}-{stop:.2f} keV, "
        f"the scan covers {axis.start_kev:.2f}-{axis.stop_kev:.2f} keV. {_coverage_advice(axis, card)}"
    )


def covers(axis: EnergyAxis, card: ModelCard) -> bool:
    """Whether spectra on this axis reach over all that a model needs, but for a bin at either end."""
    start, stop = needed_range(card)
    tolerance_kev = card.axis.bin_kev
    return axis.start_kev <= start + tolerance_kev and axis.stop_kev >= stop - tolerance_kev


def needed_range(card: ModelCard) -> tuple[float, float]:
    """Range in keV that a scan has to cover for a model."""
    if card.needs_full_axis or card.narrowest_kev is None:
        return card.axis.start_kev, card.axis.stop_kev
    return card.narrowest_kev


def _coverage_advice(axis: EnergyAxis, card: ModelCard) -> str:
    for name in shipped():
        if name == card.name:
            continue
        start, stop = needed_range(load_card(name))
        if axis.start_kev <= start and axis.stop_kev >= stop:
            return f"Use model {name!r} (--model {name}), which needs {start:.2f}-{stop:.2f} keV."
    return "Check the energy calibration with `underpaint calibrate`, or train a model for this range."


def _selected_columns(
    card: ModelCard, palette: Palette | Sequence[str] | None
) -> tuple[_SelectedColumns, tuple[str, ...]]:
    """Return the columns for the pigments of a palette, and a note on pigments that the network does not have."""
    if palette is None:
        return _SelectedColumns(list(range(len(card.names))), _quantity_columns(card, set(card.names))), ()
    palette_names = set(palette.pigments if isinstance(palette, Palette) else palette)
    known_indices = [index for index, name in enumerate(card.names) if split_place(name)[0] in palette_names]
    unknown = sorted(palette_names.difference(card.names))
    if not known_indices:
        raise ModelError(
            f"Cannot map with model {card.name!r}: it knows none of the palette's pigments "
            f"({', '.join(unknown) or 'the palette is empty'}). It knows: {', '.join(card.names)}."
        )
    names = {card.names[index] for index in known_indices} | {
        group for index in known_indices for group in card.groups[index]
    }
    indices = [index for index, name in enumerate(card.names) if name in names]
    note = f"Model {card.name!r} does not know these pigments of the palette: {', '.join(unknown)}."
    return _SelectedColumns(indices, _quantity_columns(card, names)), (note,) if unknown else ()


def _without_unexcited(
    card: ModelCard, selected: _SelectedColumns, conditions: InstrumentConditions
) -> tuple[_SelectedColumns, tuple[str, ...]]:
    """Omit names whose key lines are not excited at the tube voltage; return the columns and a note."""
    if conditions.voltage_kv is None:
        return selected, ()
    max_energy_kev = conditions.voltage_kv + _VOLTAGE_MARGIN_KV

    def is_excited(family: str) -> bool:
        symbol, shell = family.split("_")
        return family_lines(symbol, shell, max_energy_kev)[0].size > 0

    lost_indices = [
        index for index in selected.names if card.elements[index] and not any(map(is_excited, card.elements[index]))
    ]
    if not lost_indices:
        return selected, ()
    names = [index for index in selected.names if index not in lost_indices]
    groups = [
        index
        for index in lost_indices
        if card.kinds[index] == "group" and split_place(card.names[index])[1] == "anywhere"
    ]
    labels = ", ".join(card.labels[index] for index in groups or lost_indices)
    note = f"Not answered, for {conditions.voltage_kv:g} kV do not excite their lines: {labels}."
    return _SelectedColumns(names, _quantity_columns(card, {card.names[index] for index in names})), (note,)


def _amounts(card: ModelCard, selected: _SelectedColumns, palette: Palette | Sequence[str] | None) -> Amounts | None:
    """Return the amounts of the groups that are kept, with the thresholds of the palette or of the library."""
    selected_names = {card.names[index] for index in selected.names}
    names = tuple(name for name in card.amounts if name in selected_names)
    if not names:
        return None
    shares = {group.name: group.pigment_share for group in library().groups}
    shares |= palette.pigment_share if isinstance(palette, Palette) else {}
    return Amounts(
        names,
        np.asarray([card.amounts.index(name) for name in names], np.intp),
        np.asarray(card.amount_edges, float),
        np.asarray([shares.get(split_place(name)[0], PIGMENT_SHARE) for name in names]),
    )


def _quantity_columns(card: ModelCard, names: set[str]) -> list[int]:
    """Return the columns of the thickness and of the groups' shares; shares of members are not determined."""
    groups = {name for name, kind in zip(card.names, card.kinds, strict=True) if kind == "group"}
    answered = groups & names or names
    materials = [material_of(name) for name in card.quantities]
    return [index for index, material in enumerate(materials) if material is None or material in answered]


def _quantities(
    names: tuple[str, ...], value: NDArray[np.float32], sigma: NDArray[np.float32]
) -> tuple[tuple[str, ...], NDArray[np.float32], NDArray[np.float32]]:
    for column, name in enumerate(names):
        value[:, :, column] = from_unbounded(name, value[:, :, column])
    return names, value, sigma


def _settings(
    model: OnnxModel, axis: EnergyAxis, palette: Palette | Sequence[str] | None, conditions: InstrumentConditions
) -> dict[str, Any]:
    names = None if palette is None else list(palette.pigments if isinstance(palette, Palette) else palette)
    instrument_facts = {"instrument_told": conditions.facts()} if model.card.instrument_inputs else {}
    return {
        **instrument_facts,
        "model": model.facts,
        "palette": names,
        "recorded_kev": [axis.start_kev, axis.stop_kev],
        "package_version": __version__,
    }


def _run(
    model: OnnxModel, counts: NDArray[np.float32], recorded: NDArray[np.float32], instrument_values: NDArray[np.float32]
) -> tuple[NDArray[np.float32], ...]:
    answers = model(counts, np.repeat(recorded, len(counts), axis=0), instrument_values)
    # Counts that lie outside the network's axis alone are no evidence.
    empty = counts.sum(axis=1) <= 0
    for output in answers:
        output[empty] = np.nan
    return answers
