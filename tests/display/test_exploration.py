"""Components, clusters, embedding and correlation of maps whose parts are known."""

from pathlib import Path

import numpy as np
import pytest

from underpaint.data.maps import Results
from underpaint.display.viewer import exploration
from underpaint.errors import ScanError
from underpaint.io import write_results
from underpaint.io.results.result_maps import ResultMaps

SHAPE = (24, 30)
PAINTS = {"Hg_L": (800.0, 5.0, 5.0), "Pb_L": (100.0, 900.0, 5.0), "Fe_K": (5.0, 30.0, 600.0)}
"""Mean counts of three paints, in thirds of the columns."""


@pytest.fixture
def lines(tmp_path: Path) -> exploration.DetectedLines:
    paint = np.repeat(np.arange(3), SHAPE[1] // 3)[None, :].repeat(SHAPE[0], axis=0)
    mean = np.stack([np.asarray(counts)[paint] for counts in PAINTS.values()], axis=2)
    area = np.random.default_rng(2).poisson(mean).astype(np.float32)
    area[0, 0] = np.nan
    error = np.sqrt(np.maximum(mean, 1)).astype(np.float32)
    write_results(tmp_path / "maps", Results.of_lines(tuple(PAINTS), area, error))
    maps = ResultMaps(tmp_path / "maps")
    lines = exploration.detected_lines(maps)
    maps.close()
    return lines


def paint_of(lines: exploration.DetectedLines) -> np.ndarray:
    return (np.nonzero(lines.has_answer)[1] // (SHAPE[1] // 3)).astype(int)


def test_pixels_without_an_answer_are_left_out(lines: exploration.DetectedLines) -> None:
    assert lines.names == ["Pb_L", "Hg_L", "Fe_K"]
    assert int(lines.has_answer.sum()) == SHAPE[0] * SHAPE[1] - 1
    assert np.isnan(lines.to_map(np.ones(len(lines.counts)))[0, 0])


def test_clusters_are_the_paints(lines: exploration.DetectedLines) -> None:
    parts = exploration.clusters(lines, 3)
    member = parts.cluster_map[lines.has_answer]
    assert np.isnan(parts.cluster_map[0, 0])
    for paint in range(3):
        assert np.unique(member[paint_of(lines) == paint]).size == 1
    assert set(np.unique(member)) == {1.0, 2.0, 3.0}
    assert {strongest[0][0] for strongest in parts.strongest_lines} == set(PAINTS)
    np.testing.assert_allclose(parts.shares, 1 / 3, atol=0.01)


def test_components_of_the_lines_are_the_paints(lines: exploration.DetectedLines) -> None:
    parts = exploration.components(lines, 3)
    assert {strongest[0][0] for strongest in parts.strongest_lines} == set(PAINTS)
    assert parts.shares.sum() == pytest.approx(1.0)
    total = np.nansum(np.stack(parts.maps), axis=0)[lines.has_answer]
    np.testing.assert_allclose(total.mean(), lines.counts.sum(axis=1).mean(), rtol=0.02)


def test_components_of_spectra_have_spectra(lines: exploration.DetectedLines) -> None:
    channels = np.arange(300)
    peaks = np.stack([np.exp(-0.5 * ((channels - at) / 5) ** 2) for at in (60, 150, 240)])
    paint = np.zeros(SHAPE, dtype=int)
    paint[lines.has_answer] = paint_of(lines)
    counts = np.random.default_rng(3).poisson(20 * peaks[paint]).transpose(2, 0, 1)
    parts = exploration.components(lines, 3, counts)
    assert parts.spectra is not None
    assert parts.spectra.shape == (3, 300)
    np.testing.assert_allclose(sorted(parts.spectra.argmax(axis=1)), [60, 150, 240], atol=5)
    np.testing.assert_allclose(parts.spectra.sum(), counts[:, lines.has_answer].mean(axis=1).sum(), rtol=0.05)


def test_like_pixels_lie_together_in_the_embedding(
    lines: exploration.DetectedLines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exploration, "MAX_LANDMARKS", 300)  # most are put between the landmarks
    places = exploration.embedding(lines)
    assert np.isnan(places[0, 0]).all()
    known, paint = places[lines.has_answer], paint_of(lines)
    assert np.abs(known).max() <= 1.0
    middles = np.stack([known[paint == number].mean(axis=0) for number in range(3)])
    nearest = np.linalg.norm(known[:, None] - middles[None], axis=2).argmin(axis=1)
    assert (nearest == paint).mean() > 0.98


def test_lines_of_different_paints_are_anticorrelated(lines: exploration.DetectedLines) -> None:
    table = exploration.correlation(lines)
    np.testing.assert_allclose(np.diag(table), 1.0)
    assert (table[~np.eye(3, dtype=bool)] < -0.3).all()


def test_a_single_line_is_not_grouped(tmp_path: Path) -> None:
    area = np.full((5, 5, 1), 100.0, dtype=np.float32)
    write_results(tmp_path / "one", Results.of_lines(("Fe_K",), area, area / 50))
    maps = ResultMaps(tmp_path / "one")
    with pytest.raises(ScanError, match="1 lines are detected"):
        exploration.detected_lines(maps)
    maps.close()


@pytest.mark.parametrize("value", [1, 99, 2.5, "3", None, True])
def test_a_number_of_clusters_is_checked(value: object) -> None:
    with pytest.raises(ScanError, match="choose 2 to 12"):
        exploration.whole_number(value, 2, 12, "clusters")
