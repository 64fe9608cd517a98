"""Answers to requests for the structure of the maps: components, clusters, an embedding, correlations.

scikit-learn is imported when it is first needed: it takes a second.
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

Array = NDArray[np.float32]
MOST_COMPONENTS = 12
MOST_CLUSTERS = 12
LANDMARKS = 2500
"""Pixels that t-SNE places; the others are put between the landmarks that they are most like."""
_FIT_PIXELS = 20_000
_CORRELATED_PIXELS = 200_000
_MOST_BINS = 256
_NEIGHBOURS = 5
_CERTAIN_SIGMA = 5.0
_LEAST_SHARE = 0.01
_SEED = 1
_ITERATIONS, _ANGLE = 300, 0.8


@dataclass(frozen=True)
class Lines:
    """Net counts of the lines that are detected somewhere.

    Parameters
    ----------
    names : list of str
        Families, strongest first.
    numbers : list of int
        Of their maps.
    counts : (n_pixel, n_line) array
        Of the pixels that have an answer; never negative.
    known : (n_row, n_column) bool array
        Which pixels these are.
    """

    names: list[str]
    numbers: list[int]
    counts: Array
    known: NDArray[np.bool_]

    @property
    def scaled(self) -> Array:
        """(n_pixel, n_line) square roots about their mean: counting noise is then alike in all lines."""
        roots = np.sqrt(self.counts)
        return np.asarray(roots - roots.mean(axis=0), dtype=np.float32)

    def picture(self, values: NDArray[Any]) -> Array:
        """Return the (n_row, n_column) map of (n_pixel,) values; NaN without an answer."""
        image = np.full(self.known.shape, np.nan, dtype=np.float32)
        image[self.known] = values
        return image


def detected_lines(maps: ResultMaps) -> Lines:
    """Return the lines over five standard deviations in a hundredth of the pixels at least.

    Raises
    ------
    ScanError
        There are fewer than two, or fewer than ten pixels.
    """
    chosen = []
    for number, entry in enumerate(maps.entries):
        if entry.kind == "element":
            area, errors = maps.values(number), maps.errors(number)
            finite = np.isfinite(area)
            certain = finite & (area > (0 if errors is None else _CERTAIN_SIGMA * errors))
            if certain.sum() > _LEAST_SHARE * max(int(finite.sum()), 1):
                chosen.append((float(np.nansum(area, dtype=np.float64)), entry.name, number))
    chosen.sort(reverse=True)
    numbers = [number for _, _, number in chosen]
    if len(numbers) < 2:
        raise ScanError(
            f"Cannot group the pixels: {len(numbers)} lines are detected in one pixel of a hundred, two are needed. "
            "Look at single maps instead."
        )
    has_all_values = np.asarray(np.isfinite(np.stack([maps.values(number) for number in numbers])).all(axis=0))
    if has_all_values.sum() < 10:
        raise ScanError(f"Cannot group the pixels: {int(has_all_values.sum())} of them have an answer, ten are needed.")
    counts = np.stack([np.maximum(maps.values(number)[has_all_values], 0.0) for number in numbers], axis=1)
    return Lines([name for _, name, _ in chosen], numbers, counts, has_all_values)


@dataclass(frozen=True)
class Components:
    """A few spectra of which all pixels are sums (non-negative matrix factorisation).

    Parameters
    ----------
    maps : list of (n_row, n_column) arrays
        Counts of each component, the largest first.
    spectra : (n_component, n_channel) array or None
        Counts of the mean pixel by channel; None where lines were factorised.
    shares : (n_component,) array
        Of all counts.
    strongest : list of list of (str, float)
        The lines that a component consists of, with their shares; empty where spectra were factorised.
    """

    maps: list[Array]
    spectra: NDArray[np.float64] | None
    shares: NDArray[np.float64]
    strongest: list[list[tuple[str, float]]]


def components(lines: Lines, n: int, counts: Any = None) -> Components:
    """Factorise spectra, or the line maps where there are none.

    Parameters
    ----------
    lines : Lines
    n : int
        Components.
    counts : (n_channel, n_row, n_column) array or None
        Channels first.
    """
    from sklearn.decomposition import NMF

    if counts is None:
        table, merged = lines.counts, 1
    else:
        merged = -(-counts.shape[0] // _MOST_BINS)
        cuts = np.arange(0, counts.shape[0], merged)
        table = np.add.reduceat(np.asarray(counts[:, lines.known], dtype=np.float32), cuts, axis=0).T
    n = max(2, min(n, MOST_COMPONENTS, table.shape[1], table.shape[0]))
    # Scaled so that the counting noise of all pixels and channels is alike (Keenan and Kotula 2004).
    by_channel = np.sqrt(np.maximum(table.mean(axis=0), 1e-6))
    scaled = np.maximum(table, 0.0) / by_channel
    model = NMF(n, init="nndsvda", max_iter=200, tol=2e-3, random_state=_SEED)
    rows = _sample(len(scaled), _FIT_PIXELS)
    model.fit(scaled[rows])
    weights = model.transform(scaled)
    parts = model.components_ * by_channel
    totals = parts.sum(axis=1)
    amounts = weights * totals
    order = np.argsort(-amounts.sum(axis=0))
    shares = amounts.sum(axis=0) / max(float(amounts.sum()), 1e-9)
    pictures = [lines.picture(amounts[:, index]) for index in order]
    if counts is None:
        strongest = [_strongest(lines.names, parts[index] / max(totals[index], 1e-9)) for index in order]
        return Components(pictures, None, shares[order], strongest)
    mean = weights.mean(axis=0)[:, None] * parts
    spectra = np.repeat(mean / merged, merged, axis=1)[:, : counts.shape[0]]
    return Components(pictures, spectra[order], shares[order], [[] for _ in order])


@dataclass(frozen=True)
class Clusters:
    """Pixels of like lines.

    Parameters
    ----------
    picture : (n_row, n_column) array
        Number of the cluster, from 1, the largest first; NaN without an answer.
    shares : (n_cluster,) array
        Of the pixels.
    strongest : list of list of (str, float)
        Lines that are stronger in a cluster than on average, with their ratios.
    """

    picture: Array
    shares: NDArray[np.float64]
    strongest: list[list[tuple[str, float]]]


def clusters(lines: Lines, n: int) -> Clusters:
    """Group the pixels by their lines (k-means of the square roots of net counts)."""
    from sklearn.cluster import KMeans

    scaled = lines.scaled
    n = max(2, min(n, MOST_CLUSTERS, len(scaled)))
    model = KMeans(n, n_init=3, random_state=_SEED).fit(scaled[_sample(len(scaled), _FIT_PIXELS)])
    member = model.predict(scaled)
    sizes = np.bincount(member, minlength=n)
    rank = np.empty(n, dtype=np.int64)
    rank[np.argsort(-sizes)] = np.arange(n)
    member = rank[member]
    average = np.maximum(lines.counts.mean(axis=0), 1e-6)
    strongest = []
    for number in range(int(np.count_nonzero(sizes))):
        ratio = lines.counts[member == number].mean(axis=0) / average
        best = np.argsort(-ratio)[:3]
        strongest.append([(lines.names[index], float(ratio[index])) for index in best if ratio[index] > 1.1])
    return Clusters(lines.picture(member + 1), np.sort(sizes)[::-1] / len(member), strongest)


def embedding(lines: Lines) -> Array:
    """Return (n_row, n_column, 2) places in a plane, from -1 to 1, where like pixels lie together; NaN: no answer.

    Landmarks are placed by t-SNE, all others at the mean of the landmarks that they are most like.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE
    from sklearn.neighbors import NearestNeighbors

    scaled = lines.scaled
    with one_blas_thread():  # many threads mostly wait for one another here
        scaled = PCA(min(10, *scaled.shape), random_state=_SEED).fit_transform(scaled)
        chosen = _sample(len(scaled), LANDMARKS)
        perplexity = min(30.0, max(2.0, (len(chosen) - 1) / 4))
        model = TSNE(2, perplexity=perplexity, init="pca", max_iter=_ITERATIONS, angle=_ANGLE, random_state=_SEED)
        landmarks = model.fit_transform(scaled[chosen])
    if len(chosen) == len(scaled):
        places = landmarks
    else:
        near = NearestNeighbors(n_neighbors=_NEIGHBOURS).fit(scaled[chosen])
        distance, index = near.kneighbors(scaled)
        weight = 1.0 / np.maximum(distance, 1e-3) ** 2
        places = (landmarks[index] * weight[:, :, None]).sum(axis=1) / weight.sum(axis=1)[:, None]
    low, high = places.min(axis=0), places.max(axis=0)
    image = np.full((*lines.known.shape, 2), np.nan, dtype=np.float32)
    image[lines.known] = 2 * (places - low) / np.maximum(high - low, 1e-9) - 1
    return image


