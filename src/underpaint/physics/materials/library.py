"""The pigment library and its palettes; new pigments are added to ``data/pigments.toml``."""

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
_YEARS = range(-40_000, 3001)
PALETTE_KEYS = ("name", "label", "pigments", "first", "last", "painter", "source", "pigment_share")
PIGMENT_SHARE = 0.01
"""Mass fraction of an element in dry paint above which the element is attributed to a pigment; groups may differ."""
_SHARE_LIMITS = (1e-5, 0.3)
"""Smallest and largest mass fraction that networks can use as a threshold."""
STIFF_PASTE = 1.45
"""Oil in hand-ground paint relative to the oil absorption, from Watin's recipe of lead white (early 19th century)."""


@dataclass(frozen=True)
class Period:
    """Years in which painters used a pigment (negative: BC); ``last`` is None for pigments still in use."""

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
        Snake-case key, and name for display.
    components : mapping of str to float
        Mass fraction by chemical formula; one entry for a pure compound.
    density : float
        Density of the dry pigment, in g/cm3.
    groups : tuple of str
        Groups that the pigment belongs to by its elements; empty if it has no detectable line.
    reference_group : str
        Name of the group in the reference, e.g. ``PBCR``.
    accessory : tuple of str
        Detectable elements of the pigment, in too small an amount or too common to make it a member of their group.
    oil_absorption : float or None
        Mass of linseed oil, g, that turns 100 g of pigment into a stiff paste.
    loading : float or None
        Largest mass fraction in a paint film, for materials without an oil absorption: leaf, lakes, dyes.
    colour_index : str
        Colour Index generic name, such as ``PW1``; NR, NY, NB for natural dyes.
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
        """Chemical formula; for a mixture, the formulas and mass per cent of its components."""
        if len(self.components) == 1:
            return next(iter(self.components))
        return " + ".join(f"{formula} ({100 * share:.3g} %)" for formula, share in self.components.items())

    @cached_property
    def mass_fractions(self) -> Mapping[str, float]:
        """Mass fraction of each element; the fractions sum to one."""
        return MappingProxyType(mix_elements(self.components))

    @property
    def achievable_loading(self) -> float | None:
        """Largest mass fraction in a paint film; None if unknown.

        Without ``loading`` it is ``100 / (100 + oil absorption)``: with less oil, the pigment is above its critical
        volume concentration and encloses air (Asbeck & Van Loo 1949).
        """
        if self.loading is not None or self.oil_absorption is None:
            return self.loading
        return 100.0 / (100.0 + self.oil_absorption)


