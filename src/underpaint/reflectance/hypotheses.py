"""What a surface paint may be: sets of members, the spectra that Kubelka-Munk predicts of each, and their prior."""

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
"""The member that darkens: beside it another one is the main pigment."""
WHITES = {"lead_white", "zinc_white", "titanium_white", "barium_white", "chalk"}
WHITE_GROUPS = ("lead_pigment", "zinc_pigment", "titanium_pigment", "calcium_white", "barium_pigment")
"""Groups with a white, which light cannot tell from the others."""
WHITE_K_OVER_S = 0.2
"""K/S of an opaque paint below which, at nine of ten bands, a member is a white."""
TINTS = (0.5, 0.2, 0.08, 0.03, 0.01)
"""K/S beside white, relative to the paint without."""
BLACK_SHARES = (0.15, 0.4)
"""Share of black in the absorption."""
DARK_PERCENT = 90.0
"""Percentile of K/S over the bands that stands for the darkest ones."""
PAIR_SHARES = ((0.75, 0.25),)
"""Shares in the absorption of the main member of a pair, and of the other."""
PAIR_TINTS = (1.0, 0.3, 0.08)
PRIOR_PAIR, PRIOR_BLACK = 0.2, 0.1
"""Prior that the paint holds two coloured members, or one and black."""
PRIOR_TRIPLE = 0.2
"""Prior that the paint holds three members, where XRF names the groups to choose from."""
TRIPLE_SHARES = ((0.6, 0.2, 0.2), (0.4, 0.3, 0.3))
MOST_DETECTED, DETECTED = 20, 0.2
"""Members of which triples are made, and the probability from which XRF sees a group."""
PRIOR_TINTED = 0.5
GLOSS = 0.03
"""Most gloss that is taken off a measured spectrum before its K/S is computed."""
PREDICTED_GLOSS = 0.02
BELOW, MIXED_IN = 0.1, 0.2
"""Prior that a group which XRF sees lies below the surface only; that it is a further part of the surface paint."""
WHITE_BELOW, WHITE_MIXED_IN = 0.5, 0.5
"""The same for groups with a white: grounds and underlayers hold them, and most paints."""
UNKNOWN_SHOWS = 0.3
"""Prior that a pigment which the library lacks shows a group that XRF sees."""
MINOR = 0.2
"""Prior that a group which XRF places at the surface is too small a part of the paint to change its colour."""
PLACE_LIMITS = (0.02, 0.98)
"""Least and most that XRF's place of a group counts for: networks that are surer are not that much righter."""
UNREPORTED = 0.1
"""Prior of a group that is not among those XRF was asked for."""
UNSEEN = 0.01
"""Prior that XRF misses a group at the surface, whatever probability it gives."""


