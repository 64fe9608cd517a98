"""`underpaint reflect`, from a cube and results on disk to named surfaces, hidden paint, report and viewer."""

import json
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from typer.testing import CliRunner

from cube_files import write_envi
from result_parts import joined
from underpaint.cli import app
from underpaint.data import EnergyAxis, Scan
from underpaint.data.maps import BELOW_PROBABILITY, Results
from underpaint.display.viewer.result_site import ResultSite
from underpaint.display.viewer.server import Request
from underpaint.io import read_results, save_scan, write_results
from underpaint.reflectance import ReflectanceLibrary, builtin
from underpaint.reflectance.user_sets import FOLDER_VARIABLE

RUNNER = CliRunner()
SHAPE, SCALE, SHIFT = (12, 20), 3, (4, 7)
GROUPS = ("copper_green_blue", "mercury_red", "lead_pigment")
SURFACE = ("azurite", "malachite", "vermilion", "lead_white")
WAVELENGTH_NM = np.arange(420.0, 981.0, 10.0)
SPECTRA = builtin().subset([spectrum.pure and spectrum.member in SURFACE for spectrum in builtin().spectra])


def painted() -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Four columns of paint; XRF sees mercury below the azurite of the lower half, too."""
    member = np.broadcast_to(np.arange(SHAPE[1]) // 5, SHAPE)
    probability = np.full((*SHAPE, 3), 0.02, np.float32)
    for group, columns in enumerate(((0, 1), (2,), (3,))):
        probability[np.isin(member, columns), group] = 0.98
    probability[6:, :5, 1] = 0.98
    return member, probability


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with results, a cube that lies shifted and three times as fine, its library, and points."""
    folder = tmp_path_factory.mktemp("reflect")
    member, probability = painted()
    maps = Results.of_pigments(
        GROUPS,
        probability,
        kinds=("group",) * 3,
        groups=[(name,) for name in GROUPS],
        labels=("copper", "mercury red", "lead pigment"),
        elements=(("Cu_K",), ("Hg_L",), ("Pb_L",)),
        step_mm=(1.0, 1.0),
        settings={"model": {"name": "fake"}},
    )
    area = np.random.default_rng(0).poisson(400 * probability + 3).astype(np.float32)
    lines = Results.of_lines(("Cu_K", "Hg_L", "Pb_L"), area, np.sqrt(area + 1), step_mm=(1.0, 1.0))
    write_results(folder / "result", joined(maps, lines, summary={"name": "panel"}, source="panel.h5"))
    (folder / "result" / "notes.txt").write_text("mine")
    first = {name: next(spectrum for spectrum in SPECTRA.spectra if spectrum.member == name) for name in SURFACE}
    colors = [np.interp(WAVELENGTH_NM, first[name].wavelength_nm, first[name].reflectance) for name in SURFACE]
    fine = np.array(colors)[member].repeat(SCALE, axis=0).repeat(SCALE, axis=1)
    cube = np.full((SHAPE[0] * SCALE + 9, SHAPE[1] * SCALE + 12, WAVELENGTH_NM.size), 0.35)
    cube[SHIFT[0] : SHIFT[0] + fine.shape[0], SHIFT[1] : SHIFT[1] + fine.shape[1]] = fine
    cube *= 1 + 0.01 * np.random.default_rng(1).standard_normal(cube.shape)
    write_envi(folder, np.clip(cube * 10000, 0, 65535).astype(np.uint16), wavelength=WAVELENGTH_NM)
    SPECTRA.save(folder / "library.npz")
    corners = [(0, 0), (SHAPE[1], 0), (0, SHAPE[0]), (SHAPE[1], SHAPE[0])]
    rows = [f"{SHIFT[1] + SCALE * x},{SHIFT[0] + SCALE * y},{x},{y}" for x, y in corners]
    (folder / "points.csv").write_text("\n".join(["x,y,column,row", *rows]))
    return folder


@pytest.fixture
def place(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "work")
    return tmp_path / "work"


def call(place: Path, *more: str, fails: bool = False) -> Any:
    cube, result = str(place / "cube.hdr"), str(place / "result")
    done = RUNNER.invoke(app, ["reflect", cube, "--xrf", result, "--library", str(place / "library.npz"), *more])
    assert (done.exit_code != 0) == fails, done.output
    return done


