import numpy as np
import pytest

from underpaint.display.plot import breakdown_figure, to_png
from underpaint.physics.forward.breakdown import Breakdown, breakdown
from underpaint.physics.instrument import load_instrument
from underpaint.physics.materials import Layer, Paint, Stratigraphy


@pytest.fixture(scope="module")
def many_elements() -> Breakdown:
    metals = ("Ti", "Cr", "Mn", "Fe", "Co", "Ni", "Cu", "Zn", "As", "Sr", "Sn", "Pb")
    alloy = Layer(
        dict.fromkeys(metals, 1 / len(metals)), 7.0, 3.0, "a name that is far too long for a legend of a figure"
    )
    return breakdown(Stratigraphy((alloy, Paint({"chalk": 1.0}).layer(50.0))), load_instrument("elio"), counts=1e5)


def test_each_panel_shows_parts_that_sum_to_the_grey_whole(many_elements: Breakdown) -> None:
    figure = breakdown_figure(many_elements, title="alloy")
    for axes in figure.axes:
        curves = [line for line in axes.get_lines() if len(np.asarray(line.get_xdata())) > 2]
        drawn = np.nansum([np.asarray(line.get_ydata(), dtype=np.float64) for line in curves], axis=0)
        np.testing.assert_allclose(drawn, many_elements.total, rtol=1e-9, atol=1e-9 * many_elements.total.max())
        assert axes.get_yscale() == "log"


def test_weak_elements_share_a_curve_and_long_names_are_cut(many_elements: Breakdown) -> None:
    figure = breakdown_figure(many_elements)
    legends = [[text.get_text() for text in axes.get_legend().get_texts()] for axes in figure.axes]  # type: ignore[union-attr]
    assert any("others" in text for text in legends[0])
    assert all(len(text) < 45 for texts in legends for text in texts)
    assert figure.axes[-1].get_xlabel() == "energy (keV)"


def test_names_of_lines_do_not_touch(many_elements: Breakdown) -> None:
    figure = breakdown_figure(many_elements)
    to_png(figure)
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    assert len(boxes) > 4
    assert not any(box.overlaps(other) for place, box in enumerate(boxes) for other in boxes[:place])
