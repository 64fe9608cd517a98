"""A trained network, ready to run with onnxruntime."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from pathlib import Path
from threading import Timer
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from underpaint.errors import ModelError
from underpaint.pigments.weights import ModelCard, check_network, load_card, model_path, read_network

# On Windows the variable that underpaint sets is not heeded, and another package may have imported onnxruntime before.
onnxruntime.disable_telemetry_events()

BATCH_SPECTRA = 64
"""What a network is given at once: its values in between fit the processor's cache, or take 250 MB at most."""
_ARENA_BYTES = 320 * 2**20
"""For each core, and for two at least: all that networks of this process hold may not exceed it."""
_TRIAL_S = 10.0
_TRIAL_COUNTS = (3.0, 0.0, 40.0, 1.0, 0.0, 9.0, 2000.0)
_SLACK = 1e-3


@dataclass(frozen=True)
class OnnxModel:
    """An ONNX session with its card.

    Parameters
    ----------
    card : ModelCard
        What the network answers and needs.
    session : onnxruntime.InferenceSession
        The loaded network.
    path : Path
        Its file. A copy sent to another process takes the file's contents along, and computes on one thread there.
    """

    card: ModelCard
    session: Any
    path: Path

    @cached_property
    def facts(self) -> dict[str, Any]:
        """The card without the composition of its training, JSON-serialisable."""
        return self.card.model_dump(mode="json", exclude={"composition"})

    def __reduce__(self) -> tuple[Callable[..., "OnnxModel"], tuple[ModelCard, Path, bytes]]:
        """Say how to open it in another process, which may not see the file."""
        return _open_sent, (self.card, self.path, self.path.read_bytes())

    def __call__(
        self,
        counts: NDArray[np.float32],
        recorded_kev: NDArray[np.float32],
        instrument: NDArray[np.float32] | None = None,
    ) -> tuple[NDArray[np.float32], ...]:
        """Return the outputs that the card names, each (n, :meth:`~.ModelCard.output_width`).

        Log-odds and probabilities; means and deviations of quantities where it has any; log-odds of amounts where it
        has any.

        Parameters
        ----------
        counts : (n, n_bin) array
            Counts on the card's axis.
        recorded_kev : (n, 2) array
            Start and stop of the recorded range, keV; only networks that know of ranges look at it.
        instrument : (n_input,) array or None
            What :func:`~.instrument_inputs` says, NaN where not known; only networks
            of layers look at it. None: nothing is known.
        """
        n_input = len(self.card.instrument_inputs)
        instrument_values = np.full(n_input, np.nan, np.float32) if instrument is None else instrument
        inputs = {
            "counts": counts,
            "recorded": recorded_kev,
            "instrument": np.tile(instrument_values, (len(counts), 1)),
        }
        feed = {
            model_input.name: np.ascontiguousarray(inputs[model_input.name], np.float32)
            for model_input in self.session.get_inputs()
        }
        batches = [slice(first, first + BATCH_SPECTRA) for first in range(0, len(counts), BATCH_SPECTRA)]
        answers = [
            self._answer({name: values[batch] for name, values in feed.items()}) for batch in batches or [slice(0)]
        ]
        return answers[0] if len(answers) == 1 else tuple(map(np.concatenate, zip(*answers, strict=True)))

    def _answer(self, feed: dict[str, NDArray[np.float32]]) -> tuple[NDArray[np.float32], ...]:
        answers = _run(self.session, self.card, feed, self.path)
        _check_values(answers, feed["counts"], self.card, self.path)
        return answers


def open_model(name_or_path: str | Path = "default", *, threads: int | None = None) -> OnnxModel:
    """Load a trained network.

    Parameters
    ----------
    name_or_path : str or Path
        A shipped name, or the path of an ``.onnx`` file with its card beside it.
    threads : int or None
        CPU threads; None leaves onnxruntime's choice.

    Raises
    ------
    ModelError
        There is no such model, its file is damaged, file and card do not fit each other, or the network asks for
        what it does not need (:func:`~.check_network`), too much memory or too much time, or answers
        a plain spectrum with what is no number.
    """
    card, path = load_card(name_or_path), model_path(name_or_path)
    network = read_network(path)
    # as it is written first: what is computed from constants alone would otherwise be computed before anything is run
    _check_trial_run(_check_card(_session(network, path, threads=1, optimised=False), card, path), card, path)
    return OnnxModel(card, _check_card(_session(network, path, threads=threads), card, path), path)


def _open_sent(card: ModelCard, path: Path, network: bytes) -> OnnxModel:
    return OnnxModel(card, _sent_session(network), path)


@lru_cache(maxsize=2)
def _sent_session(network: bytes) -> Any:
    return open_session(network, threads=1)


def open_session(path: Path | bytes, *, threads: int | None = None) -> Any:
    """Load an ONNX file, or the contents of one, without its card.

    Raises
    ------
    ModelError
        The file is not a readable ONNX network, or asks for what a network does not need.
    """
    if isinstance(path, bytes):
        check_network(path, "that was sent")
        return _session(path, "that was sent", threads=threads)
    return _session(read_network(path), path, threads=threads)


