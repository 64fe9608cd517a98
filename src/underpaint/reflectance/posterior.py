"""Which pigment lies at the surface: the posterior over members from reflectance, joined with the groups of XRF.

The model, in short (``docs/explanations/reflectance.md`` has it in full). A hypothesis is a set of one or two members
in the surface paint, with or without white. It predicts spectra: those measured of its patches, and mixtures of their
K and S by Kubelka-Munk. A pixel's log reflectance scatters about one of them with Student's distribution, whose
covariance is that between patches of one pigment, widened by the level and by noise. What XRF says enters as the prior:
a member needs the groups that XRF would see of it, and a group that XRF sees may lie below the surface.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from underpaint.errors import CoverageError, ScanError
from underpaint.physics.materials import load_palette, palette_names
from underpaint.reflectance.kubelka_munk import inside_the_paint, opaque, ratio, through_the_surface
from underpaint.reflectance.library import ReferenceSpectrum, ReflectanceLibrary
from underpaint.reflectance.names import groups_of, member_of

Floats = NDArray[np.float64]

NONE = "none of these"
FIRST_NM, LAST_NM, STEP_NM = 410.0, 990.0, 10.0
"""The bands that the classifier looks at, as far as the cube has them."""
LEAST_RANGE_NM = 150.0
"""Shortest range of wavelengths on which anything is said."""
LEAST_REFLECTANCE = 0.005
LEVEL_SPREAD, GLOSS_SPREAD, NOISE = 2.0, 0.01, 0.02
"""Standard deviations: of the level and of noise in log reflectance, of gloss in reflectance."""
FREEDOM = 8.0
"""Degrees of freedom of Student's distribution: how heavy its tails are."""
UNEXPLAINED = 0.3
"""Prior that a group XRF sees shows nothing at the surface."""
UNSEEN = 0.01
"""Prior that XRF misses a group that is at the surface, beside the probability that it gives."""
PRIOR_NONE = 0.02
PAIRS = 0.3
"""Prior that two coloured members make the surface paint."""
TINTS = (0.5, 0.2, 0.05)
"""Shares of the coloured part beside white."""
PAIR_SHARES = (0.15, 0.5, 0.85)
WHITE_GROUPS = ("lead_pigment", "zinc_pigment", "titanium_pigment", "calcium_white", "barium_pigment")
AT_ONCE = 4096


@dataclass(frozen=True, eq=False)
class ReflectanceAnswer:
    """What reflectance, joined with XRF's groups, says of each pixel's surface.

    Parameters
    ----------
    members : tuple of str
        Pigments, each standing for those that light cannot tell from it; the last is ``none of these``.
    probability : (n, n_member + 1) float32 array
        That a member gives the surface its colour; rows sum to one. NaN where the spectrum is not usable.
    presence : (n, n_member) float32 array
        That a member is in the surface paint, as its main pigment or beside it.
    groups : tuple of str
        As given to ``identify``.
    hidden : (n, n_group) float32 array
        That XRF's group is there, but in nothing that lies at the surface.
    mixture : (n, n_member) float32 array
        Expected share of each member in the coloured part of the surface paint; of optical effect, not of mass.
    """

    members: tuple[str, ...]
    probability: NDArray[np.float32]
    presence: NDArray[np.float32]
    groups: tuple[str, ...]
    hidden: NDArray[np.float32]
    mixture: NDArray[np.float32]


