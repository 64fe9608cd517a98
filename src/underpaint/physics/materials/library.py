"""The pigment library and the palettes. Add new pigments to ``data/pigments.toml``."""

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from difflib import get_close_matches
from functools import cache, cached_property, lru_cache
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import Any

from underpaint.errors import SampleError
from underpaint.physics.materials.formula import mass_fractions
from underpaint.runtime.files import atomic_write, json_types
from underpaint.runtime.toml_text import to_toml
from underpaint.runtime.untrusted import fault_of_name, read_toml

DEFAULT_PALETTE = "easel_15_to_20"
MAX_PIGMENTS = 1000
_VALID_YEARS = range(-40_000, 3001)
PALETTE_KEYS = ("name", "label", "pigments", "first", "last", "painter", "source", "pigment_share")
PIGMENT_SHARE = 0.01
"""Default threshold: the mass fraction of an element in dry paint above which the element is attributed to a
pigment."""
_PIGMENT_SHARE_LIMITS = (1e-5, 0.3)
"""Smallest and largest mass fraction that a network can use as threshold between trace and pigment."""
OIL_FACTOR = 1.45
"""Ratio of the oil in hand-ground paint to the oil absorption, from Watin's recipe for lead white (early 19th
century)."""


@dataclass(frozen=True)
class Period:
    """Years in which painters used a pigment; BC is negative. ``last`` is None for pigments that are still in use."""

    first: int | None = None
    last: int | None = None
    text: str = ""
    source: str = ""

    def overlaps(self, first: int, last: int) -> bool:
        """Return whether the period overlaps the years ``first`` to ``last``."""
        return (self.first is None or self.first <= last) and (self.last is None or self.last >= first)


@dataclass(frozen=True)
class Pigment:
    """A dry pigment, ground or extender.

    Parameters
    ----------
    name, label : str
        Key in snake case, and name for display.
    components : mapping of str to float
        Mass fraction of each component, by chemical formula; a pure compound has one entry.
    density : float
        Density of the dry pigment, in g/cm3.
    groups : tuple of str
        Groups that the pigment belongs to, by its elements; empty if the pigment has no detectable line.
    reference_group : str
        Name that the reference uses for the group, such as ``PBCR``.
    accessory : tuple of str
        Detectable elements that are too common, or too little in amount, to make the pigment a member of a group.
    oil_absorption : float or None
        Mass of linseed oil, in g, that turns 100 g of pigment into a stiff paste.
    loading : float or None
        Largest mass fraction of the pigment in a paint film, for materials without oil absorption: leaf, lakes, dyes.
    colour_index : str
        Colour Index generic name, such as ``PW1``. Names of natural dyes begin with NR, NY or NB.
    """

    name: str
    label: str
    components: Mapping[str, float]
    density: float
    formula_source: str
    density_source: str
    groups: tuple[str, ...] = ()
    synonyms: tuple[str, ...] = ()
    abbreviation: str = ""
    reference_group: str = ""
    period: Period = field(default_factory=Period)
    accessory: tuple[str, ...] = ()
    oil_absorption: float | None = None
    oil_absorption_source: str = ""
    loading: float | None = None
    loading_source: str = ""
    colour_index: str = ""
    color: str = "#808080"
    role: str = "pigment"
    note: str = ""

    @property
    def formula(self) -> str:
        """Chemical formula; for a mixture, formula and mass per cent of each component."""
        if len(self.components) == 1:
            return next(iter(self.components))
        return " + ".join(f"{formula} ({100 * share:.3g} %)" for formula, share in self.components.items())

    @cached_property
    def mass_fractions(self) -> Mapping[str, float]:
        """Mass fraction of each element; the fractions sum to one."""
        return MappingProxyType(mix_elements(self.components))

    @property
    def achievable_loading(self) -> float | None:
        """Largest mass fraction of the pigment in a paint film; None if unknown.

        If ``loading`` is None, the value is ``100 / (100 + oil absorption)``. With less oil, the paint exceeds the
        critical pigment volume concentration and encloses air (Asbeck & Van Loo 1949).
        """
        if self.loading is not None or self.oil_absorption is None:
            return self.loading
        return 100.0 / (100.0 + self.oil_absorption)