def test_members_are_named_and_paint_that_light_does_not_see_is_hidden(place: Path) -> None:
    before = read_results(place / "result", lazily=False)
    done = call(place, "--points", str(place / "points.csv"), "--json")
    record = json.loads(done.stdout)
    assert record["registration"]["how"] == "points"
    assert record["answered"] == 1.0
    after = read_results(place / "result")
    member, _ = painted()
    named = after.reflectance_member.values
    assert (named == np.array(SURFACE)[member]).mean() > 0.9
    hidden = after.hidden.sel(group="mercury_red").values
    assert hidden[6:, :5].min() > BELOW_PROBABILITY
    assert np.nanmax(hidden[:6]) < 0.5
    assert np.isnan(after.hidden.sel(group="lead_pigment").values).all()
    assert record["hidden"]["mercury_red"] == pytest.approx(30 / 240, abs=0.02)
    assert after.surface_member.dims == ("member", "row", "column")
    assert after.reflectance.sel(wavelength=600.0).shape == SHAPE
    np.testing.assert_array_equal(after["Hg_L"], before["Hg_L"])
    np.testing.assert_array_equal(after["mercury_red"], before["mercury_red"])
    assert dict(after.settings) == dict(before.settings)
    assert after.summary["written"] == before.summary["written"]
    assert (place / "result" / "notes.txt").read_text() == "mine"
    np.testing.assert_allclose(tifffile.imread(place / "result" / "hidden" / "mercury_red.tif"), hidden)
    assert "azurite" in {path.stem for path in (place / "result" / "surface").iterdir()}


def test_a_palette_leaves_out_what_the_painter_did_not_have(place: Path) -> None:
    palette = place / "palette.toml"
    palette.write_text('name = "mine"\npigments = ["azurite", "vermilion", "lead_white", "indigo"]\n')
    record = json.loads(call(place, "--points", str(place / "points.csv"), "--palette", str(palette), "--json").stdout)
    assert "malachite" not in record["surface"]
    assert record["surface"]["azurite"] > 0.2
    assert any("because the library has no spectrum: indigo" in note for note in record["notes"])
    palette.write_text('name = "mine"\npigments = ["indigo"]\n')
    done = call(place, "--palette", str(palette), fails=True)
    assert "Cannot use the palette mine" in " ".join(done.output.split())


def test_a_second_cube_replaces_the_first_and_its_place_is_kept(place: Path) -> None:
    call(place, "--points", str(place / "points.csv"), "--quiet")
    size = (place / "result" / "results.h5").stat().st_size
    done = call(place, "--json")
    assert json.loads(done.stdout)["registration"]["how"] == "points"
    assert (place / "result" / "results.h5").stat().st_size < 1.1 * size
    with h5py.File(place / "result" / "results.h5") as file:
        assert set(file["entry"]) >= {"pigments", "elements", "reflectance"}


def test_an_xrf_scan_or_results_in_place_of_a_cube_are_named(place: Path) -> None:
    counts = np.random.default_rng(0).poisson(3.0, (2, 3, 512)).astype(np.uint16)
    save_scan(Scan(counts, axis=EnergyAxis(0.02, 0.0, 512), name="scan"), place / "scan.h5")
    for location, kind in (
        ("scan.h5", "an XRF scan of 2 x 3 pixels with 512 channels"),
        ("result", "a results folder"),
    ):
        done = CliRunner().invoke(app, ["reflect", str(place / location), "--xrf", str(place / "result")])
        assert done.exit_code == 1
        assert f"as a reflectance cube: it is {kind}. Give the image cube" in done.output


