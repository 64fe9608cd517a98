"""The paper's figures on virtual paintings: what is painted, what is scored, which files appear."""

import json

import numpy as np
import pytest

from underpaint.physics.instrument import load_instrument

pytest.importorskip("torch", reason="torch comes with the extra underpaint[train]")

import torch

from underpaint.data import XU_NETWORK_AXIS, Scan
from underpaint.lab.evaluation.scores import spearman
from underpaint.lab.networks import XuNetwork
from underpaint.lab.reproduction.arms import pretrain_settings
from underpaint.lab.reproduction.figure_answers import (
    AFTER_FINETUNING,
    BEFORE_FINETUNING,
    DEFAULT_NETWORK,
    map_scores,
    paper_maps,
)
from underpaint.lab.reproduction.figure_panels import ABOVE, ABSENT, BARE, BELOW, crossed_strips, scan_painting
from underpaint.lab.reproduction.figures import (
    FIGURE5_PIGMENTS,
    HG_RATIO,
    PB_RATIO,
    VERMILION_OVER_MIXTURE,
    Networks,
    PixelGrid,
    _panel_maps,
    covered_mixture,
    figure5,
    figure8,
    figure9,
    figure10,
    layered_painting,
    photon_ratios,
    single_layered_painting,
)
from underpaint.lab.reproduction.plan import Plan, quick
from underpaint.lab.reproduction.simulation import as_library, paper_outputs
from underpaint.lab.training.checkpoint import card_for, checkpoint_description


def no_progress(*_: object) -> None:
    """Report no progress."""


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    return quick(tmp_path_factory.mktemp("figures") / "out")


