"""Identify the pigments at the surface from reflectance. XRF determines the prior.

``docs/explanations/reflectance.md`` describes the model, which is summarised here. A hypothesis is a set of one to
three members in the surface paint, with or without white. The spectra that a hypothesis predicts are measured spectra
of its members, and mixtures computed by Kubelka-Munk. The log reflectance of a pixel has a Student distribution around
one of the predicted spectra. The covariance of this distribution is the covariance between patches of the same pigment,
plus terms for brightness and noise. XRF's group probabilities determine the prior. A member requires its XRF groups,
and a group that XRF detects may be below the surface.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from dask.system import CPU_COUNT
from numpy.typing import ArrayLike, NDArray

from underpaint.errors import CoverageError, ScanError
from underpaint.reflectance.hypotheses import BLACK, WHITE_GROUPS, WHITES, Hypotheses, commonness, darkest_k_over_s
from underpaint.reflectance.library import ReferenceSpectrum, ReflectanceLibrary, builtin
from underpaint.reflectance.names import member_of
from underpaint.runtime.threads import one_blas_thread

Floats = NDArray[np.float64]

NONE = "none of these"
"""Name of the answer for a pigment that is not in the library."""
FIRST_NM, LAST_NM, STEP_NM = 410.0, 990.0, 10.0
"""First wavelength, last wavelength and step of the classifier's grid. Only the part that the cube covers is used."""
N_POINTS_PER_CELL = 20
"""Number of points in each cell of the grid at which a spectrum is interpolated."""
MIN_RANGE_NM, MAX_GAP_NM = 150.0, 25.0
"""Minimum range of wavelengths that a cube must cover, and maximum mean distance of its bands in this range."""
MIN_REFLECTANCE = 0.005
"""Lower limit to which reflectance is clipped before its logarithm is computed."""
DARK_REFLECTANCE = 0.06
"""Surfaces with a lower median reflectance are too dark to determine that a pigment is absent."""
LEVEL_DEVIATION, NOISE_DEVIATION = 2.0, 0.02
"""Standard deviations, in log reflectance, of the brightness level and of the noise in one band."""
DEGREES_OF_FREEDOM = 4.0
"""Degrees of freedom of the Student distribution."""
PRIOR_NONE = 0.0001
"""Prior probability that the surface pigment is not in the library."""
WRONG_LABEL_PROBABILITY = 0.02
"""Assumed probability that a reference spectrum is mislabelled, used only to choose the temperature."""
TEMPERATURES = (0.05, 0.07, 0.1, 0.14, 0.2, 0.28, 0.4, 0.56, 0.8, 1.0)
"""Candidate exponents of the likelihood. The calibration chooses one of them."""
_N_ITERATION = 2
"""Number of iterations that alternate between nearest patches and the covariance of spectra around them."""
MAX_CACHED_MIXTURES = 16
"""Maximum number of sets of mixtures kept in memory."""
BLOCK_SIZE, SUBBLOCK_SIZE = 1024, 128
"""Numbers of spectra per step in the computation of posteriors and of distances."""


@dataclass(frozen=True, eq=False)
class ReflectanceAnswer:
    """Posterior probabilities for the surface of each pixel, from reflectance and XRF's group probabilities.

    Parameters
    ----------
    members : tuple of str
        Names of the members that the classifier distinguishes. The last entry is ``none of these``.
    probability : (n, n_member + 1) float32 array
        Probability that a member determines the colour of the surface. Rows sum to one, or are NaN for an unusable
        spectrum.
    presence : (n, n_member) float32 array
        Probability that a member is in the surface paint, as the main or as an additional pigment.
    groups : tuple of str
        Names of the XRF groups, as passed to ``identify``.
    hidden : (n, n_group) float32 array
        Probability that an XRF group is present in the painting but not at the surface.
    determinable : (n, n_group) bool array
        True where reflectance determines whether a group is at the surface. Elsewhere, ``hidden`` follows from the
        prior alone. The value is false for groups without spectra in the library, and for groups with a white pigment,
        because white hardly changes the shape of a spectrum. The value is also false for surfaces that are dark, that
        are paler than the group's palest predicted tint, or that probably show none of the members.
    mixture : (n, n_member) float32 array
        Expected fraction of the surface paint's optical absorption (not of its mass) due to each member.
    """

    members: tuple[str, ...]
    probability: NDArray[np.float32]
    presence: NDArray[np.float32]
    groups: tuple[str, ...]
    hidden: NDArray[np.float32]
    determinable: NDArray[np.bool_]
    mixture: NDArray[np.float32]


