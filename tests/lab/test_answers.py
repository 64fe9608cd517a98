"""Networks of the third generation: present where lines show, amounts, areas of line families as an input."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from underpaint.data import DEFAULT_NETWORK_AXIS, Scan
from underpaint.data.maps import AMOUNT_EDGES
from underpaint.errors import TrainingError
from underpaint.lab.evaluation.presence import Truth, presence_scores
from underpaint.lab.networks import Calibration, LayersNetwork, build_network
from underpaint.lab.networks.layers import Evidence
from underpaint.lab.training import (
    FinetuneSettings,
    Library,
    TrainSettings,
    export,
    finetune,
    finetuning,
    load_library,
    load_trainable,
    train,
)
from underpaint.lab.training.batches import Batches
from underpaint.lab.training.calibration import calibrate_network
from underpaint.lab.training.checkpoint import FAMILIES, TrainedNetwork, card_for, spec_for
from underpaint.lab.training.instrument_model import (
    InstrumentModelSettings,
    Sizes,
    train_instrument_model,
    transfer_weights,
)
from underpaint.lab.training.library import UNKNOWN
from underpaint.lab.training.module import amount_loss, run_network
from underpaint.physics.forward import emit, render
from underpaint.physics.instrument import load_instrument
from underpaint.physics.materials import Paint, Stratigraphy
from underpaint.pigments.predict import identify, open_model
from underpaint.simulate import LibrarySettings, simulate_library

PALETTE = ("vermilion", "lead_white", "azurite", "zinc_white", "chalk")
AXIS = DEFAULT_NETWORK_AXIS


@pytest.fixture(scope="module")
def library_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("answers") / "library.h5"
    settings = LibrarySettings(
        palette=PALETTE, n_stratigraphies=48, renders=2, chunk=16, seed=1, places=True, gapless=True, varied=True
    )
    return simulate_library(settings, out, workers=1)


@pytest.fixture(scope="module")
def by_lines(library_file: Path) -> Library:
    return load_library(library_file, lines=True)


def settings_in(out: Path) -> TrainSettings:
    return TrainSettings(
        library=(Path("library"),), out=out, kind="layers_evidence", present="lines", name="small", epochs=1, batch=16,
        threads=1, validation_share=0.2, precision="32", progress=False,
    )  # fmt: skip


def untrained(library: Library, folder: Path) -> TrainedNetwork:
    card = card_for(library, settings_in(folder), len(library))
    return TrainedNetwork(build_network(spec_for(card)).eval(), card)


def spectrum(shares: dict[str, float]) -> torch.Tensor:
    instrument = load_instrument("elio")
    sample = Stratigraphy((Paint(shares).layer(80.0), Paint({"chalk": 1.0}).layer(100.0)))
    expected = np.asarray(render(emit([sample], instrument), instrument.detector, AXIS))
    return torch.from_numpy((1e5 * expected / expected.sum()).astype(np.float32))


def test_areas_tell_which_elements_are_there() -> None:
    evidence = Evidence(FAMILIES, AXIS.n_channel, AXIS.start_kev, AXIS.gain_kev)
    features = evidence(spectrum({"vermilion": 0.7, "azurite": 0.3}))[0, : len(FAMILIES)]
    significance = dict(zip(FAMILIES, features.tolist(), strict=True))
    ten_sigma = float(np.log1p(10.0))
    assert min(significance[name] for name in ("Hg_L", "Cu_K")) > ten_sigma
    assert max(significance[name] for name in ("Mn_K", "Co_K", "Sr_K", "Ti_K")) < float(np.log1p(5.0))


def test_a_peak_that_lies_elsewhere_by_a_third_of_a_bin_keeps_its_area() -> None:
    evidence = Evidence(FAMILIES, AXIS.n_channel, AXIS.start_kev, AXIS.gain_kev)
    shifted = Evidence(FAMILIES, AXIS.n_channel, AXIS.start_kev + 0.013, AXIS.gain_kev)
    counts = spectrum({"azurite": 1.0})
    areas = [(counts @ each.area_matrix.T)[0, FAMILIES.index("Cu_K")].item() for each in (evidence, shifted)]
    assert areas[1] == pytest.approx(areas[0], rel=0.03)


def test_present_means_that_lines_show(library_file: Path, by_lines: Library) -> None:
    by_pigment = load_library(library_file)
    assert by_pigment.amount is None
    groups = [by_lines.names.index(name) for name in by_lines.amount_names]
    members = [column for column in range(len(by_lines.names)) if column not in groups]
    np.testing.assert_array_equal(by_lines.labels[:, members], by_pigment.labels[:, members])
    assert by_lines.amount is not None
    # traces are labels now, and a pigment's element stays one unless none of its photons leaves
    more, less = by_lines.labels[:, groups] > by_pigment.labels[:, groups], by_lines.labels < by_pigment.labels
    assert more.sum() > 10
    assert np.isinf(by_pigment.counts_needed[less]).all()
    # a minor pigment of 10 ppm brings less of its element
    assert np.mean(by_lines.amount[by_pigment.labels[:, groups] == 1] > 0) > 0.8


def test_what_the_counts_cannot_show_by_far_is_not_present(by_lines: Library, tmp_path: Path) -> None:
    settings = settings_in(tmp_path).model_copy(update={"counts_min": 1e4, "counts_max": 1e4, "batch": 96})
    batch = next(iter(Batches(by_lines, np.arange(96), settings, shuffle=False)))
    labels, weight, needed = batch.labels.numpy(), batch.weight.numpy(), by_lines.counts_needed
    groups = np.isin(by_lines.names, by_lines.amount_names)
    present = (by_lines.labels == 1) & groups
    assert by_lines.max_absent_counts is not None
    shows, hidden = present & (needed <= 1e4), present & (by_lines.max_absent_counts >= 1e4)
    between = present & ~shows & ~hidden
    assert min(shows.sum(), hidden.sum(), between.sum()) > 10
    assert (labels[shows] == 1).all()
    assert (labels[hidden] == 0).all()
    assert (weight[shows | hidden] == 1).all()
    assert (weight[between] == 0).all()


def test_lines_need_a_library_that_knows_them(tmp_path: Path) -> None:
    plain = LibrarySettings(palette=("azurite",), n_stratigraphies=2, renders=1, chunk=2)
    file = simulate_library(plain, tmp_path / "plain.h5", workers=1)
    import h5py

    with h5py.File(file, "r+") as written:
        del written["lines_needed"]
    with pytest.raises(TrainingError, match="the file lacks lines_needed"):
        load_library(file, lines=True)


def test_the_loss_of_an_amount_is_least_where_the_edges_are_right() -> None:
    amount = torch.tensor([[3]], dtype=torch.uint8)
    right = torch.tensor([[9.0, 9.0, 9.0, -9.0, -9.0]])
    assert float(amount_loss(right, amount)) < 1e-3
    assert float(amount_loss(right.flip(1), amount)) > 3.0


def test_amounts_that_are_not_known_count_neither_for_nor_against(by_lines: Library) -> None:
    wider = by_lines.with_names((*by_lines.names, "gold_metal"))
    assert wider.amount is not None
    assert wider.amount_names == (*by_lines.amount_names, "gold_metal")
    assert set(wider.amount[:, -1]) == {UNKNOWN}
    np.testing.assert_array_equal(wider.amount[:, :-1], by_lines.amount)
    logits = torch.randn((4, 2 * len(AMOUNT_EDGES)), generator=torch.manual_seed(0))
    amount = torch.tensor([[3, UNKNOWN]] * 4, dtype=torch.uint8)
    alone = amount_loss(logits[:, : len(AMOUNT_EDGES)], amount[:, :1])
    assert float(amount_loss(logits, amount)) == pytest.approx(float(alone), rel=1e-5)


def test_log_odds_of_amounts_fall_from_edge_to_edge(by_lines: Library, tmp_path: Path) -> None:
    trained = untrained(by_lines, tmp_path)
    assert isinstance(trained.network, LayersNetwork)
    calibration = trained.network.calibration
    calibration.amount_scale.uniform_(0.5, 2.0)
    calibration.amount_shift.uniform_(-3.0, 3.0)
    batch = next(iter(Batches(by_lines, np.arange(8), settings_in(tmp_path), shuffle=False)))
    with torch.inference_mode():
        amounts = run_network(trained.network, batch)[3].reshape(8, len(by_lines.amount_names), len(AMOUNT_EDGES))
    assert bool((amounts.diff(dim=2) <= 0).all())


def test_it_trains_is_calibrated_and_answers_alike_from_its_file(by_lines: Library, tmp_path: Path) -> None:
    settings = settings_in(tmp_path / "run")
    trained = calibrate_network(train(settings, by_lines).trained_model, by_lines, np.arange(len(by_lines)), settings)
    assert isinstance(trained.network, LayersNetwork)
    assert not torch.equal(trained.network.calibration.amount_scale, Calibration(1, 1, 1).amount_scale)
    model = open_model(export(trained.network, trained.card, tmp_path), threads=1)
    card = model.card
    assert (card.amounts, card.amount_edges, card.families) == (by_lines.amount_names, AMOUNT_EDGES, FAMILIES)
    counts = by_lines.spectra[:3].astype(np.float32) * 1e5
    assert model(counts, by_lines.recorded[:3])[4].shape == (3, len(card.amounts) * len(AMOUNT_EDGES))
    maps = identify(Scan(counts[None], axis=AXIS, name="three pixels"), model)
    assert maps.probability.sizes["group"] == len(card.amounts) // 3
    again = load_trainable(tmp_path / "small.onnx")
    batch = next(iter(Batches(by_lines, np.arange(4), settings, shuffle=False)))
    with torch.inference_mode():
        for first, second in zip(run_network(trained.network, batch), run_network(again.network, batch), strict=True):
            torch.testing.assert_close(first, second, rtol=1e-3, atol=1e-3)


def test_amounts_are_taken_over_by_name(by_lines: Library, tmp_path: Path) -> None:
    start = untrained(by_lines, tmp_path)
    fewer = by_lines.select_output_names([name for name in by_lines.names if "mercury" in name or "vermilion" in name])
    columns = [by_lines.amount_names.index(name) for name in fewer.names if name in by_lines.amount_names]
    assert by_lines.amount is not None
    fewer = replace(
        fewer,
        amount=by_lines.amount[:, columns],
        amount_names=tuple(by_lines.amount_names[column] for column in columns),
        quantity_names=("thickness_um.surface",),
    )
    initial = transfer_weights(start, card_for(fewer, settings_in(tmp_path), len(fewer)))
    rows = np.concatenate([len(AMOUNT_EDGES) * column + np.arange(len(AMOUNT_EDGES)) for column in columns])
    torch.testing.assert_close(
        initial.network.state_dict()["amount.weight"], start.network.state_dict()["amount.weight"][rows]
    )


def test_an_instrument_model_starts_from_such_a_network(
    by_lines: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = untrained(by_lines, tmp_path)
    path = export(start.network, start.card, tmp_path)
    monkeypatch.setattr("underpaint.lab.training.instrument_model.export", lambda *_: tmp_path / "own.onnx")
    settings = InstrumentModelSettings(
        out=tmp_path / "own", instrument=load_instrument("elio"), palette=PALETTE[:3], start=str(path),
        sizes=Sizes(n_stratigraphies=32, n_held_out=8, epochs=1), n_machine=1, workers=1, threads=1,
    )  # fmt: skip
    card = train_instrument_model(settings).trained_model.card
    assert card.amounts == tuple(name for name in card.names if name in by_lines.amount_names)
    assert card.training.config["present"] == "lines"


def test_presence_is_scored_by_what_shows() -> None:
    present = np.array([[True, True, False], [True, False, False]])
    needed = np.array([[1e3, 1e6, np.inf], [1e3, np.inf, np.inf]])
    zeros = np.zeros(2)
    truth = Truth(present, needed, {}, {}, zeros, zeros)
    # two draws of each sample: the first is right, and misses what cannot be seen; the second claims, and misses
    claimed = np.array([[1, 0, 0], [1, 0, 1], [1, 0, 0], [0, 0, 0]], dtype=bool)
    sigmas = np.array([[20.0, 0.0, 0.0], [20.0, 0.0, 1.0], [20.0, 0.0, 0.0], [20.0, 0.0, 0.0]])
    figures = presence_scores(truth, claimed, sigmas, 1e4, ("mercury_red", "zinc_pigment", "tin_pigment"), seed=0)
    assert figures["exact_sets"] == 0.5
    assert (figures["present_missed"], figures["present_missed_over_10_sigma"]) == (1, 1)
    assert (figures["false_claims"], figures["claims_without_evidence"]) == (1, 1)
    assert (figures["n"], figures["n_negative"]) == (10, 6)
    assert figures["missed_by_group"] == {"mercury_red": 1}


def test_labels_of_presence_alone_leave_amounts_as_they_were(
    by_lines: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finetuning, "hide_invisible_labels", lambda data: data)  # the fit takes most of a minute
    card = card_for(by_lines, settings_in(tmp_path), len(by_lines))
    start = TrainedNetwork(build_network(replace(spec_for(card), folded=True)).eval(), card)
    head = start.network.get_submodule("amount")
    assert isinstance(head, torch.nn.Linear)
    with torch.no_grad():
        head.weight.mul_(20.0)  # as that of a trained one, it looks at the code
    labels = np.full_like(by_lines.labels, UNKNOWN)
    column = by_lines.names.index("mercury_red")
    labels[:, column] = by_lines.labels[:, column]
    counts = np.random.default_rng(1).poisson(1e5 * by_lines.spectra / by_lines.spectra.sum(axis=1, keepdims=True))
    data = replace(
        by_lines, spectra=counts.astype(np.float32), has_noise=True, labels=labels, amount=None, amount_names=(),
        max_absent_counts=None, counts_needed=np.where(labels == 1, 0.0, np.inf).astype(np.float32),
    )  # fmt: skip
    settings = FinetuneSettings(
        library=(Path("spots"),), out=tmp_path / "fine", kind="layers_evidence", name="fine", epochs=30, dense_epochs=1,
        batch=16, threads=1, patience=30, learning_rate=1e-2, precision="32", progress=False,
    )  # fmt: skip
    before = probabilities_of(start, data)
    after = probabilities_of(finetune(start, settings, data).second_step.trained_model, data)
    np.testing.assert_allclose(probabilities_of(start, data)[0], before[0], rtol=1e-5)  # still the start of other runs
    assert np.abs(after[0] - before[0])[:, column].mean() > 0.1
    assert np.abs(after[1] - before[1]).mean() < 0.05


def probabilities_of(trained: TrainedNetwork, data: Library) -> tuple[np.ndarray, np.ndarray]:
    """Return the probabilities of presence and of amounts."""
    batch = next(
        iter(Batches(data, np.arange(len(data)), settings_in(Path()).model_copy(update={"batch": 96}), shuffle=False))
    )
    with torch.inference_mode():
        logits, _, _, amounts = run_network(trained.network.eval(), batch)
    return torch.sigmoid(logits).numpy(), torch.sigmoid(amounts).numpy()
