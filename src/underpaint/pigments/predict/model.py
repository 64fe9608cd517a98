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

# An environment variable is not sufficient: Windows ignores it, and onnxruntime may have been imported earlier.
onnxruntime.disable_telemetry_events()

BATCH_SPECTRA = 64
"""Number of spectra per batch, so that intermediate values fit the processor's cache or use at most 250 MB."""
_ARENA_BYTES_PER_CORE = 320 * 2**20
"""Maximum memory of all networks in this process, in bytes per core. At least two cores are assumed."""
_TRIAL_LIMIT_S = 10.0
_TRIAL_COUNTS = (3.0, 0.0, 40.0, 1.0, 0.0, 9.0, 2000.0)
_PROBABILITY_TOLERANCE = 1e-3


@dataclass(frozen=True)
class OnnxModel:
    """ONNX session of a network with its model card.

    Parameters
    ----------
    card : ModelCard
        Model card, which describes inputs and outputs.
    session : onnxruntime.InferenceSession
        Loaded network.
    path : Path
        ONNX file. A pickled copy for another process includes the content of the file and uses one thread.
    """

    card: ModelCard
    session: Any
    path: Path

    @cached_property
    def card_record(self) -> dict[str, Any]:
        """The model card as a JSON-serialisable mapping, without the composition of materials."""
        return self.card.model_dump(mode="json", exclude={"composition"})

    def __reduce__(self) -> tuple[Callable[..., "OnnxModel"], tuple[ModelCard, Path, bytes]]:
        """Return a function and arguments that open the network in another process without access to the file."""
        return _open_in_worker, (self.card, self.path, self.path.read_bytes())

    def __call__(
        self,
        counts: NDArray[np.float32],
        recorded_kev: NDArray[np.float32],
        instrument: NDArray[np.float32] | None = None,
    ) -> tuple[NDArray[np.float32], ...]:
        """Return the outputs named in the model card, each of shape (n, :meth:`~.ModelCard.output_width`).

        The outputs are log-odds and probabilities. Some networks also return means and standard deviations of
        quantities, and log-odds of amounts.

        Parameters
        ----------
        counts : (n, n_bin) array
            Counts on the axis of the model card.
        recorded_kev : (n, 2) array
            Start and stop of the recorded energy range, in keV. Some networks do not use the recorded range.
        instrument : (n_input,) array or None
            Values of the instrument inputs, NaN for unknown values, or None if all values are unknown. Only networks
            that predict layers use these values.
        """
        n_input = len(self.card.instrument_inputs)
        instrument_values = np.full(n_input, np.nan, np.float32) if instrument is None else instrument
        inputs = {
            "counts": counts,
            "recorded": recorded_kev,
            "instrument": np.tile(instrument_values, (len(counts), 1)),
        }
        network_inputs = {
            model_input.name: np.ascontiguousarray(inputs[model_input.name], np.float32)
            for model_input in self.session.get_inputs()
        }
        batch_slices = [
            slice(batch_start, batch_start + BATCH_SPECTRA) for batch_start in range(0, len(counts), BATCH_SPECTRA)
        ]
        batch_outputs = [
            self._run_batch({name: input_values[batch_slice] for name, input_values in network_inputs.items()})
            for batch_slice in batch_slices or [slice(0)]
        ]
        return (
            batch_outputs[0]
            if len(batch_outputs) == 1
            else tuple(map(np.concatenate, zip(*batch_outputs, strict=True)))
        )

    def _run_batch(self, network_inputs: dict[str, NDArray[np.float32]]) -> tuple[NDArray[np.float32], ...]:
        outputs = _run_session(self.session, self.card, network_inputs, self.path)
        _check_values(outputs, network_inputs["counts"], self.card, self.path)
        return outputs


def open_model(name_or_path: str | Path = "default", *, threads: int | None = None) -> OnnxModel:
    """Load a trained network.

    Parameters
    ----------
    name_or_path : str or Path
        Name of an included model, or path of an ``.onnx`` file with its model card beside it.
    threads : int or None
        Number of CPU threads, or None for the default of onnxruntime.

    Raises
    ------
    ModelError
        The model does not exist, its file is damaged or does not match the model card, or :func:`~.check_network`
        rejects the network. A test spectrum needs too much memory or time, or its outputs are not finite.
    """
    card, path = load_card(name_or_path), model_path(name_or_path)
    network = read_network(path)
    # The first session is not optimised, because optimisation evaluates constant expressions before any check.
    _check_trial_run(_check_card(_create_session(network, path, threads=1, is_optimised=False), card, path), card, path)
    return OnnxModel(card, _check_card(_create_session(network, path, threads=threads), card, path), path)


def _open_in_worker(card: ModelCard, path: Path, network: bytes) -> OnnxModel:
    return OnnxModel(card, _session_in_worker(network), path)


@lru_cache(maxsize=2)
def _session_in_worker(network: bytes) -> Any:
    return open_session(network, threads=1)


def open_session(path: Path | bytes, *, threads: int | None = None) -> Any:
    """Create a session from an ONNX file or its content, without its model card.

    Raises
    ------
    ModelError
        The file is not a readable ONNX network, or :func:`~.check_network` rejects the network.
    """
    if isinstance(path, bytes):
        check_network(path, "that was sent")
        return _create_session(path, "that was sent", threads=threads)
    return _create_session(read_network(path), path, threads=threads)


