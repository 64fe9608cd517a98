"""Comparison of two results for the same pixels, from two detectors or two scans of one painting.

Two results for one paint may differ only by counting noise and by the paint's absorption towards each detector. In a
contradiction, one of the two results is wrong.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from underpaint.data.maps import (
    PLACE_WORDS,
    PLACED_PROBABILITY,
    PRESENT_PROBABILITY,
    Place,
    Results,
    cohen_kappa,
    is_stated,
)
from underpaint.errors import OutputError, ScanError
from underpaint.io.results.csv_text import write_csv
from underpaint.physics.atomic import family_lines
from underpaint.runtime.files import atomic_write, check_path, claim_folder, json_types, write_json

if TYPE_CHECKING:
    from underpaint.display.report.page import EmbeddedFigure

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
CERTAIN_SIGMAS = 10.0
"""Minimum significance of a line that counts as certain, in standard deviations."""
MIN_DIFFERENCE_SIGMAS = 5.0
"""Minimum difference between two areas that count as different, in standard deviations."""
MAX_MISSING_LINE_RATIO = 0.25
"""Maximum ratio of the area of a missing line to the area that is expected from the other result."""
MAX_DIFFRACTION_PIXEL_FRACTION = 0.01
"""A line in only one result can be diffraction by crystals if it is in at most this fraction of the pixels."""
MIN_PIXELS = 10
MAX_PIXELS_FOR_RATIO = 20_000
"""Maximum number of evenly spaced pixels from which a ratio of areas is computed."""
COMPARISON_FILES = PAGE_FILE, RECORD_FILE, GROUPS_FILE, LINES_FILE, CONTRADICTIONS_FILE = (
    "comparison.html",
    "comparison.json",
    "groups.csv",
    "lines.csv",
    "contradictions.csv",
)
_MAX_FIGURES = 24
_MAX_AREA_RATIO = 1e4
_N_NEIGHBOURS, _MAX_LINE_KEV = 2, 60.0


@dataclass(frozen=True)
class GroupAgreement:
    """Agreement of two results on a pigment group at a place.

    Parameters
    ----------
    group : str
        Name of the group.
    label : str
        Label shown to users.
    place : {"anywhere", "surface", "below"}
    present : (float, float)
        Fraction of pixels in which each result states the group at this place, among the pixels for which both results
        have an answer.
    kappa : float
        Cohen's kappa, which is 1 for full agreement and 0 for chance agreement. Kappa is NaN if all answers of both
        results are identical.
    n_alone : (int, int)
        Numbers of pixels with the group only in the first result, and only in the second result.
    """

    group: str
    label: str
    place: Place
    present: tuple[float, float]
    kappa: float
    n_alone: tuple[int, int]


@dataclass(frozen=True)
class LineAgreement:
    """Agreement of the areas of a line family.

    Parameters
    ----------
    family : str
        Name of the family.
    ratio : float
        Median ratio of the area in the second result to the area in the first, NaN for faint lines.
    rms_z : float
        Root mean square of the residual after scaling by the ratio, in combined standard deviations of both areas. The
        value is 1 for areas that differ only by counting noise.
    n_pixel : int
        Number of pixels with an area in both results.
    n_different : int
        Number of pixels in which the areas differ by more than :data:`MIN_DIFFERENCE_SIGMAS`.
    """

    family: str
    ratio: float
    rms_z: float
    n_pixel: int
    n_different: int


@dataclass(frozen=True, eq=False)
class Contradiction:
    """Contradiction of two results, and the pixels in which one of the results must be wrong.

    Parameters
    ----------
    kind : {"claim", "place", "line"}
        "claim" if a group is present with a certain line in one result, and absent in the other. "place" if a group is
        only at the surface in one result, and only below in the other. "line" if a line is in only one result.
    subject : str
        Name of the group or line family.
    text : str
        Description in a sentence.
    mask : (n_row, n_column) bool array
        True for the contradictory pixels.
    """

    kind: Literal["claim", "place", "line"]
    subject: str
    text: str
    mask: Mask

    @property
    def n_pixel(self) -> int:
        """Number of pixels."""
        return int(self.mask.sum())


@dataclass(frozen=True, eq=False)
class Comparison:
    """Agreement and contradictions of two results for the same pixels.

    Parameters
    ----------
    names : (str, str)
        Names of the results.
    results : (Results, Results)
        The results.
    groups : tuple of GroupAgreement
        Agreement by group and place, empty if a result has no pigments.
    lines : tuple of LineAgreement
        Agreement of the line families that are in both results.
    contradictions : tuple of Contradiction
        Contradictions, by decreasing number of pixels.
    """

    names: tuple[str, str]
    results: tuple[Results, Results]
    groups: tuple[GroupAgreement, ...]
    lines: tuple[LineAgreement, ...]
    contradictions: tuple[Contradiction, ...]

    def record(self) -> dict[str, Any]:
        """Return the comparison without maps, as JSON values."""
        record: dict[str, Any] = json_types(
            {
                "names": self.names,
                "pixels": self.results[0].shape,
                "contradictions": [
                    {
                        "kind": contradiction.kind,
                        "subject": contradiction.subject,
                        "n_pixel": contradiction.n_pixel,
                        "text": contradiction.text,
                    }
                    | _bounding_rows_and_columns(contradiction.mask)
                    for contradiction in self.contradictions
                ],
                "groups": [vars(agreement) for agreement in self.groups],
                "lines": [vars(agreement) for agreement in self.lines],
            }
        )
        return record


def compare(a: Results, b: Results) -> Comparison:
    """Compare two results for the same pixels.

    Parameters
    ----------
    a, b : Results
        Results of two detectors, or of two scans of one painting, e.g. from :func:`underpaint.read_results`.

    Returns
    -------
    Comparison
        Agreement for each group and place (Cohen 1960), agreement for each line family, and contradictions.

    Raises
    ------
    ScanError
        The maps have different sizes, or the results have no common maps.

    Examples
    --------
    >>> import underpaint as up
    >>> from underpaint.pipeline.compare import compare
    >>> counts, sigma = np.full((5, 5, 1), 400.0, np.float32), np.full((5, 5, 1), 20.0, np.float32)
    >>> a, b = (up.Results.of_lines(("Fe_K",), times * counts, sigma) for times in (1, 2))
    >>> round(compare(a, b).lines[0].ratio, 3)
    2.0
    """
    if a.shape != b.shape:
        size_texts = " and ".join(f"{results.shape[0]} rows x {results.shape[1]} columns" for results in (a, b))
        raise ScanError(
            f"Cannot compare {' and '.join(_distinct_names(a, b))}: the maps have {size_texts}. Both results must have "
            "the same pixels. Compare detectors of one scan, or crop both scans to the common area (`underpaint repair "
            "--crop`) and identify both again."
        )
    both_have_pigments, both_have_elements = a.has_pigments and b.has_pigments, a.has_elements and b.has_elements
    if not (both_have_pigments or both_have_elements):
        raise ScanError(
            f"Cannot compare {' and '.join(_distinct_names(a, b))}: the results have no common maps. Both must have "
            "pigments, or both must have elements. `underpaint identify` writes both, `underpaint elements` writes "
            "elements."
        )
    names, both_results = _distinct_names(a, b), (a, b)
    groups = [name for name in a.targets if b.holds(name)] if both_have_pigments else []
    line_agreements = (
        {name: _line_agreement(a, b, name) for name in a.lines if name in b.lines} if both_have_elements else {}
    )
    contradictions = [
        *(contradiction for name in groups for contradiction in _group_contradictions(names, both_results, name)),
        *(contradiction for name in groups for contradiction in _place_contradictions(names, both_results, name)),
        *(_line_contradictions(names, both_results, line_agreements) if both_have_elements else ()),
    ]
    agreements = [
        _group_agreement(both_results, name, place) for name in groups for place in ("anywhere", "surface", "below")
    ]
    return Comparison(
        names,
        both_results,
        tuple(agreement for agreement in agreements if agreement is not None),
        tuple(line for line, _ in line_agreements.values()),
        tuple(
            sorted(
                (contradiction for contradiction in contradictions if contradiction.n_pixel),
                key=lambda contradiction: -contradiction.n_pixel,
            )
        ),
    )


def _distinct_names(a: Results, b: Results) -> tuple[str, str]:
    """Return the shortest names that distinguish two results."""
    for summary_key, prefix in (("detector", "detector "), ("name", ""), ("folder", ""), ("source", "")):
        first_name, second_name = (str(results.summary.get(summary_key) or "") for results in (a, b))
        if first_name and second_name and first_name != second_name:
            return prefix + first_name, prefix + second_name
    return "the first", "the second"


# --- pigment groups --------------------------------------------------------------------------------------


def _group_agreement(both_results: tuple[Results, Results], group: str, place: Place) -> GroupAgreement | None:
    if not all(results.holds(group, place) for results in both_results):
        return None
    probability_maps = [results[group, place] for results in both_results]
    has_answers = np.isfinite(probability_maps[0]) & np.isfinite(probability_maps[1])
    if not has_answers.any():
        return None
    is_in_first_scan, is_in_second_scan = (
        is_stated(probability[has_answers], place) for probability in probability_maps
    )
    return GroupAgreement(
        group,
        both_results[0].label(group, place),
        place,
        (float(is_in_first_scan.mean()), float(is_in_second_scan.mean())),
        cohen_kappa(is_in_first_scan, is_in_second_scan),
        (int((is_in_first_scan & ~is_in_second_scan).sum()), int((is_in_second_scan & ~is_in_first_scan).sum())),
    )


def _group_contradictions(
    names: tuple[str, str], both_results: tuple[Results, Results], group: str
) -> Iterator[Contradiction]:
    """Yield contradictions in which a group is present with a certain line in only one result."""
    if not all(results.has_elements for results in both_results):
        return
    families = both_results[0].materials[group].elements
    significance_maps = [results.max_significance(families) for results in both_results]
    for first_index, second_index in ((0, 1), (1, 0)):
        mask = (both_results[first_index][group] > PRESENT_PROBABILITY) & (
            both_results[second_index][group] <= PRESENT_PROBABILITY
        )
        mask &= significance_maps[first_index] > CERTAIN_SIGMAS
        n_shown = int((mask & (significance_maps[second_index] > CERTAIN_SIGMAS)).sum())
        label, line_text = both_results[0].short_label(group), _line_names(families)
        yield Contradiction(
            "claim",
            group,
            f"{label}: present in {names[first_index]}, with {line_text} above {CERTAIN_SIGMAS:.0f} sigma, and "
            "absent in "
            f"{names[second_index]} ({_pixel_count_text(mask)}); "
            + (
                f"the line is also above {CERTAIN_SIGMAS:.0f} sigma in {names[second_index]} in {n_shown} of these "
                "pixels."
                if n_shown
                else f"no line is above {CERTAIN_SIGMAS:.0f} sigma in {names[second_index]}."
            ),
            mask,
        )


def _place_contradictions(
    names: tuple[str, str], both_results: tuple[Results, Results], group: str
) -> Iterator[Contradiction]:
    """Yield contradictions in which a group is only at the surface in one result, and only below in the other."""
    if not all(results.holds(group, place) for results in both_results for place in ("surface", "below")):
        return
    for first_index, second_index in ((0, 1), (1, 0)):
        mask = _is_only_at(both_results[first_index], group, "surface", "below") & _is_only_at(
            both_results[second_index], group, "below", "surface"
        )
        yield Contradiction(
            "place",
            group,
            f"{both_results[0].short_label(group)}: only at the surface in {names[first_index]}, only below the "
            "surface "
            f"in {names[second_index]} ({_pixel_count_text(mask)}); the place is not determined in these pixels.",
            mask,
        )


def _is_only_at(results: Results, group: str, place: Place, other_place: Place) -> Mask:
    return np.asarray(
        (results[group, place] >= PLACED_PROBABILITY) & (results[group, other_place] <= 1.0 - PLACED_PROBABILITY)
    )


# --- lines -----------------------------------------------------------------------------------------------


def _line_agreement(a: Results, b: Results, family: str) -> tuple[LineAgreement, Array]:
    """Return the agreement of the areas, and the (n_row, n_column) residuals of the second areas in sigma."""
    area_a, area_b, sigma_a, sigma_b = (
        results.map(quantity, family).astype(np.float64) for quantity in ("area", "area_sigma") for results in (a, b)
    )
    is_valid = np.isfinite(area_a) & np.isfinite(area_b) & (sigma_a > 0) & (sigma_b > 0)
    ratio = _area_ratio(area_a[is_valid], area_b[is_valid], sigma_a[is_valid], sigma_b[is_valid])
    residuals = np.full(area_a.shape, np.nan)
    if np.isfinite(ratio):
        residuals[is_valid] = (area_b[is_valid] - ratio * area_a[is_valid]) / np.hypot(
            sigma_b[is_valid], ratio * sigma_a[is_valid]
        )
    finite_residuals = residuals[np.isfinite(residuals)]
    rms_residual = float(np.sqrt(np.mean(finite_residuals**2))) if finite_residuals.size else float("nan")
    return LineAgreement(
        family, ratio, rms_residual, int(is_valid.sum()), int((np.abs(finite_residuals) > MIN_DIFFERENCE_SIGMAS).sum())
    ), residuals


def _area_ratio(area_a: Array, area_b: Array, sigma_a: Array, sigma_b: Array) -> float:
    """Return the median ratio of areas over the pixels with a visible line, or NaN for a faint line.

    A median of quotients would be biased by the noise of the denominator, and is not used. Pixels are selected by the
    sum of both significances, so that neither result is favoured.
    """
    pixels_with_line = np.flatnonzero(area_a / sigma_a + area_b / sigma_b > np.sqrt(2.0) * MIN_DIFFERENCE_SIGMAS)
    if pixels_with_line.size < MIN_PIXELS:
        pixels_with_line = np.arange(area_a.size)
        total_areas, total_sigmas = (
            (area_a.sum(), area_b.sum()),
            (np.sqrt((sigma_a**2).sum()), np.sqrt((sigma_b**2).sum())),
        )
        is_significant = all(
            total_area > MIN_DIFFERENCE_SIGMAS * total_sigma
            for total_area, total_sigma in zip(total_areas, total_sigmas, strict=True)
        )
        return float(total_areas[1] / total_areas[0]) if is_significant else float("nan")
    sampled_pixels = pixels_with_line[:: -(-pixels_with_line.size // MAX_PIXELS_FOR_RATIO)]
    sampled_a, sampled_b, sigma_sampled_a, sigma_sampled_b = (
        pixel_values[sampled_pixels] for pixel_values in (area_a, area_b, sigma_a, sigma_b)
    )

    def median_residual(log_ratio: float) -> float:
        ratio = np.exp(log_ratio)
        return float(np.median((sampled_b - ratio * sampled_a) / np.hypot(sigma_sampled_b, ratio * sigma_sampled_a)))

    max_log_ratio = float(np.log(_MAX_AREA_RATIO))
    if median_residual(-max_log_ratio) <= 0:
        return 0.0
    if median_residual(max_log_ratio) >= 0:
        return float("inf")
    return float(np.exp(brentq(median_residual, -max_log_ratio, max_log_ratio, xtol=1e-6)))


def _line_contradictions(
    names: tuple[str, str],
    both_results: tuple[Results, Results],
    line_agreements: Mapping[str, tuple[LineAgreement, Array]],
) -> Iterator[Contradiction]:
    """Yield contradictions in which a line is certain in one result and missing in the other."""
    expected_ratios = _expected_ratios({name: line.ratio for name, (line, _) in line_agreements.items()})
    for first_index, second_index in ((0, 1), (1, 0)):
        for family in both_results[first_index].lines:
            is_certain_line = both_results[first_index].max_significance([family]) > CERTAIN_SIGMAS
            if family not in line_agreements:
                # a family outside the user's list was not fitted
                settings = both_results[second_index].settings
                if not settings.get("families") and family not in (settings.get("drop") or ()):
                    yield _line_contradiction(
                        names, both_results, family, is_certain_line, first_index, "the fit has no such line"
                    )
                continue
            agreement, residuals = line_agreements[family]
            ratio, expected_ratio = agreement.ratio, expected_ratios.get(family, agreement.ratio)
            if first_index == 1:
                ratio, expected_ratio, residuals = _inverse(ratio), _inverse(expected_ratio), -residuals
            if ratio < MAX_MISSING_LINE_RATIO * expected_ratio:
                yield _line_contradiction(
                    names,
                    both_results,
                    family,
                    is_certain_line,
                    first_index,
                    f"the area is {_percent_text(ratio / expected_ratio)} of the value expected from nearby lines",
                )
                continue
            both_areas = [
                results[family].astype(np.float64)
                for results in (both_results[first_index], both_results[second_index])
            ]
            is_missing = (
                is_certain_line
                & (residuals < -MIN_DIFFERENCE_SIGMAS)
                & (both_areas[1] < MAX_MISSING_LINE_RATIO * ratio * both_areas[0])
            )
            yield _line_contradiction(
                names,
                both_results,
                family,
                is_missing,
                first_index,
                f"the area is below {_percent_text(MAX_MISSING_LINE_RATIO)} of that expected from the ratio in other "
                "pixels",
            )


def _expected_ratios(ratios: Mapping[str, float]) -> dict[str, float]:
    """Return the area ratio that is expected for each family from its neighbours in energy on both sides.

    The effect of window, air and detector crystal on the ratio is smooth in energy, and largest at low energies.
    """
    valid_ratios = {name: ratio for name, ratio in ratios.items() if np.isfinite(ratio) and ratio > 0}
    energy_by_family = {name: _energy_kev(name) for name in ratios}
    expected_ratios = {}
    for name, energy_kev in energy_by_family.items():
        lower_energy_families = sorted(
            (neighbour for neighbour in valid_ratios if energy_by_family[neighbour] < energy_kev),
            key=lambda neighbour: -energy_by_family[neighbour],
        )[:_N_NEIGHBOURS]
        higher_energy_families = sorted(
            (neighbour for neighbour in valid_ratios if energy_by_family[neighbour] > energy_kev),
            key=lambda neighbour: energy_by_family[neighbour],
        )[:_N_NEIGHBOURS]
        if lower_energy_families and higher_energy_families:
            expected_ratios[name] = float(
                np.exp(
                    np.median(
                        [
                            np.log(valid_ratios[neighbour])
                            for neighbour in (*lower_energy_families, *higher_energy_families)
                        ]
                    )
                )
            )
    return expected_ratios


def _energy_kev(family: str) -> float:
    """Return the energy of a family's strongest line, in keV."""
    symbol, _, shell = family.partition("_")
    line_energies_kev, line_rates = family_lines(symbol, shell, _MAX_LINE_KEV)
    return float(line_energies_kev[line_rates.argmax()])