@dataclass(frozen=True)
class PigmentGroup:
    """Pigments that X-ray fluorescence cannot distinguish, detected by one element.

    Parameters
    ----------
    pigment_share : float
        Mass fraction of the element in dry paint above which it is attributed to a pigment, not to a trace.
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
    """The pigments that a search is limited to, by their library names.

    Parameters
    ----------
    first, last : int or None
        First and last year of the palette (negative: BC), for a painter those of the working life.
    painter : str
        Name of the painter; empty for the palette of a period.
    source : str
        Reference for the palette.
    pigment_share : mapping of str to float
        Values by group that replace :attr:`PigmentGroup.pigment_share`.
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
    """Collection of pigments, accessible by name, label, synonym or abbreviation (case-insensitive)."""

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
            No pigment has this name; the message suggests similar names.
        """
        key = self._names.get(_normalise_name(name))
        if key is None:
            matches = get_close_matches(_normalise_name(name), list(self._names), n=3, cutoff=0.5)
            hint = f" Did you mean {', '.join(sorted({self._names[entry] for entry in matches}))}?" if matches else ""
            raise SampleError(f"No pigment is called {name!r}.{hint} `underpaint pigments list` shows all {len(self)}.")
        return self._pigments[key]

    def __contains__(self, name: object) -> bool:
        """Return whether the library has a name, synonym or abbreviation."""
        return isinstance(name, str) and _normalise_name(name) in self._names

    def __iter__(self) -> Iterator[Pigment]:
        """Iterate over the pigments in the order of the tables."""
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
    """Return the library that ships with the package; ``physics/materials/data/README.md`` lists its sources.

    Examples
    --------
    >>> import underpaint as up
    >>> up.library()["vermilion"].groups
    ('mercury_red',)
    """
    pigments = [_pigment(row) for row in data_table("pigments")["pigment"]]
    groups = [
        PigmentGroup(**{**row, "key_families": tuple(row["key_families"])}) for row in data_table("groups")["group"]
    ]
    return Library(pigments, groups)


def palette_names() -> tuple[str, ...]:
    """Return the names of the palettes that ship with the package."""
    folder = files("underpaint.physics.materials") / "data" / "palettes"
    return tuple(sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml")))


def load_palette(name_or_path: str | Path = DEFAULT_PALETTE) -> Palette:
    """Read a palette by name, or from a TOML file with ``name`` and ``pigments``.

    A table ``[pigment_share]`` may set the threshold between trace and pigment of groups (``mercury_red = 0.005``).

    Raises
    ------
    SampleError
        The palette does not exist, is not TOML, or has an unknown key or pigment.
    """
    name = str(name_or_path)
    path = Path(str(files("underpaint.physics.materials") / "data" / "palettes" / f"{name}.toml"))
    if name not in palette_names():
        path = Path(name_or_path)
    if not path.is_file():
        raise SampleError(f"No palette {name!r}: it is neither a file nor one of {', '.join(palette_names())}.")
    return _palette(read_toml(path, SampleError, "the palette"), name)


def save_palette(palette: Palette, path: str | Path, *, replace: bool = True) -> None:
    """Write a palette file (TOML), atomically; :func:`load_palette` reads it.

    Parameters
    ----------
    palette : Palette
    path : str or Path
    replace : bool
        Whether an existing file is replaced; otherwise it is an error.

    Raises
    ------
    SampleError
        The palette is empty, or a pigment is unknown.
    OutputError
        The file cannot be written.
    """
    table = {key: value for key, value in asdict(palette).items() if value not in (None, "", {})}
    _palette(json_types(table), palette.name)
    with atomic_write(path, replace=replace) as part:
        part.write_text(to_toml(table), "utf-8")


def pigment_to_binder_in_oil(pigments: Mapping[str, float], *, factor: float = STIFF_PASTE) -> float:
    """Return the mass ratio of pigment to oil in a ground paint, from the oil absorption.

    Parameters
    ----------
    pigments : mapping of str to float
        Mass share of the dry mixture by pigment name, synonym or abbreviation; any scale.
    factor : float
        Oil in the paint relative to the oil absorption: 1 for the stiffest paste without air, 1.2 for smalt and
        vermilion, 1.45 for hand-ground paint of the 18th and 19th centuries, more for tube colours of the 19th century.

    Returns
    -------
    float
        Value for ``Paint(pigment_to_binder=...)``. The oil absorption of a mixture is the mass-weighted mean.

    Raises
    ------
    SampleError
        A pigment is unknown or has no oil absorption, shares are negative or all zero, or the factor is below one.

    Notes
    -----
    With the factor f and the oil absorption OA, the mass fraction of oil is ``f OA / (100 + f OA)``, hence the ratio is
    ``100 / (f OA)``. The rule and its factors are from a public note on paint physics; ``docs/reference/pigments.md``
    compares the ratios with published recipes.

    Examples
    --------
    >>> round(pigment_to_binder_in_oil({"lead_white": 1.0}), 2)
    6.9
    """
    total = sum(pigments.values())
    if not total > 0 or any(share < 0 for share in pigments.values()):
        raise SampleError(f"Cannot grind {dict(pigments)}: shares must not be negative and must not all be zero.")
    if not factor >= 1:
        raise SampleError(
            f"Cannot grind a paint with {factor} times the oil absorption: below 1 it encloses air; give 1 or more."
        )
    oil_absorption = sum(share / total * _oil_absorption(name) for name, share in pigments.items())
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
    """Return the mass fractions by element of a mixture of formulas with given mass fractions."""
    total: dict[str, float] = {}
    for formula, share in components.items():
        for element, fraction in mass_fractions(formula).items():
            total[element] = total.get(element, 0.0) + share * fraction
    total_mass = sum(total.values())
    return {element: fraction / total_mass for element, fraction in total.items()}


@lru_cache
def data_table(name: str) -> dict[str, Any]:
    """Return one of the package's data tables by file name."""
    return tomllib.loads((files("underpaint.physics.materials") / "data" / f"{name}.toml").read_text("utf-8"))


