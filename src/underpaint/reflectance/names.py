"""Map the names of measured spectra to pigments, and pigments to members that reflectance can distinguish."""

import re
import tomllib
from collections.abc import Mapping
from functools import lru_cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any

from underpaint.physics.materials import library


@lru_cache
def name_table() -> Mapping[str, Any]:
    """Return the tables of ``data/names.toml``."""
    return MappingProxyType(tomllib.loads((files("underpaint.reflectance") / "data" / "names.toml").read_text("utf-8")))


@lru_cache
def _members_by_pigment() -> Mapping[str, str]:
    return {
        equivalent: member
        for member, equivalent_pigments in name_table()["members"].items()
        for equivalent in equivalent_pigments
    }


def member_of(pigment: str) -> str:
    """Return the member that a pigment belongs to, named after one of its pigments.

    A member is a set of pigments with the same reflectance. A pigment that is not listed in ``names.toml`` is a member
    by itself.
    """
    return _members_by_pigment().get(pigment, pigment)


def pigments_of(member: str) -> tuple[str, ...]:
    """Return the pigments that have the reflectance of a member, first the one after which the member is named."""
    return (member, *name_table()["members"].get(member, ()))


def groups_of(member: str) -> tuple[frozenset[str], ...]:
    """Return the distinct sets of XRF groups of the pigments of a member.

    The set is empty for a pigment that XRF cannot detect and for a member that is not in the pigment library.
    """
    pigment_library = library()
    group_sets = [frozenset(pigment_library[name].groups) for name in pigments_of(member) if name in pigment_library]
    return tuple(dict.fromkeys(group_sets)) or (frozenset(),)


def pigment_of(name: str) -> str:
    """Return the pigment that the name of a measured spectrum refers to; "" if none is recognised.

    The name is compared with the names and synonyms of the pigment library first. If none is equal, the name may
    contain a phrase listed in ``names.toml``, or a name of the pigment library, of which the longest counts. Finally,
    the name may contain a Colour Index name (PB29) whose pigments all belong to one member.

    Examples
    --------
    >>> pigment_of("Natural azurite 40 um, gum arabic")
    'azurite'
    """
    normalised_name = _normalise_name(name)
    if normalised_name in library():
        return library()[normalised_name].name
    for phrase, pigment in name_table()["words"].items():
        if _contains_phrase(normalised_name, phrase):
            return str(pigment)
    for known_name, pigment in _pigments_by_name():
        if _contains_phrase(normalised_name, known_name):
            return pigment
    colour_indices = (
        code_letters + code_number
        for code_letters, code_number in re.findall(r"\b(p[bgorvwy]|pbk|pbr|nr) ?(\d+)\b", normalised_name)
    )
    return next(
        (
            _pigments_by_colour_index()[colour_index]
            for colour_index in colour_indices
            if colour_index in _pigments_by_colour_index()
        ),
        "",
    )


def pigments_in(name: str) -> tuple[str, ...]:
    """Return the pigments in the name of a mixture such as "azurite + lead white", one pigment for each member.

    Examples
    --------
    >>> pigments_in("azurite + lead white")
    ('azurite', 'lead_white')
    """
    pigments = [pigment_of(name_part) for name_part in re.split(r"[+&/]|\b(?:and|with)\b", name)]
    return tuple({member_of(pigment): pigment for pigment in pigments if pigment}.values())


@lru_cache
def _pigments_by_colour_index() -> dict[str, str]:
    pigments: dict[str, list[str]] = {}
    for pigment in library():
        pigments.setdefault(pigment.colour_index.casefold(), []).append(pigment.name)
    return {colour_index: names[0] for colour_index, names in pigments.items() if len(set(map(member_of, names))) == 1}


@lru_cache
def _pigments_by_name() -> tuple[tuple[str, str], ...]:
    names = {
        _normalise_name(name): pigment.name
        for pigment in library()
        for name in (pigment.name, pigment.label, *pigment.synonyms)
        if len(name) > 3  # short abbreviations such as "LW" are part of too many words
    }
    return tuple(sorted(names.items(), key=lambda name_and_pigment: -len(name_and_pigment[0])))


def _normalise_name(name: str) -> str:
    return " ".join(re.sub(r"[\W_]+", " ", name.casefold()).split())


def _contains_phrase(name: str, phrase: str) -> bool:
    return re.search(rf"\b{re.escape(phrase)}", name) is not None