def _inverse(ratio: float) -> float:
    return 1.0 / ratio if ratio else float("inf")


def _line_contradiction(
    names: tuple[str, str],
    both_results: tuple[Results, Results],
    family: str,
    mask: Mask,
    result_index: int,
    finding_text: str,
) -> Contradiction:
    pixel_fraction = mask.sum() / max(mask.size, 1)
    n_diffraction = int((mask & np.logical_or.reduce([_has_diffraction(results) for results in both_results])).sum())
    if n_diffraction:
        cause_text = (
            f"diffraction, according to the detectors of one scan in {n_diffraction} of these pixels, not an element"
        )
    elif pixel_fraction < MAX_DIFFRACTION_PIXEL_FRACTION:
        cause_text = "diffraction peaks of crystals, which come from no element, or relief that shades one detector"
    else:
        cause_text = "the instrument (a fluorescent part, an insensitive detector), or absorption towards one detector"
    description = (
        f"{family.replace('_', ' ')}: a line of {names[result_index]} alone, above {CERTAIN_SIGMAS:.0f} sigma "
        f"({_pixel_count_text(mask)}); in {names[1 - result_index]}, {finding_text}. Possible cause: {cause_text}."
    )
    return Contradiction("line", family, description, mask)


def _has_diffraction(results: Results) -> Mask:
    """Return an (n_row, n_column) mask of pixels in which the detectors of one scan show diffraction."""
    if "diffraction" not in results.stacks:
        return np.zeros(results.shape, bool)
    threshold_sigmas = float(results.settings_of("diffraction").get("threshold_sigmas", MIN_DIFFERENCE_SIGMAS))
    diffraction_maps = [results.map("diffraction", *key) for key in results.stacks["diffraction"].keys]
    return np.asarray(np.nan_to_num(diffraction_maps).max(axis=0) > threshold_sigmas)


