"""Which pixels are of one paint: a mixture of the maps' values, whose number of parts held-out pixels choose."""

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
"""A family takes part if it exceeds so many standard deviations in this share of the pixels."""
EXCLUDED_FAMILIES = ("Ar_K",)
"""Families of the air."""
VARIATION = 0.03
"""Relative variation of a line that counts as much as one standard deviation: no painter mixes more evenly."""
N_SAMPLE_PIXELS = 8000
"""Pixels from which the mixture learns."""
N_PARTS_TRIED = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48)
"""Numbers of parts that are tried."""
MIN_PIXELS_PER_QUANTITY = 2
"""Pixels of a part for each quantity, at least."""
MIN_OVERLAP = 0.03
"""Share of a part's probability on pixels of another part from which both are one paint."""
NEIGHBOURS = np.asarray([[0.7, 1.0, 0.7], [1.0, 0.0, 1.0], [0.7, 1.0, 0.7]])
"""Weights of the pixels around one, as its logarithmic odds of being of their paint."""
ROUNDS = 5
MIN_NEIGHBOUR_FRACTION = 0.4
"""Share of a paint's neighbours that are of it: below, it is an edge between others."""
MIN_PIXELS = 9
MIN_PROBABILITY = 0.5
OUTLIER_FRACTION = 0.001
"""Pixels whose values are rarer than those of this share of the sample are of no paint."""
_BATCH_PIXELS = 65536


