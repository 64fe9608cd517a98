"""Evidence for and against groups of pigments in spectra, from the fit of all line families."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from underpaint.data import EnergyAxis, Survey
from underpaint.elements._families import ANODES, scatter_templates
from underpaint.elements.variable_fit import Evidence, VariableFit
from underpaint.physics.atomic import SHELLS, atomic_number, edge_energy
from underpaint.physics.instrument import Instrument

Array = NDArray[np.float64]

DETECTION_SIGMAS = 2.0
"""Significance, in standard deviations, above which one family is detected, or all families of an element jointly."""
CERTAIN_SIGMAS = 3.0
"""Significance, in standard deviations, that is required of overlapped families and of lines of the anode. Low-energy
lines require the same significance if the high-energy lines of the element are not excited."""
PROOF_BACKGROUND_ERROR = 0.02
"""Relative error of the background below a family's peaks, in the test of whether the family proves its element."""
PROOF_SIGMAS = 10.0
"""Significance, in standard deviations, above which a family proves its element. The deviations include
interference."""
BACKGROUND_ERROR = 0.05
"""Relative error of the background below a family's peaks, due to the assumed shape of the background."""
MAX_SCATTER_RATIO = 2.0
"""Factor by which the ratio of an anode line to its background may exceed the smallest ratio in the scan. Up to
``MAX_SCATTER_RATIO``, scattered tube radiation explains the anode line."""
HIDDEN_LINE_LOG_ODDS = 3.0
"""Minimum log-odds for accepting a group if other lines hide all lines of the group's element."""
MIN_OVERVOLTAGE = 1.2
"""Minimum ratio of the highest photon energy to the absorption edge for missing lines to prove absence."""
MIN_K_OVERVOLTAGE = 0.8
"""Limit of the ratio of the highest photon energy to the K edge. Below the limit, L lines must exceed
``CERTAIN_SIGMAS``. At 20 kV, for example, this applies to cadmium."""
MIN_AREA_SIGMA = 1e-3
"""Smallest standard deviation, in counts, by which an area is divided."""
_MIN_COUNTS_ABOVE_EDGE = 1e-3


@dataclass(frozen=True)
class LineEvidence:
    """Test of whether spectra contradict groups of pigments, or prove that a group's element is present.

    Parameters
    ----------
    groups : tuple of str
        Groups that are tested.
    columns : tuple of (n,) int arrays
        For each group, the columns of the fit that hold the group's families, K before L and M.
    is_expected : tuple of (n,) bool arrays
        Whether the source excites each family in ``columns`` so strongly that missing lines contradict the element.
    is_crowded : (n_group,) bool array
        Whether only low-energy lines of a group are excited. The low-energy lines overlap the lines of potassium and
        calcium.
    anode_lines : tuple of (int, int, float)
        Groups with a line of the anode: index of the group, column of the line, and scatter ratio. The scatter ratio is
        the ratio of scattered line counts to background counts below the line. The scatter ratio hardly depends on the
        sample.
    is_anode : (n_group,) bool array
        Whether the anode is, or may be, made of the group's element. Lines of the anode material prove nothing about
        the sample.
    """

    groups: tuple[str, ...]
    columns: tuple[NDArray[np.intp], ...]
    is_expected: tuple[NDArray[np.bool_], ...]
    is_crowded: NDArray[np.bool_]
    anode_lines: tuple[tuple[int, int, float], ...]
    is_anode: NDArray[np.bool_]

    def __call__(self, fit: Evidence) -> Array:
        """Return the (n, n_group) minimum log-odds for accepting a group; -inf if nothing contradicts the group.

        A group is contradicted if an expected family is missing and no family is detected, alone or jointly. A group is
        also contradicted if scatter explains the group's line. If other lines hide all families of the group, the
        minimum log-odds are :data:`HIDDEN_LINE_LOG_ODDS`.
        """
        deviations = _deviations(fit, fit.background)
        is_hidden = np.broadcast_to(fit.is_hidden, deviations.shape)
        is_detected = deviations > np.where(is_hidden, CERTAIN_SIGMAS, DETECTION_SIGMAS)
        required_log_odds = np.full((len(deviations), len(self.groups)), -np.inf)
        for group, (columns, is_expected) in enumerate(zip(self.columns, self.is_expected, strict=True)):
            group_deviations, is_overlapped = deviations[:, columns], is_hidden[:, columns]
            if self.is_crowded[group]:
                is_contradicted = ~(is_detected[:, columns] & (group_deviations > CERTAIN_SIGMAS)).any(axis=1)
                required_log_odds[is_contradicted, group] = np.inf
                continue
            is_detected_jointly = (
                np.linalg.norm(np.where(is_overlapped, 0.0, np.maximum(group_deviations, 0.0)), axis=1)
                > DETECTION_SIGMAS
            )
            is_missing = (is_expected & (group_deviations < DETECTION_SIGMAS)).any(axis=1)
            is_contradicted = ~is_detected[:, columns].any(axis=1) & ~is_detected_jointly & is_missing
            required_log_odds[is_contradicted, group] = np.where(
                is_overlapped.all(axis=1), HIDDEN_LINE_LOG_ODDS, np.inf
            )[is_contradicted]
        for group, line_column, scatter_ratio in self.anode_lines:
            excess_counts = (
                fit.area[:, line_column] - MAX_SCATTER_RATIO * scatter_ratio * fit.background[:, line_column]
            )
            line_counts = fit.area[:, line_column] + 2.0 * fit.background[:, line_column]
            is_scatter = excess_counts < CERTAIN_SIGMAS * np.sqrt(np.maximum(line_counts, 1.0))
            required_log_odds[:, group] = np.where(is_scatter, np.inf, -np.inf)
        return required_log_odds

    def proves(self, fit: Evidence) -> NDArray[np.bool_]:
        """Return an (n, n_group) mask of groups whose element a spectrum proves, whatever the source of the element.

        A family proves its element above ten standard deviations. The element's families of higher energy must not be
        missing, since paint absorbs high-energy lines less.
        """
        # the counts of the family itself are not part of its background
        deviations = _deviations(fit, np.maximum(fit.background - fit.area, 0.0), PROOF_BACKGROUND_ERROR)
        proven_groups = np.zeros((len(deviations), len(self.groups)), bool)
        for group, (columns, is_expected) in enumerate(zip(self.columns, self.is_expected, strict=True)):
            is_missing = is_expected & ~fit.is_hidden[:, columns] & (deviations[:, columns] < DETECTION_SIGMAS)
            is_higher_missing = np.logical_or.accumulate(is_missing, axis=1)
            is_proven = (deviations[:, columns] > PROOF_SIGMAS) & ~is_higher_missing
            proven_groups[:, group] = is_proven.any(axis=1) & ~self.is_anode[group]
        return proven_groups


