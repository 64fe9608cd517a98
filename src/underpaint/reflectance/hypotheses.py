"""Hypotheses about the composition of the surface paint, their predicted spectra and their prior probabilities."""

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from underpaint.physics.materials import load_palette, palette_names
from underpaint.reflectance.kubelka_munk import (
    internal_reflectance,
    k_over_s_from_reflectance,
    measured_reflectance,
    reflectance_from_k_over_s,
)
from underpaint.reflectance.names import groups_of, member_of

Floats = NDArray[np.float64]
Matrix = NDArray[np.float32]

BLACK = "carbon_black"
"""Member that darkens other colours. In a mixture with black, the other member is the main member."""
WHITES = {"lead_white", "zinc_white", "titanium_white", "barium_white", "chalk"}
WHITE_GROUPS = ("lead_pigment", "zinc_pigment", "titanium_pigment", "calcium_white", "barium_pigment")
"""XRF groups that contain a white pigment. White pigments are indistinguishable by reflectance."""
WHITE_K_OVER_S = 0.2
"""A member is considered white if the K/S of its opaque paint is below this limit in 90 % of the bands."""
TINT_FACTORS = (0.5, 0.2, 0.08, 0.03, 0.01)
"""Factors by which white reduces the K/S of a paint. One spectrum is predicted for each factor."""
STRENGTH_FACTORS = (2.0, 4.0)
"""Factors by which the K/S of a paint exceeds that of the measured paint, which may contain less pigment or be thinner.
One spectrum is predicted for each factor."""
BLACK_SHARES = (0.15, 0.4)
"""Fractions of a mixture's absorption due to black."""
DARK_PERCENT = 90.0
"""Percentile of a spectrum's K/S that represents its darkest bands."""
PAIR_SHARES = ((0.75, 0.25),)
"""Fractions of a pair's absorption due to the main and to the second member."""
PAIR_TINT_FACTORS = (1.0, 0.3, 0.08)
"""Factors by which white reduces the K/S of a mixture."""
PRIOR_PAIR, PRIOR_BLACK = 0.2, 0.1
"""Prior probabilities that a paint contains two coloured members, and that it contains one member and black."""
PRIOR_TRIPLE = 0.2
"""Prior probability that a paint contains three members, if XRF gives group probabilities."""
TRIPLE_SHARES = ((0.6, 0.2, 0.2), (0.4, 0.3, 0.3))
"""Fractions of a triple's absorption due to each of its three members."""
MAX_TRIPLE_MEMBERS, DETECTION_PROBABILITY = 20, 0.2
"""Maximum number of members that are combined in triples. A group counts as detected if its XRF probability exceeds the
second value."""
PRIOR_TINTED = 0.5
"""Prior probability that a paint with one coloured member contains white."""
MAX_GLOSS = 0.03
"""Maximum specular reflectance that is subtracted from a measured spectrum before K/S is computed."""
PREDICTED_GLOSS = 0.02
"""Specular reflectance that is added to a predicted spectrum."""
PRIOR_BELOW, PRIOR_MIXED_IN = 0.1, 0.2
"""Prior probabilities that a group detected by XRF is only below the surface, and that it comes from an additional
pigment of the surface paint."""
PRIOR_WHITE_BELOW, PRIOR_WHITE_MIXED_IN = 0.5, 0.5
"""Values that replace ``PRIOR_BELOW`` and ``PRIOR_MIXED_IN`` for groups with a white pigment. Grounds and most paints
contain white pigments."""
PRIOR_UNKNOWN_HAS_GROUP = 0.3
"""Prior probability that a group detected by XRF belongs to a surface pigment outside the library."""
PRIOR_MINOR = 0.2
"""Prior probability that a group is too dilute to change the colour although XRF places it at the surface."""
BELOW_PROBABILITY_LIMITS = (0.02, 0.98)
"""Limits of XRF's probability that a group is only below the surface. Values beyond the limits are overconfident and
are clipped."""
UNREPORTED_PROBABILITY = 0.1
"""Prior probability of a group for which XRF gives no probability."""
MIN_GROUP_PROBABILITY = 0.01
"""Lower limit of XRF's group probabilities: the probability that XRF misses a group at the surface."""


