"""Rows recorded to and fro are recognised, mirrored back, and never taken for a shift."""

from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.ndimage import shift as shifted
from typer.testing import CliRunner

from underpaint.cli import app
from underpaint.data import EnergyAxis, Scan
from underpaint.errors import ScanError
from underpaint.io import load, read_settings, save_scan
from underpaint.repair import find_row_direction, find_row_shift, note_mirrored_rows, with_rows_mirrored

N_CHANNEL = 48
Counts = NDArray[np.uint16]
Value = TypeVar("Value", bound=np.generic)


def picture(seed: int, n_row: int, n_column: int, *, symmetric: bool = False) -> NDArray[np.float64]:
    """Expected counts of smooth patches of three paints, (n_row, n_column, n_channel)."""
    rng = np.random.default_rng(seed)
    amounts = np.stack([gaussian_filter(rng.normal(size=(n_row, n_column)), 2.5) for _ in range(3)], axis=2)
    amounts = np.exp(amounts / amounts.std())
    if symmetric:
        amounts = 0.5 * (amounts + amounts[:, ::-1])
    channel = np.arange(N_CHANNEL)
    spectra = np.stack([np.exp(-0.5 * ((channel - centre) / 2.0) ** 2) for centre in (10, 24, 38)])
    return np.asarray(10.0 * amounts @ spectra + 0.5)


def drawn(expected: NDArray[np.float64]) -> Counts:
    return np.random.default_rng(1).poisson(expected).astype(np.uint16)


def mirrored(counts: NDArray[Value], first: int = 1) -> NDArray[Value]:
    turned = counts.copy()
    turned[first::2] = counts[first::2, ::-1]
    return turned


def lagging(expected: NDArray[np.float64], columns: float) -> NDArray[np.float64]:
    moved = expected.copy()
    moved[1::2] = shifted(expected[1::2], (0, columns, 0), order=1, mode="nearest")
    return np.maximum(moved, 0.0)


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("brightness", [1.0, 0.02])
def test_mirrored_rows_are_distinguished_from_straight_ones(seed: int, brightness: float) -> None:
    straight = drawn(brightness * picture(seed, 30, 40))
    as_it_is, turned = (find_row_direction(Scan(counts)) for counts in (straight, mirrored(straight)))
    assert as_it_is is not None
    assert as_it_is.is_unidirectional
    assert not as_it_is.is_mirrored
    assert turned is not None
    assert turned.is_mirrored
    assert turned.mirrored_correlation == pytest.approx(as_it_is.recorded_correlation, rel=1e-9)


def test_a_lag_hides_no_mirrored_rows() -> None:
    straight = drawn(lagging(picture(4, 30, 40), 2.3))
    turned = find_row_direction(Scan(mirrored(straight)))
    assert turned is not None
    assert turned.is_mirrored
    # one round, which the taper pulls towards no lag
    assert turned.mirrored_lag_columns == pytest.approx(2.3, abs=0.7)
    back, _ = with_rows_mirrored(Scan(mirrored(straight)))
    shift = find_row_shift(back)
    assert abs(shift.columns - 2.3) < max(0.1, 4 * shift.error_columns)


def test_mirrored_rows_are_no_shift() -> None:
    with pytest.raises(ScanError, match=r"every second row is mirrored.*--snake"):
        find_row_shift(Scan(mirrored(drawn(picture(5, 30, 40)))))


def test_a_shift_beyond_the_range_is_none() -> None:
    # a step in every row: at 9 columns it fits nowhere within the 6 that are searched
    columns = np.arange(40)
    rows = np.stack([np.where(columns >= (12 + 9 * (row % 2)), 200.0, 20.0) for row in range(20)])
    counts = np.random.default_rng(0).poisson(rows[:, :, None] * np.ones(4)).astype(np.uint16)
    with pytest.raises(ScanError, match="exceeds the range of 6 columns"):
        find_row_shift(Scan(counts))


def test_a_symmetric_picture_cannot_tell() -> None:
    straight = drawn(picture(6, 24, 40, symmetric=True))
    for counts in (straight, mirrored(straight)):
        direction = find_row_direction(Scan(counts))
        assert direction is not None
        assert direction.looks_symmetric
        assert not direction.is_mirrored
        assert not direction.is_unidirectional
        assert "too symmetric to decide" in find_row_shift(Scan(counts)).describe()
        _, step = with_rows_mirrored(Scan(counts), direction)
        assert "too symmetric to decide" in step.description


