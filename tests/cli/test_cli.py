"""The command line: what it prints, what it writes, how it fails. Pigments come from a stand-in for the network."""

import csv
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from numpy.typing import NDArray
from typer.testing import CliRunner

import underpaint.pigments.predict
from underpaint.cli import _console, app
from underpaint.cli._console import progress
from underpaint.cli._progress_rate import progress_with_rate
from underpaint.cli._scans import named_lines
from underpaint.data import EnergyAxis, Scan
from underpaint.data.maps import Results
from underpaint.errors import ScanError, UnderpaintError
from underpaint.io import read_results, save_scan
from underpaint.physics.atomic import family_lines
from underpaint.physics.instrument import load_instrument
from underpaint.physics.materials import load_palette
from underpaint.reflectance import read as read_reflectance
from underpaint.simulate.recipes import load_recipe

TRUE_AXIS = EnergyAxis(0.02, 0.05, 1024)
WRONG_AXIS = EnergyAxis(0.02, 0.0, 1024)
FAMILIES = {"Ca_K": 2e4, "Fe_K": 4e4, "Cu_K": 2e4, "Pb_L": 8e4, "Hg_L": 4e4, "Ti_K": 2e4, "Zn_K": 1e4}
READING = ("identify", "elements", "info", "calibrate", "explain", "view", "pigments", "instruments")
COMMANDS = (*READING, "mockup", "simulate", "train", "finetune", "evaluate")
HEAVY = ("dask", "h5py", "matplotlib", "numpy", "onnxruntime", "rich.progress", "scipy", "torch", "xarray")
Run = Callable[..., Any]


def run(*arguments: str | Path) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def counts() -> np.ndarray[Any, np.dtype[np.int64]]:
    """(4, 6) pixels with mercury in the left half; their lines lie on the true axis."""
    energy = TRUE_AXIS.energy_kev
    sigma = np.sqrt((0.08 / 2.355) ** 2 + 3.85e-3 * 0.115 * np.maximum(energy, 0))
    expected = np.tile(2e3 * np.exp(-energy / 12), (4, 6, 1))
    for family, area in FAMILIES.items():
        element, shell = family.split("_")
        for line, share in zip(*family_lines(element, shell), strict=True):
            peak = area * share * np.exp(-0.5 * ((energy - line) / sigma) ** 2) * 0.02 / (sigma * np.sqrt(2 * np.pi))
            expected[:, : 3 if family == "Hg_L" else 6] += peak
    return np.random.default_rng(3).poisson(expected / 4)


@pytest.fixture(scope="session")
def scan_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("scan") / "panel.h5"
    save_scan(Scan(counts(), axis=WRONG_AXIS, name="panel", step_mm=(1.0, 1.0)), path)
    return path


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")


class StandIn:
    """Mercury red in the left half, in place of a trained network's answers."""

    def empty_arrays(self, shape: tuple[int, int]) -> dict[str, NDArray[np.float32]]:
        return {"log_odds": np.zeros((*shape, 1), np.float32), "probability": np.full((*shape, 1), 0.01, np.float32)}

    settings: dict[str, Any] = {}  # noqa: RUF012 - as of a plan

    def __call__(self, counts: NDArray[Any], _: Any) -> dict[str, NDArray[np.float32]]:
        arrays = self.empty_arrays((counts.shape[0], counts.shape[1]))
        arrays["probability"][:, :3] = 0.99
        return arrays

    def results(self, arrays: dict[str, NDArray[np.float32]], *, step_mm: tuple[float, float] | None) -> Results:
        return Results.of_pigments(
            ("mercury_red",),
            arrays["probability"],
            kinds=("group",),
            groups=(("mercury_red",),),
            labels=("mercury red",),
            elements=(("Hg_L",),),
            step_mm=step_mm,
        )

    def confirm(self, *_: Any) -> None:
        """Nothing proves anything."""

    def withhold(self, *_: Any) -> None:
        """Claim what it claims, whatever the spectrum shows."""

    def add_notes(self, results: Results, _: Any) -> Results:
        return results


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(underpaint.pigments.predict, "plan_answers", lambda *_, **__: StandIn())


def plain(text: str) -> str:
    return " ".join(re.sub(r"\x1b\[[0-9;]*m", "", text).split())


