"""Maps of a toy scan by a hand-made network: each name's log-odds are the counts in one bin."""

from pathlib import Path

import dask.array as da
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from underpaint.data import EnergyAxis, Scan
from underpaint.errors import CalibrationError, CoverageError, ModelError
from underpaint.pigments.predict import identify, open_model, plan_answers
from underpaint.pigments.weights import ModelAxis, ModelCard
from underpaint.simulate.instrument_inputs import InstrumentConditions

N_BIN = 20
LINES = np.array([2, 2, 9, 15])
AXIS = EnergyAxis(gain_kev=0.05, zero_kev=1.025, n_channel=40)


def toy_card(**changes: object) -> ModelCard:
    fields = {
        "name": "toy",
        "axis": ModelAxis(start_kev=1.0, bin_kev=0.1, n_bin=N_BIN),
        "names": ("mercury", "vermilion", "cobalt_blue", "chrome_yellow"),
        "kinds": ("group", "member", "member", "member"),
        "groups": (("mercury",), ("mercury",), (), ()),
        "labels": ("mercury pigment", "vermilion", "cobalt blue", "chrome yellow"),
        "elements": (("Hg_L",), ("Hg_L",), ("Co_K",), ("Pb_L", "Cr_K")),
        "limits": ("A toy.",),
    }
    return ModelCard.model_validate({**fields, **changes})


def write_toy_model(folder: Path, card: ModelCard) -> Path:
    weight = np.zeros((N_BIN, 4), dtype=np.float32)
    weight[LINES, np.arange(4)] = 1.0
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["counts", "weight"], ["log_odds"]),
            helper.make_node("Sigmoid", ["log_odds"], ["probability"]),
        ],
        "toy",
        [helper.make_tensor_value_info("counts", TensorProto.FLOAT, ["n", N_BIN])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4]) for name in ("log_odds", "probability")],
        [numpy_helper.from_array(weight, "weight")],
    )
    path = folder / f"{card.name}.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    card.write(path.with_suffix(".json"))
    return path


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_toy_model(tmp_path, toy_card())


def toy_counts() -> np.ndarray:
    return np.random.default_rng(0).poisson(4.0, (5, 3, 40)) + 1


def test_what_the_voltage_cannot_excite_is_not_answered(model: Path) -> None:
    maps = identify(Scan(toy_counts(), AXIS), model, instrument=InstrumentConditions(voltage_kv=10.0))
    assert tuple(maps.materials) == ("cobalt_blue", "chrome_yellow")
    assert "Not identifiable, because 10 kV do not excite the lines: mercury pigment." in maps.notes
    all_of_them = identify(Scan(toy_counts(), AXIS), model, instrument=InstrumentConditions(voltage_kv=40.0))
    assert tuple(all_of_them.materials) == toy_card().names


def test_what_a_spectrum_speaks_against_is_not_claimed_nor_are_its_members(model: Path) -> None:
    counts = toy_counts()
    answers = plan_answers(AXIS, model)
    arrays = answers(counts)
    free = answers.results({name: array.copy() for name, array in arrays.items()}, step_mm=None)
    even = counts.sum(axis=2) % 2 == 0
    answers.withhold(arrays, ("mercury",), np.where(even, np.inf, -np.inf)[:, :, None])
    held = answers.add_notes(answers.results(arrays, step_mm=None), ("mercury",))
    for name in ("mercury", "vermilion"):
        np.testing.assert_array_equal(held[name][even], np.minimum(free[name][even], 0.5))
        np.testing.assert_array_equal(held[name][~even], free[name][~even])
    np.testing.assert_array_equal(held["cobalt_blue"], free["cobalt_blue"])
    assert held.stacks["log_odds"].values[even][:, :2].max() == 0
    assert f"mercury pigment ({even.sum()} pixels)" in held.notes[-1]
    assert not any("Not claimed" in note for note in answers.add_notes(free).notes)


def test_a_claim_that_is_sure_enough_is_kept(model: Path) -> None:
    answers = plan_answers(AXIS, model)
    arrays = answers(toy_counts())
    before = arrays["log_odds"][..., 0].copy()
    answers.withhold(arrays, ("mercury",), np.full((*before.shape, 1), np.median(before)))
    is_high = before >= np.median(before)
    np.testing.assert_array_equal(arrays["log_odds"][..., 0][is_high], before[is_high])
    assert (arrays["log_odds"][..., 0][~is_high] <= 0.0).all()


def test_what_a_spectrum_proves_is_present_whatever_the_network_says(model: Path) -> None:
    counts = toy_counts() // 4
    answers = plan_answers(AXIS, model)
    arrays = answers(counts)
    free = answers.results({name: array.copy() for name, array in arrays.items()}, step_mm=None)
    even = counts.sum(axis=2) % 2 == 0
    answers.confirm(arrays, ("mercury", "no_group_of_it"), np.stack((even, even), axis=2))
    results = answers.add_notes(answers.results(arrays, step_mm=None), ("mercury",))
    np.testing.assert_array_equal(results["mercury"][even], np.maximum(free["mercury"][even], np.float32(0.99)))
    np.testing.assert_array_equal(results["mercury"][~even], free["mercury"][~even])
    np.testing.assert_array_equal(results["vermilion"], free["vermilion"])
    raised = int((free["mercury"][even] < 0.99).sum())
    assert raised
    assert f"lines exceed ten standard deviations: mercury pigment ({raised} pixels)." in results.notes[-1]


