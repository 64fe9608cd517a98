"""What a surface paint may be: sets of members, the spectra that Kubelka-Munk predicts of each, and their prior."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from underpaint.physics.materials import load_palette, palette_names
from underpaint.reflectance.kubelka_munk import inside_the_paint, opaque, ratio, through_the_surface
from underpaint.reflectance.names import groups_of, member_of

Floats = NDArray[np.float64]

BLACK = "carbon_black"
"""The member that darkens: beside it another one is the main pigment."""
WHITES = {"lead_white", "zinc_white", "titanium_white", "barium_white", "chalk"}
WHITE_GROUPS = ("lead_pigment", "zinc_pigment", "titanium_pigment", "calcium_white", "barium_pigment")
"""Groups whose whites light cannot tell apart: where there is white, any of them may be at the surface."""
WHITE_K_OVER_S = 0.2
"""K/S of an opaque paint below which, at nine of ten bands, a member is a white."""
TINTS = (0.5, 0.2, 0.08, 0.03)
"""K/S beside white, relative to the paint without."""
BLACK_SHARES = (0.15, 0.4)
"""Share of black in the absorption."""
MINOR_SHARE = 0.25
"""Share of the second member of a pair in the absorption."""
PAIR_TINTS = (1.0, 0.2)
PRIOR_PAIR, PRIOR_BLACK = 0.2, 0.1
"""Prior that the paint holds two coloured members, or one and black."""
PRIOR_TINTED = 0.5
GLOSS = 0.03
"""Most gloss that is taken off a measured spectrum before its K/S is computed."""
PREDICTED_GLOSS = 0.02
UNEXPLAINED = 0.1
"""Prior that a group which XRF sees shows nothing at the surface."""
UNKNOWN_SHOWS = 0.3
"""Prior that a pigment which the library lacks shows a group that XRF sees."""
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
    of_class : (n_hypothesis,) int array
        The class of each hypothesis.
    main, contains, share : (n_hypothesis, n_member) array
        One for the member that gives the colour; one for each member in the paint; their shares of the absorption.
    """

    def __init__(
        self, members: tuple[str, ...], values: Floats, owner: NDArray[np.int64], beside: NDArray[np.str_]
    ) -> None:
        self.members = members
        mixed, mixed_owner, mixed_beside = values[beside != ""], owner[beside != ""], beside[beside != ""]
        values, owner = values[beside == ""], owner[beside == ""]
        k_over_s = ratio(inside_the_paint(values, gloss_of(values)))
        n = len(members)
        typical = np.exp(np.stack([_mean(np.log(k_over_s[owner == place])) for place in range(n)]))
        strength = np.asarray([np.nanmean(row) for row in typical])
        white = np.asarray([bool(np.nanpercentile(row, 90) < WHITE_K_OVER_S) for row in typical])
        black = members.index(BLACK) if BLACK in members else -1
        coloured = [place for place in range(n) if not white[place] and place != black]
        tinted = sorted([*coloured, *([black] if black >= 0 else [])])
        darkened = [place for place in range(n) if place != black] if black >= 0 else []
        # what no palette names is not looked for in mixtures
        paired = [place for place in coloured if members[place] in _palettes()]
        pairs = [(one, two) for one in paired for two in paired if one != two]
        base = commonness(members)
        self._rows: list[tuple[int, tuple[int, ...], float]] = []
        spectra, classes = [values], [owner]
        share = []
        for place in range(n):
            alone = 1.0 - PRIOR_PAIR - (PRIOR_BLACK if place in darkened else 0.0)
            share.append({place: 1.0})
            self._rows.append((place, (place,), base[place] * alone * (1.0 - PRIOR_TINTED * (place in tinted))))
        tinted_from = len(share)
        where = {place: tinted_from + number for number, place in enumerate(tinted)}
        for place in tinted:
            share.append({place: 1.0})
            alone = 1.0 - PRIOR_PAIR - (PRIOR_BLACK if place in darkened else 0.0)
            self._rows.append((where[place], (place,), base[place] * alone * PRIOR_TINTED))
        keep = np.isin(owner, tinted)
        for tint in TINTS:
            spectra.append(_seen(tint * k_over_s[keep]))
            classes.append(np.asarray([where[place] for place in owner[keep]]))
        darkened_from = len(share)
        shape = typical / strength[:, None]
        for number, place in enumerate(darkened):
            share.append({place: 1.0 - float(np.mean(BLACK_SHARES)), black: float(np.mean(BLACK_SHARES))})
            self._rows.append((darkened_from + number, (place, black), base[place] * PRIOR_BLACK))
        for part in BLACK_SHARES:
            for tint in PAIR_TINTS:
                darker = (1.0 - part) * shape[darkened] + part * shape[black] if darkened else shape[:0]
                # beside white the black alone absorbs
                level = np.where(white[darkened], strength[black], strength[darkened])
                spectra.append(_seen(tint * level[:, None] * darker))
                classes.append(darkened_from + np.arange(len(darkened)))
        pairs_from = len(share)
        total = sum(base[one] * base[two] for one, two in pairs) or 1.0
        for number, (one, two) in enumerate(pairs):
            share.append({one: 1.0 - MINOR_SHARE, two: MINOR_SHARE})
            self._rows.append((pairs_from + number, (one, two), PRIOR_PAIR * base[one] * base[two] / total))
        if pairs:
            first, second = np.asarray(pairs).T
            both = (1.0 - MINOR_SHARE) * shape[first] + MINOR_SHARE * shape[second]
            level = strength[first] ** (1.0 - MINOR_SHARE) * strength[second] ** MINOR_SHARE
            for tint in PAIR_TINTS:
                spectra.append(_seen(tint * level[:, None] * both))
                classes.append(pairs_from + np.arange(len(pairs)))
        for kind, places, first_class in (("white", tinted, tinted_from), ("black", darkened, darkened_from)):
            rows = (mixed_beside == kind) & np.isin(mixed_owner, places)
            spectra.append(mixed[rows])
            classes.append(first_class + np.searchsorted(places, mixed_owner[rows]))
        self.n_class = len(share)
        self.spectra, self.class_of = np.concatenate(spectra), np.concatenate(classes).astype(np.int64)
        self._white_beside = np.asarray(
            [
                1.0 if tinted_from <= number < darkened_from else 0.0 if number < tinted_from else 0.5
                for number in range(self.n_class)
            ]
        )
        self._expand(share)

    def _expand(self, share: Sequence[dict[int, float]]) -> None:
        """Make a hypothesis of each class and choice of groups."""
        names = sorted({group for name in self.members for each in groups_of(name) for group in each})
        self.groups = tuple(names)
        column = {group: place for place, group in enumerate(names)}
        of_class, weight, needs = [], [], []
        for number, places, prior in self._rows:
            unions: set[frozenset[str]] = {frozenset()}
            for place in places:
                unions = {union | each for union in unions for each in groups_of(self.members[place])}
            for union in sorted(unions, key=sorted):
                row = np.zeros(len(names), dtype=np.float32)
                row[[column[group] for group in union]] = 1.0
                of_class.append(number)
                weight.append(np.log(prior / len(unions)))
                needs.append(row)
        self.of_class = np.asarray(of_class)
        self._log_weight = np.asarray(weight, dtype=np.float32)
        self._needs = np.asarray(needs).reshape(len(of_class), len(names))
        by_class = np.zeros((self.n_class, len(self.members)), dtype=np.float32)
        for number, parts in enumerate(share):
            by_class[number, list(parts)] = list(parts.values())
        self.share = by_class[self.of_class]
        self.contains = (self.share > 0).astype(np.float32)
        self.main = np.zeros_like(self.share)
        self.main[np.arange(len(self.main)), self.share.argmax(axis=1)] = 1.0
        self.beside_white = self._white_beside[self.of_class].astype(np.float32)

    def log_prior(
        self, group_probability: Floats | None, groups: tuple[str, ...], n: int
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the log prior of each hypothesis, (n_hypothesis, n), and what XRF adds to that of an unknown, (n,).

        A group at the surface must be one that XRF sees; one that XRF sees and that is not at the surface lies below
        it, which has the prior ``UNEXPLAINED`` (white may be beside any colour: no factor). Factors common to all
        hypotheses are left out.
        """
        if group_probability is None or not groups:
            return np.broadcast_to(self._log_weight[:, None], (self._log_weight.size, n)), np.zeros(n, np.float32)
        present = np.zeros((len(self.groups), n), dtype=np.float32)
        unknown = np.zeros(n, dtype=np.float32)
        for place, group in enumerate(groups):
            known = np.isfinite(group_probability[:, place])
            p = np.clip(np.where(known, group_probability[:, place], 1.0), UNSEEN, 1.0)
            below = np.where(known & (group not in WHITE_GROUPS), 1.0 - p + p * UNEXPLAINED, 1.0)
            factor = p / below
            unknown += np.log(np.maximum(1.0 + UNKNOWN_SHOWS * (factor - 1.0), 1.0)).astype(np.float32)
            if group in self.groups:
                present[self.groups.index(group)] = np.log(factor)
        return self._needs @ present + self._log_weight[:, None], unknown

    def hidden(
        self,
        posterior: NDArray[np.float32],
        unknown: NDArray[np.float32],
        group_probability: Floats,
        groups: tuple[str, ...],
    ) -> Floats:
        """Return the probability that a group is there, but not at the surface, (n, n_group).

        Parameters
        ----------
        posterior : (n_hypothesis, n) array
        unknown : (n,) array
            Posterior of none of the members: half of it is counted as showing the group.
        group_probability : (n, n_group) array
            Of XRF.
        """
        shown = posterior.T @ self._needs
        white = posterior.T @ self.beside_white
        hidden = np.empty((len(shown), len(groups)))
        for place, group in enumerate(groups):
            at_surface = shown[:, self.groups.index(group)] if group in self.groups else np.zeros(len(shown))
            if group in WHITE_GROUPS:
                at_surface = np.maximum(at_surface, white)
            hidden[:, place] = group_probability[:, place] * np.clip(1.0 - at_surface - 0.5 * unknown, 0.0, 1.0)
        return hidden


def gloss_of(values: Floats) -> Floats:
    """Return the gloss in each measured spectrum, (n, 1): no more than its darkest band allows."""
    return np.asarray(np.clip(np.minimum(GLOSS, 0.8 * np.nanmin(values, axis=1, keepdims=True)), 0.0, None))


def _seen(k_over_s: Floats) -> Floats:
    return through_the_surface(opaque(k_over_s), PREDICTED_GLOSS)


def _mean(rows: Floats) -> Floats:
    here = np.isfinite(rows)
    count = here.sum(axis=0)
    return np.where(count > 0, np.where(here, rows, 0.0).sum(axis=0) / np.maximum(count, 1), np.nan)


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
