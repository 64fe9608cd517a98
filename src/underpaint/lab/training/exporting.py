"""From a torch network to an ONNX file with its model card."""

import logging
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from underpaint.errors import OutputError, TrainingError
from underpaint.lab.training.module import inputs_of, quiet
from underpaint.pigments.predict.model import open_session
from underpaint.pigments.weights import ModelCard
from underpaint.runtime.files import publish, working_folder

_TOLERANCE = 1e-4
_CHECKED_SPECTRA = 33
_OPSET = 18


class _Answer(nn.Module):
    """The network with log-odds and probabilities as outputs."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        outputs = self.network(*inputs)
        logits, *quantities = outputs if isinstance(outputs, tuple) else (outputs,)
        return logits, torch.sigmoid(logits), *quantities


def export(network: nn.Module, card: ModelCard, path: str | Path) -> Path:
    """Write a network as ONNX with its card; both files appear complete or not at all.

    Parameters
    ----------
    network : Module
        The trained network, of any kind of :func:`underpaint.lab.networks.build_network`.
    card : ModelCard
        Its card.
    path : str or Path
        Folder, or path ending in ``.onnx``. A folder receives ``<card.name>.onnx`` and ``<card.name>.json``.

    Returns
    -------
    Path
        The ONNX file. Inputs: ``counts`` (n, n_bin) float32, for the default network and one of layers ``recorded``
        (n, 2) float32, keV, and for one of layers ``instrument`` (n, n_input). Outputs: ``log_odds`` and
        ``probability`` (n, n_name) float32, of one of layers ``quantity`` and ``sigma`` (n, n_quantity), and of one
        that answers amounts ``amount`` (n, n_amount n_edge), log-odds that a mass share reaches each edge.

    Raises
    ------
    TrainingError
        The ONNX file does not answer as the torch network does, to 1e-4 in probability and 1e-4 of the log-odds.
    OutputError
        The files cannot be written.
    """
    target = Path(path)
    if target.suffix != ".onnx":
        target /= f"{card.name}.onnx"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with working_folder(target) as work:
            draft = work.path / target.name
            _write_onnx(network.cpu().eval(), card, draft)
            check_export(network, card, draft)
            card.write(draft.with_suffix(".json"))
            publish(draft.with_suffix(".json"), target.with_suffix(".json"))
            publish(draft, target)
    except OSError as error:
        raise OutputError(
            f"Cannot write the model {target}: {error}. Choose a folder that can be written and has space."
        ) from error
    return target


def check_export(network: nn.Module, card: ModelCard, path: Path) -> None:
    """Compare an ONNX file with its torch network on random counts.

    Raises
    ------
    TrainingError
        The two differ by more than 1e-4.
    """
    inputs = example_inputs(network, card, _CHECKED_SPECTRA)
    with torch.inference_mode():
        expected = [each.numpy() for each in _Answer(network)(*inputs)]
    answers = _run_onnx(path, inputs)
    for name, torch_values, onnx_values in zip(card.output_names, expected, answers, strict=True):
        worst = float(np.max(np.abs(torch_values - onnx_values) / np.maximum(1.0, np.abs(torch_values))))
        if not worst <= _TOLERANCE:
            raise TrainingError(
                f"Cannot export {card.name}: {name} of the ONNX file differs from torch by {worst:.2g}, "
                f"allowed is {_TOLERANCE:g}. Try other versions of torch and onnxscript."
            )


def example_inputs(network: nn.Module, card: ModelCard, n_spectra: int) -> tuple[Tensor, ...]:
    """Random counts (and recorded ranges, and instruments) in the form that the network takes."""
    generator = torch.Generator().manual_seed(0)
    rate = 10.0 ** (4 * torch.rand((n_spectra, card.axis.n_bin), generator=generator) - 2)
    counts = torch.poisson(rate, generator=generator)
    axis = card.axis
    stop = axis.stop_kev - 0.5 * (axis.stop_kev - axis.start_kev) * torch.rand((n_spectra, 1), generator=generator)
    recorded = torch.cat((torch.full_like(stop, axis.start_kev), stop), dim=1)
    instrument = torch.rand((n_spectra, len(card.instrument_inputs)), generator=generator)
    instrument[::2, 1:] = torch.nan
    return inputs_of(network, counts, recorded, instrument)


def _write_onnx(network: nn.Module, card: ModelCard, path: Path) -> None:
    inputs = example_inputs(network, card, 2)
    names = ["counts", "recorded", "instrument"][: len(inputs)]
    batch = torch.export.Dim("n_spectrum", min=1)
    with quiet("torch.onnx", logging.ERROR, ""):  # notes on optional packages
        program = torch.onnx.export(
            _Answer(network),
            inputs,
            input_names=names,
            output_names=list(card.output_names),
            dynamic_shapes=(tuple({0: batch} for _ in names),),
            opset_version=_OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    if program is None:
        raise TrainingError(f"Cannot export {card.name}: torch made no ONNX program.")
    program.save(path, external_data=False)
    _strip_traces(path)


def _strip_traces(path: Path) -> None:
    """Remove the exporter's traces from a file: they contain source lines and folders of the machine."""
    model = onnx.load(path)
    for part in (model, model.graph, *model.graph.node, *model.graph.value_info, *model.graph.initializer):
        del part.metadata_props[:]
    for part in (*model.graph.input, *model.graph.output):
        del part.metadata_props[:]
    onnx.save(model, path)


def _run_onnx(path: Path, inputs: tuple[Tensor, ...]) -> list[np.ndarray]:
    session = open_session(path)
    feed = dict(zip((each.name for each in session.get_inputs()), (each.numpy() for each in inputs), strict=True))
    return [np.asarray(each) for each in session.run(None, feed)]
