"""What is concluded about a scan: labelled arrays, which are read from the file when they are computed with.

Pigments and groups by place, thickness and shares, elements, what would not be seen, what nothing explains.
"""

import html
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias, cast, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from underpaint.data.paint_areas import PaintArea
from underpaint.errors import ScanError

if TYPE_CHECKING:
    import xarray as xr

# --- places: files and model cards write them as a suffix, ``vermilion.surface`` ------------------------

Place: TypeAlias = Literal["anywhere", "surface", "below"]
"""In any layer; in the uppermost layer of paint; in any layer under that one, the ground among them."""
PLACES: tuple[Place, ...] = get_args(Place)
PLACE_WORDS: dict[Place, str] = {"anywhere": "", "surface": ", at the surface", "below": ", below the surface"}
"""What a label gets at each place."""
PLACED_PROBABILITY = 0.75
"""From it a place, or an order of layers, is stated. At one half networks place paint below where there is none, and
give orders that no spectrum can tell."""


def at_place(name: str, place: Place) -> str:
    """Return the name that files and cards give a pigment or group at a place; anywhere it is the plain name."""
    return name if place == "anywhere" else f"{name}.{place}"


def split_place(name: str) -> tuple[str, Place]:
    """Return the pigment or group that a name of a file or card speaks of, and the place.

    Raises
    ------
    ValueError
        The name ends in a place that is none of :data:`PLACES`.
    """
    material, _, place = name.partition(".")
    for known in PLACES:
        if place == known or (not place and known == "anywhere"):
            return material, known
    raise ValueError(f"{name!r} ends in no place; there are {', '.join(PLACES)}")


# --- quantities beside presence: their names, and the scales on which their errors are even --------------

SURFACE_UM = "thickness_um.surface"
"""Thickness of the uppermost layer of paint, um."""
MASS_FRACTION, AREAL_MASS = "mass_fraction", "areal_mass"
"""Of an element, %, and ug/cm2: ``mass_fraction.Fe``."""
AMOUNT = "amount"
"""Mass fraction of a group's element in the dry paint, %: ``amount.mercury_red``, ``amount.mercury_red.below``."""
_SHARE = "share."
_LEAST_SHARE = 0.002
_LEAST_UM = 0.1
LEVEL = 0.9
"""Probability with which an interval is to hold the truth, unless another is asked for."""
WIDEST_FACTOR = 10.0
"""Upper over lower end of a thickness' interval beyond which it counts as not determined."""
WIDEST_SHARE = 0.5
"""Width of a share's interval beyond which it counts as not determined."""


def share_of(material: str) -> str:
    """Return the name of a material's share of the mass of the dry pigments at the surface."""
    return f"{_SHARE}{material}"


def material_of(quantity: str) -> str | None:
    """Return the material whose share a quantity is; None for all others."""
    return quantity.removeprefix(_SHARE) if quantity.startswith(_SHARE) else None


def element_of(quantity: str) -> tuple[str, str] | None:
    """Return the kind (:data:`MASS_FRACTION`, :data:`AREAL_MASS`, :data:`AMOUNT`) and what it is of; else None."""
    kind, _, of = quantity.partition(".")
    return (kind, of) if kind in {MASS_FRACTION, AREAL_MASS, AMOUNT} else None


def unit_of(quantity: str) -> str:
    """Return the unit of a quantity."""
    of_element = element_of(quantity)
    if of_element is not None:
        return DIMENSIONS[of_element[0]][1]
    return "um" if material_of(quantity) is None else "1"


