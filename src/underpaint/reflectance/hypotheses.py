"""Hypotheses on the surface paint: sets of members, their spectra predicted by Kubelka-Munk, and their prior."""

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from underpaint.physics.materials import load_palette, palette_names
from underpaint.reflectance.kubelka_munk import inside_the_paint, opaque, ratio, through_the_surface
from underpaint.reflectance.names import groups_of, member_of

Floats = NDArray[np.float64]
Matrix = NDArray[np.float32]

BLACK = "carbon_black"
"""Member that darkens other colours. In a mixture with it the other member is the main pigment."""
WHITES = {"lead_white", "zinc_white", "titanium_white", "barium_white", "chalk"}
WHITE_GROUPS = ("lead_pigment", "zinc_pigment", "titanium_pigment", "calcium_white", "barium_pigment")
"""XRF groups with a white pigment; reflectance cannot tell one white from another."""
WHITE_K_OVER_S = 0.2
"""A member is a white if its K/S as an opaque paint is below this in nine tenths of the bands."""
TINTS = (0.5, 0.2, 0.08, 0.03, 0.01)
"""Factors of K/S by which white dilutes a paint, one predicted spectrum each."""
BLACK_SHARES = (0.15, 0.4)
"""Fractions of the absorption due to black in a mixture with it."""
DARK_PERCENT = 90.0
"""Percentile of K/S over the bands that represents the darkest bands."""
PAIR_SHARES = ((0.75, 0.25),)
"""Fractions of the absorption due to the main and to the other member of a pair."""
PAIR_TINTS = (1.0, 0.3, 0.08)
"""Factors of K/S by which white dilutes a mixture."""
PRIOR_PAIR, PRIOR_BLACK = 0.2, 0.1
"""Prior probability that a paint holds two coloured members; that it holds one member and black."""
PRIOR_TRIPLE = 0.2
"""Prior probability of three members, used only if XRF gives the groups."""
TRIPLE_SHARES = ((0.6, 0.2, 0.2), (0.4, 0.3, 0.3))
"""Fractions of the absorption due to each member of a triple."""
MAX_TRIPLE_MEMBERS, DETECTED = 20, 0.2
"""Number of members that are combined to triples; probability above which XRF counts as having detected a group."""
PRIOR_TINTED = 0.5
"""Prior probability that a paint of one coloured member holds white."""
MAX_GLOSS = 0.03
"""Maximum specular reflectance that is subtracted from a measured spectrum before its K/S is computed."""
PREDICTED_GLOSS = 0.02
"""Specular reflectance that is added to a predicted spectrum."""
BELOW, MIXED_IN = 0.1, 0.2
"""Prior probability that a group detected by XRF lies only below the surface; that a further pigment of the surface
paint brings it."""
WHITE_BELOW, WHITE_MIXED_IN = 0.5, 0.5
"""The same for groups with a white, which grounds and most paints contain."""
UNKNOWN_SHOWS = 0.3
"""Prior probability that a pigment outside the library belongs to a group detected by XRF."""
MINOR = 0.2
"""Prior probability that a group which XRF places at the surface is too dilute to change the colour."""
PLACE_LIMITS = (0.02, 0.98)
"""Limits of XRF's probability that a group lies only below the surface; more extreme values are overconfident."""
UNREPORTED = 0.1
"""Prior probability of a group for which XRF gives no probability."""
MIN_GROUP_PROBABILITY = 0.01
"""Lower limit of XRF's group probabilities: the chance that XRF misses a group at the surface."""


