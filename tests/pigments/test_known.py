"""Results of other methods: read, put in as given, and shown as such."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from underpaint import io
from underpaint.data.maps import PRESENT, Results
from underpaint.data.paint_areas import PaintArea
from underpaint.errors import SampleError
from underpaint.pigments.explain import given_groups
from underpaint.pigments.explain.known import KnownLayers, read_known
from underpaint.pigments.explain.states import MAX_LAYERS, PaintPrior
from underpaint.pipeline.paints import paints_of_folder

SECTION = """
[[known]]
pixel = [2, 3]
method = "cross-section, SEM-EDX"
source = "sample S2"
order = ["vermilion", "lead_pigment"]
thickness_um = [20, 30]
absent = ["zinc_pigment"]
"""
WORDS = (
    "Given by another method, not a result of this program: mercury red begins above lead pigment; "
    "the top layer is 20 to 30 um thick; not present: zinc pigment (cross-section, SEM-EDX; sample S2)."
)


def section(tmp_path: Path, text: str = SECTION) -> Path:
    path = tmp_path / "sections.toml"
    path.write_text(text)
    return path


def test_a_cross_section_is_read(tmp_path: Path) -> None:
    (known,) = read_known(section(tmp_path))
    assert known.order == ("mercury_red", "lead_pigment")
    assert known.sentence == WORDS


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (("pixel = [2, 3]", ""), "either paint or pixel"),
        (("pixel = [2, 3]", "pixel = [2, 3]\npaint = 1"), "either paint or pixel"),
        (("pixel = [2, 3]", "pixel = [-2, 3]"), "greater than or equal to 0"),
        (('"vermilion", ', ""), "two groups or more"),
        (('"vermilion"', '"lead_white"'), "listed twice"),
        (('"vermilion"', '"kryptonite"'), "kryptonite"),
        (("[20, 30]", "[30, 20]"), "larger maximum"),
        (("[20, 30]", "[20, nan]"), "finite"),
        (('"zinc_pigment"', '"lead_pigment"'), "cannot be absent"),
        (("method =", "methods ="), "method"),
        (("[[known]]", "[[section]]"), "section: Extra inputs are not permitted"),
        ((SECTION, ""), r"no entry.*\[\[known\]\]"),
        (
            ('order = ["vermilion", "lead_pigment"]\nthickness_um = [20, 30]\nabsent = ["zinc_pigment"]', ""),
            "is needed",
        ),
    ],
)
def test_what_is_no_result_is_refused(tmp_path: Path, change: tuple[str, str], fault: str) -> None:
    with pytest.raises(SampleError, match=fault) as refused:
        read_known(section(tmp_path, SECTION.replace(*change)))
    assert "after validation, not 0" not in str(refused.value)  # a second fault that only follows from the first


def test_layers_that_are_drawn_keep_to_what_is_known(tmp_path: Path) -> None:
    (known,) = read_known(section(tmp_path))
    candidates = given_groups(["lead_pigment", "zinc_pigment", "mercury_red"]).with_known_layers(known)
    assert candidates.groups == ("lead_pigment", "mercury_red")
    prior = PaintPrior(candidates.groups, "chalk", candidates.absent, candidates.pigments, known)
    states = prior.draw(400, np.random.default_rng(0))
    thickness = prior.to_physical_units(states).thickness_um
    assert 20.0 < thickness[:, 0].min() < 22.0
    assert 28.0 < thickness[:, 0].max() < 30.0
    assert np.nanmax(thickness[:, 1:]) > 100.0
    uppermost = np.where(states.is_in_layer.any(axis=1), states.is_in_layer.argmax(axis=1), MAX_LAYERS)
    assert (uppermost[:, 1] < uppermost[:, 0]).all()
    free = PaintPrior(candidates.groups)
    drawn = free.draw(400, np.random.default_rng(0))
    assert 0.1 < prior.is_valid(drawn).mean() < 0.9


def test_a_group_that_only_the_section_shows_is_looked_for(tmp_path: Path) -> None:
    (known,) = read_known(section(tmp_path))
    candidates = given_groups(["vermilion", "zinc_pigment"]).with_known_layers(known)
    assert dict(zip(candidates.groups, candidates.absent, strict=True)) == {"mercury_red": 0.0, "lead_pigment": 0.0}
    with pytest.raises(SampleError, match="Correct the known results"):
        given_groups(["zinc_pigment"]).with_known_layers(
            KnownLayers(method="m", source="s", paint=1, absent=("zinc_pigment",))
        )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Results of two paints, 15 and 5 of 20 columns; the first holds mercury and zinc."""
    level = np.full((20, 20, 2), 400.0)
    level[:, 15:, 0] = 2500.0
    counts = np.random.default_rng(0).poisson(level).astype(np.float32)
    lines = Results.of_lines(("Fe_K", "Pb_L"), counts, np.sqrt(np.maximum(counts, 1.0)))
    state = np.full((20, 20, 2), PRESENT, np.uint8)
    results = lines | Results.of_states(("mercury_red", "zinc_pigment"), ("mercury", "zinc"), state)
    io.write_results(tmp_path / "results", results)
    return tmp_path / "results"


def test_known_results_change_the_legend_and_are_marked(folder: Path, tmp_path: Path) -> None:
    paints_of_folder(folder, known=section(tmp_path))
    first, second = io.read_results(folder).paints
    assert list(first.groups) == ["mercury_red"]
    assert first.stratigraphy == (WORDS,)
    assert list(second.groups) == ["mercury_red", "zinc_pigment"]
    assert second.stratigraphy == ()
    assert "cross-section, SEM-EDX" in (folder / "paints.csv").read_text("utf-8")
    assert "not a result of this program" in (folder / "report.html").read_text("utf-8")
    paints_of_folder(folder)
    assert io.read_results(folder).paints[0].known == ""


def test_what_was_put_in_stands_there_once() -> None:
    area = PaintArea(1, 3, 1.0, known="Put in.", explanation={"words": ["Put in.", "Thick."]})
    assert area.stratigraphy == ("Put in.", "Thick.")
    assert replace(area, explanation={"words": ["No group."]}).stratigraphy == ("Put in.", "No group.")
    assert PaintArea.from_record(area.record()).stratigraphy == area.stratigraphy


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (SECTION.replace("[2, 3]", "[20, 3]"), r"pixel \(20, 3\): the location is in no paint"),
        (SECTION.replace("pixel = [2, 3]", "paint = 7"), "paint 7: the location is in no paint"),
        (SECTION + SECTION.replace("[2, 3]", "[4, 4]"), "two results for paint 1"),
    ],
)
def test_each_place_must_be_another_paint(folder: Path, tmp_path: Path, text: str, fault: str) -> None:
    before = (folder / "results.h5").read_bytes()
    with pytest.raises(SampleError, match=fault):
        paints_of_folder(folder, known=section(tmp_path, text))
    assert (folder / "results.h5").read_bytes() == before
