"""A cube on the grid of the maps: means over the area of a pixel, whatever the scale, the turn and the blocks."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from cube_files import WAVELENGTH_NM, write_envi
from underpaint.pipeline.reflect import Resampler
from underpaint.reflectance.cube import ReflectanceCube, open_reflectance

SHAPE = (10, 14)
EVERYWHERE = (slice(0, 10), slice(0, 14))


def cube(folder: Path, values: NDArray[np.floating]) -> ReflectanceCube:
    level = np.linspace(0.9, 1.0, WAVELENGTH_NM.size)
    return open_reflectance(write_envi(folder, (values[:, :, None] * level).astype(np.float32)), scale=1)


def test_a_finer_cube_is_averaged_over_each_pixel(tmp_path: Path) -> None:
    fine = np.random.default_rng(0).uniform(0.1, 0.9, (SHAPE[0] * 3 + 2, SHAPE[1] * 3 + 5))
    matrix = np.array([[3.0, 0, 4], [0, 3, 1], [0, 0, 1]])
    values_found = Resampler(cube(tmp_path, fine), matrix, SHAPE)(EVERYWHERE)[:, :, -1]
    part = fine[1 : 1 + 3 * SHAPE[0], 4 : 4 + 3 * SHAPE[1]]
    expected = part.reshape(SHAPE[0], 3, -1, 3)[:, :, : SHAPE[1]].mean(axis=(1, 3))
    np.testing.assert_allclose(values_found[:, :13], expected[:, :13], rtol=1e-5)


def test_a_coarser_cube_gives_each_pixel_the_one_that_it_lies_in(tmp_path: Path) -> None:
    coarse = np.random.default_rng(1).uniform(0.1, 0.9, (5, 7))
    values_found = Resampler(cube(tmp_path, coarse), np.diag([0.5, 0.5, 1.0]), SHAPE)(EVERYWHERE)[:, :, -1]
    np.testing.assert_allclose(values_found, coarse.repeat(2, axis=0).repeat(2, axis=1), rtol=1e-5)


def test_a_quarter_turn_turns(tmp_path: Path) -> None:
    values = np.random.default_rng(2).uniform(0.1, 0.9, SHAPE)
    matrix = np.array([[0, 1.0, 0], [-1, 0, 14], [0, 0, 1]])  # (column, row) -> (row, 14 - column)
    values_found = Resampler(cube(tmp_path, np.rot90(values)), matrix, SHAPE)(EVERYWHERE)[:, :, -1]
    np.testing.assert_allclose(values_found, values, rtol=1e-5)


def test_outside_the_cube_there_is_no_answer_and_faulty_values_do_not_count(tmp_path: Path) -> None:
    values = np.full((20, 28), 0.5)
    values[4, 4] = np.nan
    shifted = np.array([[2.0, 0, -6], [0, 2, 0], [0, 0, 1]])
    values_found = Resampler(cube(tmp_path, values), shifted, SHAPE)(EVERYWHERE)[:, :, -1]
    assert np.isnan(values_found[:, :3]).all()
    np.testing.assert_allclose(values_found[:, 3:], 0.5, rtol=1e-5)


@pytest.mark.parametrize("most", [2_000, 60_000, 10**9])
def test_windows_cover_every_pixel_once_and_give_the_same(
    tmp_path: Path, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("underpaint.reflectance.cube.BLOCK_BYTES", most)
    values = np.random.default_rng(3).uniform(0.1, 0.9, (34, 46))
    turn = np.deg2rad(5)
    matrix = np.array([[3 * np.cos(turn), -3 * np.sin(turn), 5], [3 * np.sin(turn), 3 * np.cos(turn), 1], [0, 0, 1.0]])
    resampler, n_seen = Resampler(cube(tmp_path, values), matrix, SHAPE), np.zeros(SHAPE, int)
    parts = np.full((*SHAPE, WAVELENGTH_NM.size), np.nan, np.float32)
    for window in resampler.windows():
        n_seen[window] += 1
        parts[window] = resampler(window)
    assert (n_seen == 1).all()
    np.testing.assert_allclose(parts, resampler(EVERYWHERE), rtol=1e-5)
