"""Answers to requests for components, clusters, correlations and an embedding of the pixels.

scikit-learn is imported on first use, because its import takes a second.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from underpaint.display.viewer.open_results import ResultRequests, Routes, entry_facts
from underpaint.display.viewer.scan_source import READY
from underpaint.display.viewer.server import Answer, Request, json_answer
from underpaint.display.viewer.windows import fits_memory
from underpaint.errors import ScanError
from underpaint.io.results.result_maps import ResultMaps, computed_entry
from underpaint.runtime.threads import one_blas_thread

FloatArray = NDArray[np.float32]
MAX_COMPONENTS = 12
MAX_CLUSTERS = 12
MAX_LANDMARKS = 2500
"""Maximum number of landmarks: pixels that t-SNE arranges. The remaining pixels are interpolated."""
_MAX_FIT_PIXELS = 20_000
_MAX_CORRELATION_PIXELS = 200_000
_MAX_SPECTRUM_BINS = 256
_N_NEIGHBOURS = 5
_CERTAIN_SIGMA = 5.0
_MIN_PIXEL_FRACTION = 0.01
_SEED = 1
_TSNE_ITERATIONS, _TSNE_ANGLE = 300, 0.8


@dataclass(frozen=True)
class DetectedLines:
    """Net counts of the detected lines.

    Parameters
    ----------
    names : list of str
        Line families, the strongest first.
    numbers : list of int
        Indices of the maps of the line families.
    counts : (n_pixel, n_line) array
        Net counts in the pixels with an answer. Negative values are replaced by zero.
    has_answer : (n_row, n_column) bool array
        Pixels with an answer for all lines.
    """

    names: list[str]
    numbers: list[int]
    counts: FloatArray
    has_answer: NDArray[np.bool_]

    @property
    def scaled_counts(self) -> FloatArray:
        """(n_pixel, n_line) square roots of counts minus their mean, so that all lines have the same counting noise."""
        square_roots = np.sqrt(self.counts)
        return np.asarray(square_roots - square_roots.mean(axis=0), dtype=np.float32)

    def to_map(self, values: NDArray[Any]) -> FloatArray:
        """Return (n_pixel,) values as an (n_row, n_column) map; NaN means no answer."""
        image = np.full(self.has_answer.shape, np.nan, dtype=np.float32)
        image[self.has_answer] = values
        return image


def detected_lines(maps: ResultMaps) -> DetectedLines:
    """Return the lines that exceed five standard deviations in at least 1 % of the pixels.

    Raises
    ------
    ScanError
        Fewer than two lines are detected, or fewer than ten pixels have an answer.
    """
    candidate_lines = []
    for number, entry in enumerate(maps.entries):
        if entry.kind == "element":
            area, errors = maps.values(number), maps.errors(number)
            is_finite = np.isfinite(area)
            is_certain = is_finite & (area > (0 if errors is None else _CERTAIN_SIGMA * errors))
            if is_certain.sum() > _MIN_PIXEL_FRACTION * max(int(is_finite.sum()), 1):
                candidate_lines.append((float(np.nansum(area, dtype=np.float64)), entry.name, number))
    candidate_lines.sort(reverse=True)
    numbers = [number for _, _, number in candidate_lines]
    if len(numbers) < 2:
        raise ScanError(
            f"Cannot group the pixels: {len(numbers)} lines are detected in one pixel of a hundred, two are needed. "
            "Look at single maps instead."
        )
    has_all_values = np.asarray(np.isfinite(np.stack([maps.values(number) for number in numbers])).all(axis=0))
    if has_all_values.sum() < 10:
        raise ScanError(f"Cannot group the pixels: {int(has_all_values.sum())} of them have an answer, ten are needed.")
    counts = np.stack([np.maximum(maps.values(number)[has_all_values], 0.0) for number in numbers], axis=1)
    return DetectedLines([name for _, name, _ in candidate_lines], numbers, counts, has_all_values)


@dataclass(frozen=True)
class Components:
    """Components that non-negative matrix factorisation finds in the spectra of all pixels.

    Parameters
    ----------
    maps : list of (n_row, n_column) arrays
        Map of the counts of each component, the component with the most counts first.
    spectra : (n_component, n_channel) array or None
        Counts of each component in the mean spectrum; None if line maps were factorised.
    shares : (n_component,) array
        Fraction of all counts in each component.
    strongest_lines : list of list of (str, float)
        Strongest lines of each component, each with its fraction of the component's counts; empty if spectra were
        factorised.
    """

    maps: list[FloatArray]
    spectra: NDArray[np.float64] | None
    shares: NDArray[np.float64]
    strongest_lines: list[list[tuple[str, float]]]


def components(lines: DetectedLines, n: int, counts: Any = None) -> Components:
    """Factorise the spectra, or the line maps if no spectra are given.

    Parameters
    ----------
    lines : DetectedLines
    n : int
        Number of components.
    counts : (n_channel, n_row, n_column) array or None
        Counts of the spectra. If None, the line maps are factorised.
    """
    from sklearn.decomposition import NMF

    if counts is None:
        measured_counts, bin_width = lines.counts, 1
    else:
        bin_width = -(-counts.shape[0] // _MAX_SPECTRUM_BINS)
        bin_starts = np.arange(0, counts.shape[0], bin_width)
        measured_counts = np.add.reduceat(
            np.asarray(counts[:, lines.has_answer], dtype=np.float32), bin_starts, axis=0
        ).T
    n = max(2, min(n, MAX_COMPONENTS, measured_counts.shape[1], measured_counts.shape[0]))
    # Division by this scale equalises the counting noise of the channels (Keenan and Kotula 2004).
    noise_scale = np.sqrt(np.maximum(measured_counts.mean(axis=0), 1e-6))
    scaled_counts = np.maximum(measured_counts, 0.0) / noise_scale
    nmf = NMF(n, init="nndsvda", max_iter=200, tol=2e-3, random_state=_SEED)
    sample_rows = _sample_rows(len(scaled_counts), _MAX_FIT_PIXELS)
    nmf.fit(scaled_counts[sample_rows])
    component_weights = nmf.transform(scaled_counts)
    component_spectra = nmf.components_ * noise_scale
    component_totals = component_spectra.sum(axis=1)
    pixel_counts = component_weights * component_totals
    component_order = np.argsort(-pixel_counts.sum(axis=0))
    shares = pixel_counts.sum(axis=0) / max(float(pixel_counts.sum()), 1e-9)
    component_maps = [lines.to_map(pixel_counts[:, index]) for index in component_order]
    if counts is None:
        strongest_lines = [
            _strongest_lines(lines.names, component_spectra[index] / max(component_totals[index], 1e-9))
            for index in component_order
        ]
        return Components(component_maps, None, shares[component_order], strongest_lines)
    mean_spectra = component_weights.mean(axis=0)[:, None] * component_spectra
    spectra = np.repeat(mean_spectra / bin_width, bin_width, axis=1)[:, : counts.shape[0]]
    return Components(component_maps, spectra[component_order], shares[component_order], [[] for _ in component_order])


@dataclass(frozen=True)
class Clusters:
    """Clusters of pixels with similar line counts.

    Parameters
    ----------
    cluster_map : (n_row, n_column) array
        Number of each pixel's cluster; 1 is the largest cluster, and NaN means no answer.
    shares : (n_cluster,) array
        Fraction of the pixels in each cluster.
    strongest_lines : list of list of (str, float)
        Lines whose mean counts in a cluster exceed their mean counts over all pixels, each with the ratio of these
        means.
    """

    cluster_map: FloatArray
    shares: NDArray[np.float64]
    strongest_lines: list[list[tuple[str, float]]]


def clusters(lines: DetectedLines, n: int) -> Clusters:
    """Cluster the pixels by k-means of the square roots of net counts."""
    from sklearn.cluster import KMeans

    scaled_counts = lines.scaled_counts
    n = max(2, min(n, MAX_CLUSTERS, len(scaled_counts)))
    kmeans = KMeans(n, n_init=3, random_state=_SEED).fit(
        scaled_counts[_sample_rows(len(scaled_counts), _MAX_FIT_PIXELS)]
    )
    cluster_index = kmeans.predict(scaled_counts)
    cluster_sizes = np.bincount(cluster_index, minlength=n)
    cluster_rank = np.empty(n, dtype=np.int64)
    cluster_rank[np.argsort(-cluster_sizes)] = np.arange(n)
    cluster_index = cluster_rank[cluster_index]
    mean_counts = np.maximum(lines.counts.mean(axis=0), 1e-6)
    strongest_lines = []
    for number in range(int(np.count_nonzero(cluster_sizes))):
        count_ratio = lines.counts[cluster_index == number].mean(axis=0) / mean_counts
        strongest_indices = np.argsort(-count_ratio)[:3]
        strongest_lines.append(
            [(lines.names[index], float(count_ratio[index])) for index in strongest_indices if count_ratio[index] > 1.1]
        )
    return Clusters(lines.to_map(cluster_index + 1), np.sort(cluster_sizes)[::-1] / len(cluster_index), strongest_lines)


def embedding(lines: DetectedLines) -> FloatArray:
    """Return (n_row, n_column, 2) coordinates from -1 to 1. Similar pixels have close coordinates. NaN means no answer.

    t-SNE arranges the landmarks. The remaining pixels get the weighted mean coordinates of their nearest landmarks.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE
    from sklearn.neighbors import NearestNeighbors

    scaled_counts = lines.scaled_counts
    with one_blas_thread():  # more threads would mostly wait for each other
        scaled_counts = PCA(min(10, *scaled_counts.shape), random_state=_SEED).fit_transform(scaled_counts)
        landmark_rows = _sample_rows(len(scaled_counts), MAX_LANDMARKS)
        perplexity = min(30.0, max(2.0, (len(landmark_rows) - 1) / 4))
        tsne = TSNE(
            2, perplexity=perplexity, init="pca", max_iter=_TSNE_ITERATIONS, angle=_TSNE_ANGLE, random_state=_SEED
        )
        landmark_coordinates = tsne.fit_transform(scaled_counts[landmark_rows])
    if len(landmark_rows) == len(scaled_counts):
        coordinates = landmark_coordinates
    else:
        neighbours = NearestNeighbors(n_neighbors=_N_NEIGHBOURS).fit(scaled_counts[landmark_rows])
        distances, neighbour_indices = neighbours.kneighbors(scaled_counts)
        landmark_weights = 1.0 / np.maximum(distances, 1e-3) ** 2
        coordinates = (landmark_coordinates[neighbour_indices] * landmark_weights[:, :, None]).sum(
            axis=1
        ) / landmark_weights.sum(axis=1)[:, None]
    min_coordinates, max_coordinates = coordinates.min(axis=0), coordinates.max(axis=0)
    coordinate_map = np.full((*lines.has_answer.shape, 2), np.nan, dtype=np.float32)
    coordinate_map[lines.has_answer] = (
        2 * (coordinates - min_coordinates) / np.maximum(max_coordinates - min_coordinates, 1e-9) - 1
    )
    return coordinate_map