def test_another_folder_takes_the_answers_and_the_first_stays(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (place / "result" / "results.h5").read_bytes()
    call(place, "--points", str(place / "points.csv"), "--out", str(place / "other"), "--quiet")
    assert (place / "result" / "results.h5").read_bytes() == before
    assert read_results(place / "other").has_reflectance
    assert (place / "other" / "notes.txt").read_text() == "mine"
    monkeypatch.setattr("underpaint.pipeline.reflect.reduce_cube", None)  # refused before the cube is read
    assert "exists" in call(place, "--out", str(place / "other"), fails=True).output


def test_results_are_as_they_were_when_a_cube_cannot_be_used(place: Path) -> None:
    before = {path: path.read_bytes() for path in (place / "result").rglob("*") if path.is_file()}
    (place / "bad.csv").write_text("x,y,column,row\n1,2,3")
    (place / "far.csv").write_text("\n".join(f"{x + 500} {y} {x} {y}" for x, y in ((0, 0), (9, 0), (0, 9))))
    (place / "nan.csv").write_text("nan 3 2 1")
    (place / "one.csv").write_text("3 3 2 1")
    data = (place / "cube.raw").read_bytes()
    for points, words in (
        ("bad.csv", "four numbers"),
        ("far.csv", "x is 500 pixels"),
        ("nan.csv", "line 1"),
        ("one.csv", "the cube by 1 pair of"),
        ("none.csv", "missing"),
    ):
        done = call(place, "--points", str(place / points), fails=True)
        assert words in " ".join(done.output.split())
    (place / "cube.raw").write_bytes(data[:1000])
    call(place, fails=True)
    assert {path: path.read_bytes() for path in (place / "result").rglob("*") if path.is_file()} == before


def test_a_cube_that_is_not_like_the_maps_asks_for_points(place: Path) -> None:
    rng = np.random.default_rng(2)
    noise = rng.uniform(0.2, 0.3, (45, 72, WAVELENGTH_NM.size)).astype(np.float32)
    write_envi(place, noise, wavelength=WAVELENGTH_NM)
    done = call(place, fails=True)
    assert "--points" in done.output


def test_the_report_and_the_viewer_show_the_surface(place: Path) -> None:
    call(place, "--points", str(place / "points.csv"), "--quiet")
    text = (place / "result" / "report.html").read_text(encoding="utf-8")
    for words in ("The surface, by reflectance", "azurite", "Groups below the surface", "mercury red: below"):
        assert words in text
    site = ResultSite(place / "result")
    about = answered(site, "about")
    assert about["reflectance"]["there"]
    assert {"azurite", "vermilion"} <= {entry["name"] for entry in about["maps"] if entry["process"] == "reflectance"}
    pixel = answered(site, "reflectance", "pixel", row="8", column="2")
    assert pixel["members"][0]["label"].lower().startswith("azurite")
    assert len(pixel["members"][0]["spectrum"]) == len(pixel["wavelength"]) == len(pixel["reflectance"])
    assert [group["label"] for group in pixel["hidden"]] == ["mercury red"]
    picture = site(Request("GET", ("reflectance", "picture")))
    assert picture is not None
    assert picture.kind == "image/png"
    assert not isinstance(picture.body, bytes)
    picture.body.close()
    site.close()


def answered(site: ResultSite, *parts: str, **query: str) -> Any:
    answer = site(Request("GET", parts, query))
    assert answer is not None
    assert isinstance(answer.body, bytes)
    return json.loads(answer.body)


def test_sets_of_the_user_are_kept_and_read(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(place / "data"))
    table = ["nm,azurite chart,smalt chart"]
    table += [f"{nm:g},{0.1 + nm / 9000:.4f},{0.3 + nm / 7000:.4f}" for nm in WAVELENGTH_NM]
    (place / "mine.csv").write_text("\n".join(table))
    add = ["pigments", "add-reflectance", str(place / "mine.csv"), "--name", "mine"]
    done = RUNNER.invoke(app, add)
    assert done.exit_code == 0, done.output
    assert "azurite, smalt" in done.stdout
    assert RUNNER.invoke(app, add).exit_code == 1
    assert RUNNER.invoke(app, [*add[:-1], "../mine"]).exit_code == 1
    listed = json.loads(RUNNER.invoke(app, ["pigments", "reflectance", "--json"]).stdout)
    assert [(entry["set"], entry["spectra"]) for entry in listed] == [("package", len(builtin())), ("mine", 2)]
    from underpaint.pipeline.reflect import library_for

    assert isinstance(library_for(None), ReflectanceLibrary)
    assert len(library_for(None)) == len(builtin()) + 2


def test_a_folder_that_is_missing_or_none_is_named_as_such(place: Path) -> None:
    for name, words in (("nowhere", "does not exist"), ("library.npz", "not a folder"), ("empty", "no results.h5")):
        (place / "empty").mkdir(exist_ok=True)
        output = " ".join(call(place, "--xrf", str(place / name), fails=True).output.split())
        assert words in output
        assert "damaged" not in output


def test_an_existing_folder_is_refused_without_an_option_that_would_fail(place: Path) -> None:
    points = str(place / "points.csv")
    output = call(place, "--points", points, "--out", str(place), fails=True).output
    assert "Give another one with --out" in output
    assert "--overwrite" not in output  # it replaces results only, and this folder holds other files
    assert "--resume" not in output