def _line_names(families: Sequence[str]) -> str:
    return " or ".join(family.replace("_", " ") for family in families)


def _percent_text(share: float) -> str:
    return f"{100 * share:.2g} %"


def _pixel_count_text(mask: Mask) -> str:
    n_pixel = int(mask.sum())
    return f"{n_pixel} pixel{'' if n_pixel == 1 else 's'}, {_percent_text(n_pixel / max(mask.size, 1))}"


def _bounding_rows_and_columns(mask: Mask) -> dict[str, list[int]]:
    """Return the first and last rows and columns of a mask."""
    rows, columns = np.nonzero(mask)
    return {"rows": [int(rows.min()), int(rows.max())], "columns": [int(columns.min()), int(columns.max())]}


# --- files -----------------------------------------------------------------------------------------------


def check_folder(folder: str | Path, *, overwrite: bool = False) -> None:
    """Raise an error if a comparison cannot be written to a folder.

    Raises
    ------
    OutputError
        The folder is a file, or contains a comparison that may not be replaced.
    """
    folder_path = Path(folder)
    check_path(folder_path)
    if folder_path.exists() and not folder_path.is_dir():
        raise OutputError(f"Cannot write to {folder_path}: it is a file. Give the name of a folder with --out.")
    if not overwrite and any((folder_path / name).exists() for name in COMPARISON_FILES):
        raise OutputError(
            f"Cannot write a comparison to {folder_path}: the folder already has one. Give another folder "
            "with --out, or --overwrite to replace the comparison."
        )


