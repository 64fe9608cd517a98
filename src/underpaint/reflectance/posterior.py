"""Identify the pigments at the surface: a posterior over members from reflectance, with a prior from XRF.

The model in short (``docs/explanations/reflectance.md`` describes it in full). A hypothesis is a set of one to three
members in the surface paint, with or without white. It predicts spectra: those measured of its members, and mixtures
computed from their K and S by Kubelka-Munk. The log reflectance of a pixel has a Student distribution about one of
these spectra. Its covariance is that between patches of one pigment, plus terms for the brightness level and for noise.
The group probabilities of XRF enter as the prior: a member requires its XRF groups, and a group that XRF detects may
lie below the surface.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from dask.system import CPU_COUNT
from numpy.typing import ArrayLike, NDArray

from underpaint.errors import CoverageError, ScanError
from underpaint.reflectance.hypotheses import BLACK, WHITE_GROUPS, WHITES, Hypotheses, commonness, pixel_strength
from underpaint.reflectance.library import ReferenceSpectrum, ReflectanceLibrary, builtin
from underpaint.reflectance.names import member_of
from underpaint.runtime.threads import one_blas_thread

Floats = NDArray[np.float64]

NONE = "none of these"
"""Answer for a pigment that is not in the library."""
FIRST_NM, LAST_NM, STEP_NM = 410.0, 990.0, 10.0
"""Wavelength grid of the classifier; only the part that the cube covers is used."""
N_PER_CELL = 20
"""Number of points at which a spectrum is interpolated within one step of the grid."""
MIN_RANGE_NM, MAX_GAP_NM = 150.0, 25.0
"""Shortest usable range of wavelengths, and widest mean distance of bands within it."""
MIN_REFLECTANCE = 0.005
"""Lower limit of reflectance before the logarithm is taken."""
DARK_REFLECTANCE = 0.06
"""Median reflectance below which a surface is too dark to show that it lacks a pigment."""
LEVEL_SPREAD, NOISE = 2.0, 0.02
"""Standard deviations of the brightness level and of the noise in one band, in log reflectance."""
DEGREES_OF_FREEDOM = 4.0
"""Degrees of freedom of the Student distribution."""
PRIOR_NONE = 0.0001
"""Prior probability of a pigment that is not in the library."""
WRONG_LABEL = 0.02
"""Assumed probability that a reference spectrum is mislabelled; used in the choice of the temperature only."""
TEMPERATURES = (0.05, 0.07, 0.1, 0.14, 0.2, 0.28, 0.4, 0.56, 0.8, 1.0)
"""Exponents of the likelihood to choose from."""
_N_ITERATION = 2
"""Number of times the nearest patches and the covariance about them are determined in turn."""
MAX_CACHED = 16
"""Number of sets of mixtures that are kept in memory."""
BLOCK_SIZE, SUBBLOCK_SIZE = 1024, 128
"""Number of spectra whose posterior, and whose distances, are computed in one step."""


@dataclass(frozen=True, eq=False)
class ReflectanceAnswer:
    """Posterior of each pixel's surface, from reflectance and the group probabilities of XRF.

    Parameters
    ----------
    members : tuple of str
        Members that the classifier distinguishes; the last entry is ``none of these``.
    probability : (n, n_member + 1) float32 array
        Probability that a member gives the surface its colour; rows sum to one. NaN if the spectrum is not usable.
    presence : (n, n_member) float32 array
        Probability that a member is in the surface paint, as the main pigment or as a further one.
    groups : tuple of str
        XRF groups, as passed to ``identify``.
    hidden : (n, n_group) float32 array
        Probability that an XRF group is present in the painting but not at the surface.
    determinable : (n, n_group) bool array
        True where reflectance can decide whether a group is at the surface; elsewhere ``hidden`` only repeats the
        prior. It cannot decide for a group without spectra in the library or a group with a white (white hardly changes
        the shape of a spectrum). Nor can it on a surface that is dark, that is paler than the palest predicted tint of
        the group, or that is probably none of the members.
    mixture : (n, n_member) float32 array
        Expected fraction of each member in the optical absorption of the surface paint; not a mass fraction.
    """

    members: tuple[str, ...]
    probability: NDArray[np.float32]
    presence: NDArray[np.float32]
    groups: tuple[str, ...]
    hidden: NDArray[np.float32]
    determinable: NDArray[np.bool_]
    mixture: NDArray[np.float32]


class ReflectanceClassifier:
    """Identifies the pigments of a surface from its reflectance.

    Parameters
    ----------
    library : ReflectanceLibrary
        Reference spectra.
    wavelength_nm : (n_band,) array
        Wavelengths of the spectra to be identified, in any order.

    Raises
    ------
    CoverageError
        The bands overlap too little with the library or are too far apart.
    """

    def __init__(self, library: ReflectanceLibrary, wavelength_nm: ArrayLike) -> None:
        self.library = library
        self._bands = _Bands(np.asarray(wavelength_nm, dtype=np.float64))
        self._model = _Model(library, self._bands.grid)
        self.members: tuple[str, ...] = (*self._model.members, NONE)

    def identify(
        self,
        reflectance: ArrayLike,
        group_probability: ArrayLike | None = None,
        groups: Sequence[str] = (),
        surface_probability: ArrayLike | None = None,
    ) -> ReflectanceAnswer:
        """Return the posterior of each spectrum.

        Parameters
        ----------
        reflectance : (n, n_band) array
            Fractions, in the bands of ``wavelength_nm``. NaN is interpolated; a spectrum in which half of the bands or
            more are NaN gets NaN in all answers.
        group_probability : (n, n_group) array, optional
            Probability by XRF that each group is present at any depth; NaN if unknown. Without it, only reflectance
            is used.
        groups : sequence of str
            Names of the columns of ``group_probability``, as in the pigment library.
        surface_probability : (n, n_group) array, optional
            Probability by XRF that each group is in the uppermost layer; NaN if unknown.

        Raises
        ------
        ScanError
            The shapes of the arrays do not match each other or the classifier.
        """
        spectra = np.atleast_2d(np.asarray(reflectance))
        known = None if group_probability is None else np.atleast_2d(np.asarray(group_probability))
        surface = None if surface_probability is None else np.atleast_2d(np.asarray(surface_probability))
        shapes = [each.shape for each in (known, surface) if each is not None]
        if spectra.shape[1] != self._bands.n_band or any(shape != (len(spectra), len(groups)) for shape in shapes):
            raise ScanError(
                f"Cannot identify spectra of shape {spectra.shape} with probabilities of shapes {shapes} and "
                f"{len(groups)} group names: {self._bands.n_band} bands, and one row per spectrum and one column per "
                "group in each array of probabilities, are needed. Correct the arrays."
            )

        def answer(start: int) -> tuple[NDArray[np.floating], ...]:
            rows = slice(start, start + BLOCK_SIZE)
            of_block = [None if each is None else each[rows].astype(np.float64) for each in (known, surface)]
            return self._model.answer(self._bands.apply(spectra[rows]), of_block[0], tuple(groups), of_block[1])

        with one_blas_thread(), ThreadPoolExecutor(CPU_COUNT) as threads:
            parts = list(threads.map(answer, range(0, max(len(spectra), 1), BLOCK_SIZE)))
        probability, presence, mixture, hidden = (
            np.concatenate([part[index] for part in parts]).astype(np.float32) for index in range(4)
        )
        determinable = np.concatenate([part[4] for part in parts]).astype(bool)
        return ReflectanceAnswer(self.members, probability, presence, tuple(groups), hidden, determinable, mixture)

    def undeterminable(self, groups: Sequence[str]) -> tuple[str, ...]:
        """Return the groups for which ``determinable`` is never true: no spectrum in the library, or a white."""
        return tuple(group for group in groups if group not in self._model.groups or group in WHITE_GROUPS)


class _Bands:
    """Resamples spectra from the bands of a cube to the wavelength grid of the classifier."""

    def __init__(self, wavelength: Floats) -> None:
        is_finite = np.isfinite(wavelength)
        first, last = (
            (float(np.min(wavelength[is_finite])), float(np.max(wavelength[is_finite]))) if is_finite.any() else (0, 0)
        )
        grid = np.arange(FIRST_NM, LAST_NM + 1.0, STEP_NM)
        grid = grid[(grid >= first - STEP_NM / 2) & (grid <= last + STEP_NM / 2)]
        range_nm = float(grid[-1] - grid[0]) if grid.size else 0.0
        is_in_range = is_finite & (wavelength >= FIRST_NM - STEP_NM) & (wavelength <= LAST_NM + STEP_NM)
        if range_nm < MIN_RANGE_NM or is_in_range.sum() < range_nm / MAX_GAP_NM:
            raise CoverageError(
                f"Cannot identify pigments from {int(is_finite.sum())} bands between {first:g} and {last:g} nm: at "
                f"least {MIN_RANGE_NM:g} nm between {FIRST_NM:g} and {LAST_NM:g} nm are needed, with a band every "
                f"{MAX_GAP_NM:g} nm on average. Check the unit of the wavelengths, or use a cube of the visible range "
                "with more bands."
            )
        self.n_band, self.grid = wavelength.size, grid
        self._order = np.flatnonzero(is_finite)[np.argsort(wavelength[is_finite], kind="stable")]
        self._wavelength = wavelength[self._order]
        rows = [_cell_means(grid, self._wavelength, row) for row in np.eye(self._wavelength.size)]
        self._weights = np.stack(rows).astype(np.float32)

    def apply(self, spectra: NDArray[np.generic]) -> Floats:
        """Return (n, n_grid) reflectance; rows with half of the bands or fewer usable are NaN."""
        ordered = np.asarray(spectra[:, self._order], dtype=np.float32)
        bad = ~np.isfinite(ordered)
        for row in np.flatnonzero(bad.any(axis=1)):
            good = ~bad[row]
            ordered[row] = (
                np.interp(self._wavelength, self._wavelength[good], ordered[row, good])
                if 2 * good.sum() > good.size
                else np.nan
            )
        return np.asarray(ordered @ self._weights, dtype=np.float64)


def _cell_means(grid: Floats, wavelength: Floats, values: Floats) -> Floats:
    """Return the means of a linearly interpolated spectrum over the cells of a grid.

    The means vary continuously with the wavelengths, so that rounding after a conversion of units cannot move a band
    from one cell to the next.
    """
    offsets = STEP_NM * ((np.arange(N_PER_CELL) + 0.5) / N_PER_CELL - 0.5)
    return np.asarray(np.interp(grid[:, None] + offsets, wavelength, values).mean(axis=1))


def _features(reflectance: Floats) -> Floats:
    return np.log(np.maximum(reflectance, MIN_REFLECTANCE))


@dataclass(frozen=True, eq=False)
class _References:
    """The pure spectra of a library on a grid, and their covariances.

    Parameters
    ----------
    values, features : (n, n_grid) array
        Reflectance and its logarithm; NaN where not measured.
    owner, patch : (n,) int array
        Index of the member and of the patch of each spectrum.
    within, total : (n_grid, n_grid) array
        Covariance of log reflectance about the nearest patch of the same member, and of all spectra about their mean.
        Both include the brightness level and noise.
    mean : (n_grid,) array
        Mean log reflectance of all spectra.
    n_further_patch : int
        Number of patches beyond the first of each member, from which ``within`` is estimated.
    """

    values: Floats
    features: Floats
    owner: NDArray[np.int64]
    patch: NDArray[np.int64]
    within: Floats
    total: Floats
    mean: Floats
    n_further_patch: int


def _usable(library: ReflectanceLibrary, grid: Floats) -> ReflectanceLibrary:
    """Return the spectra that cover half of the grid or :data:`MIN_RANGE_NM`; their missing bands are predicted later.

    Raises
    ------
    CoverageError
        No pure spectrum covers enough.
    """
    min_bands = min(grid.size / 2, MIN_RANGE_NM / STEP_NM)
    n_covered = (np.isfinite(_on_grid(spectrum, grid)).sum() for spectrum in library.spectra)
    usable = library.subset(bool(number > min_bands) for number in n_covered)
    if not usable.members:
        raise CoverageError(
            f"Cannot identify pigments with this library: none of its {len(library)} spectra is of a known pigment and "
            f"covers {STEP_NM * min_bands:g} nm of the cube's {grid[0]:g} to {grid[-1]:g} nm. Check the names and the "
            "wavelengths of its spectra, or omit --library."
        )
    return usable


def _references(library: ReflectanceLibrary, grid: Floats) -> _References:
    index = {name: place for place, name in enumerate(library.members)}
    pure = [spectrum for spectrum in library.spectra if spectrum.member and spectrum.pure]
    values = np.stack([_on_grid(spectrum, grid) for spectrum in pure])
    owner = np.asarray([index[spectrum.member] for spectrum in pure], dtype=np.int64)
    patch = np.unique([spectrum.patch for spectrum in pure], return_inverse=True)[1].astype(np.int64)
    features = _features(values)
    complete = np.isfinite(features).all(axis=1)
    width = grid.size
    within, n_further_patch = _between_patches(features[complete], owner[complete], patch[complete])
    all_features = _features(np.stack([_on_grid(spectrum, grid) for spectrum in library.spectra]))
    all_features = all_features[np.isfinite(all_features).all(axis=1)]
    mean = all_features.mean(axis=0) if len(all_features) else np.zeros(width)
    deviation = all_features - mean
    total = deviation.T @ deviation / max(len(all_features), 1) + within
    return _References(values, features, owner, patch, within, total, mean, n_further_patch)


def _between_patches(features: Floats, owner: NDArray[np.int64], patch: NDArray[np.int64]) -> tuple[Floats, int]:
    """Return the covariance of spectra about the nearest spectrum of another patch of their member.

    This is the covariance that a kernel needs, because a class has the likelihood of its nearest spectrum. Which
    spectrum is nearest depends on the covariance. So both are determined in turn, starting from the covariance about
    the members' means. The second value returned is the number of patches beyond the first of each member.
    """
    diagonal_and_level = NOISE**2 * np.eye(features.shape[1]) + LEVEL_SPREAD**2
    several = [rows for rows in (np.flatnonzero(owner == member) for member in np.unique(owner))
               if np.unique(patch[rows]).size > 1]  # fmt: skip
    if not several:
        return diagonal_and_level, 0
    deviation = np.concatenate([features[rows] - features[rows].mean(axis=0) for rows in several])
    for iteration in range(1 + _N_ITERATION):
        within = deviation.T @ deviation / len(deviation) + diagonal_and_level
        if iteration < _N_ITERATION:
            white = features @ np.linalg.inv(np.linalg.cholesky(within)).T
            parts = []
            for rows in several:
                distance = ((white[rows, None] - white[rows]) ** 2).sum(axis=2)
                distance[np.equal(patch[rows, None], patch[rows])] = np.inf
                parts.append(features[rows] - features[rows[distance.argmin(axis=1)]])
            deviation = np.concatenate(parts)
    return within, sum(np.unique(patch[rows]).size - 1 for rows in several)


def _member_means(references: _References, n_member: int) -> Floats:
    """Return the mean log reflectance of each member over its complete spectra; NaN for a member without any."""
    complete = np.isfinite(references.features).all(axis=1)
    means = np.full((n_member, references.mean.size), np.nan)
    for member in np.unique(references.owner[complete]):
        means[member] = references.features[complete & (references.owner == member)].mean(axis=0)
    return means


def _measured(library: ReflectanceLibrary, grid: Floats) -> tuple[Floats, NDArray[np.int64], NDArray[np.str_]]:
    """Return the spectra of pure paints and of mixtures with white or black, their members and what is mixed in."""
    values, member_index, companion = [], [], []
    for spectrum in library.spectra:
        other_members = {member_of(part) for part in spectrum.shares} - {spectrum.member}
        kind = (
            ""
            if spectrum.pure
            else "white"
            if other_members <= WHITES
            else "black"
            if other_members <= {BLACK}
            else None
        )
        if spectrum.member in library.members and kind is not None:
            values.append(_on_grid(spectrum, grid))
            member_index.append(library.members.index(spectrum.member))
            companion.append(kind)
    return np.stack(values), np.asarray(member_index, dtype=np.int64), np.asarray(companion)


@dataclass(frozen=True, eq=False)
class _Kernels:
    """Predicted spectra that share a covariance, whitened and sorted by class."""

    whiten: NDArray[np.float32]
    centres: NDArray[np.float32]
    half_square: NDArray[np.float32]
    start: NDArray[np.int64]
    classes: NDArray[np.int64]
    log_norm: float


_Choice = tuple[tuple[int, ...], tuple[int, ...]]
"""Indices of the members that are mixed in pairs, and in triples."""


class _Model:
    """Computes the likelihood of each class and the posterior of the hypotheses."""

    def __init__(self, library: ReflectanceLibrary, grid: Floats) -> None:
        library = _usable(library, grid)
        self.members = library.members
        references = _references(library, grid)
        # a small library cannot show how much spectra of one pigment vary: use the covariance of the package's library
        variation = references
        if references.n_further_patch < grid.size:
            variation = _references(_usable(builtin(), grid), grid)
        self._within, self._total, self._mean = variation.within, variation.total, variation.mean
        self._typical = _member_means(references, len(self.members))
        self._hypotheses = Hypotheses(self.members, *_measured(library, grid))
        self.groups = self._hypotheses.groups
        self._mixtures: dict[tuple[object, ...], tuple[Hypotheses, list[_Kernels]]] = {}
        self._kernels = self._whitened(self._hypotheses)
        lower = np.linalg.cholesky(self._total)
        self._background = np.linalg.inv(lower).T, -float(np.log(np.diag(lower)).sum())
        self.temperature = self._calibrated(variation, library if variation is references else _usable(builtin(), grid))

    def _whitened(self, hypotheses: Hypotheses) -> list[_Kernels]:
        """Return the predicted spectra as kernels, one for each pattern and way of predicting missing bands."""
        spectra, classes = hypotheses.spectra, hypotheses.class_of
        is_covered = np.isfinite(spectra)
        typical = self._typical[hypotheses.main_of_class[classes]]
        has_typical_spectrum = np.isfinite(typical).all(axis=1)
        kernels = []
        for mask in np.unique(is_covered, axis=0):
            for has_typical in (False, True):
                rows = np.flatnonzero((is_covered == mask).all(axis=1) & (has_typical_spectrum == has_typical))
                rows = rows[np.argsort(classes[rows], kind="stable")]
                if rows.size:
                    about = typical[rows] if has_typical else self._mean
                    spread = self._within if has_typical else self._total
                    kernels.append(self._kernel(_features(spectra[rows]), classes[rows], mask, about, spread))
        return kernels

    def _kernel(
        self,
        features: Floats,
        classes: NDArray[np.int64],
        mask: NDArray[np.bool_],
        about: Floats,
        spread: Floats,
    ) -> _Kernels:
        """Return whitened spectra; missing bands are predicted from the others, with the uncertainty of the prediction.

        The prediction is a linear regression on the member's complete spectra, or on all spectra if it has none.
        """
        covariance = self._within.copy()
        if not mask.all():
            covered_indices, missing_indices = np.flatnonzero(mask), np.flatnonzero(~mask)
            gain = np.linalg.solve(
                spread[np.ix_(covered_indices, covered_indices)], spread[np.ix_(covered_indices, missing_indices)]
            )
            features = features.copy()
            features[:, missing_indices] = (
                about[..., missing_indices] + (features[:, covered_indices] - about[..., covered_indices]) @ gain
            )
            rest = (
                spread[np.ix_(missing_indices, missing_indices)]
                - spread[np.ix_(missing_indices, covered_indices)] @ gain
            )
            covariance[np.ix_(missing_indices, missing_indices)] += rest
        lower = np.linalg.cholesky(covariance)
        whiten = np.linalg.inv(lower).T
        centres = (features - self._mean) @ whiten
        start = np.flatnonzero(np.diff(classes, prepend=-1))
        return _Kernels(
            whiten.astype(np.float32),
            centres.astype(np.float32),
            (0.5 * (centres**2).sum(axis=1)).astype(np.float32),
            start,
            classes[start],
            -float(np.log(np.diag(lower)).sum()),
        )

    def _student(self, squared: NDArray[np.float32], log_norm: float) -> NDArray[np.float32]:
        power = -0.5 * (DEGREES_OF_FREEDOM + self._mean.size)
        return np.asarray(np.float32(power) * np.log1p(squared / np.float32(DEGREES_OF_FREEDOM)) + np.float32(log_norm))

    def _choices(self, group_probability: Floats | None, groups: tuple[str, ...]) -> tuple[Hypotheses, list[_Kernels]]:
        """Return the hypotheses for a block and their kernels; triples are included only if XRF gives the groups."""
        choice: _Choice = (self._hypotheses.mixed, ())
        if group_probability is not None:
            choice = self._hypotheses.choose(group_probability, groups)
        key = (*choice, group_probability is not None)
        cached = self._mixtures.get(key)
        if cached is None:
            more = self._hypotheses.with_mixtures(*choice, with_xrf=group_probability is not None)
            cached = more, [*self._kernels, *self._whitened(more)]
            if len(self._mixtures) >= MAX_CACHED:
                self._mixtures.clear()
            self._mixtures[key] = cached
        return cached

    def likelihood(
        self, features: Floats, n_class: int, kernels: Sequence[_Kernels]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the log likelihood of every class, (n_class, n), and of none of them, (n,).

        A class has the likelihood of its nearest spectrum. With so many bands the others contribute next to nothing.
        """
        centred = (features - self._mean).astype(np.float32)
        best = np.full((n_class, len(features)), -np.inf, dtype=np.float32)
        for kernel in kernels:
            white = (centred @ kernel.whiten).T
            square = (white**2).sum(axis=0)
            for first in range(0, len(features), SUBBLOCK_SIZE):
                rows = slice(first, first + SUBBLOCK_SIZE)
                closeness = kernel.centres @ white[:, rows]
                closeness -= kernel.half_square[:, None]
                nearest = np.maximum.reduceat(closeness, kernel.start, axis=0)
                squared = np.maximum(square[rows] - 2.0 * nearest, 0.0)
                density = self._student(squared, kernel.log_norm)
                best[kernel.classes, rows] = np.maximum(best[kernel.classes, rows], density)
        whiten, log_norm = self._background
        return best, self._student(((centred @ whiten.astype(np.float32)) ** 2).sum(axis=1), log_norm)

    def _calibrated(self, references: _References, library: ReflectanceLibrary) -> float:
        """Return the exponent of the likelihood that maximises the leave-one-patch-out log probability.

        The bands depend on each other in more ways than a covariance describes, so the likelihood is overconfident. The
        score is the mean log probability of the true member, with each patch left out in turn.
        """
        complete = np.isfinite(references.features).all(axis=1)
        owner, patch = references.owner[complete], references.patch[complete]
        white = (references.features[complete] - self._mean) @ np.linalg.inv(np.linalg.cholesky(self._within)).T
        square = (white**2).sum(axis=1)
        squared = np.maximum(square[:, None] + square - 2.0 * white @ white.T, 0.0)
        squared[np.equal(patch[:, None], patch)] = np.inf
        n_member = len(library.members)
        nearest = np.full((len(owner), n_member), np.inf)
        for member in np.unique(owner):
            nearest[:, member] = squared[:, owner == member].min(axis=1)
        has_reference: NDArray[np.bool_] = np.isfinite(nearest[np.arange(len(owner)), owner])
        if has_reference.sum() < 100:
            return 0.2
        likelihood = self._student(nearest[has_reference].astype(np.float32), 0.0)
        prior, true_member = np.log(commonness(library.members)), owner[has_reference]

        def score(temperature: float) -> float:
            logits = temperature * likelihood + prior
            logits -= logits.max(axis=1, keepdims=True)
            probability = np.exp(logits)
            probability /= probability.sum(axis=1, keepdims=True)
            true_probability = probability[np.arange(len(true_member)), true_member]
            return float(np.log((1.0 - WRONG_LABEL) * true_probability + WRONG_LABEL / n_member).mean())

        return max(TEMPERATURES, key=score)

    def answer(
        self,
        reflectance: Floats,
        group_probability: Floats | None,
        groups: tuple[str, ...],
        surface_probability: Floats | None = None,
    ) -> tuple[NDArray[np.floating], ...]:
        """Return probability, presence, mixture, hidden and determinable for a block of spectra on the grid."""
        is_usable = np.asarray(np.isfinite(reflectance).all(axis=1))
        features = _features(np.where(is_usable[:, None], reflectance, 1.0))
        hypotheses, kernels = self._choices(group_probability, groups)
        likelihood, background = self.likelihood(features, hypotheses.n_class, kernels)
        joint = hypotheses.joint(likelihood, self.temperature, group_probability, groups, surface_probability)
        log_none = np.float32(self.temperature) * background + np.float32(np.log(PRIOR_NONE)) + joint.log_unknown
        highest = np.maximum(joint.log_sets.max(axis=0), log_none)
        sets = np.exp(joint.log_sets - highest)
        none = np.exp(log_none - highest)
        total = sets.sum(axis=0) + none
        sets /= total
        none = none / total
        probability = np.concatenate([sets.T @ hypotheses.main, none[:, None]], axis=1)
        presence, at_surface = joint.at_surface(sets, none)
        mixture = sets.T @ hypotheses.share
        hidden = np.zeros((len(features), len(groups)))
        determinable = np.zeros(hidden.shape, dtype=bool)
        is_member = is_usable & (probability[:, -1] < probability[:, :-1].max(axis=1))
        is_member &= np.median(np.exp(features), axis=1) > DARK_REFLECTANCE
        strength = pixel_strength(np.exp(features))
        if group_probability is not None:
            for place, group in enumerate(groups):
                known = group in hypotheses.groups
                shown = at_surface[hypotheses.groups.index(group)] if known else np.zeros_like(none)
                hidden[:, place] = group_probability[:, place] * np.clip(1.0 - shown, 0.0, 1.0)
                if known and group not in WHITE_GROUPS:
                    determinable[:, place] = is_member & (strength >= hypotheses.palest_tint(group))
        for each in (probability, presence, mixture, hidden):
            each[~is_usable] = np.nan
        return probability, presence, mixture, hidden, determinable


def _on_grid(spectrum: ReferenceSpectrum, grid: Floats) -> Floats:
    values = _cell_means(grid, spectrum.wavelength_nm, spectrum.reflectance)
    is_outside = (grid < spectrum.wavelength_nm[0] - STEP_NM / 2) | (grid > spectrum.wavelength_nm[-1] + STEP_NM / 2)
    return np.where(is_outside, np.nan, values)
