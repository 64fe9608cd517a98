"""Results on disk: they round-trip, are readable by others, and are whole or not there."""

import csv
import errno
import json
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from result_parts import joined
from underpaint import io
from underpaint.data import EnergyAxis, Scan
from underpaint.data.maps import Results, Stack
from underpaint.errors import OutputError, ScanError
from underpaint.io.results import folder
from underpaint.io.results.nexus import check_map_names
from underpaint.runtime.files import remove_tree

SETTINGS = {"seed": 3, "model": {"name": "default"}, "list": [1, 2]}


@pytest.fixture
def pigments() -> Results:
    probability = np.random.default_rng(1).random((3, 4, 2), dtype=np.float32)
    probability[0, 1] = np.nan
    return Results.of_pigments(
        names=("mercury_red", "vermilion"),
        probability=probability,
        kinds=("group", "member"),
        groups=(("mercury_red",), ("mercury_red",)),
        labels=("vermilion or calomel (Hg)", "vermilion"),
        elements=(("Hg_L",), ("Hg_L", "S_K")),
        step_mm=(0.5, 0.25),
        notes=("één noot",),
        settings=SETTINGS,
    )


@pytest.fixture
def elements() -> Results:
    rng = np.random.default_rng(2)
    return Results.of_lines(
        names=("Fe_K", "Hg_L"),
        area=rng.normal(100, 20, (3, 4, 2)).astype(np.float32),
        sigma=rng.random((3, 4, 2), dtype=np.float32),
        settings={"engine": "underpaint"},
    )


@pytest.fixture
def summary() -> dict[str, Any]:
    counts = np.arange(96).reshape(3, 4, 8)
    return io.summarise_scan(Scan(counts, EnergyAxis(0.5, 0.1, 8), name="panel", notes=("a note",)))


def write(place: Path, summary: dict[str, Any], *parts: Results) -> None:
    io.write_results(place, joined(*parts, summary=summary, **SETTINGS))


def test_round_trip(tmp_path: Path, pigments: Results, elements: Results, summary: dict[str, Any]) -> None:
    write(tmp_path / "out", summary, pigments, elements)
    results = io.read_results(tmp_path / "out", lazily=False)
    for quantity, stack in (pigments | elements).stacks.items():
        np.testing.assert_array_equal(results.stacks[quantity].values, stack.values)
        assert results.stacks[quantity].keys == stack.keys
        assert results.stacks[quantity].values.dtype == np.float32
    assert results.materials == pigments.materials
    assert results.step_mm == pigments.step_mm
    for process, part in (("pigments", pigments), ("elements", elements)):
        assert results.process_notes[process] == part.process_notes[process]
        assert results.settings_of(process) == part.settings_of(process)
    for key, value in summary.items():
        np.testing.assert_array_equal(results.summary[key], value)
    assert results.summary["settings"] == SETTINGS
    assert results.summary["versions"]["numpy"] == np.__version__


def test_only_one_kind_of_maps(tmp_path: Path, elements: Results, summary: dict[str, Any]) -> None:
    write(tmp_path, summary, elements)
    results = io.read_results(tmp_path, lazily=False)
    assert (results.has_pigments, results.has_elements) == (False, True)
    assert not (tmp_path / "pigments").exists()


def test_layout_is_the_one_that_pymca_writes(
    tmp_path: Path, pigments: Results, elements: Results, summary: dict[str, Any]
) -> None:
    write(tmp_path, summary, pigments, elements)
    with h5py.File(tmp_path / "results.h5") as file:
        classes = {name: file[name].attrs["NX_class"] for name in ("entry", "entry/elements", "entry/elements/results")}
        assert list(classes.values()) == ["NXentry", "NXprocess", "NXcollection"]
        image = file["/entry/elements/results/parameters/Fe_K"]
        assert (image.shape, image.dtype, image.attrs["units"]) == ((3, 4), np.float32, "counts")
        assert file["/entry/elements/results/uncertainties/Fe_K"].shape == (3, 4)
        data = file["/entry/pigments/results/probability"]
        assert data.attrs["NX_class"] == "NXdata"
        assert list(data.attrs["axes"]) == ["row", "column"]
        np.testing.assert_allclose(data["row"][()], [0, 0.5, 1.0])
        np.testing.assert_allclose(data["column"][()], [0, 0.25, 0.5, 0.75])
        assert data["row"].attrs["units"] == "mm"
        assert file["/entry/elements/results/parameters/row"].attrs["units"] == "mm"
        assert json.loads(file["/entry/pigments/configuration"].asstr()[()]) == SETTINGS
        assert file["/entry/scan"].attrs["signal"] == "sum_counts"
        np.testing.assert_allclose(file["/entry/scan/energy_kev"][()], 0.1 + 0.5 * np.arange(8))