class ReflectanceClassifier:
    """Classifier that identifies the pigments of a surface from its reflectance.

    Parameters
    ----------
    library : ReflectanceLibrary
        Reference spectra.
    wavelength_nm : (n_band,) array
        Wavelengths of the spectra to be identified, in any order.

    Raises
    ------
    CoverageError
        The bands cover too little of the library's wavelengths, or are too far apart.
    """

    def __init__(self, library: ReflectanceLibrary, wavelength_nm: ArrayLike) -> None:
        self.library = library
        self._bands = _BandResampler(np.asarray(wavelength_nm, dtype=np.float64))
        self._model = _PosteriorModel(library, self._bands.grid)
        self.members: tuple[str, ...] = (*self._model.members, NONE)

    def identify(
        self,
        reflectance: ArrayLike,
        group_probability: ArrayLike | None = None,
        groups: Sequence[str] = (),
        surface_probability: ArrayLike | None = None,
    ) -> ReflectanceAnswer:
        """Return the posterior probabilities for each spectrum.

        Parameters
        ----------
        reflectance : (n, n_band) array
            Reflectance as a fraction, in the bands of ``wavelength_nm``. NaN values are interpolated between bands. If
            at least half of a spectrum is NaN, all answers for this spectrum are NaN.
        group_probability : (n, n_group) array, optional
            XRF's probability that each group is present at any depth; NaN if unknown. If the array is omitted, only
            reflectance is used.
        groups : sequence of str
            Group of each column of ``group_probability``, named as in the pigment library.
        surface_probability : (n, n_group) array, optional
            XRF's probability that each group is in the uppermost layer; NaN if unknown.

        Raises
        ------
        ScanError
            The shapes of the arrays do not fit each other or the classifier.
        """
        spectra = np.atleast_2d(np.asarray(reflectance))
        xrf_probability = None if group_probability is None else np.atleast_2d(np.asarray(group_probability))
        xrf_surface_probability = (
            None if surface_probability is None else np.atleast_2d(np.asarray(surface_probability))
        )
        shapes = [array.shape for array in (xrf_probability, xrf_surface_probability) if array is not None]
        if spectra.shape[1] != self._bands.n_band or any(shape != (len(spectra), len(groups)) for shape in shapes):
            raise ScanError(
                f"Cannot identify spectra of shape {spectra.shape} with probabilities of shapes {shapes} and "
                f"{len(groups)} group names: {self._bands.n_band} bands, and one row per spectrum and one column per "
                "group in each array of probabilities, are needed. Correct the arrays."
            )

        def answer(first_row: int) -> tuple[NDArray[np.floating], ...]:
            rows = slice(first_row, first_row + BLOCK_SIZE)
            block_probabilities = [
                None if array is None else array[rows].astype(np.float64)
                for array in (xrf_probability, xrf_surface_probability)
            ]
            return self._model.answer(
                self._bands.apply(spectra[rows]), block_probabilities[0], tuple(groups), block_probabilities[1]
            )

        with one_blas_thread(), ThreadPoolExecutor(CPU_COUNT) as threads:
            block_answers = list(threads.map(answer, range(0, max(len(spectra), 1), BLOCK_SIZE)))
        probability, presence, mixture, hidden = (
            np.concatenate([block_answer[field_index] for block_answer in block_answers]).astype(np.float32)
            for field_index in range(4)
        )
        determinable = np.concatenate([block_answer[4] for block_answer in block_answers]).astype(bool)
        return ReflectanceAnswer(self.members, probability, presence, tuple(groups), hidden, determinable, mixture)

    def undeterminable(self, groups: Sequence[str]) -> tuple[str, ...]:
        """Return the groups that are never determinable: those without spectra and those with a white pigment."""
        return tuple(group for group in groups if group not in self._model.groups or group in WHITE_GROUPS)


