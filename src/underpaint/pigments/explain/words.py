"""An explanation in plain words: what speaks for and against, and what nobody can know."""

from collections.abc import Sequence

from underpaint.physics.materials import library
from underpaint.pigments.explain.candidate import Candidate, label_of
from underpaint.pigments.explain.evidence import ORDER_CLAIM, Evidence, Line
from underpaint.pigments.explain.explanation import Explanation
from underpaint.pigments.explain.intervals import Interval
from underpaint.pigments.limits import CLAIM, told_apart_text

MOST_LINES = 3
NOT_DETERMINED = "not determined"


def in_words(found: Explanation) -> list[str]:
    """Return sentences: the fit, every pigment, the order of the layers, and what is left over."""
    return [
        *_network(found),
        _goodness(found),
        *(sentence for own in found.evidence for sentence in _pigment(own, found)),
        _order(found),
        *_leftovers(found),
    ]


def interval_text(own: Interval) -> str:
    """Return an interval for people: "13.4 um (12.5 to 14.5)", "at least 42 um", "not determined"."""
    scale, unit = (100.0, " %") if own.pigment else (1.0, " um")
    value, low, high = (None if each is None else f"{scale * each:.3g}" for each in (own.value, own.low, own.high))
    if low is None and high is None:
        return NOT_DETERMINED
    if low is None:
        return f"at most {high}{unit}"
    if high is None:
        return f"at least {low}{unit}"
    return f"{value}{unit} ({low} to {high})"


def layer_name(candidate: Candidate, index: int) -> str:
    """Return what a layer is, for people."""
    film = candidate.films[index]
    return label_of(film.painted) if film.painted else film.layer.name


def _network(found: Explanation) -> list[str]:
    if found.suspects is None:
        return []
    own = found.suspects
    groups = [f"{library().group(name).label} {value:.2f}" for name, value in own.probability.items() if value >= 0.1]
    return [
        f"The network's probabilities: {', '.join(groups)}. {len(found.fits)} stratigraphies were fitted; "
        "other pigments of the same elements, and mixtures of them, may fit as well.",
        *own.notes,
    ]


def _goodness(found: Explanation) -> str:
    own, allowed = found.goodness, 100 * found.measured.model_error
    said = (
        f"deviance {own.deviance:,.0f} in {found.best.n_channel:,} channels, a model error of {allowed:g} % a channel "
        f"allowed for ({own.poisson_deviance:,.0f} by counting statistics alone); spectra drawn from this "
        f"model have {own.usual:,.0f} ± {own.spread:,.0f}"
    )
    if own.fits:
        return f"The best stratigraphy, {found.best.candidate.name}, could have made the spectrum: {said}."
    residuals = found.measured.residuals(found.best.expected)
    worst = abs(residuals).argmax()
    return (
        f"The best stratigraphy, {found.best.candidate.name}, does not explain the spectrum within its errors: {said}. "
        f"It is farthest off at {found.measured.energy_kev[worst]:.2f} keV ({residuals[worst]:+.0f} sigma). "
        f"Intervals and claims are widened to match (deviances over {own.dispersion:.1f}); check the instrument's "
        "description first."
    )


def _pigment(own: Evidence, found: Explanation) -> list[str]:
    label = library()[own.pigment].label
    if not own.present:
        return [_absent(own, label)]
    where = " and ".join(str(layer + 1) for layer in own.layers)
    sentences = [f"{label}, in layer {where}. For it: {_for(own, found)}. Against it: {_against(own)}."]
    if own.as_well:
        others = ", ".join(library()[name].label for name in own.as_well)
        sentences.append(
            f"{others} in place of {label} would fit as well; the spectrum does not choose between them. "
            + told_apart_text(own.pigment, own.as_well[0])
        )
    if apart := [f"{library()[name].label} (+{more:,.0f})" for name, more in own.alike.items() if more >= CLAIM]:
        sentences.append(f"In place of {label} would fit worse: {', '.join(apart)}.")
    return sentences


def _absent(own: Evidence, label: str) -> str:
    if own.difference is None:
        return f"{label}: not compared."
    missing = [_line(line) for line in own.lines if line.missing]
    against = f" It should show {'; '.join(missing)}." if missing else ""
    if own.difference < CLAIM:
        return (
            f"{label}, not needed: the best stratigraphy with it differs by a deviance of {own.difference:+,.0f}, so "
            f"it can be neither claimed nor excluded.{against}"
        )
    return f"{label}, not in the best stratigraphy: with it the deviance is larger by {own.difference:,.0f}.{against}"


def _for(own: Evidence, found: Explanation) -> str:
    lines = [
        f"{_family(line)} {line.measured:,.0f} counts ({line.sigmas:.0f} sigma)" for line in own.lines if line.there
    ]
    said = lines[:MOST_LINES] or ["no line of it stands out"]
    if own.difference is None:
        only = len(found.best.candidate.pigments) == 1
        said.append("there is nothing else to fit" if only else "no candidate without it was fitted")
    elif own.needed:
        said.append(f"without it the deviance is larger by {own.difference:,.0f}")
    else:
        said.append(
            f"without it the deviance changes by {own.difference:+,.0f} only ({CLAIM:g} would be a claim): not proven"
        )
    return "; ".join(said)


def _against(own: Evidence) -> str:
    missing = [_line(line) for line in own.lines if line.missing]
    return f"it should show {'; '.join(missing)}" if missing else "no line that it should show is missing"


def _line(line: Line) -> str:
    return (
        f"{_family(line)} at {line.expected:,.0f} counts, and there are {line.measured:,.0f} ± {line.uncertainty:,.0f}"
    )


def _order(found: Explanation) -> str:
    own, best = found.order, found.best
    painted = [layer_name(best.candidate, index) for index, film in enumerate(best.candidate.films) if film.painted]
    rivals = {
        "the layers the other way round": own.swapped,
        "one layer of all": own.mixed,
        "another way to share them": own.other,
    }
    said = "; ".join(f"{name}: {value:+,.0f}" for name, value in rivals.items() if value is not None)
    if not said:
        return "The order of the layers: the candidates offer no other to compare."
    laid = f"{' over '.join(painted)}" if own.layered else "one layer"
    if own.determined:
        return (
            f"The order of the layers is determined: {laid}. Deviances of the others: {said} ({ORDER_CLAIM:g} is a "
            "claim). Three layers, and a pigment in two of them, were not tried."
        )
    if not own.explained:
        return (
            f"The order of the layers is not determined: {laid} is the best of the candidates, but none of them "
            f"explains the spectrum ({said})."
        )
    return (
        f"The order of the layers is not determined: {laid} fits best, but not by a deviance of {ORDER_CLAIM:g} over "
        f"all others ({said})."
    )


def _leftovers(found: Explanation) -> Sequence[str]:
    return [
        f"Unexplained: {_family(line)} {line.measured:,.0f} counts ({line.sigmas:.0f} sigma), and nothing in the best "
        f"stratigraphy carries {line.family.split('_')[0]}."
        for line in found.unexplained
    ]


def _family(line: Line) -> str:
    return line.family.replace("_", " ")
