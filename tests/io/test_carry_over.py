"""Results are replaced; what users added to them stays, and nothing planted in them leads elsewhere."""

import json
import os
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from underpaint import io
from underpaint.data.maps import NOT_DETECTED, Results
from underpaint.display.report import write_report
from underpaint.errors import OutputError
from underpaint.io.results.sidecars import GENERATED_NAMES, copy_sidecars

USER_FILES = {
    "regions.json": '{"regions": []}',
    "regions/red.png": "mask",
    "photograph.jpg": "picture",
    "photograph.json": "{}",
    "photograph_registered.png": "laid",
    "pictures/infrared_1.jpg": "picture",
}


def write_maps(folder: Path, shape: tuple[int, int]) -> None:
    maps = Results.of_lines(("Hg_L",), np.zeros((*shape, 1), np.float32), np.ones((*shape, 1), np.float32))
    io.write_results(folder, maps)


def finished(target: Path, shape: tuple[int, int] = (4, 3)) -> Path:
    with io.result_folder(target, overwrite=True) as place:
        write_maps(place.path, shape)
    return target


def add_user_files(folder: Path, more: str = "") -> None:
    for name, text in USER_FILES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text + more)
    (folder / "notes.txt").write_text("mine" + more)


def user_files_of(folder: Path) -> dict[str, str]:
    return {name: (folder / name).read_text() for name in USER_FILES if (folder / name).is_file()}


def test_replaced_results_keep_regions_and_photograph(tmp_path: Path) -> None:
    folder = finished(tmp_path / "out")
    add_user_files(folder)
    (folder / "report.html").write_text("old")
    assert user_files_of(finished(folder)) == USER_FILES
    assert (folder / "notes.txt").read_text() == "mine"
    assert not (folder / "report.html").exists()
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]


def test_quantities_of_replaced_results_go(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    image = np.ones((4, 3, 1), np.float32)
    with io.result_folder(folder) as place:
        lines = Results.of_lines(("Pb_L",), image, image)
        quantities = Results.of_quantities("mass_fraction", ("Pb",), image, image, image)
        io.write_results(place.path, lines | quantities)
    assert {path.name for path in (folder / "quantities").iterdir()} == {
        "mass_fraction.Pb.tif", "mass_fraction.Pb.low_90.tif", "mass_fraction.Pb.high_90.tif",
    }  # fmt: skip
    (folder / "quantities" / "mine.tif").write_text("mine")
    finished(folder)
    assert [path.name for path in (folder / "quantities").iterdir()] == ["mine.tif"]


def test_a_region_drawn_while_results_are_made_anew_stays(tmp_path: Path) -> None:
    folder = finished(tmp_path / "out")
    with io.result_folder(folder, overwrite=True) as place:
        write_maps(place.path, (4, 3))
        assert copy_sidecars(place.earlier, place.path) is None
        add_user_files(folder)
    assert user_files_of(folder) == USER_FILES


def test_what_lies_on_maps_of_another_size_is_put_aside(tmp_path: Path) -> None:
    folder = finished(tmp_path / "out")
    add_user_files(folder)
    finished(folder, (5, 3))
    assert user_files_of(folder) == {}
    assert user_files_of(folder / "earlier_4x3") == USER_FILES
    assert (folder / "notes.txt").read_text() == "mine"
    finished(folder)
    add_user_files(folder, " again")
    finished(folder, (5, 3))
    assert user_files_of(folder / "earlier_4x3") == USER_FILES
    assert user_files_of(folder / "earlier_4x3_2") == {name: text + " again" for name, text in USER_FILES.items()}


MORE = {
    ".git/objects/ab/cdef": "commit",
    ".hidden": "mine",
    "notes.part": "mine",
    "RESULT.old/results.h5": "mine",
    "elements/sketch.png": "mine",
    "elements/mine.tif": "mine",
    "pigments/notes.txt": "mine",
    "blocks/1.txt": "mine",
}


def test_nothing_that_a_run_has_not_made_is_lost(tmp_path: Path) -> None:
    folder = finished(tmp_path / "out")
    for name, text in MORE.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    (folder / ".git/objects/ab/cdef").chmod(0o444)
    (folder / "link").symlink_to("/etc/hostname")
    (folder / "elements" / "Cu_K.tif").symlink_to("/etc/hostname")
    (folder / "elements" / "Hg_L.tif").write_text("old map")
    for _ in range(2):
        finished(folder)
        assert {name: (folder / name).read_text() for name in MORE} == MORE
        assert (folder / "link").is_symlink()
        assert (folder / "elements" / "Cu_K.tif").is_symlink()
        assert (folder / "elements" / "Hg_L.tif").read_bytes()[:2] == b"II"
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]