class Hypotheses:
    """Possible compositions of the surface paint, with their predicted spectra and XRF groups.

    A *class* is a composition with its predicted spectra: one member alone, one member with white or black, or two or
    three members. A *hypothesis* is a class with one combination of XRF groups. One class may have several
    combinations, because the pigments of a member may differ in their groups (lakes with and without tin).

    Parameters
    ----------
    members : tuple of str
        Names of the members.
    reflectance : (n, n_band) array
        Measured spectra; NaN in bands that were not measured.
    main_member : (n,) int array
        For each spectrum, the index of the member that determines its colour.
    companion : (n,) array of str
        Second component of each measured paint: ``white`` or ``black``; "" for a pure paint.

    Attributes
    ----------
    spectra : (n_spectrum, n_band) array
        Measured spectra, followed by predicted spectra.
    class_of : (n_spectrum,) int array
        Index of the class of each spectrum.
    n_class : int
        Number of classes.
    main_of_class : (n_class,) int array
        For each class, the index of the member that determines its colour.
    of_class : (n_hypothesis,) int array
        Index of the class of each hypothesis.
    groups : tuple of str
        Names of all XRF groups of the members.
    needs : (n_hypothesis, n_group) array
        1 for each group that a hypothesis requires, otherwise 0.
    shows : (n_group, n_member) array
        1 for each member that has a pigment in the group, otherwise 0.
    by_main : list of int array
        For each main member, the indices of its hypotheses.
    main : (n_hypothesis, n_member) array
        1 for the main member, which determines the colour, otherwise 0.
    contains : (n_hypothesis, n_member) array
        1 for each member of the paint, otherwise 0.
    share : (n_hypothesis, n_member) array
        Fraction of the paint's absorption due to each member.
    """

    def __init__(
        self, members: tuple[str, ...], reflectance: Floats, main_member: NDArray[np.int64], companion: NDArray[np.str_]
    ) -> None:
        self.members = members
        mixture_spectra, mixture_main, mixture_companion = (
            reflectance[companion != ""],
            main_member[companion != ""],
            companion[companion != ""],
        )
        reflectance, main_member = reflectance[companion == ""], main_member[companion == ""]
        k_over_s = k_over_s_from_reflectance(internal_reflectance(reflectance, gloss_of(reflectance)))
        n_member = len(members)
        typical_k_over_s = np.exp(
            np.stack([_mean_ignoring_nan(np.log(k_over_s[main_member == member])) for member in range(n_member)])
        )
        mean_k_over_s = np.asarray([np.nanmean(band_values) for band_values in typical_k_over_s])
        is_white = np.asarray(
            [bool(np.nanpercentile(band_values, 90) < WHITE_K_OVER_S) for band_values in typical_k_over_s]
        )
        black_index = members.index(BLACK) if BLACK in members else -1
        coloured_members = [member for member in range(n_member) if not is_white[member] and member != black_index]
        tinted_members = sorted([*coloured_members, *([black_index] if black_index >= 0 else [])])
        darkened_members = [member for member in range(n_member) if member != black_index] if black_index >= 0 else []
        member_prior = self._base = commonness(members)
        compositions: list[tuple[int, tuple[int, ...], float]] = []
        spectra, spectrum_classes = [reflectance], [main_member]
        class_shares = []
        for member in range(n_member):
            pure_probability = 1.0 - PRIOR_PAIR - (PRIOR_BLACK if member in darkened_members else 0.0)
            class_shares.append({member: 1.0})
            compositions.append(
                (
                    member,
                    (member,),
                    member_prior[member] * pure_probability * (1.0 - PRIOR_TINTED * (member in tinted_members)),
                )
            )
        first_tinted_class = len(class_shares)
        tinted_class = {member: first_tinted_class + class_offset for class_offset, member in enumerate(tinted_members)}
        for member in tinted_members:
            class_shares.append({member: 1.0})
            pure_probability = 1.0 - PRIOR_PAIR - (PRIOR_BLACK if member in darkened_members else 0.0)
            compositions.append(
                (tinted_class[member], (member,), member_prior[member] * pure_probability * PRIOR_TINTED)
            )
        is_tinted = np.isin(main_member, tinted_members)
        for strength_factor in STRENGTH_FACTORS:
            spectra.append(_predict_spectra(strength_factor * k_over_s[is_tinted]))
            spectrum_classes.append(main_member[is_tinted])
        for tint_factor in TINT_FACTORS:
            spectra.append(_predict_spectra(tint_factor * k_over_s[is_tinted]))
            spectrum_classes.append(np.asarray([tinted_class[member] for member in main_member[is_tinted]]))
        first_darkened_class = len(class_shares)
        k_over_s_shape = typical_k_over_s / mean_k_over_s[:, None]
        for class_offset, member in enumerate(darkened_members):
            class_shares.append({member: 1.0 - float(np.mean(BLACK_SHARES)), black_index: float(np.mean(BLACK_SHARES))})
            compositions.append(
                (first_darkened_class + class_offset, (member, black_index), member_prior[member] * PRIOR_BLACK)
            )
        for black_share in BLACK_SHARES:
            for tint_factor in PAIR_TINT_FACTORS:
                darkened_shape = (
                    (1.0 - black_share) * k_over_s_shape[darkened_members] + black_share * k_over_s_shape[black_index]
                    if darkened_members
                    else k_over_s_shape[:0]
                )
                # in a mixture of white and black, black alone absorbs
                k_over_s_level = np.where(
                    is_white[darkened_members], mean_k_over_s[black_index], mean_k_over_s[darkened_members]
                )
                spectra.append(_predict_spectra(tint_factor * k_over_s_level[:, None] * darkened_shape))
                spectrum_classes.append(first_darkened_class + np.arange(len(darkened_members)))
        for companion_name, member_indices, first_class in (
            ("white", tinted_members, first_tinted_class),
            ("black", darkened_members, first_darkened_class),
        ):
            is_mixed_with = (mixture_companion == companion_name) & np.isin(mixture_main, member_indices)
            spectra.append(mixture_spectra[is_mixed_with])
            spectrum_classes.append(first_class + np.searchsorted(member_indices, mixture_main[is_mixed_with]))
        self.n_class = len(class_shares)
        self.spectra, self.class_of = np.concatenate(spectra), np.concatenate(spectrum_classes).astype(np.int64)
        self._shape, self._strength, self.n_single = k_over_s_shape, mean_k_over_s, 0
        self._darkest = np.where(is_white, 0.0, np.nanpercentile(typical_k_over_s, DARK_PERCENT, axis=1))
        # only members that are in at least one palette are mixed
        self.mixed = tuple(member for member in coloured_members if members[member] in _palette_counts())
        self._set_companion_classes(
            tinted_class, darkened_members, first_darkened_class, black_index, np.flatnonzero(is_white)
        )
        self.expand_groups(compositions, class_shares)
        self.n_single = len(self.of_class)

    def with_mixtures(
        self, pair_members: Sequence[int], triple_members: Sequence[int], *, with_xrf: bool
    ) -> "Hypotheses":
        """Return these hypotheses and those of further mixtures. ``spectra`` of the result contains only the mixtures.

        Parameters
        ----------
        pair_members, triple_members : sequence of int
            Indices of the members that are mixed in pairs and in triples.
        with_xrf : bool
            Whether XRF gives group probabilities. If true, the prior of a second or third member is normalised over the
            members of its group, otherwise over all members.
        """
        group_prior = self.shows @ self._base
        further_member_prior = self._base.copy()
        if with_xrf:
            rarest_group_prior = np.where(self.shows > 0, group_prior[:, None], np.inf).min(axis=0)
            further_member_prior = self._base / np.where(np.isfinite(rarest_group_prior), rarest_group_prior, 1.0)
        extended_hypotheses = copy(self)
        compositions, class_shares = list(self._rows), list(self._parts)
        spectra, spectrum_classes = [], []
        companion_class = self._with.copy()
        for n_component, candidate_members, mixture_prior, share_choices in (
            (2, pair_members, PRIOR_PAIR, PAIR_SHARES),
            (3, triple_members, PRIOR_TRIPLE, TRIPLE_SHARES),
        ):
            member_sets = [
                (first_member, *additional_members)
                for first_member in candidate_members
                for additional_members in combinations(
                    [member for member in candidate_members if member != first_member], n_component - 1
                )
            ]
            if n_component == 3:
                # the members of a triple must differ in their XRF groups; three earths, for example, are excluded
                member_sets = [
                    member_set for member_set in member_sets if (self.shows[:, list(member_set)].sum(axis=1) <= 1).all()
                ]
            if not member_sets:
                continue
            member_indices = np.asarray(member_sets)
            set_prior = self._base[member_indices[:, 0]] * np.prod(further_member_prior[member_indices[:, 1:]], axis=1)
            first_class = len(class_shares)
            if n_component == 2:
                companion_class[member_indices[:, 0], member_indices[:, 1]] = first_class + np.arange(len(member_sets))
            for set_index, member_set in enumerate(member_sets):
                class_shares.append(dict(zip(member_set, np.mean(share_choices, axis=0).tolist(), strict=True)))
                compositions.append((first_class + set_index, member_set, mixture_prior * float(set_prior[set_index])))
            for shares in share_choices:
                mixture_shape = sum(
                    share * self._shape[member_indices[:, component]] for component, share in enumerate(shares)
                )
                strength_factors = [
                    self._strength[member_indices[:, component]] ** share for component, share in enumerate(shares)
                ]
                k_over_s_level = np.prod(strength_factors, axis=0)
                for tint_factor in PAIR_TINT_FACTORS:
                    spectra.append(_predict_spectra(tint_factor * k_over_s_level[:, None] * mixture_shape))
                    spectrum_classes.append(first_class + np.arange(len(member_sets)))
        extended_hypotheses.spectra = np.concatenate([self.spectra[:0], *spectra])
        extended_hypotheses.class_of = np.concatenate([self.class_of[:0], *spectrum_classes])
        extended_hypotheses.n_class = len(class_shares)
        extended_hypotheses.set_companions(companion_class)
        extended_hypotheses.expand_groups(compositions, class_shares)
        return extended_hypotheses

    def set_companions(self, companion_class: NDArray[np.int64]) -> None:
        """Set the class of each pair of main and second member, (n_member, n_member); -1 if the pair has no class."""
        self._with = companion_class

    def choose_mixtures(
        self, group_probability: Floats, groups: tuple[str, ...]
    ) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the indices of the members to mix in pairs and in triples, from the (n, n_group) XRF probabilities.

        Pairs consist of members that XRF cannot detect and of members whose groups XRF detects in any pixel. Triples
        consist of the :data:`MAX_TRIPLE_MEMBERS` most common detected members. The posterior of other mixtures would be
        negligible in all pixels.
        """
        max_group_probability = {
            group: float(np.nanmax(np.nan_to_num(group_probability[:, column]))) for column, group in enumerate(groups)
        }
        detected_members = [
            member
            for member in self.mixed
            if any(
                group_set and all(max_group_probability.get(group, 0.0) > DETECTION_PROBABILITY for group in group_set)
                for group_set in groups_of(self.members[member])
            )
        ]
        undetectable_members = [member for member in self.mixed if frozenset() in groups_of(self.members[member])]
        triple_members = sorted(set(detected_members), key=lambda member: -self._base[member])[:MAX_TRIPLE_MEMBERS]
        return tuple(sorted({*detected_members, *undetectable_members})), tuple(sorted(triple_members))

    def expand_groups(
        self, compositions: list[tuple[int, tuple[int, ...], float]], class_shares: list[dict[int, float]]
    ) -> None:
        """Create one hypothesis for each class and combination of groups.

        Parameters
        ----------
        compositions : list of (int, tuple of int, float)
            Index of the class, indices of the members, and prior of each composition.
        class_shares : list of dict
            For each class, the fraction of the absorption due to each member.
        """
        self._rows, self._parts = compositions, class_shares
        self.main_of_class = np.asarray(
            [max(member_shares, key=lambda member: member_shares[member]) for member_shares in class_shares]
        )
        group_names = sorted({group for name in self.members for group_set in groups_of(name) for group in group_set})
        self.groups = tuple(group_names)
        group_column = {group: column for column, group in enumerate(group_names)}
        hypothesis_class, log_weights, needed_groups = [], [], []
        for class_index, member_indices, prior in self._rows:
            group_unions: set[frozenset[str]] = {frozenset()}
            for member in member_indices:
                # each member of a triple must have an XRF group
                group_sets = [
                    group_set for group_set in groups_of(self.members[member]) if group_set or len(member_indices) < 3
                ]
                group_unions = {group_union | group_set for group_union in group_unions for group_set in group_sets}
            for group_union in sorted(group_unions, key=sorted):
                is_needed = np.zeros(len(group_names), dtype=np.float32)
                is_needed[[group_column[group] for group in group_union]] = 1.0
                hypothesis_class.append(class_index)
                log_weights.append(np.log(prior / len(group_unions)))
                needed_groups.append(is_needed)
        self.of_class = np.asarray(hypothesis_class)
        self._log_weight = np.asarray(log_weights, dtype=np.float32)
        self.needs = np.asarray(needed_groups).reshape(len(hypothesis_class), len(group_names))
        shares_by_class = np.zeros((self.n_class, len(self.members)), dtype=np.float32)
        for class_index, member_shares in enumerate(class_shares):
            shares_by_class[class_index, list(member_shares)] = list(member_shares.values())
        self.share = shares_by_class[self.of_class]
        self.contains = (self.share > 0).astype(np.float32)
        self.main = np.zeros_like(self.share)
        self.main[np.arange(len(self.main)), self.share.argmax(axis=1)] = 1.0
        self.by_main = [np.flatnonzero(self.main[:, member]) for member in range(len(self.members))]
        self.shows = np.asarray(
            [
                [any(group in group_set for group_set in groups_of(name)) for name in self.members]
                for group in group_names
            ],
            dtype=np.float32,
        ).reshape(len(group_names), len(self.members))
        is_white_group = np.isin(group_names, WHITE_GROUPS)[:, None]
        self._below = np.where(is_white_group, PRIOR_WHITE_BELOW, PRIOR_BELOW).astype(np.float32)
        self._mixed_in = np.where(is_white_group, PRIOR_WHITE_MIXED_IN, PRIOR_MIXED_IN).astype(np.float32)

    def _set_companion_classes(
        self,
        tinted_class: dict[int, int],
        darkened_members: Sequence[int],
        first_darkened_class: int,
        black_index: int,
        white_members: NDArray[np.int64],
    ) -> None:
        """Set the class of each pair of members (-1 if it has none), and the classes with one coloured member."""
        n_member = len(self.members)
        self._with = np.full((n_member, n_member), -1)
        for member, class_index in tinted_class.items():
            self._with[member, white_members] = class_index
        for class_offset, member in enumerate(darkened_members):
            self._with[member, black_index] = first_darkened_class + class_offset
            self._with[black_index, member] = first_darkened_class + class_offset
        for member in white_members:
            self._with[member, white_members] = member
        self._alone = [
            [
                member,
                *([tinted_class[member]] if member in tinted_class else []),
                *([first_darkened_class + list(darkened_members).index(member)] if member in darkened_members else []),
            ]
            for member in range(n_member)
        ]

    def joint_posterior(
        self,
        likelihood: Matrix,
        temperature: float,
        group_probability: Floats | None,
        groups: tuple[str, ...],
        surface_probability: Floats | None = None,
    ) -> "JointPosterior":
        """Combine the likelihood of each class with XRF's group probabilities.

        Parameters
        ----------
        likelihood : (n_class, n) array
            Log likelihood of each class.
        temperature : float
            Exponent of the likelihood.
        group_probability : (n, n_group) array or None
            XRF's probability that a group is present at any depth.
        groups : tuple of str
            Names of the groups.
        surface_probability : (n, n_group) array or None
            XRF's probability that a group is in the uppermost layer. If it is NaN, the prior :data:`PRIOR_BELOW` is
            used.

        Returns
        -------
        JointPosterior

        Notes
        -----
        A member at the surface requires its XRF groups. Any other group that XRF detects is either below the surface or
        belongs to an additional pigment of the surface paint. An additional pigment is implausible if it would change
        the colour. The probability of an additional pigment is therefore proportional to a likelihood ratio: that of
        the main member with and without this pigment.
        """
        n = likelihood.shape[1]
        tempered_likelihood = np.float32(temperature) * likelihood
        log_sets = tempered_likelihood[self.of_class] + self._log_weight[:, None]
        if group_probability is None or not groups:
            return JointPosterior(self, log_sets, np.zeros(n, np.float32))
        group_p, surface_group_p = (np.full((len(self.groups), n), np.nan, dtype=np.float32) for _ in range(2))
        for column, group in enumerate(groups):
            if group in self.groups:
                group_p[self.groups.index(group)] = group_probability[:, column]
                if surface_probability is not None:
                    surface_group_p[self.groups.index(group)] = surface_probability[:, column]
        is_known = np.isfinite(group_p)
        with np.errstate(divide="ignore", invalid="ignore"):
            below_probability = np.clip(1.0 - surface_group_p / group_p, *BELOW_PROBABILITY_LIMITS)
        has_place = np.isfinite(below_probability)
        below_probability, surface_probability_if_present = (
            np.where(has_place, below_probability, self._below),
            np.where(has_place, 1.0 - below_probability, np.float32(1.0)),
        )
        # if XRF gives the depth of a group, the prior of an additional pigment does not apply
        mixed_in_probability = np.where(has_place, np.float32(1.0), self._mixed_in)
        dilute_probability = np.where(has_place, np.float32(PRIOR_MINOR), np.float32(0.0))
        # a group without an XRF probability is assumed to be unlikely; pixels without any XRF probability use
        # reflectance alone
        group_p = np.clip(
            np.where(is_known, group_p, np.where(is_known.any(axis=0), UNREPORTED_PROBABILITY, 1.0)),
            MIN_GROUP_PROBABILITY,
            1.0,
        )
        log_p = np.log(group_p)
        log_needed_probability = log_p + np.log(surface_probability_if_present)
        # weight of each member as the source of a group: its prior times the probability that all its groups are
        # present
        member_weight = np.stack(
            [
                member_prior * np.exp(self._best_log_probability(name, log_p))
                for name, member_prior in zip(self.members, self._base, strict=True)
            ]
        ).astype(np.float32)
        # members with zero weight in all pixels are left out of the sums below
        active_members = np.flatnonzero(member_weight.any(axis=1))
        has_group, member_weight = self.shows[:, active_members], member_weight[active_members]
        group_weight = np.maximum(has_group @ member_weight, 1e-12)
        companion_probabilities, companion_weights = [], []
        for main_member, hypothesis_rows in enumerate(self.by_main):
            pair_class = self._with[main_member][active_members]
            main_likelihood = tempered_likelihood[self._alone[main_member]].max(axis=0)
            additional_weight = np.where(
                pair_class[:, None] >= 0,
                np.exp(np.minimum(tempered_likelihood[pair_class] - main_likelihood, 0.0)),
                0.0,
            )
            additional_weight[active_members == main_member] = 1.0
            additional_weight *= member_weight
            additional_probability = (
                surface_probability_if_present
                * mixed_in_probability
                * np.maximum((has_group @ additional_weight) / group_weight, dilute_probability)
            )
            probability_if_not_needed = np.where(
                is_known, 1.0 - group_p + group_p * (below_probability + additional_probability), 1.0
            )
            log_probability_if_not_needed = np.log(np.maximum(probability_if_not_needed, 1e-6))
            log_sets[hypothesis_rows] += log_probability_if_not_needed.sum(axis=0) + self.needs[hypothesis_rows] @ (
                log_needed_probability - log_probability_if_not_needed
            )
            companion_probabilities.append(additional_probability / (below_probability + additional_probability))
            companion_weights.append(additional_weight)
        # in each pixel, mixtures that require a group undetected by XRF are excluded
        is_undetected = (group_p <= DETECTION_PROBABILITY).astype(np.float32)
        log_sets[self.n_single :][self.needs[self.n_single :] @ is_undetected > 0] = -np.inf
        unknown_has_group = PRIOR_UNKNOWN_HAS_GROUP * (1.0 - below_probability)
        probability_if_not_needed = np.where(
            is_known, 1.0 - group_p + group_p * (below_probability + unknown_has_group), 1.0
        )
        unknown_probability = np.asarray(unknown_has_group / (below_probability + unknown_has_group), dtype=np.float32)
        log_unknown, probability = np.log(probability_if_not_needed).sum(axis=0), np.where(is_known, group_p, 0.0)
        return JointPosterior(
            self,
            log_sets,
            log_unknown,
            probability,
            companion_probabilities,
            active_members,
            companion_weights,
            unknown_probability,
        )

    def palest_tint_k_over_s(self, group: str) -> float:
        """Return the K/S of the palest predicted tint of a group: the largest value among the group's members.

        A surface with a lower K/S may contain the group in a tint paler than those predicted.
        """
        return float(min(TINT_FACTORS) * (self.shows[self.groups.index(group)] * self._darkest).max())

    def _best_log_probability(self, name: str, log_p: Matrix) -> Matrix:
        """Return the log probability that all XRF groups of a member's most probable pigment are present.

        The result is minus infinity if every pigment of the member has a group below :data:`DETECTION_PROBABILITY`.
        """
        log_probabilities = []
        for group_set in groups_of(name):
            group_log_p = log_p[[self.groups.index(group) for group in group_set]]
            is_detected = (group_log_p > np.log(DETECTION_PROBABILITY)).all(axis=0)
            log_probabilities.append(np.where(is_detected, group_log_p.sum(axis=0), -np.inf))
        return np.asarray(np.max(log_probabilities, axis=0))


@dataclass(frozen=True, eq=False)
class JointPosterior:
    """Unnormalised log posterior of each hypothesis, and terms for additional pigments and hidden groups.

    Parameters
    ----------
    hypotheses : Hypotheses
        The hypotheses, in the order of ``log_sets``.
    log_sets : (n_hypothesis, n) array
        Logarithm of prior times likelihood.
    log_unknown : (n,) array
        Term that XRF adds to the log prior of a pigment outside the library.
    probability : (n_group, n) array or None
        XRF's probability of each group.
    companion_probabilities : list of (n_group, n) array
        For each main member, the probability that a detected group belongs to an additional pigment of the surface
        paint.
    active_members : (n_active,) int array or None
        Indices of the active members, whose groups XRF detects.
    companion_weights : list of (n_active, n) array
        For each main member, the weight of each active member as an additional pigment.
    unknown_probability : (n_group, n) array or None
        Probability that a detected group belongs to a pigment outside the library.
    """

    hypotheses: Hypotheses
    log_sets: Matrix
    log_unknown: Matrix
    probability: Matrix | None = None
    companion_probabilities: Sequence[Matrix] = ()
    active_members: NDArray[np.intp] | None = None
    companion_weights: Sequence[Matrix] = ()
    unknown_probability: Matrix | None = None

    def surface_presence(self, posterior: Matrix, none_probability: Matrix) -> tuple[Matrix, Matrix]:
        """Return the probability that each member, (n, n_member), and each group, (n_group, n), is at the surface.

        Parameters
        ----------
        posterior : (n_hypothesis, n) array
            Posterior probability of each hypothesis.
        none_probability : (n,) array
            Posterior probability of a pigment outside the library.
        """
        hypotheses = self.hypotheses
        presence = posterior.T @ hypotheses.contains
        if self.probability is None or self.unknown_probability is None:
            return np.minimum(presence, 1.0), np.zeros((len(hypotheses.groups), posterior.shape[1]), np.float32)
        group_presence = self.unknown_probability * none_probability
        has_group = hypotheses.shows[:, self.active_members]
        for hypothesis_rows, companion_probability, companion_weight in zip(
            hypotheses.by_main, self.companion_probabilities, self.companion_weights, strict=True
        ):
            needed_probability = hypotheses.needs[hypothesis_rows].T @ posterior[hypothesis_rows]
            additional_probability = (
                self.probability * companion_probability * (posterior[hypothesis_rows].sum(axis=0) - needed_probability)
            )
            group_presence += needed_probability + additional_probability
            group_weight = np.maximum(has_group @ companion_weight, 1e-12)
            presence[:, self.active_members] += (
                companion_weight * (has_group.T @ (additional_probability / group_weight))
            ).T
        return np.minimum(presence, 1.0), group_presence


def gloss_of(reflectance: Floats) -> Floats:
    """Return the assumed specular reflectance of each spectrum, (n, 1), limited by the spectrum's darkest band."""
    return np.asarray(np.clip(np.minimum(MAX_GLOSS, 0.8 * np.nanmin(reflectance, axis=1, keepdims=True)), 0.0, None))


