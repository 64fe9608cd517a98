"""Like neighbours are summed where counts are few; what differs beyond noise is not, though it be one pixel wide."""

import dask.array as da
import numpy as np
import pytest

from underpaint.data import EnergyAxis, Scan, survey
from underpaint.data.maps import Results
from underpaint.elements import VariableFit, plan_all_families
from underpaint.physics.forward import emit, render
from underpaint.physics.instrument import Instrument, load_instrument
from underpaint.physics.materials import Paint, Stratigraphy, ground_layer
from underpaint.pigments.predict import plan_answers
from underpaint.pipeline.blocks import BlockWork, MemoryStore, process_blocks
from underpaint.pipeline.pooling import POOL_RADIUS, TARGET_COUNTS, BlockEvidence, Pooling, has_few_counts, plan_pooling

COUNTS = 1500.0
SHAPE = (24, 30)
LINE = 15
"""Column of vermilion in lead white."""


@pytest.fixture(scope="module")
def elio() -> Instrument:
    return load_instrument("elio")


@pytest.fixture(scope="module")
def scan(elio: Instrument) -> Scan:
    """Lead white, crossed by a line of vermilion that is a pixel wide; one pixel is empty."""
    detector = elio.detector.model_copy(update={"gain_kev": 0.02, "n_channel": 2048})
    axis = EnergyAxis(detector.gain_kev, detector.zero_kev, detector.n_channel)
    ground = ground_layer("chalk", 150.0)
    paints = [Stratigraphy((Paint({name: 1.0}).layer(30.0), ground)) for name in ("lead_white", "vermilion")]
    expected = np.asarray(render(emit(paints, elio), detector, axis), dtype=np.float64)
    expected *= COUNTS / expected.sum(axis=1, keepdims=True)
    kind = np.zeros(SHAPE, int)
    kind[:, LINE] = 1
    counts = np.random.default_rng(6).poisson(expected[kind]).astype(np.uint16)
    counts[3, 4] = 0
    return Scan(counts, axis)


@pytest.fixture(scope="module")
def fit(scan: Scan, elio: Instrument) -> VariableFit:
    return plan_all_families(survey(scan), scan.require_axis(), elio, peaks=False)


@pytest.fixture(scope="module")
def pooling(scan: Scan, fit: VariableFit) -> Pooling:
    planned = plan_pooling(fit, survey(scan).sample)
    assert planned is not None
    return planned


def test_like_neighbours_join_and_a_line_of_one_pixel_stays(scan: Scan, fit: VariableFit, pooling: Pooling) -> None:
    counts = np.asarray(scan.counts.compute())
    shown = BlockEvidence.of_block(fit, counts, None)
    total = counts.sum(axis=2).astype(np.float64)
    core = slice(0, SHAPE[0]), slice(0, SHAPE[1])
    joined = pooling.pool_membership(shown, total, core).toarray().reshape(*SHAPE, *SHAPE)
    n_pixel = joined.sum(axis=(2, 3))
    white = np.arange(SHAPE[1]) != LINE
    assert np.median(n_pixel[:, white]) > 0.8 * TARGET_COUNTS / COUNTS
    # of 24 pixels of vermilion none takes in white, nor the other way round
    assert joined[:, LINE][:, :, white].sum() == 0
    assert joined[:, white][..., LINE].sum() == 0
    assert np.median(n_pixel[:, LINE]) >= 3
    assert (n_pixel[3, 4], joined[..., 3, 4].sum()) == (1, 1)  # an empty pixel joins nothing


def test_pools_hold_their_counts_and_say_how_many(scan: Scan, fit: VariableFit, pooling: Pooling) -> None:
    counts = np.asarray(scan.counts.compute())
    shown = BlockEvidence.of_block(fit, counts, None)
    total = counts.sum(axis=2).astype(np.float64)
    core = slice(4, 9), slice(10, 22)
    spectra, n_counts, n_pixel = pooling(shown, counts, total, core)
    np.testing.assert_allclose(spectra.sum(axis=2), n_counts, rtol=1e-5)
    assert n_counts.max() < TARGET_COUNTS + total.max()
    assert n_pixel.shape == (5, 12, 1)
    np.testing.assert_allclose(n_counts.sum() / n_pixel.sum(), COUNTS, rtol=0.05)


def test_blocks_do_not_change_pools(scan: Scan, fit: VariableFit, pooling: Pooling) -> None:
    work = BlockWork(
        scan.require_axis(), answer_plan=plan_answers(scan.require_axis()), family_fit=fit, pooling=pooling
    )
    assert work.halo == POOL_RADIUS

    def answered(chunks: tuple[int, int, int]) -> Results:
        split = Scan(da.from_array(np.asarray(scan.counts), chunks=chunks), scan.axis)
        store = MemoryStore(SHAPE)
        process_blocks(split, work, store, survey(split).pixel_counts, halo=work.halo)
        return work.read(store)

    one_block, parts = answered((24, 30, 2048)), answered((5, 30, 2048))
    np.testing.assert_array_equal(one_block.map("pool"), parts.map("pool"))
    np.testing.assert_allclose(one_block["mercury_red"], parts["mercury_red"], atol=1e-3)
    assert (one_block["mercury_red"][:, LINE] > 0.5).mean() > 0.9
    assert np.isnan(one_block.map("pool")[3, 4])
    assert "few counts" in one_block.notes[-1]
    assert one_block.pool.attrs["units"] == "pixels"


def test_only_scans_with_has_few_counts_are_pooled() -> None:
    assert has_few_counts(np.full((4, 4), 0.5 * TARGET_COUNTS))
    assert not has_few_counts(np.full((4, 4), 2.0 * TARGET_COUNTS))
    assert not has_few_counts(np.full((1, 1), 10.0))