def test_tiffs_and_summary(tmp_path: Path, pigments: Results, elements: Results, summary: dict[str, Any]) -> None:
    write(tmp_path, summary, pigments, elements)
    with tifffile.TiffFile(tmp_path / "pigments" / "vermilion.tif") as tiff:
        np.testing.assert_array_equal(tiff.asarray(), pigments["vermilion"])
        assert "vermilion" in tiff.pages[0].description
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "elements" / "Hg_L.tif"), elements["Hg_L"])
    with (tmp_path / "summary.csv").open(encoding="utf-8", newline="") as stream:
        rows = {row["name"]: row for row in csv.DictReader(stream)}
    assert rows["vermilion"]["label"] == "vermilion"
    assert float(rows["vermilion"]["mean_probability"]) == pytest.approx(np.nanmean(pigments["vermilion"]), rel=1e-5)
    assert float(rows["Fe_K"]["total_counts"]) == pytest.approx(elements["Fe_K"].sum(), rel=1e-5)
    assert rows["Fe_K"]["share_above_half"] == ""


def test_map_without_any_answer(tmp_path: Path, pigments: Results, summary: dict[str, Any]) -> None:
    pigments.stacks["probability"].values[:] = np.nan
    write(tmp_path, summary, pigments)
    assert "nan" not in (tmp_path / "summary.csv").read_text("utf-8")


@pytest.mark.parametrize("name", ["../escape", "a/b", "row", ""])
def test_names_that_are_no_file_names(tmp_path: Path, elements: Results, name: str) -> None:
    bad = Results.of_lines((name, "Fe_K"), *(stack.values for stack in elements.stacks.values()))
    with pytest.raises(OutputError, match="names become file names"):
        write(tmp_path / "out", {}, bad)
    assert not (tmp_path / "out").exists()


def test_read_results_of_something_else(tmp_path: Path) -> None:
    with pytest.raises(ScanError, match=r"there is no results\.h5 in it"):
        io.read_results(tmp_path, lazily=False)
    (tmp_path / "results.h5").write_bytes(b"not hdf5")
    with pytest.raises(ScanError, match="damaged"):
        io.read_results(tmp_path, lazily=False)


def finish(place: io.ResultFolder, text: str = "new") -> None:
    (place.path / "results.h5").write_text(text)


def test_folder_appears_whole(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "out dir é"
    with io.result_folder(target) as place:
        finish(place)
        put_block(place)
        assert not target.exists()
    assert sorted(entry.name for entry in target.iterdir()) == ["results.h5"]
    assert io.is_finished(target)
    assert [entry.name for entry in target.parent.iterdir()] == [target.name]


def store(place: io.ResultFolder) -> io.BlockStore:
    return io.BlockStore(place.blocks / "maps", (4, 3))


def put_block(place: io.ResultFolder, number: int = 0) -> None:
    store(place).put(number, slice(2 * number, 2 * number + 2), slice(0, 3), {"area": block(number)})


def block(number: int) -> "np.ndarray[Any, Any]":
    return np.arange(12, dtype=np.float32).reshape(2, 3, 2) + 100 * number


def stop(target: Path, error: BaseException, *, blocks: bool = True, **flags: Any) -> None:
    with io.result_folder(target, **flags) as place:
        finish(place)
        if blocks:
            put_block(place)
        raise error


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError("x")])
def test_interrupted_before_a_block_is_finished_leaves_nothing(tmp_path: Path, error: BaseException) -> None:
    with pytest.raises(type(error)):
        stop(tmp_path / "out", error, blocks=False)
    assert list(tmp_path.iterdir()) == []


def interrupt(target: Path, settings: dict[str, Any]) -> None:
    with pytest.raises(KeyboardInterrupt):
        stop(target, KeyboardInterrupt(), settings=settings)


