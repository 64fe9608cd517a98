"""Trained networks that run with onnxruntime."""

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

# Windows ignores the environment variable set by underpaint, and another package may have imported onnxruntime before.
onnxruntime.disable_telemetry_events()

BATCH_SPECTRA = 64
"""Number of spectra in a batch, so that intermediate values fit the processor's cache or take 250 MB at most."""
_ARENA_BYTES = 320 * 2**20
"""Maximum memory per core (at least two cores) of all networks in this process, bytes."""
_TRIAL_S = 10.0
_TRIAL_COUNTS = (3.0, 0.0, 40.0, 1.0, 0.0, 9.0, 2000.0)
_PROBABILITY_TOLERANCE = 1e-3


@dataclass(frozen=True)
class OnnxModel:
    """An ONNX session with its model card.

    Parameters
    ----------
    card : ModelCard
        Model card, which describes inputs and outputs.
    session : onnxruntime.InferenceSession
        Loaded network.
    path : Path
        ONNX file. A copy for another process includes the content of the file, and computes on one thread there.
    """

    card: ModelCard
    session: Any
    path: Path

    @cached_property
    def card_record(self) -> dict[str, Any]:
        """The model card as a JSON-serialisable mapping, without the composition of materials."""
        return self.card.model_dump(mode="json", exclude={"composition"})

    def __reduce__(self) -> tuple[Callable[..., "OnnxModel"], tuple[ModelCard, Path, bytes]]:
        """Return the function and arguments that open the network in another process, which may not see the file."""
        return _open_in_worker, (self.card, self.path, self.path.read_bytes())

    def __call__(
        self,
        counts: NDArray[np.float32],
        recorded_kev: NDArray[np.float32],
        instrument: NDArray[np.float32] | None = None,
    ) -> tuple[NDArray[np.float32], ...]:
        """Return the outputs named in the model card, each (n, :meth:`~.ModelCard.output_width`).

        These are log-odds and probabilities and, for some networks, means and deviations of quantities and the log-odds
        of amounts.

        Parameters
        ----------
        counts : (n, n_bin) array
            Counts on the axis of the model card.
        recorded_kev : (n, 2) array
            Start and stop of the recorded range, in keV; some networks do not use it.
        instrument : (n_input,) array or None
            Values of the instrument inputs, NaN for unknown values; None if all are unknown. Only networks that predict
            layers use them.
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
        batches = [slice(start, start + BATCH_SPECTRA) for start in range(0, len(counts), BATCH_SPECTRA)]
        answers = [
            self._run_batch({name: values[batch] for name, values in feed.items()}) for batch in batches or [slice(0)]
        ]
        return answers[0] if len(answers) == 1 else tuple(map(np.concatenate, zip(*answers, strict=True)))

    def _run_batch(self, feed: dict[str, NDArray[np.float32]]) -> tuple[NDArray[np.float32], ...]:
        answers = _run(self.session, self.card, feed, self.path)
        _check_values(answers, feed["counts"], self.card, self.path)
        return answers


def open_model(name_or_path: str | Path = "default", *, threads: int | None = None) -> OnnxModel:
    """Load a trained network.

    Parameters
    ----------
    name_or_path : str or Path
        Name of an included model, or path of an ``.onnx`` file with its model card beside it.
    threads : int or None
        CPU threads; None for the default of onnxruntime.

    Raises
    ------
    ModelError
        The model does not exist, its file is damaged or does not match the model card, :func:`~.check_network` refuses
        the network, it needs too much memory or time, or its outputs for a plain spectrum are not finite.
    """
    card, path = load_card(name_or_path), model_path(name_or_path)
    network = read_network(path)
    # The first session is not optimised, since optimisation would evaluate constant expressions before any check.
    _check_trial_run(_check_card(_session(network, path, threads=1, is_optimised=False), card, path), card, path)
    return OnnxModel(card, _check_card(_session(network, path, threads=threads), card, path), path)


def _open_in_worker(card: ModelCard, path: Path, network: bytes) -> OnnxModel:
    return OnnxModel(card, _session_in_worker(network), path)


@lru_cache(maxsize=2)
def _session_in_worker(network: bytes) -> Any:
    return open_session(network, threads=1)


def open_session(path: Path | bytes, *, threads: int | None = None) -> Any:
    """Load an ONNX file, or the content of a file, without its model card.

    Raises
    ------
    ModelError
        The file is not a readable ONNX network, or :func:`~.check_network` refuses it.
    """
    if isinstance(path, bytes):
        check_network(path, "that was sent")
        return _session(path, "that was sent", threads=threads)
    return _session(read_network(path), path, threads=threads)


def _session(network: bytes, name: Path | str, *, threads: int | None = None, is_optimised: bool = True) -> Any:
    _limit_memory()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    options.log_severity_level = 4  # errors are raised, so that they need not be printed as well
    if not is_optimised:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.add_session_config_entry("session.use_env_allocators", "1")
    options.add_session_config_entry("session.load_model_format", "ONNX")
    try:
        return onnxruntime.InferenceSession(network, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the errors of onnxruntime have no common public base class
        raise ModelError(
            f"Cannot load the network {name}: {_shorten(error)}. The file is damaged; export or download it again."
        ) from error


@cache
def _limit_memory() -> None:
    """Limit the total memory of all networks in this process."""
    max_bytes = _ARENA_BYTES * max(os.cpu_count() or 1, 2)
    memory = onnxruntime.OrtMemoryInfo(
        "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
    )
    # extend by the requested size, not by twice that size
    arena = onnxruntime.OrtArenaCfg({"max_mem": max_bytes, "arena_extend_strategy": 1})
    onnxruntime.create_and_register_allocator(memory, arena)


def _run(
    session: Any, card: ModelCard, feed: dict[str, NDArray[np.float32]], path: Path, options: Any = None
) -> tuple[NDArray[np.float32], ...]:
    try:
        answers = tuple(session.run(list(card.output_names), feed, options))
    except Exception as error:
        raise ModelError(
            f"Cannot run the network {path}: {_shorten(error)}. Take a model that this package wrote."
        ) from error
    n_spectrum = len(feed["counts"])
    for name, values in zip(card.output_names, answers, strict=True):
        expected_shape = (n_spectrum, card.output_width(name))
        if not isinstance(values, np.ndarray) or values.dtype != np.float32 or values.shape != expected_shape:
            answer_text = f"{values.dtype} {values.shape}" if isinstance(values, np.ndarray) else type(values).__name__
            raise ModelError(
                f"Cannot use the network {path}: for {n_spectrum} spectra its output {name} is {answer_text}; float32 "
                f"{expected_shape} is needed. Take a model that this package wrote."
            )
    return answers


def _check_values(
    answers: tuple[NDArray[np.float32], ...], counts: NDArray[np.float32], card: ModelCard, path: Path
) -> None:
    """Refuse outputs for spectra with counts that are not finite, and probabilities outside 0 to 1.

    Raises
    ------
    ModelError
        There is such an output.
    """
    has_counts = counts.sum(axis=1) > 0
    for name, values in zip(card.output_names, answers, strict=True):
        minimum, maximum = (
            (-_PROBABILITY_TOLERANCE, 1.0 + _PROBABILITY_TOLERANCE) if name == "probability" else (-np.inf, np.inf)
        )
        is_valid = (np.isfinite(values) & (values >= minimum) & (values <= maximum)).all(axis=1)
        n_invalid = int((has_counts & ~is_valid).sum())
        if n_invalid:
            row = values[np.argmax(has_counts & ~is_valid)]
            raise ModelError(
                f"Cannot use the network {path}: its {name} of {n_invalid} of {len(counts)} spectra is not a "
                f"{'probability' if name == 'probability' else 'number'} "
                f"({row[~(np.isfinite(row) & (row >= minimum) & (row <= maximum))][0]}). Its weights are damaged; "
                "export or download it again, or take another model."
            )


def _check_trial_run(session: Any, card: ModelCard, path: Path) -> None:
    """Run a network on two plain spectra with a time limit.

    Raises
    ------
    ModelError
        The network takes too much time or memory, or its outputs are not finite.
    """
    counts = np.resize(np.array(_TRIAL_COUNTS, np.float32), (2, card.axis.n_bin))
    recorded_kev = np.tile(np.array([card.axis.start_kev, card.axis.stop_kev], np.float32), (2, 1))
    unknown_instrument = np.full((2, len(card.instrument_inputs)), np.nan, np.float32)
    inputs = {"counts": counts, "recorded": recorded_kev, "instrument": unknown_instrument}
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


def _shorten(error: Exception) -> str:
    text = str(error)
    return text if len(text) <= 500 else f"{text[:250]} ... {text[-250:]}"


def _check_card(session: Any, card: ModelCard, path: Path) -> Any:
    inputs, outputs = (
        {tensor.name: tensor.shape[-1] if tensor.shape else None for tensor in tensors}
        for tensors in (session.get_inputs(), session.get_outputs())
    )
    is_consistent = inputs.get("counts") == card.axis.n_bin and outputs.get("log_odds") == len(card.names)
    is_consistent &= all(outputs.get(name, 0) == card.output_width(name) for name in ("quantity", "amount"))
    is_consistent &= inputs.get("instrument", 0) == len(card.instrument_inputs)
    if not is_consistent or "probability" not in outputs or inputs.keys() - {"counts", "recorded", "instrument"}:
        raise ModelError(
            f"Cannot use the network {path}: it has inputs {inputs} and outputs {outputs}, but its model card has "
            f"{card.axis.n_bin} bins and {len(card.names)} names. Export both files again."
        )
    types = {tensor.type for tensor in (*session.get_inputs(), *session.get_outputs())}
    if types != {"tensor(float)"}:
        raise ModelError(
            f"Cannot use the network {path}: its types are {', '.join(sorted(types))}; export it as tensor(float)."
        )
    return session
