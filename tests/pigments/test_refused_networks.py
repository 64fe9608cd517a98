"""Networks whose answers are no numbers, or that ask for too much, are refused with a reason."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from test_mapping import AXIS, LINES, N_BIN, toy_card, toy_counts, write_toy_model

from underpaint.data import Scan
from underpaint.errors import ModelError
from underpaint.pigments.predict import identify, open_model
from underpaint.pigments.predict.model import BATCH_SPECTRA


def with_weight(folder: Path, weight: np.ndarray) -> Path:
    path = write_toy_model(folder, toy_card())
    network = onnx.load(path)
    network.graph.initializer[0].CopyFrom(numpy_helper.from_array(weight.astype(np.float32), "weight"))
    onnx.save(network, path)
    return path


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_no_numbers(tmp_path: Path, value: float) -> None:
    path = with_weight(tmp_path, np.full((N_BIN, 4), value))
    with pytest.raises(ModelError, match=r"its log_odds of 2 of 2 spectra is not a number \((nan|inf)\)"):
        open_model(path)


def test_answers_that_are_no_numbers_to_some_spectra(tmp_path: Path) -> None:
    """Weights that are large, but numbers: only a bright pixel shows it."""
    weight = np.zeros((N_BIN, 4))
    weight[LINES, np.arange(4)] = 1e33
    path = with_weight(tmp_path, weight)
    counts = toy_counts()
    counts[3, 1] = 10**6
    with pytest.raises(ModelError, match=r"not a number \(inf\)\. Its weights are damaged"):
        identify(Scan(counts, AXIS), path)


def test_many_spectra_are_answered_as_few(tmp_path: Path) -> None:
    model = open_model(write_toy_model(tmp_path, toy_card()))
    counts = np.random.default_rng(0).poisson(3.0, (2 * BATCH_SPECTRA + 5, N_BIN)).astype(np.float32)
    recorded = np.ones((len(counts), 2), np.float32)
    log_odds, probability = model(counts, recorded)
    np.testing.assert_allclose(log_odds, counts[:, LINES], rtol=1e-6)
    np.testing.assert_allclose(probability, 1 / (1 + np.exp(-counts[:, LINES])), atol=1e-6)
    assert [each.shape for each in model(counts[:0], recorded[:0])] == [(0, 4), (0, 4)]


@pytest.mark.parametrize("name", ["default", "xu2022"])
@pytest.mark.parametrize("counts", [1e-6, 1.0, 1e12])
def test_shipped_networks_answer_numbers_to_any_counts(name: str, counts: float) -> None:
    model = open_model(name, threads=1)
    n_bin = model.card.axis.n_bin
    spectra = np.zeros((3, n_bin), np.float32)
    spectra[0, n_bin // 2], spectra[1], spectra[2, ::7] = counts, counts, counts
    answers = model(spectra, np.tile([[1.0, 40.0]], (3, 1)))
    assert all(np.isfinite(each).all() for each in answers)