class ReflectanceClassifier:
    """Names the pigments of a surface from its reflectance.

    Parameters
    ----------
    library : ReflectanceLibrary
    wavelength_nm : (n_band,) array
        Of the spectra to come, in any order.

    Raises
    ------
    CoverageError
        The bands share too short a range with the library's, or lie too far apart.
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
    ) -> ReflectanceAnswer:
        """Return the posterior for spectra.

        Parameters
        ----------
        reflectance : (n, n_band) array
            Fractions, on the bands of ``wavelength_nm``. NaN bands are bridged; a spectrum that is mostly NaN has no
            answer (NaN).
        group_probability : (n, n_group) array, optional
            Of each XRF group being there, at any depth; without, reflectance speaks alone. NaN: unknown.
        groups : sequence of str
            Names of the columns of ``group_probability``, as in the pigment library.

        Raises
        ------
        ScanError
            The arrays do not fit each other or the classifier.
        """
        spectra = np.atleast_2d(np.asarray(reflectance))
        known = None if group_probability is None else np.atleast_2d(np.asarray(group_probability))
        shape = (len(spectra), len(groups))
        if spectra.shape[1] != self._bands.n_band or (known is not None and known.shape != shape):
            raise ScanError(
                f"Cannot identify {spectra.shape} reflectances with {None if known is None else known.shape} group "
                f"probabilities of {len(groups)} groups: the classifier has {self._bands.n_band} bands, and both "
                "arrays need a row for each pixel. Give arrays that fit."
            )
        parts = [
            self._model.answer(
                self._bands.apply(spectra[start : start + AT_ONCE]),
                None if known is None else known[start : start + AT_ONCE].astype(np.float64),
                tuple(groups),
            )
            for start in range(0, max(len(spectra), 1), AT_ONCE)
        ]
        probability, presence, mixture, hidden = (
            np.concatenate([part[index] for part in parts]).astype(np.float32) for index in range(4)
        )
        return ReflectanceAnswer(self.members, probability, presence, tuple(groups), hidden, mixture)


class _Bands:
    """From a cube's bands to the classifier's grid."""

    def __init__(self, wavelength: Floats) -> None:
        usable = np.isfinite(wavelength)
        first, last = (float(np.min(wavelength[usable])), float(np.max(wavelength[usable]))) if usable.any() else (0, 0)
        grid = np.arange(FIRST_NM, LAST_NM + 1.0, STEP_NM)
        grid = grid[(grid >= first - STEP_NM / 2) & (grid <= last + STEP_NM / 2)]
        if grid.size < 2 or grid[-1] - grid[0] < LEAST_RANGE_NM or usable.sum() < LEAST_RANGE_NM / 25.0:
            raise CoverageError(
                f"Cannot identify pigments from {int(usable.sum())} bands between {first:g} and {last:g} nm: at least "
                f"{LEAST_RANGE_NM:g} nm between {FIRST_NM:g} and {LAST_NM:g} nm are needed, with a band every 25 nm. "
                "Check the unit of the wavelengths, or take the visible camera."
            )
        self.n_band, self.grid = wavelength.size, grid
        self._order = np.flatnonzero(usable)[np.argsort(wavelength[usable], kind="stable")]
        self._wavelength = wavelength[self._order]
        self._weights = np.stack([self._row(point) for point in grid], axis=1).astype(np.float32)

    def _row(self, point: float) -> Floats:
        """Return the weights of the bands for a point: the mean of those in its cell, or between its neighbours."""
        inside = np.abs(self._wavelength - point) <= STEP_NM / 2
        if inside.any():
            return np.asarray(inside / inside.sum())
        unit = np.eye(self._wavelength.size)
        return np.asarray([np.interp(point, self._wavelength, row) for row in unit])

    def apply(self, spectra: NDArray[np.generic]) -> Floats:
        """Return (n, n_grid) reflectance; NaN rows where less than half of the bands are usable."""
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


def _features(reflectance: Floats) -> Floats:
    return np.log(np.maximum(reflectance, LEAST_REFLECTANCE))


@dataclass(frozen=True)
class _Kernels:
    """Predicted spectra with one covariance: whitened features, and the class of each."""

    whiten: Floats
    centres: Floats
    start: NDArray[np.int64]
    classes: NDArray[np.int64]
    log_norm: float


class _Model:
    """The predicted spectra of every hypothesis, and their prior."""

    def __init__(self, library: ReflectanceLibrary, grid: Floats) -> None:
        self.members = library.members
        self.grid = grid
        pure = [one for one in library.spectra if one.member and one.pure]
        values = np.stack([_on_grid(one, grid) for one in pure])
        index = {name: place for place, name in enumerate(self.members)}
        owner = np.asarray([index[one.member] for one in pure])
        patches = np.unique([one.patch for one in pure], return_inverse=True)[1]
        everything = np.stack([_on_grid(one, grid) for one in library.spectra])
        self._within, self._total, self._mean = _covariances(_features(values), owner, patches, _features(everything))
        self._sets = _hypotheses(self.members, values, owner)
        self._kernels = self._fit(values, owner)
        self.temperature = self._calibrated(values, owner, patches)

    # -- predicted spectra

    def _fit(self, values: Floats, owner: NDArray[np.int64]) -> list[_Kernels]:
        spectra, classes = self._sets.spectra(values, owner)
        covered = np.isfinite(spectra)
        kernels = []
        for mask in np.unique(covered, axis=0):
            if 2 * mask.sum() < mask.size:
                continue
            rows = np.flatnonzero((covered == mask).all(axis=1))
            rows = rows[np.argsort(classes[rows], kind="stable")]
            kernels.append(self._kernel(_features(spectra[rows]), classes[rows], mask))
        return kernels

    def _kernel(self, features: Floats, classes: NDArray[np.int64], mask: NDArray[np.bool_]) -> _Kernels:
        """Bands that a spectrum lacks are predicted from the others, with the uncertainty of that."""
        covariance = self._within.copy()
        if not mask.all():
            here, missing = np.flatnonzero(mask), np.flatnonzero(~mask)
            gain = np.linalg.solve(self._total[np.ix_(here, here)], self._total[np.ix_(here, missing)])
            features = features.copy()
            features[:, missing] = self._mean[missing] + (features[:, here] - self._mean[here]) @ gain
            rest = self._total[np.ix_(missing, missing)] - self._total[np.ix_(missing, here)] @ gain
            covariance[np.ix_(missing, missing)] += rest
        cholesky = np.linalg.cholesky(covariance)
        whiten = np.linalg.inv(cholesky).T
        start = np.flatnonzero(np.diff(classes, prepend=-1))
        norm = -float(np.log(np.diag(cholesky)).sum())
        return _Kernels(whiten, features @ whiten, start, classes[start], norm)

    def likelihood(self, features: Floats, left_out: NDArray[np.bool_] | None = None) -> tuple[Floats, Floats]:
        """Return the log likelihood of every class, (n, n_class), and of none of them, (n,)."""
        del left_out
        n, width = len(features), self.grid.size
        total = np.full((n, self._sets.n_class), -np.inf, dtype=np.float32)
        count = np.zeros(self._sets.n_class)
        for kernel in self._kernels:
            centres = kernel.centres.astype(np.float32)
            white = (features @ kernel.whiten).astype(np.float32)
            distance = white @ (-2.0 * centres.T)
            distance += (white**2).sum(1)[:, None]
            distance += (centres**2).sum(1)
            np.maximum(distance, 0.0, out=distance)
            distance /= FREEDOM
            distance += 1.0
            np.log(distance, out=distance)
            distance *= -0.5 * (FREEDOM + width)
            distance += np.float32(kernel.log_norm)
            sizes = np.diff(np.append(kernel.start, len(centres)))
            highest = np.maximum.reduceat(distance, kernel.start, axis=1)
            distance -= np.repeat(highest, sizes, axis=1)
            np.exp(distance, out=distance)
            log_sum = highest + np.log(np.add.reduceat(distance, kernel.start, axis=1))
            total[:, kernel.classes] = np.logaddexp(total[:, kernel.classes], log_sum)
            count[kernel.classes] += sizes
        with np.errstate(divide="ignore"):
            total -= np.log(count).astype(np.float32)
        return total.astype(np.float64), self._background(features)

    def _background(self, features: Floats) -> Floats:
        cholesky = np.linalg.cholesky(self._total)
        white = np.linalg.solve(cholesky, (features - self._mean).T)
        return np.asarray(
            -0.5 * (FREEDOM + self.grid.size) * np.log1p((white**2).sum(0) / FREEDOM) - np.log(np.diag(cholesky)).sum()
        )

    def _calibrated(self, values: Floats, owner: NDArray[np.int64], patches: NDArray[np.int64]) -> float:
        del values, owner, patches
        return 0.3

    # -- the posterior

    def answer(
        self, reflectance: Floats, group_probability: Floats | None, groups: tuple[str, ...]
    ) -> tuple[Floats, Floats, Floats, Floats]:
        """Return probability, presence, mixture and hidden for a block."""
        usable = np.isfinite(reflectance).all(axis=1)
        features = _features(np.where(usable[:, None], reflectance, 1.0))
        likelihood, background = self.likelihood(features)
        prior = self._sets.prior(group_probability, groups, len(features))
        log_post = np.concatenate(
            [
                self.temperature * likelihood[:, self._sets.spectral] + prior.log_weight,
                (self.temperature * background + np.log(PRIOR_NONE) + prior.log_none)[:, None],
            ],
            axis=1,
        )
        log_post -= log_post.max(axis=1, keepdims=True)
        posterior = np.exp(log_post)
        posterior /= posterior.sum(axis=1, keepdims=True)
        sets, none = posterior[:, :-1], posterior[:, -1:]
        probability = np.concatenate([sets @ self._sets.main, none], axis=1)
        presence = np.minimum(sets @ self._sets.contains, 1.0)
        mixture = sets @ self._sets.share
        hidden = self._sets.hidden(sets, none, group_probability, groups)
        for each in (probability, presence, mixture, hidden):
            each[~usable] = np.nan
        return probability, presence, mixture, hidden


@dataclass(frozen=True)
class _Prior:
    log_weight: Floats
    log_none: Floats


class _Hypotheses:
    """Sets of members, with the spectral class of each, and the groups that XRF would see of it.

    A spectral class is a set of members, tinted or not; a hypothesis is a class with one choice of the groups.
    """

    def __init__(self, members: tuple[str, ...], typical: Floats, coloured: NDArray[np.bool_]) -> None:
        self.members = members
        self._typical = typical
        n = len(members)
        base = _commonness(members)
        singles = [((place,), False) for place in range(n)] + [
            ((place,), True) for place in range(n) if coloured[place]
        ]
        usable = [place for place in range(n) if coloured[place] and np.isfinite(typical[place]).any()]
        pairs = [((one, two), True) for number, one in enumerate(usable) for two in usable[number + 1 :]]
        self._classes = [*singles, *pairs]
        self.n_class = len(self._classes)
        n_tinted = {place: 2.0 if coloured[place] else 1.0 for place in range(n)}
        pair_total = sum(base[one] * base[two] for (one, two), _ in pairs) or 1.0
        spectral, weight, needs, tinted = [], [], [], []
        self._group_names = tuple(sorted({group for name in members for each in groups_of(name) for group in each}))
        column = {group: place for place, group in enumerate(self._group_names)}
        for number, (places, white) in enumerate(self._classes):
            log_weight = (
                np.log((1.0 - PAIRS) * base[places[0]] / n_tinted[places[0]])
                if len(places) == 1
                else np.log(PAIRS * base[places[0]] * base[places[1]] / pair_total)
            )
            unions = {frozenset()}
            for place in places:
                unions = {union | each for union in unions for each in groups_of(members[place])}
            for union in sorted(unions, key=sorted):
                row = np.zeros(len(self._group_names), dtype=bool)
                row[[column[group] for group in union]] = True
                spectral.append(number)
                weight.append(log_weight - np.log(len(unions)))
                needs.append(row)
                tinted.append(white)
        self.spectral = np.asarray(spectral)
        self._weight, self._needs = np.asarray(weight), np.asarray(needs)
        self._tinted = np.asarray(tinted)
        contains = np.zeros((self.n_class, n))
        for number, (places, _) in enumerate(self._classes):
            contains[number, list(places)] = 1.0
        share = contains / contains.sum(axis=1, keepdims=True)
        self.contains, self.share = contains[self.spectral], share[self.spectral]
        self.main = self.share

    def spectra(self, values: Floats, owner: NDArray[np.int64]) -> tuple[Floats, NDArray[np.int64]]:
        """Return predicted spectra and their class."""
        place_of = {entry: number for number, entry in enumerate(self._classes)}
        spectra, classes = [values], [owner.copy()]
        inner = ratio(inside_the_paint(values, _specular(values)))
        for tint in TINTS:
            tinted = np.asarray([place_of.get(((place,), True), -1) for place in owner])
            keep = tinted >= 0
            spectra.append(_seen(inner[keep] * tint))
            classes.append(tinted[keep])
        pairs = [(number, places) for number, (places, _) in enumerate(self._classes) if len(places) == 2]
        for number, (one, two) in pairs:
            shares = np.asarray(PAIR_SHARES)[:, None]
            mixed = shares * self._typical[one] + (1.0 - shares) * self._typical[two]
            spectra.append(_seen(np.concatenate([mixed, 0.1 * mixed])))
            classes.append(np.full(2 * len(shares), number))
        return np.concatenate(spectra), np.concatenate(classes)

    def _columns(self, group_probability: Floats, groups: tuple[str, ...]) -> Floats:
        """Return (n, n_group) probability by the members' groups; NaN where XRF says nothing."""
        by_name = np.full((len(group_probability), len(self._group_names)), np.nan)
        for place, group in enumerate(groups):
            if group in self._group_names:
                by_name[:, self._group_names.index(group)] = group_probability[:, place]
        return by_name

    def _odds(self, probability: Floats) -> tuple[Floats, Floats]:
        """Return log factors of a group that is at the surface, and of one that is not."""
        known = np.isfinite(probability)
        p = np.clip(np.where(known, probability, 0.5), UNSEEN, 1.0)
        absent = np.clip(1.0 - np.where(known, probability, 0.5), 0.0, 1.0)
        missing = p * UNEXPLAINED + absent
        whites = np.isin(self._group_names, WHITE_GROUPS)
        missing = np.where(whites, p + absent, missing)
        return np.where(known, np.log(p) - np.log(missing), 0.0), np.where(known, np.log(missing), 0.0)

    def prior(self, group_probability: Floats | None, groups: tuple[str, ...], n: int) -> _Prior:
        """Return the log prior of each hypothesis, (n, n_hypothesis), and of none."""
        if group_probability is None or not groups:
            return _Prior(np.broadcast_to(self._weight, (n, self._weight.size)), np.zeros(n))
        present, missing = self._odds(self._columns(group_probability, groups))
        del missing  # common to all
        return _Prior(present @ self._needs.T.astype(np.float64) + self._weight, np.zeros(n))

    def hidden(self, sets: Floats, none: Floats, group_probability: Floats | None, groups: tuple[str, ...]) -> Floats:
        """Return the probability that a group is there, but not at the surface, (n, n_group)."""
        if group_probability is None:
            return np.zeros((len(sets), len(groups)))
        shown = sets @ self._needs.astype(np.float64) + 0.5 * none
        hidden = np.empty((len(sets), len(groups)))
        tinted = sets @ self._tinted.astype(np.float64)
        for place, group in enumerate(groups):
            column = shown[:, self._group_names.index(group)] if group in self._group_names else 0.5
            if group in WHITE_GROUPS:
                column = np.maximum(column, tinted)
            hidden[:, place] = group_probability[:, place] * np.clip(1.0 - column, 0.0, 1.0)
        return hidden


