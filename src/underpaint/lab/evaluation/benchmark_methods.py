"""Methods that ship, on the public benchmark: what others can be compared with."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from underpaint.data import Scan
from underpaint.data.maps import Results, split_place
from underpaint.elements import fit_elements
from underpaint.errors import CoverageError, MissingExtraError
from underpaint.io import load
from underpaint.lab.evaluation.benchmark import Truth, read_description, read_truths, score_answers
from underpaint.physics.materials import library
from underpaint.pipeline.plan import identify
from underpaint.runtime.progress import Progress, no_progress

SIGMAS = 5.0
"""From how many standard deviations of a line family on its element is taken to be there."""
Method = Callable[[Scan, Truth], NDArray[np.float32]]


def score_methods(folder: str | Path, progress: Progress = no_progress) -> dict[str, dict[str, Any] | None]:
    """Score the methods that ship; they see the scans alone, no instrument and no truth.

    Returns
    -------
    dict
        By method what :func:`~underpaint.lab.evaluation.benchmark.score_answers` returns, without the panels that it
        cannot answer; None of PyMca where it is not installed.
    """
    truths, panels = read_truths(folder), read_description(folder)["panels"]
    scans = {name: load(Path(folder) / Path(str(panels[name]["scan"])).name) for name in truths}
    scores: dict[str, dict[str, Any] | None] = {}
    for number, (title, method) in enumerate(METHODS.items()):
        progress(f"Answers of {title}", number, len(METHODS))
        try:
            scores[title] = score_answers(_answers(method, scans, truths), truths)
        except MissingExtraError:
            scores[title] = None
    return scores


def _answers(method: Method, scans: Mapping[str, Scan], truths: Mapping[str, Truth]) -> dict[str, NDArray[np.float32]]:
    answers = {}
    for name, truth in truths.items():
        with suppress(CoverageError):  # the scan lacks energies that the method needs
            answers[name] = method(scans[name], truth)
    return answers


def _network(model: str) -> Method:
    def answer(scan: Scan, truth: Truth) -> NDArray[np.float32]:
        results = identify(scan, model=model)
        return np.stack([_probability(results, *split_place(name)) for name in truth.names], axis=2)

    return answer


def _probability(results: Results, group: str, place: Any) -> NDArray[np.float32]:
    """Return (row, column) the probability of a group; of a network of pigments that of its likeliest member."""
    members = [name for name, each in results.materials.items() if group in each.groups]
    names = [group] if group in results.materials else members
    maps = [results[name, place] for name in names if results.holds(name, place)]
    if not maps:
        return np.full(results.shape, 0.0 if names and place in results.places else np.nan, np.float32)
    return np.asarray(np.fmax.reduce(maps), dtype=np.float32)


def _thresholds(engine: Any) -> Method:
    def answer(scan: Scan, truth: Truth) -> NDArray[np.float32]:
        maps = fit_elements(scan, engine=engine)
        values = np.full((*truth.shape, len(truth.names)), np.nan, np.float32)
        for index, (group, place) in enumerate(map(split_place, truth.names)):
            if place == "anywhere":
                values[:, :, index] = maps.max_significance(library().group(group).key_families) > SIGMAS
        return values

    return answer


def _always_yes(_: Scan, truth: Truth) -> NDArray[np.float32]:
    return np.ones((*truth.shape, len(truth.names)), np.float32)


METHODS: Mapping[str, Method] = {
    "underpaint, default network": _network("default"),
    "network of Xu et al. 2022": _network("xu2022"),
    f"element maps over {SIGMAS:g} sigma": _thresholds("underpaint"),
    f"PyMca's areas over {SIGMAS:g} sigma": _thresholds("pymca"),
    "always yes": _always_yes,
}