def _create_session(network: bytes, name: Path | str, *, threads: int | None = None, is_optimised: bool = True) -> Any:
    _limit_memory()
    session_options = onnxruntime.SessionOptions()
    session_options.intra_op_num_threads = threads or 0
    session_options.log_severity_level = 4  # errors are raised and need no log output
    if not is_optimised:
        session_options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session_options.add_session_config_entry("session.use_env_allocators", "1")
    session_options.add_session_config_entry("session.load_model_format", "ONNX")
    try:
        return onnxruntime.InferenceSession(network, session_options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the errors of onnxruntime have no common public base class
        raise ModelError(
            f"Cannot load the network {name}: {_shortened_message(error)}. The file is damaged; export or "
            "download it again."
        ) from error


@cache
def _limit_memory() -> None:
    """Limit the total memory of all networks in this process."""
    max_bytes = _ARENA_BYTES_PER_CORE * max(os.cpu_count() or 1, 2)
    memory_info = onnxruntime.OrtMemoryInfo(
        "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
    )
    # the arena grows by the requested size, not by twice that size
    arena_settings = onnxruntime.OrtArenaCfg({"max_mem": max_bytes, "arena_extend_strategy": 1})
    onnxruntime.create_and_register_allocator(memory_info, arena_settings)


def _run_session(
    session: Any, card: ModelCard, network_inputs: dict[str, NDArray[np.float32]], path: Path, run_options: Any = None
) -> tuple[NDArray[np.float32], ...]:
    try:
        outputs = tuple(session.run(list(card.output_names), network_inputs, run_options))
    except Exception as error:
        raise ModelError(
            f"Cannot run the network {path}: {_shortened_message(error)}. Take a model that this package wrote."
        ) from error
    n_spectrum = len(network_inputs["counts"])
    for name, output_values in zip(card.output_names, outputs, strict=True):
        expected_shape = (n_spectrum, card.output_width(name))
        if (
            not isinstance(output_values, np.ndarray)
            or output_values.dtype != np.float32
            or output_values.shape != expected_shape
        ):
            output_text = (
                f"{output_values.dtype} {output_values.shape}"
                if isinstance(output_values, np.ndarray)
                else type(output_values).__name__
            )
            raise ModelError(
                f"Cannot use the network {path}: for {n_spectrum} spectra its output {name} is {output_text}; float32 "
                f"{expected_shape} is needed. Take a model that this package wrote."
            )
    return outputs


def _check_values(
    outputs: tuple[NDArray[np.float32], ...], counts: NDArray[np.float32], card: ModelCard, path: Path
) -> None:
    """Raise an error for outputs that are not finite and for probabilities outside 0 to 1.

    Raises
    ------
    ModelError
        An output is not finite, or a probability is outside 0 to 1.
    """
    has_counts = counts.sum(axis=1) > 0
    for name, output_values in zip(card.output_names, outputs, strict=True):
        min_value, max_value = (
            (-_PROBABILITY_TOLERANCE, 1.0 + _PROBABILITY_TOLERANCE) if name == "probability" else (-np.inf, np.inf)
        )
        is_valid = (np.isfinite(output_values) & (output_values >= min_value) & (output_values <= max_value)).all(
            axis=1
        )
        n_invalid_values = int((has_counts & ~is_valid).sum())
        if n_invalid_values:
            spectrum_values = output_values[np.argmax(has_counts & ~is_valid)]
            is_in_range = (spectrum_values >= min_value) & (spectrum_values <= max_value)
            invalid_value = spectrum_values[~(np.isfinite(spectrum_values) & is_in_range)][0]
            raise ModelError(
                f"Cannot use the network {path}: its {name} of {n_invalid_values} of {len(counts)} spectra is not a "
                f"{'probability' if name == 'probability' else 'number'} "
                f"({invalid_value}). Its weights are damaged; export or download it again, or take another model."
            )


def _check_trial_run(session: Any, card: ModelCard, path: Path) -> None:
    """Run a network on two test spectra with a time limit.

    Raises
    ------
    ModelError
        The network takes too much time or memory, or its outputs are not finite.
    """
    counts = np.resize(np.array(_TRIAL_COUNTS, np.float32), (2, card.axis.n_bin))
    recorded_kev = np.tile(np.array([card.axis.start_kev, card.axis.stop_kev], np.float32), (2, 1))
    unknown_instrument = np.full((2, len(card.instrument_inputs)), np.nan, np.float32)
    inputs = {"counts": counts, "recorded": recorded_kev, "instrument": unknown_instrument}
    run_options = onnxruntime.RunOptions()
    run_options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    timer = Timer(_TRIAL_LIMIT_S, setattr, (run_options, "terminate", True))
    timer.daemon = True
    timer.start()
    try:
        outputs = _run_session(
            session,
            card,
            {model_input.name: inputs[model_input.name] for model_input in session.get_inputs()},
            path,
            run_options,
        )
    except ModelError as error:
        if run_options.terminate:
            raise ModelError(
                f"Cannot use the network {path}: it takes more than {_TRIAL_LIMIT_S:g} s for two spectra. Take a model "
                "that this package wrote."
            ) from error
        raise
    finally:
        timer.cancel()
    _check_values(outputs, counts, card, path)


def _shortened_message(error: Exception) -> str:
    error_text = str(error)
    return error_text if len(error_text) <= 500 else f"{error_text[:250]} ... {error_text[-250:]}"


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
    tensor_types = {tensor.type for tensor in (*session.get_inputs(), *session.get_outputs())}
    if tensor_types != {"tensor(float)"}:
        raise ModelError(
            f"Cannot use the network {path}: its types are {', '.join(sorted(tensor_types))}; export it as "
            "tensor(float)."
        )
    return session