@dataclass(frozen=True)
class PigmentGroup:
    """Pigments that are detected by the same element, so that X-ray fluorescence cannot distinguish them.

    Parameters
    ----------
    pigment_share : float
        Mass fraction of the element in dry paint above which the element is attributed to a pigment, not to a trace.
    """

    name: str
    label: str
    element: str
    key_families: tuple[str, ...]
    visible: bool = True
    color: str = "#808080"
    pigment_share: float = PIGMENT_SHARE


@dataclass(frozen=True)
class Palette:
    """Library pigments to which a search is limited.

    Parameters
    ----------
    first, last : int or None
        First and last year of the palette (negative: BC). For a painter, these are the years of the working life.
    painter : str
        Name of the painter; empty for the palette of a period.
    source : str
        Reference for the palette.
    pigment_share : mapping of str to float
        Values, by group, that replace :attr:`PigmentGroup.pigment_share`.
    """

    name: str
    pigments: tuple[str, ...]
    label: str = ""
    first: int | None = None
    last: int | None = None
    painter: str = ""
    source: str = ""
    pigment_share: Mapping[str, float] = field(default_factory=dict)


class Library:
    """Collection of pigments, found by name, label, synonym or abbreviation (case-insensitive)."""

    def __init__(self, pigments: Sequence[Pigment], groups: Sequence[PigmentGroup]) -> None:
        self._pigments = {pigment.name: pigment for pigment in pigments}
        self.groups = tuple(groups)
        self._names: dict[str, str] = {}
        for pigment in pigments:
            for alias in (pigment.name, pigment.label, pigment.abbreviation, *pigment.synonyms):
                if alias:
                    self._names.setdefault(_normalise_name(alias), pigment.name)

    def __getitem__(self, name: str) -> Pigment:
        """Return a pigment.

        Raises
        ------
        SampleError
            No pigment has this name. The message suggests similar names.
        """
        library_name = self._names.get(_normalise_name(name))
        if library_name is None:
            similar_names = get_close_matches(_normalise_name(name), list(self._names), n=3, cutoff=0.5)
            suggestion = (
                f" Did you mean {', '.join(sorted({self._names[similar_name] for similar_name in similar_names}))}?"
                if similar_names
                else ""
            )
            raise SampleError(
                f"No pigment is called {name!r}.{suggestion} `underpaint pigments list` shows all {len(self)}."
            )
        return self._pigments[library_name]

    def __contains__(self, name: object) -> bool:
        """Return whether a pigment has this name, label, synonym or abbreviation."""
        return isinstance(name, str) and _normalise_name(name) in self._names

    def __iter__(self) -> Iterator[Pigment]:
        """Iterate over the pigments, in the order of ``data/pigments.toml``."""
        return iter(self._pigments.values())

    def __len__(self) -> int:
        """Return the number of pigments."""
        return len(self._pigments)

    def group(self, name: str) -> PigmentGroup:
        """Return a group by name.

        Raises
        ------
        SampleError
            No group has this name.
        """
        for group in self.groups:
            if group.name == name:
                return group
        raise SampleError(
            f"No pigment group is called {name!r}; there are {', '.join(group.name for group in self.groups)}."
        )

    def members(self, group: str) -> tuple[Pigment, ...]:
        """Return the pigments that belong to a group."""
        return tuple(pigment for pigment in self if group in pigment.groups)


@lru_cache(maxsize=1)
def library() -> Library:
    """Return the library that ships with the package; ``physics/materials/data/README.md`` lists the sources.

    Examples
    --------
    >>> import underpaint as up
    >>> up.library()["vermilion"].groups
    ('mercury_red',)
    """
    pigments = [_make_pigment(table_row) for table_row in data_table("pigments")["pigment"]]
    groups = [
        PigmentGroup(**{**table_row, "key_families": tuple(table_row["key_families"])})
        for table_row in data_table("groups")["group"]
    ]
    return Library(pigments, groups)


