"""Tiles of one painting, recorded off their stage's positions, are joined where they belong."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from underpaint.data import EnergyAxis, Scan
from underpaint.errors import ScanError
from underpaint.repair import Tile, join_tiles, positions_of, read_positions

STEP_MM = 0.5
TRUE = {"a": (0, 0), "b": (2, 32), "c": (31, 1), "d": (30, 33)}
SIZE = (44, 46)


def painting() -> NDArray[np.float64]:
    rng = np.random.default_rng(8)
    amounts = np.stack([gaussian_filter(rng.normal(size=(80, 85)), 2.0) for _ in range(2)], axis=2)
    spectra = np.stack([np.exp(-0.5 * ((np.arange(32) - centre) / 2.0) ** 2) for centre in (10, 20)])
    return np.asarray(30.0 * np.exp(1.5 * amounts / amounts.std()) @ spectra + 0.5)


def tiles(off_pixels: dict[str, tuple[float, float]]) -> tuple[list[Tile], dict[str, NDArray[np.int64]]]:
    rng, full_counts = np.random.default_rng(9), painting()
    counts = {
        name: rng.poisson(full_counts[top : top + SIZE[0], left : left + SIZE[1]]) for name, (top, left) in TRUE.items()
    }
    made = [
        Tile(
            Scan(counts[name].astype(np.uint16), name=name, step_mm=(STEP_MM, STEP_MM), live_time_s=np.full(SIZE, 1.0)),
            *(STEP_MM * (np.array(TRUE[name]) + off_pixels.get(name, (0.0, 0.0))) + 17.0),
        )
        for name in TRUE
    ]
    return made, counts


def test_tiles_are_put_where_they_belong() -> None:
    made, counts = tiles({"b": (2.4, -1.3), "d": (-1.0, 3.0)})
    mosaic = join_tiles(made)
    offsets = mosaic.corner_pixels - mosaic.corner_pixels[0]
    np.testing.assert_allclose(offsets, np.array(list(TRUE.values())), atol=0.3)
    assert all(overlap.used for overlap in mosaic.overlaps)
    assert len(mosaic.overlaps) >= 4
    assert all(overlap.likeness > 0.8 for overlap in mosaic.overlaps)
    corners = np.rint(mosaic.corner_pixels).astype(int)
    result = mosaic.scan.counts.compute()
    covered = np.ones(mosaic.scan.shape[:2], bool) if mosaic.scan.present is None else mosaic.scan.present
    choices = np.zeros((4, *result.shape), np.int64) - 1
    for index, (name, (top, left)) in enumerate(zip(TRUE, corners, strict=True)):
        choices[index, top : top + SIZE[0], left : left + SIZE[1]] = counts[name]
    assert (choices == result).all(axis=3).any(axis=0)[covered].all()
    assert not result[~covered].any()
    assert mosaic.scan.live_time_s is not None
    np.testing.assert_array_equal(mosaic.scan.live_time_s[covered], 1.0)


def test_the_stage_is_trusted_on_request_and_without_similar_tiles() -> None:
    made, _ = tiles({"b": (2.4, -1.3)})
    stage = join_tiles(made, register=False)
    assert stage.overlaps == ()
    np.testing.assert_allclose(stage.corner_pixels[1] - stage.corner_pixels[0], (4.4, 30.7), atol=1e-9)
    noise = np.random.default_rng(1).poisson(9.0, (2, *SIZE, 32)).astype(np.uint16)
    strange = [replace(tile, scan=tile.scan.replace(counts=Scan(noise[index]).counts)) for index, tile in
               enumerate(made[:2])]  # fmt: skip
    mosaic = join_tiles(strange)
    assert not mosaic.overlaps[0].used
    np.testing.assert_allclose(mosaic.correction_pixels, 0.0, atol=1e-9)


def test_a_correction_that_is_too_large_is_not_believed() -> None:
    made, _ = tiles({"b": (2.4, -1.3)})
    mosaic = join_tiles(made[:2], max_pixels=1.0)
    assert not mosaic.overlaps[0].used


@pytest.mark.parametrize("off", [(1.0, 2.0), (0.9, 1.1), (0.0, 0.0)])
def test_two_halves_of_a_scan_join_without_a_step_wherever_the_stage_has_them(off: tuple[float, float]) -> None:
    """Half of the correction goes to each tile, so both may lie half-way between two pixels; together, not apart."""
    counts = np.random.default_rng(4).poisson(painting()[:60, :80]).astype(np.uint16)
    left, right = Scan(counts[:, :50], step_mm=(1.0, 1.0)), Scan(counts[:, 35:], step_mm=(1.0, 1.0))
    mosaic = join_tiles([Tile(left, 0.0, 0.0), Tile(right, off[0], 35.0 + off[1])])
    np.testing.assert_array_equal(mosaic.scan.counts.compute(), counts)
    np.testing.assert_allclose(mosaic.corner_pixels, [[0, 0], [0, 35]], atol=0.3)
    assert mosaic.isolated_tiles == ()


def test_tiles_without_overlap_are_reported_and_those_far_away_refused() -> None:
    made, _ = tiles({"b": (0.0, 20.0)})
    assert join_tiles(made[:2]).isolated_tiles == (0, 1)
    away = [made[0], replace(made[1], column_mm=20_000.0)]
    with pytest.raises(ScanError, match=r"up to 19983 mm apart. Check that .*0.5 x 0.5 mm"):
        join_tiles(away)
    flat = [replace(tile, scan=tile.scan.replace(step_mm=(0.0, 0.0))) for tile in made]
    with pytest.raises(ScanError, match="pixels of 0 x 0 mm"):
        join_tiles(flat)


def test_missing_pixels_are_taken_from_the_other_tile_and_axes_are_brought_together() -> None:
    made, counts = tiles({})
    blind = np.ones(SIZE, bool)
    blind[:, 33:] = False
    first = made[0].scan.replace(present=blind, axis=EnergyAxis(0.1, 0.0, 32))
    second = made[1].scan.with_axis(EnergyAxis(0.1, 0.1, 32))
    mosaic = join_tiles([replace(made[0], scan=first), replace(made[1], scan=second)], register=False)
    result = mosaic.scan.counts.compute()
    np.testing.assert_allclose(result[10, 34, 1:], counts["b"][8, 2, :-1], rtol=1e-5)
    np.testing.assert_allclose(result[10, 5], counts["a"][10, 5])


def test_tiles_that_cannot_be_joined_are_refused() -> None:
    made, _ = tiles({})
    with pytest.raises(ScanError, match="give two or more"):
        join_tiles(made[:1])
    with pytest.raises(ScanError, match="unknown pixel size"):
        join_tiles([made[0], replace(made[1], scan=made[1].scan.replace(step_mm=None))])


def test_positions_are_read(tmp_path: Path) -> None:
    path = tmp_path / "stage.csv"
    path.write_text("tile,row_mm,column_mm\na.h5,0,1.5\nb,2,3\n", encoding="utf-8")
    known = read_positions(path)
    assert positions_of(["/somewhere/a.h5", "b.h5"], known) == [(0.0, 1.5), (2.0, 3.0)]
    with pytest.raises(ScanError, match="Add a row for this tile"):
        positions_of(["c.h5"], known)
    for wrong in ("tile,row_mm\na,1\n", "tile,row_mm,column_mm\na,x,1\n", "tile,row_mm,column_mm\na,1,1\na,2,2\n"):
        path.write_text(wrong, encoding="utf-8")
        with pytest.raises(ScanError, match=str(path)):
            read_positions(path)
