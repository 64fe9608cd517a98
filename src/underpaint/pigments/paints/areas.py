"""Paints of a scan: areas, summed spectra, and element maps divided by depth."""

import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import convolve
from scipy.optimize import nnls
from scipy.special import logsumexp

from underpaint.data import Scan
from underpaint.data.maps import NO_ANSWER, PIGMENT, PRESENT, TRACE, Place, Results
from underpaint.data.paint_areas import MIXED, PaintArea
from underpaint.errors import ScanError
from underpaint.runtime.progress import Progress, no_progress
from underpaint.runtime.threads import one_blas_thread

if TYPE_CHECKING:
    from sklearn.mixture import GaussianMixture


Float32Array = NDArray[np.float32]
INTERVAL_SIGMAS = 3.29
"""Width of a 90 % interval of a normal distribution, in standard deviations."""
DEPTHS: tuple[Place, Place] = ("surface", "below")


def split_by_depth(results: Results) -> Results:
    """Return each line's net counts from the uppermost paint layer and from below it, with standard deviations.

    The fraction from the uppermost layer is taken from the explanation of the pixel's paint. Values are NaN if the
    layers of the paint were not computed or no draw describes the spectrum of the paint. Values are also NaN if the two
    runs of the explanation disagree.

    Parameters
    ----------
    results : Results
        Results with elements and paints. Without explained paints, the returned results are empty.
    """
    shares_by_paint = {area.number: shares for area in results.paints if (shares := surface_shares(area))}
    explained_lines = [line for line in results.lines if any(line in shares for shares in shares_by_paint.values())]
    if not explained_lines:
        return Results()
    paint_map = results.map("paint")
    depth_counts, depth_sigma = (
        np.full((*paint_map.shape, 2 * len(explained_lines)), np.nan, np.float32) for _ in range(2)
    )
    for line_index, line in enumerate(explained_lines):
        shares_of_line = {
            paint_number: shares[line] for paint_number, shares in shares_by_paint.items() if line in shares
        }
        surface_share, share_sigma = _share_maps(paint_map, shares_of_line)
        area, area_sigma = results[line], results.map("area_sigma", line)
        for depth_index, share in enumerate((surface_share, 1.0 - surface_share)):
            depth_counts[:, :, 2 * line_index + depth_index] = share * area
            # the share is the same for all pixels of a paint, so that its error does not average out
            depth_sigma[:, :, 2 * line_index + depth_index] = np.hypot(share * area_sigma, share_sigma * area)
    depth_keys = [(line, depth_name) for line in explained_lines for depth_name in DEPTHS]
    notes = (
        f"Counts from the surface and from below follow the layers of paints {', '.join(map(str, shares_by_paint))}: "
        "one share for all pixels of a paint, although its thickness may vary.",
    )
    return Results.of_depths(depth_keys, depth_counts, depth_sigma, step_mm=results.step_mm, notes=notes)


def surface_shares(area: PaintArea) -> dict[str, tuple[float, float]]:
    """Return the fraction of each family's counts that a paint's uppermost layer emits, with its standard deviation."""
    surface_record = {} if area.explanation is None else (area.explanation.get("from_surface") or {})
    return {
        family: (float(share["median"]), float(share["high"] - share["low"]) / INTERVAL_SIGMAS)
        for family, share in surface_record.items()
        if share["determined"]
    }


def _share_maps(
    paint_map: NDArray[np.uint8], share_by_paint: dict[int, tuple[float, float]]
) -> tuple[Float32Array, Float32Array]:
    """Return maps of the share and of its standard deviation, with NaN for paints without a share."""
    share_table = np.full((2, 256), np.nan, np.float32)
    for paint_number, share_and_sigma in share_by_paint.items():
        share_table[:, paint_number] = share_and_sigma
    return share_table[0][paint_map], share_table[1][paint_map]


