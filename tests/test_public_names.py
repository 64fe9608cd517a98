"""What `import underpaint as up` offers, frozen: a name that goes is a change for every user."""

import importlib
import inspect
import subprocess
import sys

import pytest

import underpaint as up

NAMES = {
    "EnergyAxis",
    "Results",
    "Scan",
    "Settings",
    "UnderpaintError",
    "fit_elements",
    "identify",
    "identify_to_folder",
    "library",
    "load",
    "make_panel",
    "plan",
    "read_results",
    "view",
    "write_report",
}
MOVED = {
    "ElementMaps", "PigmentMaps", "Spectrum", "describe", "elements_to_folder", "load_all", "load_instrument",
    "load_palette", "on_its_energy_axis",
}  # fmt: skip
DOORS = {
    "underpaint.display.plot": {
        "breakdown_figure", "close_fit", "detectability_gallery", "element_gallery", "element_map", "line_labels",
        "overlay", "pigment_map", "pigment_row", "place_gallery", "save_png", "scatter", "shown_map", "siegbahn",
        "spectrum", "state_map", "thickness_map", "to_png", "unlikeness_map",
    },
    "underpaint.display.report": {
        "Arrangement", "Finding", "Overview", "explain_lines", "find_arrangements", "find_groups", "line_text",
        "overview", "render_report", "unexplained_text", "write_report",
    },
    "underpaint.display.viewer": {"Server", "View", "serve", "serve_start", "view"},
}  # fmt: skip


def test_the_public_names_are_these() -> None:
    assert set(up.__all__) == NAMES | {"__version__"}
    assert dir(up) == sorted(up.__all__)


@pytest.mark.parametrize("name", sorted(NAMES))
def test_every_public_name_has_an_example(name: str) -> None:
    """That they run is tested with all other examples."""
    assert ">>> import underpaint as up" in str(inspect.getdoc(getattr(up, name)))


@pytest.mark.parametrize("name", sorted(MOVED))
def test_what_was_public_says_where_it_is_now(name: str) -> None:
    with pytest.warns(DeprecationWarning, match=rf"underpaint\.{name} is now underpaint\.\w+"):
        assert getattr(up, name) is not None


@pytest.mark.parametrize("door", sorted(DOORS))
def test_the_doors_of_the_rooms_are_these(door: str) -> None:
    assert set(importlib.import_module(door).__all__) == DOORS[door]


def test_an_unknown_name_is_refused_with_those_that_exist() -> None:
    with pytest.raises(AttributeError, match=r"no attribute 'idenfity'; there are: .*identify"):
        up.idenfity  # noqa: B018 - looking it up is the test


def test_a_room_does_not_hide_a_public_name() -> None:
    code = (
        "import underpaint as up, underpaint.pipeline.run, underpaint.cli; "
        "print(callable(up.identify), callable(up.load))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["True", "True"], done.stderr