def correlation(lines: Lines) -> NDArray[np.float64]:
    """Return the (n_line, n_line) Pearson correlations of net counts over the pixels."""
    rows = _sample(len(lines.counts), _CORRELATED_PIXELS)
    with np.errstate(invalid="ignore"):
        table = np.corrcoef(lines.counts[rows].astype(np.float64), rowvar=False)
    return np.nan_to_num(np.atleast_2d(table))


def line_share(shares: Sequence[tuple[str, float]]) -> str:
    """Return lines with their shares in words."""
    return ", ".join(f"{name.replace('_', ' ')} {100 * share:.0f} %" for name, share in shares)


def _strongest(names: Sequence[str], shares: NDArray[np.floating[Any]]) -> list[tuple[str, float]]:
    return [(names[index], float(shares[index])) for index in np.argsort(-shares)[:3] if shares[index] > 0.05]


def _sample(n: int, most: int) -> NDArray[np.int64]:
    """Return at most so many of n rows, spread at random, the same ones every time."""
    if n <= most:
        return np.arange(n)
    return np.sort(np.random.default_rng(_SEED).choice(n, most, replace=False))


def whole_number(value: Any, low: int, high: int, name: str) -> int:
    """Return a whole number that a page sent.

    Raises
    ------
    ScanError
        It is none, or out of range.
    """
    if type(value) is not int or not math.isfinite(value) or not low <= value <= high:
        raise ScanError(f"Cannot group the pixels into {value!r} {name}: choose {low} to {high}.")
    return value