def correlation(lines: DetectedLines) -> NDArray[np.float64]:
    """Return the (n_line, n_line) Pearson correlation coefficients of net counts over the pixels."""
    sample_rows = _sample_rows(len(lines.counts), _MAX_CORRELATION_PIXELS)
    with np.errstate(invalid="ignore"):
        coefficients = np.corrcoef(lines.counts[sample_rows].astype(np.float64), rowvar=False)
    return np.nan_to_num(np.atleast_2d(coefficients))


def line_share(shares: Sequence[tuple[str, float]]) -> str:
    """Return a text that lists lines with their fractions in per cent."""
    return ", ".join(f"{name.replace('_', ' ')} {100 * share:.0f} %" for name, share in shares)


def _strongest_lines(names: Sequence[str], shares: NDArray[np.floating[Any]]) -> list[tuple[str, float]]:
    return [(names[index], float(shares[index])) for index in np.argsort(-shares)[:3] if shares[index] > 0.05]


def _sample_rows(n: int, max_rows: int) -> NDArray[np.int64]:
    """Return the indices of at most ``max_rows`` of n rows, drawn at random with a fixed seed."""
    if n <= max_rows:
        return np.arange(n)
    return np.sort(np.random.default_rng(_SEED).choice(n, max_rows, replace=False))


