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
from underpaint.data.maps import Results, from_scale, material_of, split_place
from underpaint.data.rebin import apply_rebin, rebin_matrix
from underpaint.errors import CoverageError, ModelError
from underpaint.physics.atomic import family_lines
from underpaint.physics.materials import Palette
from underpaint.pigments.predict.model import OnnxModel, open_model
from underpaint.pigments.weights import ModelCard, load_card, shipped
from underpaint.runtime.blocks import map_blocks
from underpaint.simulate.instrument_inputs import InstrumentConditions

Arrays = dict[str, NDArray[np.float32]]
"""By name of the network's output; (n_row, n_column, n)."""
_VOLTAGE_MARGIN_KV = 1.0
UNDECIDED = 0.5
"""Probability at most of what a spectrum speaks against."""
_SPECTRA_AT_ONCE = 256
"""What the network is asked at once: its intermediate values then fit the processor's cache, and take 20 MB."""


@dataclass(frozen=True)
class _Kept:
    """Which columns of the answers are kept: of the names, and of the quantities."""

    names: list[int]
    quantities: list[int]


@dataclass(frozen=True)
class AnswerPlan:
    """What a network will answer about spectra on an energy axis: known before any spectrum is read.

    Parameters
    ----------
    model : OnnxModel
    axis : EnergyAxis
        Of the spectra.
    known : InstrumentConditions
        What the network is told.
    notes : tuple of str
        What will not be answered, and why.
    settings : dict
        JSON-serialisable record.
    """

    model: OnnxModel
    axis: EnergyAxis
    known: InstrumentConditions
    notes: tuple[str, ...]
    settings: dict[str, Any]
    kept: _Kept

    @property
    def quantities(self) -> tuple[str, ...]:
        """Names of the quantities that are answered beside probabilities."""
        return tuple(self.model.card.quantities[index] for index in self.kept.quantities)

    def arrays(self, shape: tuple[int, int]) -> Arrays:
        """Return the arrays to fill, by name: (n_row, n_column, n) of "no answer"."""
        card = self.model.card
        return {
            name: np.full((*shape, len(columns)), np.nan, np.float32)
            for name, columns in zip(card.output_names, self._columns(), strict=True)
        }

    def __call__(self, counts: NDArray[Any], present: NDArray[np.bool_] | None = None) -> Arrays:
        """Return the answers to (n_row, n_column, n_channel) counts, by the names of :meth:`arrays`."""
        arrays = self.arrays((counts.shape[0], counts.shape[1]))
        usable = valid_spectra(counts) if present is None else present & valid_spectra(counts)
        recorded = np.array([[self.axis.start_kev, self.axis.stop_kev]], dtype=np.float32)
        told = self.known.inputs(self.model.card.instrument_inputs)
        row, column = np.nonzero(usable)
        for first in range(0, row.size, _SPECTRA_AT_ONCE):
            at = row[first : first + _SPECTRA_AT_ONCE], column[first : first + _SPECTRA_AT_ONCE]
            answers = _run(self.model, apply_rebin(counts[at], self._matrix), recorded, told)
            for name, columns, answer in zip(self.model.card.output_names, self._columns(), answers, strict=True):
                arrays[name][at] = answer[:, columns]
        return arrays

    def withhold(self, arrays: Arrays, groups: Sequence[str], against: NDArray[np.bool_]) -> None:
        """Lower answers to undecided where (n_row, n_column, n_group) spectra speak against a group.

        What belongs to the group is lowered with it.
        """
        card = self.model.card
        groups_of = [{split_place(name)[0] for name in card.groups[index]} for index in self.kept.names]
        belongs = np.asarray([[group in names for names in groups_of] for group in groups]).reshape(len(groups), -1)
        withheld = against @ belongs
        for values, most in zip(arrays.values(), (0.0, UNDECIDED), strict=False):
            np.minimum(values, most, out=values, where=withheld)

    def results(self, arrays: Arrays, *, step_mm: tuple[float, float] | None) -> Results:
        """Return filled arrays as results; without any pixel, what they will hold."""
        quantities = [arrays[name] for name in ("quantity", "sigma") if name in arrays]
        return Results.of_pigments(
            **self.model.card.of_names(self.kept.names),
            probability=arrays["probability"],
            log_odds=arrays["log_odds"],
            step_mm=step_mm,
            notes=(*self.notes, *self.model.card.limits),
            settings=self.settings,
            quantities=_quantities(self.quantities, *quantities) if quantities else None,
        )

    def noted(self, results: Results, judged: Sequence[str] = ()) -> Results:
        """Return results with a note of how many pixels have no answer, and of what was withheld of groups judged."""
        n_row, n_column = results.shape
        n_silent, notes = int((~results.answered).sum()), list(results.process_notes["pigments"])
        if n_silent:
            notes.append(f"{n_silent} of {n_row * n_column} pixels have no answer: no spectrum, or no counts in it.")
        counted = {name: int((results[name] == UNDECIDED).sum()) for name in judged if results.holds(name)}
        words = [f"{results.label(name)} ({n_pixel} pixels)" for name, n_pixel in counted.items() if n_pixel]
        if words:
            notes.append(
                "Not claimed although the network does, for none of its lines is seen, or they are the tube's own: "
                f"{', '.join(words)}."
            )
        return replace(results, process_notes={**results.process_notes, "pigments": tuple(notes)})

    @cached_property
    def _matrix(self) -> csr_array:
        return rebin_matrix(self.axis, self.model.card.axis.edges_kev)

    def _columns(self) -> tuple[list[int], ...]:
        of_output: dict[str, list[int]] = {
            "quantity": self.kept.quantities,
            "sigma": self.kept.quantities,
            "amount": [],
        }
        return tuple(of_output.get(name, self.kept.names) for name in self.model.card.output_names)


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
    known = instrument or InstrumentConditions()
    kept, notes = _kept(opened.card, palette)
    kept, dark = _excited(opened.card, kept, known)
    return AnswerPlan(opened, axis, known, (*notes, *dark), _settings(opened, axis, palette, known), kept)


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
        f"the scan covers {axis.start_kev:.2f}-{axis.stop_kev:.2f} keV. {_remedy(axis, card)}"
    )