class _BandResampler:
    """Conversion of spectra from the bands of a cube to the wavelength grid of the classifier."""

    def __init__(self, wavelength: Floats) -> None:
        is_finite = np.isfinite(wavelength)
        min_nm, max_nm = (
            (float(np.min(wavelength[is_finite])), float(np.max(wavelength[is_finite]))) if is_finite.any() else (0, 0)
        )
        grid = np.arange(FIRST_NM, LAST_NM + 1.0, STEP_NM)
        grid = grid[(grid >= min_nm - STEP_NM / 2) & (grid <= max_nm + STEP_NM / 2)]
        range_nm = float(grid[-1] - grid[0]) if grid.size else 0.0
        is_in_range = is_finite & (wavelength >= FIRST_NM - STEP_NM) & (wavelength <= LAST_NM + STEP_NM)
        if range_nm < MIN_RANGE_NM or is_in_range.sum() < range_nm / MAX_GAP_NM:
            raise CoverageError(
                f"Cannot identify pigments from {int(is_finite.sum())} bands between {min_nm:g} and {max_nm:g} nm: at "
                f"least {MIN_RANGE_NM:g} nm between {FIRST_NM:g} and {LAST_NM:g} nm are needed, with a band every "
                f"{MAX_GAP_NM:g} nm on average. Check the unit of the wavelengths, or use a cube of the visible range "
                "with more bands."
            )
        self.n_band, self.grid = wavelength.size, grid
        self._order = np.flatnonzero(is_finite)[np.argsort(wavelength[is_finite], kind="stable")]
        self._wavelength = wavelength[self._order]
        weight_rows = [
            _cell_means(grid, self._wavelength, unit_spectrum) for unit_spectrum in np.eye(self._wavelength.size)
        ]
        self._weights = np.stack(weight_rows).astype(np.float32)

    def apply(self, spectra: NDArray[np.generic]) -> Floats:
        """Return the (n, n_grid) reflectance. Spectra become NaN if at most half of their bands are usable."""
        ordered_spectra = np.asarray(spectra[:, self._order], dtype=np.float32)
        is_missing = ~np.isfinite(ordered_spectra)
        for row in np.flatnonzero(is_missing.any(axis=1)):
            is_valid = ~is_missing[row]
            ordered_spectra[row] = (
                np.interp(self._wavelength, self._wavelength[is_valid], ordered_spectra[row, is_valid])
                if 2 * is_valid.sum() > is_valid.size
                else np.nan
            )
        return np.asarray(ordered_spectra @ self._weights, dtype=np.float64)


def _cell_means(grid: Floats, wavelength: Floats, values: Floats) -> Floats:
    """Return the mean of a linearly interpolated spectrum over each cell of a grid.

    The means vary continuously with the wavelengths of the bands. Rounding errors therefore cannot move a band from one
    cell to another.
    """
    point_offsets = STEP_NM * ((np.arange(N_POINTS_PER_CELL) + 0.5) / N_POINTS_PER_CELL - 0.5)
    return np.asarray(np.interp(grid[:, None] + point_offsets, wavelength, values).mean(axis=1))


def _log_features(reflectance: Floats) -> Floats:
    return np.log(np.maximum(reflectance, MIN_REFLECTANCE))


