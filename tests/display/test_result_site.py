"""A result's answers: maps, pixels, regions, exports, each held against numbers that are known."""

import csv
import io
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image
from viewer_fakes import HOSTILE, SHAPE, STEP_MM, element_maps, pigment_maps, results, spectrum_of

from underpaint.data.maps import CANNOT_EXCLUDE, NO_ANSWER, NOT_DETECTED, PRESENT, STATES
from underpaint.display.plot.images import STATE_COLORS
from underpaint.display.viewer import exports
from underpaint.display.viewer.pages import page_file
from underpaint.display.viewer.result_site import ResultSite, is_outdated
from underpaint.display.viewer.server import Answer, Request
from underpaint.display.viewer.spots import not_excluded_mask
from underpaint.errors import OutputError, ScanError, UnderpaintError
from underpaint.io import write_results
from underpaint.io.results.regions import Region
from underpaint.pigments.explain import read_region


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ResultSite]:
    entry = ResultSite(results(tmp_path_factory.mktemp("viewed")))
    entry.source.open()
    yield entry
    entry.close()


def get(site: ResultSite, *parts: str, **query: object) -> Answer:
    answer = site(Request("GET", parts, {key: str(value) for key, value in query.items()}))
    assert answer is not None
    return answer


def post(site: ResultSite, *parts: str, **sent: object) -> Any:
    answer = site(Request("POST", parts, {}, json.dumps(sent).encode()))
    assert answer is not None
    return parsed(answer)


def parsed(answer: Answer) -> Any:
    assert isinstance(answer.body, bytes)
    return json.loads(answer.body)


def index(site: ResultSite, name: str, kind: str = "") -> int:
    return next(
        n
        for n, entry in enumerate(site.maps.entries)
        if entry.name == name and (entry.kind == kind if kind else entry.kind != "state")
    )


def test_the_page_receives_the_list_of_maps(site: ResultSite) -> None:
    about = parsed(get(site, "about"))
    assert about["shape"] == list(SHAPE)
    assert about["step_mm"] == list(STEP_MM)
    assert about["axis"] == pytest.approx({"zero_kev": 0.0, "gain_kev": 0.02})
    kinds = {entry["name"]: entry["kind"] for entry in about["maps"] if entry["kind"] != "state"}
    assert kinds["mercury_red"] == "group"
    assert kinds["vermilion"] == "member"
    assert kinds["Pb_L"] == "element"
    placed = next(entry for entry in about["maps"] if entry["name"] == "mercury_red.below")
    assert (placed["material"], placed["place"]) == ("mercury_red", "below")
    assert about["sum"][500] == sum(100 * row + column for row in range(SHAPE[0]) for column in range(SHAPE[1]))