def with_summed_spectra(
    scan: Scan, paint_map: NDArray[np.uint8], areas: Sequence[PaintArea], progress: Progress | None = None
) -> tuple[PaintArea, ...]:
    """Return the paints with their summed spectra, which have Poisson noise.

    Parameters
    ----------
    scan : Scan
        Scan, which is read once, block by block.
    paint_map : (n_row, n_column) array
        Number of the paint of each pixel.
    areas : sequence of PaintArea
    progress : callable, optional
        Called with the task, the number of completed pixels and the total number.

    Raises
    ------
    ScanError
        The scan and the map have different shapes.
    """
    if scan.shape[:2] != paint_map.shape:
        raise ScanError(
            f"Cannot sum the spectra of the paints: the scan has {scan.shape[0]} rows x {scan.shape[1]} columns, the "
            f"map of paints {paint_map.shape[0]} x {paint_map.shape[1]}. Give the scan from which the results were "
            "computed."
        )
    paint_labels = paint_map if scan.present is None else np.where(scan.present, paint_map, 0)
    report_progress, n_done = progress or no_progress, 0
    summed_spectra = np.zeros((1 + max((area.number for area in areas), default=0), scan.shape[2]))
    for rows, columns in scan.blocks():
        block_labels = paint_labels[rows, columns].ravel()
        counts = np.asarray(scan.present_counts()[rows, columns]).reshape(block_labels.size, -1)
        for paint_number in np.unique(block_labels[(block_labels > 0) & (block_labels < len(summed_spectra))]):
            summed_spectra[paint_number] += counts[block_labels == paint_number].sum(axis=0, dtype=np.float64)
        n_done += block_labels.size
        report_progress("Summing the spectra of the paints", n_done, scan.n_pixel)
    return tuple(replace(area, spectrum=summed_spectra[area.number]) for area in areas)


FloatArray = NDArray[np.float64]
MIN_LINE_SIGMAS, MIN_LINE_FRACTION = 5.0, 0.01
"""Minimum significance of a line family in standard deviations, and minimum fraction of the pixels with this
significance."""
EXCLUDED_FAMILIES = ("Ar_K",)
"""Line families of elements in air."""
RELATIVE_LINE_VARIATION = 0.03
"""Relative standard deviation of a line's area within a paint."""
N_SAMPLE_PIXELS = 8000
"""Number of pixels to which the mixture is fitted."""
TESTED_COMPONENT_NUMBERS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48)
"""Numbers of mixture components that are compared by held-out likelihood."""
MIN_PIXELS_PER_LINE = 2
"""Minimum number of pixels per component and line family."""
MIN_COMPONENT_OVERLAP = 0.03
"""Two components are one paint if at least this fraction of one's probability lies on the pixels of the other."""
MIN_MUTUAL_NEIGHBOUR_FRACTION, MIN_NEIGHBOUR_PRODUCT_RATIO = 0.2, 0.5
"""Limits for the merging of two paints. The first limit is the minimum fraction of each paint's neighbouring pixels
that belong to the other paint. The second limit is a minimum ratio. The numerator of the ratio is the product of these
fractions. The denominator is the product of the fractions of neighbours in the same paint. The ratio is 1 for random
positions and 0.36 for stripes that are two pixels wide."""
NEIGHBOUR_WEIGHTS = np.asarray([[0.7, 1.0, 0.7], [1.0, 0.0, 1.0], [0.7, 1.0, 0.7]])
"""Amount by which each neighbouring pixel of a paint increases the log-odds of this paint."""
N_MEAN_FIELD_ROUNDS = 5
"""Number of mean-field iterations."""
MIN_SAME_NEIGHBOUR_FRACTION = 0.4
"""Minimum fraction of a paint's neighbouring pixels that belong to the same paint. Paints with a smaller fraction are
edges between paints."""
MIN_PIXELS = 9
"""Minimum number of pixels of a paint."""
MIN_PROBABILITY = 0.5
"""Minimum probability at which a pixel belongs to a paint."""
OUTLIER_PIXEL_FRACTION = 0.001
"""Quantile of the mixture's density over the sampled pixels. Pixels below this density belong to no paint."""
_BATCH_PIXELS = 65536