def darkest_k_over_s(reflectance: Floats) -> Floats:
    """Return the K/S of each spectrum in its darkest bands, (n,)."""
    return np.asarray(
        np.percentile(
            k_over_s_from_reflectance(internal_reflectance(reflectance, PREDICTED_GLOSS)), DARK_PERCENT, axis=1
        )
    )


def _predict_spectra(k_over_s: Floats) -> Floats:
    return measured_reflectance(reflectance_from_k_over_s(k_over_s), PREDICTED_GLOSS)


def _mean_ignoring_nan(values: Floats) -> Floats:
    is_finite = np.isfinite(values)
    n_values = is_finite.sum(axis=0)
    return np.where(n_values > 0, np.where(is_finite, values, 0.0).sum(axis=0) / np.maximum(n_values, 1), np.nan)


@lru_cache
def _palette_counts() -> dict[str, int]:
    n_palettes: dict[str, int] = {}
    for palette in palette_names():
        for name in {member_of(pigment) for pigment in load_palette(palette).pigments}:
            n_palettes[name] = n_palettes.get(name, 0) + 1
    return n_palettes


def commonness(members: tuple[str, ...]) -> Floats:
    """Return the prior of each member, proportional to sqrt(1 + n) if n palettes contain the member."""
    member_weight = np.sqrt(np.asarray([1.0 + _palette_counts().get(name, 0) for name in members]))
    return np.asarray(member_weight / member_weight.sum())
