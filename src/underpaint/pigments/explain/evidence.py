"""What a spectrum says for and against each pigment, and what nobody can say."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from underpaint.data import Scan, Spectrum
from underpaint.elements import CANDIDATES, fit_elements
from underpaint.errors import CoverageError
from underpaint.physics.atomic import family_lines
from underpaint.physics.forward import resolution_sigma
from underpaint.physics.forward.breakdown import Breakdown
from underpaint.physics.instrument import Instrument
from underpaint.physics.materials import Pigment, Stratigraphy, library, pigment_share
from underpaint.pigments.explain.candidate import Candidate, Film, paint_film
from underpaint.pigments.explain.fit import StratigraphyFit, Task, solve
from underpaint.pigments.explain.measured import Measured
from underpaint.pigments.explain.proposals import laid, refitted
from underpaint.pigments.limits import CLAIM
from underpaint.pigments.limits.question import shown_elements

SEEN = 5.0
"""Standard deviations from which a line counts as there."""
FAINT = 0.5
"""A line of which less than this share of the expected counts was met, beyond three deviations, is missing."""
ROUNDS = 6
"""Of their fits, which begin where the pigment's own ended."""
MOST_ALIKE = 4
"""Other members of a group that are put in a pigment's place."""
ORDER_CLAIM = 9.0
"""Rise of the deviance that settles how given pigments are laid: three standard deviations.

Less than ``CLAIM``, which guards against whatever else could be in the paint: here a handful of ways to lay the same
pigments are compared.
"""


@dataclass(frozen=True)
class Line:
    """A line family as measured, and as a stratigraphy expects it.

    Parameters
    ----------
    family : str
        ``Hg_L``.
    measured, uncertainty : float
        Net counts, and one standard deviation, by the linear fit of ``elements``.
    expected : float
        Counts that the pigment in question brings, in the stratigraphy in question.
    """

    family: str
    measured: float
    uncertainty: float
    expected: float

    @property
    def sigmas(self) -> float:
        """Measured counts in standard deviations."""
        return self.measured / self.uncertainty if self.uncertainty > 0 else 0.0

    @property
    def there(self) -> bool:
        """Whether it stands out of the spectrum."""
        return self.sigmas >= SEEN

    @property
    def missing(self) -> bool:
        """Whether it should stand out, and does not."""
        short = self.expected - self.measured > 3.0 * self.uncertainty
        return self.expected >= SEEN * self.uncertainty and short and self.measured < FAINT * self.expected


@dataclass(frozen=True)
class Evidence:
    """What speaks for and against one pigment.

    Parameters
    ----------
    pigment : str
    layers : tuple of int
        Where it lies in the best stratigraphy, 0 at the surface; empty where it is not in it.
    difference : float or None
        How much larger the deviance, over the best one's ``Goodness.dispersion``, is without it, everything else
        fitted anew; of a pigment that is not in the best stratigraphy, of the best one that holds it against the
        best one. None where that was not fitted.
    lines : tuple of Line
        Its families, the one that shows it best first.
    alike : dict of str to float
        Other members of its group in its place: how much larger (or smaller) the deviance is.
    """

    pigment: str
    layers: tuple[int, ...]
    difference: float | None
    lines: tuple[Line, ...]
    alike: Mapping[str, float]

    @property
    def present(self) -> bool:
        """Whether the best stratigraphy holds it."""
        return bool(self.layers)

    @property
    def needed(self) -> bool:
        """Whether the spectrum cannot be explained, among the candidates, without it."""
        return self.present and self.difference is not None and self.difference >= CLAIM

    @property
    def as_well(self) -> tuple[str, ...]:
        """Members of its group that would fit as well: by a deviance less than ``CLAIM``."""
        return tuple(name for name, more in self.alike.items() if more < CLAIM)


