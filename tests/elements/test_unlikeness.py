"""A spectrum with an element that was not told of stands out; what is known, missing or no counts does not."""

from collections.abc import Sequence

import dask.array as da
import numpy as np
import pytest

from underpaint.data import EnergyAxis, Scan, survey
from underpaint.data.maps import Results
from underpaint.elements import VariableFit, known_families, plan_all_families, unlikeness
from underpaint.physics.atomic import family_lines
from underpaint.physics.forward import count, emit, render
from underpaint.physics.instrument import Instrument, load_instrument
from underpaint.physics.materials import Paint, Stratigraphy, ground_layer
from underpaint.pipeline.blocks import BlockWork, MemoryStore, process_blocks

PAINTS = ("lead_white", "vermilion", "azurite", "yellow_ochre", "zinc_white", "cadmium_yellow")
COUNTS = 3e4
SHAPE = (6, 20)


@pytest.fixture(scope="module")
def elio() -> Instrument:
    return load_instrument("elio")


@pytest.fixture(scope="module")
def scan(elio: Instrument) -> Scan:
    """A row for each paint over chalk; the last is of cadmium yellow, one pixel is empty and one missing."""
    detector = elio.detector.model_copy(update={"gain_kev": 0.02, "n_channel": 2048})
    axis = EnergyAxis(detector.gain_kev, detector.zero_kev, detector.n_channel)
    samples = [Stratigraphy((Paint({paint: 1.0}).layer(20.0), ground_layer("chalk", 150.0))) for paint in PAINTS]
    expected = np.asarray(render(emit(samples, elio), detector, axis), dtype=np.float64)
    expected *= COUNTS / expected.sum(axis=1, keepdims=True)
    counts = count(np.repeat(expected[:, None], SHAPE[1], axis=1), rng=np.random.default_rng(4))
    counts[0, 0] = 0
    present = np.ones(SHAPE, dtype=bool)
    present[0, 1] = False
    return Scan(da.from_array(counts, chunks=(4, 20, 2048)), axis, present=present)


@pytest.fixture(scope="module")
def fit(scan: Scan, elio: Instrument) -> VariableFit:
    return plan_all_families(survey(scan), scan.require_axis(), elio)


def scored(scan: Scan, known: Sequence[str], fit: VariableFit, instrument: Instrument) -> Results:
    work = BlockWork(
        scan.require_axis(), family_fit=fit, unlikeness=unlikeness(known, fit, scan.require_axis(), instrument)
    )
    store = MemoryStore(scan.shape[:2])
    process_blocks(scan, work, store, np.zeros(scan.shape[:2]), halo=work.halo)
    return work.read(store)


def test_an_element_that_no_pigment_of_the_palette_carries_stands_out(
    scan: Scan, fit: VariableFit, elio: Instrument
) -> None:
    results = scored(scan, known_families(PAINTS[:-1]), fit, elio)
    assert results.unlike_pixels[-1].all()
    assert not results.unlike_pixels[:-1].any()
    lines = np.concatenate([family_lines("Cd", shell, 40.0)[0] for shell in ("K", "L")])
    assert np.abs(results.map("peak_kev")[-1][:, None] - lines).min(axis=1).max() < 0.15
    assert results.unlike_share == pytest.approx(20 / 118)


def test_what_the_library_holds_is_not_unlike(scan: Scan, fit: VariableFit, elio: Instrument) -> None:
    results = scored(scan, known_families(), fit, elio)
    assert not results.unlike_pixels.any()
    assert np.isnan(results.map("unlikeness")[0, :2]).all()
    assert np.isfinite(results.map("unlikeness")).sum() == np.prod(results.shape) - 2


def test_scores_do_not_depend_on_blocks(scan: Scan, fit: VariableFit, elio: Instrument) -> None:
    score = unlikeness(known_families(), fit, scan.require_axis(), elio)
    spectra = np.asarray(scan.counts[1].compute())
    together, _ = score(fit(spectra))
    alone = np.concatenate([score(fit(spectra[row : row + 1]))[0] for row in range(len(spectra))])
    np.testing.assert_allclose(together, alone, rtol=1e-3, atol=1e-3)


def test_known_families_follow_the_palette() -> None:
    narrow, wide = set(known_families(["lead_white"])), set(known_families())
    assert narrow < wide
    assert {"Pb_L", "Pb_M", "Ca_K", "Ar_K"} <= narrow
    assert {"Hg_L", "V_K", "Cr_K"} <= wide - narrow