def _hypotheses(members: tuple[str, ...], values: Floats, owner: NDArray[np.int64]) -> _Hypotheses:
    """Return the hypotheses; a typical K/S of each member is the geometric mean over its spectra."""
    inner = np.log(ratio(inside_the_paint(values, _specular(values))))
    with np.errstate(all="ignore"):
        typical = np.stack([_nan_mean(inner[owner == place]) for place in range(len(members))])
    ks = np.exp(typical)
    contrast = np.asarray([np.nanstd(row) if np.isfinite(row).any() else 0.0 for row in np.exp(-typical)])
    white = np.asarray([bool(np.nanmedian(row) < 0.08) for row in ks]) | (contrast < 0.0)
    return _Hypotheses(members, ks, ~white)


def _nan_mean(rows: Floats) -> Floats:
    here = np.isfinite(rows)
    count = here.sum(axis=0)
    return np.where(count > 0, np.where(here, rows, 0.0).sum(axis=0) / np.maximum(count, 1), np.nan)


def _specular(values: Floats) -> Floats:
    """Return the gloss in each spectrum: no more than its darkest band allows."""
    return np.asarray(np.minimum(0.03, 0.8 * np.nanmin(values, axis=1, keepdims=True)).clip(0.0))


def _seen(k_over_s: Floats) -> Floats:
    return through_the_surface(opaque(k_over_s), 0.02)