@dataclass(frozen=True)
class Order:
    """Whether the spectrum says which layer lies above.

    Parameters
    ----------
    layered : bool
        Whether the best stratigraphy has more than one layer of paint.
    mixed, swapped, other : float or None
        How much larger the deviance is of one layer of all, of the layers the other way round, and of the best other
        way to lay the same pigments; None where that was not among the candidates.
    explained : bool
        Whether the best stratigraphy fits at all: ways to lay the wrong pigments say nothing of the right ones.
    """

    layered: bool
    mixed: float | None
    swapped: float | None
    other: float | None
    explained: bool = True

    @property
    def determined(self) -> bool:
        """Whether the best stratigraphy fits, and every other way is worse by ``ORDER_CLAIM``."""
        rivals = [value for value in (self.mixed, self.swapped, self.other) if value is not None]
        return self.explained and self.layered and self.swapped is not None and min(rivals) >= ORDER_CLAIM


def find_order(fits: Sequence[StratigraphyFit], dispersion: float = 1.0) -> Order:
    """Compare the ways in which the candidates lay the pigments of the best one.

    Parameters
    ----------
    fits : sequence of StratigraphyFit
        The best one first.
    dispersion : float
        Of the best one (``Goodness``): differences of deviance are divided by it. Above one nothing is determined.
    """
    best = fits[0]
    own = laid(best.candidate)
    rivals = [fit for fit in fits[1:] if fit.candidate.pigments == best.candidate.pigments]
    rises = [
        (laid(fit.candidate), (fit.deviance - best.deviance) / dispersion)
        for fit in rivals
        if laid(fit.candidate) != own
    ]
    return Order(
        len(own) > 1,
        _least(more for way, more in rises if len(way) == 1),
        _least(more for way, more in rises if way == own[::-1]),
        _least(more for way, more in rises if len(way) > 1 and way != own[::-1]),
        explained=dispersion <= 1.0,
    )


def _least(values: Iterable[float]) -> float | None:
    return min(values, default=None)


def measured_lines(
    spectrum: Spectrum, instrument: Instrument, wanted: Sequence[str], start_kev: float
) -> tuple[dict[str, tuple[float, float]], tuple[str, ...]]:
    """Return net counts and standard deviation of line families, and which of them stand out.

    Parameters
    ----------
    spectrum : Spectrum
        With an axis.
    instrument : Instrument
    wanted : sequence of str
        Families to be fitted whether they stand out or not.
    start_kev : float
        Families whose strongest line lies below are left out.

    Raises
    ------
    ScanError, CoverageError
        As ``fit_elements``.
    """
    scan = Scan(np.asarray(spectrum.counts)[None, None], axis=spectrum.axis, name=spectrum.name)
    try:
        there = fit_elements(scan, instrument=instrument).lines
    except CoverageError:
        there = ()
    shown = [name for name in wanted if name not in there and _shows(name, scan, instrument)]
    found = fit_elements(scan, instrument=instrument, families=[*there, *shown])
    kept = {
        name: (float(found[name][0, 0]), float(found.map("area_sigma", name)[0, 0]))
        for name in found.lines
        if _strongest_kev(name, instrument) > start_kev
    }
    return kept, tuple(name for name in there if name in kept)


def _shows(family: str, scan: Scan, instrument: Instrument) -> bool:
    """Whether a family can be fitted: its strongest line is excited, recorded, and not the anode's own."""
    axis = scan.require_axis()
    own = family in CANDIDATES and family.split("_", maxsplit=1)[0] != instrument.tube.anode
    return own and axis.start_kev < _strongest_kev(family, instrument) < axis.stop_kev


def _strongest_kev(family: str, instrument: Instrument) -> float:
    """Return the energy of a family's strongest line, keV; zero where the source does not excite it."""
    symbol, shell = family.split("_")
    energy, rate = family_lines(symbol, shell, instrument.highest_kev)
    return float(energy[rate.argmax()]) if energy.size else 0.0


def pigment_lines(
    pigment: str, stratigraphy: Stratigraphy, parts: Breakdown, lines: Mapping[str, tuple[float, float]]
) -> tuple[Line, ...]:
    """Return the families of a pigment: as measured, and what it brings to them in a stratigraphy.

    Parameters
    ----------
    parts : Breakdown
        Of the stratigraphy, scaled to the spectrum.
    lines : mapping
        From ``measured_lines``.
    """
    brought: dict[str, float] = {}
    for part in parts.parts:
        if part.layer is None or part.family not in lines:
            continue
        share = pigment_share(stratigraphy.layers[part.layer], part.element).get(pigment, 0.0)
        brought[part.family] = brought.get(part.family, 0.0) + share * part.counts
    found = [Line(family, *lines[family], counts) for family, counts in brought.items() if counts > 0]
    return tuple(sorted(found, key=lambda line: -line.expected / max(line.uncertainty, 1e-9)))