@dataclass(frozen=True, eq=False)
class _References:
    """Pure spectra of a library on a wavelength grid, with their covariances.

    Parameters
    ----------
    values, features : (n, n_grid) array
        Reflectance, and its logarithm; NaN where not measured.
    member_index, patch_index : (n,) int array
        For each spectrum, the index of its member and of its patch.
    within_covariance, total_covariance : (n_grid, n_grid) array
        Covariances of log reflectance: of the difference from the nearest patch of the same member, and of the
        difference from ``mean_features``, with the same total weight for each member and for each patch of an unknown
        pigment. Both include the variation of the brightness level and the noise.
    mean_features : (n_grid,) array
        Mean log reflectance of all spectra, with the same weights.
    n_further_patch : int
        Number of patches that contribute to ``within_covariance``, not counting one patch of each member.
    """

    values: Floats
    features: Floats
    member_index: NDArray[np.int64]
    patch_index: NDArray[np.int64]
    within_covariance: Floats
    total_covariance: Floats
    mean_features: Floats
    n_further_patch: int


def _usable_library(library: ReflectanceLibrary, grid: Floats) -> ReflectanceLibrary:
    """Return the spectra that cover more than :data:`MIN_RANGE_NM`, or more than half of the grid.

    Raises
    ------
    CoverageError
        No pure spectrum covers enough of the grid.
    """
    min_bands = min(grid.size / 2, MIN_RANGE_NM / STEP_NM)
    n_covered = (np.isfinite(_resample_to_grid(spectrum, grid)).sum() for spectrum in library.spectra)
    usable_library = library.subset(bool(n_bands > min_bands) for n_bands in n_covered)
    if not usable_library.members:
        raise CoverageError(
            f"Cannot identify pigments with this library: none of its {len(library)} spectra is of a known pigment and "
            f"covers {STEP_NM * min_bands:g} nm of the cube's {grid[0]:g} to {grid[-1]:g} nm. Check the names and the "
            "wavelengths of its spectra, or omit --library."
        )
    return usable_library


def _references(library: ReflectanceLibrary, grid: Floats) -> _References:
    member_positions = {member: position for position, member in enumerate(library.members)}
    pure_spectra = [spectrum for spectrum in library.spectra if spectrum.member and spectrum.pure]
    reflectance = np.stack([_resample_to_grid(spectrum, grid) for spectrum in pure_spectra])
    member_index = np.asarray([member_positions[spectrum.member] for spectrum in pure_spectra], dtype=np.int64)
    patch_index = np.unique([spectrum.patch for spectrum in pure_spectra], return_inverse=True)[1].astype(np.int64)
    features = _log_features(reflectance)
    is_complete = np.isfinite(features).all(axis=1)
    within_covariance, n_further_patch = _covariance_between_patches(
        features[is_complete], member_index[is_complete], patch_index[is_complete]
    )
    all_features = _log_features(np.stack([_resample_to_grid(spectrum, grid) for spectrum in library.spectra]))
    is_complete = np.isfinite(all_features).all(axis=1)
    all_features = all_features[is_complete]
    # an unknown pigment is one more member, so each member counts once, however many patches of it were measured
    kinds = np.asarray([spectrum.member or spectrum.patch for spectrum in library.spectra])[is_complete]
    kind_index, n_spectrum = np.unique(kinds, return_inverse=True, return_counts=True)[1:]
    weight = 1.0 / (n_spectrum[kind_index] * max(n_spectrum.size, 1))
    mean_features = weight @ all_features
    deviation = all_features - mean_features
    total_covariance = (weight[:, None] * deviation).T @ deviation + within_covariance
    return _References(
        reflectance,
        features,
        member_index,
        patch_index,
        within_covariance,
        total_covariance,
        mean_features,
        n_further_patch,
    )


