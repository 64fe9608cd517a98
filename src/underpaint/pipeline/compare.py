"""Comparison of two results of the same pixels, from two detectors or two scans of one painting.

Both are of the same paint and must agree within counting noise and the paint's absorption on the way to either
detector. Contradictions are pixels in which one of the two is wrong.
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
)
from underpaint.errors import OutputError, ScanError
from underpaint.io.results.csv_text import write_csv
from underpaint.physics.atomic import family_lines
from underpaint.runtime.files import atomic_write, check_path, claim_folder, plain, write_json

if TYPE_CHECKING:
    from underpaint.display.report.page import Picture

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
CERTAIN_SIGMAS = 10.0
"""Standard deviations from which a line is certain."""
DIFFERENT_SIGMAS = 5.0
"""Standard deviations from which two areas differ."""
MISSING_SHARE = 0.25
"""A line is missing below this share of the area expected from the other result."""
FEW_PIXELS = 0.01
"""Share of the pixels below which a line of one result alone may be diffraction by crystals."""
LEAST_PIXELS = 10
MOST_FOR_RATIO = 20_000
"""Pixels, spread evenly, from which a ratio is taken."""
FILES = PAGE, JSON, GROUPS, LINES, CONTRADICTIONS = (
    "comparison.html",
    "comparison.json",
    "groups.csv",
    "lines.csv",
    "contradictions.csv",
)
_MOST_PICTURES = 24
_WIDEST_RATIO = 1e4
_NEIGHBOURS, _HIGHEST_KEV = 2, 60.0


@dataclass(frozen=True)
class GroupAgreement:
    """How far two results agree about a pigment group at a place.

    Parameters
    ----------
    group : str
    label : str
        Shown to users.
    place : {"anywhere", "surface", "below"}
    present : (float, float)
        Share of the pixels, of those with both answers, in which each has it.
    kappa : float
        Cohen's kappa: 1 for full agreement, 0 for that of chance; NaN where both have the same answer in all pixels.
    n_alone : (int, int)
        Pixels in which the first, and the second, alone has it.
    """

    group: str
    label: str
    place: Place
    present: tuple[float, float]
    kappa: float
    n_alone: tuple[int, int]


@dataclass(frozen=True)
class LineAgreement:
    """How far the areas of a line family agree.

    Parameters
    ----------
    family : str
    ratio : float
        Area in the second over that in the first, by the median over the whole scan; NaN where it is too faint.
    rms_z : float
        Root mean square of the difference that the ratio leaves, in standard deviations of both areas; one where they
        differ by counting noise alone.
    n_pixel : int
        Pixels with both areas.
    n_different : int
        Those that differ by more than :data:`DIFFERENT_SIGMAS`.
    """

    family: str
    ratio: float
    rms_z: float
    n_pixel: int
    n_different: int


@dataclass(frozen=True, eq=False)
class Contradiction:
    """Pixels in which one of two results must be wrong.

    Parameters
    ----------
    kind : {"claim", "place", "line"}
        One claims a group by a certain line, and the other does not; one has it at the surface only, the
        other below only; a line is in one result alone.
    subject : str
        The group, or the line family.
    text : str
        In words.
    where : (n_row, n_column) bool array
        The pixels.
    """

    kind: Literal["claim", "place", "line"]
    subject: str
    text: str
    where: Mask

    @property
    def n_pixel(self) -> int:
        """Number of pixels."""
        return int(self.where.sum())


@dataclass(frozen=True, eq=False)
class Comparison:
    """Agreement and contradictions of two results of the same pixels.

    Parameters
    ----------
    names : (str, str)
        Names of the results.
    results : (Results, Results)
    groups : tuple of GroupAgreement
        By group and place; empty where either holds no pigments.
    lines : tuple of LineAgreement
        Families in both.
    contradictions : tuple of Contradiction
        Those in most pixels first.
    """

    names: tuple[str, str]
    results: tuple[Results, Results]
    groups: tuple[GroupAgreement, ...]
    lines: tuple[LineAgreement, ...]
    contradictions: tuple[Contradiction, ...]

    def record(self) -> dict[str, Any]:
        """Return all but the maps as plain values, JSON-serialisable."""
        record: dict[str, Any] = plain(
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
                    | _rows_and_columns(contradiction.where)
                    for contradiction in self.contradictions
                ],
                "groups": [vars(agreement) for agreement in self.groups],
                "lines": [vars(agreement) for agreement in self.lines],
            }
        )
        return record


def compare(a: Results, b: Results) -> Comparison:
    """Compare two results of the same pixels.

    Parameters
    ----------
    a, b : Results
        Of two detectors, or of two scans of one painting, as :func:`underpaint.read_results` reads them.

    Returns
    -------
    Comparison
        Agreement by group and place (Cohen 1960), of line families, and contradictions.

    Raises
    ------
    ScanError
        Their maps differ in size, or there is nothing that both hold.

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
        sizes = " and ".join(f"{results.shape[0]} rows x {results.shape[1]} columns" for results in (a, b))
        raise ScanError(
            f"Cannot compare {' and '.join(_names(a, b))}: their maps have {sizes}. Both must be of the same pixels. "
            "Compare detectors of one scan, or cut both scans to the part that they share (`underpaint repair --crop`) "
            "and identify them again."
        )
    pigments, elements = a.has_pigments and b.has_pigments, a.has_elements and b.has_elements
    if not (pigments or elements):
        raise ScanError(
            f"Cannot compare {' and '.join(_names(a, b))}: there is nothing that both hold. Each must hold pigments, "
            "or each elements: `underpaint identify` writes both, `underpaint elements` the elements."
        )
    names, both = _names(a, b), (a, b)
    groups = [name for name in a.targets if b.holds(name)] if pigments else []
    lines = {name: _compared_line(a, b, name) for name in a.lines if name in b.lines} if elements else {}
    contradictions = [
        *(contradiction for name in groups for contradiction in _claims(names, both, name)),
        *(contradiction for name in groups for contradiction in _places(names, both, name)),
        *(_lines_alone(names, both, lines) if elements else ()),
    ]
    agreements = [_agreement(both, name, place) for name in groups for place in ("anywhere", "surface", "below")]
    return Comparison(
        names,
        both,
        tuple(agreement for agreement in agreements if agreement is not None),
        tuple(line for line, _ in lines.values()),
        tuple(
            sorted(
                (contradiction for contradiction in contradictions if contradiction.n_pixel),
                key=lambda contradiction: -contradiction.n_pixel,
            )
        ),
    )


