"""The pigment library and its palettes; new pigments are added to ``data/pigments.toml``."""

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from difflib import get_close_matches
from functools import cached_property, lru_cache
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import Any

from underpaint.errors import SampleError
from underpaint.physics.materials.formula import mass_fractions
from underpaint.runtime.files import atomic_write, plain
from underpaint.runtime.toml_text import to_toml
from underpaint.runtime.untrusted import fault_of_name, read_toml

DEFAULT_PALETTE = "easel_15_to_20"
MAX_PIGMENTS = 1000
_YEARS = range(-40_000, 3001)
PALETTE_KEYS = ("name", "label", "pigments", "first", "last", "painter", "source", "pigment_share")
PIGMENT_SHARE = 0.01
"""Mass fraction of an element in dry paint from which it counts as a pigment, where a group says nothing else."""
_SHARES = (1e-5, 0.3)
"""Mass fractions that networks tell apart."""
STIFF_PASTE = 1.45
"""Oil in hand-ground paint relative to the oil absorption, from Watin's lead white of the early 19th century."""


@dataclass(frozen=True)
class Period:
    """When painters used a pigment: years (negative: BC); ``last`` None while it is in use."""

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
        Snake-case key, and the name for people.
    components : mapping of str to float
        Mass share by chemical formula; one entry for a pure compound.
    density : float
        Of the dry pigment, g/cm3.
    groups : tuple of str
        Elementary equivalence groups of the pigment; empty if it has no detectable line.
    reference_group : str
        The group in the reference, e.g. ``PBCR``.
    accessory : tuple of str
        Detectable elements of the pigment that do not make it a member of their group: too little, or too common.
    oil_absorption : float or None
        g linseed oil that turn 100 g pigment into a stiff paste.
    loading : float or None
        Largest mass fraction in a paint film where it does not follow from the oil absorption: leaf, lakes, dyes.
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
        """The formula; of a mixture, its components with their mass per cent."""
        if len(self.components) == 1:
            return next(iter(self.components))
        return " + ".join(f"{formula} ({100 * share:.3g} %)" for formula, share in self.components.items())

    @cached_property
    def mass_fractions(self) -> Mapping[str, float]:
        """Mass fraction by element; they sum to one."""
        return MappingProxyType(mix_elements(self.components))

    @property
    def achievable_loading(self) -> float | None:
        """Largest mass fraction in a paint film; None if unknown.

        Without a loading it is ``100 / (100 + oil absorption)``: with less oil than the absorption, the pigment is
        above its critical volume concentration and encloses air (Asbeck & Van Loo 1949).
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
        Mass fraction of the element in dry paint from which it comes from a pigment of the group, not from a trace.
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
        Years of the palette (negative: BC); a painter's working life.
    painter : str
        Name of the painter; empty for a period.
    source : str
        Source of the palette.
    pigment_share : mapping of str to float
        Of groups, in place of :attr:`PigmentGroup.pigment_share`.
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
    """Pigments by name, label, synonym or abbreviation; case-insensitive."""

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
            There is none of that name; the message offers the nearest.
        """
        key = self._names.get(_normalise_name(name))
        if key is None:
            near = get_close_matches(_normalise_name(name), list(self._names), n=3, cutoff=0.5)
            hint = f" Did you mean {', '.join(sorted({self._names[entry] for entry in near}))}?" if near else ""
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
            There is no such group.
        """
        for group in self.groups:
            if group.name == name:
                return group
        raise SampleError(
            f"No pigment group is called {name!r}; there are {', '.join(group.name for group in self.groups)}."
        )

    def members(self, group: str) -> tuple[Pigment, ...]:
        """Return the pigments that count as a group."""
        return tuple(pigment for pigment in self if group in pigment.groups)


@lru_cache(maxsize=1)
def library() -> Library:
    """Return the library that ships with the package (see ``sample/data/README.md`` for its sources).

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
    """Read a palette by name, or a TOML file with ``name`` and ``pigments``.

    A table ``[pigment_share]`` may give groups another threshold between trace and pigment (``mercury_red = 0.005``).

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
    _palette(plain(table), palette.name)
    with atomic_write(path, replace=replace) as part:
        part.write_text(to_toml(table), "utf-8")


def pigment_to_binder_in_oil(pigments: Mapping[str, float], *, factor: float = STIFF_PASTE) -> float:
    """Return g pigment per g oil of a paint as it was ground, from the oil absorption.

    Parameters
    ----------
    pigments : mapping of str to float
        Mass share of the dry mixture by pigment name, synonym or abbreviation; any scale.
    factor : float
        Oil in the paint relative to the oil absorption: 1 for the stiffest paste without air, 1.45 for hand-ground
        paint of the 18th and 19th centuries, 1.2 for smalt and vermilion; tube colours of the 19th century contain
        more.

    Returns
    -------
    float
        For ``Paint(pigment_to_binder=...)``. Oil absorptions of the parts add by mass.

    Raises
    ------
    SampleError
        A pigment is unknown or has no oil absorption, shares are negative or all zero, or the factor is below one.

    Notes
    -----
    Oil share ``w = f OA / (100 + f OA)``, hence a ratio of ``100 / (f OA)``. The rule and its factors are from a public
    note on paint physics; ``docs/reference/pigments.md`` compares it with published recipes.

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
    absorbed = sum(share / total * _oil_absorption(name) for name, share in pigments.items())
    return 100.0 / (factor * absorbed)