def _covariance_between_patches(
    features: Floats, member_index: NDArray[np.int64], patch_index: NDArray[np.int64]
) -> tuple[Floats, int]:
    """Return the covariance of differences between each spectrum and the nearest one from another patch of its member.

    Kernels use this covariance, because the likelihood of a class is that of its nearest spectrum. The nearest spectrum
    and the covariance depend on each other, so they are determined iteratively. The iteration starts from the
    covariance around the mean of each member. The function also returns the number of patches, not counting one patch
    of each member.
    """
    noise_and_level = NOISE_DEVIATION**2 * np.eye(features.shape[1]) + LEVEL_DEVIATION**2
    rows_by_member = [rows for rows in (np.flatnonzero(member_index == member) for member in np.unique(member_index))
               if np.unique(patch_index[rows]).size > 1]  # fmt: skip
    if not rows_by_member:
        return noise_and_level, 0
    deviation = np.concatenate([features[rows] - features[rows].mean(axis=0) for rows in rows_by_member])
    for iteration in range(1 + _N_ITERATION):
        within_covariance = deviation.T @ deviation / len(deviation) + noise_and_level
        if iteration < _N_ITERATION:
            whitened = features @ np.linalg.inv(np.linalg.cholesky(within_covariance)).T
            patch_deviations = []
            for rows in rows_by_member:
                squared_distance = ((whitened[rows, None] - whitened[rows]) ** 2).sum(axis=2)
                squared_distance[np.equal(patch_index[rows, None], patch_index[rows])] = np.inf
                patch_deviations.append(features[rows] - features[rows[squared_distance.argmin(axis=1)]])
            deviation = np.concatenate(patch_deviations)
    return within_covariance, sum(np.unique(patch_index[rows]).size - 1 for rows in rows_by_member)


def _member_means(references: _References, n_member: int) -> Floats:
    """Return the mean log reflectance of each member over its complete spectra; NaN if it has no complete spectrum."""
    is_complete = np.isfinite(references.features).all(axis=1)
    member_means = np.full((n_member, references.mean_features.size), np.nan)
    for member in np.unique(references.member_index[is_complete]):
        member_means[member] = references.features[is_complete & (references.member_index == member)].mean(axis=0)
    return member_means


def _measured_spectra(library: ReflectanceLibrary, grid: Floats) -> tuple[Floats, NDArray[np.int64], NDArray[np.str_]]:
    """Return the measured spectra of pure paints and of paints with added white or black.

    For each spectrum, also return the index of its main member, and "white", "black" or "" for what was added.
    """
    reflectance, member_index, companion_names = [], [], []
    for spectrum in library.spectra:
        other_members = {member_of(pigment) for pigment in spectrum.shares} - {spectrum.member}
        companion_name = (
            ""
            if spectrum.pure
            else "white"
            if other_members <= WHITES
            else "black"
            if other_members <= {BLACK}
            else None
        )
        if spectrum.member in library.members and companion_name is not None:
            reflectance.append(_resample_to_grid(spectrum, grid))
            member_index.append(library.members.index(spectrum.member))
            companion_names.append(companion_name)
    return np.stack(reflectance), np.asarray(member_index, dtype=np.int64), np.asarray(companion_names)


@dataclass(frozen=True, eq=False)
class _Kernels:
    """Predicted spectra with the same covariance, whitened and sorted by class."""

    whitening_matrix: NDArray[np.float32]
    whitened_spectra: NDArray[np.float32]
    half_squared_norm: NDArray[np.float32]
    class_starts: NDArray[np.int64]
    classes: NDArray[np.int64]
    log_norm: float


_MixtureChoice = tuple[tuple[int, ...], tuple[int, ...]]
"""Indices of the members that are mixed in pairs, and of those that are mixed in triples."""