def covers(axis: EnergyAxis, card: ModelCard) -> bool:
    """Whether spectra on this axis reach over all that a model needs, but for a bin at either end."""
    start, stop = needed_range(card)
    slack = card.axis.bin_kev
    return axis.start_kev <= start + slack and axis.stop_kev >= stop - slack


def needed_range(card: ModelCard) -> tuple[float, float]:
    """Range in keV that a scan has to cover for a model."""
    if card.needs_full_axis or card.narrowest_kev is None:
        return card.axis.start_kev, card.axis.stop_kev
    return card.narrowest_kev


def _remedy(axis: EnergyAxis, card: ModelCard) -> str:
    for name in shipped():
        if name == card.name:
            continue
        start, stop = needed_range(load_card(name))
        if axis.start_kev <= start and axis.stop_kev >= stop:
            return f"Use model {name!r} (--model {name}), which needs {start:.2f}-{stop:.2f} keV."
    return "Check the energy calibration with `underpaint calibrate`, or train a model for this range."


def _kept(card: ModelCard, palette: Palette | Sequence[str] | None) -> tuple[_Kept, tuple[str, ...]]:
    """Columns of the answer that a palette leaves, and what it asks for in vain."""
    if palette is None:
        return _Kept(list(range(len(card.names))), _kept_quantities(card, set(card.names))), ()
    wanted = set(palette.pigments if isinstance(palette, Palette) else palette)
    known = [index for index, name in enumerate(card.names) if split_place(name)[0] in wanted]
    unknown = sorted(wanted.difference(card.names))
    if not known:
        raise ModelError(
            f"Cannot map with model {card.name!r}: it knows none of the palette's pigments "
            f"({', '.join(unknown) or 'the palette is empty'}). It knows: {', '.join(card.names)}."
        )
    names = {card.names[index] for index in known} | {group for index in known for group in card.groups[index]}
    kept = [index for index, name in enumerate(card.names) if name in names]
    note = f"Model {card.name!r} does not know these pigments of the palette: {', '.join(unknown)}."
    return _Kept(kept, _kept_quantities(card, names)), (note,) if unknown else ()


def _excited(card: ModelCard, kept: _Kept, known: InstrumentConditions) -> tuple[_Kept, tuple[str, ...]]:
    """Leave out names none of whose key lines the tube's voltage excites, and name them."""
    if known.voltage_kv is None:
        return kept, ()
    most = known.voltage_kv + _VOLTAGE_MARGIN_KV

    def excited(family: str) -> bool:
        symbol, shell = family.split("_")
        return family_lines(symbol, shell, most)[0].size > 0

    lost = [index for index in kept.names if card.elements[index] and not any(map(excited, card.elements[index]))]
    if not lost:
        return kept, ()
    names = [index for index in kept.names if index not in lost]
    groups = [
        index for index in lost if card.kinds[index] == "group" and split_place(card.names[index])[1] == "anywhere"
    ]
    labels = ", ".join(card.labels[index] for index in groups or lost)
    note = f"Not answered, for {known.voltage_kv:g} kV do not excite their lines: {labels}."
    return _Kept(names, _kept_quantities(card, {card.names[index] for index in names})), (note,)


def _kept_quantities(card: ModelCard, names: set[str]) -> list[int]:
    """Columns of the thickness and of the groups' shares; nothing tells a member's share from another's."""
    groups = {name for name, kind in zip(card.names, card.kinds, strict=True) if kind == "group"}
    answered = groups & names or names
    materials = [material_of(name) for name in card.quantities]
    return [index for index, material in enumerate(materials) if material is None or material in answered]


def _quantities(
    names: tuple[str, ...], value: NDArray[np.float32], sigma: NDArray[np.float32]
) -> tuple[tuple[str, ...], NDArray[np.float32], NDArray[np.float32]]:
    for column, name in enumerate(names):
        value[:, :, column] = from_scale(name, value[:, :, column])
    return names, value, sigma


def _settings(
    model: OnnxModel, axis: EnergyAxis, palette: Palette | Sequence[str] | None, known: InstrumentConditions
) -> dict[str, Any]:
    names = None if palette is None else list(palette.pigments if isinstance(palette, Palette) else palette)
    told = {"instrument_told": known.facts()} if model.card.instrument_inputs else {}
    return {
        **told,
        "model": model.facts,
        "palette": names,
        "recorded_kev": [axis.start_kev, axis.stop_kev],
        "package_version": __version__,
    }


def _run(
    model: OnnxModel, counts: NDArray[np.float32], recorded: NDArray[np.float32], told: NDArray[np.float32]
) -> tuple[NDArray[np.float32], ...]:
    answers = model(counts, np.repeat(recorded, len(counts), axis=0), told)
    # Counts that lie outside the network's axis alone are no evidence.
    empty = counts.sum(axis=1) <= 0
    for own in answers:
        own[empty] = np.nan
    return answers
