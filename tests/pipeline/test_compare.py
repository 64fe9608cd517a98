"""Two results of the same pixels: where they agree, and what contradicts."""

import csv
import json
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import norm
from typer.testing import CliRunner

import underpaint as up
from result_parts import joined
from underpaint.cli import app
from underpaint.data.maps import Results
from underpaint.data.peaks import resolution_fwhm_kev
from underpaint.display.report.layers import place_shares
from underpaint.errors import OutputError, ScanError
from underpaint.io import write_results
from underpaint.pipeline.compare import COMPARISON_FILES, compare, write_comparison
from underpaint.simulate import PanelSettings
from underpaint.units import FWHM_PER_SIGMA

SHAPE = (30, 40)
MEAN_COUNTS = {"Ca_K": 3000.0, "Fe_K": 400.0, "Ni_K": 300.0, "Cu_K": 500.0, "Hg_L": 900.0, "Pb_L": 5000.0}
EFFICIENCY = {"Ca_K": 0.5, "Fe_K": 0.9, "Ni_K": 1.0, "Cu_K": 1.1, "Hg_L": 1.2, "Pb_L": 1.3}
PLACED = ("anywhere", "surface", "below")


def lines(seed: int, factors: dict[str, float] | None = None, **changed: Any) -> Results:
    """Return areas as a detector counts them: Poisson, over a background of 50 counts whose mean is taken off."""
    rng, background = np.random.default_rng(seed), 50.0
    area = np.empty((*SHAPE, len(MEAN_COUNTS)))
    variance = np.empty_like(area)
    for index, (family, mean) in enumerate(MEAN_COUNTS.items()):
        expected = np.full(SHAPE, mean * (factors or {}).get(family, 1.0))
        if family in ("Hg_L", "Cu_K"):
            expected[:, 20 if family == "Hg_L" else 0 : 40 if family == "Hg_L" else 20] = 0.0
        expected = changed.get(family, lambda entry: entry)(expected)
        counts = rng.poisson(expected + background)
        area[:, :, index], variance[:, :, index] = counts - background, np.maximum(counts, 1.0)
    return Results.of_lines(tuple(MEAN_COUNTS), area.astype(np.float32), np.sqrt(variance).astype(np.float32))


def pigments(mercury: Any = None, copper_places: tuple[float, float] = (0.95, 0.05)) -> Results:
    """Return mercury red in the left half, and copper in the right one, at the surface."""
    names = ("mercury_red", "copper_green_blue")
    probability = np.full((*SHAPE, 2, 3), 0.02, np.float32)
    probability[:, :20, 0, :2] = 0.97
    probability[:, 20:, 1, 0] = 0.97
    probability[:, 20:, 1, 1:] = copper_places
    if mercury is not None:
        probability[..., 0, 0][mercury] = 0.1
    return Results.of_pigments(
        names=[name if place == "anywhere" else f"{name}.{place}" for name in names for place in PLACED],
        probability=probability.reshape(*SHAPE, 6),
        kinds=("group",) * 6,
        groups=tuple((name,) for name in names for _ in PLACED),
        labels=tuple(name.replace("_", " ") for name in names for _ in PLACED),
        elements=tuple((line,) for line in ("Hg_L", "Cu_K") for _ in PLACED),
        step_mm=(1.0, 1.0),
    )


def of_detector(name: str, *parts: Results) -> Results:
    return joined(*parts, summary={"name": "panel", "detector": name, "settings": {"source": f"panel::{name}"}})


def test_two_counts_of_the_same_paint_differ_by_noise_alone() -> None:
    comparison = compare(of_detector("1", lines(1), pigments()), of_detector("2", lines(2, EFFICIENCY), pigments()))
    assert comparison.names == ("detector 1", "detector 2")
    assert not comparison.contradictions
    for line in comparison.lines:
        # a hundredth is three times the error of the faintest line's ratio over 600 pixels
        assert line.ratio == pytest.approx(EFFICIENCY[line.family], rel=0.01)
        assert line.rms_z == pytest.approx(1.0, abs=0.08)
        assert line.n_pixel == SHAPE[0] * SHAPE[1]
        assert line.n_different <= 1
    anywhere = {entry.group: entry for entry in comparison.groups if entry.place == "anywhere"}
    assert anywhere["mercury_red"].kappa == pytest.approx(1.0)
    assert anywhere["mercury_red"].present == (0.5, 0.5)


def test_a_place_counts_from_the_limit_of_the_report_on() -> None:
    """As in the report, 0.7 states a group anywhere, but no place."""
    doubtful = pigments(copper_places=(0.7, 0.05))
    comparison = compare(of_detector("1", lines(1), pigments()), of_detector("2", lines(2, EFFICIENCY), doubtful))
    present = {entry.place: entry.present for entry in comparison.groups if entry.group == "copper_green_blue"}
    assert present == {"anywhere": (0.5, 0.5), "surface": (0.5, 0.0), "below": (0.0, 0.0)}
    (copper,) = (row for row in place_shares(doubtful) if row.name == "copper_green_blue")
    assert (copper.surface, copper.unplaced) == (0.0, 0.5)