def _on_grid(one: ReferenceSpectrum, grid: Floats) -> Floats:
    values = np.interp(grid, one.wavelength_nm, one.reflectance)
    outside = (grid < one.wavelength_nm[0] - STEP_NM / 2) | (grid > one.wavelength_nm[-1] + STEP_NM / 2)
    return np.where(outside, np.nan, values)


def _commonness(members: tuple[str, ...]) -> Floats:
    """Return the prior of the members: by the number of the library's palettes that name them."""
    count = dict.fromkeys(members, 1.0)
    for palette in palette_names():
        for name in {member_of(pigment) for pigment in load_palette(palette).pigments}:
            if name in count:
                count[name] += 1.0
    weight = np.sqrt(np.asarray([count[name] for name in members]))
    return np.asarray(weight / weight.sum())


def _covariances(
    features: Floats, owner: NDArray[np.int64], patches: NDArray[np.int64], everything: Floats
) -> tuple[Floats, Floats, Floats]:
    """Return the covariance between patches of a member, that of all spectra, and their mean."""
    width = features.shape[1]
    whole = np.isfinite(features).all(axis=1)
    within, freedom = np.zeros((width, width)), 0.0
    for member in np.unique(owner):
        rows = whole & (owner == member)
        n_patch = np.unique(patches[rows]).size
        if n_patch < 2:
            continue
        deviation = features[rows] - features[rows].mean(axis=0)
        within += deviation.T @ deviation
        freedom += rows.sum() * (n_patch - 1) / n_patch
    within = within / freedom + NOISE**2 * np.eye(width) + LEVEL_SPREAD**2
    complete = everything[np.isfinite(everything).all(axis=1)]
    mean = complete.mean(axis=0)
    deviation = complete - mean
    return within, deviation.T @ deviation / len(complete) + within, mean