def palette_names() -> tuple[str, ...]:
    """Return the names of the palettes that ship with the package."""
    folder = files("underpaint.physics.materials") / "data" / "palettes"
    return tuple(sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml")))


def load_palette(name_or_path: str | Path = DEFAULT_PALETTE) -> Palette:
    """Read a palette of the package by name, or a TOML file with ``name`` and ``pigments`` by path.

    An optional table ``[pigment_share]`` sets the threshold between trace and pigment for groups (``mercury_red =
    0.005``).

    Raises
    ------
    SampleError
        The palette does not exist, is not valid TOML, or contains an unknown key or pigment.
    """
    name = str(name_or_path)
    path = Path(str(files("underpaint.physics.materials") / "data" / "palettes" / f"{name}.toml"))
    if name not in palette_names():
        path = Path(name_or_path)
    if not path.is_file():
        raise SampleError(f"No palette {name!r}: it is neither a file nor one of {', '.join(palette_names())}.")
    return _make_palette(read_toml(path, SampleError, "the palette"), name)


def save_palette(palette: Palette, path: str | Path, *, replace: bool = True) -> None:
    """Write a palette file (TOML), atomically; :func:`load_palette` reads it.

    Parameters
    ----------
    palette : Palette
    path : str or Path
    replace : bool
        Whether to replace an existing file, or to raise an error if the file exists.

    Raises
    ------
    SampleError
        The palette is empty, or a pigment is unknown.
    OutputError
        The file cannot be written.
    """
    palette_table = {
        key: palette_value for key, palette_value in asdict(palette).items() if palette_value not in (None, "", {})
    }
    _make_palette(json_types(palette_table), palette.name)
    with atomic_write(path, replace=replace) as temporary_path:
        temporary_path.write_text(to_toml(palette_table), "utf-8")


def pigment_to_binder_in_oil(pigments: Mapping[str, float], *, factor: float = OIL_FACTOR) -> float:
    """Return the mass ratio of pigment to oil in a ground paint, from the oil absorption.

    Parameters
    ----------
    pigments : mapping of str to float
        Mass share of each pigment in the dry mixture, by name, synonym or abbreviation, on any scale.
    factor : float
        Ratio of the oil in the paint to the oil absorption. The factor is 1 for the stiffest paste without air, and 1.2
        for smalt and vermilion. For hand-ground paint of the 18th and 19th centuries, it is 1.45. Tube colours of the
        19th century contain more oil.

    Returns
    -------
    float
        Value for ``Paint(pigment_to_binder=...)``. The oil absorption of a mixture is the mass-weighted mean over its
        pigments.

    Raises
    ------
    SampleError
        A pigment is unknown or has no oil absorption, a share is negative, all shares are zero, or the factor is below
        one.

    Notes
    -----
    For a factor f and an oil absorption OA, the mass fraction of oil is ``f OA / (100 + f OA)``. The mass ratio of
    pigment to oil is ``100 / (f OA)``. The rule and the factors are from a public note on paint physics. The page
    ``docs/reference/pigments.md`` compares the ratios with published recipes.

    Examples
    --------
    >>> round(pigment_to_binder_in_oil({"lead_white": 1.0}), 2)
    6.9
    """
    total_share = sum(pigments.values())
    if not total_share > 0 or any(share < 0 for share in pigments.values()):
        raise SampleError(f"Cannot grind {dict(pigments)}: shares must not be negative and must not all be zero.")
    if not factor >= 1:
        raise SampleError(
            f"Cannot grind a paint with {factor} times the oil absorption: below 1 the paint encloses air; "
            "give 1 or more."
        )
    oil_absorption = sum(share / total_share * _oil_absorption(name) for name, share in pigments.items())
    return 100.0 / (factor * oil_absorption)


def _oil_absorption(name: str) -> float:
    pigment = library()[name]
    if pigment.oil_absorption is None:
        raise SampleError(
            f"Cannot compute the oil in paint with {pigment.label}: the library has no oil absorption for it. "
            f"Give pigment_to_binder as a number."
        )
    return pigment.oil_absorption


def mix_elements(components: Mapping[str, float]) -> dict[str, float]:
    """Return the mass fraction of each element in a mixture, given the mass fraction of each compound."""
    element_masses: dict[str, float] = {}
    for formula, share in components.items():
        for element, mass_fraction in mass_fractions(formula).items():
            element_masses[element] = element_masses.get(element, 0.0) + share * mass_fraction
    total_mass = sum(element_masses.values())
    return {element: mass_fraction / total_mass for element, mass_fraction in element_masses.items()}


@lru_cache
def data_table(table_name: str) -> dict[str, Any]:
    """Return a data table of the package, by file name."""
    return tomllib.loads((files("underpaint.physics.materials") / "data" / f"{table_name}.toml").read_text("utf-8"))


def _make_pigment(table_row: Mapping[str, Any]) -> Pigment:
    other_fields = {key: value for key, value in table_row.items() if key not in {"formula", "components", "period"}}
    components = table_row.get("components") or {table_row["formula"]: 1.0}
    for key in ("groups", "synonyms", "accessory"):
        other_fields[key] = tuple(other_fields.get(key, ()))
    return Pigment(
        **other_fields, components=MappingProxyType(dict(components)), period=Period(**table_row.get("period", {}))
    )


def _make_palette(palette_table: Mapping[str, Any], name: str) -> Palette:
    unknown_keys = [key for key in palette_table if key not in PALETTE_KEYS]
    if unknown_keys:
        raise SampleError(
            f"Cannot use the palette {name!r}: it has the unknown keys {', '.join(unknown_keys)}; allowed "
            f"are {', '.join(PALETTE_KEYS)}. Remove the unknown keys; new pigments belong in the library."
        )
    pigments = palette_table.get("pigments")
    if (
        not isinstance(pigments, list)
        or not pigments
        or not all(isinstance(pigment_name, str) for pigment_name in pigments)
    ):
        raise SampleError(
            f"Cannot use the palette {name!r}: it needs a list `pigments = [...]` with at least one name."
        )
    text_by_key = {key: palette_table[key] for key in ("name", "label", "painter", "source") if key in palette_table}
    wrong_key = next((key for key, text_value in text_by_key.items() if not isinstance(text_value, str)), None)
    if wrong_key is not None or len(pigments) > MAX_PIGMENTS:
        reason = (
            f"`{wrong_key}` is not a string"
            if wrong_key
            else f"{len(pigments)} pigments, up to {MAX_PIGMENTS} are allowed"
        )
        raise SampleError(f"Cannot use the palette {name!r}: {reason}. Correct the file.")
    for text_value in (*pigments, *text_by_key.values()):
        if fault := fault_of_name(text_value):
            raise SampleError(f"Cannot use the palette {name!r}: {fault}. Correct the file.")
    pigment_names = tuple(dict.fromkeys(library()[pigment_name].name for pigment_name in pigments))
    year_by_key = {key: palette_table[key] for key in ("first", "last") if key in palette_table}
    if any(
        not isinstance(year, int) or isinstance(year, bool) or year not in _VALID_YEARS for year in year_by_key.values()
    ):
        raise SampleError(
            f"Cannot use the palette {name!r}: `first` and `last` are years, integers from {_VALID_YEARS[0]} to "
            f"{_VALID_YEARS[-1]}; it holds {str(year_by_key)[:200]}."
        )
    share_by_group = palette_table.get("pigment_share", {})
    if not isinstance(share_by_group, dict) or not all(
        _is_valid_pigment_share(share) for share in share_by_group.values()
    ):
        raise SampleError(
            f"Cannot use the palette {name!r}: `pigment_share` is a table of mass fractions by group, from "
            f"{_PIGMENT_SHARE_LIMITS[0]:g} to {_PIGMENT_SHARE_LIMITS[1]:g} (`mercury_red = 0.01`); it holds "
            f"{str(share_by_group)[:200]}."
        )
    for group in share_by_group:
        library().group(group)
    return Palette(
        str(palette_table.get("name", Path(name).stem)),
        pigment_names,
        label=str(palette_table.get("label", "")),
        first=year_by_key.get("first"),
        last=year_by_key.get("last"),
        painter=str(palette_table.get("painter", "")),
        source=str(palette_table.get("source", "")),
        pigment_share={group: float(share) for group, share in share_by_group.items()},
    )


def _is_valid_pigment_share(share: object) -> bool:
    return (
        isinstance(share, int | float)
        and not isinstance(share, bool)
        and _PIGMENT_SHARE_LIMITS[0] <= share <= _PIGMENT_SHARE_LIMITS[1]
    )


@cache
def _normalise_name(name: str) -> str:
    return " ".join(name.casefold().replace("_", " ").replace("-", " ").split())