def _oil_absorption(name: str) -> float:
    pigment = library()[name]
    if pigment.oil_absorption is None:
        raise SampleError(
            f"Cannot compute how much oil {pigment.label} takes: the library has no oil absorption for it. "
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
    rest = {key: value for key, value in row.items() if key not in {"formula", "components", "period"}}
    components = row.get("components") or {row["formula"]: 1.0}
    for key in ("groups", "synonyms", "accessory"):
        rest[key] = tuple(rest.get(key, ()))
    return Pigment(**rest, components=MappingProxyType(dict(components)), period=Period(**row.get("period", {})))


def _palette(table: Mapping[str, Any], name: str) -> Palette:
    unknown = [key for key in table if key not in PALETTE_KEYS]
    if unknown:
        raise SampleError(
            f"Cannot use the palette {name!r}: it has {', '.join(unknown)}, which a palette does not allow; "
            f"it takes {', '.join(PALETTE_KEYS)}. Remove the rest; new pigments go into the library."
        )
    pigments = table.get("pigments")
    if not isinstance(pigments, list) or not pigments or not all(isinstance(entry, str) for entry in pigments):
        raise SampleError(
            f"Cannot use the palette {name!r}: it needs a list `pigments = [...]` with at least one name."
        )
    texts = {key: table[key] for key in ("name", "label", "painter", "source") if key in table}
    wrong = next((key for key, text in texts.items() if not isinstance(text, str)), None)
    if wrong is not None or len(pigments) > MAX_PIGMENTS:
        reason = f"`{wrong}` is no text" if wrong else f"{len(pigments)} pigments, up to {MAX_PIGMENTS} are allowed"
        raise SampleError(f"Cannot use the palette {name!r}: {reason}. Correct the file.")
    for text in (*pigments, *texts.values()):
        if fault := fault_of_name(text):
            raise SampleError(f"Cannot use the palette {name!r}: {fault}. Correct the file.")
    names = tuple(dict.fromkeys(library()[entry].name for entry in pigments))
    years = {key: table[key] for key in ("first", "last") if key in table}
    if any(not isinstance(year, int) or isinstance(year, bool) or year not in _YEARS for year in years.values()):
        raise SampleError(
            f"Cannot use the palette {name!r}: `first` and `last` are years, whole numbers from {_YEARS[0]} to "
            f"{_YEARS[-1]}; it holds {str(years)[:200]}."
        )
    shares = table.get("pigment_share", {})
    if not isinstance(shares, dict) or not all(_is_share(share) for share in shares.values()):
        raise SampleError(
            f"Cannot use the palette {name!r}: `pigment_share` gives groups the mass fraction from which their element "
            f"counts as a pigment, {_SHARES[0]:g} to {_SHARES[1]:g} (`mercury_red = 0.01`); it holds "
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
    return isinstance(share, int | float) and not isinstance(share, bool) and _SHARES[0] <= share <= _SHARES[1]


def _normalise_name(name: str) -> str:
    return " ".join(name.casefold().replace("_", " ").replace("-", " ").split())