def _names(a: Results, b: Results) -> tuple[str, str]:
    """Return the shortest names that distinguish two results."""
    for key, prefix in (("detector", "detector "), ("name", ""), ("folder", ""), ("source", "")):
        first, second = (str(results.summary.get(key) or "") for results in (a, b))
        if first and second and first != second:
            return prefix + first, prefix + second
    return "the first", "the second"


# --- pigment groups --------------------------------------------------------------------------------------


def _agreement(both: tuple[Results, Results], group: str, place: Place) -> GroupAgreement | None:
    if not all(results.holds(group, place) for results in both):
        return None
    maps = [results[group, place] for results in both]
    known = np.isfinite(maps[0]) & np.isfinite(maps[1])
    if not known.any():
        return None
    first, second = (probability[known] > PRESENT_PROBABILITY for probability in maps)
    return GroupAgreement(
        group,
        both[0].label(group, place),
        place,
        (float(first.mean()), float(second.mean())),
        cohen_kappa(first, second),
        (int((first & ~second).sum()), int((second & ~first).sum())),
    )


def _claims(names: tuple[str, str], both: tuple[Results, Results], group: str) -> Iterator[Contradiction]:
    """Yield pixels in which one claims a group by a certain line, and the other does not."""
    if not all(results.has_elements for results in both):
        return
    families = both[0].materials[group].elements
    deviations = [results.strongest(families) for results in both]
    for first, second in ((0, 1), (1, 0)):
        mask = (both[first][group] > PRESENT_PROBABILITY) & (both[second][group] <= PRESENT_PROBABILITY)
        mask &= deviations[first] > CERTAIN_SIGMAS
        n_shown = int((mask & (deviations[second] > CERTAIN_SIGMAS)).sum())
        label, lines = both[0].short_label(group), _listed(families)
        yield Contradiction(
            "claim",
            group,
            f"{label}: {names[first]} has it, with {lines} over {CERTAIN_SIGMAS:.0f} sigma, and {names[second]} has "
            f"not ({_pixels(mask)}); "
            + (
                f"the line is as clear there for {names[second]} in {n_shown} of them."
                if n_shown
                else f"no line is as clear there for {names[second]}."
            ),
            mask,
        )