@pytest.fixture(scope="module")
def networks(plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> Networks:
    """Two untrained networks of the paper, as training would have written them."""
    n_class = len(paper_outputs().names)
    no_labels = as_library(np.ones((2, XU_NETWORK_AXIS.n_channel)), np.zeros((2, n_class), np.uint8), has_noise=True)
    card = card_for(no_labels, pretrain_settings(plan), 0)
    paths = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        network = XuNetwork(XU_NETWORK_AXIS.n_channel, n_class)
        weights = {f"network.{name}": value for name, value in network.state_dict().items()}
        paths.append(tmp_path_factory.mktemp("networks") / f"{seed}.ckpt")
        torch.save({"state_dict": weights, "underpaint": checkpoint_description(network, card)}, paths[-1])
    return Networks(*paths)


def test_polygons_and_ellipses_lie_where_they_are_drawn() -> None:
    down, across = np.mgrid[0:20, 0:20] / 20 + 0.025
    sheet = PixelGrid(down, across)
    square = sheet.polygon((0.2, 0.4), (0.7, 0.4), (0.7, 0.9), (0.2, 0.9))
    np.testing.assert_array_equal(square, (down > 0.4) & (down < 0.9) & (across > 0.2) & (across < 0.7))
    turned = sheet.ellipse((0.5, 0.5), (0.4, 0.1), 90.0)
    assert turned[:, 10].sum() == pytest.approx(16, abs=1)
    assert turned[10].sum() == pytest.approx(4, abs=1)


def test_the_layered_painting_hides_every_pigment_that_it_shows() -> None:
    painting = layered_painting(72, 54)
    for pigment in FIGURE5_PIGMENTS:
        assert set(np.unique(painting.places((pigment,)))) == {ABSENT, BELOW, ABOVE}
    assert (painting.upper_paint == BARE).any()
    stratigraphies, index = painting.stratigraphies()
    assert index.max() + 1 == len(stratigraphies) < index.size / 5
    assert {len(each.layers) for each in stratigraphies} == {1, 3}
    row, column = 30, 32
    named = stratigraphies[index[row, column]].layers[0].pigments
    assert set(named) == set(painting.upper_paints[str(painting.upper_paint[row, column])])


def test_the_other_painting_has_one_layer() -> None:
    stratigraphies, _ = single_layered_painting(56, 68).stratigraphies()
    assert {len(each.layers) for each in stratigraphies} == {1, 2}


def test_the_panel_crosses_as_in_figure_7() -> None:
    painting = crossed_strips(4, 1, np.random.default_rng(3))
    assert painting.upper_paint.shape == (21, 31)
    assert [name for name in dict.fromkeys(painting.upper_paint[:, 0].tolist()) if name != BARE] == list(
        painting.upper_paints
    )
    assert len(painting.upper_paints) * len(painting.lower_paints) == 24
    painted_um = painting.upper_um[painting.upper_paint != BARE]
    assert (painted_um.min(), painted_um.max()) == (30.0, 200.0)
    assert painting.upper_um[painting.upper_paint == BARE].max() == 0.0
    assert set(painting.places(("prussian_blue",))[:, 0]) == {ABSENT, ABOVE}


def test_a_scan_has_the_counts_and_pixels_of_its_painting() -> None:
    painting = layered_painting(18, 14)
    instrument = load_instrument("elio")
    scans = [scan_painting(painting, instrument, 2e4, np.random.default_rng(seed), "small", 2.0) for seed in (5, 5, 6)]
    counts = [np.asarray(scan.counts) for scan in scans]
    assert scans[0].axis == XU_NETWORK_AXIS
    assert counts[0].sum(axis=2).mean() == pytest.approx(2e4, rel=0.01)
    np.testing.assert_array_equal(counts[0], counts[1])
    assert (counts[0] != counts[2]).any()
    # bare chalk at the edge: calcium's line towers over that of lead
    energy, edge = XU_NETWORK_AXIS.energy_kev, counts[0][:, -1].sum(axis=0)
    assert edge[abs(energy - 3.69) < 0.1].sum() > 50 * edge[abs(energy - 10.55) < 0.1].sum()


def test_scores_of_a_map_tell_layers_apart() -> None:
    place = np.array([[ABOVE, ABOVE, BELOW, BELOW], [ABSENT, ABSENT, ABSENT, ABSENT]])
    probability = np.array([[0.9, 0.8, 0.7, 0.1], [0.6, 0.2, np.nan, 0.0]], dtype=np.float32)
    scores = map_scores(probability, place, np.array([[9.0, 8.0, 7.0, 1.0], [6.0, 2.0, 5.0, 0.0]]))
    assert scores["sensitivity_above"] == 1.0
    assert scores["sensitivity_below"] == 0.5
    assert scores["false_share"] == 0.25
    assert scores["f1"] == pytest.approx(6 / 8)
    assert scores["always_yes_f1"] == pytest.approx(2 / 3)
    assert scores["spearman"] == pytest.approx(1.0)


def test_rank_correlation_of_a_constant_map_is_undefined() -> None:
    assert np.isnan(spearman(np.full(5, 0.5), np.arange(5.0)))
    assert spearman(np.array([0.0, 1.0, 8.0]), np.array([3.0, 2.0, 1.0])) == pytest.approx(-1.0)


def test_maps_of_the_papers_network_keep_the_pixels(plan: Plan, networks: Networks) -> None:
    counts = np.random.default_rng(0).poisson(3.0, size=(2, 3, XU_NETWORK_AXIS.n_channel))
    maps = paper_maps(plan, networks.before_finetuning, Scan(counts=counts))
    assert tuple(maps) == paper_outputs().names
    single = paper_maps(plan, networks.before_finetuning, Scan(counts=counts[1:, 2:]))
    for name, values in maps.items():
        assert values.shape == (2, 3)
        assert single[name][0, 0] == pytest.approx(values[1, 2], abs=1e-5)


def test_figure5_writes_two_pictures_and_their_numbers(plan: Plan, networks: Networks) -> None:
    figures = figure5(plan, networks, no_progress)
    for name in ("figure5", "figure5_default"):
        assert (plan.out / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert set(figures) == {*FIGURE5_PIGMENTS, "about"}
    assert figures["emerald_green"]["families"] == ["Cu_K", "As_K"]
    assert set(figures["vermilion"]["networks"]) == {BEFORE_FINETUNING, AFTER_FINETUNING, DEFAULT_NETWORK}
    assert figures["vermilion"]["networks"][BEFORE_FINETUNING] != figures["vermilion"]["networks"][AFTER_FINETUNING]
    assert sum(figures["vermilion"][f"n_{name}"] for name in ("above", "below", "absent")) == 18 * 13
    # vermilion in the uppermost layer at 1e5 counts cannot be missed
    assert figures["vermilion"]["networks"][DEFAULT_NETWORK]["sensitivity_above"] > 0.95
    assert figures["vermilion"]["networks"][DEFAULT_NETWORK]["false_share"] < 0.05
    json.dumps(figures, allow_nan=False)


def test_figures_of_the_panel_tell_columns_and_false_alarms(
    plan: Plan, networks: Networks, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = _panel_maps(plan, networks)
    monkeypatch.setattr("underpaint.lab.reproduction.figures._panel_maps", lambda *_: case)  # of both figures
    vermilion, iron = figure8(plan, networks, no_progress), figure9(plan, networks, no_progress)
    assert {path.name for path in plan.out.iterdir()} >= {"figure8.png", "figure9.png"}
    column = vermilion["by_column"]["Bottom 2B"]
    assert column["share"] == pytest.approx(0.006)
    assert 0.0 <= column["networks"][AFTER_FINETUNING]["under Top 1"] <= 1.0
    assert set(iron["prussian_blue"]["networks"][AFTER_FINETUNING]["false_on"]) == {
        "bare_ground",
        "bottom_without_top",
        "strip_of_the_other",
    }
    assert iron["iron_pigment"]["networks"][DEFAULT_NETWORK]["f1"] > 0.95
    json.dumps([vermilion, iron], allow_nan=False)


def test_vermilion_swallows_the_beta_line_of_lead(plan: Plan, networks: Networks) -> None:
    """Pb L beta lies over the L3 edge of mercury, Pb L alpha under it (Xu et al. 2022, Fig. 10)."""
    ratios = figure10(plan, networks, no_progress)
    assert (plan.out / "figure10.png").is_file()
    lead = ratios[VERMILION_OVER_MIXTURE][PB_RATIO]
    assert np.all(np.diff(lead) < 0)
    # zinc's edge lies under both lines: it holds the softer one back
    assert np.all(np.diff(ratios["zinc white over M"][PB_RATIO]) > 0)
    assert ratios["vermilion over chalk"][PB_RATIO] == [None] * len(lead)
    json.dumps(ratios, allow_nan=False)


def test_a_thin_veil_of_vermilion_raises_mercurys_alpha() -> None:
    stacks = [covered_mixture("vermilion", thickness) for thickness in (0.0, 10.0)]
    bare, veiled = photon_ratios(stacks, load_instrument("elio"))[HG_RATIO]
    assert veiled > 1.05 * bare
