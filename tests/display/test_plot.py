"""Figures hold what they were given; they are looked at through their axes, not their pixels."""

import numpy as np
import pytest
from matplotlib.figure import Figure
from numpy.typing import NDArray

from underpaint.data import EnergyAxis
from underpaint.data.maps import STATES, Results
from underpaint.display import plot
from underpaint.display.plot.comparison import mapped_families, min_scaled_area, overlay_image
from underpaint.display.plot.figure import NO_ANSWER_COLOR, new_figure, put_title, to_png
from underpaint.display.plot.images import pixel_aspect, upper_limit

PNG = b"\x89PNG\r\n\x1a\n"
SHAPE = (6, 10)


def maps(elements: tuple[str, ...] = ("Hg_L",)) -> Results:
    probability = np.zeros((*SHAPE, 1), np.float32)
    probability[:, :5] = 1.0
    probability[0, 0] = np.nan
    kinds, groups = ("group",), (("red",),)
    return Results.of_pigments(
        ("red",), probability, kinds=kinds, groups=groups, labels=("red",), elements=(elements,), step_mm=(1.0, 1.0)
    )


def areas(names: tuple[str, ...] = ("Hg_L", "Hg_M", "Pb_L", "Fe_K")) -> Results:
    values = np.random.default_rng(1).uniform(0, 100, (*SHAPE, len(names))).astype(np.float32)
    return Results.of_lines(names, values, np.ones_like(values), step_mm=(1.0, 1.0))


def test_strongest_lines_are_labelled_at_their_energies() -> None:
    labels = plot.line_labels(["Fe_K", "Pb_L", "nonsense", "Hg_L"])
    assert labels["Fe Kα"] == pytest.approx(6.40, abs=0.02)
    assert labels["Fe Kβ"] == pytest.approx(7.06, abs=0.02)
    assert labels["Pb Lα"] == pytest.approx(10.55, abs=0.02)
    assert labels["Hg Lα"] == pytest.approx(9.99, abs=0.02)
    assert list(labels)[:3] == ["Fe Kα", "Pb Lα", "Hg Lα"]


def test_spectrum_shows_both_curves_in_kev_with_labels_that_do_not_touch() -> None:
    axis = EnergyAxis(0.02, 0.0, 1500)
    counts = 1e3 * np.exp(-axis.energy_kev / 5) + 1
    figure = plot.spectrum(axis, counts, counts / 50, ["Fe_K", "Mn_K", "Cr_K", "Co_K", "Ni_K"], title="a scan")
    axes = figure.axes[0]
    assert axes.get_yscale() == "log"
    assert axes.get_xlabel() == "energy (keV)"
    assert axes.get_title(loc="left") == "a scan"
    assert {"Fe Kα", "Mn Kα", "Cr Kα"} <= {text.get_text() for text in axes.texts}
    assert plot.to_png(figure).startswith(PNG)
    boxes = [text.get_window_extent() for text in axes.texts]
    touching = [(a, b) for n, a in enumerate(boxes) for b in boxes[n + 1 :] if a.overlaps(b)]
    assert touching == []


def test_labels_stand_above_the_peaks_of_both_curves() -> None:
    axis = EnergyAxis(0.02, 0.0, 1024)
    peak = np.exp(-0.5 * ((axis.energy_kev - 6.40) / 0.07) ** 2)
    for highest in (1e3, 1e5):
        figure = plot.spectrum(axis, 1.0 + 1e4 * peak, 1.0 + highest * peak, ("Fe_K",))
        (axes,) = figure.axes
        assert axes.texts
        assert min(text.get_position()[1] for text in axes.texts) > 1.2 * max(1e4, highest)


def test_spectrum_without_axis_is_drawn_over_channels() -> None:
    figure = plot.spectrum(None, np.arange(64.0))
    assert figure.axes[0].get_xlabel() == "channel"
    assert not figure.axes[0].texts


@pytest.mark.parametrize("counts", [np.zeros(50), np.full(50, 1e9)])
def test_spectrum_of_nothing_or_of_one_height_can_be_drawn(
    counts: NDArray[np.float64],
) -> None:
    assert plot.to_png(plot.spectrum(EnergyAxis(0.1, 0.0, 50), counts, counts)).startswith(PNG)


def test_overlay_is_red_where_pigment_green_and_blue_where_elements_and_grey_without_answer() -> None:
    probability = np.array([[1.0, 0.0, 0.0, 1.0, np.nan]], np.float32)
    green = np.array([[0.0, 50.0, 0.0, 50.0, 50.0]], np.float32)
    blue = np.array([[0.0, 0.0, 8.0, 8.0, 8.0]], np.float32)
    image = overlay_image(probability, [green, blue])
    assert image[0, :4].round(2).tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1]]
    assert image[0, 4].tolist() == pytest.approx([int(NO_ANSWER_COLOR[n : n + 2], 16) / 255 for n in (1, 3, 5)])


def test_overlay_is_scaled_to_the_99th_percentile() -> None:
    area = np.arange(1000, dtype=np.float32).reshape(20, 50)
    assert upper_limit(area) == pytest.approx(np.percentile(area, 99))
    assert overlay_image(np.zeros_like(area), [area])[-1, -1, 1] == 1.0