def _places(names: tuple[str, str], both: tuple[Results, Results], group: str) -> Iterator[Contradiction]:
    """Yield pixels in which one has a group at the surface only, and the other below only."""
    if not all(results.holds(group, place) for results in both for place in ("surface", "below")):
        return
    for first, second in ((0, 1), (1, 0)):
        mask = _only(both[first], group, "surface", "below") & _only(both[second], group, "below", "surface")
        yield Contradiction(
            "place",
            group,
            f"{both[0].short_label(group)}: {names[first]} has it at the surface only, {names[second]} below the "
            f"surface only ({_pixels(mask)}); its place is not known there.",
            mask,
        )


def _only(results: Results, group: str, place: Place, other_place: Place) -> Mask:
    return np.asarray(
        (results[group, place] >= PLACED_PROBABILITY) & (results[group, other_place] <= 1.0 - PLACED_PROBABILITY)
    )


# --- lines -----------------------------------------------------------------------------------------------


def _compared_line(a: Results, b: Results, family: str) -> tuple[LineAgreement, Array]:
    """Return how far areas agree, and (n_row, n_column) deviations: positive where the second has more."""
    area_a, area_b, sigma_a, sigma_b = (
        results.map(quantity, family).astype(np.float64) for quantity in ("area", "area_sigma") for results in (a, b)
    )
    known = np.isfinite(area_a) & np.isfinite(area_b) & (sigma_a > 0) & (sigma_b > 0)
    ratio = _ratio(area_a[known], area_b[known], sigma_a[known], sigma_b[known])
    z = np.full(area_a.shape, np.nan)
    if np.isfinite(ratio):
        z[known] = (area_b[known] - ratio * area_a[known]) / np.hypot(sigma_b[known], ratio * sigma_a[known])
    values = z[np.isfinite(z)]
    rms = float(np.sqrt(np.mean(values**2))) if values.size else float("nan")
    return LineAgreement(family, ratio, rms, int(known.sum()), int((np.abs(values) > DIFFERENT_SIGMAS).sum())), z