def _session(network: bytes, name: Path | str, *, threads: int | None = None, optimised: bool = True) -> Any:
    _bound_memory()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    options.log_severity_level = 4  # errors are raised, and not written to the terminal beside
    if not optimised:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.add_session_config_entry("session.use_env_allocators", "1")
    options.add_session_config_entry("session.load_model_format", "ONNX")
    try:
        return onnxruntime.InferenceSession(network, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own errors share no public base
        raise ModelError(
            f"Cannot load the network {name}: {_shortened(error)}. The file is damaged; export or download it again."
        ) from error


@cache
def _bound_memory() -> None:
    """Bound what all networks of this process hold together."""
    most = _ARENA_BYTES * max(os.cpu_count() or 1, 2)
    memory = onnxruntime.OrtMemoryInfo(
        "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
    )
    # extended by what is asked for, not by twice as much
    arena = onnxruntime.OrtArenaCfg({"max_mem": most, "arena_extend_strategy": 1})
    onnxruntime.create_and_register_allocator(memory, arena)


def _run(
    session: Any, card: ModelCard, feed: dict[str, NDArray[np.float32]], path: Path, options: Any = None
) -> tuple[NDArray[np.float32], ...]:
    try:
        answers = tuple(session.run(list(card.output_names), feed, options))
    except Exception as error:
        raise ModelError(
            f"Cannot run the network {path}: {_shortened(error)}. Take a model that this package wrote."
        ) from error
    n_spectrum = len(feed["counts"])
    for name, values in zip(card.output_names, answers, strict=True):
        expected_shape = (n_spectrum, card.output_width(name))
        if not isinstance(values, np.ndarray) or values.dtype != np.float32 or values.shape != expected_shape:
            answer_text = f"{values.dtype} {values.shape}" if isinstance(values, np.ndarray) else type(values).__name__
            raise ModelError(
                f"Cannot use the network {path}: to {n_spectrum} spectra it answers {name} as {answer_text}, float32 "
                f"{expected_shape} is needed. Take a model that this package wrote."
            )
    return answers


def _check_values(
    answers: tuple[NDArray[np.float32], ...], counts: NDArray[np.float32], card: ModelCard, path: Path
) -> None:
    """Refuse answers to a spectrum with counts that are no numbers, or probabilities that are none.

    Raises
    ------
    ModelError
        One of them.
    """
    has_counts = counts.sum(axis=1) > 0
    for name, values in zip(card.output_names, answers, strict=True):
        minimum, maximum = (-_SLACK, 1.0 + _SLACK) if name == "probability" else (-np.inf, np.inf)
        is_valid = (np.isfinite(values) & (values >= minimum) & (values <= maximum)).all(axis=1)
        n_wrong = int((has_counts & ~is_valid).sum())
        if n_wrong:
            row = values[np.argmax(has_counts & ~is_valid)]
            raise ModelError(
                f"Cannot use the network {path}: its {name} of {n_wrong} of {len(counts)} spectra is no "
                f"{'probability' if name == 'probability' else 'number'} "
                f"({row[~(np.isfinite(row) & (row >= minimum) & (row <= maximum))][0]}). Its weights are damaged; "
                "export or download it again, or take another model."
            )


def _check_trial_run(session: Any, card: ModelCard, path: Path) -> None:
    """Run a network on two plain spectra, with an end to the time that it may take.

    Raises
    ------
    ModelError
        It takes too long or too much memory, or gives what is no number.
    """
    counts = np.resize(np.array(_TRIAL_COUNTS, np.float32), (2, card.axis.n_bin))
    recorded = np.tile(np.array([card.axis.start_kev, card.axis.stop_kev], np.float32), (2, 1))
    unknown = np.full((2, len(card.instrument_inputs)), np.nan, np.float32)
    inputs = {"counts": counts, "recorded": recorded, "instrument": unknown}
    options = onnxruntime.RunOptions()
    options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    timer = Timer(_TRIAL_S, setattr, (options, "terminate", True))
    timer.daemon = True
    timer.start()
    try:
        answers = _run(
            session,
            card,
            {model_input.name: inputs[model_input.name] for model_input in session.get_inputs()},
            path,
            options,
        )
    except ModelError as error:
        if options.terminate:
            raise ModelError(
                f"Cannot use the network {path}: it takes more than {_TRIAL_S:g} s for two spectra. Take a model that "
                "this package wrote."
            ) from error
        raise
    finally:
        timer.cancel()
    _check_values(answers, counts, card, path)


def _shortened(error: Exception) -> str:
    text = str(error)
    return text if len(text) <= 500 else f"{text[:250]} ... {text[-250:]}"


def _check_card(session: Any, card: ModelCard, path: Path) -> Any:
    inputs, outputs = (
        {tensor.name: tensor.shape[-1] if tensor.shape else None for tensor in each_side}
        for each_side in (session.get_inputs(), session.get_outputs())
    )
    fits = inputs.get("counts") == card.axis.n_bin and outputs.get("log_odds") == len(card.names)
    fits &= all(outputs.get(name, 0) == card.output_width(name) for name in ("quantity", "amount"))
    fits &= inputs.get("instrument", 0) == len(card.instrument_inputs)
    if not fits or "probability" not in outputs or inputs.keys() - {"counts", "recorded", "instrument"}:
        raise ModelError(
            f"Cannot use the network {path}: it takes {inputs} and gives {outputs}, its card says "
            f"{card.axis.n_bin} bins and {len(card.names)} names. Export both again together."
        )
    types = {tensor.type for tensor in (*session.get_inputs(), *session.get_outputs())}
    if types != {"tensor(float)"}:
        raise ModelError(
            f"Cannot use the network {path}: it speaks of {', '.join(sorted(types))}; export it as tensor(float)."
        )
    return session
