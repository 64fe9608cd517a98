"""What one count is worth in stored values; true counts of any kind raise no alarm."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from underpaint.data import EnergyAxis, rebin
from underpaint.data.poisson import Sample, in_units_of_quantum

CHANNEL = np.arange(2048)
CENTRES = (180, 320, 400, 525, 640, 700, 1050, 1260)


def paints(counts: float, n_channel: int = 2048) -> NDArray[np.float64]:
    """Expected spectra of four paints, (4, n_channel): lines over a continuum."""
    channel = np.arange(n_channel) * 2048 / n_channel
    strength = np.random.default_rng(3).random((4, len(CENTRES))) ** 3
    lines = sum(
        strength[:, [index]] * np.exp(-0.5 * ((channel - centre) / 4.0) ** 2) for index, centre in enumerate(CENTRES)
    )
    shape = lines + 0.02 * np.exp(-channel / 800.0) * (1 - np.exp(-channel / 100.0))
    return np.asarray(counts * shape / shape.sum(axis=1, keepdims=True))


def counts_of(total: float, n_pixel: int = 24, seed: int = 0, n_channel: int = 2048) -> NDArray[np.int64]:
    """Counted spectra, (n_pixel, n_channel), of paints that alternate."""
    return np.random.default_rng(seed).poisson(paints(total, n_channel)[np.arange(n_pixel) % 4])


def factors(low: float, high: float, n_pixel: int = 24) -> NDArray[np.float64]:
    return np.random.default_rng(9).uniform(low, high, n_pixel)[:, None]


TRUE: dict[str, NDArray[Any]] = {
    "few counts": counts_of(300),
    "usual": counts_of(2e4).astype(np.uint16),
    "bright": counts_of(2e6),
    "floats": counts_of(2e4).astype(np.float32),
    "very few counts": counts_of(20, 200),
    "sum of frames": np.sum([counts_of(5e3, seed=seed) for seed in range(4)], axis=0),
    "corrected for dead time and rounded": np.rint(counts_of(2e4) * factors(1.0, 1.3)),
    "clipped": np.minimum(counts_of(2e5), 255),
    "few pixels": counts_of(2e4, 3),
    "few channels": counts_of(2e4, 24, 0, 512),
    "one weak spectrum": counts_of(1e3, 1),
    "one spectrum": counts_of(5e4, 1),
    "one bright spectrum": counts_of(3e6, 1),
    "corrected for dead time": (counts_of(2e4) * factors(1.0, 1.3)).astype(np.float32),
    "two detectors, corrected": counts_of(2e4) * factors(1.0, 1.3) + 1.13 * counts_of(2e4, seed=1),
    "moved to another axis": rebin(counts_of(2e4), EnergyAxis(0.01, 0, 2048), EnergyAxis(0.0101, 0, 2000).edges_kev),
    "one of two detectors moved": counts_of(2e4, seed=1)
    + rebin(counts_of(2e4), EnergyAxis(0.01, 0, 2048), EnergyAxis(0.01, 0.003, 2048).edges_kev),
}


@pytest.mark.parametrize("kind", TRUE)
def test_true_counts_are_no_function_of_counts(kind: str) -> None:
    assert Sample(TRUE[kind]).transform() == ""


@pytest.mark.parametrize("rounding", [np.rint, np.floor])
@pytest.mark.parametrize("scale", [1.2, 1.7, 2.5, 7.3])
@pytest.mark.parametrize("total", [2e3, 2e4])
def test_numbers_that_are_left_out_tell_a_scale_above_one(total: float, scale: float, rounding: Any) -> None:
    counts = counts_of(total)
    fitted = Sample(rounding(scale * counts)).scale()
    assert fitted is not None
    assert fitted.rounding is not None
    np.testing.assert_array_equal(np.rint((rounding(scale * counts) + fitted.rounding) / fitted.value), counts)


@pytest.mark.parametrize("scale", [0.7, 0.5, 0.3, 0.1])
@pytest.mark.parametrize("kind", ["usual", "bright", "few channels"])
def test_whole_numbers_that_scatter_too_little_are_scaled_counts(kind: str, scale: float) -> None:
    fitted = Sample(np.rint(scale * TRUE[kind])).scale()
    assert fitted is not None
    assert fitted.value == pytest.approx(scale, rel=0.3)
    assert fitted.uncertainty > 0


@pytest.mark.parametrize("kind", ["usual", "bright", "few channels"])
def test_functions_of_counts_are_recognised(kind: str) -> None:
    values = TRUE[kind].astype(float)
    assert Sample(np.sqrt(values)).transform() == Sample(np.sqrt(values / values.max())).transform() == "square root"
    assert Sample(np.log1p(values)).transform() == "logarithm"


@pytest.mark.parametrize("kind", TRUE)
def test_true_counts_raise_no_alarm(kind: str) -> None:
    scale = Sample(TRUE[kind]).scale()
    assert scale is None or scale.value == 1.0
    assert scale is not None or kind in {"very few counts", "few pixels"}  # whose shape is not sure


@pytest.mark.parametrize(
    "values",
    [
        np.random.default_rng(0).integers(0, 100, (20, 512)),
        np.random.default_rng(0).uniform(0, 100, (20, 512)),
        np.random.default_rng(0).integers(0, 256, (20, 512), dtype=np.uint8),
        np.arange(20 * 512).reshape(20, 512),
        np.rint(np.linspace(0.2, 2.0, 20)[:, None] * (5 + 1000 * np.exp(-(((np.arange(512) - 200) / 8) ** 2)))),
    ],
    ids=["random integers", "random floats", "random bytes", "rising", "computed and rounded"],
)
def test_what_nobody_measured_is_left_as_it_is(values: NDArray[Any]) -> None:
    scale = Sample(values).scale()
    assert scale is None or scale.value == 1.0
    assert Sample(values).transform() == ""


@pytest.mark.parametrize("scale", [10.0, 2.0, 2000.0, 0.25, 1 / 30, 1e-9])
@pytest.mark.parametrize("kind", ["few counts", "usual", "bright", "few channels", "one weak spectrum", "one spectrum"])
def test_whole_multiples_of_one_number_tell_it_exactly(kind: str, scale: float) -> None:
    fitted = Sample(TRUE[kind] * scale).scale()
    assert fitted is not None
    assert (fitted.uncertainty, fitted.is_per_pixel) == (0.0, False)
    assert fitted.value == pytest.approx(scale, rel=1e-9)


def test_copies_that_were_added_are_whole_multiples() -> None:
    fitted = Sample(2 * counts_of(2e4).astype(np.uint32)).scale()
    assert fitted is not None
    assert (fitted.value, fitted.uncertainty) == (2.0, 0.0)


@pytest.mark.parametrize("kind", ["usual", "bright"])
def test_what_was_divided_pixel_by_pixel_is_found_for_each(kind: str) -> None:
    live_s = factors(0.05, 0.2)
    rates = (TRUE[kind] / live_s).astype(np.float32)
    fitted = Sample(rates).scale()
    assert fitted is not None
    assert fitted.is_per_pixel
    assert fitted.value == pytest.approx(float(np.median(1 / live_s)), rel=1e-6)
    np.testing.assert_array_equal(in_units_of_quantum(rates[None], fitted.value)[0], TRUE[kind])


@pytest.mark.parametrize("total", [300, 2e4, 2e6])
def test_the_scatter_tells_a_scale_that_leaves_no_whole_multiples(total: float) -> None:
    corrected = counts_of(total) * factors(1.0, 1.1) + 1.05 * counts_of(total, seed=1)
    for scale in (1e-6, 0.1, 37.0):
        fitted = Sample(scale * corrected).scale()
        assert fitted is not None
        assert fitted.value == pytest.approx(1.05 * scale, rel=0.1)
        assert abs(fitted.value / scale - 1.05) < 4 * fitted.uncertainty / scale
        assert fitted.uncertainty < 0.1 * fitted.value


def test_smoothed_and_noiseless_spectra_tell_nothing() -> None:
    smooth = np.apply_along_axis(np.convolve, 1, counts_of(2e4).astype(float), np.ones(7) / 7, "same")
    assert Sample(smooth).scale() is None
    assert Sample(3 * smooth).scale() is None
    assert Sample(1000 * smooth).scale() is None
    assert Sample(paints(2e4)).scale() is None
    assert Sample(np.full((24, 2048), 7.0)).scale() is None
    assert Sample(counts_of(2e4)[:, :20]).scale() is None
