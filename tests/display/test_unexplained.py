"""Lines without a carrier are named; ordinary sources and faults of the fit beside strong lines are not."""

import numpy as np
import pytest
import report_fakes as fakes

from result_parts import joined
from underpaint.data.maps import CANNOT_EXCLUDE, PRESENT, Results
from underpaint.display.report import explain_lines, line_text
from underpaint.errors import ScanError

pytestmark = pytest.mark.usefixtures("without_drawing")

SHAPE = (10, 20)


def pigments(detected: tuple[str, ...] = ("lead_pigment",)) -> Results:
    """Lead, chromium and mercury were asked for, by group and member."""
    rows = {
        "lead_pigment": ("group", ("lead_pigment",), ("Pb_L",)),
        "chromium_pigment": ("group", ("chromium_pigment",), ("Cr_K",)),
        "mercury_red": ("group", ("mercury_red",), ("Hg_L",)),
        "lead_white": ("member", ("lead_pigment",), ("Pb_L",)),
        "viridian": ("member", ("chromium_pigment",), ("Cr_K",)),
        "vermilion": ("member", ("mercury_red",), ("Hg_L",)),
    }
    probability = np.full((*SHAPE, len(rows)), 0.02, np.float32)
    for index, name in enumerate(rows):
        probability[:, :, index] = 0.95 if name in detected else 0.02
    kinds, groups, families = zip(*rows.values(), strict=True)
    return Results.of_pigments(
        tuple(rows), probability, kinds=kinds, groups=groups, labels=tuple(rows), elements=families
    )


def elements(**areas: float | np.ndarray) -> Results:
    """Line families with a standard deviation of 10 counts."""
    cube = np.stack([np.broadcast_to(np.asarray(explained, np.float32), SHAPE) for explained in areas.values()], axis=2)
    return Results.of_lines(tuple(areas), cube.copy(), np.full_like(cube, 10.0))


def half(counts: float) -> np.ndarray:
    area = np.zeros(SHAPE, np.float32)
    area[:, :10] = counts
    return area


def test_an_element_that_no_pigment_of_the_palette_carries_is_named() -> None:
    (line,) = explain_lines(pigments() | elements(Pb_L=5000, Ti_K=half(800))).unexplained or ()
    assert (line.family, line.carried, line.n_pixel, line.share) == ("Ti_K", "not in the palette", 100, 0.5)
    assert "titanium white" in line.carriers
    text = line_text(line)
    assert text.startswith(
        "Ti K exceeds 5σ in 50 % of the pixels, and no pigment of this palette contains this element."
    )


def test_an_element_whose_pigment_was_not_found_there_is_named() -> None:
    maps = pigments(("lead_pigment", "chromium_pigment"))
    maps["chromium_pigment"][:, :5] = 0.1
    (line,) = explain_lines(maps | elements(Pb_L=5000, Cr_K=half(800))).unexplained or ()
    assert (line.family, line.carried, line.n_pixel) == ("Cr_K", "not found there", 50)
    assert line.carriers == ("viridian",)
    assert (
        "and no pigment that contains this element was detected there. Pigments with this element: viridian."
        in line_text(line)
    )


def test_what_was_found_explains_its_lines() -> None:
    maps = pigments(("lead_pigment", "chromium_pigment", "mercury_red"))
    explained = explain_lines(maps | elements(Pb_L=5000, Cr_K=800, Hg_L=3000, Hg_M=400))
    assert (explained.unexplained, explained.ordinary) == ((), ())


def test_a_line_in_the_sum_alone_is_named() -> None:
    noise = np.random.default_rng(0).normal(0.0, 10.0, SHAPE)
    (line,) = explain_lines(pigments() | elements(Pb_L=400, Co_K=20 + noise)).unexplained or ()
    assert (line.family, line.n_pixel) == ("Co_K", 0)
    # the noise is measured on the map: of 200 pixels, to a tenth
    assert line.sum_sigma == pytest.approx((20 + noise.mean()) * 200 / (10 * np.sqrt(200)), rel=0.25)
    assert "in the sum of all pixels" in line_text(line)


@pytest.mark.parametrize(
    ("family", "counts", "source"),
    [
        ("Ar_K", 300, "air"),
        ("Ag_K", half(300), "scattered lines of the tube"),
        ("Ni_K", 70, "metal parts of the instrument"),
        ("Ca_K", half(2000), "ground, support or dirt"),
        ("Co_K", half(90), "a drier"),
    ],
)
def test_ordinary_sources_are_set_apart(family: str, counts: float | np.ndarray, source: str) -> None:
    explained = explain_lines(pigments() | elements(Pb_L=9000, **{family: counts}), anode="Ag")
    assert explained.unexplained == ()
    ((explained_family, words),) = explained.ordinary
    assert explained_family == family
    assert words.startswith(source)


def test_sources_are_ordinary_only_while_faint_and_even() -> None:
    explained = explain_lines(pigments() | elements(Pb_L=9000, Ni_K=half(2000), Co_K=half(2000)), anode="Ag")
    assert {line.family for line in explained.unexplained or ()} == {"Ni_K", "Co_K"}


def test_what_interferes_is_no_line_in_the_sum_either() -> None:
    """A deviation that is the same in all pixels, of lead's line ratios, does not average out."""
    areas = elements(Pb_L=9000, As_K=np.full(SHAPE, 300.0))
    areas.stacks["area_sigma"].values[:, :, 1] = 200.0
    assert not explain_lines(pigments() | areas).unexplained


def test_maps_of_two_scans_are_refused() -> None:
    with pytest.raises(ScanError, match="Give results of the same scan"):
        fakes.pigment_maps() | elements(Pb_L=1)


def test_the_page_names_lines_and_draws_what_cannot_be_excluded() -> None:
    maps, areas = fakes.pigment_maps(), fakes.element_maps()
    areas["Cu_K"][:, :10] += 4000
    score = np.ones((*fakes.SHAPE, 1), np.float32)
    score[:3, :5] = 8.0
    unlike = Results.of_unlikeness(score, np.full_like(score, 4.51))
    state = np.full((*fakes.SHAPE, 2), CANNOT_EXCLUDE, np.uint8)
    state[:, :10, 1] = PRESENT
    hidden = Results.of_states(
        ("copper", "lead"), ("copper", "lead"), state, notes=("Not detected means seen.",), settings={"burial": {}}
    )
    facts = fakes.summary()
    text = fakes.full_report(joined(maps, areas, unlike, hidden, summary=facts))
    assert "Cu K exceeds 5σ in 25 % of the pixels" in text
    assert "Ca K (ground, support or dirt)" in text
    assert "15 pixels (1.6 %) have a peak beyond 5 standard deviations" in text
    assert "energies are 4.5 keV" in text
    assert '<section id="answers"' in text
    assert "Not detected means seen." in text
    plain = fakes.full_report(joined(maps, areas, Results(unexplained=()), summary=facts))
    assert '<section id="answers"' not in plain
    assert 'id="unexplained"' not in plain
