"""Which network: every architecture given the same simulated spectra and the same processor time to learn.

    underpaint simulate CONFIG --out LIBRARY.h5      # with places = true
    python benchmarks/architecture.py LIBRARY.h5 [--minutes 6] [--spectra 100000] [--json FILE]

Prints, for the paper's network and ours: parameters, multiply-adds and spectra a second (onnxruntime, two threads),
what it saw in its time, and F1 over groups at fixed counts, on stratigraphies and instruments that no network was
trained on. All spectra are simulated. The same call goes on where an interrupted one stopped. "Labels by place" are
what lies at the surface and what lies below.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as lightning
import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from underpaint.data.maps import SURFACE_UM, split_place
from underpaint.lab.evaluation.suite import spectra_per_second
from underpaint.lab.networks import XuNetwork, build_network, parameter_count
from underpaint.lab.training import Library, TrainSettings, export, load_library
from underpaint.lab.training.batches import Batch, Batches
from underpaint.lab.training.checkpoint import card_for, checkpoint_description, load_checkpoint, spec_for
from underpaint.lab.training.loop import fit
from underpaint.lab.training.metrics import scores_by_name
from underpaint.lab.training.module import PigmentModule, batch_loss, network_inputs, run_network
from underpaint.lab.training.split import Split, split_by_source
from underpaint.pigments.predict import open_model
from underpaint.pigments.weights import ModelCard
from underpaint.runtime.files import atomic_write

KINDS = ("xu2022", "default", "layers_dense", "layers", "layers_recurrent", "layers_composition")
TASKS = {
    "xu2022": "the paper's network",
    "default": "convolutions, dense layers, linear path",
    "layers_dense": "the same, by place, with inputs for the instrument",
    "layers": "with attention",
    "layers_recurrent": "with a recurrent unit",
    "layers_composition": "with attention, queried by composition",
}
COUNTS = (1e4, 1e5)
_TEST_SPECTRA = 6000
_TIMED_STEPS = 14


def settings_of(kind: str, library: Path, out: Path, arguments: argparse.Namespace, *, epochs: int) -> TrainSettings:
    """Return one recipe for all; the paper's network learns by it, too, with noise and without invisible labels."""
    return TrainSettings(
        library=(library,), out=out, kind="default" if kind == "xu2022" else kind, name=kind, epochs=epochs,
        patience=epochs, seed=arguments.seed, threads=1, progress=False,
    )  # fmt: skip


def fresh(kind: str, data: Library, settings: TrainSettings) -> tuple[nn.Module, ModelCard]:
    """Return a network with random weights and its card."""
    card = card_for(data, settings, 0)
    if kind != "xu2022":
        return build_network(spec_for(card)), card
    return XuNetwork(data.axis.n_bin, len(data.names)), card.model_copy(update={"kind": "xu2022"})


def seconds_a_step(network: nn.Module, data: Library, settings: TrainSettings) -> float:
    """Time some steps in processor seconds, which other load hardly affects; the first ones warm up."""
    torch.set_num_threads(1)  # several would wait for each other, and count the waiting
    optimizer = torch.optim.Adam(network.parameters(), 0.0)
    times = []
    for _, batch in zip(range(_TIMED_STEPS), Batches(data, np.arange(len(data)), settings, shuffle=True), strict=False):
        start = time.process_time()
        with torch.autocast("cpu", torch.bfloat16):
            loss = batch_loss(network, batch)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        times.append(time.process_time() - start)
    return float(np.median(times[2:]))


