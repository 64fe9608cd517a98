"""The paper's protocol on a small scale: sets as stated, honest splits, tables that hold what they promise."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from underpaint.sample import library
from underpaint.spectrum import XU_NETWORK_AXIS

pytest.importorskip("torch", reason="torch comes with the extra underpaint[train]")

from underpaint.reproduce import make_mockups, mockup_library, quick, simulation_set
from underpaint.reproduce.arms import Answers, _random_fifth
from underpaint.reproduce.mockups import Mockups
from underpaint.reproduce.simulation import measured_background, paper_outputs
from underpaint.reproduce.table3 import arm_figures, families, write
from underpaint.synth.recipes import paper_formulas, paper_grid, paper_table3


@pytest.fixture(scope="module")
def mockups(tmp_path_factory: pytest.TempPathFactory) -> Mockups:
    return make_mockups(quick(tmp_path_factory.mktemp("plan")))


def test_the_grid_is_the_papers() -> None:
    assert len(paper_grid()) == len(paper_grid("table1")) == 16224
    assert "substitute" in {upper for upper, *_ in paper_grid("table1")}


def test_the_papers_table_has_its_macro_averages() -> None:
    """Means of Table 3: simulation accuracy 0.929 and F1 0.767, fine-tuned 0.904 and 0.880."""
    means = np.mean(list(paper_table3().values()), axis=0)
    assert means[0] == pytest.approx([0.929, 0.868, 0.767], abs=5e-4)
    assert means[2, 0] == pytest.approx(0.904, abs=5e-4)
    assert means[2, 2] == pytest.approx(0.880, abs=5e-4)


def test_formulas_are_the_papers() -> None:
    """The library's Prussian blue and verdigris are hydrates with less metal."""
    for name, formula in paper_formulas().items():
        assert name in {"prussian_blue", "verdigris"}
        assert formula not in library()[name].components


def test_mockups_hold_every_structure(mockups: Mockups) -> None:
    assert len(mockups) == 320
    assert np.bincount(mockups.structure).tolist() == [5] * 64
    assert mockups.counts.shape[1] == XU_NETWORK_AXIS.n_channel
    assert mockups.counts.sum(axis=1).mean() == pytest.approx(1e5, rel=0.02)
    assert mockups.top_um.min() >= 30.0
    assert mockups.top_um.max() <= 200.0


def test_mockups_are_drawn_once(mockups: Mockups, tmp_path: Path) -> None:
    again = make_mockups(quick(tmp_path))
    np.testing.assert_array_equal(again.counts, mockups.counts)


def test_background_is_smooth_and_a_part_of_the_spectrum(mockups: Mockups) -> None:
    share, shape = measured_background(mockups)
    assert 0.01 < share < 0.5
    assert shape.sum() == pytest.approx(1.0)
    assert np.abs(np.diff(shape)).max() < 0.1 * shape.max()


def test_simulation_set_has_labels_and_no_scatter_peak(mockups: Mockups, tmp_path: Path) -> None:
    simulated = simulation_set(quick(tmp_path), mockups)
    assert simulated.names == paper_outputs().names
    np.testing.assert_allclose(simulated.spectra.sum(axis=1), 1.0, rtol=1e-4)
    assert simulated.labels.sum(axis=1).max() <= 2
    # Rh K-alpha is scattered in the mock-ups and not in the simulation set, but for what SNIP leaves
    energy = XU_NETWORK_AXIS.energy_kev
    peak, beside = (np.abs(energy - 20.2) < 0.1), (np.abs(energy - 21.2) < 0.1)
    mean = mockups.counts.mean(axis=0)
    assert (
        simulated.spectra[:, peak].mean() / simulated.spectra[:, beside].mean()
        < mean[peak].mean() / mean[beside].mean()
    )


def test_labels_of_mixtures(mockups: Mockups) -> None:
    """Verdigris and sodium arsenite stand for emerald green."""
    labelled = mockup_library(mockups)
    column = labelled.names.index("emerald_green")
    np.testing.assert_array_equal(
        labelled.labels[:, column] == 1, (mockups.top == "Top 3") | np.isin(mockups.bottom, _with_green())
    )


def _with_green() -> list[str]:
    return [f"Bottom {number}{letter}" for number in (4, 5) for letter in "ABC"]


def test_families_cover_every_spectrum_twice(mockups: Mockups) -> None:
    parts = families(mockups)
    assert len(parts) == 10
    np.testing.assert_array_equal(np.sum(list(parts.values()), axis=0), 2)


def test_a_random_fifth_shares_no_spectrum_with_its_test(mockups: Mockups) -> None:
    used, tested = _random_fifth(mockup_library(mockups), 3)
    assert not set(used) & set(tested)
    assert used.size == round(0.2 * len(mockups))
    assert used.size + tested.size == len(mockups)


def test_perfect_answers_score_one(tmp_path: Path) -> None:
    label = np.random.default_rng(0).random((200, 11)) < 0.4
    found = Answers([label.astype(np.float32)] * 2, [label] * 2, 1.0, 1)
    result: dict[str, Any] = {"simulation": arm_figures("simulation", found), "note": "virtual"}
    assert result["simulation"]["mean"]["f1"] == 1.0
    assert result["simulation"]["cobalt_blue"]["paper"] == [0.95, 0.997, 0.782]
    write(result, tmp_path)
    assert json.loads((tmp_path / "table3.json").read_text("utf-8"))["simulation"]["mean"]["accuracy"] == 1.0
    rows = (tmp_path / "table3.csv").read_text("utf-8").splitlines()
    assert len(rows) == 13
    assert "virtual" in (tmp_path / "table3.html").read_text("utf-8")