class _PosteriorModel:
    """Model that computes the likelihood of each class and the posterior of each hypothesis."""

    def __init__(self, library: ReflectanceLibrary, grid: Floats) -> None:
        library = _usable_library(library, grid)
        self.members = library.members
        references = _references(library, grid)
        # a small library does not determine how the spectra of one pigment vary, so the package's library is used
        covariance_references = references
        if references.n_further_patch < grid.size:
            covariance_references = _references(_usable_library(builtin(), grid), grid)
        self._within, self._total, self._mean = (
            covariance_references.within_covariance,
            covariance_references.total_covariance,
            covariance_references.mean_features,
        )
        self._typical = _member_means(references, len(self.members))
        self._hypotheses = Hypotheses(self.members, *_measured_spectra(library, grid))
        self.groups = self._hypotheses.groups
        self._mixtures: dict[tuple[object, ...], tuple[Hypotheses, list[_Kernels]]] = {}
        self._kernels = self._whiten_spectra(self._hypotheses)
        cholesky_factor = np.linalg.cholesky(self._total)
        self._background = np.linalg.inv(cholesky_factor).T, -float(np.log(np.diag(cholesky_factor)).sum())
        self.temperature = self._calibrate_temperature(
            covariance_references, library if covariance_references is references else _usable_library(builtin(), grid)
        )

    def _whiten_spectra(self, hypotheses: Hypotheses) -> list[_Kernels]:
        """Return the kernels of the predicted spectra.

        The spectra in a kernel have the same missing bands, which are predicted in the same way.
        """
        spectra, classes = hypotheses.spectra, hypotheses.class_of
        is_covered = np.isfinite(spectra)
        typical_features = self._typical[hypotheses.main_of_class[classes]]
        has_typical_spectrum = np.isfinite(typical_features).all(axis=1)
        kernels = []
        for is_covered_band in np.unique(is_covered, axis=0):
            for has_typical in (False, True):
                rows = np.flatnonzero(
                    (is_covered == is_covered_band).all(axis=1) & (has_typical_spectrum == has_typical)
                )
                rows = rows[np.argsort(classes[rows], kind="stable")]
                if rows.size:
                    mean_features = typical_features[rows] if has_typical else self._mean
                    spectral_covariance = self._within if has_typical else self._total
                    kernels.append(
                        self._kernel(
                            _log_features(spectra[rows]),
                            classes[rows],
                            is_covered_band,
                            mean_features,
                            spectral_covariance,
                        )
                    )
        return kernels

    def _kernel(
        self,
        features: Floats,
        classes: NDArray[np.int64],
        is_covered_band: NDArray[np.bool_],
        mean_features: Floats,
        spectral_covariance: Floats,
    ) -> _Kernels:
        """Return whitened spectra, in which missing bands are predicted.

        The prediction is a linear regression derived from the member's complete spectra, or from all spectra if there
        are none. The variance of the prediction error is added to the covariance.
        """
        covariance = self._within.copy()
        if not is_covered_band.all():
            covered_indices, missing_indices = np.flatnonzero(is_covered_band), np.flatnonzero(~is_covered_band)
            regression_matrix = np.linalg.solve(
                spectral_covariance[np.ix_(covered_indices, covered_indices)],
                spectral_covariance[np.ix_(covered_indices, missing_indices)],
            )
            features = features.copy()
            features[:, missing_indices] = (
                mean_features[..., missing_indices]
                + (features[:, covered_indices] - mean_features[..., covered_indices]) @ regression_matrix
            )
            residual_covariance = (
                spectral_covariance[np.ix_(missing_indices, missing_indices)]
                - spectral_covariance[np.ix_(missing_indices, covered_indices)] @ regression_matrix
            )
            covariance[np.ix_(missing_indices, missing_indices)] += residual_covariance
        cholesky_factor = np.linalg.cholesky(covariance)
        whitening_matrix = np.linalg.inv(cholesky_factor).T
        whitened_spectra = (features - self._mean) @ whitening_matrix
        class_starts = np.flatnonzero(np.diff(classes, prepend=-1))
        return _Kernels(
            whitening_matrix.astype(np.float32),
            whitened_spectra.astype(np.float32),
            (0.5 * (whitened_spectra**2).sum(axis=1)).astype(np.float32),
            class_starts,
            classes[class_starts],
            -float(np.log(np.diag(cholesky_factor)).sum()),
        )

    def _log_student_density(self, squared_distance: NDArray[np.float32], log_norm: float) -> NDArray[np.float32]:
        exponent = -0.5 * (DEGREES_OF_FREEDOM + self._mean.size)
        return np.asarray(
            np.float32(exponent) * np.log1p(squared_distance / np.float32(DEGREES_OF_FREEDOM)) + np.float32(log_norm)
        )

    def _hypotheses_for(
        self, group_probability: Floats | None, groups: tuple[str, ...]
    ) -> tuple[Hypotheses, list[_Kernels]]:
        """Return the hypotheses for a block, and their kernels.

        Triples are included only if XRF gives group probabilities.
        """
        mixture_choice: _MixtureChoice = (self._hypotheses.mixed, ())
        if group_probability is not None:
            mixture_choice = self._hypotheses.choose_mixtures(group_probability, groups)
        cache_key = (*mixture_choice, group_probability is not None)
        hypotheses_and_kernels = self._mixtures.get(cache_key)
        if hypotheses_and_kernels is None:
            mixtures = self._hypotheses.with_mixtures(*mixture_choice, with_xrf=group_probability is not None)
            hypotheses_and_kernels = mixtures, [*self._kernels, *self._whiten_spectra(mixtures)]
            if len(self._mixtures) >= MAX_CACHED_MIXTURES:
                self._mixtures.clear()
            self._mixtures[cache_key] = hypotheses_and_kernels
        return hypotheses_and_kernels

    def likelihood(
        self, features: Floats, n_class: int, kernels: Sequence[_Kernels]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the log likelihood of each class, (n_class, n), and of a pigment outside the library, (n,).

        The likelihood of a class is that of its nearest spectrum. The other spectra contribute negligibly if there are
        many bands.
        """
        centred_features = (features - self._mean).astype(np.float32)
        max_likelihood = np.full((n_class, len(features)), -np.inf, dtype=np.float32)
        for kernel in kernels:
            whitened = (centred_features @ kernel.whitening_matrix).T
            squared_norm = (whitened**2).sum(axis=0)
            for first_row in range(0, len(features), SUBBLOCK_SIZE):
                rows = slice(first_row, first_row + SUBBLOCK_SIZE)
                closeness = kernel.whitened_spectra @ whitened[:, rows]
                closeness -= kernel.half_squared_norm[:, None]
                max_closeness = np.maximum.reduceat(closeness, kernel.class_starts, axis=0)
                squared_distance = np.maximum(squared_norm[rows] - 2.0 * max_closeness, 0.0)
                log_density = self._log_student_density(squared_distance, kernel.log_norm)
                max_likelihood[kernel.classes, rows] = np.maximum(max_likelihood[kernel.classes, rows], log_density)
        whitening_matrix, log_norm = self._background
        return max_likelihood, self._log_student_density(
            ((centred_features @ whitening_matrix.astype(np.float32)) ** 2).sum(axis=1), log_norm
        )

    def _calibrate_temperature(self, references: _References, library: ReflectanceLibrary) -> float:
        """Return the exponent of the likelihood that maximises the cross-validated log probability.

        Without an exponent, the likelihood would be overconfident, because the covariance does not describe all
        dependence between bands. The score is the mean log probability of the true member when its patch is left out.
        """
        is_complete = np.isfinite(references.features).all(axis=1)
        member_index, patch_index = references.member_index[is_complete], references.patch_index[is_complete]
        whitened = (references.features[is_complete] - self._mean) @ np.linalg.inv(np.linalg.cholesky(self._within)).T
        squared_norm = (whitened**2).sum(axis=1)
        squared_distance = np.maximum(squared_norm[:, None] + squared_norm - 2.0 * whitened @ whitened.T, 0.0)
        squared_distance[np.equal(patch_index[:, None], patch_index)] = np.inf
        n_member = len(library.members)
        nearest_distance = np.full((len(member_index), n_member), np.inf)
        for member in np.unique(member_index):
            nearest_distance[:, member] = squared_distance[:, member_index == member].min(axis=1)
        has_reference: NDArray[np.bool_] = np.isfinite(nearest_distance[np.arange(len(member_index)), member_index])
        if has_reference.sum() < 100:
            return 0.2
        likelihood = self._log_student_density(nearest_distance[has_reference].astype(np.float32), 0.0)
        log_prior, true_member = np.log(commonness(library.members)), member_index[has_reference]

        def score(temperature: float) -> float:
            logits = temperature * likelihood + log_prior
            logits -= logits.max(axis=1, keepdims=True)
            probability = np.exp(logits)
            probability /= probability.sum(axis=1, keepdims=True)
            true_probability = probability[np.arange(len(true_member)), true_member]
            return float(
                np.log((1.0 - WRONG_LABEL_PROBABILITY) * true_probability + WRONG_LABEL_PROBABILITY / n_member).mean()
            )

        return max(TEMPERATURES, key=score)

    def answer(
        self,
        reflectance: Floats,
        group_probability: Floats | None,
        groups: tuple[str, ...],
        surface_probability: Floats | None = None,
    ) -> tuple[NDArray[np.floating], ...]:
        """Return the fields probability, presence, mixture, hidden and determinable of :class:`ReflectanceAnswer`."""
        is_usable = np.asarray(np.isfinite(reflectance).all(axis=1))
        features = _log_features(np.where(is_usable[:, None], reflectance, 1.0))
        hypotheses, kernels = self._hypotheses_for(group_probability, groups)
        likelihood, unknown_likelihood = self.likelihood(features, hypotheses.n_class, kernels)
        joint_posterior = hypotheses.joint_posterior(
            likelihood, self.temperature, group_probability, groups, surface_probability
        )
        log_none = (
            np.float32(self.temperature) * unknown_likelihood
            + np.float32(np.log(PRIOR_NONE))
            + joint_posterior.log_unknown
        )
        max_log_posterior = np.maximum(joint_posterior.log_sets.max(axis=0), log_none)
        set_posterior = np.exp(joint_posterior.log_sets - max_log_posterior)
        none_posterior = np.exp(log_none - max_log_posterior)
        total_posterior = set_posterior.sum(axis=0) + none_posterior
        set_posterior /= total_posterior
        none_posterior = none_posterior / total_posterior
        probability = np.concatenate([set_posterior.T @ hypotheses.main, none_posterior[:, None]], axis=1)
        presence, surface_group_presence = joint_posterior.surface_presence(set_posterior, none_posterior)
        mixture = set_posterior.T @ hypotheses.share
        hidden = np.zeros((len(features), len(groups)))
        determinable = np.zeros(hidden.shape, dtype=bool)
        is_member = is_usable & (probability[:, -1] < probability[:, :-1].max(axis=1))
        is_member &= np.median(np.exp(features), axis=1) > DARK_REFLECTANCE
        surface_k_over_s = darkest_k_over_s(np.exp(features))
        if group_probability is not None:
            for column, group in enumerate(groups):
                is_in_library = group in hypotheses.groups
                group_at_surface = (
                    surface_group_presence[hypotheses.groups.index(group)]
                    if is_in_library
                    else np.zeros_like(none_posterior)
                )
                hidden[:, column] = group_probability[:, column] * np.clip(1.0 - group_at_surface, 0.0, 1.0)
                if is_in_library and group not in WHITE_GROUPS:
                    determinable[:, column] = is_member & (surface_k_over_s >= hypotheses.palest_tint_k_over_s(group))
        for array in (probability, presence, mixture, hidden):
            array[~is_usable] = np.nan
        return probability, presence, mixture, hidden, determinable


def _resample_to_grid(spectrum: ReferenceSpectrum, grid: Floats) -> Floats:
    grid_reflectance = _cell_means(grid, spectrum.wavelength_nm, spectrum.reflectance)
    is_outside = (grid < spectrum.wavelength_nm[0] - STEP_NM / 2) | (grid > spectrum.wavelength_nm[-1] + STEP_NM / 2)
    return np.where(is_outside, np.nan, grid_reflectance)