def test_the_first_view_has_the_paints_with_their_legend(site: ResultSite) -> None:
    legend = parsed(get(site, "overview"))["paints"]
    assert [row["number"] for row in legend] == [1, 2]
    assert all(row["patch"].startswith("data:image/png;base64,") for row in legend)
    assert legend[0]["groups"] == HOSTILE.partition(" (")[0]
    numbers = np.frombuffer(get(site, "paint").body, np.uint8).reshape(SHAPE)  # type: ignore[arg-type]
    np.testing.assert_array_equal(numbers[0], np.repeat([1, 2], SHAPE[1] // 2))
    assert (numbers[-1] == 255).all()


def test_uncertainties_are_no_maps_to_choose(site: ResultSite) -> None:
    assert sum(entry.name == "Hg_L" for entry in site.maps.entries) == 1


def test_a_map_is_sent_as_its_numbers(site: ResultSite) -> None:
    answer = get(site, "map", map=index(site, "mercury_red", "group"))
    assert isinstance(answer.body, bytes)
    values = np.frombuffer(answer.body, "<f4").reshape(SHAPE)
    np.testing.assert_array_equal(values, pigment_maps()["mercury_red"])


def test_a_thumbnail_is_small_and_says_its_size(site: ResultSite) -> None:
    body = get(site, "thumbnail", map=index(site, "Pb_L"), size=16).body
    assert isinstance(body, bytes)
    n_row, n_column = np.frombuffer(body[:8], "<i4")
    values = np.frombuffer(body[8:], "<f4").reshape(n_row, n_column)
    np.testing.assert_array_equal(values, element_maps()["Pb_L"][::2, ::2])


def test_a_pixel_is_its_spectrum_and_all_maps_values(site: ResultSite) -> None:
    site.source.scan()
    answer = parsed(get(site, "pixel", row=3, column=4))
    np.testing.assert_array_equal(answer["spectrum"], spectrum_of(3, 4))
    first = answer["groups"][0]
    assert first["label"] == HOSTILE
    assert first["probability"] == pytest.approx(0.97)
    assert first["places"] == pytest.approx({"surface": 0.95, "below": 0.02})
    assert first["lines"][0] == pytest.approx(
        {"family": "Hg_L", "counts": 400.0, "error": 10.0, "sigma": 40.0, "there": True}
    )
    assert "vermilion" in first["alike"]
    assert [entry["label"] for entry in first["members"]] == ["vermilion"]
    lead = next(entry for entry in answer["elements"] if entry["name"] == "Pb_L")
    assert lead["counts"] == pytest.approx(1000 - 50 * 3)


def test_a_pigment_that_cannot_be_excluded_is_named(site: ResultSite) -> None:
    answer = parsed(get(site, "pixel", row=3, column=15))
    mercury = next(entry for entry in answer["groups"] if entry["name"] == "mercury_red")
    assert (mercury["state"], mercury["answer"]) == (CANNOT_EXCLUDE, "cannot be excluded")
    assert mercury["probability"] < 0.1


def test_no_answer_is_null(site: ResultSite) -> None:
    answer = parsed(get(site, "pixel", row=SHAPE[0] - 1, column=2))
    assert answer["groups"][0]["probability"] is None


@pytest.mark.parametrize(("row", "column"), [(-1, 0), (SHAPE[0], 0), (0, SHAPE[1])])
def test_a_pixel_outside_is_refused(site: ResultSite, row: int, column: int) -> None:
    with pytest.raises(ScanError, match="rows are 0 to 11, columns 0 to 19"):
        get(site, "pixel", row=row, column=column)


@pytest.mark.parametrize("text", ["", "x", "1.5", "1" * 12, "--1"])
def test_what_is_no_number_is_refused(site: ResultSite, text: str) -> None:
    with pytest.raises(UnderpaintError, match="must be a whole number"):
        get(site, "map", map=text)


def test_a_map_that_is_not_there_is_refused(site: ResultSite) -> None:
    with pytest.raises(ScanError, match="There is no map 99"):
        get(site, "map", map=99)


def box(top: float, left: float, bottom: float, right: float) -> list[tuple[float, float]]:
    return [(top, left), (top, right), (bottom, right), (bottom, left)]


def test_a_region_holds_the_pixels_whose_middles_lie_within() -> None:
    mask = Region("box", tuple(box(1.4, 2.6, 4.6, 5.4))).mask(SHAPE)
    rows, columns = np.nonzero(mask)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (1, 4, 3, 4)
    assert mask.sum() == 8


def test_a_lasso_that_is_not_convex_leaves_its_notch_out() -> None:
    corners = ((0.0, 0.0), (0.0, 9.0), (9.0, 9.0), (9.0, 6.0), (3.0, 6.0), (3.0, 3.0), (9.0, 3.0), (9.0, 0.0))
    mask = Region("u", corners).mask(SHAPE)
    assert not mask[5, 4]
    assert mask[5, 1]
    assert mask[5, 7]
    assert mask.sum() == 81 - 18


def test_a_regions_spectra_and_histograms_are_those_of_its_pixels(site: ResultSite) -> None:
    site.source.scan()
    answer = post(site, "region", corners=box(2, 8, 4, 12), maps=[index(site, "Hg_L"), index(site, "mercury_red")])
    assert answer["n_pixel"] == 8
    pixels = [100 * row + column for row in (2, 3) for column in range(8, 12)]
    assert answer["mean"][500] == pytest.approx(np.mean(pixels))
    assert answer["max"][500] == max(pixels)
    mercury, probability = answer["maps"]
    assert mercury["mean"] == pytest.approx((400 + 5) / 2)
    assert sum(mercury["histogram"]) == 8
    assert probability["above_half"] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("corners", "match"),
    [
        ([[0, 0], [1, 1]], "2 corners"),
        ("none", "pairs of a row and a column"),
        ([[0, 0], [0, float("nan")], [1, 1]], "numbers are needed"),
        (box(-9, -9, -5, -5), "contains no pixel"),
    ],
)
def test_a_region_that_is_none_is_refused(site: ResultSite, corners: Any, match: str) -> None:
    with pytest.raises(ScanError, match=match):
        post(site, "region", corners=corners)


def test_a_class_is_all_that_hangs_together_over_a_value(site: ResultSite) -> None:
    answer = parsed(get(site, "class", map=index(site, "mercury_red"), row=3, column=4))
    assert Region("class", (), tuple(map(tuple, answer["runs"]))).mask(SHAPE).sum() == (SHAPE[0] - 1) * SHAPE[1] // 2
    assert post(site, "region", runs=answer["runs"], maps=[], no_spectrum=True)["n_pixel"] == 110
    with pytest.raises(ScanError, match="no class at"):
        get(site, "class", map=index(site, "mercury_red"), row=3, column=15)


def test_regions_are_saved_with_masks_that_explain_reads(tmp_path: Path) -> None:
    folder = results(tmp_path)
    site = ResultSite(folder)
    (folder / "regions").mkdir()
    (folder / "regions" / "of_somebody.png").write_bytes(b"theirs")
    sleeve = {"name": "../the sleeve", "corners": box(1, 1, 3, 4)}
    version = post(site, "regions", regions=[sleeve, sleeve], version="")["version"]
    saved = parsed(get(site, "regions"))["regions"]
    assert [entry["name"] for entry in saved] == ["../the sleeve", "../the sleeve"]
    assert sorted(entry.name for entry in (folder / "regions").iterdir()) == [
        "of_somebody.png",
        "the_sleeve.png",
        "the_sleeve_2.png",
    ]
    assert read_region(folder / "regions" / "the_sleeve.png", SHAPE).sum() == 6
    post(site, "regions", regions=[], version=version)
    assert [entry.name for entry in (folder / "regions").iterdir()] == ["of_somebody.png"]
    site.close()


@pytest.mark.parametrize("text", ["junk", "[]", '{"regions": [1]}', '{"regions": [{"corners": [[1, 2]]}]}'])
def test_damaged_regions_are_reported_and_preserved_and_others_can_be_drawn(tmp_path: Path, text: str) -> None:
    folder = results(tmp_path)
    (folder / "regions.json").write_text(text)
    site = ResultSite(folder)
    with pytest.raises(ScanError, match=r"regions\.json.*the damaged file is then kept"):
        get(site, "regions")
    post(site, "regions", regions=[{"name": "sleeve", "corners": box(1, 1, 3, 4)}], version="")
    assert [entry["name"] for entry in parsed(get(site, "regions"))["regions"]] == ["sleeve"]
    assert (folder / "regions_damaged.json").read_text() == text
    site.close()


@pytest.mark.parametrize("name", ["photograph.jpg", "photograph.json", "photograph_registered.png"])
def test_a_damaged_photograph_is_reported_and_preserved_and_the_maps_are_shown(tmp_path: Path, name: str) -> None:
    folder = results(tmp_path)
    Image.new("RGB", (40, 24)).save(folder / "photograph.jpg")
    Image.new("RGB", (40, 24)).save(folder / "photograph_registered.png")
    (folder / "photograph.json").write_text('{"how": "points", "error_px": 0.4}')
    site = ResultSite(folder)
    assert parsed(get(site, "about"))["pictures"][0]["registration"]["how"] == "points"
    (folder / name).write_text("junk")
    about = parsed(get(site, "about"))
    assert len(about["maps"]) > 0
    (picture,) = about["pictures"]
    assert name in picture["broken"]
    assert picture["registration"] is None
    assert (picture["width"] > 0) == (name != "photograph.jpg")
    assert (folder / name).read_text() == "junk"
    site.close()


def test_without_the_scan_the_maps_are_shown_and_why_there_is_no_spectrum(tmp_path: Path) -> None:
    site = ResultSite(results(tmp_path, with_scan=False))
    site.source.open()
    with pytest.raises(ScanError, match="then open the scan again"):
        site.source.scan()
    answer = parsed(get(site, "pixel", row=3, column=4))
    assert answer["spectrum"] is None
    assert "then open the scan again" in answer["scan"]["why"]
    (tmp_path / "again").mkdir()
    source = results(tmp_path / "again").parent / "panel.h5"
    source.rename(tmp_path / "panel.h5")
    site.source.open()  # the file has been put there meanwhile
    assert site.source.scan().shape[:2] == SHAPE
    site.close()


def test_a_scan_moved_beside_the_results_is_found(tmp_path: Path) -> None:
    folder = results(tmp_path)
    (tmp_path / "moved").mkdir()
    moved = folder.rename(tmp_path / "moved" / folder.name)
    (tmp_path / "panel.h5").rename(tmp_path / "moved" / "panel.h5")
    site = ResultSite(moved)
    site.source.open()
    assert site.source.scan().shape[:2] == SHAPE
    site.close()


def test_damaged_results_are_refused(tmp_path: Path) -> None:
    (tmp_path / "results.h5").write_bytes(b"no hdf5")
    with pytest.raises(ScanError, match="damaged"):
        ResultSite(tmp_path)


def exported(site: ResultSite, *parts: str, **query: object) -> bytes:
    answer = get(site, "export", *parts, **query)
    assert "attachment" in answer.headers["Content-Disposition"]
    assert isinstance(answer.body, bytes)
    return answer.body


def test_a_map_is_exported_as_its_numbers_where_it_is_seen(site: ResultSite) -> None:
    body = exported(site, "map", map=index(site, "Pb_L"), format="tif", window="2,5,3,9")
    np.testing.assert_array_equal(tifffile.imread(io.BytesIO(body)), element_maps()["Pb_L"][2:6, 3:10])


def test_all_maps_are_a_stack_with_the_size_of_a_pixel(site: ResultSite) -> None:
    answer = get(site, "export", "stack")
    with answer.body as file, tifffile.TiffFile(file) as stack:  # type: ignore[union-attr]
        pixels = tifffile.xml2dict(stack.ome_metadata)["OME"]["Image"]["Pixels"]
        assert (pixels["PhysicalSizeX"], pixels["PhysicalSizeXUnit"]) == (STEP_MM[1], "mm")
        assert (pixels["PhysicalSizeY"], pixels["PhysicalSizeYUnit"]) == (STEP_MM[0], "mm")
        assert stack.series[0].axes == "CYX"
        names = [channel["Name"] for channel in pixels["Channel"]]
        mercury = stack.asarray()[next(at for at, name in enumerate(names) if name.startswith("element: Hg L"))]
    assert len(set(names)) == len(site.maps.entries)
    np.testing.assert_array_equal(mercury, element_maps()["Hg_L"])


def test_all_maps_are_a_table_with_a_line_for_each_pixel(site: ResultSite, monkeypatch: pytest.MonkeyPatch) -> None:
    with get(site, "export", "maps").body as file:  # type: ignore[union-attr]
        rows = list(csv.DictReader(io.StringIO(file.read().decode())))
    assert len(rows) == SHAPE[0] * SHAPE[1]
    assert (rows[SHAPE[1] + 2]["row"], rows[SHAPE[1] + 2]["column"]) == ("1", "2")
    assert float(rows[0]["element: Hg_L (counts)"]) == 400.0
    assert float(rows[0]["element: Hg_L standard deviation (counts)"]) == 10.0
    assert rows[-1]["group: mercury_red (1)"] == ""  # no answer
    monkeypatch.setattr(exports, "MAX_VALUES", 100)
    with pytest.raises(OutputError, match="OME-TIFF"):
        get(site, "export", "maps")


def test_figures_are_made_at_print_size(site: ResultSite) -> None:
    body = exported(site, "map", map=index(site, "mercury_red"), format="png", threshold="0.5")
    with Image.open(io.BytesIO(body)) as image:
        assert image.width > 1200
    assert exported(site, "figure5", map=index(site, "mercury_red"), format="svg").lstrip().startswith(b"<?xml")
    layers = f"{index(site, 'mercury_red')},,{index(site, 'Pb_L')}"
    assert exported(site, "composite", maps=layers, format="pdf").startswith(b"%PDF")


def words_of(body: bytes) -> str:
    """Return the texts of an SVG figure, which draws them as glyphs and keeps them as comments."""
    return " ".join(re.findall(r"<!-- (.*?) -->", body.decode()))


def test_an_exported_map_says_its_threshold_and_what_is_hatched(site: ResultSite) -> None:
    facts = {"map": index(site, "mercury_red"), "format": "svg"}
    figure_words = words_of(exported(site, "map", **facts, threshold="0.5", hatch="1"))
    assert "below 0.5: omitted" in figure_words
    assert "not detected, cannot be excluded" in figure_words
    assert "excluded" not in words_of(exported(site, "map", **facts))
    assert exported(site, "map", **facts, colors="gray") != exported(site, "map", **facts)
    state = words_of(exported(site, "map", map=index(site, "mercury_red", "state"), format="svg"))
    assert "answer" in state
    assert "cannot be excluded" in state


def test_the_numbers_of_a_map_are_exported_whole_whatever_its_threshold(site: ResultSite) -> None:
    body = exported(site, "map", map=index(site, "mercury_red"), format="tif", threshold="0.5")
    np.testing.assert_array_equal(tifffile.imread(io.BytesIO(body)), pigment_maps()["mercury_red"])


def test_a_pixels_figure_labels_only_lines_that_stand_out_there(site: ResultSite) -> None:
    site.source.scan()
    left = words_of(exported(site, "spectrum", row=3, column=4, format="svg"))
    right = words_of(exported(site, "spectrum", row=3, column=15, format="svg"))
    assert "Hg" in left
    assert "Hg" not in right
    assert "Pb" in right


def test_what_is_not_seen_is_unknown_unless_it_is_not_detected() -> None:
    state = np.array([[NOT_DETECTED, PRESENT, CANNOT_EXCLUDE, np.nan]], np.float32)
    dark = np.full_like(state, 0.1)
    assert not_excluded_mask(dark, state).tolist() == [[False, False, True, False]]
    assert not_excluded_mask(dark, state, "below").tolist() == [[False, True, True, False]]
    assert not not_excluded_mask(np.full_like(state, 0.9), state, "below").any()


def test_a_regions_spectrum_is_exported_as_numbers_and_as_a_figure(site: ResultSite) -> None:
    site.source.scan()

    def sent(form: str) -> bytes:
        body = json.dumps({"name": "the sleeve", "corners": box(2, 8, 4, 12), "format": form}).encode()
        answer = site(Request("POST", ("export", "region"), {}, body))
        assert answer is not None
        assert 'filename="spectrum_the_sleeve' in answer.headers["Content-Disposition"]
        assert isinstance(answer.body, bytes)
        return answer.body

    rows = list(csv.DictReader(io.StringIO(sent("csv").decode())))
    pixels = [100 * row + column for row in (2, 3) for column in range(8, 12)]
    assert float(rows[500]["mean"]) == pytest.approx(np.mean(pixels))
    assert float(rows[500]["max"]) == max(pixels)
    words = words_of(sent("svg"))
    assert "the sleeve: mean of 8 pixels" in words
    assert "Hg" in words
    with pytest.raises(OutputError, match="choose csv, png, svg, pdf"):
        sent("exe")


def test_exported_counts_keep_all_their_digits() -> None:
    assert exports._decimal_text(np.float64(1114721234.0)) == "1114721234"
    assert exports._decimal_text(np.float32(0.97)) == "0.97"
    assert exports._decimal_text(np.float64(1e-7)) == "0.0000001"


def test_the_page_draws_states_in_the_colours_of_the_figures() -> None:
    answer = page_file("colors.json")
    assert answer is not None
    table = parsed(answer)["states"]
    assert all(f"#{table[6 * state : 6 * state + 6]}" == STATE_COLORS[state] for state in STATES if state != NO_ANSWER)


def test_a_hostile_name_stays_text_in_svg(site: ResultSite) -> None:
    body = exported(site, "map", map=index(site, "mercury_red"), format="svg")
    assert b"<img" not in body


def test_a_spectrum_is_exported_with_its_energies(site: ResultSite) -> None:
    site.source.scan()
    rows = list(csv.DictReader(io.StringIO(exported(site, "spectrum", row=3, column=4, format="csv").decode())))
    assert float(rows[500]["energy_kev"]) == pytest.approx(10.0)
    assert float(rows[500]["counts"]) == 304
    assert float(rows[500]["max"]) == 100 * 11 + 19
    values = list(csv.DictReader(io.StringIO(exported(site, "values", row=3, column=4).decode())))
    mercury = next(entry for entry in values if entry["name"] == "Hg_L")
    assert (mercury["value"], mercury["standard_deviation"], mercury["unit"]) == ("400", "10", "counts")


@pytest.mark.parametrize(
    ("export", "query", "match"),
    [
        ("map", {"format": "exe"}, "choose png, svg, pdf, tif"),
        ("map", {"window": "5,2,0,1"}, "rows are 0 to 11"),
        ("map", {"window": "a,b"}, "first and last row"),
        ("map", {"threshold": "x"}, "must be a number"),
        ("map", {"colors": "jet"}, "choose inferno, viridis, cividis, gray"),
        ("figure5", {"name": "Pb_L"}, "choose a pigment or a group"),
    ],
)
def test_exports_that_cannot_be_are_refused(site: ResultSite, export: str, query: dict[str, str], match: str) -> None:
    name = query.pop("name", "mercury_red")
    with pytest.raises(OutputError, match=match):
        get(site, "export", export, map=index(site, name), **query)


class _Ended:
    """A run that has written results."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def state(self) -> dict[str, Any]:
        return {"result": {"folder": str(self.folder)}}

    def cancel(self) -> None:
        """There is nothing to cancel."""


def test_maps_of_a_fit_with_other_lines_are_shown_beside_those_of_the_run(tmp_path: Path) -> None:
    folder = results(tmp_path)
    shown = ResultSite(folder)
    other = tmp_path / "panel_underpaint_refit"
    write_results(other, element_maps())
    with pytest.raises(ScanError, match="has not ended"):
        post(shown, "refit", run="unknown")
    ended: Any = _Ended(other)
    shown.results.runs_of_page["done"] = ended
    answer = post(shown, "refit", run="done")
    assert [each["entry"]["name"] for each in answer["maps"]] == ["Hg_L", "Pb_L"]
    assert all(each["entry"]["label"].endswith(", refit") for each in answer["maps"])
    number = answer["maps"][1]["map"]
    body = get(shown, "map", map=number).body
    assert isinstance(body, bytes)
    np.testing.assert_array_equal(np.frombuffer(body, "<f4").reshape(SHAPE), element_maps()["Pb_L"])
    assert shown.maps.entries[index(shown, "Pb_L")].kind == "element"  # the run's map stays
    shown.close()


def test_a_map_that_is_computed_replaces_the_one_of_its_name(tmp_path: Path) -> None:
    shown = ResultSite(results(tmp_path), str(tmp_path / "panel.h5"))
    first = post(shown, "window", low=9.8, high=10.2)
    again = post(shown, "window", low=9.8, high=10.2)
    gross = post(shown, "window", low=9.8, high=10.2, background=False)
    assert first["map"] == again["map"]
    assert gross["map"] == first["map"] + 1
    values, errors = shown.maps.at(3, 4)
    assert values[first["map"]] == pytest.approx(303.0)
    assert errors[gross["map"]] == pytest.approx(np.sqrt(values[gross["map"]]))
    for sent in ({"low": 2}, {"low": 3, "high": 2}, {"low": "1", "high": 2}):
        with pytest.raises(ScanError, match="lower and the upper end"):
            post(shown, "window", **sent)
    shown.close()


@pytest.mark.parametrize("name", ["regions.json", "session.json", "photograph.json", "pictures/infrared_1.json"])
def test_a_report_is_outdated_once_something_that_it_shows_is_newer(tmp_path: Path, name: str) -> None:
    (tmp_path / "pictures").mkdir()
    for path in (name, "photograph.jpg", "pictures/infrared_1.jpg"):
        (tmp_path / path).touch()
    assert not is_outdated(tmp_path)  # there is no report
    (tmp_path / "report.html").touch()
    os.utime(tmp_path / name, (1_000_000_000, 1_000_000_000))
    assert not is_outdated(tmp_path)
    os.utime(tmp_path / "report.html", (900_000_000, 900_000_000))
    assert is_outdated(tmp_path)
