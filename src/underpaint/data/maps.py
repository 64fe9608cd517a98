"""Results of the analysis of a scan: labelled arrays, which are read from the file when needed.

The results comprise pigments and groups by place, thicknesses, mass fractions, elements, limits of detection and
unexplained lines.
"""

import html
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias, cast, get_args

import numpy as np
from numpy.typing import NDArray

from underpaint.data.paint_areas import PaintArea
from underpaint.errors import ScanError

if TYPE_CHECKING:
    import xarray as xr

# --- places: suffixes of names in files and model cards (``vermilion.surface``) -------------------------

Place: TypeAlias = Literal["anywhere", "surface", "below"]
"""Places in a painting: any layer, the uppermost paint layer, or any layer below it, including the ground."""
PLACES: tuple[Place, ...] = get_args(Place)
PLACE_WORDS: dict[Place, str] = {"anywhere": "", "surface": ", at the surface", "below": ", below the surface"}
"""Text that is appended to the label of a pigment or group, by place."""
PLACED_PROBABILITY = 0.75
"""Minimum probability for reporting a place or an order of layers. With a minimum of one half, networks would report
absent pigments below the surface, and orders that a spectrum does not determine."""


def is_stated(probability: NDArray[np.floating], place: Place) -> NDArray[np.bool_]:
    """Return the mask of pixels in which a group is reported at a place.

    The probability exceeds :data:`PRESENT_PROBABILITY` anywhere, or is at least :data:`PLACED_PROBABILITY` at the
    surface or below.
    """
    return np.asarray(probability > PRESENT_PROBABILITY if place == "anywhere" else probability >= PLACED_PROBABILITY)


def at_place(name: str, place: Place) -> str:
    """Return the name of a pigment or group with its place as suffix. There is no suffix for "anywhere"."""
    return name if place == "anywhere" else f"{name}.{place}"


def split_place(name: str) -> tuple[str, Place]:
    """Return the pigment or group, and the place, that a name in a file or model card contains.

    Raises
    ------
    ValueError
        The suffix of the name is not in :data:`PLACES`.
    """
    material_name, _, place = name.partition(".")
    for known_place in PLACES:
        if place == known_place or (not place and known_place == "anywhere"):
            return material_name, known_place
    raise ValueError(f"{name!r} does not end in a place; places are {', '.join(PLACES)}")


# --- quantities: their names, and the scales on which their errors are symmetric ------------------------

SURFACE_UM = "thickness_um.surface"
"""Name of the quantity "thickness of the uppermost paint layer", in um."""
MASS_FRACTION, AREAL_MASS = "mass_fraction", "areal_mass"
"""Kinds of quantities of elements, in % and in ug/cm2. The kind is the first part of a name: ``mass_fraction.Fe``."""
AMOUNT = "amount"
"""Kind of quantity: mass fraction of a group's element in the dry paint, in %. Example:
``amount.mercury_red.below``."""
_SHARE_PREFIX = "share."
_MIN_MASS_FRACTION = 0.002
_MIN_THICKNESS_UM = 0.1
INTERVAL_PROBABILITY = 0.9
"""Default probability of credible intervals."""
MAX_INTERVAL_RATIO = 10.0
"""A thickness is considered determined if the ratio of its interval's limits is at most this number."""
MAX_INTERVAL_WIDTH = 0.5
"""A mass fraction is considered determined if its interval is at most this wide."""


def share_of(material: str) -> str:
    """Return the name of the quantity "mass fraction of a material in the dry pigments at the surface"."""
    return f"{_SHARE_PREFIX}{material}"


def material_of(quantity: str) -> str | None:
    """Return the material to whose mass fraction a quantity refers (:func:`share_of`); None for other quantities."""
    return quantity.removeprefix(_SHARE_PREFIX) if quantity.startswith(_SHARE_PREFIX) else None


def element_of(quantity: str) -> tuple[str, str] | None:
    """Return the kind of a quantity, and the element or group to which it refers; None for quantities of other kinds.

    The kinds are :data:`MASS_FRACTION`, :data:`AREAL_MASS` and :data:`AMOUNT`.
    """
    kind, _, element_or_group = quantity.partition(".")
    return (kind, element_or_group) if kind in {MASS_FRACTION, AREAL_MASS, AMOUNT} else None


def unit_of(quantity: str) -> str:
    """Return the unit of a quantity."""
    kind_and_element = element_of(quantity)
    if kind_and_element is not None:
        return DIMENSIONS[kind_and_element[0]][1]
    return "um" if material_of(quantity) is None else "1"