def wanted_families(pigments: Sequence[str]) -> list[str]:
    """Return the key families of the pigments' groups, and of the elements that belong to them without a group."""
    named = [
        family
        for name in pigments
        for group in library()[name].groups
        for family in library().group(group).key_families
    ]
    shown = {element for name in pigments for element in shown_elements(name)}
    return list(dict.fromkeys([*named, *(family for family in CANDIDATES if family.split("_")[0] in shown)]))


def unexplained(
    lines: Mapping[str, tuple[float, float]],
    there: Sequence[str],
    parts: Breakdown,
    best: StratigraphyFit,
    measured: Measured,
    instrument: Instrument,
) -> tuple[Line, ...]:
    """Return families that stand out of the spectrum, and that the stratigraphy neither brings nor makes up for.

    The linear fit, with one ratio of lines for all paints, finds arsenic beside lead under thick paint; what the best
    stratigraphy explains with the lines that it has is not in question.
    """
    brought = {name: float(own.sum()) for name, own in parts.by_family().items()}
    found = [Line(name, *lines[name], brought.get(name, 0.0)) for name in there if name in lines]
    # air's argon is no pigment's; a family of an element that is there is a question of the fit, not of the palette
    known = {name.split("_")[0] for name, counts in brought.items() if counts > 0} | {"Ar"}
    strange = [line for line in found if line.there and line.family.split("_")[0] not in known]
    return tuple(line for line in strange if _left_over(line.family, best, measured, instrument) >= SEEN)


def _left_over(family: str, best: StratigraphyFit, measured: Measured, instrument: Instrument) -> float:
    """Return by how many standard deviations the counts under a family's strongest line exceed the fitted ones."""
    element, shell = family.split("_")
    energy, strength = family_lines(element, shell, instrument.highest_kev)
    if not energy.size:
        return 0.0
    middle = energy[strength.argmax()]
    width = resolution_sigma(instrument.detector, np.asarray([middle]))[0]
    under = np.abs(measured.energy_kev - middle) <= max(width, measured.axis.gain_kev)
    over = float((measured.counts - best.expected)[under].sum())
    return over / max(float(np.sqrt(measured.variance(best.expected)[under].sum())), 1e-9)


def in_their_place(best: StratigraphyFit, measured: Measured, instrument: Instrument) -> dict[str, dict[str, float]]:
    """Put other members of its group in each pigment's place, fit anew, and say how much larger the deviance is.

    Only those that show the same elements are tried, ``MOST_ALIKE`` at most, in the library's order, the commonest
    first; members that show others have lines that speak for or against them.
    """
    own = sorted(best.candidate.pigments)
    pairs = [(name, other) for name in own for other in alike(name) if other not in own]
    tasks = [_replaced(best, name, other) for name, other in pairs]
    found: dict[str, dict[str, float]] = {name: {} for name in own}
    for (name, other), fit in zip(pairs, solve(tasks, measured, instrument, rounds=ROUNDS), strict=True):
        found[name][other] = fit.deviance - best.deviance
    return found


def alike(pigment: str) -> list[str]:
    """Return members of a pigment's groups that show the same elements."""
    own = library()[pigment]
    shown = shown_elements(pigment)

    def belongs(other: Pigment) -> bool:
        return bool(own.groups) and other.groups == own.groups and shown_elements(other.name) == shown

    return [other.name for other in library() if other.name != pigment and belongs(other)][:MOST_ALIKE]


def _replaced(best: StratigraphyFit, pigment: str, other: str) -> Task:
    films: list[Film] = []
    for film in refitted(best).films:
        if film.paint is None or pigment not in film.painted:
            films.append(film)
            continue
        pigments = {other if name == pigment else name: share for name, share in film.paint.pigments.items()}
        films.append(paint_film(replace(film.paint, pigments=pigments), film.layer.thickness_um))
    candidate = Candidate(best.candidate.name, tuple(films))
    return Task(candidate, candidate.start, best.levels)