def _ratio(area_a: Array, area_b: Array, sigma_a: Array, sigma_b: Array) -> float:
    """Return the ratio of areas with half of the pixels that show the line above it, half below; NaN: too faint.

    A median of quotients would be biased by the noise of what it divides by; pixels are chosen by both areas together,
    so that neither is favoured.
    """
    shown = np.flatnonzero(area_a / sigma_a + area_b / sigma_b > np.sqrt(2.0) * DIFFERENT_SIGMAS)
    if shown.size < LEAST_PIXELS:
        shown = np.arange(area_a.size)
        sums, error = (area_a.sum(), area_b.sum()), (np.sqrt((sigma_a**2).sum()), np.sqrt((sigma_b**2).sum()))
        clear = all(total > DIFFERENT_SIGMAS * of_sum for total, of_sum in zip(sums, error, strict=True))
        return float(sums[1] / sums[0]) if clear else float("nan")
    chosen = shown[:: -(-shown.size // MOST_FOR_RATIO)]
    x, y, s_x, s_y = (values[chosen] for values in (area_a, area_b, sigma_a, sigma_b))

    def middle(logarithm: float) -> float:
        ratio = np.exp(logarithm)
        return float(np.median((y - ratio * x) / np.hypot(s_y, ratio * s_x)))

    widest = float(np.log(_WIDEST_RATIO))
    if middle(-widest) <= 0:
        return 0.0
    if middle(widest) >= 0:
        return float("inf")
    return float(np.exp(brentq(middle, -widest, widest, xtol=1e-6)))


def _lines_alone(
    names: tuple[str, str], both: tuple[Results, Results], lines: Mapping[str, tuple[LineAgreement, Array]]
) -> Iterator[Contradiction]:
    """Yield lines that are certain in one result and missing in the other."""
    usual = _usual_ratios({name: line.ratio for name, (line, _) in lines.items()})
    for first, second in ((0, 1), (1, 0)):
        for family in both[first].lines:
            certain = both[first].strongest([family]) > CERTAIN_SIGMAS
            if family not in lines:
                # families that the user chose say nothing about others
                settings = both[second].settings
                if not settings.get("families") and family not in (settings.get("drop") or ()):
                    yield _alone(names, both, family, certain, first, "the fit does not show it at all")
                continue
            agreement, z = lines[family]
            ratio, expected = agreement.ratio, usual.get(family, agreement.ratio)
            if first == 1:
                ratio, expected, z = _inverse(ratio), _inverse(expected), -z
            if ratio < MISSING_SHARE * expected:
                yield _alone(
                    names,
                    both,
                    family,
                    certain,
                    first,
                    f"it is {_percent(ratio / expected)} of what lines nearby lead to expect",
                )
                continue
            area = [results[family].astype(np.float64) for results in (both[first], both[second])]
            missing = certain & (z < -DIFFERENT_SIGMAS) & (area[1] < MISSING_SHARE * ratio * area[0])
            yield _alone(
                names,
                both,
                family,
                missing,
                first,
                f"it is under {_percent(MISSING_SHARE)} of what its ratio elsewhere leads to expect",
            )


def _usual_ratios(ratios: Mapping[str, float]) -> dict[str, float]:
    """Return the ratio that the lines nearest in energy lead to expect of each family that has some on both sides.

    Windows, air and crystals make it change with the energy, smoothly and most at the soft end.
    """
    known = {name: ratio for name, ratio in ratios.items() if np.isfinite(ratio) and ratio > 0}
    energy = {name: _energy_kev(name) for name in ratios}
    usual = {}
    for name, kev in energy.items():
        below = sorted((other for other in known if energy[other] < kev), key=lambda other: -energy[other])[
            :_NEIGHBOURS
        ]
        above = sorted((other for other in known if energy[other] > kev), key=lambda other: energy[other])[:_NEIGHBOURS]
        if below and above:
            usual[name] = float(np.exp(np.median([np.log(known[other]) for other in (*below, *above)])))
    return usual


def _energy_kev(family: str) -> float:
    """Return the energy of a family's strongest line, keV."""
    symbol, _, shell = family.partition("_")
    energy, rate = family_lines(symbol, shell, _HIGHEST_KEV)
    return float(energy[rate.argmax()])


def _inverse(ratio: float) -> float:
    return 1.0 / ratio if ratio else float("inf")


def _alone(
    names: tuple[str, str], both: tuple[Results, Results], family: str, mask: Mask, index: int, finding: str
) -> Contradiction:
    share = mask.sum() / max(mask.size, 1)
    n_peak = int((mask & np.logical_or.reduce([_diffraction(results) for results in both])).sum())
    if n_peak:
        cause = f"diffraction, as the detectors of one scan show in {n_peak} of them: no element"
    elif share < FEW_PIXELS:
        cause = "diffraction by crystals, which is no element, or relief that shades one detector"
    else:
        cause = "the instrument (a part that fluoresces, a detector blind there), or paint that absorbs on one way"
    text = (
        f"{family.replace('_', ' ')}: a line of {names[index]} alone, over {CERTAIN_SIGMAS:.0f} sigma "
        f"({_pixels(mask)}); for {names[1 - index]} {finding}: {cause}."
    )
    return Contradiction("line", family, text, mask)


def _diffraction(results: Results) -> Mask:
    """Return where the detectors of one scan show diffraction."""
    if "diffraction" not in results.stacks:
        return np.zeros(results.shape, bool)
    threshold = float(results.settings_of("diffraction").get("threshold_sigmas", DIFFERENT_SIGMAS))
    maps = [results.map("diffraction", *key) for key in results.stacks["diffraction"].keys]
    return np.asarray(np.nan_to_num(maps).max(axis=0) > threshold)


def _listed(families: Sequence[str]) -> str:
    return " or ".join(family.replace("_", " ") for family in families)


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %"


def _pixels(mask: Mask) -> str:
    n_pixel = int(mask.sum())
    return f"{n_pixel} pixel{'' if n_pixel == 1 else 's'}, {_percent(n_pixel / max(mask.size, 1))}"


def _rows_and_columns(mask: Mask) -> dict[str, list[int]]:
    """Return the first and last row and column of some pixels."""
    rows, columns = np.nonzero(mask)
    return {"rows": [int(rows.min()), int(rows.max())], "columns": [int(columns.min()), int(columns.max())]}


# --- files -----------------------------------------------------------------------------------------------


def check_folder(folder: str | Path, *, overwrite: bool = False) -> None:
    """Refuse a folder that a comparison cannot be written to, before it is made.

    Raises
    ------
    OutputError
        It holds another comparison that may not be replaced, or is a file.
    """
    place = Path(folder)
    check_path(place)
    if place.exists() and not place.is_dir():
        raise OutputError(f"Cannot write to {place}: it is a file. Give the name of a folder with --out.")
    if not overwrite and any((place / name).exists() for name in FILES):
        raise OutputError(
            f"Cannot write a comparison to {place}: there is one. Give another folder with --out, or --overwrite to "
            "replace it."
        )


def write_comparison(comparison: Comparison, folder: str | Path, *, overwrite: bool = False) -> Path:
    """Write a comparison to a folder: a page with maps, JSON and CSV.

    Parameters
    ----------
    comparison : Comparison
    folder : str or Path
        It is made; one that is there must be empty, or hold an earlier comparison.
    overwrite : bool
        Replace an earlier comparison.

    Returns
    -------
    Path
        The page, with all pictures inside.

    Raises
    ------
    OutputError
        The folder holds other things, or a comparison that may not be replaced; or it cannot be written.
    """
    check_folder(folder, overwrite=overwrite)
    place, record = Path(folder), comparison.record()
    page = _page(comparison)
    claim_folder(place)
    first, second = comparison.names
    _write_table(
        place / GROUPS,
        [
            "group",
            "place",
            f"share in {first}",
            f"share in {second}",
            "kappa",
            f"in {first} alone",
            f"in {second} alone",
        ],
        [
            [agreement.group, agreement.place, *agreement.present, agreement.kappa, *agreement.n_alone]
            for agreement in comparison.groups
        ],
    )
    _write_table(
        place / LINES,
        ["line", f"{second} over {first}", "rms z", "pixels", f"pixels that differ over {DIFFERENT_SIGMAS:.0f} sigma"],
        [
            [agreement.family, agreement.ratio, agreement.rms_z, agreement.n_pixel, agreement.n_different]
            for agreement in comparison.lines
        ],
    )
    _write_table(
        place / CONTRADICTIONS,
        ["kind", "subject", "pixels", "first row", "last row", "first column", "last column", "in words"],
        [
            [entry["kind"], entry["subject"], entry["n_pixel"], *entry["rows"], *entry["columns"], entry["text"]]
            for entry in record["contradictions"]
        ],
    )
    write_json(place / JSON, record)
    with atomic_write(place / PAGE) as part:
        part.write_text(page, encoding="utf-8")
    return place / PAGE


def _write_table(path: Path, head: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    cells = ([f"{cell:.6g}" if isinstance(cell, float) else cell for cell in row] for row in rows)
    with atomic_write(path) as part, part.open("w", newline="", encoding="utf-8") as stream:
        write_csv(stream, [head, *cells])


def _page(comparison: Comparison) -> str:
    # what draws takes a second to be imported
    from underpaint.display.report.page import render

    return render(
        "comparison.html.jinja",
        title=" and ".join(comparison.names),
        comparison=comparison,
        pictures=[_picture(comparison, contradiction) for contradiction in comparison.contradictions[:_MOST_PICTURES]],
        place_words={place: words.removeprefix(", ") or "anywhere" for place, words in PLACE_WORDS.items()},
        certain=f"{CERTAIN_SIGMAS:g}",
        different=f"{DIFFERENT_SIGMAS:g}",
        present=f"{PRESENT_PROBABILITY:g}",
        placed=f"{PLACED_PROBABILITY:g}",
        not_placed=f"{1.0 - PLACED_PROBABILITY:g}",
    )


def _picture(comparison: Comparison, contradiction: Contradiction) -> "Picture":
    from underpaint.display.plot.comparison import contradiction_maps
    from underpaint.display.report.page import picture

    place: Place = "surface" if contradiction.kind == "place" else "anywhere"
    quantity = f"probability{PLACE_WORDS[place]}" if contradiction.kind != "line" else "counts"
    blank = np.full(contradiction.where.shape, np.nan, np.float32)
    maps = [
        results[contradiction.subject, place]
        if contradiction.kind != "line" or contradiction.subject in results.lines
        else blank
        for results in comparison.results
    ]
    quantity = f"{contradiction.subject.replace('_', ' ')}, {quantity}"
    titles = [f"{name}\n{quantity}" for name in comparison.names]
    figure = contradiction_maps(
        maps, contradiction.where, titles, of_counts=contradiction.kind == "line", step_mm=comparison.results[0].step_mm
    )
    return picture(figure, f"Maps of both ({quantity}), and the pixels that contradict.")
