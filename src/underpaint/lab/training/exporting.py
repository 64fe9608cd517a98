"""Export of a torch network to an ONNX file with its model card."""

import logging
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from underpaint.errors import OutputError, TrainingError
from underpaint.lab.training.module import network_inputs, silence_messages
from underpaint.pigments.predict.model import open_session
from underpaint.pigments.weights import ModelCard
from underpaint.runtime.files import rename_finished, working_folder

_TOLERANCE = 1e-4
_N_CHECK_SPECTRA = 33
_ONNX_OPSET = 18


class _NetworkWithProbability(nn.Module):
    """Network with probabilities as additional outputs."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        outputs = self.network(*inputs)
        logits, *other_outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        return logits, torch.sigmoid(logits), *other_outputs


def export(network: nn.Module, model_card: ModelCard, path: str | Path) -> Path:
    """Write a network as an ONNX file, and write its model card. Incomplete files never appear.

    Parameters
    ----------
    network : Module
        Trained network, of any kind that :func:`underpaint.lab.networks.build_network` builds.
    model_card : ModelCard
        Model card of the network.
    path : str or Path
        Folder, or path ending in ``.onnx``. A folder receives ``<model_card.name>.onnx`` and
        ``<model_card.name>.json``.

    Returns
    -------
    Path
        Path of the ONNX file. All inputs and outputs are float32.
        All networks have the input ``counts`` (n, n_bin).
        The default network and networks of layers also have the input ``recorded`` (n, 2), in keV.
        Networks of layers also have the input ``instrument`` (n, n_input).
        All networks have the outputs ``log_odds`` and ``probability`` (n, n_name).
        Networks of layers also have the outputs ``quantity`` and ``sigma`` (n, n_quantity).
        Networks that predict amounts also have the output ``amount`` (n, n_amount n_edge).
        ``amount`` has the log-odds that a mass fraction reaches each class edge.

    Raises
    ------
    TrainingError
        Outputs of the ONNX file differ from those of the torch network by more than 1e-4.
    OutputError
        The files cannot be written.
    """
    onnx_path = Path(path)
    if onnx_path.suffix != ".onnx":
        onnx_path /= f"{model_card.name}.onnx"
    try:
        onnx_path.parent.mkdir(parents=True, exist_ok=True)
        with working_folder(onnx_path) as draft_folder:
            draft_path = draft_folder.path / onnx_path.name
            _write_onnx(network.cpu().eval(), model_card, draft_path)
            check_export(network, model_card, draft_path)
            model_card.write(draft_path.with_suffix(".json"))
            rename_finished(draft_path.with_suffix(".json"), onnx_path.with_suffix(".json"))
            rename_finished(draft_path, onnx_path)
    except OSError as error:
        raise OutputError(
            f"Cannot write the model {onnx_path}: {error}. Choose a folder that can be written and has space."
        ) from error
    return onnx_path


def check_export(network: nn.Module, model_card: ModelCard, path: Path) -> None:
    """Check that an ONNX file has the same outputs as its torch network on random counts.

    Raises
    ------
    TrainingError
        An output differs by more than 1e-4. For output values above 1, the limit is relative.
    """
    inputs = example_inputs(network, model_card, _N_CHECK_SPECTRA)
    with torch.inference_mode():
        torch_outputs = [output_tensor.numpy() for output_tensor in _NetworkWithProbability(network)(*inputs)]
    onnx_outputs = _run_onnx(path, inputs)
    for name, torch_values, onnx_values in zip(model_card.output_names, torch_outputs, onnx_outputs, strict=True):
        max_difference = float(np.max(np.abs(torch_values - onnx_values) / np.maximum(1.0, np.abs(torch_values))))
        if not max_difference <= _TOLERANCE:
            raise TrainingError(
                f"Cannot export {model_card.name}: {name} of the ONNX file differs from torch by {max_difference:.2g}, "
                f"allowed is {_TOLERANCE:g}. Try other versions of torch and onnxscript."
            )


def example_inputs(network: nn.Module, model_card: ModelCard, n_spectra: int) -> tuple[Tensor, ...]:
    """Return random counts and, for some kinds of networks, random recorded ranges and instrument conditions."""
    rng = torch.Generator().manual_seed(0)
    mean_counts = 10.0 ** (4 * torch.rand((n_spectra, model_card.axis.n_bin), generator=rng) - 2)
    counts = torch.poisson(mean_counts, generator=rng)
    axis = model_card.axis
    stop_kev = axis.stop_kev - 0.5 * (axis.stop_kev - axis.start_kev) * torch.rand((n_spectra, 1), generator=rng)
    recorded_kev = torch.cat((torch.full_like(stop_kev, axis.start_kev), stop_kev), dim=1)
    instrument = torch.rand((n_spectra, len(model_card.instrument_inputs)), generator=rng)
    instrument[::2, 1:] = torch.nan
    return network_inputs(network, counts, recorded_kev, instrument)


def _write_onnx(network: nn.Module, model_card: ModelCard, path: Path) -> None:
    inputs = example_inputs(network, model_card, 2)
    input_names = ["counts", "recorded", "instrument"][: len(inputs)]
    n_spectrum_dimension = torch.export.Dim("n_spectrum", min=1)
    with silence_messages("torch.onnx", logging.ERROR, ""):  # warnings about missing optional packages
        onnx_program = torch.onnx.export(
            _NetworkWithProbability(network),
            inputs,
            input_names=input_names,
            output_names=list(model_card.output_names),
            dynamic_shapes=(tuple({0: n_spectrum_dimension} for _ in input_names),),
            opset_version=_ONNX_OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    if onnx_program is None:
        raise TrainingError(f"Cannot export {model_card.name}: torch made no ONNX program.")
    onnx_program.save(path, external_data=False)
    _remove_metadata(path)


def _remove_metadata(path: Path) -> None:
    """Remove the exporter's metadata, such as paths on this machine, from an ONNX file."""
    onnx_model = onnx.load(path)
    for proto_message in (
        onnx_model,
        onnx_model.graph,
        *onnx_model.graph.node,
        *onnx_model.graph.value_info,
        *onnx_model.graph.initializer,
    ):
        del proto_message.metadata_props[:]
    for proto_message in (*onnx_model.graph.input, *onnx_model.graph.output):
        del proto_message.metadata_props[:]
    onnx.save(onnx_model, path)


def _run_onnx(path: Path, inputs: tuple[Tensor, ...]) -> list[np.ndarray]:
    onnx_session = open_session(path)
    input_by_name = dict(
        zip(
            (session_input.name for session_input in onnx_session.get_inputs()),
            (tensor.numpy() for tensor in inputs),
            strict=True,
        )
    )
    return [np.asarray(output_array) for output_array in onnx_session.run(None, input_by_name)]