def write_comparison(comparison: Comparison, folder: str | Path, *, overwrite: bool = False) -> Path:
    """Write a comparison to a folder, as a page with maps and as JSON and CSV files.

    Parameters
    ----------
    comparison : Comparison
        Comparison to write.
    folder : str or Path
        Folder, which is created if missing. An existing folder must be empty or contain an earlier comparison.
    overwrite : bool
        Replace an earlier comparison.

    Returns
    -------
    Path
        Path of the page, in which all figures are embedded.

    Raises
    ------
    OutputError
        The folder has other content or a comparison that may not be replaced, or cannot be written.
    """
    check_folder(folder, overwrite=overwrite)
    folder_path, record = Path(folder), comparison.record()
    page = _page_html(comparison)
    claim_folder(folder_path)
    first_name, second_name = comparison.names
    _write_csv_table(
        folder_path / GROUPS_FILE,
        [
            "group",
            "place",
            f"share in {first_name}",
            f"share in {second_name}",
            "kappa",
            f"in {first_name} alone",
            f"in {second_name} alone",
        ],
        [
            [agreement.group, agreement.place, *agreement.present, agreement.kappa, *agreement.n_alone]
            for agreement in comparison.groups
        ],
    )
    _write_csv_table(
        folder_path / LINES_FILE,
        [
            "line",
            f"{second_name} over {first_name}",
            "rms z",
            "pixels",
            f"pixels that differ over {MIN_DIFFERENCE_SIGMAS:.0f} sigma",
        ],
        [
            [agreement.family, agreement.ratio, agreement.rms_z, agreement.n_pixel, agreement.n_different]
            for agreement in comparison.lines
        ],
    )
    _write_csv_table(
        folder_path / CONTRADICTIONS_FILE,
        ["kind", "subject", "pixels", "first row", "last row", "first column", "last column", "in words"],
        [
            [
                contradiction_record["kind"],
                contradiction_record["subject"],
                contradiction_record["n_pixel"],
                *contradiction_record["rows"],
                *contradiction_record["columns"],
                contradiction_record["text"],
            ]
            for contradiction_record in record["contradictions"]
        ],
    )
    write_json(folder_path / RECORD_FILE, record)
    with atomic_write(folder_path / PAGE_FILE) as temporary_path:
        temporary_path.write_text(page, encoding="utf-8")
    return folder_path / PAGE_FILE