def trained(kind: str, data: Library, split: Split, arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Train one network for the minutes that all have, and measure it."""
    lightning.seed_everything(arguments.seed, verbose=False)
    trial = settings_of(kind, arguments.library, folder, arguments, epochs=1)
    network, card = fresh(kind, data, trial)
    steps = 60 * arguments.minutes / seconds_a_step(network, data, trial)
    views = int(steps * trial.batch)
    epochs = max(1, round(views / split.train.size))
    rows = np.sort(np.random.default_rng(arguments.seed).permutation(split.train)[:views])
    settings = settings_of(kind, arguments.library, folder, arguments, epochs=epochs)
    network, card = fresh(kind, data, settings)
    start = time.process_time()
    fit(
        PigmentModule(network, settings, checkpoint_description(network, card)),
        data,
        Split(rows, split.validation, split.test),
        settings,
        None,
    )
    spent = (time.process_time() - start) / 60
    if kind != "xu2022":
        network = load_checkpoint(settings.out / "best.ckpt").network
    return {
        "parameters": parameter_count(network),
        "million_multiply_adds": round(multiply_adds(network, data, settings) / 1e6, 2),
        "processor_minutes": round(spent, 2),
        "spectra_seen": int(rows.size * epochs),
        **scores(network.eval(), data, split.test[:_TEST_SPECTRA], settings),
    }


def multiply_adds(network: nn.Module, data: Library, settings: TrainSettings) -> float:
    """Count the multiply-adds of one spectrum."""
    batch = next(iter(Batches(data, np.arange(1), settings, shuffle=False)))
    counter = FlopCounterMode(display=False)
    with torch.inference_mode(), counter:
        network.eval()(*network_inputs(network, batch.counts, batch.recorded_kev, batch.instrument))
    return counter.get_total_flops() / 2


def speed(kind: str, data: Library, arguments: argparse.Namespace) -> float:
    """Measure the ONNX file of a network with any weights."""
    with tempfile.TemporaryDirectory() as folder:
        settings = settings_of(kind, arguments.library, Path(folder), arguments, epochs=1)
        return spectra_per_second(open_model(export(*fresh(kind, data, settings), Path(folder)), threads=2), 3.0)


def scores(network: nn.Module, data: Library, rows: np.ndarray, settings: TrainSettings) -> dict[str, Any]:
    """Score groups at fixed counts, by place, and the thickness of the uppermost layer."""
    result: dict[str, Any] = {}
    for counts in COUNTS:
        at_counts = settings.model_copy(update={"counts_min": counts, "counts_max": counts})
        batches = list(Batches(data, rows, at_counts, shuffle=False))
        with torch.inference_mode():
            answers = [run_network(network, batch) for batch in batches]
        result[f"{counts:.0e}"] = {
            **_presence(data, batches, [each[0] for each in answers]),
            **(_thickness(data, batches, answers) if len(answers[0]) > 1 else {}),
        }
    return result


def _presence(data: Library, batches: list[Batch], logits: list[torch.Tensor]) -> dict[str, float]:
    table = (
        torch.cat(logits),
        torch.cat([each.labels for each in batches]),
        torch.cat([each.weight for each in batches]),
    )
    figures = scores_by_name(data.names, *(each.float().numpy() for each in table))
    kinds = dict(zip(data.names, data.kinds, strict=True))
    scores: dict[str, float] = {}
    for place in ("anywhere", "surface", "below"):
        figures_of_place = [each for each in figures if split_place(each.name)[1] == place]
        groups = [each.f1 for each in figures_of_place if kinds[each.name] == "group"]
        members = [each.auprc for each in figures_of_place if kinds[each.name] == "member"]
        scores[f"group_f1_{place}"] = round(float(np.nanmean(groups)), 4)
        scores[f"member_auprc_{place}"] = round(float(np.nanmean(members)), 4)
    return scores


def _thickness(data: Library, batches: list[Batch], answers: list[tuple[torch.Tensor, ...]]) -> dict[str, float]:
    column = data.quantity_names.index(SURFACE_UM)
    truth, mean, sigma = (
        torch.cat(each)[:, column].numpy()
        for each in (
            [batch.quantity for batch in batches],
            [answer[1] for answer in answers],
            [answer[2] for answer in answers],
        )
    )
    off = np.abs(mean - truth)
    return {
        "thickness_median_factor": round(float(np.exp(np.nanmedian(off))), 3),
        "thickness_90_coverage": round(float(np.nanmean(off[~np.isnan(off)] < 1.645 * sigma[~np.isnan(off)])), 4),
    }


def main() -> None:
    """Train, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("library", type=Path)
    parser.add_argument(
        "--minutes",
        type=float,
        default=6.0,
        help="processor minutes that each network learns for, on one thread",
    )
    parser.add_argument("--spectra", type=int, default=100_000, help="spectra to learn from, the same for all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    data = load_library(arguments.library, half_precision=True)
    full_split = split_by_source(data.source, seed=arguments.seed, validation_share=0.02, test_share=0.05)
    chosen = np.random.default_rng(arguments.seed).permutation(full_split.train)[: arguments.spectra]
    split = Split(np.sort(chosen), full_split.validation, np.random.default_rng(1).permutation(full_split.test))
    about = {
        "library": arguments.library.name, "seed": arguments.seed, "processor_minutes_each": arguments.minutes,
        "spectra": int(split.train.size), "test_spectra": min(_TEST_SPECTRA, split.test.size),
    }  # fmt: skip
    networks = finished(arguments.json, about)
    for kind in (kind_requested for kind_requested in arguments.kinds if kind_requested not in networks):
        with tempfile.TemporaryDirectory() as folder:
            networks[kind] = {"what": TASKS[kind], **trained(kind, data, split, arguments, Path(folder))}
        print(json.dumps({kind: networks[kind]}), flush=True)
        keep(arguments.json, about, networks)
    for kind, kind_requested in networks.items():  # one after the other, so that they meet the same machine
        kind_requested["spectra_per_s"] = round(speed(kind, data, arguments))
        print(f"{kind}: {kind_requested['spectra_per_s']:,} spectra/s", flush=True)
    keep(arguments.json, about, networks)


def keep(path: Path | None, about: dict[str, Any], networks: dict[str, dict[str, Any]]) -> None:
    """Write what is finished."""
    if path is not None:
        with atomic_write(path) as part:
            part.write_text(json.dumps({**about, "networks": networks}, indent=2) + "\n", encoding="utf-8")


def finished(path: Path | None, about: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the networks of an interrupted run on the same spectra."""
    if path is None or not path.is_file():
        return {}
    stored = json.loads(path.read_text("utf-8"))
    networks: dict[str, dict[str, Any]] = stored.pop("networks")
    return networks if stored == about else {}


if __name__ == "__main__":
    main()