@one_blas_thread()  # threads slow down the small matrices
def find_paints(results: Results, *, seed: int = 0) -> Results:
    """Return a map of the paints of a scan, and a description of each paint.

    The net counts of the line families are scaled so that counting noise and the variation within a paint have unit
    variance. The likelihood of held-out pixels determines the number of components of a Gaussian mixture. Components
    that overlap (Hennig 2010, Advances in Data Analysis and Classification 4, 3) or are spatially interleaved are
    merged into one paint. Neighbouring pixels increase the probability of their paint (mean field of a Markov random
    field; Zhang, Brady & Smith 2001, IEEE Transactions on Medical Imaging 20, 45). Scatter is not used, since it
    depends on the support and the relief.

    Parameters
    ----------
    results : Results
        Results with elements. If the results include pigments, each paint lists its groups.
    seed : int
        Seed of the sample and of the initial mixture.

    Raises
    ------
    ScanError
        The results have no elements, or no line is significant.
    """
    if not results.has_elements:
        raise ScanError(
            "Cannot find paints: these results contain no elements, by which pixels are compared. Run `underpaint "
            "identify` without --no-elements, or `underpaint elements`."
        )
    families, scaled_areas, has_answer = comparable_areas(results)
    if not families or not has_answer.any():
        raise ScanError(
            f"Cannot find paints: no line exceeds {MIN_LINE_SIGMAS:g} standard deviations in "
            f"{100 * MIN_LINE_FRACTION:g} % of the {has_answer.sum()} pixels with an answer. Scan longer, or sum "
            "pixels."
        )
    paint_map = np.full(has_answer.shape, NO_ANSWER, dtype=np.uint8)
    paint_map[has_answer] = _paint_labels(scaled_areas, has_answer, seed)[has_answer]
    areas = tuple(
        _paint_area(results, paint_map, paint_number, families) for paint_number in range(1, _max_label(paint_map) + 1)
    )
    settings = {
        "lines": list(families),
        "variation": RELATIVE_LINE_VARIATION,
        "overlap": MIN_COMPONENT_OVERLAP,
        "seed": seed,
    }
    return Results.of_paints(paint_map, areas, step_mm=results.step_mm, settings=settings)


def _max_label(paint_map: NDArray[np.uint8]) -> int:
    return int(paint_map[paint_map != NO_ANSWER].max(initial=MIXED))


# --- scaled line intensities ------------------------------------------------------------------------------


def comparable_areas(results: Results) -> tuple[tuple[str, ...], NDArray[np.float32], NDArray[np.bool_]]:
    """Return line families, (n_row, n_column, n) areas scaled to unit noise, and a mask of pixels with areas."""
    has_answer = np.logical_and.reduce([np.isfinite(results[family]) for family in results.lines])
    families, scaled_images = [], []
    for family in results.lines:
        area, area_sigma = results[family], results.map("area_sigma", family)
        is_significant = (area > MIN_LINE_SIGMAS * area_sigma)[has_answer]
        if family not in EXCLUDED_FAMILIES and has_answer.any() and is_significant.mean() >= MIN_LINE_FRACTION:
            families.append(family)
            scaled_images.append(stabilised_areas(area, area_sigma, has_answer))
    return (
        tuple(families),
        np.stack(scaled_images, axis=2) if scaled_images else np.empty((*has_answer.shape, 0), np.float32),
        has_answer,
    )