def test_resume_goes_on_from_finished_blocks(tmp_path: Path) -> None:
    interrupt(tmp_path / "out", {"a": 1})
    assert not (tmp_path / "out").exists()
    assert list(tmp_path.rglob("results.h5")) == []
    with io.result_folder(tmp_path / "out", resume=True, settings={"a": 1}) as place:
        assert store(place).finished() == {0}
        put_block(place, 1)
        assert store(place).finished() == {0, 1}
        maps = store(place).stack("area", 2)
        for index in range(2):
            both = np.concatenate([block(0)[:, :, index], block(1)[:, :, index]])
            np.testing.assert_array_equal(maps[:, :, index], both)
        finish(place)
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]
    assert [entry.name for entry in (tmp_path / "out").iterdir()] == ["results.h5"]


def test_blocks_of_part_of_the_columns_find_their_place(tmp_path: Path) -> None:
    values = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)
    store = io.BlockStore(tmp_path, (4, 5))
    blocks = [(rows, columns) for rows in (slice(0, 3), slice(3, 4)) for columns in (slice(0, 2), slice(2, 5))]
    for number in (3, 0, 2, 1):
        store.put(number, *blocks[number], {"state": values[blocks[number]]})
    for index in range(3):
        np.testing.assert_array_equal(store.stack("state", 3)[:, :, index], values[:, :, index])
    with pytest.raises(ScanError, match="does not contain 4 maps"):
        store.stack("state", 4)


@pytest.mark.parametrize("flags", [{}, {"resume": True}, {"overwrite": True}])
def test_the_second_of_two_runs_at_once_is_refused_and_the_first_goes_on(tmp_path: Path, flags: dict[str, Any]) -> None:
    with io.result_folder(tmp_path / "out") as place:
        put_block(place)
        with pytest.raises(OutputError, match="another run is writing to it"):
            io.result_folder(tmp_path / "out", **flags).__enter__()
        assert store(place).finished() == {0}
        finish(place)
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]


def test_resume_with_other_settings_is_refused_and_says_which(tmp_path: Path) -> None:
    interrupt(tmp_path / "out", {"model": "default", "b": 1})
    with (
        pytest.raises(OutputError, match=r"model \('default' before, 'xu2022' now\)"),
        io.result_folder(tmp_path / "out", resume=True, settings={"model": "xu2022", "b": 1}),
    ):
        pass
    with io.result_folder(tmp_path / "out", resume=True, settings={"model": "default", "b": 1}) as place:
        assert store(place).finished() == {0}
        finish(place)


@pytest.mark.parametrize("flags", [{}, {"resume": True, "overwrite": True, "settings": {"a": 2}}])
def test_a_left_over_part_is_thrown_away(tmp_path: Path, flags: dict[str, Any]) -> None:
    interrupt(tmp_path / "out", {})
    with io.result_folder(tmp_path / "out", **flags) as place:
        assert store(place).finished() == set()
        finish(place)


class KilledError(BaseException):
    """Ends a run where a kill would."""


@pytest.mark.parametrize("n_step", range(1, 8))
def test_a_kill_while_results_take_their_place_loses_nothing(
    tmp_path: Path, n_step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before or after each renaming: the old results or the new, all of the user's, and blocks to go on from."""
    with io.result_folder(tmp_path / "out") as place:
        finish(place, "old")
    (tmp_path / "out" / "notes.txt").write_text("mine")
    steps, rename = list[int](), Path.rename

    def counted(path: Path, target: Any) -> Path:
        kill_at(n_step, steps)
        moved = rename(path, target)
        kill_at(n_step, steps)
        return moved

    def removed(path: Path) -> None:
        kill_at(n_step, steps)
        remove_tree(path)
        kill_at(n_step, steps)

    with pytest.MonkeyPatch.context() as patch, suppress(KilledError):
        patch.setattr(Path, "rename", counted)
        patch.setattr(folder, "remove_tree", removed)
        patch.setattr("underpaint.runtime.files.remove_working_folder", lambda _: None)
        with io.result_folder(tmp_path / "out", overwrite=True, settings={"a": 1}) as place:
            put_block(place)
            finish(place)
    io.recover(tmp_path / "out")
    assert (tmp_path / "out" / "results.h5").read_text() in {"old", "new"}
    assert (tmp_path / "out" / "notes.txt").read_text() == "mine"
    with io.result_folder(tmp_path / "out", resume=True, settings={"a": 1}) as place:
        finish(place, "newer")
    assert (tmp_path / "out" / "results.h5").read_text() == "newer"
    assert (tmp_path / "out" / "notes.txt").read_text() == "mine"
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]