def on_scale(quantity: str, value: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return values without bounds: ln(um) of a thickness, ln(s / (1 - s)) of a share; NaN stays."""
    if material_of(quantity) is None:
        return np.asarray(np.log(np.maximum(value, _LEAST_UM)), dtype=np.float32)
    share = np.clip(value, _LEAST_SHARE, 1.0 - _LEAST_SHARE)
    return np.asarray(np.log(share / (1.0 - share)), dtype=np.float32)


def from_scale(quantity: str, value: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return what :func:`on_scale` was given."""
    if material_of(quantity) is None:
        return np.asarray(np.exp(value), dtype=np.float32)
    return np.asarray(1.0 / (1.0 + np.exp(-value)), dtype=np.float32)


def slope(quantity: str, value: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return how fast a value grows on the scale of :func:`on_scale`."""
    if material_of(quantity) is None:
        return np.asarray(np.maximum(value, _LEAST_UM), dtype=np.float32)
    share = np.clip(value, _LEAST_SHARE, 1.0 - _LEAST_SHARE)
    return np.asarray(share * (1.0 - share), dtype=np.float32)


AMOUNT_EDGES = (1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3)
"""Mass shares of an element in dry paint that bound the classes of an amount."""


def amount_class(share: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Return how many of :data:`AMOUNT_EDGES` a mass share reaches, 0 to 10."""
    return np.searchsorted(AMOUNT_EDGES, share, side="right").astype(np.uint8)


class Estimate(NamedTuple):
    """Maps of a quantity: its median, and the ends of an interval; um of a thickness, 0 to 1 of a share."""

    value: NDArray[np.float32]
    low: NDArray[np.float32]
    high: NDArray[np.float32]


def estimate(quantity: str, value: NDArray[np.float32], sigma: NDArray[np.float32], level: float = LEVEL) -> Estimate:
    """Return the median and the interval that holds the truth with a probability of ``level``.

    Parameters
    ----------
    quantity : str
        :data:`SURFACE_UM`, or :func:`share_of` a material.
    value : (n_row, n_column) array
        Median of what the network thinks possible: um of the thickness, 0 to 1 of a share; NaN for no answer.
    sigma : (n_row, n_column) array
        One standard deviation, on the scale of :func:`on_scale`: of the thickness' logarithm, of a share's log-odds.
    level : float

    Raises
    ------
    ValueError
        ``level`` does not lie between 0 and 1.
    """
    if not 0 < level < 1:
        raise ValueError(f"Cannot give an interval of level {level:g}: it lies between 0 and 1; 0.9 is usual.")
    middle, half = on_scale(quantity, value), ndtri(0.5 + 0.5 * level) * sigma
    return Estimate(value, from_scale(quantity, middle - half), from_scale(quantity, middle + half))


def is_determined(quantity: str, interval: Estimate) -> NDArray[np.bool_]:
    """Return (n_row, n_column) where the 90 % interval is narrow enough to say something.

    A thickness' ends lie within :data:`WIDEST_FACTOR` of each other, a share's within :data:`WIDEST_SHARE`, those of an
    element's mass fraction within both, of its areal mass within the factor.
    """
    _, low, high = interval
    near = (low > 0) & (high <= WIDEST_FACTOR * low)
    if material_of(quantity) is not None:
        return np.asarray(high - low <= WIDEST_SHARE)
    if unit_of(quantity) == "%":
        near &= high - low <= 100.0 * WIDEST_SHARE
    return np.asarray(near)


class QuantitySummary(NamedTuple):
    """A quantity over all pixels that have an answer.

    Parameters
    ----------
    determined : float
        Share of them in which it is determined, by :func:`is_determined`.
    value, low, high : float
        Medians of the value and the ends of the 90 % interval over these; of an element over all pixels in which the
        interval lies above zero. NaN where there are none.
    limited : float
        Share in which the interval begins at zero: there is an upper limit alone.
    limit : float
        Median of this upper limit; NaN where there is none.
    """

    determined: float
    value: float
    low: float
    high: float
    limited: float
    limit: float


def summarise_quantity(quantity: str, interval: Estimate, where: NDArray[np.bool_] | None = None) -> QuantitySummary:
    """Return medians and shares of maps of a quantity; ``where`` leaves pixels out of all of them."""
    known = np.isfinite(interval.value) if where is None else where & np.isfinite(interval.value)
    determined, limited = known & is_determined(quantity, interval), known & ~(interval.low > 0)
    value, low, high = (
        _median(one[determined if element_of(quantity) is None else known & ~limited]) for one in interval
    )
    n_known = max(int(known.sum()), 1)
    return QuantitySummary(
        int(determined.sum()) / n_known, value, low, high, int(limited.sum()) / n_known, _median(interval.high[limited])
    )


def _median(values: NDArray[np.float32]) -> float:
    return float(np.median(values)) if values.size else float("nan")


# --- results --------------------------------------------------------------------------------------------

Key = tuple[str, ...]
PRESENT_PROBABILITY = 0.5
"""Above it a pigment or group counts as there."""
BELOW_PROBABILITY = 0.95
"""Above it a group is stated to lie below the surface; between it and its complement that is not determined."""
UNLIKE_SIGMA = 5.0
"""Standard deviations above which a peak that nothing known explains makes a spectrum unlike all that is known."""
LEAST_UNLIKE_PIXELS, LEAST_UNLIKE_SHARE = 3, 0.001
NOT_DETECTED, PRESENT, CANNOT_EXCLUDE, PIGMENT, TRACE, NO_ANSWER = 0, 1, 2, 4, 5, 255
UNDECIDED = 3
"""In files of earlier versions, for what is now :data:`CANNOT_EXCLUDE`."""
STATES = {
    PIGMENT: "pigment",
    PRESENT: "present, pigment or trace",
    TRACE: "trace",
    NOT_DETECTED: "not detected",
    CANNOT_EXCLUDE: "cannot be excluded",
    NO_ANSWER: "no answer",
}
"""What the numbers in ``Results.state`` mean: the answer about a group at a pixel."""
STATED_PROBABILITY = 0.95
"""From it an amount is said to reach a threshold, below its complement not to."""

LEAST_LIMIT_PERCENT = 30.0
"""An upper limit from which on it says nothing."""


def current_states(states: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return states of any version in today's numbers."""
    return np.where(states == UNDECIDED, np.uint8(CANNOT_EXCLUDE), states)


def answer_words(state: int, most_percent: float = float("nan")) -> str:
    """Return the answer about a group in words: the one place where they are made.

    Parameters
    ----------
    state : int
        A key of :data:`STATES`.
    most_percent : float
        Mass fraction of the group's element, %, below which it lies with 95 %; NaN where that is not known.

    Examples
    --------
    >>> answer_words(NOT_DETECTED, 0.031)
    'not detected (less than 0.03 %)'
    """
    words = STATES[state]
    known = state in {NOT_DETECTED, CANNOT_EXCLUDE} and most_percent < LEAST_LIMIT_PERCENT
    return f"{words} (less than {most_percent:.1g} %)" if known else words


DIMENSIONS: dict[str, tuple[tuple[str, ...], str]] = {
    "probability": (("material", "place"), "1"),
    "log_odds": (("material", "place"), "1"),
    "quantity": (("quantity",), "um or 1"),
    "quantity_sigma": (("quantity",), "1"),
    "area": (("line",), "counts"),
    "area_sigma": (("line",), "counts"),
    **{f"{MASS_FRACTION}{end}": (("element",), "%") for end in ("", "_low", "_high")},
    **{f"{AREAL_MASS}{end}": (("element",), "ug/cm2") for end in ("", "_low", "_high")},
    **{f"{AMOUNT}{end}": (("material", "place"), "%") for end in ("", "_low", "_high")},
    "amount_reached": (("material", "place"), "1"),
    "state": (("group",), "1"),
    "pool": ((), "pixels"),
    "unlikeness": ((), "1"),
    "peak_kev": ((), "keV"),
    "scatter": (("peak",), "counts"),
    "scatter_sigma": (("peak",), "counts"),
    "diffraction": (("detector",), "1"),
    "diffraction_kev": (("detector",), "keV"),
    "surface_member": (("member",), "1"),
    "surface_presence": (("member",), "1"),
    "surface_share": (("member",), "1"),
    "hidden": (("group",), "1"),
    "reflectance": (("wavelength",), "1"),
    "paint": ((), "1"),
    "depth": (("line", "place"), "counts"),
    "depth_sigma": (("line", "place"), "counts"),
}
"""What can be concluded: of each quantity the dimensions beside row and column, and the unit."""
_COMMANDS: dict[str, tuple[str, ...]] = {
    "probability": ("pigments", "underpaint identify"),
    "quantity": ("quantities", "underpaint identify", "with a model of layers"),
    "area": ("elements", "underpaint elements"),
    MASS_FRACTION: ("mass fractions", "underpaint elements --quantities mass_percent"),
    AREAL_MASS: ("areal masses", "underpaint elements --quantities ug_cm2"),
    AMOUNT: ("amounts", "underpaint identify", "with a model that answers them"),
    "amount_reached": ("amounts", "underpaint identify", "with a model that answers them"),
    "state": ("states", "underpaint identify"),
    "pool": ("pools", "underpaint identify --pool auto", "of a scan with few counts"),
    "unlikeness": ("unlikeness", "underpaint identify"),
    "scatter": ("scatter", "underpaint elements", "of a scan whose anode or beam is known"),
    "diffraction": ("diffraction", "underpaint elements", "of a scan with two detectors or more"),
    "surface_member": ("answers from reflectance", "underpaint reflect CUBE --xrf RESULT"),
    "surface_presence": ("answers from reflectance", "underpaint reflect CUBE --xrf RESULT"),
    "surface_share": ("answers from reflectance", "underpaint reflect CUBE --xrf RESULT"),
    "hidden": ("hidden groups", "underpaint reflect CUBE --xrf RESULT", "with groups in RESULT"),
    "reflectance": ("reflectance", "underpaint reflect CUBE --xrf RESULT"),
    "paint": ("paints", "underpaint paints"),
    "depth": ("counts by depth", "underpaint paints --explain all"),
}
NONE_OF_LIBRARY = "none_of_these"
"""The surface's colour is that of no member of the reflectance library."""
_LEAST_DEVIATION = 1e-6
_MOST_LISTED = 8
_NAMED = ("group", "pigment", "member", "line", "peak", "detector", "wavelength", "place")
_ARRAYS = (
    "probability", "pigment_probability", "area", "area_sigma", MASS_FRACTION, AREAL_MASS, "thickness", "share",
    AMOUNT, "amount_reached", "state", "pool", "unlikeness", "scatter", "diffraction",
    "surface_member", "surface_presence", "surface_share", "hidden",
    "paint", "depth", "depth_sigma",
)  # fmt: skip


class Material(NamedTuple):
    """A pigment group, or a pigment.

    Parameters
    ----------
    kind : {"group", "member"}
    label : str
        For people: "vermilion or calomel (mercury)".
    groups : tuple of str
        Groups it counts as (a group counts as itself; chrome yellow as lead and chromium).
    elements : tuple of str
        Line families that show it, strongest first (``Hg_L``).
    """

    kind: str
    label: str
    groups: tuple[str, ...] = ()
    elements: tuple[str, ...] = ()


class UnexplainedLine(NamedTuple):
    """A line family that is there where nothing that was found carries it.

    Parameters
    ----------
    family : str
        ``Ti_K``.
    n_pixel : int
        Pixels above five standard deviations where no pigment that was found there carries the element.
    share : float
        These pixels over all that have an answer.
    median_counts : float
        Median net counts of these pixels; of the whole scan where it stands out in the sum alone.
    sum_sigma : float
        Standard deviations of the sum over all pixels.
    carried : {"not found there", "not in the palette"}
        Whether the pigments that were asked for could carry it at all.
    carriers : tuple of str
        Labels of pigments that would: of the palette, or of the library where the palette has none.
    """

    family: str
    n_pixel: int
    share: float
    median_counts: float
    sum_sigma: float
    carried: Literal["not found there", "not in the palette"]
    carriers: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Stack:
    """Maps of one quantity, and what each is of.

    Parameters
    ----------
    keys : tuple of tuple of str
        Of each map its coordinates along :data:`DIMENSIONS`: ``("vermilion", "surface")``, ``("Fe_K",)``.
    values : (n_row, n_column, n_key) array
        Or what reads one map of a file at a time.
    """

    keys: tuple[Key, ...]
    values: Any

    def __contains__(self, key: Key) -> bool:
        """Whether there is a map of it."""
        return key in self._columns

    def __getitem__(self, key: Key) -> NDArray[Any]:
        """Return the (n_row, n_column) map of a key."""
        return np.asarray(self.values[:, :, self._columns[key]])

    @property
    def in_memory(self) -> bool:
        """Whether the numbers are in memory, not in a file."""
        return isinstance(self.values, np.ndarray)

    @cached_property
    def _columns(self) -> dict[Key, int]:
        return {key: index for index, key in enumerate(self.keys)}


@dataclass(frozen=True, repr=False, eq=False)
class Results:
    """What was concluded about a scan.

    Each property named in :meth:`to_dataset` is an :class:`xarray.DataArray` with dimensions among ``group``,
    ``pigment``, ``place``, ``line``, ``element``, ``quantile``, ``row`` and ``column``; units, the long name and the
    origin are in its ``attrs``. What lies in a file is read when it is computed with. A property raises
    :class:`~underpaint.errors.ScanError` where nothing of the kind was concluded.

    ``results["vermilion"]``, ``results["vermilion", "surface"]`` and ``results["Fe_K"]`` are plain (row, column)
    arrays: the probability of a pigment or group, and the net counts of a line family. ``a | b`` holds what both hold.

    Parameters
    ----------
    stacks : mapping of str to Stack
        The numbers, by the names of :data:`DIMENSIONS`.
    materials : mapping of str to Material
        Groups and pigments, in the order of the model.
    step_mm : (float, float) or None
        Distance of rows and of columns, mm.
    process_notes, process_settings : mapping of str to tuple of str, and to dict
        What the user has to know, and the configuration (model card, versions, seeds; JSON-serialisable), of
        "pigments", "elements", "quantities", "detectability" and "open_set".
    unexplained : tuple of UnexplainedLine, or None
        Lines that are there although nothing that was concluded carries them, the most widespread first; None: they
        were not looked for.
    ordinary : tuple of (str, str)
        Families that no pigment that was found carries, and their ordinary source: air, tube, ground, impurity.
    paints : tuple of PaintArea
        The paints of the painting, in the order of their numbers in :attr:`paint`.
    summary : mapping
        Facts of the scan; and under ``settings``, ``versions`` and ``written`` how and when the results were made.

    Examples
    --------
    >>> import underpaint as up
    >>> counts = np.ones((1, 2, 1), np.float32)
    >>> results = up.Results.of_lines(("Fe_K",), counts, counts)
    >>> float(results.area.sel(line="Fe_K").sum())
    2.0

    Of results on disk ``up.read_results("painting_underpaint").probability.sel(group="mercury_red", place="surface")``,
    and ``results.to_dataset().to_netcdf("painting.nc")``.
    """

    stacks: Mapping[str, Stack] = field(default_factory=dict)
    materials: Mapping[str, Material] = field(default_factory=dict)
    step_mm: tuple[float, float] | None = None
    process_notes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    process_settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    unexplained: tuple[UnexplainedLine, ...] | None = None
    ordinary: tuple[tuple[str, str], ...] = ()
    paints: tuple[PaintArea, ...] = ()
    summary: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of_pigments(
        cls,
        names: Sequence[str],
        probability: Any,
        *,
        kinds: Sequence[str],
        groups: Sequence[tuple[str, ...]],
        labels: Sequence[str],
        elements: Sequence[tuple[str, ...]],
        log_odds: Any = None,
        quantities: tuple[Sequence[str], Any, Any] | None = None,
        **facts: Any,
    ) -> "Results":
        """Return probabilities under the names of a file or model card, which carry the place as a suffix.

        Parameters
        ----------
        names : sequence of str
            Of the maps: ``vermilion``, ``vermilion.surface``; each is there without a place, too.
        probability : (n_row, n_column, n_name) array
            NaN means "no answer".
        kinds, groups, labels, elements : sequences
            Of each name, as in :class:`Material`.
        log_odds : (n_row, n_column, n_name) array or None
            ``ln(p / (1 - p))``; tells strong answers apart where the probability rounds to 1.
        quantities : (names, value, sigma) or None
            Thickness and shares of the layer at the surface: names as of :func:`share_of`, values and standard
            deviations as of :func:`estimate`, (n_row, n_column, n_quantity).
        **facts
            ``step_mm``, ``notes`` and ``settings`` of the process.
        """
        keys = tuple(split_place(name) for name in names)
        rows = zip(keys, kinds, labels, groups, elements, strict=True)
        materials = {
            name: Material(kind, label, tuple(split_place(group)[0] for group in counted), families)
            for (name, place), kind, label, counted, families in rows
            if place == "anywhere"
        }
        stacks = {"probability": Stack(keys, probability)}
        if log_odds is not None:
            stacks["log_odds"] = Stack(keys, log_odds)
        if quantities is not None:
            of = _keys(quantities[0])
            stacks |= {"quantity": Stack(of, quantities[1]), "quantity_sigma": Stack(of, quantities[2])}
        return cls._of("pigments", stacks, materials, **facts)

    @classmethod
    def of_lines(cls, names: Sequence[str], area: Any, sigma: Any, **facts: Any) -> "Results":
        """Return net counts of line families and one standard deviation of them, (n_row, n_column, n_name)."""
        keys = _keys(names)
        return cls._of("elements", {"area": Stack(keys, area), "area_sigma": Stack(keys, sigma)}, **facts)

    @classmethod
    def of_quantities(
        cls, kind: str, elements: Sequence[str], value: Any, low: Any, high: Any, **facts: Any
    ) -> "Results":
        """Return :data:`MASS_FRACTION` or :data:`AREAL_MASS` of elements, (n_row, n_column, n_element), and its ends.

        The ends are those of the interval that holds the truth with a probability of :data:`LEVEL`.
        """
        keys = _keys(elements)
        parts = {kind: value, f"{kind}_low": low, f"{kind}_high": high}
        return cls._of("quantities", {name: Stack(keys, values) for name, values in parts.items()}, **facts)

    @classmethod
    def of_amounts(cls, names: Sequence[str], value: Any, low: Any, high: Any, reached: Any, **facts: Any) -> "Results":
        """Return the mass fraction of groups' elements in the dry paint, %, (n_row, n_column, n_name).

        Parameters
        ----------
        names : sequence of str
            Of groups, with the place as a suffix.
        value, low, high : arrays
            Median, and the ends of the interval that holds the truth with a probability of :data:`LEVEL`.
        reached : array
            Probability that the group's threshold is reached, from which on it counts as a pigment.
        """
        keys = tuple(split_place(name) for name in names)
        parts = {AMOUNT: value, f"{AMOUNT}_low": low, f"{AMOUNT}_high": high, "amount_reached": reached}
        return cls._of("amounts", {name: Stack(keys, values) for name, values in parts.items()}, **facts)

    @classmethod
    def of_states(cls, names: Sequence[str], labels: Sequence[str], state: Any, **facts: Any) -> "Results":
        """Return the answer about each group: (n_row, n_column, n_name) uint8 keys of :data:`STATES`."""
        materials = {name: Material("group", label, (name,)) for name, label in zip(names, labels, strict=True)}
        return cls._of("detectability", {"state": Stack(_keys(names), state)}, materials, **facts)

    @classmethod
    def of_pools(cls, n_pixel: Any, **facts: Any) -> "Results":
        """Return how many pixels were summed for each answer, (n_row, n_column, 1)."""
        return cls._of("pigments", {"pool": Stack(((),), n_pixel)}, **facts)

    @classmethod
    def of_unlikeness(cls, score: Any, peak_kev: Any, **facts: Any) -> "Results":
        """Return the strongest peak that nothing known explains: sigmas and energy, (n_row, n_column, 1)."""
        return cls._of("open_set", {"unlikeness": Stack(((),), score), "peak_kev": Stack(((),), peak_kev)}, **facts)

    @classmethod
    def of_scatter(cls, names: Sequence[str], counts: Any, sigma: Any, **facts: Any) -> "Results":
        """Return counts of scatter ("Compton", "Rayleigh") and one standard deviation, (n_row, n_column, n_name)."""
        keys = _keys(names)
        return cls._of("scatter", {"scatter": Stack(keys, counts), "scatter_sigma": Stack(keys, sigma)}, **facts)

    @classmethod
    def of_diffraction(cls, names: Sequence[str], sigmas: Any, peak_kev: Any, **facts: Any) -> "Results":
        """Return the strongest peak that one detector has alone: sigmas and energy, (n_row, n_column, n_name)."""
        keys = _keys(names)
        stacks = {"diffraction": Stack(keys, sigmas), "diffraction_kev": Stack(keys, peak_kev)}
        return cls._of("diffraction", stacks, **facts)

    @classmethod
    def of_reflectance(cls, members: Sequence[str], parts: Mapping[str, Any], **facts: Any) -> "Results":
        """Return what reflectance says of the surface.

        Parameters
        ----------
        members : sequence of str
            Pigments that are likely somewhere; :data:`NONE_OF_LIBRARY` is the last one.
        parts : mapping
            ``surface_member``, ``surface_presence`` and ``surface_share``: (n_row, n_column, n_member) arrays, the last
            two without the last member; ``hidden``: names of groups and their (n_row, n_column, n_group) array;
            ``reflectance``: wavelengths, nm, and the (n_row, n_column, n_band) array.
        **facts
            ``step_mm``, ``notes`` and ``settings`` of the process; ``settings["labels"]`` names the members for people.
        """
        stacks = {"surface_member": Stack(_keys(members), parts["surface_member"])}
        for name in ("surface_presence", "surface_share"):
            stacks[name] = Stack(_keys(members[:-1]), parts[name])
        if "hidden" in parts:
            stacks["hidden"] = Stack(_keys(parts["hidden"][0]), parts["hidden"][1])
        if "reflectance" in parts:
            wavelengths = [f"{wavelength:g}" for wavelength in parts["reflectance"][0]]
            stacks["reflectance"] = Stack(_keys(wavelengths), parts["reflectance"][1])
        return cls._of("reflectance", stacks, **facts)

    @classmethod
    def of_paints(cls, paint: Any, areas: Sequence[PaintArea], **facts: Any) -> "Results":
        """Return the paints of a painting.

        Parameters
        ----------
        paint : (n_row, n_column) uint8 array
            Number of each pixel's paint; 0: mixed or of none, 255: no answer.
        areas : sequence of PaintArea
            In the order of their numbers.
        **facts
            ``step_mm``, ``notes`` and ``settings`` of the process.
        """
        values = np.asarray(paint, dtype=np.uint8)[:, :, None]
        return replace(cls._of("paints", {"paint": Stack(((),), values)}, **facts), paints=tuple(areas))

    @classmethod
    def of_depths(cls, keys: Sequence[tuple[str, Place]], counts: Any, sigma: Any, **facts: Any) -> "Results":
        """Return net counts of lines "surface" and "below", and one standard deviation, (n_row, n_column, n_key)."""
        stacks = {"depth": Stack(tuple(keys), counts), "depth_sigma": Stack(tuple(keys), sigma)}
        return cls._of("depth", stacks, **facts)

    @classmethod
    def _of(
        cls,
        process: str,
        stacks: Mapping[str, Stack],
        materials: Mapping[str, Material] | None = None,
        *,
        step_mm: tuple[float, float] | None = None,
        notes: tuple[str, ...] = (),
        settings: Mapping[str, Any] | None = None,
    ) -> "Results":
        return cls(stacks, materials or {}, step_mm, {process: notes}, {process: settings or {}})

    def __or__(self, other: "Results") -> "Results":
        """Return what both hold; where both hold the same, numbers of the other and facts of this one.

        Raises
        ------
        ScanError
            Their maps are not of the same pixels.
        """
        if self.stacks and other.stacks and self.shape != other.shape:
            raise ScanError(
                f"Cannot put results of {self.shape} pixels beside those of {other.shape}. Give both of the same scan."
            )
        return Results(
            {**self.stacks, **other.stacks},
            {**other.materials, **self.materials},
            self.step_mm or other.step_mm,
            {**self.process_notes, **other.process_notes},
            {**self.process_settings, **other.process_settings},
            other.unexplained if self.unexplained is None else self.unexplained,
            self.ordinary or other.ordinary,
            other.paints if "paint" in other.stacks else self.paints,
            {**other.summary, **self.summary},
        )

    # --- labelled arrays ------------------------------------------------------------------------------------

    @property
    def probability(self) -> "xr.DataArray":
        """(group, place, row, column) probability that a pigment of the group is there; NaN: no answer."""
        keys = [[(name, place) for place in self.places] for name in self.groups]
        coordinates = {"place": list(self.places), **self._labelled("group", self.groups)}
        return self._array("probability", keys, coordinates, "probability that the group is there")

    @property
    def pigment_probability(self) -> "xr.DataArray":
        """(pigment, row, column) probability that a pigment is anywhere in the paint; NaN: no answer."""
        keys = [(name, "anywhere") for name in self.pigments]
        coordinates = self._labelled("pigment", self.pigments)
        return self._array("probability", keys, coordinates, "probability that the pigment is there")

    def pigment_at(self, pigment: str, place: Place) -> "xr.DataArray":
        """Return the (row, column) probability that a pigment is at a place; maps of few pigments are kept.

        Raises
        ------
        ScanError
            There are no pigments.
        KeyError
            The model knows no places, or no map was kept because the pigment is nowhere likely there.
        """
        self._stack("probability")
        self[pigment, place]
        return self._array("probability", (pigment, place), {}, f"probability of {pigment}, {place}")

    @property
    def area(self) -> "xr.DataArray":
        """(line, row, column) net counts of each line family; NaN: no answer."""
        return self._simple("area", "line", "net counts of the line family")

    @property
    def area_sigma(self) -> "xr.DataArray":
        """(line, row, column) one standard deviation of :attr:`area`, counts: of counting and of what interferes."""
        return self._simple("area_sigma", "line", "standard deviation of the net counts")

    @property
    def mass_fraction(self) -> "xr.DataArray":
        """(element, quantile, row, column) mass fraction of each element, %: value and 90 % interval."""
        return self._of_elements(MASS_FRACTION)

    @property
    def areal_mass(self) -> "xr.DataArray":
        """(element, quantile, row, column) areal mass of each element, ug/cm2: value and 90 % interval."""
        return self._of_elements(AREAL_MASS)

    def _of_elements(self, kind: str) -> "xr.DataArray":
        elements = [name for (name,) in self._stack(kind).keys]
        names = [f"{kind}.{name}" for name in elements]
        return self._intervals(names, {"element": elements}, self.quantity_label(kind))

    @property
    def thickness(self) -> "xr.DataArray":
        """(quantile, row, column) thickness of the uppermost layer of paint, um: median and 90 % interval.

        Where :attr:`thickness_of_paint`, of the pixel's paint, whose layers were sampled; elsewhere of the pixel.
        """
        self._stack("quantity")
        return self._intervals(SURFACE_UM, {}, self.quantity_label(SURFACE_UM))

    @property
    def share(self) -> "xr.DataArray":
        """(group, quantile, row, column) mass share among the dry pigments at the surface: median and 90 % interval."""
        groups = [name for (quantity,) in self._stack("quantity").keys if (name := material_of(quantity)) is not None]
        if not groups:
            raise ScanError(f"These results hold no shares: the model {self.model_name!r} answers none.")
        return self._intervals(
            [share_of(name) for name in groups], {"group": groups}, "share of the dry pigments at the surface"
        )

    @property
    def state(self) -> "xr.DataArray":
        """(group, row, column) uint8: the answer about each group; ``attrs["meaning"]`` names the numbers."""
        array = self._simple("state", "group", "answer")
        array.attrs["meaning"] = {str(number): text for number, text in STATES.items()}
        return array

    @property
    def amount(self) -> "xr.DataArray":
        """(group, place, quantile, row, column) mass fraction of the group's element in the dry paint, %."""
        names = list(dict.fromkeys(name for name, _ in self._stack(AMOUNT).keys))
        parts = [[f"{AMOUNT}.{at_place(name, place)}" for place in self.places] for name in names]
        coordinates = {"group": names, "place": list(self.places)}
        return self._intervals(parts, coordinates, "mass fraction of the group's element in the dry paint")

    @property
    def amount_reached(self) -> "xr.DataArray":
        """(group, place, row, column) probability that the amount is that of a pigment, not of a trace."""
        names = list(dict.fromkeys(name for name, _ in self._stack("amount_reached").keys))
        keys = [[(name, place) for place in self.places] for name in names]
        coordinates = {"place": list(self.places), **self._labelled("group", names)}
        return self._array("amount_reached", keys, coordinates, "probability that the amount is that of a pigment")

    @property
    def pool(self) -> "xr.DataArray":
        """(row, column) how many pixels were summed for the answer about one; NaN where there is none."""
        return self._array("pool", (), {}, "pixels summed for an answer")

    @property
    def scatter(self) -> "xr.DataArray":
        """(peak, row, column) counts of the source's line, unshifted (Rayleigh) and with Compton shift; no element."""
        return self._simple("scatter", "peak", "counts of the source's scattered line")

    @property
    def diffraction(self) -> "xr.DataArray":
        """(detector, row, column) sigmas of the strongest peak that a detector has alone: diffraction, no element."""
        return self._simple("diffraction", "detector", "strongest peak in one detector alone, in standard deviations")

    @property
    def surface_member(self) -> "xr.DataArray":
        """(member, row, column) probability that a pigment gives the surface its colour; the last is none of these."""
        return self._of_members("surface_member", "probability that the pigment gives the surface its colour")

    @property
    def surface_presence(self) -> "xr.DataArray":
        """(member, row, column) probability that a pigment is in the surface paint, as its main one or beside it."""
        return self._of_members("surface_presence", "probability that the pigment is in the surface paint")

    @property
    def surface_share(self) -> "xr.DataArray":
        """(member, row, column) expected share of a pigment in the coloured part of the surface, by optical effect."""
        return self._of_members("surface_share", "share of the pigment in the coloured part of the surface")

    def _of_members(self, quantity: str, long_name: str) -> "xr.DataArray":
        keys = list(self._stack(quantity).keys)
        names = [name for (name,) in keys]
        coordinates = {"member": names, "label": ("member", [self.member_label(name) for name in names])}
        return self._array(quantity, keys, coordinates, long_name)

    @property
    def hidden(self) -> "xr.DataArray":
        """(group, row, column) probability that XRF's group is there, but in nothing that reflectance sees: below.

        NaN where reflectance says nothing about the group: its library has no spectrum of it, the surface is none of
        its pigments, or is too pale. Above :data:`BELOW_PROBABILITY` it is stated.
        """
        return self._simple("hidden", "group", "probability that the group is below the surface")

    @property
    def reflectance(self) -> "xr.DataArray":
        """(wavelength, row, column) reflectance on the grid of the maps; wavelengths in nm; NaN: outside the cube."""
        array = self._simple("reflectance", "wavelength", "reflectance")
        return array.assign_coords(wavelength=array.wavelength.astype(float))

    @property
    def reflectance_member(self) -> "xr.DataArray":
        """(row, column) name of the pigment that gives the surface its colour; "" where none reaches one half."""
        best, highest = np.full(self.shape, "", dtype=object), np.full(self.shape, PRESENT_PROBABILITY, np.float32)
        for (name,) in self._stack("surface_member").keys:
            values = self.map("surface_member", name)
            better = values > highest
            best[better], highest[better] = name, values[better]
        name = "reflectance_member"
        return self._labelled_array(best.astype(str), (), {}, "1", "pigment that gives the surface its colour", name)

    def member_label(self, name: str) -> str:
        """Return the label for people of a pigment that reflectance names."""
        return str(self.settings_of("reflectance").get("labels", {}).get(name, name.replace("_", " ")))

    @property
    def paint(self) -> "xr.DataArray":
        """(row, column) uint8: number of each pixel's paint in :attr:`paints`; 0: mixed or of none, 255: no answer."""
        return self._array("paint", (), {}, "number of the paint")

    @property
    def depth(self) -> "xr.DataArray":
        """(line, place, row, column) net counts from the uppermost layer of paint and from below; NaN: not known."""
        return self._by_depth("depth", "net counts by depth")

    @property
    def depth_sigma(self) -> "xr.DataArray":
        """(line, place, row, column) one standard deviation of :attr:`depth`, counts."""
        return self._by_depth("depth_sigma", "standard deviation of the net counts by depth")

    def _by_depth(self, quantity: str, long_name: str) -> "xr.DataArray":
        lines, places = (list(dict.fromkeys(names)) for names in zip(*self._stack(quantity).keys, strict=True))
        keys = [[(line, place) for place in places] for line in lines]
        return self._array(quantity, keys, {"line": lines, "place": places}, long_name)

    @property
    def unlikeness(self) -> "xr.DataArray":
        """(row, column) standard deviations of the strongest peak that nothing known explains."""
        return self._array("unlikeness", (), {}, "strongest unexplained peak")

    def to_dataset(self) -> "xr.Dataset":
        """Return all arrays as one :class:`xarray.Dataset`, lazily; ``to_netcdf`` writes it."""
        import xarray as xr

        arrays = {}
        for name in _ARRAYS:
            with suppress(ScanError):
                arrays[name] = getattr(self, name)
        longest: dict[str, Any] = {}
        for array in arrays.values():
            for dimension in {"group", "member"} & set(array.dims):
                longest[dimension] = max(longest.get(dimension, array), array, key=lambda each: each.sizes[dimension])
        for name, array in arrays.items():
            named = longest.keys() & set(array.dims)
            # in the order of the longest: a join by xarray would sort them
            arrays[name] = array.reindex({dimension: longest[dimension][dimension] for dimension in named})
            if "label" in array.coords:
                (dimension,) = array["label"].dims
                is_first = longest.get(str(dimension), array) is array
                arrays[name] = (
                    arrays[name].rename(label=f"{dimension}_label") if is_first else arrays[name].drop_vars("label")
                )
        if "state" in arrays:
            arrays["state"].attrs["meaning"] = "; ".join(f"{number}: {text}" for number, text in STATES.items())
        return xr.Dataset(arrays, attrs=self._origin() | {"notes": "\n".join(self.notes)})

    # --- single maps, as plain arrays -----------------------------------------------------------------------

    def __getitem__(self, key: str | tuple[str, Place]) -> NDArray[np.float32]:
        """Return the (row, column) probability of a pigment or group, or net counts of a line family or of scatter.

        Raises
        ------
        KeyError
            There is no such map: the model knows no places, or results kept none as it is nowhere likely there.
        """
        name, place = (key, "anywhere") if isinstance(key, str) else key
        for quantity, full in (("probability", (name, place)), ("area", (name,)), ("scatter", (name,))):
            if quantity in self.stacks and full in self.stacks[quantity]:
                return self.stacks[quantity][full]
        if name in self.materials and place not in self.places:
            raise KeyError(f"Cannot say where {name} lies: the model {self.model_name!r} knows no places.")
        if name in self.materials:
            raise KeyError(
                f"No map of {name} at place {place!r} was kept: results hold those that exceed "
                f"{PRESENT_PROBABILITY:g} somewhere."
            )
        raise KeyError(f"No map is called {name!r}; there are: {', '.join((*self.materials, *self.lines))}.")

    def holds(self, name: str, place: Place = "anywhere") -> bool:
        """Whether there is a probability of a pigment or group at a place."""
        return self.has_pigments and (name, place) in self.stacks["probability"]

    def knows_amount(self, name: str, place: Place = "anywhere") -> bool:
        """Whether there is an amount of a group's element at a place."""
        return AMOUNT in self.stacks and (name, place) in self.stacks[AMOUNT]

    def map(self, quantity: str, *key: str) -> NDArray[Any]:
        """Return one (row, column) map: ``results.map("area_sigma", "Fe_K")``; quantities as in :data:`DIMENSIONS`.

        Raises
        ------
        ScanError
            Nothing of the kind was concluded.
        KeyError
            There is no such map of it.
        """
        return self._stack(quantity)[key]

    def present_somewhere(self, name: str, place: Place = "anywhere") -> bool:
        """Whether any pixel's probability exceeds one half."""
        return bool((self[name, place] > PRESENT_PROBABILITY).any())

    def estimate(self, quantity: str, level: float = LEVEL) -> Estimate:
        """Return maps of median and interval: of :data:`SURFACE_UM`, :func:`share_of` a group, or ``mass_fraction.Fe``.

        Raises
        ------
        ScanError
            There are no such quantities.
        ValueError
            An element's quantity is wanted with another level than :data:`LEVEL`.
        """
        of_element = element_of(quantity)
        if of_element is not None:
            if level != LEVEL:
                raise ValueError(f"Cannot give an interval of level {level:g} of {quantity}: only {LEVEL:g} is known.")
            kind, name = of_element
            key = split_place(name) if kind == AMOUNT else (name,)
            if key not in self._stack(kind):
                known = ", ".join(".".join(each) for each in self._stack(kind).keys)
                raise ScanError(f"These results hold no {quantity}: there are quantities of {known}.")
            return Estimate(*(self.map(f"{kind}{end}", *key) for end in ("", "_low", "_high")))
        value = estimate(quantity, self.map("quantity", quantity), self.map("quantity_sigma", quantity), level)
        return self._with_paints(value) if quantity == SURFACE_UM and level == LEVEL else value

    @property
    def thickness_of_paint(self) -> NDArray[np.bool_]:
        """(row, column) where a thickness is that of the pixel's paint: its own spectrum does not determine it."""
        pixels = estimate(SURFACE_UM, self.map("quantity", SURFACE_UM), self.map("quantity_sigma", SURFACE_UM))
        known = [area.number for area in self.paints if area.thickness_um is not None]
        if not known:
            return np.zeros(self.shape, dtype=np.bool_)
        answered = np.isfinite(pixels.value)
        return np.asarray(answered & ~is_determined(SURFACE_UM, pixels) & np.isin(self.map("paint"), known))

    def below_in_paint(self, group: str) -> NDArray[np.bool_]:
        """Return (row, column) where the layers of the pixel's paint have a group below another one."""
        known = [area.number for area in self.paints if any(group == below for _, below in area.orders)]
        return np.isin(self.map("paint"), known) if known else np.zeros(self.shape, dtype=np.bool_)

    def _with_paints(self, pixels: Estimate) -> Estimate:
        """Return thicknesses with those of the paints, from their summed spectra, where pixels do not suffice."""
        replaced = self.thickness_of_paint
        if not replaced.any():
            return pixels
        low, value, high = (image.copy() for image in (pixels.low, pixels.value, pixels.high))
        for area in self.paints:
            if area.thickness_um is not None:
                mask = replaced & (self.map("paint") == area.number)
                low[mask], value[mask], high[mask] = area.thickness_um
        return Estimate(value, low, high)

    def is_determined(self, quantity: str) -> NDArray[np.bool_]:
        """Return (row, column) where the 90 % interval of a quantity is narrow enough to say something."""
        return is_determined(quantity, self.estimate(quantity))

    def strongest(self, families: Iterable[str]) -> NDArray[np.float32]:
        """Return (row, column) by how many standard deviations the strongest of some families stands out.

        Zero where none of them was fitted, and where there is no answer.
        """
        result = np.zeros(self.shape, dtype=np.float32)
        kept = [
            np.nan_to_num(self[name] / np.maximum(self.map("area_sigma", name), _LEAST_DEVIATION))
            for name in families
            if name in self.lines
        ]
        return np.asarray(np.maximum.reduce(kept), dtype=np.float32) if kept else result

    def state_shares(self, group: str) -> dict[int, float]:
        """Return the share of the answered pixels in which a group has each of :data:`STATES`."""
        states = self.map("state", group)
        number = np.bincount(states.ravel(), minlength=NO_ANSWER + 1)
        n_known = max(states.size - number[NO_ANSWER], 1)
        return {state: float(number[state] / n_known) for state in STATES if state != NO_ANSWER}

    def answer_at(self, group: str, row: int, column: int) -> str:
        """Return the answer about a group at a pixel, in words."""
        known = self.knows_amount(group)
        most = self.map(f"{AMOUNT}_high", group, "anywhere")[row, column] if known else np.nan
        return answer_words(int(self.map("state", group)[row, column]), float(most))

    def answer_summary(self, group: str) -> str:
        """Return the answers about a group over all pixels, in words: "pigment in 12 %, trace in 5 %".

        Of what is present alone; where amounts are not known, and with earlier results, "".
        """
        if "state" not in self.stacks or not self.knows_amount(group):
            return ""
        shares = self.state_shares(group)
        known = ((STATES[state], 100 * shares[state]) for state in (PIGMENT, PRESENT, TRACE))
        return ", ".join(f"{words} in {share:.{0 if share >= 10 else 1}f} %" for words, share in known if share >= 0.1)

    @property
    def knows_hiding(self) -> bool:
        """Whether states say where a group could lie unseen under others: where the instrument is known."""
        return "state" in self.stacks and "burial" in self.settings_of("detectability")

    @property
    def answered(self) -> NDArray[np.bool_]:
        """(row, column) where the network answered."""
        return np.asarray(np.isfinite(self.map("probability", *self._stack("probability").keys[0])))

    @property
    def unlike(self) -> NDArray[np.bool_]:
        """(row, column) where a peak that nothing known explains exceeds :data:`UNLIKE_SIGMA`."""
        return np.asarray(self.map("unlikeness") > UNLIKE_SIGMA)

    @property
    def unlike_share(self) -> float:
        """Share of the answered pixels that are :attr:`unlike`."""
        known = np.isfinite(self.map("unlikeness"))
        return float(self.unlike[known].mean()) if known.any() else 0.0

    @property
    def is_unlike(self) -> bool:
        """Whether more pixels are :attr:`unlike` than chance and single faults bring: three, and one in a thousand."""
        if "unlikeness" not in self.stacks:
            return False
        return int(self.unlike.sum()) >= LEAST_UNLIKE_PIXELS and self.unlike_share >= LEAST_UNLIKE_SHARE

    # --- what there is --------------------------------------------------------------------------------------

    @property
    def has_pigments(self) -> bool:
        """Whether pigments were identified."""
        return "probability" in self.stacks

    @property
    def has_reflectance(self) -> bool:
        """Whether a reflectance cube was read beside the scan."""
        return "surface_member" in self.stacks

    @property
    def has_elements(self) -> bool:
        """Whether line families were fitted."""
        return "area" in self.stacks

    @property
    def element_quantities(self) -> tuple[str, ...]:
        """Names of the elements' quantities, ``mass_fraction.Fe``."""
        kinds = (kind for kind in (MASS_FRACTION, AREAL_MASS) if kind in self.stacks)
        return tuple(f"{kind}.{element}" for kind in kinds for (element,) in self.stacks[kind].keys)

    @property
    def amounts(self) -> tuple[str, ...]:
        """Names of the amounts, ``amount.mercury_red.below``."""
        keys = cast("tuple[tuple[str, Place], ...]", self.stacks[AMOUNT].keys) if AMOUNT in self.stacks else ()
        return tuple(f"{AMOUNT}.{at_place(*key)}" for key in keys)

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of the pigment groups."""
        return self._names("group")

    @property
    def pigments(self) -> tuple[str, ...]:
        """Names of the pigments, the members of groups."""
        return self._names("member")

    @property
    def targets(self) -> tuple[str, ...]:
        """Names of the groups; of a model without groups, of its pigments."""
        return self.groups or self.pigments

    @property
    def places(self) -> tuple[Place, ...]:
        """Places that the model knows: "anywhere" alone, or "surface" and "below", too."""
        spoken = {place for _, place in self.placed}
        return tuple(place for place in PLACES if place in spoken)

    @property
    def placed(self) -> tuple[tuple[str, Place], ...]:
        """Name and place of each probability that there is."""
        return cast("tuple[tuple[str, Place], ...]", self.stacks["probability"].keys) if self.has_pigments else ()

    @property
    def lines(self) -> tuple[str, ...]:
        """Names of the line families."""
        return tuple(name for (name,) in self.stacks["area"].keys) if self.has_elements else ()

    @property
    def scatter_peaks(self) -> tuple[str, ...]:
        """Names of the scattered lines of the source, "Compton" and "Rayleigh"; they are no elements."""
        return tuple(name for (name,) in self.stacks["scatter"].keys) if "scatter" in self.stacks else ()

    @property
    def model_card(self) -> Mapping[str, Any]:
        """Facts of the model by the names of its card; empty where there is none."""
        model = self.settings_of("pigments").get("model", {})
        return model if isinstance(model, Mapping) else {"name": str(model)}

    @property
    def model_name(self) -> str:
        """Name of the model as its card says it; "" where it is not known."""
        return str(self.model_card.get("name", ""))

    def settings_of(self, process: str) -> Mapping[str, Any]:
        """Return the configuration of "pigments", "elements", "detectability" or "open_set"; empty without it."""
        return self.process_settings.get(process, {})

    def label(self, name: str, place: Place = "anywhere") -> str:
        """Return the label of a pigment or group for people."""
        return self.materials[name].label + PLACE_WORDS[place]

    def quantity_label(self, quantity: str) -> str:
        """Return the label of a quantity for people: "Fe, mass fraction (uppermost paint)"."""
        kind, _, element = quantity.partition(".")
        if kind in {MASS_FRACTION, AREAL_MASS}:
            sample = self.settings_of("quantities").get("sample")
            label = f"{element}, {kind.replace('_', ' ')}".removeprefix(", ")
            return f"{label} ({sample})" if sample else label
        if kind == AMOUNT:
            name, place = split_place(element)
            symbol = self.materials[name].elements[0].partition("_")[0]
            return f"{symbol} in the dry paint: {self.label(name, place)}"
        material = material_of(quantity)
        if material is None:
            return "thickness of the surface layer"
        label = self.label(material) if material in self.materials else material
        return f"share of the pigments at the surface: {label}"

    def short_label(self, name: str) -> str:
        """Return the label without the examples that it gives in brackets."""
        return self.label(name).partition(" (")[0]

    @property
    def settings(self) -> Mapping[str, Any]:
        """How the results were made; empty where that is not known."""
        return self.summary.get("settings") or {}

    @property
    def calibration(self) -> Mapping[str, Any]:
        """Where the energy axis is from; empty where that is not known."""
        return self.settings.get("calibration") or {}

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user has to know, in words; alerts first."""
        of_scan = (*self.summary.get("notes", ()), *self.calibration.get("notes", ()))
        of_maps = (note for notes in self.process_notes.values() for note in notes)
        return tuple(dict.fromkeys((*self.alerts, *of_scan, *of_maps)))

    @property
    def alerts(self) -> tuple[str, ...]:
        """What the user must know, because results may be wrong or are withheld."""
        return tuple(self.settings.get("alerts", ()))

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        for stack in self.stacks.values():
            return int(stack.values.shape[0]), int(stack.values.shape[1])
        return 0, 0

    def __iter__(self) -> "Iterator[Results | Mapping[str, Any] | None]":
        """Give pigments, elements and the summary, as versions before this class returned them."""
        return iter((self if self.has_pigments else None, self if self.has_elements else None, self.summary))

    def __repr__(self) -> str:
        n_row, n_column = self.shape
        lines = [f"<underpaint results of {self.summary.get('name', 'a scan')}: {n_row} rows x {n_column} columns>"]
        if self.has_pigments:
            shares = {name: share_present(self[name]) for name in self.groups}
            seen = sorted((name for name in shares if shares[name] > 0), key=lambda name: -shares[name])
            listed = (f"{name} {100 * shares[name]:.0f} %" for name in seen)
            lines += [_listing("groups present", listed, "none"), _listing("pigments", self.pigments, "none")]
            lines += [_listing("places", self.places, "none")]
        if self.has_elements:
            lines += [_listing("lines", self.lines, "none")]
        for kind in (MASS_FRACTION, AREAL_MASS):
            if kind in self.stacks:
                lines += [_listing(kind, (name for (name,) in self.stacks[kind].keys), "none")]
        if self.paints:
            lines += [f"  {'paints':<11} {len(self.paints)}"]
        if self.has_reflectance:
            lines += [_listing("surface", (name for (name,) in self.stacks["surface_member"].keys), "none")]
        if self.unexplained is not None:
            lines += [_listing("unexplained", (line.family for line in self.unexplained), "nothing")]
        lines += [f"  note        {note}" for note in self.notes]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        dataset: Any = self.to_dataset()
        return f"<pre style='white-space: pre-wrap'>{html.escape(repr(self))}</pre>{dataset._repr_html_()}"

    def _names(self, kind: str) -> tuple[str, ...]:
        return tuple(name for name, each in self.materials.items() if each.kind == kind and self.holds(name))

    def _stack(self, quantity: str) -> Stack:
        if quantity in self.stacks:
            return self.stacks[quantity]
        base = re.sub("_(sigma|low|high)$", "", quantity)
        what, command, *how = _COMMANDS.get(base, (quantity, "underpaint identify"))
        raise ScanError(f"These results hold no {what}: {' '.join((f'`{command}`', *how))} writes them.")

    def _labelled(self, dimension: str, names: Sequence[str]) -> dict[str, Any]:
        return {dimension: list(names), "label": (dimension, [self.label(name) for name in names])}

    def _simple(self, quantity: str, dimension: str, long_name: str) -> "xr.DataArray":
        keys = list(self._stack(quantity).keys)
        return self._array(quantity, keys, {dimension: [name for (name,) in keys]}, long_name)

    def _array(self, quantity: str, keys: Any, coordinates: Mapping[str, Any], long_name: str) -> "xr.DataArray":
        """Return the maps of keys, nested in lists along the coordinates that are dimensions."""
        stack = self._stack(quantity)
        _, units = DIMENSIONS[quantity]
        named = [name for name in _NAMED if name in coordinates]
        if keys == []:
            raise ScanError(f"These results hold no {named[0]}s: the model {self.model_name!r} answers none.")
        return self._labelled_array(
            _nested(_maps_of(stack, keys), in_memory=stack.in_memory), named, coordinates, units, long_name, quantity
        )

    def _intervals(self, quantities: Any, coordinates: Mapping[str, Any], long_name: str) -> "xr.DataArray":
        """Return median and interval of quantities, whose names are nested in lists along the coordinates."""
        in_memory = all(stack.in_memory for stack in self.stacks.values())
        # rounded, so that 0.05 and 0.95 can be selected
        quantile = {"quantile": [round(0.5 + side * LEVEL, 6) for side in (-0.5, 0.0, 0.5)]}

        def ends(quantity: Any) -> list[Any]:
            if isinstance(quantity, list):
                return [ends(each) for each in quantity]
            read = [partial(self._end, quantity, end) for end in ("low", "value", "high")]
            return [each() if in_memory else _delayed(self.shape, np.float32, each) for each in read]

        values, named = _nested(ends(quantities), in_memory=in_memory), [*coordinates, "quantile"]
        first = quantities
        while isinstance(first, list):
            first = first[0]
        name = first.split(".")[0]
        return self._labelled_array(values, named, {**coordinates, **quantile}, unit_of(first), long_name, name)

    def _end(self, quantity: str, end: str) -> NDArray[np.float32]:
        if quantity.startswith(f"{AMOUNT}.") and quantity not in self.amounts:
            return np.full(self.shape, np.nan, np.float32)  # of a place where the group is nowhere
        return np.asarray(getattr(self.estimate(quantity), end), np.float32)

    def _labelled_array(
        self, values: Any, named: Sequence[str], coordinates: Mapping[str, Any], units: str, long_name: str, name: str
    ) -> "xr.DataArray":
        import xarray as xr

        n_row, n_column = self.shape
        along: dict[str, Any] = {"row": np.arange(n_row), "column": np.arange(n_column)}
        if self.step_mm is not None:
            along |= {
                "y_mm": ("row", self.step_mm[0] * along["row"]),
                "x_mm": ("column", self.step_mm[1] * along["column"]),
            }
        attributes = {"units": units, "long_name": long_name} | self._origin()
        coordinates, dimensions = {**coordinates, **along}, (*named, "row", "column")
        return xr.DataArray(values, coordinates, dimensions, name=name, attrs=attributes)

    def _origin(self) -> dict[str, str]:
        origin = {
            "source": self.settings.get("source", ""),
            "model": self.model_name,
            "underpaint": self.summary.get("versions", {}).get("underpaint", ""),
            "written": self.summary.get("written", ""),
        }
        return {name: str(value) for name, value in origin.items() if value}


def _keys(names: Sequence[str]) -> tuple[Key, ...]:
    return tuple((name,) for name in names)


def share_present(probability: NDArray[np.float32]) -> float:
    """Return the share of the answered pixels whose probability exceeds one half."""
    known = probability[np.isfinite(probability)]
    return float((known > PRESENT_PROBABILITY).mean()) if known.size else 0.0


class BelowSurface(NamedTuple):
    """What the map of a group says of its lying below the surface.

    Parameters
    ----------
    share : float
        Of the area, where it is stated: its probability exceeds :data:`BELOW_PROBABILITY`.
    certainty : float
        Mean probability there; NaN where it is stated nowhere.
    undetermined : float
        Share of the area where the probability is neither that high nor that low.
    """

    share: float
    certainty: float
    undetermined: float


def below_surface(probability: NDArray[np.float32], answered: NDArray[np.bool_]) -> BelowSurface:
    """Return where a group is stated to lie below the surface, as shares of the answered pixels.

    Parameters
    ----------
    probability : (n_row, n_column) array
        As in ``Results.hidden``; NaN: reflectance says nothing.
    answered : (n_row, n_column) bool array
        Pixels on the cube.
    """
    n_answered = max(int(answered.sum()), 1)
    stated = probability[answered & (probability > BELOW_PROBABILITY)]
    between = answered & (probability <= BELOW_PROBABILITY) & (probability > 1.0 - BELOW_PROBABILITY)
    certainty = float(stated.mean(dtype=np.float64)) if stated.size else float("nan")
    return BelowSurface(stated.size / n_answered, certainty, float(between.sum()) / n_answered)


def cohen_kappa(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    """Return Cohen's kappa of two yes-or-no answers on the same pixels (Cohen 1960)."""
    agreed = float(np.mean(first == second))
    chance = float(first.mean() * second.mean() + (1 - first.mean()) * (1 - second.mean()))
    return float("nan") if chance == 1.0 else (agreed - chance) / (1.0 - chance)


def _maps_of(stack: Stack, keys: Any) -> Any:
    """Return the maps of keys, nested in lists as these are: numbers in memory, else lazily; NaN without a map."""
    if isinstance(keys, list):
        return [_maps_of(stack, key) for key in keys]
    shape = (int(stack.values.shape[0]), int(stack.values.shape[1]))
    if keys not in stack:
        return np.full(shape, np.nan, np.float32)
    return stack[keys] if stack.in_memory else _delayed(shape, stack.values.dtype, partial(stack.__getitem__, keys))


def _nested(parts: Any, *, in_memory: bool) -> Any:
    """Return arrays that are nested in lists as one array."""
    import dask.array as da

    if not isinstance(parts, list):
        return parts
    return (np if in_memory else da).stack([_nested(each, in_memory=in_memory) for each in parts])


def _delayed(shape: tuple[int, int], dtype: Any, read: Callable[[], Any]) -> Any:
    import dask
    import dask.array as da

    return da.from_delayed(dask.delayed(read, pure=False)(), shape, dtype)


def _listing(what: str, names: Iterable[str], none: str) -> str:
    every = list(names)
    rest = f", and {len(every) - _MOST_LISTED} more" if len(every) > _MOST_LISTED else ""
    return f"  {what:11s} {', '.join(every[:_MOST_LISTED]) + rest if every else none}"