def test_a_file_of_the_user_under_the_name_of_a_new_map_goes_beside(tmp_path: Path) -> None:
    folder = finished(tmp_path / "out")
    (folder / "elements" / "Fe_K.tif").write_text("mine")
    with io.result_folder(folder, overwrite=True) as place:
        ones = np.ones((4, 3, 1), np.float32)
        maps = Results.of_lines(("Fe_K",), ones, ones)
        io.write_results(place.path, maps)
    assert (folder / "earlier" / "elements" / "Fe_K.tif").read_text() == "mine"
    assert (folder / "elements" / "Fe_K.tif").read_bytes()[:2] == b"II"


def test_what_is_changed_at_the_last_moment_comes_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = finished(tmp_path / "out")
    add_user_files(folder)
    monkeypatch.setattr("underpaint.io.results.folder.sync", lambda path: add_user_files(folder, " later"))
    finished(folder)
    assert user_files_of(folder) == {name: text + " later" for name, text in USER_FILES.items()}


def test_results_are_not_replaced_where_user_files_cannot_be_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError("no space")

    folder = finished(tmp_path / "out")
    add_user_files(folder)
    monkeypatch.setattr("underpaint.io.results.sidecars.shutil.copy2", full)
    with pytest.raises(OutputError, match=r"Cannot copy regions and photograph .*no space\. Nothing was replaced"):
        finished(folder)
    assert user_files_of(folder) == USER_FILES


def test_all_that_a_run_makes_is_known(tmp_path: Path) -> None:
    """Else it would be taken for the user's own, and the old one would replace the new."""
    shape, ones = (4, 3), np.ones((4, 3, 1), np.float32)
    results = (
        Results.of_pigments(("red",), ones, kinds=("member",), groups=((),), labels=("red",), elements=(("Hg_L",),))
        | Results.of_lines(("Hg_L",), ones, ones)
        | Results.of_states(("red",), ("red",), np.full((*shape, 1), NOT_DETECTED, np.uint8))
        | Results.of_unlikeness(ones, ones)
    )
    io.write_results(tmp_path, results)
    write_report(tmp_path)
    assert {entry.name for entry in tmp_path.iterdir()} <= set(GENERATED_NAMES)


no_links = pytest.mark.skipif(sys.platform == "win32", reason="few users of Windows may make links and pipes")


@no_links
def test_pipes_and_links_are_moved_to_the_new_results(tmp_path: Path) -> None:
    folder = finished(tmp_path / "out")
    os.mkfifo(folder / "pipe")
    (folder / "link").symlink_to("/etc/hostname")
    before = sorted(path.name for path in folder.iterdir())
    assert sorted(path.name for path in finished(folder).iterdir()) == before
    assert (folder / "pipe").is_fifo()
    assert (folder / "link").is_symlink()


@no_links
@pytest.mark.parametrize("way", ["earlier", "earlier/elements"])
def test_a_file_of_the_user_is_not_put_beside_through_a_link(tmp_path: Path, way: str) -> None:
    folder, home = finished(tmp_path / "out"), tmp_path / "home"
    home.mkdir()
    (folder / way).parent.mkdir(exist_ok=True)
    (folder / way).symlink_to(home)
    (folder / "elements" / "Fe_K.tif").write_text("theirs")
    with io.result_folder(folder, overwrite=True) as place:
        ones = np.ones((4, 3, 1), np.float32)
        maps = Results.of_lines(("Fe_K",), ones, ones)
        io.write_results(place.path, maps)
    assert not any(home.rglob("*"))
    foreign = [path for path in folder.rglob("Fe_K*.tif") if path.read_bytes()[:2] != b"II"]
    assert [path.read_text() for path in foreign] == ["theirs"]
    assert any(path.is_symlink() for path in folder.rglob("*"))