def _write_csv_table(path: Path, heading: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    cells = ([f"{cell:.6g}" if isinstance(cell, float) else cell for cell in row] for row in rows)
    with atomic_write(path) as temporary_path, temporary_path.open("w", newline="", encoding="utf-8") as stream:
        write_csv(stream, [heading, *cells])


def _page_html(comparison: Comparison) -> str:
    # the import of the plotting library takes a second
    from underpaint.display.report.page import render

    return render(
        "comparison.html.jinja",
        title=" and ".join(comparison.names),
        comparison=comparison,
        pictures=[_picture(comparison, contradiction) for contradiction in comparison.contradictions[:_MAX_FIGURES]],
        place_words={place: words.removeprefix(", ") or "anywhere" for place, words in PLACE_WORDS.items()},
        certain=f"{CERTAIN_SIGMAS:g}",
        different=f"{MIN_DIFFERENCE_SIGMAS:g}",
        present=f"{PRESENT_PROBABILITY:g}",
        placed=f"{PLACED_PROBABILITY:g}",
        not_placed=f"{1.0 - PLACED_PROBABILITY:g}",
    )


def _picture(comparison: Comparison, contradiction: Contradiction) -> "EmbeddedFigure":
    from underpaint.display.plot.comparison import contradiction_maps
    from underpaint.display.report.page import embed_figure

    place: Place = "surface" if contradiction.kind == "place" else "anywhere"
    quantity = f"probability{PLACE_WORDS[place]}" if contradiction.kind != "line" else "counts"
    empty_map = np.full(contradiction.mask.shape, np.nan, np.float32)
    shown_maps = [
        results[contradiction.subject, place]
        if contradiction.kind != "line" or contradiction.subject in results.lines
        else empty_map
        for results in comparison.results
    ]
    quantity = f"{contradiction.subject.replace('_', ' ')}, {quantity}"
    map_titles = [f"{name}\n{quantity}" for name in comparison.names]
    figure = contradiction_maps(
        shown_maps,
        contradiction.mask,
        map_titles,
        show_counts=contradiction.kind == "line",
        step_mm=comparison.results[0].step_mm,
    )
    return embed_figure(figure, f"Maps of both ({quantity}), and the pixels that contradict.")
