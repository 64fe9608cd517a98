"""What the report tells beside the maps: key findings, spots, regions, photograph, table, methods, PDF."""

import html
import json
import os
import re
import stat
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import report_fakes as fakes
from PIL import Image
from typer.testing import CliRunner

from result_parts import joined
from underpaint.cli import app
from underpaint.data import EnergyAxis, Scan
from underpaint.display.plot.layers import Section, stratigraphy_sketch
from underpaint.display.report import find_groups, write_report
from underpaint.display.report.findings import Evidence, Finding
from underpaint.display.report.layers import PlaceShares
from underpaint.display.report.page import _drawn_lines
from underpaint.display.report.pdf import BROWSER_VARIABLE, find_browser, print_pdf
from underpaint.display.report.pigment_table import MAX_ROWS, pigment_table
from underpaint.display.report.spots import typical_pixel, typical_spots
from underpaint.display.report.title import AUTHORS, PAPER, TITLE, data_versions, library_hash, methods_paragraph
from underpaint.display.report.wording import (
    CERTAIN,
    DOUBTFUL,
    LIKELY,
    POSSIBLE,
    certainty,
    date_text,
    key_finding,
    statement_text,
)
from underpaint.errors import OutputError, ScanError
from underpaint.io import save_scan, write_results
from underpaint.io.results.pictures import REGISTERED_FILE, REGISTRATION_FILE
from underpaint.io.results.session import Statement
from underpaint.io.results.sidecars import REGIONS_FILE, REGIONS_FOLDER
from underpaint.physics.materials import library

pytestmark = pytest.mark.usefixtures("without_drawing")

ROOT = Path(__file__).resolve().parents[2]


def finding(mean: float, lines: float) -> Finding:
    return Finding("mercury_red", "mercury red (vermilion; calomel)", 0.25, mean, (Evidence("Hg_L", lines, 900.0),))


