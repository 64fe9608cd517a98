"""The paper's protocol on a small scale: sets as stated, honest splits, tables that hold what they promise."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from underpaint.data import XU_NETWORK_AXIS, Scan
from underpaint.errors import OutputError, TrainingError
from underpaint.io import save_scan
from underpaint.physics.materials import library

pytest.importorskip("torch", reason="torch comes with the extra underpaint[train]")

from underpaint.lab.evaluation.parts import random_splits, splits_by_group, structure_families, thickness_thirds
from underpaint.lab.reproduction.arms import Answers, paper_columns, restrict_to_palette
from underpaint.lab.reproduction.contestants import default_network, paper_network
from underpaint.lab.reproduction.measured import read_mockups
from underpaint.lab.reproduction.mockups import Mockups, make_mockups
from underpaint.lab.reproduction.plan import quick
from underpaint.lab.reproduction.scoring import group_names, pooled_scores, scores_over_folds
from underpaint.lab.reproduction.simulation import (
    REPLACED_PIGMENTS,
    draw_counts,
    measured_background,
    mockup_library,
    paper_outputs,
    simulation_set,
)
from underpaint.lab.reproduction.studies import (
    check_plan,
    column_rows,
    mixed_layers,
    palette_names,
    palette_stratigraphies,
    table3_rows,
    write_result,
    write_table,
)
from underpaint.lab.training import Library
from underpaint.simulate.recipes import paper_formulas, paper_grid, paper_stratigraphy, paper_table3


@pytest.fixture(scope="module")
def mockups(tmp_path_factory: pytest.TempPathFactory) -> Mockups:
    return make_mockups(quick(tmp_path_factory.mktemp("plan")))


@pytest.fixture(scope="module")
def simulated(mockups: Mockups, tmp_path_factory: pytest.TempPathFactory) -> Library:
    return simulation_set(quick(tmp_path_factory.mktemp("simulated")), mockups)


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


def test_simulation_set_has_labels_and_no_scatter_peak(mockups: Mockups, simulated: Library) -> None:
    assert simulated.names == paper_outputs().names
    np.testing.assert_allclose(simulated.spectra.sum(axis=1), 1.0, rtol=1e-4)
    assert simulated.labels.sum(axis=1).max() <= 2
    # Rh K-alpha is scattered in the mock-ups and not in the simulation set, but for what SNIP leaves
    energy = XU_NETWORK_AXIS.energy_kev
    peak, background = (np.abs(energy - 20.2) < 0.1), (np.abs(energy - 21.2) < 0.1)
    mean = mockups.counts.mean(axis=0)
    assert (
        simulated.spectra[:, peak].mean() / simulated.spectra[:, background].mean()
        < mean[peak].mean() / mean[background].mean()
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
    parts = structure_families(mockups)
    assert len(parts) == 10
    np.testing.assert_array_equal(np.sum(list(parts.values()), axis=0), 2)


def test_parts_share_no_spectrum_between_training_and_test(mockups: Mockups) -> None:
    expected = [
        *random_splits(len(mockups), 3, 2),
        *splits_by_group(structure_families(mockups), 3),
        *splits_by_group(thickness_thirds(mockups), 3),
    ]
    for split in expected:
        assert not set(split.finetune_rows) & set(split.test_rows)
        assert split.finetune_rows.size == round(0.2 * len(mockups))
    assert expected[0].finetune_rows.size + expected[0].test_rows.size == len(mockups)


def test_a_structure_that_is_held_out_is_in_no_training(mockups: Mockups) -> None:
    for split in splits_by_group(structure_families(mockups), 3):
        names = mockups.top if split.name.startswith("Top") else np.asarray([name[:8] for name in mockups.bottom])
        assert set(names[split.test_rows]) == {split.name}
        assert split.name not in names[split.finetune_rows]


def test_thicknesses_are_thirds_that_do_not_overlap(mockups: Mockups) -> None:
    parts = thickness_thirds(mockups)
    assert len(parts) == 3
    tops = [mockups.top_um[rows] for rows in parts.values()]
    assert tops[0].max() < tops[1].min() <= tops[1].max() < tops[2].min()


def _answers(label: "np.ndarray[Any, Any]", learned: "np.ndarray[Any, Any] | None" = None) -> Answers:
    known = np.ones(11, dtype=bool) if learned is None else learned
    return Answers([label.astype(np.float32) for _ in range(2)], [label] * 2, [known, np.ones(11, dtype=bool)], 1.0, 1)


def test_perfect_answers_score_one(tmp_path: Path) -> None:
    label = np.random.default_rng(0).random((200, 11)) < 0.4
    result: dict[str, Any] = {"simulation": scores_over_folds(_answers(label), "simulation"), "about": {}}
    assert result["simulation"]["mean"]["f1"] == result["simulation"]["groups"]["mean"]["f1"] == 1.0
    assert result["simulation"]["cobalt_blue"]["paper"] == [0.95, 0.997, 0.782]
    write_result(result, tmp_path / "table3.json")
    assert json.loads((tmp_path / "table3.json").read_text("utf-8"))["simulation"]["mean"]["accuracy"] == 1.0
    write_table(*table3_rows(result), tmp_path / "table3", title="Table 3", note="virtual <mock-ups>")
    rows = (tmp_path / "table3.csv").read_text("utf-8").splitlines()
    assert len(rows) == 1 + 11 + 1 + len(group_names()) + 1
    assert "virtual &lt;mock-ups&gt;" in (tmp_path / "table3.html").read_text("utf-8")


def test_a_pigment_that_training_lacked_is_scored_apart() -> None:
    label = np.random.default_rng(0).random((100, 11)) < 0.4
    learned = np.ones(11, dtype=bool)
    learned[2] = False
    scores = _answers(label, learned)
    scores.probability[0][:, 2] = 0.0
    figures = pooled_scores(scores)
    name = paper_outputs().names[2]
    assert figures[name]["f1"] == 1.0
    assert figures[name]["not_learned"] == {"sensitivity": 0.0, "n_positive": int(label[:, 2].sum())}
    assert "not_learned" not in figures["cobalt_blue"]


def test_a_group_is_there_with_any_of_its_pigments() -> None:
    """Prussian blue for iron oxide is wrong by name and right by group."""
    names = paper_outputs().names
    truth, claimed = np.zeros((10, 11), dtype=bool), np.zeros((10, 11), dtype=np.float32)
    truth[:5, names.index("iron_oxide_red")] = True
    claimed[:5, names.index("prussian_blue")] = 0.9
    figures = scores_over_folds(Answers([claimed], [truth], [np.ones(11, dtype=bool)], 0.0, 0))
    assert figures["iron_oxide_red"]["f1"] == 0.0
    assert figures["groups"]["iron_pigment"]["f1"] == 1.0


def test_the_palette_gives_a_group_to_its_only_pigment(mockups: Mockups) -> None:
    library_ = default_network(mockups).mockups
    probability = np.full((1, len(library_.names)), 1e-3, dtype=np.float32)
    probability[0, library_.names.index("cobalt_pigment")] = 0.9
    probability[0, library_.names.index("cobalt_blue")] = 0.3
    probability[0, library_.names.index("iron_pigment")] = 0.8
    probability[0, library_.names.index("prussian_blue")] = 0.2
    probability[0, library_.names.index("iron_oxide_red")] = 0.4
    probabilities = dict(zip(paper_outputs().names, restrict_to_palette(library_, probability)[0], strict=True))
    assert probabilities["cobalt_blue"] == pytest.approx(0.9)
    assert probabilities["iron_oxide_red"] == pytest.approx(0.8)
    assert probabilities["prussian_blue"] == pytest.approx(0.4)


def test_both_contestants_see_the_same_mockups(mockups: Mockups) -> None:
    paper, ours = paper_network([], mockups).mockups, default_network(mockups).mockups
    np.testing.assert_array_equal(paper_columns(paper, paper.labels), paper_columns(ours, ours.labels))
    np.testing.assert_allclose(ours.spectra.sum(axis=1), paper.spectra.sum(axis=1), rtol=0.01)


def test_counted_spectra_are_whole_numbers_of_a_pixel(simulated: Library, tmp_path: Path) -> None:
    plan = quick(tmp_path)
    spectra = draw_counts(simulated, plan)
    np.testing.assert_array_equal(spectra.spectra, np.rint(spectra.spectra))
    assert spectra.has_noise
    assert spectra.spectra.sum(axis=1).mean() == pytest.approx(plan.counts, rel=1e-2)


def test_the_substitute_is_what_the_mockups_hold() -> None:
    layer = paper_stratigraphy("substitute", "chalk", 50.0, 100.0).layers[0]
    assert {"Cu", "As", "Na"} <= set(layer.mass_fractions)
    only = paper_stratigraphy("sodium_arsenite", "chalk", 50.0, 100.0).layers[0]
    assert layer.mass_fractions["As"] == pytest.approx(0.6 * only.mass_fractions["As"], rel=1e-6)


def test_samples_of_the_comparison(tmp_path: Path) -> None:
    plan = quick(tmp_path)
    samples, contents = mixed_layers(plan)
    assert len(samples) == len(contents) == 196
    assert max(map(len, contents)) > 2
    assert len(set(palette_names())) == 30
    assert set().union(*palette_stratigraphies(plan)[1]) <= set(palette_names())


def test_flat_tables_keep_their_columns() -> None:
    header, rows = column_rows({"paper": {"f1": 0.5, "seconds": None}}, "model")
    assert header == ["model", "f1", "seconds"]
    assert rows == [["paper", 0.5, None]]


def as_files(mockups: Mockups, folder: Path, columns: str) -> tuple[Path, Path]:
    """Write mock-ups as a scan of one row with a table of labels."""
    scan = Scan(counts=mockups.counts[None], axis=mockups.axis, name="own", format="simulated")
    save_scan(scan, folder / "own.h5")
    lines = ["row,column,pigments," + columns]
    for index, names in enumerate(mockups.pigments):
        pigments = ";".join(sorted({REPLACED_PIGMENTS.get(name, name) for name in names}))
        fields = {
            "top": mockups.top[index],
            "bottom": mockups.bottom[index],
            "structure": f"s{mockups.structure[index]}",
            "thickness_um": f"{mockups.top_um[index]:.6f}",
        }
        lines.append(f"0,{index},{pigments}," + ",".join(str(fields[name]) for name in columns.split(",")))
    (folder / "own.csv").write_text("\n".join(lines) + "\n", "utf-8")
    return folder / "own.h5", folder / "own.csv"


def test_measured_mockups_take_the_place_of_the_virtual_ones(mockups: Mockups, tmp_path: Path) -> None:
    scan, table = as_files(mockups, tmp_path, "top,bottom,thickness_um")
    read = read_mockups(scan, table)
    np.testing.assert_allclose(read.counts, mockups.counts, atol=1e-3)
    np.testing.assert_array_equal(read.structure, mockups.structure)
    np.testing.assert_array_equal(mockup_library(read).labels, mockup_library(mockups).labels)
    assert list(structure_families(read)) == list(structure_families(mockups))
    assert list(thickness_thirds(read)) == list(thickness_thirds(mockups))


def test_structures_alone_suffice_and_thickness_may_be_unknown(mockups: Mockups, tmp_path: Path) -> None:
    read = read_mockups(*as_files(mockups, tmp_path, "structure"))
    assert len(structure_families(read)) == 64
    assert thickness_thirds(read) == {}


def test_thickness_that_hardly_varies_holds_nothing_out(mockups: Mockups) -> None:
    assert len(thickness_thirds(mockups)) == 3
    even = np.full(len(mockups), 30.0)
    assert thickness_thirds(replace(mockups, top_um=even)) == {}
    even[0] = 200.0
    assert thickness_thirds(replace(mockups, top_um=even)) == {}


@pytest.mark.parametrize("text", ["-5", "thick", "nan", "0"])
def test_a_thickness_that_is_none_is_refused_by_its_line(mockups: Mockups, tmp_path: Path, text: str) -> None:
    scan, table = as_files(mockups, tmp_path, "structure,thickness_um")
    lines = table.read_text("utf-8").splitlines()
    lines[3] = lines[3].rpartition(",")[0] + f",{text}"
    table.write_text("\n".join(lines) + "\n", "utf-8")
    with pytest.raises(TrainingError, match=rf"line 4 .*'{text}'"):
        read_mockups(scan, table)


def test_a_folder_keeps_to_its_labels_and_a_bad_table_leaves_no_trace(mockups: Mockups, tmp_path: Path) -> None:
    scan, table = as_files(mockups, tmp_path, "structure")
    plan = quick(tmp_path / "out").model_copy(update={"mockups": scan, "labels": tmp_path / "none.csv"})
    with pytest.raises(TrainingError, match=r"none\.csv"):
        check_plan(plan)
    assert not (plan.out / "plan.json").exists()
    labelled_plan = plan.model_copy(update={"labels": table})
    check_plan(labelled_plan)
    check_plan(labelled_plan)
    table.write_text(table.read_text("utf-8").replace("prussian_blue", "zinc_white"), "utf-8")
    with pytest.raises(OutputError, match="contents"):
        check_plan(labelled_plan)


def test_measured_mockups_without_structures_are_refused(mockups: Mockups, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="top and bottom nor the column structure"):
        read_mockups(*as_files(mockups, tmp_path, "thickness_um"))
