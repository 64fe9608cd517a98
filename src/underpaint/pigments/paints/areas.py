"""Areas of one paint: a Gaussian mixture of line intensities, whose number of components held-out pixels give."""

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import convolve
from scipy.optimize import nnls
from scipy.special import logsumexp

from underpaint.data.maps import NO_ANSWER, PIGMENT, PRESENT, TRACE, Results
from underpaint.data.paint_areas import MIXED, PaintArea
from underpaint.errors import ScanError
from underpaint.runtime.threads import one_blas_thread

if TYPE_CHECKING:
    from sklearn.mixture import GaussianMixture

Numbers = NDArray[np.float64]
MIN_LINE_SIGMAS, MIN_LINE_FRACTION = 5.0, 0.01
"""A line family is used if it exceeds this number of standard deviations in this fraction of the pixels."""
EXCLUDED_FAMILIES = ("Ar_K",)
"""Line families of the air."""
VARIATION = 0.03
"""Relative variation of a line within a paint that is treated as one standard deviation."""
N_SAMPLE_PIXELS = 8000
"""Number of pixels to which the mixture is fitted."""
N_COMPONENTS_TRIED = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48)
"""Numbers of components that are compared by held-out likelihood."""
MIN_PIXELS_PER_LINE = 2
"""Minimum number of pixels per component and line family."""
MIN_OVERLAP = 0.03
"""Fraction of a component's probability on pixels of another component, above which both are one paint."""
MIN_INTERLEAVED_FRACTION, MIN_INTERLEAVED_RATIO = 0.2, 0.5
"""Two paints are one if at least this fraction of the neighbours of each are of the other, and if the product of these
fractions is at least this ratio of that of neighbours of the same paint (1: random positions, 0.36: stripes of two
pixels)."""
NEIGHBOUR_WEIGHTS = np.asarray([[0.7, 1.0, 0.7], [1.0, 0.0, 1.0], [0.7, 1.0, 0.7]])
"""Log odds that each neighbouring pixel of a paint adds to this paint."""
N_NEIGHBOUR_ROUNDS = 5
"""Number of mean-field iterations."""
MIN_NEIGHBOUR_FRACTION = 0.4
"""Minimum fraction of a paint's neighbours that are of the same paint; below it, the paint is an edge."""
MIN_PIXELS = 9
"""Minimum number of pixels of a paint."""
MIN_PROBABILITY = 0.5
"""Minimum probability of a pixel's paint."""
OUTLIER_FRACTION = 0.001
"""Fraction of the sample with the lowest density; pixels of lower density belong to no paint."""
_BATCH_PIXELS = 65536


@one_blas_thread()  # the matrices are small
def find_paints(results: Results, *, seed: int = 0) -> Results:
    """Return the paints of a scan: a map of their numbers, and a description of each.

    The net counts of the line families are scaled so that counting noise and the variation within a paint have unit
    variance. A Gaussian mixture is fitted; the likelihood of held-out pixels gives the number of components. Components
    are merged into one paint if their pixels are confused (Hennig 2010, Adv. Data Anal. Classif. 4, 3), or if they are
    spatially interleaved. Neighbouring pixels raise the probability of their paint (mean field of a Markov random
    field; Zhang et al. 2001, IEEE Trans. Med. Imaging 20, 45). Scatter is not used, since it shows the support and
    the relief.

    Parameters
    ----------
    results : Results
        Results with elements; if pigments were identified, each paint lists its groups.
    seed : int
        Seed of the sample and of the initial mixture.

    Raises
    ------
    ScanError
        There are no elements, or no line is significant.
    """
    if not results.has_elements:
        raise ScanError(
            "Cannot find paints: these results contain no elements, by which pixels are compared. Run `underpaint "
            "identify` without --no-elements, or `underpaint elements`."
        )
    names, values, has_answer = comparable(results)
    if not names or not has_answer.any():
        raise ScanError(
            f"Cannot find paints: no line exceeds {MIN_LINE_SIGMAS:g} standard deviations in "
            f"{100 * MIN_LINE_FRACTION:g} % of the {has_answer.sum()} pixels with an answer. Scan longer, or sum "
            "pixels."
        )
    label = np.full(has_answer.shape, NO_ANSWER, dtype=np.uint8)
    label[has_answer] = _paint_labels(values, has_answer, seed)[has_answer]
    areas = tuple(_paint_area(results, label, paint_number, names) for paint_number in range(1, _max_label(label) + 1))
    settings = {"lines": list(names), "variation": VARIATION, "overlap": MIN_OVERLAP, "seed": seed}
    return Results.of_paints(label, areas, step_mm=results.step_mm, settings=settings)


