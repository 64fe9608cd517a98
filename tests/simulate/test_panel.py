import numpy as np
import pytest

from underpaint.simulate import Panel, PanelSettings, make_panel, outputs_for


@pytest.fixture(scope="module")
def panel() -> Panel:
    settings = PanelSettings(recipe="fig7", cell_pixels=2, gap_pixels=1, counts=5e4, seed=5)
    return make_panel(settings, outputs=outputs_for(["vermilion", "lead_white", "cobalt_blue"]))


def test_a_panel_has_crossings_and_bare_strips(panel: Panel) -> None:
    assert panel.scan.shape[:2] == (4 * 3 + 1, 6 * 3 + 1)
    assert panel.truth["top_thickness_um"][0].max() == 0
    assert panel.truth["top_thickness_um"][1:3].min() >= 30


def test_the_mean_counts_are_those_requested(panel: Panel) -> None:
    mean = float(panel.scan.counts.sum(axis=2).mean().compute())
    # 247 pixels of Poisson counts around 5e4: the mean is known to 0.1 %
    assert mean == pytest.approx(5e4, rel=0.01)


def test_labels_follow_the_truth(panel: Panel) -> None:
    assert panel.labels is not None
    painted = (panel.truth["top/cobalt_blue"] + panel.truth.get("bottom/cobalt_blue", 0)) > 0
    np.testing.assert_array_equal(panel.labels[:, -1].astype(bool), painted.ravel())


def test_a_panel_depends_on_its_seed_alone(panel: Panel) -> None:
    settings = PanelSettings(recipe="fig7", cell_pixels=2, gap_pixels=1, counts=5e4, seed=5)
    again = make_panel(settings)
    np.testing.assert_array_equal(again.scan.counts.compute(), panel.scan.counts.compute())
