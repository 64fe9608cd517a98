"""A trained network, ready to run with onnxruntime."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from underpaint.errors import ModelError
from underpaint.weights import ModelCard, load_card, model_path


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
        return _sent, (self.card, self.path, self.path.read_bytes())

    def __call__(
        self,
        counts: NDArray[np.float32],
        recorded_kev: NDArray[np.float32],
        instrument: NDArray[np.float32] | None = None,
    ) -> tuple[NDArray[np.float32], ...]:
        """Return (n, n_name) log-odds and probabilities, then (n, n_quantity) means and deviations where it has any.

        Parameters
        ----------
        counts : (n, n_bin) array
            Counts on the card's axis.
        recorded_kev : (n, 2) array
            Start and stop of the recorded range, keV; only networks that know of ranges look at it.
        instrument : (n_input,) array or None
            What :func:`underpaint.synth.instrument_inputs.instrument_inputs` says, NaN where not known; only networks
            of layers look at it. None: nothing is known.
        """
        n_input = len(self.card.instrument_inputs)
        told = np.full(n_input, np.nan, np.float32) if instrument is None else instrument
        given = {"counts": counts, "recorded": recorded_kev, "instrument": np.tile(told, (len(counts), 1))}
        feed = {each.name: np.ascontiguousarray(given[each.name], np.float32) for each in self.session.get_inputs()}
        return tuple(self.session.run(list(self.card.output_names), feed))


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
        There is no such model, its file is damaged, or file and card do not fit each other.
    """
    card, path = load_card(name_or_path), model_path(name_or_path)
    return OnnxModel(card, _check(open_session(path, threads=threads), card, path), path)


def _sent(card: ModelCard, path: Path, network: bytes) -> OnnxModel:
    return OnnxModel(card, _sent_session(network), path)


@lru_cache(maxsize=2)
def _sent_session(network: bytes) -> Any:
    return open_session(network, threads=1)


def open_session(path: Path | bytes, *, threads: int | None = None) -> Any:
    """Load an ONNX file, or the contents of one, without its card.

    Raises
    ------
    ModelError
        The file is not a readable ONNX network.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    options.log_severity_level = 3
    try:
        network = path if isinstance(path, bytes) else str(path)
        return onnxruntime.InferenceSession(network, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own errors share no public base
        name = "that was sent" if isinstance(path, bytes) else path
        message = f"Cannot load the network {name}: {error}. The file is damaged; export or download it again."
        raise ModelError(message) from error


def _check(session: Any, card: ModelCard, path: Path) -> Any:
    inputs = {each.name: each.shape[-1] for each in session.get_inputs()}
    outputs = {each.name: each.shape[-1] for each in session.get_outputs()}
    fits = inputs.get("counts") == card.axis.n_bin and outputs.get("log_odds") == len(card.names)
    fits &= outputs.get("quantity", 0) == len(card.quantities)
    fits &= inputs.get("instrument", 0) == len(card.instrument_inputs)
    if not fits or "probability" not in outputs or inputs.keys() - {"counts", "recorded", "instrument"}:
        message = (
            f"Cannot use the network {path}: it takes {inputs} and gives {outputs}, its card says "
            f"{card.axis.n_bin} bins and {len(card.names)} names. Export both again together."
        )
        raise ModelError(message)
    return session