def stabilised_areas(
    area: NDArray[np.float32], sigma: NDArray[np.float32], has_answer: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Return areas on a scale on which counting noise and the variation within a paint have unit variance.

    The variance of an area a is c0 + c1 a from counting and overlapping lines, plus (v a)^2 from variation within a
    paint. The scaled area is the integral of 1 / sqrt(variance) (Bartlett 1947, Biometrics 3, 39).
    """
    clipped_area = np.maximum(area[has_answer], 0.0).astype(np.float64)
    variance = sigma[has_answer].astype(np.float64) ** 2
    sample_slice = slice(None, None, max(clipped_area.size // N_SAMPLE_PIXELS, 1))
    sampled_area, sampled_variance = clipped_area[sample_slice], np.maximum(variance[sample_slice], 1e-9)
    constant_variance, variance_per_count = nnls(
        np.stack([1.0 / sampled_variance, sampled_area / sampled_variance], axis=1), np.ones(sampled_area.size)
    )[0]
    constant_variance, variance_per_count = (
        max(constant_variance, float(np.quantile(sampled_variance, 0.02))),
        max(variance_per_count, 1.0),
    )
    relative_variation = RELATIVE_LINE_VARIATION
    scaled_area = (
        np.log(
            2.0
            * relative_variation
            * np.sqrt(constant_variance + variance_per_count * clipped_area + (relative_variation * clipped_area) ** 2)
            + 2.0 * relative_variation**2 * clipped_area
            + variance_per_count
        )
        / relative_variation
    )
    negative_areas = np.minimum(area[has_answer], 0.0) / np.sqrt(constant_variance)  # fitted areas may be negative
    stabilised_area = np.zeros(area.shape, np.float32)
    stabilised_area[has_answer] = scaled_area + negative_areas
    return stabilised_area


# --- paints -----------------------------------------------------------------------------------------------


def _paint_labels(scaled_areas: NDArray[np.float32], has_answer: NDArray[np.bool_], seed: int) -> NDArray[np.uint8]:
    """Return the (n_row, n_column) numbers of the paints by decreasing size, or :data:`MIXED` without a paint."""
    rng = np.random.default_rng(seed)
    pixel_areas = scaled_areas[has_answer]
    sampled_areas = pixel_areas[rng.permutation(len(pixel_areas))[:N_SAMPLE_PIXELS]].astype(np.float64)
    mixture = _best_mixture(sampled_areas, seed)
    paint_of_component = _merged_components(mixture.predict_proba(sampled_areas))
    min_log_density = float(np.quantile(mixture.score_samples(sampled_areas), OUTLIER_PIXEL_FRACTION))
    paint_probability = np.zeros((*has_answer.shape, int(paint_of_component.max()) + 1), np.float32)
    paint_probability[has_answer], is_outlier_pixel = _paint_probabilities(
        mixture, paint_of_component, pixel_areas, min_log_density
    )
    smoothed_probability = _smoothed_by_neighbours(paint_probability)
    merged_paints = _merged_interleaved(
        np.where(has_answer, smoothed_probability.argmax(axis=2), -1), paint_probability.shape[2]
    )
    if merged_paints.max() + 1 < paint_probability.shape[2]:
        smoothed_probability = _smoothed_by_neighbours(paint_probability @ _membership(merged_paints))
    paint_map = np.where(
        smoothed_probability.max(axis=2) >= MIN_PROBABILITY, smoothed_probability.argmax(axis=2) + 1, MIXED
    )
    is_outlier = np.zeros(has_answer.shape, bool)
    is_outlier[has_answer] = is_outlier_pixel
    paint_map[is_outlier | ~has_answer] = MIXED
    return _renumbered(paint_map)


def _best_mixture(sampled_areas: FloatArray, seed: int) -> "GaussianMixture":
    """Return the Gaussian mixture whose number of components maximises the likelihood of held-out pixels.

    The mixture is fitted to one half of the sample, and then refined with the whole sample.
    """
    if len(sampled_areas) < 2:
        return _fit_mixture(np.repeat(sampled_areas, 2, axis=0), 1, seed)
    max_components = max(len(sampled_areas) // (2 * MIN_PIXELS_PER_LINE * sampled_areas.shape[1]), 1)
    mixtures = [
        _fit_mixture(sampled_areas[::2], n_components, seed)
        for n_components in TESTED_COMPONENT_NUMBERS
        if n_components <= max_components
    ]
    best_mixture = max(mixtures, key=lambda mixture: mixture.score(sampled_areas[1::2]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a mixture that has not converged is accurate enough
        return best_mixture.fit(sampled_areas)


def _fit_mixture(sampled_areas: FloatArray, n_components: int, seed: int) -> "GaussianMixture":
    from sklearn.mixture import GaussianMixture  # the import takes three quarters of a second

    mixture = GaussianMixture(
        min(n_components, len(sampled_areas)),
        reg_covar=1.0,  # a component is at least as wide as the noise
        max_iter=100,
        tol=1e-2,
        init_params="k-means++",
        random_state=seed,
        warm_start=True,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a mixture that has not converged has a low likelihood
        return mixture.fit(sampled_areas)


def _merged_components(component_probability: FloatArray) -> NDArray[np.int64]:
    """Return the (n_component,) paint of each component, after merging of components with overlapping probabilities."""
    paint_of_component = np.arange(component_probability.shape[1])
    while component_probability.shape[1] > 1:
        is_likeliest = np.eye(component_probability.shape[1])[component_probability.argmax(axis=1)]
        overlap_fraction = (component_probability.T @ is_likeliest) / np.maximum(
            component_probability.sum(axis=0), 1e-9
        )[:, None]
        np.fill_diagonal(overlap_fraction, 0.0)
        kept_component, merged_component = sorted(
            np.unravel_index(int(overlap_fraction.argmax()), overlap_fraction.shape)
        )
        if overlap_fraction.max() < MIN_COMPONENT_OVERLAP:
            break
        component_probability[:, kept_component] += component_probability[:, merged_component]
        component_probability = np.delete(component_probability, merged_component, axis=1)
        paint_of_component[paint_of_component == merged_component] = kept_component
        paint_of_component[paint_of_component > merged_component] -= 1
    return paint_of_component


def _merged_interleaved(paint_map: NDArray[np.int64], n_paint: int) -> NDArray[np.int64]:
    """Return the (n_paint,) new number of each paint, after merging of paints whose pixels are interleaved at random.

    A mixture can describe the noise of one paint by two components. Pixels of the two components are then neighbours
    everywhere, while pixels of two paints are neighbours only along the border.

    Parameters
    ----------
    paint_map : (n_row, n_column) int array
        Paint of each pixel, counted from 0, or -1 for pixels without a paint.
    n_paint : int
        Number of paints before the merging.
    """
    n_neighbours = np.zeros((n_paint, n_paint))
    for first_paints, second_paints in (
        (paint_map[:, :-1], paint_map[:, 1:]),
        (paint_map[:-1], paint_map[1:]),
        (paint_map[:-1, :-1], paint_map[1:, 1:]),
        (paint_map[:-1, 1:], paint_map[1:, :-1]),
    ):
        is_paint_pair = (first_paints >= 0) & (second_paints >= 0)
        pair_counts = np.bincount(
            first_paints[is_paint_pair] * n_paint + second_paints[is_paint_pair], minlength=n_paint**2
        ).reshape(n_paint, n_paint)
        n_neighbours += pair_counts + pair_counts.T
    merged_paints = np.arange(n_paint)
    while True:
        neighbour_fraction = n_neighbours / np.maximum(n_neighbours.sum(axis=1), 1.0)[:, None]
        same_paint_fraction = np.diag(neighbour_fraction)
        is_interleaved = (
            neighbour_fraction * neighbour_fraction.T
            >= MIN_NEIGHBOUR_PRODUCT_RATIO * same_paint_fraction * same_paint_fraction[:, None]
        )
        mutual_fraction = np.where(is_interleaved, np.minimum(neighbour_fraction, neighbour_fraction.T), 0.0)
        np.fill_diagonal(mutual_fraction, 0.0)
        if mutual_fraction.max() < MIN_MUTUAL_NEIGHBOUR_FRACTION:
            return np.asarray(np.unique(merged_paints, return_inverse=True)[1])
        kept_index, merged_index = np.unravel_index(int(mutual_fraction.argmax()), mutual_fraction.shape)
        n_neighbours[kept_index] += n_neighbours[merged_index]
        n_neighbours[:, kept_index] += n_neighbours[:, merged_index]
        n_neighbours[merged_index], n_neighbours[:, merged_index] = 0.0, 0.0
        merged_paints[merged_paints == merged_index] = kept_index


def _membership(paint_numbers: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return an (n, n_paint) matrix, 1 in the column of each pixel's paint and 0 in other columns."""
    return np.eye(int(paint_numbers.max()) + 1, dtype=np.float32)[paint_numbers]


def _paint_probabilities(
    mixture: "GaussianMixture",
    paint_of_component: NDArray[np.int64],
    pixel_areas: NDArray[np.float32],
    min_log_density: float,
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return (n, n_paint) probabilities, and a boolean (n,) array, true for pixels with a density below the minimum."""
    membership = _membership(paint_of_component)
    paint_probabilities, is_outlier = [], []
    for batch_start in range(0, len(pixel_areas), _BATCH_PIXELS):
        log_density = _log_densities(mixture, pixel_areas[batch_start : batch_start + _BATCH_PIXELS])
        log_total_density = logsumexp(log_density, axis=1, keepdims=True)
        paint_probabilities.append(np.exp(log_density - log_total_density) @ membership)
        is_outlier.append(log_total_density[:, 0] < min_log_density)
    return np.concatenate(paint_probabilities), np.concatenate(is_outlier)


def _log_densities(mixture: "GaussianMixture", pixel_areas: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return (n, n_component) logarithms of the weighted densities, in single precision for speed."""
    n_line = pixel_areas.shape[1]
    log_density = np.empty((len(pixel_areas), len(mixture.weights_)), np.float32)
    for component_index, (component_weight, component_mean, precision_root) in enumerate(
        zip(mixture.weights_, mixture.means_, mixture.precisions_cholesky_, strict=True)
    ):
        squared_distance = (
            ((pixel_areas - component_mean.astype(np.float32)) @ precision_root.astype(np.float32)) ** 2
        ).sum(axis=1)
        log_norm = np.log(component_weight) + np.log(np.diag(precision_root)).sum() - 0.5 * n_line * np.log(2.0 * np.pi)
        log_density[:, component_index] = np.float32(log_norm) - np.float32(0.5) * squared_distance
    return log_density


def _smoothed_by_neighbours(paint_probability: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return (n_row, n_column, n_paint) probabilities after mean-field iterations with the neighbouring pixels."""
    log_probability = np.log(np.maximum(paint_probability, 1e-30))
    for _ in range(N_MEAN_FIELD_ROUNDS):
        neighbour_odds = np.stack(
            [
                convolve(paint_probability[:, :, paint], NEIGHBOUR_WEIGHTS, mode="constant")
                for paint in range(paint_probability.shape[2])
            ],
            2,
        )
        log_odds = log_probability + neighbour_odds
        log_odds -= log_odds.max(axis=2, keepdims=True)
        paint_probability = np.exp(log_odds)
        paint_probability /= paint_probability.sum(axis=2, keepdims=True)
    return paint_probability


def _renumbered(paint_map: NDArray[Any]) -> NDArray[np.uint8]:
    """Return paints numbered from 1 by decreasing area, without edges between paints and without small paints."""
    paint_sizes: dict[int, int] = {}
    is_neighbour = (NEIGHBOUR_WEIGHTS > 0).astype(float)
    n_neighbours = convolve(np.ones(paint_map.shape), is_neighbour, mode="constant")
    for paint_number in np.unique(paint_map[paint_map != MIXED]):
        paint_mask = paint_map == paint_number
        n_same_neighbours = convolve(paint_mask.astype(float), is_neighbour, mode="constant")[paint_mask].sum()
        same_paint_fraction = n_same_neighbours / max(n_neighbours[paint_mask].sum(), 1.0)
        if paint_mask.sum() >= min(MIN_PIXELS, paint_map.size) and (
            same_paint_fraction >= MIN_SAME_NEIGHBOUR_FRACTION or paint_map.size < MIN_PIXELS
        ):
            paint_sizes[int(paint_number)] = int(paint_mask.sum())
    ranked_paints = sorted(paint_sizes, key=lambda paint_number: -paint_sizes[paint_number])[: NO_ANSWER - 1]
    new_paint_numbers = np.full(int(paint_map.max(initial=0)) + 1, MIXED, np.uint8)
    for paint_rank, paint_number in enumerate(ranked_paints, start=1):
        new_paint_numbers[paint_number] = paint_rank
    return np.asarray(new_paint_numbers[paint_map])


# --- description of each paint ----------------------------------------------------------------------------


def _paint_area(
    results: Results, paint_map: NDArray[np.uint8], paint_number: int, families: Sequence[str]
) -> PaintArea:
    paint_mask = paint_map == paint_number
    n_pixel, n_answered_pixels = int(paint_mask.sum()), int((paint_map != NO_ANSWER).sum())
    step_mm = results.step_mm
    return PaintArea(
        paint_number,
        n_pixel,
        n_pixel / max(n_answered_pixels, 1),
        None if step_mm is None else float(n_pixel * step_mm[0] * step_mm[1]),
        _present_groups(results, paint_mask),
        {name: float(np.median(results[name][paint_mask])) for name in families},
    )


def _present_groups(results: Results, paint_mask: NDArray[np.bool_]) -> dict[str, int]:
    """Return the state of each group that is present in more than half of a paint's pixels with an answer."""
    groups: dict[str, int] = {}
    for (name,) in results.stacks["state"].keys if "state" in results.stacks else ():
        n_pixel_by_state = np.bincount(results.map("state", name)[paint_mask], minlength=NO_ANSWER + 1)
        n_present_pixels = {state: int(n_pixel_by_state[state]) for state in (PIGMENT, PRESENT, TRACE)}
        if 2 * sum(n_present_pixels.values()) > int(n_pixel_by_state[:NO_ANSWER].sum()):
            groups[name] = max(n_present_pixels, key=lambda state: n_present_pixels[state])
    return groups