def test_the_order_of_the_two_does_not_matter() -> None:
    a, b = of_detector("1", lines(1), pigments()), of_detector("2", lines(2, EFFICIENCY), pigments())
    forth, back = compare(a, b), compare(b, a)
    for entry, other in zip(forth.lines, back.lines, strict=True):
        assert entry.ratio * other.ratio == pytest.approx(1.0, rel=1e-3)
        assert entry.rms_z == pytest.approx(other.rms_z, rel=1e-3)


@pytest.mark.parametrize("swapped", [False, True])
def test_a_group_that_one_claims_by_a_clear_line_and_the_other_does_not(*, swapped: bool) -> None:
    missed = np.zeros(SHAPE, bool)
    missed[3:6, 2:12] = True
    both = [of_detector("1", lines(1), pigments()), of_detector("2", lines(2, EFFICIENCY), pigments(missed))]
    comparison = compare(*(both[::-1] if swapped else both))
    (contradiction,) = comparison.contradictions
    assert (contradiction.kind, contradiction.subject) == ("claim", "mercury_red")
    np.testing.assert_array_equal(contradiction.mask, missed)
    assert (
        "present in detector 1, with Hg L above 10 sigma, and absent in detector 2 (30 pixels, 2.5 %)"
        in contradiction.text
    )
    assert "the line is also above 10 sigma in detector 2 in 30 of these pixels" in contradiction.text
    mercury = next(group for group in comparison.groups if (group.group, group.place) == ("mercury_red", "anywhere"))
    assert mercury.n_alone == ((0, 30) if swapped else (30, 0))
    assert 0.9 < mercury.kappa < 1.0


def test_surface_only_against_below_only() -> None:
    a, b = of_detector("1", pigments()), of_detector("2", pigments(copper_places=(0.05, 0.95)))
    (contradiction,) = compare(a, b).contradictions
    assert (contradiction.kind, contradiction.subject, contradiction.n_pixel) == (
        "place",
        "copper_green_blue",
        SHAPE[0] * 20,
    )
    assert "only at the surface in detector 1, only below the surface in detector 2" in contradiction.text
    assert not compare(a, of_detector("2", pigments(copper_places=(0.7, 0.7)))).contradictions


def test_a_line_in_a_few_pixels_of_one_detector_is_diffraction() -> None:
    def crystals(expected: Any) -> Any:
        expected = expected.copy()
        expected[[4, 9, 20], [7, 30, 11]] += 3000.0
        return expected

    def without_iron(expected: Any) -> Any:
        expected = expected.copy()
        expected[[4, 9, 20], [7, 30, 11]] = 0.0
        return expected

    comparison = compare(
        of_detector("1", lines(1, Fe_K=crystals)), of_detector("2", lines(2, EFFICIENCY, Fe_K=without_iron))
    )
    (entry,) = comparison.contradictions
    assert (entry.kind, entry.subject, entry.n_pixel) == ("line", "Fe_K", 3)
    assert entry.mask[[4, 9, 20], [7, 30, 11]].all()
    assert "diffraction peaks of crystals, which come from no element" in entry.text


@pytest.mark.parametrize("swapped", [False, True])
def test_a_line_of_the_instrument(*, swapped: bool) -> None:
    both = [of_detector("1", lines(1)), of_detector("2", lines(2, EFFICIENCY | {"Ni_K": 0.05}))]
    (entry,) = compare(*(both[::-1] if swapped else both)).contradictions
    assert (entry.kind, entry.subject) == ("line", "Ni_K")
    assert entry.n_pixel > 0.9 * SHAPE[0] * SHAPE[1]
    assert "a line of detector 1 alone" in entry.text
    assert "the instrument" in entry.text


def test_a_line_that_the_other_fit_does_not_show() -> None:
    a, b = of_detector("1", lines(1)), of_detector("2", lines(2, EFFICIENCY))
    keys = tuple(key for key in b.stacks["area"].keys if key != ("Ni_K",))
    without = Results.of_lines(
        [name for (name,) in keys],
        np.stack([b[name] for (name,) in keys], axis=-1),
        np.stack([b.map("area_sigma", name) for (name,) in keys], axis=-1),
    )
    (entry,) = compare(a, of_detector("2", without)).contradictions
    assert (entry.kind, entry.subject) == ("line", "Ni_K")
    # of families that were chosen nothing is to be concluded about others
    chosen = replace(without, summary={"detector": "2", "settings": {"families": ["Fe_K"]}})
    assert not compare(a, chosen).contradictions


def test_a_softer_detector_is_no_contradiction() -> None:
    """Air and windows take the soft lines of one detector: the ratio falls smoothly."""
    soft = {"Ca_K": 0.05, "Fe_K": 0.8, "Ni_K": 1.0, "Cu_K": 1.05, "Hg_L": 1.1, "Pb_L": 1.2}
    assert not compare(of_detector("1", lines(1)), of_detector("2", lines(2, soft))).contradictions