def test_a_symmetric_picture_off_the_middle_is_mirrored_or_shifted() -> None:
    wide = drawn(picture(6, 24, 48, symmetric=True))[:, 4:]  # its middle lies 2 columns off that of the rows
    assert not find_row_shift(Scan(wide)).is_significant
    with pytest.raises(ScanError, match=r"too symmetric.*shifted by [+-]4.*--snake.*--row-shift"):
        find_row_shift(Scan(mirrored(wide)))


@pytest.mark.parametrize("shape", [(8, 16), (30, 40)])
def test_noise_has_no_direction(shape: tuple[int, int]) -> None:
    for seed in range(20):
        counts = np.random.default_rng(seed).poisson(2.0, (*shape, N_CHANNEL))
        direction = find_row_direction(Scan(counts.astype(np.uint16)))
        assert direction is not None
        assert not any((direction.is_mirrored, direction.is_unidirectional, direction.looks_symmetric))
        assert "too little structure" in direction.describe()


def test_small_and_flat_scans_have_no_direction() -> None:
    assert find_row_direction(Scan(np.ones((4, 40, 8)))) is None
    assert find_row_direction(Scan(np.ones((12, 40, 8)))) is None
    small = Scan(drawn(picture(7, 1, 40)))
    assert note_mirrored_rows(small) is small
    with pytest.raises(ScanError, match="1 row, at least 2"):
        with_rows_mirrored(small)


@pytest.mark.parametrize("rows_in_a_block", [3, 4, 30])
def test_counts_times_and_gaps_are_mirrored_back(rows_in_a_block: int) -> None:
    counts, rng = drawn(picture(8, 30, 20)), np.random.default_rng(2)
    live, real, present = rng.uniform(size=(30, 20)), rng.uniform(size=(30, 20)), rng.uniform(size=(30, 20)) > 0.1
    live[3, 2] = np.nan
    scan = Scan(mirrored(counts), live_time_s=mirrored(live), real_time_s=mirrored(real), present=mirrored(present))
    scan = scan.replace(counts=scan.counts.rechunk((rows_in_a_block, 7, -1)))
    back, step = with_rows_mirrored(scan)
    assert back.counts.dtype == np.uint16
    np.testing.assert_array_equal(back.counts.compute(), counts)
    for name, truth in (("live_time_s", live), ("real_time_s", real), ("present", present)):
        np.testing.assert_array_equal(getattr(back, name), truth)
    assert "direction of even rows is kept" in step.description


def test_of_mirrored_even_rows_the_first_keeps_its_direction() -> None:
    counts = drawn(picture(9, 30, 40))
    scan = Scan(mirrored(counts, first=0))
    direction = find_row_direction(scan)
    assert direction is not None
    assert direction.is_mirrored
    np.testing.assert_array_equal(with_rows_mirrored(scan, direction)[0].counts.compute(), counts[:, ::-1])


def test_straight_rows_are_not_mirrored() -> None:
    scan = Scan(drawn(picture(10, 30, 40)))
    with pytest.raises(ScanError, match=r"all rows are recorded in the same direction.*Omit --snake"):
        with_rows_mirrored(scan, find_row_direction(scan))


def test_the_warning_of_a_large_scan_rests_on_a_part(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = drawn(picture(11, 160, 30))
    monkeypatch.setattr("underpaint.repair.mirrored._MAX_SAMPLED_BYTES", counts.nbytes / 3)
    assert "--snake" in note_mirrored_rows(Scan(mirrored(counts))).notes[-1]
    assert note_mirrored_rows(Scan(counts)).notes == ()


@pytest.fixture
def snake(tmp_path: Path) -> tuple[Path, Counts]:
    counts = drawn(picture(12, 24, 40))
    save_scan(Scan(mirrored(counts), axis=EnergyAxis(0.3, 0.0, N_CHANNEL)), tmp_path / "snake.h5")
    return tmp_path / "snake.h5", counts


def test_the_commands_name_the_remedy_and_apply_it(snake: tuple[Path, Counts], tmp_path: Path) -> None:
    path, counts = snake
    run = CliRunner().invoke
    assert "--snake" in " ".join(run(app, ["info", str(path)]).output.replace("│", " ").split())
    refused = run(app, ["repair", str(path), "--out", str(tmp_path / "a.h5"), "--rows"])
    assert refused.exit_code == 1
    assert "--snake" in refused.output
    assert not (tmp_path / "a.h5").exists()
    done = run(app, ["repair", str(path), "--out", str(tmp_path / "b.h5"), "--snake", "--rows"])
    assert done.exit_code == 0, done.output
    np.testing.assert_array_equal(load(tmp_path / "b.h5").counts.compute(), counts)
    assert [step["repair"] for step in read_settings(tmp_path / "b.h5")["repairs"]] == ["snake", "rows"]