def kill_at(n_step: int, steps: list[int]) -> None:
    steps.append(1)
    if len(steps) == n_step:
        raise KilledError


def test_neighbours_of_results_are_left_alone(tmp_path: Path) -> None:
    names = ("out.old", "out.part", "out.lock", ".out.part")
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / "results.h5").write_text("mine")
    choices: tuple[dict[str, Any], ...] = ({}, {"overwrite": True}, {"resume": True})
    for flags in choices:
        with io.result_folder(tmp_path / "out", **flags) as place:
            put_block(place)
            finish(place)
    assert all((tmp_path / name / "results.h5").read_text() == "mine" for name in names)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == sorted(["out", *names])


def test_existing_results_are_refused_or_replaced(tmp_path: Path) -> None:
    with io.result_folder(tmp_path / "out") as place:
        finish(place, "old")
    with pytest.raises(OutputError, match="--overwrite"), io.result_folder(tmp_path / "out"):
        pass
    with pytest.raises(ValueError, match="fails"):
        stop(tmp_path / "out", ValueError("it fails"), overwrite=True, blocks=False)
    assert (tmp_path / "out" / "results.h5").read_text() == "old"
    with io.result_folder(tmp_path / "out", overwrite=True) as place:
        finish(place)
    assert (tmp_path / "out" / "results.h5").read_text() == "new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]


def test_a_folder_of_other_things_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.txt").write_text("mine")
    with (
        pytest.raises(OutputError, match="not a folder of results"),
        io.result_folder(tmp_path / "home", overwrite=True),
    ):
        pass
    assert (tmp_path / "home" / "thesis.txt").exists()


def test_empty_folder_and_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with io.result_folder(tmp_path / "out") as place:
        finish(place)
    assert io.is_finished(tmp_path / "out")
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="it is a file"), io.result_folder(tmp_path / "file"):
        pass
    with (
        pytest.raises(OutputError, match="Check that the folder exists"),
        io.result_folder(tmp_path / "file" / "out"),
    ):
        pass


def test_too_little_space(tmp_path: Path) -> None:
    with (
        pytest.raises(OutputError, match="MB needed"),
        io.result_folder(tmp_path / "out", needed_bytes=2**62),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


def test_disk_fills_up(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="No space left"):
        stop(tmp_path / "out", OSError(errno.ENOSPC, "No space left on device"), blocks=False)
    assert list(tmp_path.iterdir()) == []


def test_not_writable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("underpaint.runtime.files.mkdtemp", refuse)
    with pytest.raises(OutputError, match="Permission denied"), io.result_folder(tmp_path / "out"):
        pass


def test_results_into_the_folder_one_stands_in_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OutputError, match="not empty"), io.result_folder("."):
        pass
    assert (tmp_path / "mine.txt").exists()