def test_row_has_map_elements_overlay_and_scatter() -> None:
    figure = plot.pigment_row(maps(("Hg_L", "Hg_M", "Pb_L")) | areas(), "red")
    titles = [axes.get_title() for axes in figure.axes]
    mercury, lead = (upper_limit(areas()[name]) for name in ("Hg_L", "Pb_L"))
    shown = [
        "red\nprobability",
        f"Hg L\n0 to {mercury:.3g} counts",
        f"Pb L\n0 to {lead:.3g} counts",
        f"probability in red, 0 to 1\nHg L in green, 0 to {mercury:.3g}; Pb L in blue, 0 to {lead:.3g}",
    ]
    assert [title for title in titles if title] == shown
    assert any(axes.get_xlabel() == "lesser of Hg L and Pb L" for axes in figure.axes)


def test_row_without_element_maps_is_the_pigment_map_alone() -> None:
    figure = plot.pigment_row(maps(), "red")
    assert [axes.get_title() for axes in figure.axes if axes.get_title()] == ["red\nprobability"]


def test_row_names_its_pigment_and_its_place() -> None:
    results = Results.of_pigments(
        names=("a", "a.below"),
        probability=np.zeros((3, 4, 2), np.float32),
        kinds=("group",) * 2,
        groups=(("a",),) * 2,
        labels=("azurite (copper, blue)",) * 2,
        elements=((),) * 2,
    )
    assert plot.pigment_row(results, "a", "below").axes[0].get_title() == "azurite, below the surface\nprobability"


def test_a_shown_map_says_what_its_colours_do_not() -> None:
    values = np.array([[0.2, 0.8], [np.nan, 0.1]], np.float32)
    hidden = np.array([[True, False], [False, False]])
    figure = plot.shown_map(values, 1.0, "gray", min_shown=0.5, hatching=(hidden, "not seen"))
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "below 0.5: omitted",
        "not seen",
        "no answer",
    ]
    image = figure.axes[0].images[0]
    assert image.get_cmap().name == "gray"
    assert np.ma.filled(np.ma.asarray(image.get_array()), -1.0).tolist() == [[0.0, pytest.approx(0.8)], [-1.0, 0.0]]
    assert not plot.shown_map(np.ones((2, 2), np.float32), 1.0, "gray").legends[0].get_texts()


def test_a_state_map_has_a_colour_for_each_state() -> None:
    maps = Results.of_states(("red",), ("red",), np.array([[0, 1], [2, 255]], np.uint8)[:, :, None])
    figure = plot.state_map(maps, "red", title="red: answer")
    assert figure.axes[0].get_title() == "red: answer"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == list(STATES.values())


def test_a_composite_tells_a_pigments_places_apart() -> None:
    from underpaint.display.plot.images import composite_figure

    parts = [(f"azurite (copper, blue), {place}", np.ones((3, 4), np.float32), 1.0) for place in ("above", "below")]
    words = [text.get_text() for text in composite_figure(parts).texts]
    assert words == ["red: azurite, above, 0 to 1", "green: azurite, below, 0 to 1"]


def test_each_element_is_shown_once() -> None:
    assert mapped_families(maps(("Hg_M", "Hg_L")) | areas(), "red") == ("Hg_M",)
    assert mapped_families(maps(("Cr_K",)) | areas(), "red") == ()


def test_of_two_elements_the_lesser_counts() -> None:
    many, few = np.full((1, 4), 10.0, np.float32), np.array([[0.0, 1.0, 2.0, 2.0]], np.float32)
    assert min_scaled_area([many, few])[0].round(1).tolist() == [0.0, 0.5, 1.0, 1.0]
    assert min_scaled_area([few])[0].tolist() == few[0].tolist()


def test_scatter_leaves_out_pixels_without_answer_and_thins_many() -> None:
    probability = np.full((200, 200), 0.5, np.float32)
    probability[0] = np.nan
    figure = plot.scatter(probability, [np.ones_like(probability)], ["Fe_K"])
    shown = figure.axes[0].lines[0].get_xdata()
    assert 2000 < len(np.asarray(shown)) <= 8000
    assert figure.axes[0].get_xlabel() == "Fe K (counts)"


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (50, 1), (3, 4)])
def test_maps_of_any_shape_can_be_drawn(shape: tuple[int, int]) -> None:
    values = np.full(shape, np.nan, np.float32)
    for figure in (
        plot.pigment_map(values, step_mm=(0.5, 0.5)),
        plot.element_map(values),
        plot.overlay(values, [values]),
    ):
        assert isinstance(figure, Figure)
        assert plot.to_png(figure, dpi=40).startswith(PNG)


def test_scale_bar_is_a_round_length() -> None:
    figure = plot.pigment_map(np.zeros((40, 100), np.float32), step_mm=(0.5, 0.5))
    assert [text.get_text() for text in figure.axes[0].texts] == ["10 mm"]


def test_pixels_that_are_not_square_are_drawn_as_they_are() -> None:
    assert pixel_aspect((2.0, 1.0)) == 2.0
    assert pixel_aspect(None) == 1.0


def test_the_same_values_give_the_same_bytes() -> None:
    assert plot.to_png(plot.pigment_row(maps() | areas(), "red")) == plot.to_png(
        plot.pigment_row(maps() | areas(), "red")
    )


def test_a_dollar_in_a_name_begins_no_formula() -> None:
    def drawn(name: str) -> bytes:
        figure = new_figure(3, 2)
        axes = figure.add_subplot()
        axes.semilogy([1, 2, 3], [1, 100, 10_000], label=name)
        axes.set_xticks([1, 2, 3], [name, name, name])
        put_title(axes, name)
        axes.legend()
        return to_png(figure)

    assert drawn(r"a $\frac{x$ b_{") != drawn(r"a b_{")
    assert drawn("$x$") != drawn("x")