def to_unbounded(quantity: str, value: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return values on an unbounded scale: ln(t) for a thickness t in um, ln(s / (1 - s)) for a mass fraction s."""
    if material_of(quantity) is None:
        return np.asarray(np.log(np.maximum(value, _MIN_THICKNESS_UM)), dtype=np.float32)
    mass_fraction = np.clip(value, _MIN_MASS_FRACTION, 1.0 - _MIN_MASS_FRACTION)
    return np.asarray(np.log(mass_fraction / (1.0 - mass_fraction)), dtype=np.float32)


def from_unbounded(quantity: str, value: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return values from an unbounded scale. This inverts :func:`to_unbounded`."""
    if material_of(quantity) is None:
        return np.asarray(np.exp(value), dtype=np.float32)
    return np.asarray(1.0 / (1.0 + np.exp(-value)), dtype=np.float32)


def unbounded_derivative(quantity: str, value: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return the derivative of a value with respect to its transform by :func:`to_unbounded`."""
    if material_of(quantity) is None:
        return np.asarray(np.maximum(value, _MIN_THICKNESS_UM), dtype=np.float32)
    mass_fraction = np.clip(value, _MIN_MASS_FRACTION, 1.0 - _MIN_MASS_FRACTION)
    return np.asarray(mass_fraction * (1.0 - mass_fraction), dtype=np.float32)


AMOUNT_EDGES = (1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3)
"""Borders between the classes of amounts, as mass fractions of an element in dry paint."""


def amount_class(share: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Return the class of a mass fraction: the number of :data:`AMOUNT_EDGES` that it reaches, 0 to 10."""
    return np.searchsorted(AMOUNT_EDGES, share, side="right").astype(np.uint8)


class Estimate(NamedTuple):
    """Maps of a quantity: median, lower limit and upper limit of the credible interval, in the unit :func:`unit_of`."""

    value: NDArray[np.float32]
    low: NDArray[np.float32]
    high: NDArray[np.float32]


def estimate(
    quantity: str, value: NDArray[np.float32], sigma: NDArray[np.float32], level: float = INTERVAL_PROBABILITY
) -> Estimate:
    """Return the median and the credible interval of a quantity.

    Parameters
    ----------
    quantity : str
        :data:`SURFACE_UM`, or a name from :func:`share_of`.
    value : (n_row, n_column) array
        Median predicted by the network, in um or as a mass fraction; NaN for pixels without a result.
    sigma : (n_row, n_column) array
        Standard deviation of the value on the scale of :func:`to_unbounded`.
    level : float
        Probability that the interval contains the quantity.

    Returns
    -------
    Estimate

    Raises
    ------
    ValueError
        ``level`` is not between 0 and 1.
    """
    if not 0 < level < 1:
        raise ValueError(
            f"Cannot compute an interval of probability {level:g}; give a value between 0 and 1, such as 0.9."
        )
    unbounded_median = to_unbounded(quantity, value)
    unbounded_half_width = np.float64(NormalDist().inv_cdf(0.5 + 0.5 * level)) * sigma
    return Estimate(
        value,
        from_unbounded(quantity, unbounded_median - unbounded_half_width),
        from_unbounded(quantity, unbounded_median + unbounded_half_width),
    )


def is_determined(quantity: str, interval: Estimate) -> NDArray[np.bool_]:
    """Return a boolean (n_row, n_column) map that is true where the 90 % interval determines a quantity.

    For a thickness or areal mass, the ratio of the interval's limits must not exceed :data:`MAX_INTERVAL_RATIO`. For a
    pigment's mass fraction, the width of the interval must not exceed :data:`MAX_INTERVAL_WIDTH`. For an element's mass
    fraction, both conditions must be met.
    """
    _, low, high = interval
    is_narrow = (low > 0) & (high <= MAX_INTERVAL_RATIO * low)
    if material_of(quantity) is not None:
        return np.asarray(high - low <= MAX_INTERVAL_WIDTH)
    if unit_of(quantity) == "%":
        is_narrow &= high - low <= 100.0 * MAX_INTERVAL_WIDTH
    return np.asarray(is_narrow)


class QuantitySummary(NamedTuple):
    """Summary of a quantity over the pixels with a result.

    Parameters
    ----------
    determined_share : float
        Fraction of the pixels whose spectrum determines the quantity (:func:`is_determined`).
    value, low, high : float
        Median of the value, and medians of the limits of the 90 % interval. For elements, the medians are over the
        pixels with a lower limit above zero. For other quantities, the medians are over the pixels in which the
        quantity is determined. NaN if there are no such pixels.
    upper_limit_share : float
        Fraction of the pixels whose lower limit is zero, so that only an upper limit is known.
    median_upper_limit : float
        Median upper limit of the pixels whose lower limit is zero; NaN if there are no such pixels.
    """

    determined_share: float
    value: float
    low: float
    high: float
    upper_limit_share: float
    median_upper_limit: float


def summarise_quantity(quantity: str, interval: Estimate, mask: NDArray[np.bool_] | None = None) -> QuantitySummary:
    """Return the summary of a quantity over the pixels with a result, or over those where ``mask`` is also true."""
    has_result = np.isfinite(interval.value) if mask is None else mask & np.isfinite(interval.value)
    is_quantity_determined, is_upper_limit = (
        has_result & is_determined(quantity, interval),
        has_result & ~(interval.low > 0),
    )
    value, low, high = (
        _median(limit_map[is_quantity_determined if element_of(quantity) is None else has_result & ~is_upper_limit])
        for limit_map in interval
    )
    n_with_result = max(int(has_result.sum()), 1)
    return QuantitySummary(
        int(is_quantity_determined.sum()) / n_with_result,
        value,
        low,
        high,
        int(is_upper_limit.sum()) / n_with_result,
        _median(interval.high[is_upper_limit]),
    )


def _median(values: NDArray[np.float32]) -> float:
    return float(np.median(values)) if values.size else float("nan")


# --- results --------------------------------------------------------------------------------------------

Key = tuple[str, ...]
PRESENT_PROBABILITY = 0.5
"""A pigment or group is considered present if its probability exceeds this value."""
BELOW_PROBABILITY = 0.9
"""A group is reported below the surface if the probability exceeds this value. The place of a group is undetermined if
the probability is between 0.1 and 0.9."""
UNLIKE_SIGMA = 5.0
"""A spectrum is reported as unlike known spectra if an unexplained peak exceeds this significance, in standard
deviations."""
MIN_UNLIKE_PIXELS, MIN_UNLIKE_SHARE = 3, 0.001
NOT_DETECTED, PRESENT, CANNOT_EXCLUDE, PIGMENT, TRACE, NO_ANSWER = 0, 1, 2, 4, 5, 255
UNDECIDED = 3
"""Value that files of earlier versions contain instead of :data:`CANNOT_EXCLUDE`."""
STATES = {
    PIGMENT: "pigment",
    PRESENT: "present, pigment or trace",
    TRACE: "trace",
    NOT_DETECTED: "not detected",
    CANNOT_EXCLUDE: "cannot be excluded",
    NO_ANSWER: "no answer",
}
"""Meaning of each value of ``Results.state``, the state of a group at a pixel."""
MIN_STATED_PROBABILITY = 0.95
"""An amount is reported to reach a threshold if the probability exceeds this value, and not to reach it if the
probability is below 0.05."""

MAX_INFORMATIVE_PERCENT = 30.0
"""Upper limits of an amount are reported only below this percentage."""
TWO_DIGIT_PERCENT = 9.5
"""Upper limits from this percentage upwards are reported with two digits, others with one."""


def current_states(states: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return states from a file of any version, converted to the values of this version."""
    return np.where(states == UNDECIDED, np.uint8(CANNOT_EXCLUDE), states)


def answer_words(state: int, most_percent: float = float("nan")) -> str:
    """Return the text for the state of a group, such as "not detected".

    Parameters
    ----------
    state : int
        A key of :data:`STATES`.
    most_percent : float
        Upper limit (95 %) of the mass fraction of the group's element, in %; NaN if unknown.

    Examples
    --------
    >>> answer_words(NOT_DETECTED, 0.031)
    'not detected (less than 0.03 %)'
    >>> answer_words(CANNOT_EXCLUDE, 11.5)
    'cannot be excluded (less than 12 %)'
    """
    state_text = STATES[state]
    if state not in {NOT_DETECTED, CANNOT_EXCLUDE} or not most_percent < MAX_INFORMATIVE_PERCENT:
        return state_text
    digits = 1 if most_percent < TWO_DIGIT_PERCENT else 2
    limit_text = np.format_float_positional(most_percent, digits, unique=False, fractional=False, trim="-")
    return f"{state_text} (less than {limit_text} %)"


DIMENSIONS: dict[str, tuple[tuple[str, ...], str]] = {
    "probability": (("material", "place"), "1"),
    "log_odds": (("material", "place"), "1"),
    "quantity": (("quantity",), "um or 1"),
    "quantity_sigma": (("quantity",), "1"),
    "area": (("line",), "counts"),
    "area_sigma": (("line",), "counts"),
    **{f"{MASS_FRACTION}{suffix}": (("element",), "%") for suffix in ("", "_low", "_high")},
    **{f"{AREAL_MASS}{suffix}": (("element",), "ug/cm2") for suffix in ("", "_low", "_high")},
    **{f"{AMOUNT}{suffix}": (("material", "place"), "%") for suffix in ("", "_low", "_high")},
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
"""Dimensions, besides row and column, and unit of each quantity in the results."""
_SOURCE_COMMANDS: dict[str, tuple[str, ...]] = {
    "probability": ("pigments", "underpaint identify"),
    "quantity": ("quantities", "underpaint identify", "with a model of layers"),
    "area": ("elements", "underpaint elements"),
    MASS_FRACTION: ("mass fractions", "underpaint elements --quantities mass_percent"),
    AREAL_MASS: ("areal masses", "underpaint elements --quantities ug_cm2"),
    AMOUNT: ("amounts", "underpaint identify", "with a model that predicts them"),
    "amount_reached": ("amounts", "underpaint identify", "with a model that predicts them"),
    "state": ("states", "underpaint identify"),
    "pool": ("pools", "underpaint identify --pool auto", "of a scan with few counts"),
    "unlikeness": ("unlikeness", "underpaint identify"),
    "scatter": ("scatter", "underpaint elements", "of a scan whose anode or beam is known"),
    "diffraction": ("diffraction", "underpaint elements", "of a scan with two detectors or more"),
    "surface_member": ("results from reflectance", "underpaint reflect CUBE --xrf RESULT"),
    "surface_presence": ("results from reflectance", "underpaint reflect CUBE --xrf RESULT"),
    "surface_share": ("results from reflectance", "underpaint reflect CUBE --xrf RESULT"),
    "hidden": ("hidden groups", "underpaint reflect CUBE --xrf RESULT", "with groups in RESULT"),
    "reflectance": ("reflectance", "underpaint reflect CUBE --xrf RESULT"),
    "paint": ("paints", "underpaint paints"),
    "depth": ("counts by depth", "underpaint paints --explain all"),
}
NONE_OF_LIBRARY = "none_of_these"
"""Name of the answer for surfaces whose colour matches no member of the reflectance library."""
_MIN_AREA_SIGMA = 1e-6
_MAX_LISTED_NAMES = 8
_LABELLED_DIMENSIONS = ("group", "pigment", "member", "line", "peak", "detector", "wavelength", "place")
_ARRAY_NAMES = (
    "probability", "pigment_probability", "area", "area_sigma", MASS_FRACTION, AREAL_MASS, "thickness", "share",
    AMOUNT, "amount_reached", "state", "pool", "unlikeness", "scatter", "diffraction",
    "surface_member", "surface_presence", "surface_share", "hidden",
    "paint", "depth", "depth_sigma",
)  # fmt: skip


class Material(NamedTuple):
    """A pigment, or a group of pigments.

    Parameters
    ----------
    kind : {"group", "member"}
    label : str
        Display name, such as "vermilion or calomel (mercury)".
    groups : tuple of str
        Groups to which a pigment belongs (chrome yellow: lead and chromium). For a group, the group itself.
    elements : tuple of str
        Line families that indicate the material, such as ``Hg_L``, the strongest first.
    """

    kind: str
    label: str
    groups: tuple[str, ...] = ()
    elements: tuple[str, ...] = ()


class UnexplainedLine(NamedTuple):
    """A line family that no detected pigment explains.

    Parameters
    ----------
    family : str
        Name of the line family, such as ``Ti_K``.
    n_pixel : int
        Number of pixels in which the lines exceed five standard deviations and no detected pigment contains the
        element.
    share : float
        ``n_pixel`` as a fraction of the pixels with a result.
    median_counts : float
        Median net counts in the ``n_pixel`` pixels. If the lines are significant only in the sum spectrum, the median
        over all pixels.
    sum_sigma : float
        Significance of the lines in the sum over all pixels, in standard deviations.
    carried : {"not found there", "not in the palette"}
        Reason why no pigment explains the lines: no pigment with the element was found, or the palette has none.
    carriers : tuple of str
        Labels of the palette's pigments with the element, or of the library's if the palette has none.
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
    """Maps of one quantity, each with a key.

    Parameters
    ----------
    keys : tuple of tuple of str
        Key of each map: its coordinates along :data:`DIMENSIONS`, such as ``("vermilion", "surface")`` or
        ``("Fe_K",)``.
    values : (n_row, n_column, n_key) array
        Values, or an object that reads one map at a time from a file.
    """

    keys: tuple[Key, ...]
    values: Any

    def __contains__(self, key: Key) -> bool:
        """Return whether a map has this key."""
        return key in self._columns

    def __getitem__(self, key: Key) -> NDArray[Any]:
        """Return the (n_row, n_column) map with a key."""
        return np.asarray(self.values[:, :, self._columns[key]])

    @property
    def in_memory(self) -> bool:
        """Whether the values are in memory rather than in a file."""
        return isinstance(self.values, np.ndarray)

    @cached_property
    def _columns(self) -> dict[Key, int]:
        return {key: index for index, key in enumerate(self.keys)}


@dataclass(frozen=True, repr=False, eq=False)
class Results:
    """Results of the analysis of a scan.

    Each array in :meth:`to_dataset` is also a property, an :class:`xarray.DataArray`. The dimensions of an array are
    among ``group``, ``pigment``, ``place``, ``line``, ``element``, ``quantile``, ``row`` and ``column``. The ``attrs``
    of an array contain the unit, the long name and the origin. Values in a file are read when they are needed. A
    property raises :class:`~underpaint.errors.ScanError` if the results do not contain the quantity.

    ``results["vermilion"]`` and ``results["vermilion", "surface"]`` are (row, column) arrays with the probability of a
    pigment or group. ``results["Fe_K"]`` is an array with the net counts of a line family. ``a | b`` combines two
    results.

    Parameters
    ----------
    stacks : mapping of str to Stack
        Maps of each quantity. The names of quantities are the keys of :data:`DIMENSIONS`.
    materials : mapping of str to Material
        Groups and pigments by name, in the order of the model's outputs.
    step_mm : (float, float) or None
        Distance between rows and between columns, in mm.
    process_notes : mapping of str to tuple of str
        Notes for the user on each process: "pigments", "elements", "quantities", "detectability" and "open_set".
    process_settings : mapping of str to dict
        Configuration of each process (model card, versions, seeds), JSON-serialisable.
    unexplained : tuple of UnexplainedLine, or None
        Lines that no detected pigment explains, those in the most pixels first; None if not tested.
    ordinary : tuple of (str, str)
        Line families that no detected pigment explains, but that have an ordinary source (air, tube, ground, impurity).
        Each family is followed by its source.
    paints : tuple of PaintArea
        Paints of the painting, in the order of their numbers in :attr:`paint`, the map of paints.
    summary : mapping
        Metadata of the scan. ``settings``, ``versions`` and ``written`` state how and when the results were produced.

    Examples
    --------
    >>> import underpaint as up
    >>> counts = np.ones((1, 2, 1), np.float32)
    >>> results = up.Results.of_lines(("Fe_K",), counts, counts)
    >>> float(results.area.sel(line="Fe_K").sum())
    2.0

    For results on disk: ``up.read_results("painting_underpaint").probability.sel(group="mercury_red",
    place="surface")`` and ``results.to_dataset().to_netcdf("painting.nc")``.
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
        **metadata: Any,
    ) -> "Results":
        """Return results that contain probabilities of pigments and groups.

        Parameters
        ----------
        names : sequence of str
            Name of each map, with the place as suffix: ``vermilion``, ``vermilion.surface``. Every material must also
            have a map without a suffix.
        probability : (n_row, n_column, n_name) array
            Probabilities; NaN for pixels without a result.
        kinds, groups, labels, elements : sequences
            Fields of the :class:`Material` of each name.
        log_odds : (n_row, n_column, n_name) array or None
            ``ln(p / (1 - p))`` of the probabilities p. The log odds also distinguish probabilities that are rounded to
            1.
        quantities : (names, value, sigma) or None
            Thickness and mass fractions of the surface layer: names (:data:`SURFACE_UM`, :func:`share_of`), and arrays
            of values and standard deviations (:func:`estimate`), (n_row, n_column, n_quantity).
        **metadata
            ``step_mm``, ``notes`` and ``settings`` of the process.
        """
        keys = tuple(split_place(name) for name in names)
        name_entries = zip(keys, kinds, labels, groups, elements, strict=True)
        materials = {
            name: Material(kind, label, tuple(split_place(group)[0] for group in group_names), families)
            for (name, place), kind, label, group_names, families in name_entries
            if place == "anywhere"
        }
        stacks = {"probability": Stack(keys, probability)}
        if log_odds is not None:
            stacks["log_odds"] = Stack(keys, log_odds)
        if quantities is not None:
            quantity_keys = _single_keys(quantities[0])
            stacks |= {
                "quantity": Stack(quantity_keys, quantities[1]),
                "quantity_sigma": Stack(quantity_keys, quantities[2]),
            }
        return cls._of_process("pigments", stacks, materials, **metadata)

    @classmethod
    def of_lines(cls, names: Sequence[str], area: Any, sigma: Any, **metadata: Any) -> "Results":
        """Return results that contain the net counts of line families, and their standard deviations.

        Both arrays have the shape (n_row, n_column, n_name).
        """
        keys = _single_keys(names)
        return cls._of_process("elements", {"area": Stack(keys, area), "area_sigma": Stack(keys, sigma)}, **metadata)

    @classmethod
    def of_quantities(
        cls, kind: str, elements: Sequence[str], value: Any, low: Any, high: Any, **metadata: Any
    ) -> "Results":
        """Return results that contain the :data:`MASS_FRACTION` or :data:`AREAL_MASS` of elements.

        ``low`` and ``high`` are the limits of the credible interval with the probability :data:`INTERVAL_PROBABILITY`.
        All arrays have the shape (n_row, n_column, n_element).
        """
        keys = _single_keys(elements)
        arrays = {kind: value, f"{kind}_low": low, f"{kind}_high": high}
        return cls._of_process("quantities", {name: Stack(keys, values) for name, values in arrays.items()}, **metadata)

    @classmethod
    def of_amounts(
        cls, names: Sequence[str], value: Any, low: Any, high: Any, probability_reached: Any, **metadata: Any
    ) -> "Results":
        """Return results that contain the mass fractions of the groups' elements in the dry paint, in %.

        Parameters
        ----------
        names : sequence of str
            Names of groups, with the place as suffix. The arrays have the shape (n_row, n_column, n_name).
        value, low, high : arrays
            Median, and limits of the credible interval with the probability :data:`INTERVAL_PROBABILITY`.
        probability_reached : array
            Probability that the amount reaches the limit between trace and pigment.
        """
        keys = tuple(split_place(name) for name in names)
        arrays = {AMOUNT: value, f"{AMOUNT}_low": low, f"{AMOUNT}_high": high, "amount_reached": probability_reached}
        return cls._of_process("amounts", {name: Stack(keys, values) for name, values in arrays.items()}, **metadata)

    @classmethod
    def of_states(cls, names: Sequence[str], labels: Sequence[str], state: Any, **metadata: Any) -> "Results":
        """Return results that contain the state of each group, a key of :data:`STATES`.

        ``state`` has the shape (n_row, n_column, n_name) and the type uint8.
        """
        materials = {name: Material("group", label, (name,)) for name, label in zip(names, labels, strict=True)}
        return cls._of_process("detectability", {"state": Stack(_single_keys(names), state)}, materials, **metadata)

    @classmethod
    def of_pools(cls, n_pixel: Any, **metadata: Any) -> "Results":
        """Return results that contain the number of pixels summed for each prediction, (n_row, n_column, 1)."""
        return cls._of_process("pigments", {"pool": Stack(((),), n_pixel)}, **metadata)

    @classmethod
    def of_unlikeness(cls, score: Any, peak_kev: Any, **metadata: Any) -> "Results":
        """Return results that contain the strongest unexplained peak of each pixel.

        ``score`` is the significance of the peak, in standard deviations. ``score`` and ``peak_kev`` are (n_row,
        n_column, 1) arrays.
        """
        return cls._of_process(
            "open_set", {"unlikeness": Stack(((),), score), "peak_kev": Stack(((),), peak_kev)}, **metadata
        )

    @classmethod
    def of_scatter(cls, names: Sequence[str], counts: Any, sigma: Any, **metadata: Any) -> "Results":
        """Return results that contain the counts of the peaks "Compton" and "Rayleigh" and their standard deviations.

        ``counts`` and ``sigma`` are (n_row, n_column, n_name) arrays.
        """
        keys = _single_keys(names)
        return cls._of_process(
            "scatter", {"scatter": Stack(keys, counts), "scatter_sigma": Stack(keys, sigma)}, **metadata
        )

    @classmethod
    def of_diffraction(cls, names: Sequence[str], sigmas: Any, peak_kev: Any, **metadata: Any) -> "Results":
        """Return results that contain the strongest diffraction peak of each detector.

        ``sigmas`` is the significance of the peak, in standard deviations. ``sigmas`` and ``peak_kev`` are (n_row,
        n_column, n_name) arrays.
        """
        keys = _single_keys(names)
        stacks = {"diffraction": Stack(keys, sigmas), "diffraction_kev": Stack(keys, peak_kev)}
        return cls._of_process("diffraction", stacks, **metadata)

    @classmethod
    def of_reflectance(cls, members: Sequence[str], arrays_by_name: Mapping[str, Any], **metadata: Any) -> "Results":
        """Return results that contain the pigments at the surface, as identified from reflectance.

        Parameters
        ----------
        members : sequence of str
            Pigments that are probable in any pixel, followed by :data:`NONE_OF_LIBRARY`.
        arrays_by_name : mapping
            ``surface_member``, ``surface_presence`` and ``surface_share`` are (n_row, n_column, n_member) arrays; the
            last two lack :data:`NONE_OF_LIBRARY`. ``hidden`` is a pair: names of groups, and an (n_row, n_column,
            n_group) array. ``reflectance`` is a pair: wavelengths in nm, and an (n_row, n_column, n_band) array.
        **metadata
            ``step_mm``, ``notes`` and ``settings`` of the process. ``settings["labels"]`` contains the members' labels.
        """
        stacks = {"surface_member": Stack(_single_keys(members), arrays_by_name["surface_member"])}
        for name in ("surface_presence", "surface_share"):
            stacks[name] = Stack(_single_keys(members[:-1]), arrays_by_name[name])
        if "hidden" in arrays_by_name:
            stacks["hidden"] = Stack(_single_keys(arrays_by_name["hidden"][0]), arrays_by_name["hidden"][1])
        if "reflectance" in arrays_by_name:
            wavelengths = [f"{wavelength:g}" for wavelength in arrays_by_name["reflectance"][0]]
            stacks["reflectance"] = Stack(_single_keys(wavelengths), arrays_by_name["reflectance"][1])
        return cls._of_process("reflectance", stacks, **metadata)

    @classmethod
    def of_paints(cls, paint: Any, areas: Sequence[PaintArea], **metadata: Any) -> "Results":
        """Return results that contain the paints of a painting.

        Parameters
        ----------
        paint : (n_row, n_column) uint8 array
            Number of each pixel's paint; 0 for pixels with several paints or none, 255 for pixels without a result.
        areas : sequence of PaintArea
            The paints, in the order of their numbers.
        **metadata
            ``step_mm``, ``notes`` and ``settings`` of the process.
        """
        values = np.asarray(paint, dtype=np.uint8)[:, :, None]
        return replace(cls._of_process("paints", {"paint": Stack(((),), values)}, **metadata), paints=tuple(areas))

    @classmethod
    def of_depths(cls, keys: Sequence[tuple[str, Place]], counts: Any, sigma: Any, **metadata: Any) -> "Results":
        """Return results that contain net counts of lines by depth, and their standard deviations.

        Both arrays have the shape (n_row, n_column, n_key).
        """
        stacks = {"depth": Stack(tuple(keys), counts), "depth_sigma": Stack(tuple(keys), sigma)}
        return cls._of_process("depth", stacks, **metadata)

    @classmethod
    def _of_process(
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
        """Return the combined results.

        If both objects contain an entry, ``other`` provides the maps, and this object the metadata.

        Raises
        ------
        ScanError
            The maps have different numbers of pixels.
        """
        if self.stacks and other.stacks and self.shape != other.shape:
            raise ScanError(
                f"Cannot combine results of {self.shape} pixels with results of {other.shape} pixels. Give results of "
                "the same scan."
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
        """(group, place, row, column) probability that a pigment of the group is present; NaN without a result."""
        keys = [[(name, place) for place in self.places] for name in self.groups]
        coordinates = {"place": list(self.places), **self._label_coordinates("group", self.groups)}
        return self._array("probability", keys, coordinates, "probability that the group is present")

    @property
    def pigment_probability(self) -> "xr.DataArray":
        """(pigment, row, column) probability that a pigment is in any layer; NaN without a result."""
        keys = [(name, "anywhere") for name in self.pigments]
        coordinates = self._label_coordinates("pigment", self.pigments)
        return self._array("probability", keys, coordinates, "probability that the pigment is present")

    def pigment_at(self, pigment: str, place: Place) -> "xr.DataArray":
        """Return the (row, column) probability that a pigment is present at a place.

        Raises
        ------
        ScanError
            The results contain no pigments.
        KeyError
            The model predicts no places, or the pigment has no map because it is improbable in all pixels.
        """
        self._stack("probability")
        self[pigment, place]
        return self._array("probability", (pigment, place), {}, f"probability of {pigment}, {place}")

    @property
    def area(self) -> "xr.DataArray":
        """(line, row, column) net counts of each line family; NaN without a result."""
        return self._array_along("area", "line", "net counts of the line family")

    @property
    def area_sigma(self) -> "xr.DataArray":
        """(line, row, column) standard deviation of :attr:`area`, in counts, including the effect of interferences."""
        return self._array_along("area_sigma", "line", "standard deviation of the net counts")

    @property
    def mass_fraction(self) -> "xr.DataArray":
        """(element, quantile, row, column) mass fraction of each element and its 90 % interval, in %."""
        return self._element_array(MASS_FRACTION)

    @property
    def areal_mass(self) -> "xr.DataArray":
        """(element, quantile, row, column) areal mass of each element and its 90 % interval, in ug/cm2."""
        return self._element_array(AREAL_MASS)

    def _element_array(self, kind: str) -> "xr.DataArray":
        elements = [name for (name,) in self._stack(kind).keys]
        names = [f"{kind}.{name}" for name in elements]
        return self._intervals(names, {"element": elements}, self.quantity_label(kind))

    @property
    def thickness(self) -> "xr.DataArray":
        """(quantile, row, column) thickness of the uppermost paint layer and its 90 % interval, in um.

        Where :attr:`thickness_of_paint` is true, the thickness is that of the pixel's paint, determined from posterior
        samples of the paint's layers. In other pixels, the thickness is determined from the pixel's own spectrum.
        """
        self._stack("quantity")
        return self._intervals(SURFACE_UM, {}, self.quantity_label(SURFACE_UM))

    @property
    def share(self) -> "xr.DataArray":
        """(group, quantile, row, column) mass fraction of a group in the dry surface pigments, with 90 % interval."""
        groups = [name for (quantity,) in self._stack("quantity").keys if (name := material_of(quantity)) is not None]
        if not groups:
            raise ScanError(
                f"These results contain no mass fractions of pigments: the model {self.model_name!r} predicts none."
            )
        return self._intervals(
            [share_of(name) for name in groups], {"group": groups}, "share of the dry pigments at the surface"
        )

    @property
    def state(self) -> "xr.DataArray":
        """(group, row, column) uint8 state of each group; ``attrs["meaning"]`` explains the values."""
        state_array = self._array_along("state", "group", "state")
        state_array.attrs["meaning"] = {str(state): state_text for state, state_text in STATES.items()}
        return state_array

    @property
    def amount(self) -> "xr.DataArray":
        """(group, place, quantile, row, column) mass fraction of the group's element in the dry paint, in %."""
        names = list(dict.fromkeys(name for name, _ in self._stack(AMOUNT).keys))
        quantity_names = [[f"{AMOUNT}.{at_place(name, place)}" for place in self.places] for name in names]
        coordinates = {"group": names, "place": list(self.places)}
        return self._intervals(quantity_names, coordinates, "mass fraction of the group's element in the dry paint")

    @property
    def amount_reached(self) -> "xr.DataArray":
        """(group, place, row, column) probability that the amount is that of a pigment rather than a trace."""
        names = list(dict.fromkeys(name for name, _ in self._stack("amount_reached").keys))
        keys = [[(name, place) for place in self.places] for name in names]
        coordinates = {"place": list(self.places), **self._label_coordinates("group", names)}
        return self._array("amount_reached", keys, coordinates, "probability that the amount is that of a pigment")

    @property
    def pool(self) -> "xr.DataArray":
        """(row, column) number of pixels summed for each prediction; NaN without a result."""
        return self._array("pool", (), {}, "number of pixels summed for the prediction")

    @property
    def scatter(self) -> "xr.DataArray":
        """(peak, row, column) counts of the two scatter peaks of the source line, Rayleigh and Compton."""
        return self._array_along("scatter", "peak", "counts of the source's scattered line")

    @property
    def diffraction(self) -> "xr.DataArray":
        """(detector, row, column) significance of the strongest diffraction peak, in standard deviations."""
        return self._array_along(
            "diffraction", "detector", "strongest peak in one detector alone, in standard deviations"
        )

    @property
    def surface_member(self) -> "xr.DataArray":
        """(member, row, column) probability that a pigment determines the colour of the surface.

        The last member is :data:`NONE_OF_LIBRARY`.
        """
        return self._member_array("surface_member", "probability that the pigment gives the surface its colour")

    @property
    def surface_presence(self) -> "xr.DataArray":
        """(member, row, column) probability that a pigment is in the surface paint, main or additional."""
        return self._member_array("surface_presence", "probability that the pigment is in the surface paint")

    @property
    def surface_share(self) -> "xr.DataArray":
        """(member, row, column) expected fraction of the surface paint's optical absorption due to a pigment."""
        return self._member_array("surface_share", "share of the pigment in the coloured part of the surface")

    def _member_array(self, quantity: str, long_name: str) -> "xr.DataArray":
        keys = list(self._stack(quantity).keys)
        names = [name for (name,) in keys]
        coordinates = {"member": names, "label": ("member", [self.member_label(name) for name in names])}
        return self._array(quantity, keys, coordinates, long_name)

    @property
    def hidden(self) -> "xr.DataArray":
        """(group, row, column) probability that a group detected by XRF is present only below the surface.

        The probability is NaN if the library has no spectrum of the group, if the surface is too pale, or if the
        surface shows none of the library's pigments. Probabilities above :data:`BELOW_PROBABILITY` are reported.
        """
        return self._array_along("hidden", "group", "probability that the group is below the surface")

    @property
    def reflectance(self) -> "xr.DataArray":
        """(wavelength, row, column) reflectance at each pixel of the maps; NaN outside the cube.

        The wavelengths are in nm.
        """
        array = self._array_along("reflectance", "wavelength", "reflectance")
        return array.assign_coords(wavelength=array.wavelength.astype(float))

    @property
    def reflectance_member(self) -> "xr.DataArray":
        """(row, column) name of the pigment that determines the colour of the surface.

        The name is "" if no pigment's probability exceeds one half.
        """
        best_name, highest_probability = (
            np.full(self.shape, "", dtype=object),
            np.full(self.shape, PRESENT_PROBABILITY, np.float32),
        )
        for (name,) in self._stack("surface_member").keys:
            values = self.map("surface_member", name)
            is_higher = values > highest_probability
            best_name[is_higher], highest_probability[is_higher] = name, values[is_higher]
        name = "reflectance_member"
        return self._labelled_array(
            best_name.astype(str), (), {}, "1", "pigment that gives the surface its colour", name
        )

    def member_label(self, name: str) -> str:
        """Return the display label of a pigment of the reflectance library."""
        return str(self.settings_of("reflectance").get("labels", {}).get(name, name.replace("_", " ")))

    @property
    def paint(self) -> "xr.DataArray":
        """(row, column) uint8 number of each pixel's paint in :attr:`paints`.

        The number is 0 for pixels that have several paints or none, and 255 for pixels without a result.
        """
        return self._array("paint", (), {}, "number of the paint")

    @property
    def depth(self) -> "xr.DataArray":
        """(line, place, row, column) net counts from the uppermost paint layer, and from below it; NaN if unknown."""
        return self._depth_array("depth", "net counts by depth")

    @property
    def depth_sigma(self) -> "xr.DataArray":
        """(line, place, row, column) standard deviation of :attr:`depth`, in counts."""
        return self._depth_array("depth_sigma", "standard deviation of the net counts by depth")

    def _depth_array(self, quantity: str, long_name: str) -> "xr.DataArray":
        lines, places = (list(dict.fromkeys(names)) for names in zip(*self._stack(quantity).keys, strict=True))
        keys = [[(line, place) for place in places] for line in lines]
        return self._array(quantity, keys, {"line": lines, "place": places}, long_name)

    @property
    def unlikeness(self) -> "xr.DataArray":
        """(row, column) significance of the strongest unexplained peak, in standard deviations."""
        return self._array("unlikeness", (), {}, "strongest unexplained peak")

    def to_dataset(self) -> "xr.Dataset":
        """Return all arrays as an :class:`xarray.Dataset`, which reads values when they are needed."""
        import xarray as xr

        arrays = {}
        for name in _ARRAY_NAMES:
            with suppress(ScanError):
                arrays[name] = getattr(self, name)
        longest_array_by_dimension: dict[str, Any] = {}
        for labelled_array in arrays.values():
            for dimension in {"group", "member"} & set(labelled_array.dims):
                longest_array_by_dimension[dimension] = max(
                    longest_array_by_dimension.get(dimension, labelled_array),
                    labelled_array,
                    key=lambda candidate: candidate.sizes[dimension],
                )
        for name, labelled_array in arrays.items():
            aligned_dimensions = longest_array_by_dimension.keys() & set(labelled_array.dims)
            # names keep the order in the longest array; xarray would sort them
            arrays[name] = labelled_array.reindex(
                {dimension: longest_array_by_dimension[dimension][dimension] for dimension in aligned_dimensions}
            )
            if "label" in labelled_array.coords:
                (dimension,) = labelled_array["label"].dims
                is_longest = longest_array_by_dimension.get(str(dimension), labelled_array) is labelled_array
                arrays[name] = (
                    arrays[name].rename(label=f"{dimension}_label") if is_longest else arrays[name].drop_vars("label")
                )
        if "state" in arrays:
            arrays["state"].attrs["meaning"] = "; ".join(f"{state}: {text}" for state, text in STATES.items())
        return xr.Dataset(arrays, attrs=self._origin() | {"notes": "\n".join(self.notes)})

    # --- single maps, as plain arrays -----------------------------------------------------------------------

    def __getitem__(self, key: str | tuple[str, Place]) -> NDArray[np.float32]:
        """Return the (row, column) probability of a pigment or group, or the counts of a line family or scatter peak.

        Raises
        ------
        KeyError
            The map does not exist, because the model predicts no places, or because the probability is low in all
            pixels.
        """
        name, place = (key, "anywhere") if isinstance(key, str) else key
        for quantity, full_key in (("probability", (name, place)), ("area", (name,)), ("scatter", (name,))):
            if quantity in self.stacks and full_key in self.stacks[quantity]:
                return self.stacks[quantity][full_key]
        if name in self.materials and place not in self.places:
            raise KeyError(f"Cannot give the place of {name}: the model {self.model_name!r} predicts no places.")
        if name in self.materials:
            raise KeyError(
                f"There is no map of {name} at place {place!r}: results contain maps that exceed "
                f"{PRESENT_PROBABILITY:g} somewhere."
            )
        raise KeyError(f"No map is called {name!r}; there are: {', '.join((*self.materials, *self.lines))}.")

    def holds(self, name: str, place: Place = "anywhere") -> bool:
        """Return whether the results contain the probability of a pigment or group at a place."""
        return self.has_pigments and (name, place) in self.stacks["probability"]

    def knows_amount(self, name: str, place: Place = "anywhere") -> bool:
        """Return whether the results contain the amount of a group's element at a place."""
        return AMOUNT in self.stacks and (name, place) in self.stacks[AMOUNT]

    def map(self, quantity: str, *key: str) -> NDArray[Any]:
        """Return the (row, column) map of a quantity in :data:`DIMENSIONS`.

        For example, ``results.map("area_sigma", "Fe_K")`` returns standard deviations.

        Raises
        ------
        ScanError
            The results do not contain the quantity.
        KeyError
            The quantity has no map with this key.
        """
        return self._stack(quantity)[key]

    def is_present_somewhere(self, name: str, place: Place = "anywhere") -> bool:
        """Return whether a pigment's or group's probability exceeds one half in any pixel."""
        return bool((self[name, place] > PRESENT_PROBABILITY).any())

    def estimate(self, quantity: str, level: float = INTERVAL_PROBABILITY) -> Estimate:
        """Return maps of the median and the credible interval of a quantity.

        Parameters
        ----------
        quantity : str
            :data:`SURFACE_UM`, a name from :func:`share_of`, or a quantity of an element, such as ``mass_fraction.Fe``.
        level : float
            Probability of the interval. For quantities of elements, the level must be :data:`INTERVAL_PROBABILITY`.

        Raises
        ------
        ScanError
            The results do not contain the quantity.
        ValueError
            There is no interval with this probability.
        """
        kind_and_element = element_of(quantity)
        if kind_and_element is not None:
            if level != INTERVAL_PROBABILITY:
                raise ValueError(
                    f"Cannot give an interval of probability {level:g} of {quantity}: only {INTERVAL_PROBABILITY:g} is "
                    "available."
                )
            kind, name = kind_and_element
            key = split_place(name) if kind == AMOUNT else (name,)
            if key not in self._stack(kind):
                available_quantities = ", ".join(".".join(available_key) for available_key in self._stack(kind).keys)
                raise ScanError(f"These results do not contain {quantity}; available are {available_quantities}.")
            return Estimate(*(self.map(f"{kind}{suffix}", *key) for suffix in ("", "_low", "_high")))
        value = estimate(quantity, self.map("quantity", quantity), self.map("quantity_sigma", quantity), level)
        return (
            self._replace_paint_thickness(value) if quantity == SURFACE_UM and level == INTERVAL_PROBABILITY else value
        )

    @property
    def thickness_of_paint(self) -> NDArray[np.bool_]:
        """(row, column) boolean map that is true where the thickness of the pixel's paint is used.

        The spectra of these pixels do not determine the thickness.
        """
        pixel_estimate = estimate(SURFACE_UM, self.map("quantity", SURFACE_UM), self.map("quantity_sigma", SURFACE_UM))
        paint_numbers = [area.number for area in self.paints if area.thickness_um is not None]
        if not paint_numbers:
            return np.zeros(self.shape, dtype=np.bool_)
        has_result = np.isfinite(pixel_estimate.value)
        return np.asarray(
            has_result & ~is_determined(SURFACE_UM, pixel_estimate) & np.isin(self.map("paint"), paint_numbers)
        )

    def below_in_paint(self, group: str) -> NDArray[np.bool_]:
        """Return a boolean (row, column) map that is true in paints that contain the group below another group."""
        paint_numbers = [area.number for area in self.paints if any(group == below for _, below in area.orders)]
        return np.isin(self.map("paint"), paint_numbers) if paint_numbers else np.zeros(self.shape, dtype=np.bool_)

    def _replace_paint_thickness(self, pixel_estimate: Estimate) -> Estimate:
        """Return the thickness of each pixel, or that of its paint where :attr:`thickness_of_paint` is true."""
        is_replaced = self.thickness_of_paint
        if not is_replaced.any():
            return pixel_estimate
        low, value, high = (
            limit_map.copy() for limit_map in (pixel_estimate.low, pixel_estimate.value, pixel_estimate.high)
        )
        for area in self.paints:
            if area.thickness_um is not None:
                is_in_paint = is_replaced & (self.map("paint") == area.number)
                low[is_in_paint], value[is_in_paint], high[is_in_paint] = area.thickness_um
        return Estimate(value, low, high)

    def is_determined(self, quantity: str) -> NDArray[np.bool_]:
        """Return a boolean (row, column) map that is true where the 90 % interval determines a quantity."""
        return is_determined(quantity, self.estimate(quantity))

    def max_significance(self, families: Iterable[str]) -> NDArray[np.float32]:
        """Return the significance of the most significant of some line families, (row, column), in standard deviations.

        The significance is zero in pixels without a result, and in all pixels if none of the families was fitted.
        """
        zero_map = np.zeros(self.shape, dtype=np.float32)
        significances = [
            np.nan_to_num(self[name] / np.maximum(self.map("area_sigma", name), _MIN_AREA_SIGMA))
            for name in families
            if name in self.lines
        ]
        return np.asarray(np.maximum.reduce(significances), dtype=np.float32) if significances else zero_map

    def state_shares(self, group: str) -> dict[int, float]:
        """Return, for each state, the fraction of the pixels with a result in which a group has this state."""
        states = self.map("state", group)
        n_by_state = np.bincount(states.ravel(), minlength=NO_ANSWER + 1)
        n_with_result = max(states.size - n_by_state[NO_ANSWER], 1)
        return {state: float(n_by_state[state] / n_with_result) for state in STATES if state != NO_ANSWER}

    def answer_at(self, group: str, row: int, column: int) -> str:
        """Return the text for the state of a group at a pixel."""
        has_amount = self.knows_amount(group)
        upper_limit_percent = self.map(f"{AMOUNT}_high", group, "anywhere")[row, column] if has_amount else np.nan
        return answer_words(int(self.map("state", group)[row, column]), float(upper_limit_percent))

    def answer_summary(self, group: str) -> str:
        """Return the fraction of pixels in each state, as text: "pigment in 12 %, pigment or trace in 8.0 %".

        The text is empty if amounts are unknown, as in results of earlier versions.
        """
        if "state" not in self.stacks or not self.knows_amount(group):
            return ""
        shares = self.state_shares(group)
        state_texts = ((PIGMENT, "pigment"), (PRESENT, "pigment or trace"), (TRACE, "trace"))
        state_percentages = ((state_text, 100 * shares[state]) for state, state_text in state_texts)
        return ", ".join(
            f"{state_text} in {percentage:.{0 if percentage >= 10 else 1}f} %"
            for state_text, percentage in state_percentages
            if percentage >= 0.1
        )

    @property
    def knows_hiding(self) -> bool:
        """Whether the states allow for groups hidden below others, which requires a known instrument."""
        return "state" in self.stacks and "burial" in self.settings_of("detectability")

    @property
    def has_prediction(self) -> NDArray[np.bool_]:
        """(row, column) boolean map of the pixels for which the network made a prediction."""
        return np.asarray(np.isfinite(self.map("probability", *self._stack("probability").keys[0])))

    @property
    def unlike_pixels(self) -> NDArray[np.bool_]:
        """(row, column) boolean map that is true where :attr:`unlikeness` exceeds :data:`UNLIKE_SIGMA`."""
        return np.asarray(self.map("unlikeness") > UNLIKE_SIGMA)

    @property
    def unlike_share(self) -> float:
        """Fraction of the pixels with a result in which :attr:`unlike_pixels` is true."""
        has_result = np.isfinite(self.map("unlikeness"))
        return float(self.unlike_pixels[has_result].mean()) if has_result.any() else 0.0

    @property
    def is_unlike(self) -> bool:
        """Whether :attr:`unlike_pixels` is true in at least three pixels, and in at least one pixel per thousand."""
        if "unlikeness" not in self.stacks:
            return False
        return int(self.unlike_pixels.sum()) >= MIN_UNLIKE_PIXELS and self.unlike_share >= MIN_UNLIKE_SHARE

    # --- contents -------------------------------------------------------------------------------------------

    @property
    def has_pigments(self) -> bool:
        """Whether pigments were identified."""
        return "probability" in self.stacks

    @property
    def has_reflectance(self) -> bool:
        """Whether a reflectance cube was analysed together with the scan."""
        return "surface_member" in self.stacks

    @property
    def has_elements(self) -> bool:
        """Whether line families were fitted."""
        return "area" in self.stacks

    @property
    def element_quantities(self) -> tuple[str, ...]:
        """Names of the quantities of elements, such as ``mass_fraction.Fe``."""
        kinds = (kind for kind in (MASS_FRACTION, AREAL_MASS) if kind in self.stacks)
        return tuple(f"{kind}.{element}" for kind in kinds for (element,) in self.stacks[kind].keys)

    @property
    def amounts(self) -> tuple[str, ...]:
        """Names of the amounts, such as ``amount.mercury_red.below``."""
        keys = cast("tuple[tuple[str, Place], ...]", self.stacks[AMOUNT].keys) if AMOUNT in self.stacks else ()
        return tuple(f"{AMOUNT}.{at_place(*key)}" for key in keys)

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of the pigment groups."""
        return self._names("group")

    @property
    def pigments(self) -> tuple[str, ...]:
        """Names of the pigments, which are the members of the groups."""
        return self._names("member")

    @property
    def targets(self) -> tuple[str, ...]:
        """Names of the groups, or of the pigments if the model has no groups."""
        return self.groups or self.pigments

    @property
    def places(self) -> tuple[Place, ...]:
        """Places that the model predicts: "anywhere" and, for some models, "surface" and "below"."""
        predicted_places = {place for _, place in self.named_places}
        return tuple(place for place in PLACES if place in predicted_places)

    @property
    def named_places(self) -> tuple[tuple[str, Place], ...]:
        """Name and place of each probability map."""
        return cast("tuple[tuple[str, Place], ...]", self.stacks["probability"].keys) if self.has_pigments else ()

    @property
    def lines(self) -> tuple[str, ...]:
        """Names of the line families."""
        return tuple(name for (name,) in self.stacks["area"].keys) if self.has_elements else ()

    @property
    def scatter_peaks(self) -> tuple[str, ...]:
        """Names of the scatter peaks of the source line, "Compton" and "Rayleigh"."""
        return tuple(name for (name,) in self.stacks["scatter"].keys) if "scatter" in self.stacks else ()

    @property
    def model_card(self) -> Mapping[str, Any]:
        """Model card as a mapping; empty if there is no model card."""
        model = self.settings_of("pigments").get("model", {})
        return model if isinstance(model, Mapping) else {"name": str(model)}

    @property
    def model_name(self) -> str:
        """Name of the model; "" if unknown."""
        return str(self.model_card.get("name", ""))

    def settings_of(self, process: str) -> Mapping[str, Any]:
        """Return the configuration of a process ("pigments", "elements" ...); empty if the process did not run."""
        return self.process_settings.get(process, {})

    def label(self, name: str, place: Place = "anywhere") -> str:
        """Return the display label of a pigment or group at a place."""
        return self.materials[name].label + PLACE_WORDS[place]

    def quantity_label(self, quantity: str) -> str:
        """Return the display label of a quantity, such as "Fe, mass fraction (uppermost paint)"."""
        kind, _, element = quantity.partition(".")
        if kind in {MASS_FRACTION, AREAL_MASS}:
            sample_name = self.settings_of("quantities").get("sample")
            label_text = f"{element}, {kind.replace('_', ' ')}".removeprefix(", ")
            return f"{label_text} ({sample_name})" if sample_name else label_text
        if kind == AMOUNT:
            name, place = split_place(element)
            element_symbol = self.materials[name].elements[0].partition("_")[0]
            return f"{element_symbol} in the dry paint: {self.label(name, place)}"
        material = material_of(quantity)
        if material is None:
            return "thickness of the surface layer"
        label_text = self.label(material) if material in self.materials else material
        return f"share of the pigments at the surface: {label_text}"

    def short_label(self, name: str) -> str:
        """Return the label of a pigment or group, without its examples in brackets."""
        return self.label(name).partition(" (")[0]

    @property
    def settings(self) -> Mapping[str, Any]:
        """Settings of the run that produced the results; empty if unknown."""
        return self.summary.get("settings") or {}

    @property
    def calibration(self) -> Mapping[str, Any]:
        """Origin of the energy axis; empty if unknown."""
        return self.settings.get("calibration") or {}

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes for the user. Alerts come first."""
        scan_notes = (*self.summary.get("notes", ()), *self.calibration.get("notes", ()))
        process_notes = (note for notes in self.process_notes.values() for note in notes)
        return tuple(dict.fromkeys((*self.alerts, *scan_notes, *process_notes)))

    @property
    def alerts(self) -> tuple[str, ...]:
        """Warnings that results may be wrong or were omitted."""
        return tuple(self.settings.get("alerts", ()))

    @property
    def shape(self) -> tuple[int, int]:
        """Numbers of rows and columns."""
        for stack in self.stacks.values():
            return int(stack.values.shape[0]), int(stack.values.shape[1])
        return 0, 0

    def __iter__(self) -> "Iterator[Results | Mapping[str, Any] | None]":
        """Return an iterator over pigments, elements and summary, as in the tuples of earlier versions."""
        return iter((self if self.has_pigments else None, self if self.has_elements else None, self.summary))

    def __repr__(self) -> str:
        n_row, n_column = self.shape
        lines = [f"<underpaint results of {self.summary.get('name', 'a scan')}: {n_row} rows x {n_column} columns>"]
        if self.has_pigments:
            shares = {name: share_present(self[name]) for name in self.groups}
            present_groups = sorted((name for name in shares if shares[name] > 0), key=lambda name: -shares[name])
            group_texts = (f"{name} {100 * shares[name]:.0f} %" for name in present_groups)
            lines += [
                _listing_line("groups present", group_texts, "none"),
                _listing_line("pigments", self.pigments, "none"),
            ]
            lines += [_listing_line("places", self.places, "none")]
        if self.has_elements:
            lines += [_listing_line("lines", self.lines, "none")]
        for kind in (MASS_FRACTION, AREAL_MASS):
            if kind in self.stacks:
                lines += [_listing_line(kind, (name for (name,) in self.stacks[kind].keys), "none")]
        if self.paints:
            lines += [f"  {'paints':<11} {len(self.paints)}"]
        if self.has_reflectance:
            lines += [_listing_line("surface", (name for (name,) in self.stacks["surface_member"].keys), "none")]
        if self.unexplained is not None:
            lines += [_listing_line("unexplained", (line.family for line in self.unexplained), "nothing")]
        lines += [f"  note        {note}" for note in self.notes]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        dataset: Any = self.to_dataset()
        return f"<pre style='white-space: pre-wrap'>{html.escape(repr(self))}</pre>{dataset._repr_html_()}"

    def _names(self, kind: str) -> tuple[str, ...]:
        return tuple(name for name, material in self.materials.items() if material.kind == kind and self.holds(name))

    def _stack(self, quantity: str) -> Stack:
        if quantity in self.stacks:
            return self.stacks[quantity]
        base_quantity = re.sub("_(sigma|low|high)$", "", quantity)
        quantity_title, command, *requirement = _SOURCE_COMMANDS.get(base_quantity, (quantity, "underpaint identify"))
        raise ScanError(
            f"These results contain no {quantity_title}: {' '.join((f'`{command}`', *requirement))} writes them."
        )

    def _label_coordinates(self, dimension: str, names: Sequence[str]) -> dict[str, Any]:
        return {dimension: list(names), "label": (dimension, [self.label(name) for name in names])}

    def _array_along(self, quantity: str, dimension: str, long_name: str) -> "xr.DataArray":
        keys = list(self._stack(quantity).keys)
        return self._array(quantity, keys, {dimension: [name for (name,) in keys]}, long_name)

    def _array(self, quantity: str, keys: Any, coordinates: Mapping[str, Any], long_name: str) -> "xr.DataArray":
        """Return the maps with the given keys. The keys are nested lists, one level for each labelled dimension."""
        stack = self._stack(quantity)
        _, units = DIMENSIONS[quantity]
        dimensions = [name for name in _LABELLED_DIMENSIONS if name in coordinates]
        if keys == []:
            raise ScanError(f"These results contain no {dimensions[0]}s: the model {self.model_name!r} predicts none.")
        return self._labelled_array(
            _stack_nested(_nested_maps(stack, keys), in_memory=stack.in_memory),
            dimensions,
            coordinates,
            units,
            long_name,
            quantity,
        )

    def _intervals(self, quantities: Any, coordinates: Mapping[str, Any], long_name: str) -> "xr.DataArray":
        """Return medians and intervals of quantities.

        The names of the quantities are nested lists, one level for each coordinate.
        """
        in_memory = all(stack.in_memory for stack in self.stacks.values())
        # quantiles are rounded, so that 0.05 and 0.95 can be used as labels
        quantile_coordinate = {
            "quantile": [round(0.5 + quantile_offset * INTERVAL_PROBABILITY, 6) for quantile_offset in (-0.5, 0.0, 0.5)]
        }

        def read_intervals(quantity: Any) -> list[Any]:
            if isinstance(quantity, list):
                return [read_intervals(nested_quantity) for nested_quantity in quantity]
            map_readers = [
                partial(self._interval_value, quantity, limit_name) for limit_name in ("low", "value", "high")
            ]
            return [
                nested_quantity() if in_memory else _lazy_map(self.shape, np.float32, nested_quantity)
                for nested_quantity in map_readers
            ]

        values, dimensions = _stack_nested(read_intervals(quantities), in_memory=in_memory), [*coordinates, "quantile"]
        first_quantity = quantities
        while isinstance(first_quantity, list):
            first_quantity = first_quantity[0]
        name = first_quantity.split(".")[0]
        return self._labelled_array(
            values, dimensions, {**coordinates, **quantile_coordinate}, unit_of(first_quantity), long_name, name
        )

    def _interval_value(self, quantity: str, limit_name: str) -> NDArray[np.float32]:
        if quantity.startswith(f"{AMOUNT}.") and quantity not in self.amounts:
            return np.full(self.shape, np.nan, np.float32)  # the group has no map at this place
        return np.asarray(getattr(self.estimate(quantity), limit_name), np.float32)

    def _labelled_array(
        self,
        values: Any,
        label_dimensions: Sequence[str],
        coordinates: Mapping[str, Any],
        units: str,
        long_name: str,
        name: str,
    ) -> "xr.DataArray":
        import xarray as xr

        n_row, n_column = self.shape
        pixel_coordinates: dict[str, Any] = {"row": np.arange(n_row), "column": np.arange(n_column)}
        if self.step_mm is not None:
            pixel_coordinates |= {
                "y_mm": ("row", self.step_mm[0] * pixel_coordinates["row"]),
                "x_mm": ("column", self.step_mm[1] * pixel_coordinates["column"]),
            }
        attributes = {"units": units, "long_name": long_name} | self._origin()
        values = values.astype(np.float32) if values.dtype == np.float16 else values  # netCDF has no half precision
        coordinates, dimensions = {**coordinates, **pixel_coordinates}, (*label_dimensions, "row", "column")
        return xr.DataArray(values, coordinates, dimensions, name=name, attrs=attributes)

    def _origin(self) -> dict[str, str]:
        origin = {
            "source": self.settings.get("source", ""),
            "model": self.model_name,
            "underpaint": self.summary.get("versions", {}).get("underpaint", ""),
            "written": self.summary.get("written", ""),
        }
        return {name: str(value) for name, value in origin.items() if value}


def _single_keys(names: Sequence[str]) -> tuple[Key, ...]:
    return tuple((name,) for name in names)


def share_present(probability: NDArray[np.float32]) -> float:
    """Return the fraction of the pixels with a result in which the probability exceeds one half."""
    finite_probability = probability[np.isfinite(probability)]
    return float((finite_probability > PRESENT_PROBABILITY).mean()) if finite_probability.size else 0.0


class BelowSurface(NamedTuple):
    """Summary of where a group is present below the surface.

    Parameters
    ----------
    share : float
        Fraction of the predicted pixels in which the probability exceeds :data:`BELOW_PROBABILITY`.
    certainty : float
        Mean probability in the pixels above :data:`BELOW_PROBABILITY`; NaN if there are no such pixels.
    undetermined_share : float
        Fraction of the predicted pixels in which the probability is between ``1 - BELOW_PROBABILITY`` and
        ``BELOW_PROBABILITY``.
    """

    share: float
    certainty: float
    undetermined_share: float


def below_surface(probability: NDArray[np.float32], has_prediction: NDArray[np.bool_]) -> BelowSurface:
    """Return a summary of where a group is present below the surface.

    Parameters
    ----------
    probability : (n_row, n_column) array
        Map of the group in ``Results.hidden``; NaN where undetermined.
    has_prediction : (n_row, n_column) bool array
        True for pixels that the reflectance cube covers.
    """
    n_predicted = max(int(has_prediction.sum()), 1)
    reported_probabilities = probability[has_prediction & (probability > BELOW_PROBABILITY)]
    is_undetermined = has_prediction & (probability <= BELOW_PROBABILITY) & (probability > 1.0 - BELOW_PROBABILITY)
    certainty = float(reported_probabilities.mean(dtype=np.float64)) if reported_probabilities.size else float("nan")
    return BelowSurface(
        reported_probabilities.size / n_predicted, certainty, float(is_undetermined.sum()) / n_predicted
    )


def cohen_kappa(first_map: NDArray[np.bool_], second_map: NDArray[np.bool_]) -> float:
    """Return Cohen's kappa (Cohen 1960), the agreement of two boolean maps of the same pixels above chance."""
    agreement = float(np.mean(first_map == second_map))
    chance_agreement = float(first_map.mean() * second_map.mean() + (1 - first_map.mean()) * (1 - second_map.mean()))
    return float("nan") if chance_agreement == 1.0 else (agreement - chance_agreement) / (1.0 - chance_agreement)


def _nested_maps(stack: Stack, keys: Any) -> Any:
    """Return maps for nested lists of keys. The maps are nested in the same way.

    Maps in files are read when they are needed. Missing maps are NaN.
    """
    if isinstance(keys, list):
        return [_nested_maps(stack, key) for key in keys]
    shape = (int(stack.values.shape[0]), int(stack.values.shape[1]))
    if keys not in stack:
        return np.full(shape, np.nan, np.float32)
    return stack[keys] if stack.in_memory else _lazy_map(shape, stack.values.dtype, partial(stack.__getitem__, keys))


def _stack_nested(nested_arrays: Any, *, in_memory: bool) -> Any:
    """Return nested lists of arrays as one array."""
    from underpaint.data.dask_array import da

    if not isinstance(nested_arrays, list):
        return nested_arrays
    return (np if in_memory else da).stack(
        [_stack_nested(nested_array, in_memory=in_memory) for nested_array in nested_arrays]
    )


def _lazy_map(shape: tuple[int, int], dtype: Any, read_map: Callable[[], Any]) -> Any:
    import dask

    from underpaint.data.dask_array import da

    return da.from_delayed(dask.delayed(read_map, pure=False)(), shape, dtype)


def _listing_line(line_title: str, names: Iterable[str], empty_text: str) -> str:
    all_names = list(names)
    omitted_text = f", and {len(all_names) - _MAX_LISTED_NAMES} more" if len(all_names) > _MAX_LISTED_NAMES else ""
    return f"  {line_title:11s} {', '.join(all_names[:_MAX_LISTED_NAMES]) + omitted_text if all_names else empty_text}"