def test_maps_of_different_sizes_cannot_be_compared() -> None:
    other = Results.of_lines(("Fe_K",), np.ones((3, 5, 1), np.float32), np.ones((3, 5, 1), np.float32))
    with pytest.raises(ScanError, match=r"30 rows x 40 columns and 3 rows x 5 columns.*same pixels.*--crop"):
        compare(of_detector("1", lines(1)), of_detector("2", other))


def test_results_that_share_nothing_cannot_be_compared() -> None:
    with pytest.raises(ScanError, match="have no common maps"):
        compare(of_detector("1", lines(1)), of_detector("2", pigments()))


# --- files and the command ---------------------------------------------------------------------------------


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    missed = np.zeros(SHAPE, bool)
    missed[3:6, 2:12] = True
    parts = {"one": of_detector("1", lines(1), pigments()), "two": of_detector("2", lines(2), pigments(missed))}
    for name, results in parts.items():
        write_results(tmp_path / name, results)
    return tmp_path / "one", tmp_path / "two"


def run(*arguments: str | Path) -> Any:
    return CliRunner().invoke(app, [str(entry) for entry in arguments], env={"COLUMNS": "300"})


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.pictures = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        sources = [value or "" for name, value in attrs if name in ("src", "href")]
        assert all(entry.startswith(("data:image/png;base64,", "#")) for entry in sources)
        self.pictures += tag == "img"


def test_the_command_writes_page_json_and_tables(folders: tuple[Path, Path], tmp_path: Path) -> None:
    done = run("compare", *folders, "--out", tmp_path / "both")
    assert done.exit_code == 0, done.output
    assert "! mercury red: present in detector 1, with Hg L above 10 sigma" in done.output
    assert {path.name for path in (tmp_path / "both").iterdir()} == {*COMPARISON_FILES, "underpaint.json"}
    page = _Page()
    page.feed((tmp_path / "both" / "comparison.html").read_text("utf-8"))
    assert page.pictures == 1
    record = json.loads((tmp_path / "both" / "comparison.json").read_text("utf-8"))
    (entry,) = record["contradictions"]
    assert (entry["n_pixel"], entry["rows"], entry["columns"]) == (30, [3, 5], [2, 11])
    rows = list(csv.DictReader((tmp_path / "both" / "lines.csv").read_text("utf-8").splitlines()))
    assert [row["line"] for row in rows] == list(MEAN_COUNTS)
    assert all(float(row["detector 2 over detector 1"]) == pytest.approx(1.0, rel=0.02) for row in rows)


def test_json_alone_on_standard_output(folders: tuple[Path, Path], tmp_path: Path) -> None:
    before = {entry.name for entry in tmp_path.iterdir()}
    record = json.loads(run("compare", *folders, "--json").stdout)
    assert record["page"] is None
    assert [entry["subject"] for entry in record["contradictions"]] == ["mercury_red"]
    assert {entry.name for entry in tmp_path.iterdir()} == before


def test_only_a_comparison_is_replaced_and_only_on_request(folders: tuple[Path, Path], tmp_path: Path) -> None:
    assert run("compare", *folders, "--out", tmp_path / "both").exit_code == 0
    (tmp_path / "both" / "notes.txt").write_text("mine")
    again = run("compare", *folders, "--out", tmp_path / "both")
    assert again.exit_code == 1
    assert "already has one" in again.output
    assert run("compare", *folders, "--out", tmp_path / "both", "--overwrite").exit_code == 0
    assert (tmp_path / "both" / "notes.txt").read_text() == "mine"
    into_results = run("compare", *folders, "--out", folders[0], "--overwrite")
    assert into_results.exit_code == 1
    assert "of other origin" in into_results.output
    with pytest.raises(OutputError, match="it is a file"):
        write_comparison(compare(*map(up.read_results, folders)), tmp_path / "both" / "notes.txt")


def test_a_run_over_the_arrays_of_a_file_names_contradictions(tmp_path: Path) -> None:
    """Two detectors of one virtual panel: its counts dealt to both, and to one of them nickel from its own parts."""
    panel = up.make_panel(PanelSettings(recipe="fig7", cell_pixels=1, gap_pixels=0, perturb=False))
    axis, rng = panel.scan.require_axis(), np.random.default_rng(5)
    counts = panel.scan.counts.compute().astype(np.int64)
    half = rng.binomial(counts, 0.5)
    width = resolution_fwhm_kev(7.472, 0.1, 0.12) / FWHM_PER_SIGMA
    peak = 4000.0 * axis.gain_kev * norm.pdf(axis.energy_kev, 7.472, width)
    nickel = rng.poisson(np.broadcast_to(peak, counts.shape))
    scan = tmp_path / "two.npz"
    np.savez(scan, det_1=half, det_2=counts - half + nickel)
    options = ("--engine", "fixed", "--instrument", "elio", "--add", "Ni", "--out", tmp_path / "out")
    done = run("elements", f"{scan}::det_1", f"{scan}::det_2", *options)
    assert done.exit_code == 0, done.output
    assert "Warning: Ni K: a line of " in done.output
    assert done.output.count("Warning: ") == 1
    assert (
        "1 contradiction between two_det_1_underpaint and two_det_2_underpaint. All: underpaint compare" in done.output
    )