def scan() -> Scan:
    """Counts that tell the pixel: channel 100 holds 100 row + column, all others one."""
    counts = np.ones((*fakes.SHAPE, fakes.AXIS_KEV.size), dtype=np.int32)
    rows, columns = np.indices(fakes.SHAPE)
    counts[:, :, 100] = 100 * rows + columns
    return Scan(counts, axis=EnergyAxis(0.02, 0.0, fakes.AXIS_KEV.size), name="fake")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Results with their scan, a region and a photograph."""
    results = fakes.results()
    place = tmp_path / "fake_underpaint"
    save_scan(scan(), tmp_path / "fake.h5")
    settings = results.summary["settings"] | {"source": str(tmp_path / "fake.h5")}
    write_results(place, replace(results, summary={**results.summary, "settings": settings}))
    (place / REGIONS_FOLDER).mkdir()
    mask = np.zeros(fakes.SHAPE, np.uint8)
    mask[2:6, 1:8] = 255
    Image.fromarray(mask).save(place / REGIONS_FOLDER / "left_hand.png")
    Image.new("RGB", (80, 48), (200, 40, 30)).save(place / REGISTERED_FILE)
    (place / REGISTRATION_FILE).write_text(json.dumps({"how": "points", "error_px": 0.4}))
    return place


@pytest.mark.parametrize(
    ("mean", "lines", "words"),
    [(0.95, 0.95, CERTAIN), (0.95, 0.6, LIKELY), (0.6, 0.95, POSSIBLE), (0.99, 0.3, DOUBTFUL)],
)
def test_certainty_asks_the_network_and_the_lines(mean: float, lines: float, words: str) -> None:
    assert certainty(finding(mean, lines)) == words


def test_a_finding_is_reported_with_place_and_region() -> None:
    mercury = replace(finding(0.97, 1.0), members=("vermilion", "calomel"))
    places = [PlaceShares("mercury_red", "mercury red", 0.2, 0.08, 0.03)]
    finding_summary = key_finding(mercury, places, {"left hand": 0.9, "sky": 0.1})
    assert (finding_summary.title, finding_summary.members) == ("Mercury red", "vermilion or calomel")
    assert finding_summary.extent == "in places (25 % of the area); in the region “left hand” (90 %)"
    assert finding_summary.depth == "at the surface in 20 %, below it in 8.0 %, undetermined in 3.0 %"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("2026-11-21T23:08:54+00:00", "21 November 2026, 23:08 UTC"),
        ("2019-03-02T09:05:00+02:00", "2 March 2019, 09:05 UTC+02:00"),
        ("2019-03-02 09:05:00", "2 March 2019, 09:05"),
        ("2019-03-02", "2 March 2019"),
        ("Sat Mar  2 2019", "Sat Mar  2 2019"),
        ("", ""),
    ],
)
def test_a_date_is_written_for_people(text: str, words: str) -> None:
    assert date_text(text) == words


def test_the_typical_pixel_is_sure_and_shows_the_median() -> None:
    results = fakes.results()
    mercury = find_groups(results)[1]
    at = typical_pixel(results, mercury)
    assert at is not None
    inside = results["mercury_red"] > 0.5
    assert inside[at]
    assert abs(results["Hg_L"][at] - np.median(results["Hg_L"][inside])) < 5
    results["mercury_red"][:] = 0.0
    assert typical_pixel(results, mercury) is None


def test_a_spots_spectrum_is_that_of_its_pixels_and_names_its_lines() -> None:
    results = fakes.results()
    mercury = find_groups(results)[1]
    spot = typical_spots(results, [mercury], scan())[0]
    at = typical_pixel(results, mercury)
    assert at is not None
    around = [
        (row, column)
        for row in range(at[0] - 1, at[0] + 2)
        for column in range(at[1] - 1, at[1] + 2)
        if 0 <= row < fakes.SHAPE[0] - 1 and 0 <= column < 10
    ]
    assert spot.n_pixel == len(around)
    assert spot.counts[100] == sum(100 * row + column for row, column in around)
    assert spot.families[0] == "Pb_L"
    assert "Hg_L" in spot.families
    assert "Cu_K" not in spot.families


def test_the_report_holds_what_lies_beside_the_results(folder: Path) -> None:
    text = (
        write_report(folder, subject="Portrait <of nobody>", full=True)
        .read_text("utf-8")
        .replace("\N{NO-BREAK SPACE}", " ")
    )
    assert "Portrait &lt;of nobody&gt;" in text
    assert "aligned by points, mean error 0.4 map pixels" in text
    assert "data:image/jpeg;base64," in text
    assert "in the region “left hand”" in text
    assert text.count("a typical spot: ") == 2
    assert "Spectrum of left hand, drawn region: 28 pixels" in text


def test_without_the_scan_the_report_says_so_and_requests_a_named_one(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "fake.h5").unlink()
    assert "is missing, so no pixel" in write_report(folder, full=True).read_text("utf-8").replace(
        "\N{NO-BREAK SPACE}", " "
    )
    with pytest.raises(ScanError, match=r"other\.h5"):
        write_report(folder, scan=str(tmp_path / "other.h5"), full=True)


def test_all_registered_pictures_are_in_the_report_and_others_are_not(folder: Path) -> None:
    (folder / "pictures").mkdir()
    for key, grey in (("infrared_1", 90), ("x_radiograph_2", 40), ("ultraviolet_1", 10)):
        Image.new("RGB", (80, 48), (grey,) * 3).save(folder / "pictures" / f"{key}.jpg")
        Image.new("RGB", (80, 48), (grey,) * 3).save(folder / "pictures" / f"{key}_registered.png")
    place = {"how": "mutual information", "error_px": 1.24, "doubtful": True}
    (folder / "pictures" / "infrared_1.json").write_text(json.dumps(place))
    (folder / "pictures" / "x_radiograph_2.json").write_text(json.dumps({"how": "points", "error_px": None}))
    text = html.unescape(write_report(folder).read_text("utf-8")).replace("\N{NO-BREAK SPACE}", " ")
    assert "Infrared, aligned by mutual information, mean error 1.2 map pixels; the alignment is doubtful." in text
    assert "X-radiograph 2, aligned by points." in text
    assert "Ultraviolet" not in text  # not aligned with the maps


def test_the_maps_of_the_lines_that_the_first_page_names_are_drawn() -> None:
    lines = [Evidence(f"E{number}_K", 1.0 - number / 20, 10.0) for number in range(15)]
    drawn = [line.family for line in _drawn_lines(lines, ["E14_K", "E0_K", "E13_K"], 5)]
    assert drawn == ["E0_K", "E1_K", "E2_K", "E13_K", "E14_K"]


def test_a_statement_without_a_correction_is_a_sentence() -> None:
    statement = Statement("group", "iron_pigment", "corrected", "", "a cross-section", "A. Keeper", "2026-11-30")
    assert statement_text(statement, "iron pigment") == (
        "Iron pigment, not this: a cross-section (A. Keeper, 30 November 2026)"
    )


def test_a_region_is_called_in_the_report_what_its_painter_called_it(folder: Path) -> None:
    name = "<script>alert(1)</script> α-hand"
    hand = {"name": name, "mask": "left_hand.png", "corners": [[0, 0], [0, 2], [2, 2]]}
    (folder / REGIONS_FILE).write_text(json.dumps({"regions": [hand]}), "utf-8")
    text = write_report(folder, full=True).read_text("utf-8")
    assert name not in text
    assert f"in the region “{name}”" in html.unescape(text)
    assert "left hand" not in text


@pytest.mark.parametrize(
    ("damage", "match"),
    [
        (lambda place: (place / REGISTRATION_FILE).write_text("{"), "Register the photograph again"),
        (lambda place: (place / REGISTERED_FILE).write_text("no picture"), "Register the photograph again"),
        (lambda place: (place / REGISTRATION_FILE).write_text("[]"), "has no registration of the photograph"),
        (lambda place: (place / REGIONS_FOLDER / "left_hand.png").write_text("none"), "Cannot read the region"),
        (lambda place: (place / REGIONS_FILE).write_text("junk"), "New regions can be drawn"),
    ],
)
def test_what_is_damaged_beside_the_results_is_named(folder: Path, damage: Callable[[Path], int], match: str) -> None:
    damage(folder)
    text = html.unescape(write_report(folder, full=True).read_text("utf-8"))
    assert re.search(rf"<li>[^<]*{match}", text)
    assert "Mercury red" in text


def test_the_table_tells_formula_and_period_of_each_pigment() -> None:
    groups = pigment_table(find_groups(fakes.results()))
    lead, mercury = groups
    vermilion = next(row for row in mercury.rows if row.label == "vermilion")
    assert vermilion.formula == library()["vermilion"].formula
    assert vermilion.period == library()["vermilion"].period.text
    assert vermilion.weight == "preferred in 25 %"
    assert len(lead.rows) == MAX_ROWS
    assert len(lead.rows) + len(lead.other_labels) == len(library().members("lead_pigment"))
    assert "Hg L" in mercury.evidence


def test_the_methods_say_what_was_done_and_by_which_versions() -> None:
    results = fakes.results()
    paragraph = methods_paragraph(results)
    for words in (
        "24 × 40 pixels",
        "1\u202f250 counts",
        "underpaint 0.1.0",
        "3 elementary equivalence groups",
        "5 line",
    ):
        assert words in paragraph
    assert "neural network" not in methods_paragraph(joined(fakes.element_maps(), summary=fakes.summary()))
    assert dict(data_versions(results))["Model"] == "default 1"
    assert library_hash()[:12] in dict(data_versions(results))["Pigment library"]


def test_the_citation_is_that_of_the_citation_file() -> None:
    known = (ROOT / "CITATION.cff").read_text("utf-8")
    assert f"title: {TITLE}\n" in known
    assert f"name: {AUTHORS}\n" in known
    reference = dict(re.findall(r"^    (title|journal|volume|start|end|doi): (.+)$", known, flags=re.MULTILINE))
    assert len(reference) == 6
    assert [part for part in reference.values() if part not in PAPER] == []
    assert PAPER in fakes.full_report(joined(fakes.element_maps(), summary=fakes.summary()))


def test_a_sketch_has_a_section_for_each_arrangement() -> None:
    red, white = ("mercury red", "#d7301f"), ("lead pigment", "#e8e0c8")
    figure = stratigraphy_sketch(
        [Section("12 %", "20 µm", (red,), (white,), ()), Section("8 %", "", (), (white,), (red, white))]
    )
    texts = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert texts[0] == "mercury red\n20 µm"
    assert "nothing certain" in texts
    assert "mercury red\nlead pigment\nplace not determined" in texts


def test_without_a_browser_the_message_names_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv(BROWSER_VARIABLE, raising=False)
    monkeypatch.setattr("underpaint.display.report.pdf._MACOS_APPLICATIONS", ())
    with pytest.raises(OutputError, match="no Chromium, Chrome or Edge"):
        find_browser()
    monkeypatch.setenv(BROWSER_VARIABLE, "no-such-browser")
    with pytest.raises(OutputError, match="which is not a program"):
        find_browser()


@pytest.mark.skipif(os.name == "nt", reason="the browser that prints nothing is a shell script")
def test_a_browser_that_prints_nothing_leaves_what_was_there(tmp_path: Path) -> None:
    silent = tmp_path / "silent"
    silent.write_text(f"#!{sys.executable}\nimport sys\nsys.exit('no display')\n")
    silent.chmod(silent.stat().st_mode | stat.S_IXUSR)
    target = tmp_path / "report.pdf"
    target.write_bytes(b"before")
    with pytest.raises(OutputError, match=r"wrote no PDF. It says: no display"):
        print_pdf("<p>page</p>", target, str(silent))
    assert target.read_bytes() == b"before"
    assert {path.name for path in tmp_path.iterdir()} == {"silent", "report.pdf"}


def test_the_command_writes_to_the_given_path(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "mine.html"
    done = CliRunner().invoke(app, ["report", str(folder), "--out", str(out), "--object", "Portrait", "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout) == {"report": str(out)}
    assert "Portrait" in out.read_text("utf-8")
    assert not (folder / "report.html").exists()


@pytest.mark.browser
def test_a_browser_prints_pages_with_text(folder: Path) -> None:
    done = CliRunner().invoke(app, ["report", str(folder), "--format", "pdf"])
    assert done.exit_code == 0, done.output
    printed = (folder / "report.pdf").read_bytes()
    assert printed.startswith(b"%PDF-")
    assert printed.count(b"/Type /Page\n") >= 3