def _pigment(row: Mapping[str, Any]) -> Pigment:
    other_fields = {key: value for key, value in row.items() if key not in {"formula", "components", "period"}}
    components = row.get("components") or {row["formula"]: 1.0}
    for key in ("groups", "synonyms", "accessory"):
        other_fields[key] = tuple(other_fields.get(key, ()))
    return Pigment(
        **other_fields, components=MappingProxyType(dict(components)), period=Period(**row.get("period", {}))
    )


def _palette(table: Mapping[str, Any], name: str) -> Palette:
    unknown = [key for key in table if key not in PALETTE_KEYS]
    if unknown:
        raise SampleError(
            f"Cannot use the palette {name!r}: it has the unknown keys {', '.join(unknown)}; allowed "
            f"are {', '.join(PALETTE_KEYS)}. Remove the others; new pigments belong into the library."
        )
    pigments = table.get("pigments")
    if not isinstance(pigments, list) or not pigments or not all(isinstance(entry, str) for entry in pigments):
        raise SampleError(
            f"Cannot use the palette {name!r}: it needs a list `pigments = [...]` with at least one name."
        )
    texts = {key: table[key] for key in ("name", "label", "painter", "source") if key in table}
    wrong_key = next((key for key, text in texts.items() if not isinstance(text, str)), None)
    if wrong_key is not None or len(pigments) > MAX_PIGMENTS:
        reason = (
            f"`{wrong_key}` is not a string"
            if wrong_key
            else f"{len(pigments)} pigments, up to {MAX_PIGMENTS} are allowed"
        )
        raise SampleError(f"Cannot use the palette {name!r}: {reason}. Correct the file.")
    for text in (*pigments, *texts.values()):
        if fault := fault_of_name(text):
            raise SampleError(f"Cannot use the palette {name!r}: {fault}. Correct the file.")
    names = tuple(dict.fromkeys(library()[entry].name for entry in pigments))
    years = {key: table[key] for key in ("first", "last") if key in table}
    if any(not isinstance(year, int) or isinstance(year, bool) or year not in _YEARS for year in years.values()):
        raise SampleError(
            f"Cannot use the palette {name!r}: `first` and `last` are years, integers from {_YEARS[0]} to "
            f"{_YEARS[-1]}; it holds {str(years)[:200]}."
        )
    shares = table.get("pigment_share", {})
    if not isinstance(shares, dict) or not all(_is_share(share) for share in shares.values()):
        raise SampleError(
            f"Cannot use the palette {name!r}: `pigment_share` is a table of mass fractions by group, from "
            f"{_SHARE_LIMITS[0]:g} to {_SHARE_LIMITS[1]:g} (`mercury_red = 0.01`); it holds "
            f"{str(shares)[:200]}."
        )
    for group in shares:
        library().group(group)
    return Palette(
        str(table.get("name", Path(name).stem)),
        names,
        label=str(table.get("label", "")),
        first=years.get("first"),
        last=years.get("last"),
        painter=str(table.get("painter", "")),
        source=str(table.get("source", "")),
        pigment_share={group: float(share) for group, share in shares.items()},
    )


def _is_share(share: object) -> bool:
    return (
        isinstance(share, int | float) and not isinstance(share, bool) and _SHARE_LIMITS[0] <= share <= _SHARE_LIMITS[1]
    )


@cache
def _normalise_name(name: str) -> str:
    return " ".join(name.casefold().replace("_", " ").replace("-", " ").split())