def test_each_bin_reaches_its_map(model: Path) -> None:
    counts = toy_counts()
    maps = identify(Scan(da.from_array(counts, chunks=(2, -1, -1)), AXIS), model)
    rebinned = counts.reshape(5, 3, N_BIN, 2).sum(axis=3)
    log_odds, probability = maps.stacks["log_odds"].values, maps.stacks["probability"].values
    np.testing.assert_allclose(log_odds, rebinned[:, :, LINES], rtol=1e-5)
    np.testing.assert_allclose(probability, 1 / (1 + np.exp(-rebinned[:, :, LINES])), atol=1e-5)
    assert tuple(maps.materials) == ("mercury", "vermilion", "cobalt_blue", "chrome_yellow")
    assert maps["vermilion"].dtype == np.float32
    assert maps.settings_of("pigments")["recorded_kev"] == pytest.approx([1.0, 3.0])
    assert "A toy." in maps.notes


def test_log_odds_tell_sure_answers_apart(model: Path) -> None:
    counts = np.full((1, 2, 40), 50)
    counts[0, 1] = 100
    maps = identify(Scan(counts, AXIS), model)
    assert maps["mercury"].tolist() == [[1.0, 1.0]]
    log_odds = maps.map("log_odds", "mercury", "anywhere")
    assert log_odds[0, 1] > log_odds[0, 0]


def test_blocks_do_not_change_the_answer(model: Path) -> None:
    counts = toy_counts()
    one_block = identify(Scan(da.from_array(counts, chunks=(5, 3, 40)), AXIS), model)
    split = identify(Scan(da.from_array(counts, chunks=(1, 2, 40)), AXIS), open_model(model, threads=1))
    np.testing.assert_array_equal(one_block.stacks["probability"].values, split.stacks["probability"].values)


def test_pixels_without_evidence_have_no_answer(model: Path) -> None:
    counts = toy_counts().astype(float)
    counts[0, 0] = 0
    counts[0, 1, 7] = np.nan
    counts[0, 2, 7] = -1
    present = np.ones((5, 3), dtype=bool)
    present[4, 2] = False
    maps = identify(Scan(counts, AXIS, present=present), model)
    silent = np.isnan(maps.stacks["probability"].values)
    assert np.argwhere(silent.all(axis=2)).tolist() == [[0, 0], [0, 1], [0, 2], [4, 2]]
    assert silent.any(axis=2).sum() == 4
    assert any(note.startswith("4 of 15 pixels have no answer") for note in maps.notes)


def test_counts_outside_the_axis_alone_are_no_evidence(model: Path) -> None:
    counts = np.zeros((1, 2, 60))
    counts[:, :, 55] = 9
    counts[0, 1, 3] = 9
    maps = identify(Scan(counts, EnergyAxis(0.05, 1.025, 60)), model)
    assert maps.has_prediction.tolist() == [[False, True]]


def test_a_palette_keeps_its_pigments_and_their_groups(model: Path) -> None:
    maps = identify(Scan(toy_counts(), AXIS), model, ("vermilion", "smalt"))
    assert (maps.groups, maps.pigments) == (("mercury",), ("vermilion",))
    assert maps.shape == (5, 3)
    assert maps.materials["vermilion"].groups == ("mercury",)
    assert any("does not know these pigments of the palette: smalt" in note for note in maps.notes)


def test_a_palette_of_strangers_is_refused(model: Path) -> None:
    with pytest.raises(ModelError, match=r"knows none of the palette's pigments \(smalt\)"):
        identify(Scan(toy_counts(), AXIS), model, ("smalt",))


def test_a_scan_that_ends_too_early_is_refused_with_both_ranges(model: Path) -> None:
    with pytest.raises(CoverageError, match=r"it needs 1\.00-3\.00 keV, the scan covers 1\.00-2\.50 keV"):
        identify(Scan(toy_counts()[:, :, :30], EnergyAxis(0.05, 1.025, 30)), model)


def test_the_refusal_names_a_model_that_would_do(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shipped").mkdir()
    write_toy_model(tmp_path / "shipped", toy_card(name="short", narrowest_kev=(1.2, 2.2)))
    monkeypatch.setattr("underpaint.pigments.weights.card._weights_folder", lambda: tmp_path / "shipped")
    scan = Scan(toy_counts()[:, :, :30], EnergyAxis(0.05, 1.025, 30))
    with pytest.raises(CoverageError, match=r"Use model 'short' \(--model short\), which needs 1\.20-2\.20 keV"):
        identify(scan, model)
    assert len(identify(scan, "short").named_places) == 4


def test_a_scan_without_energies_is_refused(model: Path) -> None:
    with pytest.raises(CalibrationError, match="no energy axis"):
        identify(Scan(toy_counts()), model)


def test_a_damaged_network_is_refused(model: Path) -> None:
    model.write_bytes(b"damaged")
    with pytest.raises(ModelError, match=r"Cannot load the network .*toy\.onnx"):
        open_model(model)


def test_a_network_that_does_not_fit_its_card_is_refused(tmp_path: Path) -> None:
    path = write_toy_model(tmp_path, toy_card())
    toy_card(axis=ModelAxis(start_kev=1.0, bin_kev=0.1, n_bin=21)).write(path.with_suffix(".json"))
    with pytest.raises(ModelError, match="its model card has 21 bins and 4 names"):
        open_model(path)


def test_progress_is_reported_row_by_row(model: Path) -> None:
    steps: list[tuple[int, int]] = []
    scan = Scan(da.from_array(toy_counts(), chunks=(2, -1, -1)), AXIS)
    identify(scan, model, progress=lambda done, total: steps.append((done, total)))
    assert steps == [(2, 5), (4, 5), (5, 5)]