def whole_number(value: Any, low: int, high: int, name: str) -> int:
    """Check that a number from a page is an integer from ``low`` to ``high``, and return the number.

    Raises
    ------
    ScanError
        The value is not an integer, or it is out of range.
    """
    if type(value) is not int or not math.isfinite(value) or not low <= value <= high:
        raise ScanError(f"Cannot group the pixels into {value!r} {name}: choose {low} to {high}.")
    return value


class ExplorationRequests(ResultRequests):
    """Answers to requests for components, clusters, correlations and the embedding of the pixels."""

    def routes(self) -> Routes:
        """Return the functions that answer requests, by method and path."""
        return {
            ("POST", "explore"): self._answer_exploration,
            ("GET", "embedding"): self._send_embedding,
        }

    @cached_property
    def _detected_lines(self) -> DetectedLines:
        return detected_lines(self.results.maps)

    @cached_property
    def _coordinates(self) -> NDArray[np.float32]:
        return embedding(self._detected_lines)

    def _answer_exploration(self, request: Request) -> Answer:
        """Answer with components, clusters or correlations. New maps are added to the lists of the page."""
        request_body = request.json()
        with self.results.working:
            answer_functions = {
                "components": self._components_answer,
                "clusters": self._clusters_answer,
                "correlation": self._correlation_answer,
            }
            if request_body.get("what") not in answer_functions:
                raise ScanError(f"Cannot explore: choose {', '.join(answer_functions)}.")
            return json_answer(answer_functions[request_body["what"]](request_body))

    def _components_answer(self, request_body: dict[str, Any]) -> dict[str, Any]:
        n = whole_number(request_body.get("n"), 2, MAX_COMPONENTS, "components")
        counts = None
        if self.results.source.state == READY and fits_memory(self.results.source.scan()):
            store = self.results.windows.open(self.results.source.scan())
            counts = None if store is None or store.counts.shape[1:] != self.results.maps.shape else store.counts
        factorisation = components(self._detected_lines, n, counts)
        names = [f"component {number}" for number in range(1, len(factorisation.maps) + 1)]
        maps = [
            self._add_map("component", f"{name} of {len(names)}", "counts", image)
            for name, image in zip(names, factorisation.maps, strict=True)
        ]
        return {
            "maps": maps,
            "spectra": None if factorisation.spectra is None else factorisation.spectra.tolist(),
            "shares": factorisation.shares.tolist(),
            "words": [line_share(shares) for shares in factorisation.strongest_lines],
        }

    def _clusters_answer(self, request_body: dict[str, Any]) -> dict[str, Any]:
        n = whole_number(request_body.get("n"), 2, MAX_CLUSTERS, "clusters")
        pixel_clusters = clusters(self._detected_lines, n)
        return {
            **self._add_map("cluster", f"{n} clusters", "1", pixel_clusters.cluster_map),
            "shares": pixel_clusters.shares.tolist(),
            "strongest": pixel_clusters.strongest_lines,
        }

    def _correlation_answer(self, _: dict[str, Any]) -> dict[str, Any]:
        lines = self._detected_lines
        return {
            "names": lines.names,
            "numbers": lines.numbers,
            "correlation": correlation(lines).round(3).tolist(),
        }

    def _send_embedding(self, _: Request) -> Answer:
        """Send the coordinates of each pixel in the embedding as (n_row, n_column, 2) float32."""
        with self.results.working:
            return Answer(self._coordinates.astype("<f4").tobytes(), "application/octet-stream")

    def _add_map(self, kind: str, label: str, unit: str, image: NDArray[np.float32]) -> dict[str, Any]:
        entry = computed_entry("exploration", label.replace(" ", "_"), label, kind, unit)
        return {"map": self.results.maps.add(entry, lambda: image), "entry": entry_facts(entry)}