def all_commands(group: Any, prefix: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Names of all commands and groups of commands, hidden ones left out."""
    shown = {(*prefix, name): command for name, command in group.commands.items() if not command.hidden}
    inner = [
        name for path, command in shown.items() if hasattr(command, "commands") for name in all_commands(command, path)
    ]
    return [*shown, *inner]


@pytest.mark.parametrize("command", [" ".join(path) for path in all_commands(typer.main.get_command(app))])
def test_each_command_teaches_with_an_example(command: str) -> None:
    result = run(*command.split(), "--help")
    assert result.exit_code == 0
    assert f"underpaint {command}" in result.stdout.split("For example:", 1)[1]


@pytest.fixture(scope="module")
def help_page() -> "subprocess.CompletedProcess[str]":
    """Output of the program's help; its standard error names the imported modules."""
    command = [sys.executable, "-X", "importtime", "-m", "underpaint", "--help"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_help_lists_all_commands(help_page: "subprocess.CompletedProcess[str]") -> None:
    assert help_page.returncode == 0, help_page.stderr
    assert set(COMMANDS) <= set(re.findall(r"[a-z]+", help_page.stdout))


@pytest.mark.parametrize("heavy", HEAVY)
def test_help_imports_nothing_heavy(heavy: str, help_page: "subprocess.CompletedProcess[str]") -> None:
    imported = {line.rpartition("|")[2].strip() for line in help_page.stderr.splitlines()}
    assert "underpaint.cli" in imported
    assert heavy not in imported


def test_identify_writes_maps_and_report_and_says_what_it_found(scan_file: Path, stand_in: None) -> None:
    result = run("identify", scan_file, "--out", "result")
    assert result.exit_code == 0, result.output
    out = plain(result.stdout)
    assert "axis reads 50 eV low at Fe K" in out
    assert "mercury_red 50.0 % of the area" in out
    results = read_results("result")
    summary = results.summary
    assert results.groups == ("mercury_red",)
    assert {"Fe_K", "Pb_L", "Hg_L"} <= set(results.lines)
    assert summary["settings"]["calibration"]["source"] == "found in the scan's lines"
    assert summary["settings"]["version"]
    assert summary["energy_kev"][0] == pytest.approx(0.05, abs=0.01)
    files = {str(path.relative_to("result")) for path in Path("result").rglob("*") if path.is_file()}
    assert {"report.html", "summary.csv", "results.h5", "pigments/mercury_red.tif", "elements/Hg_L.tif"} <= files


def test_the_results_folder_is_named_after_the_scan(scan_file: Path, stand_in: None) -> None:
    record = json.loads(run("identify", scan_file, "--json").stdout)
    assert record["report"] == "panel_underpaint/report.html"
    assert record["share_above_half"] == {"mercury_red": 0.5}
    assert Path(record["report"]).is_file()


def test_results_are_not_replaced_unasked(scan_file: Path, stand_in: None, without_report: None) -> None:
    assert run("identify", scan_file, "--out", "result", "--quiet").exit_code == 0
    before = Path("result/results.h5").stat().st_mtime_ns
    again = run("identify", scan_file, "--out", "result")
    assert again.exit_code == 1
    assert "--overwrite" in again.stderr
    resumed = run("identify", scan_file, "--out", "result", "--resume")
    assert resumed.exit_code == 0
    assert "were kept" in plain(resumed.stdout)
    assert Path("result/results.h5").stat().st_mtime_ns == before
    assert run("identify", scan_file, "--out", "result", "--overwrite", "--quiet").exit_code == 0
    assert Path("result/results.h5").stat().st_mtime_ns > before


def test_of_many_scans_one_that_fails_does_not_stop_the_others(scan_file: Path, stand_in: None, tmp_path: Path) -> None:
    Path("broken.h5").write_bytes(b"nothing of the kind")
    result = run("identify", scan_file, "broken.h5", scan_file, "--out", "all")
    assert result.exit_code == 1
    assert "broken.h5" in plain(result.stderr)
    assert (plain(result.stdout) + plain(result.stderr)).count("no format known") == 1
    assert "1 of 3 scans failed" in plain(result.stdout)
    with Path("all/underpaint_summary.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["state"] for row in rows] == ["done", "failed", "done"]
    assert rows[0]["mercury_red"] == "0.5"
    assert "no format known" in rows[1]["why"]
    assert Path("all/panel_underpaint/report.html").is_file()
    assert Path("all/panel_underpaint_2/report.html").is_file()
    assert not list(tmp_path.rglob("*.part"))


@pytest.mark.parametrize("load", [load_instrument, load_palette, load_recipe])
def test_settings_that_are_no_text_are_refused(load: Callable[[Path], object], tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_bytes(bytes(range(255, 155, -1)))
    with pytest.raises(UnderpaintError, match=r"own\.toml.*'utf-8' codec can't decode byte 0xff"):
        load(path)


def test_elements_alone(scan_file: Path) -> None:
    result = run("elements", scan_file, "--out", "only")
    assert result.exit_code == 0, result.output
    assert not read_results("only").has_pigments
    assert '<h2 id="elements-title">' in Path("only/report.html").read_text("utf-8")


@pytest.mark.parametrize("command", ["elements", "fit", "identify"])
def test_lines_that_are_both_added_and_dropped_are_refused(command: str) -> None:
    result = run(command, "none.h5", "--add", "as,Pb", "--drop", "As")
    assert result.exit_code == 2
    assert "As: requested, and left out with --drop, in one command" in " ".join(result.output.split())


def test_names_of_lines_may_be_in_small_letters() -> None:
    assert named_lines("fe", "pb_l3,hg l") == ("Fe", "Pb_L3", "Hg_L")


def test_quiet_prints_nothing(scan_file: Path, without_report: None) -> None:
    result = run("elements", scan_file, "--out", "only", "--quiet")
    assert (result.exit_code, result.output) == (0, "")


def test_info_shows_facts_and_draws_labelled_spectra(scan_file: Path) -> None:
    result = run("info", scan_file, "--picture", "spectra.png")
    assert result.exit_code == 0, result.output
    out = plain(result.stdout)
    for words in ("4 rows x 6 columns, 1024 channels", "reads 50 eV low", "Fe Kα", "Pb Lα", "sum spectrum", "keV"):
        assert words in out
    assert any(0x2800 < ord(letter) <= 0x28FF for letter in out)
    assert Path("spectra.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("info", "Stopped. No incomplete results were left.\n"),
        ("simulate", "Stopped. The same command continues the interrupted run.\n"),
    ],
)
def test_only_commands_that_continue_offer_it_after_a_stop(
    command: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("typer.core.TyperCommand.invoke", stop)
    stopped = run(command, "scan.h5")
    assert stopped.exit_code == 130
    assert plain(stopped.stderr).endswith(message.strip()), stopped.stderr


def test_info_says_one_row_in_the_singular() -> None:
    save_scan(Scan(counts()[:1, :1], axis=TRUE_AXIS), "one.h5")
    assert "1 row x 1 column, 1024 channels" in plain(run("info", "one.h5").stdout)


def test_an_instruments_fault_ends_in_one_stop() -> None:
    Path("own.toml").write_text('name = "own"\n[tube]\nanode = "Xx"\nvoltage_kv = 50\n')
    with pytest.raises(UnderpaintError, match=r"such as 'Pb'\.$"):
        load_instrument("own.toml")


def test_info_as_json(scan_file: Path) -> None:
    facts = json.loads(run("info", scan_file, "--json").stdout)
    assert facts["shape"] == [4, 6, 1024]
    assert facts["calibration"]["zero_kev"] == pytest.approx(0.05, abs=0.01)
    assert "Pb_L" in facts["calibration"]["found"]


def test_info_of_a_scan_in_which_no_axis_can_be_found() -> None:
    np.savez("flat.npz", cube=np.ones((2, 2, 64), np.uint16))
    result = run("info", "flat.npz")
    assert result.exit_code == 0, result.output
    assert "channel" in plain(result.stdout)


def test_calibrate_writes_an_instrument_that_identify_takes(
    scan_file: Path, stand_in: None, without_report: None
) -> None:
    result = run("calibrate", scan_file, "--out", "ours.toml")
    assert result.exit_code == 0, result.output
    detector = tomllib.loads(Path("ours.toml").read_text("utf-8"))["detector"]
    assert detector["zero_kev"] == pytest.approx(0.05, abs=0.01)
    assert run("calibrate", scan_file, "--out", "ours.toml").exit_code == 1
    used = run("identify", scan_file, "--instrument", "ours.toml", "--out", "result")
    assert used.exit_code == 0, used.output
    calibration = read_results("result").summary["settings"]["calibration"]
    assert calibration["source"] == "given"
    assert calibration["zero_kev"] == pytest.approx(detector["zero_kev"])


def test_no_calibrate_keeps_the_axis_of_the_file(scan_file: Path, stand_in: None, without_report: None) -> None:
    assert run("identify", scan_file, "--no-calibrate", "--out", "result").exit_code == 0
    assert read_results("result").summary["settings"]["calibration"]["zero_kev"] == 0.0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["identify", "nowhere.h5"], "no such file"),
        (["info", "nowhere.h5"], "no such file"),
        (["identify", "SCAN", "--palette", "nonsense"], "neither a file nor one of"),
        (["identify", "SCAN", "--instrument", "nonsense"], "neither a file nor one of the presets"),
        (["identify", "SCAN", "--model", "nonsense"], "Cannot open model 'nonsense'"),
        (["identify", "SCAN::absent"], "absent"),
        (["calibrate", "SCAN", "--out", "no/such/folder.toml"], "no/such"),
        (["pigments", "show", "vermillon"], "vermilion"),
        (["mockup", "nonsense", "--out", "p.h5"], "neither a file nor one of fig7, table2"),
        (["mockup", "fig7", "--out", "no/such/p.h5"], "does not exist"),
        (["simulate", "nowhere.toml", "--out", "l.h5"], "nowhere.toml"),
        (["view", "."], "no results.h5"),
        (["explain", "SCAN", "--pixel", "99,0", "--pigments", "vermilion"], "rows are 0 to 3"),
        (["explain", "SCAN", "--pixel", "0,0", "--pigments", "vermilon"], "No pigment is called 'vermilon'"),
    ],
)
def test_bad_input_is_a_message_and_exit_code_one(scan_file: Path, arguments: list[str], words: str) -> None:
    result = run(*(text.replace("SCAN", str(scan_file)) for text in arguments))
    assert result.exit_code == 1
    assert words in plain(result.stderr)
    assert "Traceback" not in result.output
    assert not [path for path in Path().iterdir() if path.name.endswith((".part", "_underpaint"))]


@pytest.mark.parametrize(
    ("fault", "code", "words"),
    [
        (
            KeyboardInterrupt(),
            130,
            "Stopped. The results folder is unchanged, and finished blocks are kept: --resume continues",
        ),
        (OSError(28, "No space left on device", "results.h5"), 1, "No space left"),
        (MemoryError(), 1, "Out of memory"),
    ],
)
def test_interruptions_leave_no_results_behind(
    scan_file: Path, monkeypatch: pytest.MonkeyPatch, fault: BaseException, code: int, words: str
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise fault

    monkeypatch.setattr("underpaint.pigments.predict.plan_answers", fail)
    result = run("identify", scan_file, "--out", "result")
    assert result.exit_code == code
    assert words in plain(result.stderr)
    assert list(Path().iterdir()) == []


def test_debug_shows_where_an_error_comes_from() -> None:
    result = run("--debug", "info", "nowhere.h5")
    assert isinstance(result.exception, ScanError)


@pytest.mark.parametrize("show_progress", [progress, partial(progress_with_rate, unit="spectra")])
def test_where_no_bar_can_be_drawn_progress_is_a_line_now_and_then(
    show_progress: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for minimum_s, lines in ((3600.0, []), (0.0, ["0 s: Comparing, 3 of 7", "0 s: Writing"])):
        monkeypatch.setattr(_console, "PROGRESS_LINE_S", minimum_s)
        with show_progress(quiet=False) as report_progress:
            report_progress("Comparing", 3, 7)
            report_progress("Writing", 0, 1)
        assert capsys.readouterr().err.splitlines() == lines
    with show_progress(quiet=True) as report_progress:
        report_progress("Comparing", 3, 7)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("width", [30, 52, 60, 80, 200])
def test_words_of_a_table_are_never_broken(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    rows = [["lead_tin_antimony_yellow", "antimony_pigment, titanium_pigment", "14.2 %"], ["x", "", "8 %"]]
    table = _console.list_table("pigments", ("name", "groups", "share"))
    for cells in rows:
        table.add_row(*cells)
    _console.show(table)
    output = capsys.readouterr().out
    assert set(output.split()) >= {word for cells in rows for text in cells for word in text.split()}
    assert ("- name: lead_tin_antimony_yellow\n  groups: antimony_pigment, titanium_pigment" in output) == (width < 56)
    assert width < 60 or max(map(len, output.splitlines())) <= width


def test_pigments_list_and_show() -> None:
    records = json.loads(run("pigments", "list", "--json").stdout)
    assert len(records) >= 40
    shown = plain(run("pigments", "show", "VM").stdout)
    for words in ("HgS", "8.09", "Hg_L", "cinnabar"):
        assert words in shown
    related = json.loads(run("pigments", "show", "lead_tin_yellow", "--json").stdout)["same_group"]
    assert len(related) == len(set(related))


def test_instruments_lists_the_presets() -> None:
    assert "elio" in {preset["name"] for preset in json.loads(run("instruments", "--json").stdout)}
    assert "elio" in run("instruments").stdout


def test_mockup_is_a_scan_with_its_truth() -> None:
    result = run("mockup", "fig7", "--out", "panel.h5", "--cell-pixels", "1", "--counts", "1000")
    assert result.exit_code == 0, result.output
    assert "simulated" in run("info", "panel.h5").stdout.lower()
    assert run("mockup", "fig7", "--out", "panel.h5").exit_code == 1


def test_mockup_has_its_reflectance_and_another_half_to_read_it_with() -> None:
    arguments = ("mockup", "fig7", "--out", "panel.h5", "--cell-pixels", "1", "--counts", "1000", "--reflectance")
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    header = Path("panel_reflectance.hdr").read_text()
    drawn_from = header.split("drawn from ")[1].split("}")[0].split("; ")
    assert len(drawn_from) > 5
    half = read_reflectance("panel_library.npz")
    assert {spectrum.patch for spectrum in half.spectra}.isdisjoint(drawn_from)
    Path("panel.h5").unlink()
    assert run(*arguments).exit_code == 1  # the cube is there