def test_a_file_called_earlier_stands_in_nobodys_way(tmp_path: Path) -> None:
    folder = finished(tmp_path / "out")
    (folder / "earlier").write_text("notes")
    (folder / "elements" / "Fe_K.tif").write_text("mine")
    with io.result_folder(folder, overwrite=True) as place:
        ones = np.ones((4, 3, 1), np.float32)
        maps = Results.of_lines(("Fe_K",), ones, ones)
        io.write_results(place.path, maps)
    assert (folder / "earlier").read_text() == "notes"
    assert (folder / "earlier_2" / "elements" / "Fe_K.tif").read_text() == "mine"


def planted(target: Path, ready: str) -> Path:
    """Make what a run would have left that was killed while its results took their place, as somebody else may."""
    folder = target.parent / ".underpaint-abcdefgh"
    folder.mkdir()
    mark = {"program": "underpaint", "target": target.name, "kind": "results", "alone": True}
    (folder / "underpaint.json").write_text(json.dumps(mark))
    (folder / "ready.json").write_text(ready)
    return folder


@no_links
@pytest.mark.parametrize("part", ["old", "new", "blocks"])
def test_a_planted_working_folder_with_links_moves_and_changes_nothing(tmp_path: Path, part: str) -> None:
    home = tmp_path / "home"
    home.mkdir()
    home.chmod(0o755)
    (home / "thesis.txt").write_text("mine")
    target = tmp_path / "out"
    if part == "old":
        finished(target)
    planted(target, '{"aside": null}').joinpath(part).symlink_to(home)
    io.recover(target)
    with io.result_folder(target, resume=True) as place:
        write_maps(place.path, (4, 3))
    assert [path.name for path in home.iterdir()] == ["thesis.txt"]
    assert home.stat().st_mode & 0o777 == 0o755
    assert not target.is_symlink()
    assert not (target / "thesis.txt").exists()


@pytest.mark.parametrize(
    "ready",
    ['{"aside": "HOME"}', '{"aside": "../home"}', '{"aside": 5}', "{}", "null", "[]", "no JSON", "[" * 100_000],
)
def test_a_record_that_no_run_has_written_is_not_followed(tmp_path: Path, ready: str) -> None:
    target = finished(tmp_path / "out")
    (tmp_path / "home").mkdir()
    folder = planted(target, ready.replace("HOME", str(tmp_path / "home")))
    (folder / "old").mkdir()
    (folder / "old" / "regions.json").write_text("theirs")
    io.recover(target)
    finished(target)
    assert not any((tmp_path / "home").iterdir())
    assert not (target / "regions.json").exists()


@no_links
def test_blocks_that_were_replaced_by_links_are_not_gone_on_from(tmp_path: Path) -> None:
    target, home = tmp_path / "out", tmp_path / "home"
    home.mkdir()
    with suppress(KeyboardInterrupt), io.result_folder(target, settings={"a": 1}) as place:
        io.BlockStore(place.blocks, (1, 1)).put(0, slice(0, 1), slice(0, 1), {"area": np.ones((1, 1, 1), np.float32)})
        raise KeyboardInterrupt
    (blocks,) = tmp_path.glob(".underpaint-*/blocks")
    (blocks / "area.float32").rename(home / "area")
    (blocks / "area.float32").symlink_to(home / "area")
    with io.result_folder(target, resume=True, settings={"a": 1}) as place:
        assert not any(place.blocks.iterdir())
        write_maps(place.path, (1, 1))
    assert np.fromfile(home / "area", np.float32).tolist() == [1.0]