FULL_DISK = """
import resource, sys
import numpy as np
from underpaint import io
from underpaint.errors import OutputError
from underpaint.data.maps import Results

image = np.random.default_rng(0).random((300, 300, 1), dtype=np.float32)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
write = {
    "results": lambda place: io.write_results(place.path, Results.of_lines(("Fe_K",), image, image)),
    "block": lambda place: io.BlockStore(place.blocks / "maps", (300, 300)).put(
        0, slice(0, 300), slice(0, 300), {"area": image}
    ),
}[sys.argv[2]]
try:
    with io.result_folder(sys.argv[1]) as place:
        write(place)
except OutputError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="file size limits are POSIX's")
@pytest.mark.parametrize("kind", ["results", "block"])
def test_files_that_do_not_fit(tmp_path: Path, kind: str) -> None:
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path / "out"), kind]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.stdout.startswith("Cannot write")
    assert not (tmp_path / "out").exists()


def test_one_map_is_read_without_the_others(tmp_path: Path) -> None:
    read = []

    def read_map(index: int) -> NDArray[np.float32]:
        read.append(index)
        return np.full((2, 2), index, np.float32)

    maps = io.StoredMaps((2, 2, 9), np.float32, read_map)
    assert maps[:, :, 4].mean() == 4
    assert maps[:, 1:, 6].shape == (2, 1)
    assert read == [4, 6]


def test_windows_replaces_results_and_says_what_holds_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As there: no folder with an open file in it can be renamed."""
    monkeypatch.setattr("underpaint.runtime.files.is_windows", lambda: True)
    rename = Path.rename

    def held_open(path: Path, target: Any) -> Path:
        if path.name == "out":
            raise PermissionError(errno.EACCES, "Access is denied", str(path))
        return rename(path, target)

    for text in ("old", "older"):
        with io.result_folder(tmp_path / "out", overwrite=True) as place:
            finish(place, text)
        (tmp_path / "out" / "notes.txt").write_text("mine")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "rename", held_open)
        with pytest.raises(OutputError, match="Access is denied"):
            replaced(tmp_path / "out")
    assert (tmp_path / "out" / "results.h5").read_text() == "older"
    replaced(tmp_path / "out")
    assert (tmp_path / "out" / "results.h5").read_text() == "new"
    assert (tmp_path / "out" / "notes.txt").read_text() == "mine"
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]


def replaced(target: Path) -> None:
    with io.result_folder(target, overwrite=True) as place:
        finish(place)


@pytest.mark.parametrize("shape", [(10**9, 10**9), (-1, 0), (4, 3), (3, 4, 1)])
@pytest.mark.parametrize("lazily", [False, True])
def test_maps_of_another_size_than_the_file_says_are_damaged(
    tmp_path: Path, elements: Results, pigments: Results, shape: tuple[int, ...], *, lazily: bool
) -> None:
    io.write_results(tmp_path / "out", pigments | elements)
    for place in ("pigments/results/probability", "elements/results/parameters"):
        with h5py.File(tmp_path / "out" / "results.h5", "r+") as file:
            before = file[f"entry/{place}"].attrs["shape"]
            file[f"entry/{place}"].attrs["shape"] = shape
        with pytest.raises(ScanError, match="damaged"):
            io.read_results(tmp_path / "out", lazily=lazily)
        with h5py.File(tmp_path / "out" / "results.h5", "r+") as file:
            file[f"entry/{place}"].attrs["shape"] = before


def test_pigments_and_elements_of_two_sizes_are_damaged(tmp_path: Path, elements: Results, pigments: Results) -> None:
    small = {name: Stack(stack.keys, stack.values[:2]) for name, stack in elements.stacks.items()}
    io.write_results(tmp_path / "out", replace(pigments, stacks={**pigments.stacks, **small}))
    with pytest.raises(ScanError, match="maps of 2 sizes"):
        io.read_results(tmp_path / "out")


@pytest.mark.parametrize("names", [("lead", "Lead"), ("lead white",), ("n" * 101,), ("../lead",)])
def test_maps_whose_names_are_no_files_everywhere_are_refused(names: tuple[str, ...]) -> None:
    with pytest.raises(OutputError, match="Cannot write "):
        check_map_names(names)


@pytest.mark.parametrize("kind", ["folder", "file", "link"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_what_took_the_place_during_a_run_is_not_replaced(tmp_path: Path, kind: str, *, overwrite: bool) -> None:
    target, home = tmp_path / "out", tmp_path / "home"
    home.mkdir()
    (home / "report.html").write_text("mine")

    def run() -> None:
        ones = {"area": np.ones((1, 1, 1), np.float32)}
        with io.result_folder(target, overwrite=overwrite, settings={"a": 1}) as place:
            io.BlockStore(place.blocks, (1, 1)).put(0, slice(0, 1), slice(0, 1), ones)
            if kind == "folder":
                home.rename(target)
            elif kind == "file":
                target.write_text("mine")
            else:
                target.symlink_to(home)

    with pytest.raises(OutputError, match=r"Cannot (write|replace)"):
        run()
    mine = target if kind == "file" else (target if kind == "folder" else home) / "report.html"
    assert mine.read_text() == "mine"
    assert target.is_symlink() == (kind == "link")
    assert len(list(tmp_path.glob(".underpaint-*/blocks/finished"))) == 1