@one_blas_thread()  # the matrices are small
def find_paints(results: Results, *, seed: int = 0) -> Results:
    """Return the paints of a scan: a map of their numbers, and what each holds.

    Net counts of the line families are made comparable by counting noise and a paint's usual variation; a Gaussian
    mixture describes the pixels, with so many parts as the likelihood of held-out pixels calls for; parts whose pixels
    are confused are one paint (Hennig 2010, Adv. Data Anal. Classif. 4, 3); neighbours draw a pixel to their
    paint (mean field of a Markov random field; Zhang et al. 2001, IEEE Trans. Med. Imaging 20, 45). Scatter takes no
    part: it shows the support and the relief.

    Parameters
    ----------
    results : Results
        With elements; where pigments were identified, each paint gets its groups.
    seed : int
        Of the sample, and of the mixture's start.

    Raises
    ------
    ScanError
        There are no elements, or no line stands out.
    """
    if not results.has_elements:
        raise ScanError(
            "Cannot find paints: these results hold no elements, by which pixels are compared. Run `underpaint "
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


# --- what is compared -------------------------------------------------------------------------------------


def comparable(results: Results) -> tuple[tuple[str, ...], NDArray[np.float32], NDArray[np.bool_]]:
    """Return line families, (n_row, n_column, n) values with even noise of about one, and where there are any."""
    has_answer = np.logical_and.reduce([np.isfinite(results[name]) for name in results.lines])
    names, images = [], []
    for name in results.lines:
        area, sigma = results[name], results.map("area_sigma", name)
        stands_out = (area > MIN_LINE_SIGMAS * sigma)[has_answer]
        if name not in EXCLUDED_FAMILIES and has_answer.any() and stands_out.mean() >= MIN_LINE_FRACTION:
            names.append(name)
            images.append(stabilised(area, sigma, has_answer))
    return (
        tuple(names),
        np.stack(images, axis=2) if images else np.empty((*has_answer.shape, 0), np.float32),
        has_answer,
    )


def stabilised(area: NDArray[np.float32], sigma: NDArray[np.float32], known: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return areas on a scale on which counting noise and :data:`VARIATION` of a paint are one.

    The variance of an area a is c0 + c1 a of counting and of the lines around, and (v a)^2 of the paint; the scale is
    the integral of its inverse root (Bartlett 1947, Biometrics 3, 39).
    """
    clipped_area, variance = np.maximum(area[known], 0.0).astype(np.float64), sigma[known].astype(np.float64) ** 2
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
    negative_part = np.minimum(area[known], 0.0) / np.sqrt(floor)  # a fit may give less than nothing
    values = np.zeros(area.shape, np.float32)
    values[known] = scaled + negative_part
    return values


# --- paints -----------------------------------------------------------------------------------------------


def _paint_labels(values: NDArray[np.float32], known: NDArray[np.bool_], seed: int) -> NDArray[np.uint8]:
    """Return the (n_row, n_column) numbers of the paints, the largest first; :data:`MIXED` where there is none."""
    rng = np.random.default_rng(seed)
    pixels = values[known]
    sample = pixels[rng.permutation(len(pixels))[:N_SAMPLE_PIXELS]]
    mixture = _best_mixture(sample, seed)
    paint_of_component = _merged_components(mixture.predict_proba(sample))
    rarest = float(np.quantile(mixture.score_samples(sample), OUTLIER_FRACTION))
    probability = np.zeros((*known.shape, int(paint_of_component.max()) + 1), np.float32)
    probability[known], is_outlier = _paint_probabilities(mixture, paint_of_component, pixels, rarest)
    probability = _drawn_together(probability)
    label = np.where(probability.max(axis=2) >= MIN_PROBABILITY, probability.argmax(axis=2) + 1, MIXED)
    is_unlike = np.zeros(known.shape, bool)
    is_unlike[known] = is_outlier
    label[is_unlike | ~known] = MIXED
    return _renumbered(label)


def _best_mixture(sample: NDArray[np.float32], seed: int) -> "GaussianMixture":
    """Fit a mixture whose number of parts describes held-out pixels best."""
    best_n_components, best_score = 1, -np.inf
    for n_components in N_PARTS_TRIED:
        if n_components > 1 and len(sample) < 2 * MIN_PIXELS_PER_QUANTITY * sample.shape[1] * n_components:
            break
        likelihood = _fit_mixture(sample[::2], n_components, 1, seed).score(sample[1::2]) if len(sample) > 1 else 0.0
        if likelihood > best_score:
            best_n_components, best_score = n_components, likelihood
    return _fit_mixture(sample, best_n_components, 2, seed)


def _fit_mixture(sample: NDArray[np.float32], number: int, starts: int, seed: int) -> "GaussianMixture":
    from sklearn.mixture import GaussianMixture  # a quarter of a second to import

    mixture = GaussianMixture(
        min(number, len(sample)),
        reg_covar=1.0,  # the noise of the values: no part is narrower
        max_iter=100,
        tol=1e-2,
        n_init=starts,
        init_params="k-means++",
        random_state=seed,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a start that has not converged is one of several
        return mixture.fit(sample if len(sample) > 1 else np.repeat(sample, 2, axis=0))


def _merged_components(probability: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return the (n_part,) numbers of the paints that (n, n_part) probabilities of parts cannot tell apart."""
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


def _paint_probabilities(
    mixture: "GaussianMixture", joined: NDArray[np.int64], pixels: NDArray[np.float32], rarest: float
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return (n, n_paint) probabilities, and which pixels are rarer than any paint."""
    member = np.eye(int(joined.max()) + 1, dtype=np.float32)[joined]
    parts, rare = [], []
    for start in range(0, len(pixels), _BATCH_PIXELS):
        logs = _log_densities(mixture, pixels[start : start + _BATCH_PIXELS])
        total = logsumexp(logs, axis=1, keepdims=True)
        parts.append(np.exp(logs - total) @ member)
        rare.append(total[:, 0] < rarest)
    return np.concatenate(parts), np.concatenate(rare)


def _log_densities(mixture: "GaussianMixture", pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return (n, n_part) logarithms of each part's weighted density, in single precision: twice as fast."""
    size = pixels.shape[1]
    logs = np.empty((len(pixels), len(mixture.weights_)), np.float32)
    for part, (weight, mean, root) in enumerate(
        zip(mixture.weights_, mixture.means_, mixture.precisions_cholesky_, strict=True)
    ):
        squares = (((pixels - mean.astype(np.float32)) @ root.astype(np.float32)) ** 2).sum(axis=1)
        level = np.log(weight) + np.log(np.diag(root)).sum() - 0.5 * size * np.log(2.0 * np.pi)
        logs[:, part] = np.float32(level) - np.float32(0.5) * squares
    return logs


def _drawn_together(chance: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return (n_row, n_column, n_paint) probabilities that those of the neighbours raise."""
    evidence = np.log(np.maximum(chance, 1e-30))
    for _ in range(ROUNDS):
        around = np.stack(
            [convolve(chance[:, :, each], NEIGHBOURS, mode="constant") for each in range(chance.shape[2])], 2
        )
        odds = evidence + around
        odds -= odds.max(axis=2, keepdims=True)
        chance = np.exp(odds)
        chance /= chance.sum(axis=2, keepdims=True)
    return chance


def _renumbered(label: NDArray[Any]) -> NDArray[np.uint8]:
    """Return paints from 1 by falling area, without those that are but edges of others or a few pixels."""
    sizes: dict[int, int] = {}
    everywhere = (NEIGHBOURS > 0).astype(float)
    room = convolve(np.ones(label.shape), everywhere, mode="constant")
    for each in np.unique(label[label != MIXED]):
        mask = label == each
        coherence = convolve(mask.astype(float), everywhere, mode="constant")[mask].sum() / max(room[mask].sum(), 1.0)
        if mask.sum() >= min(MIN_PIXELS, label.size) and (
            coherence >= MIN_NEIGHBOUR_FRACTION or label.size < MIN_PIXELS
        ):
            sizes[int(each)] = int(mask.sum())
    order = sorted(sizes, key=lambda each: -sizes[each])[: NO_ANSWER - 1]
    table = np.full(int(label.max(initial=0)) + 1, MIXED, np.uint8)
    for number, each in enumerate(order, start=1):
        table[each] = number
    return np.asarray(table[label])


# --- what each holds --------------------------------------------------------------------------------------


def _paint_area(results: Results, label: NDArray[np.uint8], number: int, names: Sequence[str]) -> PaintArea:
    mask = label == number
    n_pixel, n_known = int(mask.sum()), int((label != NO_ANSWER).sum())
    step = results.step_mm
    return PaintArea(
        number,
        n_pixel,
        n_pixel / max(n_known, 1),
        None if step is None else float(n_pixel * step[0] * step[1]),
        _groups(results, mask),
        {name: float(np.median(results[name][mask])) for name in names},
    )


def _groups(results: Results, mask: NDArray[np.bool_]) -> dict[str, int]:
    """Return the groups that are present in more than half of a paint's answered pixels, with their usual answer."""
    groups: dict[str, int] = {}
    for (name,) in results.stacks["state"].keys if "state" in results.stacks else ():
        number = np.bincount(results.map("state", name)[mask], minlength=NO_ANSWER + 1)
        present = {state: int(number[state]) for state in (PIGMENT, PRESENT, TRACE)}
        if 2 * sum(present.values()) > int(number[:NO_ANSWER].sum()):
            groups[name] = max(present, key=lambda state: present[state])
    return groups
