"""Pigment maps of a scan."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from underpaint import __version__
from underpaint.errors import CoverageError, ModelError
from underpaint.maps import PigmentMaps
from underpaint.predict.model import OnnxModel, open_model
from underpaint.spectrum import EnergyAxis, Scan, sound_spectra
from underpaint.spectrum.rebin import apply_rebin, rebin_matrix
from underpaint.weights import ModelCard, load_card, shipped

_SPECTRA_AT_ONCE = 2048


class PaletteLike(Protocol):
    """Anything that names pigments, as ``underpaint.sample.Palette`` does."""

    @property
    def pigments(self) -> tuple[str, ...]:
        """Library names."""


@dataclass(frozen=True)
class _Answers:
    """Log-odds and probabilities of every pixel, (n_row, n_column, n_name), NaN for no answer."""

    log_odds: NDArray[np.float32]
    probability: NDArray[np.float32]


def identify(
    scan: Scan,
    model: str | Path | OnnxModel = "default",
    palette: PaletteLike | Sequence[str] | None = None,
    *,
    threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> PigmentMaps:
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
    threads : int or None
        CPU threads of the network.
    progress : callable or None
        Called with (rows done, rows in all) after every block.

    Returns
    -------
    PigmentMaps
        Probabilities and log-odds; NaN ("no answer") where a pixel is missing, holds no counts inside the
        network's axis, or holds a negative count or one that is not a number.

    Raises
    ------
    CalibrationError
        The scan has no energy axis.
    CoverageError
        The scan does not cover the energies that the model needs.
    ModelError
        The model cannot be opened, or knows no pigment of the palette.
    """
    axis = scan.require_axis()
    opened = model if isinstance(model, OnnxModel) else open_model(model, threads=threads)
    check_coverage(axis, opened.card)
    kept, notes = _kept(opened.card, palette)
    answers = _answers(scan, axis, opened, kept, progress)
    n_silent = int(np.isnan(answers.probability[:, :, 0]).sum())
    if n_silent:
        notes = (*notes, f"{n_silent} of {scan.n_pixel} pixels have no answer: no spectrum, or no counts in it.")
    return PigmentMaps(
        **_columns(opened.card, kept),
        probability=answers.probability,
        log_odds=answers.log_odds,
        step_mm=scan.step_mm,
        notes=(*scan.notes, *notes, *opened.card.limits),
        settings=_settings(opened.card, axis, palette),
    )


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
    message = (
        f"Cannot map with model {card.name!r}: it needs {start:.2f}-{stop:.2f} keV, "
        f"the scan covers {axis.start_kev:.2f}-{axis.stop_kev:.2f} keV. {_remedy(axis, card)}"
    )
    raise CoverageError(message)


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


def _kept(card: ModelCard, palette: PaletteLike | Sequence[str] | None) -> tuple[list[int], tuple[str, ...]]:
    """Columns of the answer that a palette leaves, and what it asks for in vain."""
    if palette is None:
        return list(range(len(card.names))), ()
    wanted = set(palette.pigments if not isinstance(palette, Sequence) else palette)
    known = [index for index, name in enumerate(card.names) if name in wanted]
    unknown = sorted(wanted.difference(card.names))
    if not known:
        message = (
            f"Cannot map with model {card.name!r}: it knows none of the palette's pigments "
            f"({', '.join(unknown) or 'the palette is empty'}). It knows: {', '.join(card.names)}."
        )
        raise ModelError(message)
    groups = {group for index in known for group in card.groups[index]}
    kept = [index for index, name in enumerate(card.names) if index in known or name in groups]
    note = f"Model {card.name!r} does not know these pigments of the palette: {', '.join(unknown)}."
    return kept, (note,) if unknown else ()


def _columns(card: ModelCard, kept: list[int]) -> dict[str, Any]:
    fields = ("names", "kinds", "groups", "labels", "elements")
    return {name: tuple(getattr(card, name)[index] for index in kept) for name in fields}


def _settings(card: ModelCard, axis: EnergyAxis, palette: PaletteLike | Sequence[str] | None) -> dict[str, Any]:
    names = None if palette is None else list(palette if isinstance(palette, Sequence) else palette.pigments)
    return {
        "model": card.model_dump(mode="json"),
        "palette": names,
        "recorded_kev": [axis.start_kev, axis.stop_kev],
        "package_version": __version__,
    }


def _answers(
    scan: Scan,
    axis: EnergyAxis,
    model: OnnxModel,
    kept: list[int],
    progress: Callable[[int, int], None] | None,
) -> _Answers:
    n_row, n_column, _ = scan.shape
    shape = (n_row, n_column, len(kept))
    answers = _Answers(np.full(shape, np.nan, np.float32), np.full(shape, np.nan, np.float32))
    matrix = rebin_matrix(axis, model.card.axis.edges_kev)
    recorded = np.array([[axis.start_kev, axis.stop_kev]], dtype=np.float32)
    for rows in scan.row_blocks():
        counts = np.asarray(scan.counts[rows].compute())
        present = np.ones(counts.shape[:2], bool) if scan.present is None else scan.present[rows]
        _fill(answers, rows, counts, present, lambda own: _run(model, apply_rebin(own, matrix), recorded), kept)
        if progress is not None:
            progress(rows.stop, n_row)
    return answers


def _fill(
    answers: _Answers,
    rows: slice,
    counts: NDArray[Any],
    present: NDArray[np.bool_],
    run: Callable[[NDArray[Any]], tuple[NDArray[np.float32], ...]],
    kept: list[int],
) -> None:
    row, column = np.nonzero(present & sound_spectra(counts))
    for first in range(0, row.size, _SPECTRA_AT_ONCE):
        own = slice(first, first + _SPECTRA_AT_ONCE)
        log_odds, probability = run(counts[row[own], column[own]])
        answers.log_odds[rows][row[own], column[own]] = log_odds[:, kept]
        answers.probability[rows][row[own], column[own]] = probability[:, kept]


def _run(
    model: OnnxModel, counts: NDArray[np.float32], recorded: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    log_odds, probability, *_ = model(counts, np.repeat(recorded, len(counts), axis=0))
    # Counts that lie outside the network's axis alone are no evidence.
    empty = counts.sum(axis=1) <= 0
    log_odds[empty], probability[empty] = np.nan, np.nan
    return log_odds, probability