def line_evidence(
    families_by_group: Mapping[str, Sequence[str]],
    fit: VariableFit,
    scan_survey: Survey,
    axis: EnergyAxis,
    instrument: Instrument | None = None,
    *,
    voltage_known: bool = False,
) -> LineEvidence:
    """Return the tests of pigment groups for a scan.

    Parameters
    ----------
    families_by_group : mapping of str to sequence of str
        Line families of each group, such as ``Hg_L``. Groups without a fitted family are not tested.
    fit : VariableFit
        Fit of the scan.
    scan_survey : Survey
        Survey of the scan.
    axis : EnergyAxis
        Energy axis of the scan.
    instrument : Instrument, optional
        See :func:`fit_elements`.
    voltage_known : bool
        Whether the voltage or beam energy of the instrument is known. If the energy is unknown, a family is expected
        only if the sum spectrum extends above the family's absorption edge.

    Returns
    -------
    LineEvidence
    """
    source_families = [] if instrument is None else [template.name for template in scatter_templates(instrument, axis)]
    max_kev = instrument.highest_kev if instrument is not None and voltage_known else None
    is_excited = partial(_is_excited, sum_counts=scan_survey.total, axis=axis, max_kev=max_kev)
    anodes = ANODES if instrument is None and not fit.n_source else ()
    groups: dict[str, list[str]] = {}
    anode_lines, is_anode = [], []
    for group, families in families_by_group.items():
        source_lines = [family for family in families if family in source_families]
        fitted_families = sorted(
            (family for family in families if family in fit.names), key=lambda family: family.split("_")[1]
        )
        if not (fitted_families or source_lines):
            continue
        for family in source_lines:
            column = len(fit.names) + source_families.index(family)
            tile_evidence = fit(scan_survey.tiles)
            scatter_ratio = np.maximum(tile_evidence.area[:, column], 0.0) / np.maximum(
                tile_evidence.background[:, column], 1.0
            )
            anode_lines.append((len(groups), column, float(scatter_ratio.min())))
        groups[group] = fitted_families
        is_anode.append(bool(source_lines) or any(family.split("_")[0] in anodes for family in families))
    fitted_names = list(fit.names)
    return LineEvidence(
        tuple(groups),
        tuple(np.asarray([fitted_names.index(family) for family in families], np.intp) for families in groups.values()),
        tuple(
            np.asarray([is_excited(family, MIN_OVERVOLTAGE) for family in families], bool)
            for families in groups.values()
        ),
        np.asarray(
            [
                len(families_by_group[group]) > 1
                and not all(is_excited(family, MIN_K_OVERVOLTAGE) for family in families_by_group[group])
                for group in groups
            ]
        ),
        tuple(anode_lines),
        np.asarray(is_anode, bool),
    )


def _deviations(fit: Evidence, background: NDArray[np.floating], relative_error: float = BACKGROUND_ERROR) -> Array:
    """Return areas divided by the standard deviation of an absent family's area, including the background error."""
    sigma = np.hypot(fit.sigma_if_absent, relative_error * background)
    return np.asarray(fit.area / np.maximum(sigma, MIN_AREA_SIGMA))


def _is_excited(name: str, overvoltage: float, *, sum_counts: Array, axis: EnergyAxis, max_kev: float | None) -> bool:
    """Return whether the highest photon energy exceeds ``overvoltage`` times a family's absorption edge."""
    symbol, shell = name.split("_")
    required_kev = overvoltage * edge_energy(atomic_number(symbol), SHELLS.index("K" if shell == "K" else f"{shell}3"))
    if max_kev is not None:
        return max_kev > required_kev
    return bool(sum_counts[axis.energy_kev > required_kev].sum() > _MIN_COUNTS_ABOVE_EDGE * sum_counts.sum())