class ExplorationRequests(ResultRequests):
    """Answers about what belongs together; each is computed once."""

    def routes(self) -> Routes:
        """Return the requests that are answered here."""
        return {
            ("POST", "explore"): self._explore,
            ("GET", "embedding"): self._embedding,
        }

    @cached_property
    def _detected(self) -> Lines:
        return detected_lines(self.results.maps)

    @cached_property
    def _places(self) -> NDArray[np.float32]:
        return embedding(self._detected)

    def _explore(self, request: Request) -> Answer:
        """Answer with components, clusters or correlations; maps are added to the lists."""
        sent = request.json()
        with self.results.working:
            makers = {"components": self._components, "clusters": self._clusters, "correlation": self._correlation}
            if sent.get("what") not in makers:
                raise ScanError(f"Cannot explore: choose {', '.join(makers)}.")
            return json_answer(makers[sent["what"]](sent))

    def _components(self, sent: dict[str, Any]) -> dict[str, Any]:
        n = whole_number(sent.get("n"), 2, MOST_COMPONENTS, "components")
        counts = None
        if self.results.source.state == READY and fits_memory(self.results.source.scan()):
            store = self.results.windows.open(self.results.source.scan())
            counts = None if store is None or store.counts.shape[1:] != self.results.maps.shape else store.counts
        parts = components(self._detected, n, counts)
        names = [f"component {number}" for number in range(1, len(parts.maps) + 1)]
        maps = [
            self._add_map("component", f"{name} of {len(names)}", "counts", image)
            for name, image in zip(names, parts.maps, strict=True)
        ]
        return {
            "maps": maps,
            "spectra": None if parts.spectra is None else parts.spectra.tolist(),
            "shares": parts.shares.tolist(),
            "words": [line_share(shares) for shares in parts.strongest],
        }

    def _clusters(self, sent: dict[str, Any]) -> dict[str, Any]:
        n = whole_number(sent.get("n"), 2, MOST_CLUSTERS, "clusters")
        parts = clusters(self._detected, n)
        return {
            **self._add_map("cluster", f"{n} clusters", "1", parts.picture),
            "shares": parts.shares.tolist(),
            "strongest": parts.strongest,
        }

    def _correlation(self, _: dict[str, Any]) -> dict[str, Any]:
        lines = self._detected
        return {
            "names": lines.names,
            "numbers": lines.numbers,
            "correlation": correlation(lines).round(3).tolist(),
        }

    def _embedding(self, _: Request) -> Answer:
        """Answer with a place in a plane for each pixel: (n_row, n_column, 2) float32."""
        with self.results.working:
            return Answer(self._places.astype("<f4").tobytes(), "application/octet-stream")

    def _add_map(self, kind: str, label: str, unit: str, image: NDArray[np.float32]) -> dict[str, Any]:
        entry = computed_entry("exploration", label.replace(" ", "_"), label, kind, unit)
        return {"map": self.results.maps.add(entry, lambda: image), "entry": entry_facts(entry)}