class Hypotheses:
    """Sets of members, each with the groups that XRF would see of it.

    A *class* is a set of members that predicts spectra of its own: a member pure, beside white, or beside black, and
    ordered pairs of members. A *hypothesis* is a class with one choice of groups (a lake with tin, or without).

    Parameters
    ----------
    members : tuple of str
    values : (n, n_band) array
        Measured reflectance; NaN where a band was not measured.
    owner : (n,) int array
        Index of the member that gives each its colour.
    beside : (n,) array of str
        What is beside it: "" for a pure paint, else ``white`` or ``black``.

    Attributes
    ----------
    spectra, class_of : (n_spectrum, n_band) and (n_spectrum,) array
        Predicted spectra, the measured ones first, and the class of each.
    n_class : int
    main_of_class : (n_class,) int array
        The member that gives each class its colour.
    of_class : (n_hypothesis,) int array
        The class of each hypothesis.
    groups : tuple of str
        Every group that XRF sees of a member.
    needs : (n_hypothesis, n_group) array
        One for each group that XRF sees of its members.
    shows : (n_group, n_member) array
        One for each member that can bring a group.
    by_main : list of int array
        The hypotheses of each main member.
    main, contains, share : (n_hypothesis, n_member) array
        One for the member that gives the colour; one for each member in the paint; their shares of the absorption.
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
                # beside white the black alone absorbs
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
        # what no palette names is not looked for in mixtures
        self.mixed = tuple(place for place in coloured if members[place] in _palettes())
        self._place_companions(tinted_class, darkened, darkened_from, black, np.flatnonzero(white))
        self.expand(rows, share)
        self.n_single = len(self.of_class)

    def with_mixtures(self, paired: Sequence[int], tripled: Sequence[int], *, with_xrf: bool) -> "Hypotheses":
        """Return these hypotheses with the mixtures of two and of three members; ``spectra`` are those alone.

        Parameters
        ----------
        paired, tripled : sequence of int
            Indices of the members that are mixed by two and by three.
        with_xrf : bool
            Whether XRF says which groups there are: the prior of a further member is then its share among those that
            bring its group, otherwise among all.
        """
        of_group = self.shows @ self._base
        further = self._base.copy()
        if with_xrf:
            of_rarest = np.where(self.shows > 0, of_group[:, None], np.inf).min(axis=0)
            further = self._base / np.where(np.isfinite(of_rarest), of_rarest, 1.0)
        more = copy(self)
        rows, parts = list(self._rows), list(self._parts)
        spectra, classes = [], []
        companions = self._with.copy()
        for n_part, of, prior, choices in (
            (2, paired, PRIOR_PAIR, PAIR_SHARES),
            (3, tripled, PRIOR_TRIPLE, TRIPLE_SHARES),
        ):
            sets = [
                (first_member, *rest)
                for first_member in of
                for rest in combinations([each for each in of if each != first_member], n_part - 1)
            ]
            if n_part == 3:
                # a further one for each further group, not three earths
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
                mixed = sum(part * self._shape[places[:, at]] for at, part in enumerate(shares))
                level = np.prod([self._strength[places[:, at]] ** part for at, part in enumerate(shares)], axis=0)
                for tint in PAIR_TINTS:
                    spectra.append(_predicted(tint * level[:, None] * mixed))
                    classes.append(first + np.arange(len(sets)))
        more.spectra = np.concatenate([self.spectra[:0], *spectra])
        more.class_of = np.concatenate([self.class_of[:0], *classes])
        more.n_class = len(parts)
        more.set_companions(companions)
        more.expand(rows, parts)
        return more

    def set_companions(self, companions: NDArray[np.int64]) -> None:
        """Set the class of each member with each second one, -1 where there is none."""
        self._with = companions

    def choose(self, group_probability: Floats, groups: tuple[str, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the members to mix by two, and by three, where XRF gives these probabilities, (n, n_group).

        By two: those whose groups XRF sees somewhere, and those that it is blind to. By three: of the former the
        ``MOST_SEEN`` commonest. What is not chosen could not weigh in any of the pixels.
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
        common = sorted(set(detected), key=lambda place: -self._base[place])[:MOST_DETECTED]
        return tuple(sorted({*detected, *blind})), tuple(sorted(common))

    def expand(self, rows: list[tuple[int, tuple[int, ...], float]], share: list[dict[int, float]]) -> None:
        """Make a hypothesis of each class and choice of groups.

        Parameters
        ----------
        rows : list of (int, tuple of int, float)
            Class, members and prior.
        share : list of dict
            By class: the share of each member in the absorption.
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
                # three are looked for only where XRF sees each of them
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
        """Note the class of a member with a second one, -1 where there is none, and the classes of it alone."""
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
        """Join the classes' likelihood with what XRF says of groups.

        Parameters
        ----------
        likelihood : (n_class, n) array
            Log likelihood.
        temperature : float
            The power that the likelihood is raised to.
        group_probability : (n, n_group) array or None
        groups : tuple of str
        surface_probability : (n, n_group) array or None
            That a group is in the uppermost layer, by XRF; NaN where XRF does not say, and then the usual share of
            groups that lie below only takes its place.

        Notes
        -----
        A member at the surface needs the groups that XRF sees of it. A group that XRF sees beside those is below the
        surface, or comes from a further part of the paint, as far as that part would not have changed the colour: by
        the likelihood of the main member with it, relative to the main member without.
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
        known = np.isfinite(p)
        with np.errstate(divide="ignore", invalid="ignore"):
            below = np.clip(1.0 - surface / p, *PLACE_LIMITS)
        placed = np.isfinite(below)
        below, on_top = np.where(placed, below, self._below), np.where(placed, 1.0 - below, np.float32(1.0))
        # where XRF itself says that a group is at the surface, no prior of it being a further part is needed
        mixed_in = np.where(placed, np.float32(1.0), self._mixed_in)
        minor = np.where(placed, np.float32(MINOR), np.float32(0.0))
        # of a group that is not among XRF's, little is likely; where XRF says nothing at all, reflectance speaks alone
        p = np.clip(np.where(known, p, np.where(known.any(axis=0), UNREPORTED, 1.0)), UNSEEN, 1.0)
        log_p = np.log(p)
        log_needed = log_p + np.log(on_top)
        # weight of each member as the bringer of a group: common, and its groups are all seen
        weight = np.stack(
            [base * np.exp(self._most(name, log_p)) for name, base in zip(self.members, self._base, strict=True)]
        ).astype(np.float32)
        # what brings none of the groups seen in any of these pixels has no weight in all that follows
        active = np.flatnonzero(weight.any(axis=1))
        shows, weight = self.shows[:, active], weight[active]
        total = np.maximum(shows @ weight, 1e-12)
        companion, brings = [], []
        for place, rows in enumerate(self.by_main):
            partner = self._with[place][active]
            alone = scaled[self._alone[place]].max(axis=0)
            unchanged = np.where(partner[:, None] >= 0, np.exp(np.minimum(scaled[partner] - alone, 0.0)), 0.0)
            unchanged[active == place] = 1.0
            unchanged *= weight
            unseen = on_top * mixed_in * np.maximum((shows @ unchanged) / total, minor)
            rest = np.where(known, 1.0 - p + p * (below + unseen), 1.0)
            log_rest = np.log(np.maximum(rest, 1e-6))
            log_sets[rows] += log_rest.sum(axis=0) + self.needs[rows] @ (log_needed - log_rest)
            companion.append(unseen / (below + unseen))
            brings.append(unchanged)
        # mixtures of what XRF does not see at a pixel have no weight there, whatever it sees at the next
        unseen_groups = (p <= DETECTED).astype(np.float32)
        log_sets[self.n_single :][self.needs[self.n_single :] @ unseen_groups > 0] = -np.inf
        unknown_shows = UNKNOWN_SHOWS * (1.0 - below)
        rest = np.where(known, 1.0 - p + p * (below + unknown_shows), 1.0)
        unknown = np.asarray(unknown_shows / (below + unknown_shows), dtype=np.float32)
        log_unknown, probability = np.log(rest).sum(axis=0), np.where(known, p, 0.0)
        return Joint(self, log_sets, log_unknown, probability, companion, active, brings, unknown)

    def palest_tint(self, group: str) -> float:
        """Return the strongest K/S, over the members of a group, of the palest tint that is predicted of each.

        A surface that absorbs less may hold some of the member, paler than any tint that it is compared with.
        """
        return float(min(TINTS) * (self.shows[self.groups.index(group)] * self._darkest).max())

    def _most(self, name: str, log_p: Matrix) -> Matrix:
        """Return the log probability that XRF sees the groups of a member, of its pigments the best.

        Minus infinity where it sees none of these sets of groups at least as likely as ``SEEN``.
        """
        rows = []
        for each in groups_of(name):
            of_groups = log_p[[self.groups.index(group) for group in each]]
            detected = (of_groups > np.log(DETECTED)).all(axis=0)
            rows.append(np.where(detected, of_groups.sum(axis=0), -np.inf))
        return np.asarray(np.max(rows, axis=0))


@dataclass(frozen=True, eq=False)
class Joint:
    """Log weight of each hypothesis, and what follows from their posterior.

    Parameters
    ----------
    hypotheses : Hypotheses
    log_sets : (n_hypothesis, n) array
        Log of prior times likelihood.
    log_unknown : (n,) array
        What XRF adds to the log prior of a pigment that is none of the members.
    probability : (n_group, n) array
        Of XRF, by the groups of the hypotheses.
    companion : list of (n_group, n) array
        By main member: the probability that a seen group is in the surface paint beside it.
    active : (n_active,) int array or None
        Members that bring a group which XRF sees.
    brings : list of (n_active, n) array
        By main member: how much each of them may bring it.
    unknown_shows : (n_group, n) array or None
        Probability that a pigment that is none of the members brings a seen group.
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
        """Return presence of each member, (n, n_member), and that of each group at the surface, (n_group, n).

        Parameters
        ----------
        posterior : (n_hypothesis, n) array
        none : (n,) array
            Of a pigment that is none of the members.
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
    """Return the gloss in each measured spectrum, (n, 1): no more than its darkest band allows."""
    return np.asarray(np.clip(np.minimum(GLOSS, 0.8 * np.nanmin(values, axis=1, keepdims=True)), 0.0, None))


def pixel_strength(reflectance: Floats) -> Floats:
    """Return (n,) the K/S of (n, n_band) measured spectra where they are dark, as of :meth:`Hypotheses.palest_tint`."""
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
    """Return the prior of members: as the square root of one and the number of the palettes that name them."""
    weight = np.sqrt(np.asarray([1.0 + _palettes().get(name, 0) for name in members]))
    return np.asarray(weight / weight.sum())
