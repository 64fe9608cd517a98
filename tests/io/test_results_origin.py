"""Results are tied to the scan and the settings that they record, not to the order of a call's scans."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from underpaint.cli._info import scans_table
from underpaint.cli._scans import scan_record
from underpaint.data import EnergyAxis, Scan
from underpaint.data.maps import Results
from underpaint.errors import OutputError, UnderpaintError
from underpaint.io import read_summary, save_scan
from underpaint.pipeline.plan import Settings
from underpaint.pipeline.run import distinct_folders, elements_to_folder, identify_to_folder

SETTINGS = Settings(calibrated=False, elements=False)
OF_ELEMENTS = Settings("none", calibrated=False, engine="fixed")  # the engine that plans fastest


@pytest.fixture(autouse=True)
def folder_of_scans(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, without_report: None) -> None:
    """Scans of the same name in folders b and c."""
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate("bc"):
        make_scan(name, seed)


def make_scan(name: str, seed: int) -> Path:
    axis = EnergyAxis(0.02, 0.0, 1024)
    iron = sum(area * np.exp(-0.5 * ((axis.energy_kev - line) / 0.06) ** 2) for line, area in ((6.40, 80), (7.06, 10)))
    counts = np.random.default_rng(seed).poisson(3.0 + iron, (4, 5, 1024)).astype(np.uint16)
    path = Path(name) / "scan.h5"
    path.parent.mkdir()
    save_scan(Scan(counts, axis=axis, name="scan"), path)
    return path


def run_all(names: str, **flags: Any) -> dict[str, str]:
    """Fit the elements of each scan; return in which folder its results are."""
    scans = [f"{name}/scan.h5" for name in names]
    folders = distinct_folders(scans, "many")
    for scan, folder in zip(scans, folders, strict=True):
        elements_to_folder(scan, folder, OF_ELEMENTS, **flags)
        assert read_summary(folder)["settings"]["source"] == scan
    return {scan[0]: folder.name for scan, folder in zip(scans, folders, strict=True)}


def test_a_scan_that_is_added_leaves_the_results_of_others() -> None:
    assert run_all("bc") == {"b": "scan_underpaint", "c": "scan_underpaint_2"}
    make_scan("a", 9)
    expected = {"a": "scan_underpaint_3", "b": "scan_underpaint", "c": "scan_underpaint_2"}
    assert run_all("abc", resume=True) == expected
    assert run_all("ca", resume=True) == {"c": "scan_underpaint_2", "a": "scan_underpaint_3"}


def test_blocks_to_go_on_from_keep_their_scan() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("underpaint.pipeline.run.write_results", stop)
        with pytest.raises(KeyboardInterrupt):
            elements_to_folder("b/scan.h5", "many/scan_underpaint", OF_ELEMENTS)
    assert [folder.name for folder in distinct_folders(["c/scan.h5", "b/scan.h5"], "many")] == [
        "scan_underpaint_2",
        "scan_underpaint",
    ]


def stop(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt


def test_scans_and_results_that_were_moved_are_known_again(monkeypatch: pytest.MonkeyPatch) -> None:
    run_all("bc")
    Path("below").mkdir()
    for name in "bc":
        Path(name).rename(f"below/{name}")
    folders = distinct_folders(["below/c/scan.h5", "below/b/scan.h5"], "many")
    assert [folder.name for folder in folders] == ["scan_underpaint_2", "scan_underpaint"]
    assert elements_to_folder("below/c/scan.h5", folders[0], OF_ELEMENTS, resume=True).summary["skipped"]
    monkeypatch.chdir("below")
    assert elements_to_folder("c/scan.h5", "../many/scan_underpaint_2", OF_ELEMENTS, resume=True).summary["skipped"]


def test_finished_results_are_left_alone_only_where_the_request_is_the_same() -> None:
    identify_to_folder("b/scan.h5", "out", SETTINGS)
    before = Path("out/results.h5").stat().st_mtime_ns
    assert identify_to_folder("b/scan.h5", "out", SETTINGS, resume=True).summary["skipped"]
    assert identify_to_folder(Path("b/scan.h5").resolve(), "out", SETTINGS, resume=True, overwrite=True).summary[
        "skipped"
    ]
    with pytest.raises(OutputError, match=r"palette \(None before, 'baroque' now\)"):
        identify_to_folder("b/scan.h5", "out", replace(SETTINGS, palette="baroque"), resume=True)
    with pytest.raises(OutputError, match=r"scan time \('20.* now\); source \('b/scan.h5' before, 'c/scan.h5' now"):
        identify_to_folder("c/scan.h5", "out", SETTINGS, resume=True)
    with pytest.raises(OutputError, match=r"or other settings .*model \('default' before, 'none' now\)"):
        elements_to_folder("b/scan.h5", "out", OF_ELEMENTS, resume=True)
    assert Path("out/results.h5").stat().st_mtime_ns == before
    elements_to_folder("b/scan.h5", "out", OF_ELEMENTS, resume=True, overwrite=True)
    assert read_summary("out")["settings"]["model"] == "none"


def test_a_palette_of_the_same_name_with_other_pigments_is_reported() -> None:
    palette = Path("own.toml")
    palette.write_text('name = "own"\npigments = ["vermilion", "lead_white"]\n')
    identify_to_folder("b/scan.h5", "out", replace(SETTINGS, palette=str(palette)))
    palette.write_text('name = "own"\npigments = ["azurite", "lead_white"]\n')
    with pytest.raises(UnderpaintError, match="palette holds \\(changed\\)"):
        identify_to_folder("b/scan.h5", "out", replace(SETTINGS, palette=str(palette)), resume=True)


def test_the_table_of_scans_tells_those_of_the_same_name_apart() -> None:
    done = Results(summary={"folder": "one", "skipped": False})
    table = scans_table([scan_record("b/scan.h5", done), scan_record("c/scan.h5", error="no such file")])
    assert list(table.columns[0].cells) == ["b/scan.h5", "c/scan.h5"]
    assert list(table.columns[1].cells) == ["done", "failed"]


def test_damaged_results_are_not_taken_for_finished() -> None:
    elements_to_folder("b/scan.h5", "out", OF_ELEMENTS)
    Path("out/results.h5").write_bytes(b"nothing of the kind")
    with pytest.raises(UnderpaintError, match="damaged"):
        elements_to_folder("b/scan.h5", "out", OF_ELEMENTS, resume=True)
    elements_to_folder("b/scan.h5", "out", OF_ELEMENTS, resume=True, overwrite=True)
    assert read_summary("out")["settings"]["source"] == "b/scan.h5"