class Hypotheses:
    """Sets of members with their predicted spectra and their XRF groups.

    A *class* is a composition with its own predicted spectra: one member pure, with white or with black, or a mixture
    of two or three members. A *hypothesis* is a class with one choice of XRF groups, because a member may stand for
    pigments of different groups (a lake with tin, or without).

    Parameters
    ----------
    members : tuple of str
        Names of the members.
    values : (n, n_band) array
        Measured reflectance; NaN in bands that were not measured.
    owner : (n,) int array
        Index of the member that gives each spectrum its colour.
    companion : (n,) array of str
        What each paint holds besides: "" for a pure paint, ``white`` or ``black``.

    Attributes
    ----------
    spectra : (n_spectrum, n_band) array
        Predicted spectra, the measured ones first.
    class_of : (n_spectrum,) int array
        Class of each spectrum.
    n_class : int
        Number of classes.
    main_of_class : (n_class,) int array
        The member that gives each class its colour.
    of_class : (n_hypothesis,) int array
        The class of each hypothesis.
    groups : tuple of str
        All XRF groups of the members.
    needs : (n_hypothesis, n_group) array
        1 for each group that the members of a hypothesis bring, otherwise 0.
    shows : (n_group, n_member) array
        1 for each member that has a pigment of the group, otherwise 0.
    by_main : list of int array
        Indices of the hypotheses of each main member.
    main : (n_hypothesis, n_member) array
        1 for the main member, which gives the colour, otherwise 0.
    contains : (n_hypothesis, n_member) array
        1 for each member of the paint, otherwise 0.
    share : (n_hypothesis, n_member) array
        Fraction of the absorption due to each member.
    """

    def __init__(
        self, members: tuple[str, ...], values: Floats, owner: NDArray[np.int64], companion: NDArray[np.str_]
    ) -> None:
        self.members = members
        mixed, mixed_owner, mixed_companion = (
            values[companion != ""],
            owner[companion != ""],
            companion[companion != ""],
        )
        values, owner = values[companion == ""], owner[companion == ""]
        k_over_s = ratio(inside_the_paint(values, gloss_of(values)))
        n = len(members)
        typical = np.exp(np.stack([_mean(np.log(k_over_s[owner == place])) for place in range(n)]))
        strength = np.asarray([np.nanmean(row) for row in typical])
        white = np.asarray([bool(np.nanpercentile(row, 90) < WHITE_K_OVER_S) for row in typical])
        black = members.index(BLACK) if BLACK in members else -1
        coloured = [place for place in range(n) if not white[place] and place != black]
        tinted = sorted([*coloured, *([black] if black >= 0 else [])])
        darkened = [place for place in range(n) if place != black] if black >= 0 else []
        base = self._base = commonness(members)
        rows: list[tuple[int, tuple[int, ...], float]] = []
        spectra, classes = [values], [owner]
        share = []
        for place in range(n):
            alone = 1.0 - PRIOR_PAIR - (PRIOR_BLACK if place in darkened else 0.0)
            share.append({place: 1.0})
            rows.append((place, (place,), base[place] * alone * (1.0 - PRIOR_TINTED * (place in tinted))))
        tinted_from = len(share)
        tinted_class = {place: tinted_from + number for number, place in enumerate(tinted)}
        for place in tinted:
            share.append({place: 1.0})
            alone = 1.0 - PRIOR_PAIR - (PRIOR_BLACK if place in darkened else 0.0)
            rows.append((tinted_class[place], (place,), base[place] * alone * PRIOR_TINTED))
        keep = np.isin(owner, tinted)
        for tint in TINTS:
            spectra.append(_predicted(tint * k_over_s[keep]))
            classes.append(np.asarray([tinted_class[place] for place in owner[keep]]))
        darkened_from = len(share)
        shape = typical / strength[:, None]
        for number, place in enumerate(darkened):
            share.append({place: 1.0 - float(np.mean(BLACK_SHARES)), black: float(np.mean(BLACK_SHARES))})
            rows.append((darkened_from + number, (place, black), base[place] * PRIOR_BLACK))
        for part in BLACK_SHARES:
            for tint in PAIR_TINTS:
                darker = (1.0 - part) * shape[darkened] + part * shape[black] if darkened else shape[:0]
                # in a mixture of white and black only the black absorbs
                level = np.where(white[darkened], strength[black], strength[darkened])
                spectra.append(_predicted(tint * level[:, None] * darker))
                classes.append(darkened_from + np.arange(len(darkened)))
        for kind, places, first_class in (("white", tinted, tinted_from), ("black", darkened, darkened_from)):
            of_kind = (mixed_companion == kind) & np.isin(mixed_owner, places)
            spectra.append(mixed[of_kind])
            classes.append(first_class + np.searchsorted(places, mixed_owner[of_kind]))
        self.n_class = len(share)
        self.spectra, self.class_of = np.concatenate(spectra), np.concatenate(classes).astype(np.int64)
        self._shape, self._strength, self.n_single = shape, strength, 0
        self._darkest = np.where(white, 0.0, np.nanpercentile(typical, DARK_PERCENT, axis=1))
        # mixtures are made of members that at least one palette names
        self.mixed = tuple(place for place in coloured if members[place] in _palettes())
        self._place_companions(tinted_class, darkened, darkened_from, black, np.flatnonzero(white))
        self.expand(rows, share)
        self.n_single = len(self.of_class)

    def with_mixtures(self, paired: Sequence[int], tripled: Sequence[int], *, with_xrf: bool) -> "Hypotheses":
        """Return these hypotheses extended by mixtures; its ``spectra`` are those of the mixtures only.

        Parameters
        ----------
        paired, tripled : sequence of int
            Indices of the members that are mixed in pairs and in triples.
        with_xrf : bool
            Whether XRF gives group probabilities. If so, the prior of a second or third member is relative to the
            members of the same group, otherwise to all members.
        """
        of_group = self.shows @ self._base
        further = self._base.copy()
        if with_xrf:
            of_rarest = np.where(self.shows > 0, of_group[:, None], np.inf).min(axis=0)
            further = self._base / np.where(np.isfinite(of_rarest), of_rarest, 1.0)
        extended = copy(self)
        rows, parts = list(self._rows), list(self._parts)
        spectra, classes = [], []
        companions = self._with.copy()
        for n_part, candidates, prior, choices in (
            (2, paired, PRIOR_PAIR, PAIR_SHARES),
            (3, tripled, PRIOR_TRIPLE, TRIPLE_SHARES),
        ):
            sets = [
                (first_member, *rest)
                for first_member in candidates
                for rest in combinations([each for each in candidates if each != first_member], n_part - 1)
            ]
            if n_part == 3:
                # each further member must bring another group: no triples of three earths
                sets = [each for each in sets if (self.shows[:, list(each)].sum(axis=1) <= 1).all()]
            if not sets:
                continue
            places = np.asarray(sets)
            weight = self._base[places[:, 0]] * np.prod(further[places[:, 1:]], axis=1)
            first = len(parts)
            if n_part == 2:
                companions[places[:, 0], places[:, 1]] = first + np.arange(len(sets))
            for number, each in enumerate(sets):
                parts.append(dict(zip(each, np.mean(choices, axis=0).tolist(), strict=True)))
                rows.append((first + number, each, prior * float(weight[number])))
            for shares in choices:
                mixed = sum(part * self._shape[places[:, position]] for position, part in enumerate(shares))
                strengths = [self._strength[places[:, position]] ** part for position, part in enumerate(shares)]
                level = np.prod(strengths, axis=0)
                for tint in PAIR_TINTS:
                    spectra.append(_predicted(tint * level[:, None] * mixed))
                    classes.append(first + np.arange(len(sets)))
        extended.spectra = np.concatenate([self.spectra[:0], *spectra])
        extended.class_of = np.concatenate([self.class_of[:0], *classes])
        extended.n_class = len(parts)
        extended.set_companions(companions)
        extended.expand(rows, parts)
        return extended

    def set_companions(self, companions: NDArray[np.int64]) -> None:
        """Set the (n_member, n_member) class of each pair of main and second member; -1 if there is none."""
        self._with = companions

    def choose(self, group_probability: Floats, groups: tuple[str, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the members to mix in pairs and those to mix in triples, for XRF probabilities of shape (n, n_group).

        Pairs are made of the members whose groups XRF detects in any of the pixels and of those that XRF cannot detect.
        Triples are made of the :data:`MAX_TRIPLE_MEMBERS` most common detected members. Other members would have a
        negligible posterior in all pixels.
        """
        highest = {
            group: float(np.nanmax(np.nan_to_num(group_probability[:, place]))) for place, group in enumerate(groups)
        }
        detected = [
            place
            for place in self.mixed
            if any(
                each and all(highest.get(group, 0.0) > DETECTED for group in each)
                for each in groups_of(self.members[place])
            )
        ]
        blind = [place for place in self.mixed if frozenset() in groups_of(self.members[place])]
        common = sorted(set(detected), key=lambda place: -self._base[place])[:MAX_TRIPLE_MEMBERS]
        return tuple(sorted({*detected, *blind})), tuple(sorted(common))

    def expand(self, rows: list[tuple[int, tuple[int, ...], float]], share: list[dict[int, float]]) -> None:
        """Make one hypothesis for each class and choice of groups.

        Parameters
        ----------
        rows : list of (int, tuple of int, float)
            Class, indices of the members, and prior of each composition.
        share : list of dict
            Fraction of the absorption due to each member, for each class.
        """
        self._rows, self._parts = rows, share
        self.main_of_class = np.asarray([max(parts, key=lambda place: parts[place]) for parts in share])
        names = sorted({group for name in self.members for each in groups_of(name) for group in each})
        self.groups = tuple(names)
        column = {group: place for place, group in enumerate(names)}
        of_class, weight, needs = [], [], []
        for number, places, prior in self._rows:
            unions: set[frozenset[str]] = {frozenset()}
            for place in places:
                # a member of a triple must have a group that XRF detects
                sets = [each for each in groups_of(self.members[place]) if each or len(places) < 3]
                unions = {union | each for union in unions for each in sets}
            for union in sorted(unions, key=sorted):
                row = np.zeros(len(names), dtype=np.float32)
                row[[column[group] for group in union]] = 1.0
                of_class.append(number)
                weight.append(np.log(prior / len(unions)))
                needs.append(row)
        self.of_class = np.asarray(of_class)
        self._log_weight = np.asarray(weight, dtype=np.float32)
        self.needs = np.asarray(needs).reshape(len(of_class), len(names))
        by_class = np.zeros((self.n_class, len(self.members)), dtype=np.float32)
        for number, parts in enumerate(share):
            by_class[number, list(parts)] = list(parts.values())
        self.share = by_class[self.of_class]
        self.contains = (self.share > 0).astype(np.float32)
        self.main = np.zeros_like(self.share)
        self.main[np.arange(len(self.main)), self.share.argmax(axis=1)] = 1.0
        self.by_main = [np.flatnonzero(self.main[:, place]) for place in range(len(self.members))]
        self.shows = np.asarray(
            [[any(group in each for each in groups_of(name)) for name in self.members] for group in names],
            dtype=np.float32,
        ).reshape(len(names), len(self.members))
        whites = np.isin(names, WHITE_GROUPS)[:, None]
        self._below = np.where(whites, WHITE_BELOW, BELOW).astype(np.float32)
        self._mixed_in = np.where(whites, WHITE_MIXED_IN, MIXED_IN).astype(np.float32)

    def _place_companions(
        self,
        tinted: dict[int, int],
        darkened: Sequence[int],
        darkened_from: int,
        black: int,
        whites: NDArray[np.int64],
    ) -> None:
        """Set the class of each member with a second one (-1 if none exists), and the classes of each member alone."""
        n = len(self.members)
        self._with = np.full((n, n), -1)
        for place, number in tinted.items():
            self._with[place, whites] = number
        for number, place in enumerate(darkened):
            self._with[place, black] = darkened_from + number
            self._with[black, place] = darkened_from + number
        for place in whites:
            self._with[place, whites] = place
        self._alone = [
            [
                place,
                *([tinted[place]] if place in tinted else []),
                *([darkened_from + list(darkened).index(place)] if place in darkened else []),
            ]
            for place in range(n)
        ]

    def joint(
        self,
        likelihood: Matrix,
        temperature: float,
        group_probability: Floats | None,
        groups: tuple[str, ...],
        surface_probability: Floats | None = None,
    ) -> "Joint":
        """Combine the likelihood of the classes with the group probabilities of XRF.

        Parameters
        ----------
        likelihood : (n_class, n) array
            Log likelihood of each class.
        temperature : float
            Exponent of the likelihood.
        group_probability : (n, n_group) array or None
            Probability by XRF that a group is present at any depth.
        groups : tuple of str
            Names of the groups.
        surface_probability : (n, n_group) array or None
            Probability by XRF that a group is in the uppermost layer; if NaN, the prior :data:`BELOW` is used.

        Returns
        -------
        Joint

        Notes
        -----
        A member at the surface requires its XRF groups. Any other group that XRF detects is either below the surface
        or brought by a further pigment of the surface paint. A further pigment is plausible as far as it would not have
        changed the colour, which is measured by the likelihood of the main member with it relative to without it.
        """
        n = likelihood.shape[1]
        scaled = np.float32(temperature) * likelihood
        log_sets = scaled[self.of_class] + self._log_weight[:, None]
        if group_probability is None or not groups:
            return Joint(self, log_sets, np.zeros(n, np.float32))
        p, surface = (np.full((len(self.groups), n), np.nan, dtype=np.float32) for _ in range(2))
        for place, group in enumerate(groups):
            if group in self.groups:
                p[self.groups.index(group)] = group_probability[:, place]
                if surface_probability is not None:
                    surface[self.groups.index(group)] = surface_probability[:, place]
        is_known = np.isfinite(p)
        with np.errstate(divide="ignore", invalid="ignore"):
            below = np.clip(1.0 - surface / p, *PLACE_LIMITS)
        placed = np.isfinite(below)
        below, on_top = np.where(placed, below, self._below), np.where(placed, 1.0 - below, np.float32(1.0))
        # if XRF itself places a group at the surface, the prior of a further pigment does not apply
        mixed_in = np.where(placed, np.float32(1.0), self._mixed_in)
        minor = np.where(placed, np.float32(MINOR), np.float32(0.0))
        # a group without an XRF probability is unlikely; in a pixel without any, only reflectance is used
        p = np.clip(np.where(is_known, p, np.where(is_known.any(axis=0), UNREPORTED, 1.0)), MIN_GROUP_PROBABILITY, 1.0)
        log_p = np.log(p)
        log_needed = log_p + np.log(on_top)
        # weight of each member as the source of a group: prior times the probability that all its groups are present
        weight = np.stack(
            [
                base * np.exp(self._best_log_probability(name, log_p))
                for name, base in zip(self.members, self._base, strict=True)
            ]
        ).astype(np.float32)
        # members without weight in any pixel are left out of the sums below
        active = np.flatnonzero(weight.any(axis=1))
        shows, weight = self.shows[:, active], weight[active]
        total = np.maximum(shows @ weight, 1e-12)
        companion, brings = [], []
        for main, rows in enumerate(self.by_main):
            pair_class = self._with[main][active]
            alone = scaled[self._alone[main]].max(axis=0)
            source_weight = np.where(pair_class[:, None] >= 0, np.exp(np.minimum(scaled[pair_class] - alone, 0.0)), 0.0)
            source_weight[active == main] = 1.0
            source_weight *= weight
            further = on_top * mixed_in * np.maximum((shows @ source_weight) / total, minor)
            not_needed = np.where(is_known, 1.0 - p + p * (below + further), 1.0)
            log_not_needed = np.log(np.maximum(not_needed, 1e-6))
            log_sets[rows] += log_not_needed.sum(axis=0) + self.needs[rows] @ (log_needed - log_not_needed)
            companion.append(further / (below + further))
            brings.append(source_weight)
        # a mixture with a group that XRF does not detect in a pixel is excluded in that pixel
        undetected = (p <= DETECTED).astype(np.float32)
        log_sets[self.n_single :][self.needs[self.n_single :] @ undetected > 0] = -np.inf
        unknown_shows = UNKNOWN_SHOWS * (1.0 - below)
        not_needed = np.where(is_known, 1.0 - p + p * (below + unknown_shows), 1.0)
        unknown = np.asarray(unknown_shows / (below + unknown_shows), dtype=np.float32)
        log_unknown, probability = np.log(not_needed).sum(axis=0), np.where(is_known, p, 0.0)
        return Joint(self, log_sets, log_unknown, probability, companion, active, brings, unknown)

    def palest_tint(self, group: str) -> float:
        """Return the highest K/S, over the members of a group, of the palest predicted tint of each.

        A surface with a lower K/S may contain the group, as a tint paler than all predicted ones.
        """
        return float(min(TINTS) * (self.shows[self.groups.index(group)] * self._darkest).max())

    def _best_log_probability(self, name: str, log_p: Matrix) -> Matrix:
        """Return the log probability that all groups of a member are present, for the most probable of its pigments.

        Minus infinity if each of its pigments has a group with a probability below :data:`DETECTED`.
        """
        rows = []
        for each in groups_of(name):
            of_groups = log_p[[self.groups.index(group) for group in each]]
            detected = (of_groups > np.log(DETECTED)).all(axis=0)
            rows.append(np.where(detected, of_groups.sum(axis=0), -np.inf))
        return np.asarray(np.max(rows, axis=0))


@dataclass(frozen=True, eq=False)
class Joint:
    """Unnormalised log posterior of each hypothesis, with the terms needed for presence and hidden groups.

    Parameters
    ----------
    hypotheses : Hypotheses
        The hypotheses, in the order of ``log_sets``.
    log_sets : (n_hypothesis, n) array
        Log of prior times likelihood.
    log_unknown : (n,) array
        Contribution of XRF to the log prior of a pigment outside the library.
    probability : (n_group, n) array or None
        Probability of XRF for each group of the hypotheses.
    companion : list of (n_group, n) array
        For each main member, the probability that a detected group is brought by a further pigment of the surface.
    active : (n_active,) int array or None
        Indices of the members of groups that XRF detects.
    brings : list of (n_active, n) array
        For each main member, the weight of each active member as that further pigment.
    unknown_shows : (n_group, n) array or None
        Probability that a pigment outside the library brings a detected group.
    """

    hypotheses: Hypotheses
    log_sets: Matrix
    log_unknown: Matrix
    probability: Matrix | None = None
    companion: Sequence[Matrix] = ()
    active: NDArray[np.intp] | None = None
    brings: Sequence[Matrix] = ()
    unknown_shows: Matrix | None = None

    def at_surface(self, posterior: Matrix, none: Matrix) -> tuple[Matrix, Matrix]:
        """Return the presence of each member, (n, n_member), and of each group at the surface, (n_group, n).

        Parameters
        ----------
        posterior : (n_hypothesis, n) array
            Posterior probability of each hypothesis.
        none : (n,) array
            Posterior probability of a pigment outside the library.
        """
        known = self.hypotheses
        presence = posterior.T @ known.contains
        if self.probability is None or self.unknown_shows is None:
            return np.minimum(presence, 1.0), np.zeros((len(known.groups), posterior.shape[1]), np.float32)
        shown = self.unknown_shows * none
        shows = known.shows[:, self.active]
        for rows, companion, brings in zip(known.by_main, self.companion, self.brings, strict=True):
            needed = known.needs[rows].T @ posterior[rows]
            further = self.probability * companion * (posterior[rows].sum(axis=0) - needed)
            shown += needed + further
            total = np.maximum(shows @ brings, 1e-12)
            presence[:, self.active] += (brings * (shows.T @ (further / total))).T
        return np.minimum(presence, 1.0), shown


def gloss_of(values: Floats) -> Floats:
    """Return the specular reflectance in each measured spectrum, (n, 1), limited by its darkest band."""
    return np.asarray(np.clip(np.minimum(MAX_GLOSS, 0.8 * np.nanmin(values, axis=1, keepdims=True)), 0.0, None))


def pixel_strength(reflectance: Floats) -> Floats:
    """Return the K/S of (n, n_band) measured spectra in their darkest bands; see :meth:`Hypotheses.palest_tint`."""
    return np.asarray(np.percentile(ratio(inside_the_paint(reflectance, PREDICTED_GLOSS)), DARK_PERCENT, axis=1))


def _predicted(k_over_s: Floats) -> Floats:
    return through_the_surface(opaque(k_over_s), PREDICTED_GLOSS)


def _mean(rows: Floats) -> Floats:
    finite = np.isfinite(rows)
    count = finite.sum(axis=0)
    return np.where(count > 0, np.where(finite, rows, 0.0).sum(axis=0) / np.maximum(count, 1), np.nan)


@lru_cache
def _palettes() -> dict[str, int]:
    count: dict[str, int] = {}
    for palette in palette_names():
        for name in {member_of(pigment) for pigment in load_palette(palette).pigments}:
            count[name] = count.get(name, 0) + 1
    return count


def commonness(members: tuple[str, ...]) -> Floats:
    """Return the prior of the members, proportional to sqrt(1 + n), where n palettes contain the member."""
    weight = np.sqrt(np.asarray([1.0 + _palettes().get(name, 0) for name in members]))
    return np.asarray(weight / weight.sum())