def _max_label(label: NDArray[np.uint8]) -> int:
    return int(label[label != NO_ANSWER].max(initial=MIXED))


# --- scaled line intensities ------------------------------------------------------------------------------


def comparable(results: Results) -> tuple[tuple[str, ...], NDArray[np.float32], NDArray[np.bool_]]:
    """Return line families, (n_row, n_column, n) values with noise of about one, and the mask of pixels with values."""
    has_answer = np.logical_and.reduce([np.isfinite(results[name]) for name in results.lines])
    names, images = [], []
    for name in results.lines:
        area, sigma = results[name], results.map("area_sigma", name)
        is_significant = (area > MIN_LINE_SIGMAS * sigma)[has_answer]
        if name not in EXCLUDED_FAMILIES and has_answer.any() and is_significant.mean() >= MIN_LINE_FRACTION:
            names.append(name)
            images.append(stabilised(area, sigma, has_answer))
    return (
        tuple(names),
        np.stack(images, axis=2) if images else np.empty((*has_answer.shape, 0), np.float32),
        has_answer,
    )


def stabilised(
    area: NDArray[np.float32], sigma: NDArray[np.float32], has_answer: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Return areas on a scale on which counting noise and :data:`VARIATION` of a paint have unit variance.

    The variance of an area a is c0 + c1 a from counting and overlapping lines, plus (v a)^2 within a paint. The scale
    is the integral of 1 / sqrt(variance) (Bartlett 1947, Biometrics 3, 39).
    """
    clipped_area = np.maximum(area[has_answer], 0.0).astype(np.float64)
    variance = sigma[has_answer].astype(np.float64) ** 2
    sampled = slice(None, None, max(clipped_area.size // N_SAMPLE_PIXELS, 1))
    sampled_area, sampled_variance = clipped_area[sampled], np.maximum(variance[sampled], 1e-9)
    floor, slope = nnls(
        np.stack([1.0 / sampled_variance, sampled_area / sampled_variance], axis=1), np.ones(sampled_area.size)
    )[0]
    floor, slope = max(floor, float(np.quantile(sampled_variance, 0.02))), max(slope, 1.0)
    v = VARIATION
    scaled = (
        np.log(
            2.0 * v * np.sqrt(floor + slope * clipped_area + (v * clipped_area) ** 2)
            + 2.0 * v**2 * clipped_area
            + slope
        )
        / v
    )
    negative_part = np.minimum(area[has_answer], 0.0) / np.sqrt(floor)  # fitted areas may be negative
    values = np.zeros(area.shape, np.float32)
    values[has_answer] = scaled + negative_part
    return values


# --- paints -----------------------------------------------------------------------------------------------


def _paint_labels(values: NDArray[np.float32], has_answer: NDArray[np.bool_], seed: int) -> NDArray[np.uint8]:
    """Return the (n_row, n_column) numbers of the paints, the largest first; :data:`MIXED` where there is none."""
    rng = np.random.default_rng(seed)
    pixels = values[has_answer]
    sample = pixels[rng.permutation(len(pixels))[:N_SAMPLE_PIXELS]].astype(np.float64)
    mixture = _best_mixture(sample, seed)
    paint_of_component = _merged_components(mixture.predict_proba(sample))
    min_log_density = float(np.quantile(mixture.score_samples(sample), OUTLIER_FRACTION))
    probability = np.zeros((*has_answer.shape, int(paint_of_component.max()) + 1), np.float32)
    probability[has_answer], outliers = _paint_probabilities(mixture, paint_of_component, pixels, min_log_density)
    smoothed = _smoothed_by_neighbours(probability)
    merged = _merged_interleaved(np.where(has_answer, smoothed.argmax(axis=2), -1), probability.shape[2])
    if merged.max() + 1 < probability.shape[2]:
        smoothed = _smoothed_by_neighbours(probability @ _membership(merged))
    label = np.where(smoothed.max(axis=2) >= MIN_PROBABILITY, smoothed.argmax(axis=2) + 1, MIXED)
    is_outlier = np.zeros(has_answer.shape, bool)
    is_outlier[has_answer] = outliers
    label[is_outlier | ~has_answer] = MIXED
    return _renumbered(label)


def _best_mixture(sample: Numbers, seed: int) -> "GaussianMixture":
    """Return a mixture with the number of components that gives held-out pixels the highest likelihood.

    The mixture is first fitted to one half of the sample, and then, from there, to the whole sample.
    """
    if len(sample) < 2:
        return _fit_mixture(np.repeat(sample, 2, axis=0), 1, seed)
    max_components = max(len(sample) // (2 * MIN_PIXELS_PER_LINE * sample.shape[1]), 1)
    mixtures = [_fit_mixture(sample[::2], n, seed) for n in N_COMPONENTS_TRIED if n <= max_components]
    best_mixture = max(mixtures, key=lambda mixture: mixture.score(sample[1::2]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a mixture that has not converged is good enough
        return best_mixture.fit(sample)


def _fit_mixture(sample: Numbers, n_components: int, seed: int) -> "GaussianMixture":
    from sklearn.mixture import GaussianMixture  # three quarters of a second to import

    mixture = GaussianMixture(
        min(n_components, len(sample)),
        reg_covar=1.0,  # the variance of the noise: no component is narrower
        max_iter=100,
        tol=1e-2,
        init_params="k-means++",
        random_state=seed,
        warm_start=True,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a mixture that has not converged has a low likelihood
        return mixture.fit(sample)


def _merged_components(probability: Numbers) -> NDArray[np.int64]:
    """Return the (n_component,) numbers of the paints, of which (n, n_component) probabilities confuse no two."""
    paint_of_component = np.arange(probability.shape[1])
    while probability.shape[1] > 1:
        likeliest = np.eye(probability.shape[1])[probability.argmax(axis=1)]
        overlap = (probability.T @ likeliest) / np.maximum(probability.sum(axis=0), 1e-9)[:, None]
        np.fill_diagonal(overlap, 0.0)
        kept_index, merged_index = sorted(np.unravel_index(int(overlap.argmax()), overlap.shape))
        if overlap.max() < MIN_OVERLAP:
            break
        probability[:, kept_index] += probability[:, merged_index]
        probability = np.delete(probability, merged_index, axis=1)
        paint_of_component[paint_of_component == merged_index] = kept_index
        paint_of_component[paint_of_component > merged_index] -= 1
    return paint_of_component


def _merged_interleaved(label: NDArray[np.int64], n_paint: int) -> NDArray[np.int64]:
    """Return the (n_paint,) numbers of paints after the merging of paints whose pixels are interleaved at random.

    A mixture may describe the noise of one paint by two components. Their pixels are then neighbours everywhere, while
    two paints are neighbours only along their border.

    Parameters
    ----------
    label : (n_row, n_column) int array
        Paint of each pixel, from 0; -1 where there is none.
    n_paint : int
        Number of paints before merging.
    """
    n_neighbours = np.zeros((n_paint, n_paint))
    for first, second in (
        (label[:, :-1], label[:, 1:]),
        (label[:-1], label[1:]),
        (label[:-1, :-1], label[1:, 1:]),
        (label[:-1, 1:], label[1:, :-1]),
    ):
        is_pair = (first >= 0) & (second >= 0)
        counts = np.bincount(first[is_pair] * n_paint + second[is_pair], minlength=n_paint**2).reshape(n_paint, n_paint)
        n_neighbours += counts + counts.T
    merged = np.arange(n_paint)
    while True:
        fraction = n_neighbours / np.maximum(n_neighbours.sum(axis=1), 1.0)[:, None]
        same = np.diag(fraction)
        is_random = fraction * fraction.T >= MIN_INTERLEAVED_RATIO * same * same[:, None]
        mutual = np.where(is_random, np.minimum(fraction, fraction.T), 0.0)
        np.fill_diagonal(mutual, 0.0)
        if mutual.max() < MIN_INTERLEAVED_FRACTION:
            return np.asarray(np.unique(merged, return_inverse=True)[1])
        kept_index, merged_index = np.unravel_index(int(mutual.argmax()), mutual.shape)
        n_neighbours[kept_index] += n_neighbours[merged_index]
        n_neighbours[:, kept_index] += n_neighbours[:, merged_index]
        n_neighbours[merged_index], n_neighbours[:, merged_index] = 0.0, 0.0
        merged[merged == merged_index] = kept_index


def _membership(paint: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the (n, n_paint) matrix that is one where an element belongs to a paint."""
    return np.eye(int(paint.max()) + 1, dtype=np.float32)[paint]


def _paint_probabilities(
    mixture: "GaussianMixture",
    paint_of_component: NDArray[np.int64],
    pixels: NDArray[np.float32],
    min_log_density: float,
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return (n, n_paint) probabilities, and a boolean (n,) array, true for pixels of too low a density."""
    membership = _membership(paint_of_component)
    probabilities, outliers = [], []
    for start in range(0, len(pixels), _BATCH_PIXELS):
        log_density = _log_densities(mixture, pixels[start : start + _BATCH_PIXELS])
        total = logsumexp(log_density, axis=1, keepdims=True)
        probabilities.append(np.exp(log_density - total) @ membership)
        outliers.append(total[:, 0] < min_log_density)
    return np.concatenate(probabilities), np.concatenate(outliers)


def _log_densities(mixture: "GaussianMixture", pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return (n, n_component) logarithms of the weighted densities, in single precision, which is twice as fast."""
    n_line = pixels.shape[1]
    log_density = np.empty((len(pixels), len(mixture.weights_)), np.float32)
    for component, (weight, mean, precision_root) in enumerate(
        zip(mixture.weights_, mixture.means_, mixture.precisions_cholesky_, strict=True)
    ):
        distance = (((pixels - mean.astype(np.float32)) @ precision_root.astype(np.float32)) ** 2).sum(axis=1)
        level = np.log(weight) + np.log(np.diag(precision_root)).sum() - 0.5 * n_line * np.log(2.0 * np.pi)
        log_density[:, component] = np.float32(level) - np.float32(0.5) * distance
    return log_density


def _smoothed_by_neighbours(probability: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return (n_row, n_column, n_paint) probabilities after mean-field iterations with the neighbouring pixels."""
    evidence = np.log(np.maximum(probability, 1e-30))
    for _ in range(N_NEIGHBOUR_ROUNDS):
        neighbour_odds = np.stack(
            [
                convolve(probability[:, :, paint], NEIGHBOUR_WEIGHTS, mode="constant")
                for paint in range(probability.shape[2])
            ],
            2,
        )
        log_odds = evidence + neighbour_odds
        log_odds -= log_odds.max(axis=2, keepdims=True)
        probability = np.exp(log_odds)
        probability /= probability.sum(axis=2, keepdims=True)
    return probability


def _renumbered(label: NDArray[Any]) -> NDArray[np.uint8]:
    """Return paints numbered from 1 by decreasing area, without edges between paints and areas of few pixels."""
    sizes: dict[int, int] = {}
    kernel = (NEIGHBOUR_WEIGHTS > 0).astype(float)
    n_neighbours = convolve(np.ones(label.shape), kernel, mode="constant")
    for number in np.unique(label[label != MIXED]):
        mask = label == number
        n_same = convolve(mask.astype(float), kernel, mode="constant")[mask].sum()
        same_fraction = n_same / max(n_neighbours[mask].sum(), 1.0)
        if mask.sum() >= min(MIN_PIXELS, label.size) and (
            same_fraction >= MIN_NEIGHBOUR_FRACTION or label.size < MIN_PIXELS
        ):
            sizes[int(number)] = int(mask.sum())
    ranked = sorted(sizes, key=lambda number: -sizes[number])[: NO_ANSWER - 1]
    table = np.full(int(label.max(initial=0)) + 1, MIXED, np.uint8)
    for rank, number in enumerate(ranked, start=1):
        table[number] = rank
    return np.asarray(table[label])


# --- description of each paint ----------------------------------------------------------------------------


def _paint_area(results: Results, label: NDArray[np.uint8], number: int, names: Sequence[str]) -> PaintArea:
    mask = label == number
    n_pixel, n_answered = int(mask.sum()), int((label != NO_ANSWER).sum())
    step_mm = results.step_mm
    return PaintArea(
        number,
        n_pixel,
        n_pixel / max(n_answered, 1),
        None if step_mm is None else float(n_pixel * step_mm[0] * step_mm[1]),
        _groups(results, mask),
        {name: float(np.median(results[name][mask])) for name in names},
    )


def _groups(results: Results, mask: NDArray[np.bool_]) -> dict[str, int]:
    """Return the groups that are present in more than half of a paint's pixels with an answer, each with its state."""
    groups: dict[str, int] = {}
    for (name,) in results.stacks["state"].keys if "state" in results.stacks else ():
        n_by_state = np.bincount(results.map("state", name)[mask], minlength=NO_ANSWER + 1)
        n_present = {state: int(n_by_state[state]) for state in (PIGMENT, PRESENT, TRACE)}
        if 2 * sum(n_present.values()) > int(n_by_state[:NO_ANSWER].sum()):
            groups[name] = max(n_present, key=lambda state: n_present[state])
    return groups
