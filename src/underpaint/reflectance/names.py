"""Map the names of measured spectra to pigments, and pigments to members, which reflectance can distinguish."""

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
    """Return the tables in ``data/names.toml``."""
    return MappingProxyType(tomllib.loads((files("underpaint.reflectance") / "data" / "names.toml").read_text("utf-8")))


@lru_cache
def _members_by_pigment() -> Mapping[str, str]:
    return {
        equivalent: member
        for member, equivalent_pigments in name_table()["members"].items()
        for equivalent in equivalent_pigments
    }


def member_of(pigment: str) -> str:
    """Return the name of the member that a pigment belongs to.

    A member is a set of pigments with the same reflectance, named after one of these pigments. A pigment that
    ``names.toml`` does not list is a member by itself.
    """
    return _members_by_pigment().get(pigment, pigment)


def pigments_of(member: str) -> tuple[str, ...]:
    """Return the pigments of a member, beginning with the pigment that gives the member its name."""
    return (member, *name_table()["members"].get(member, ()))


def groups_of(member: str) -> tuple[frozenset[str], ...]:
    """Return the distinct sets of XRF groups among the pigments of a member.

    The set of a pigment is empty if XRF cannot detect the pigment, or if the pigment library lacks it.
    """
    pigment_library = library()
    group_sets = [frozenset(pigment_library[name].groups) for name in pigments_of(member) if name in pigment_library]
    return tuple(dict.fromkeys(group_sets)) or (frozenset(),)


def pigment_of(name: str) -> str:
    """Return the pigment to which the name of a measured spectrum refers; "" if no pigment is recognised.

    The name is first compared with the names and synonyms in the pigment library. If the name equals none of these,
    three kinds of text are searched in it, in this order: phrases listed in ``names.toml``, names in the pigment
    library (the longest counts), and Colour Index names (PB29) whose pigments all belong to one member.

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
    """Return the pigments named in the name of a mixture such as "azurite + lead white", one for each member.

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
        if len(name) > 3  # short abbreviations such as "LW" occur within too many words
    }
    return tuple(sorted(names.items(), key=lambda name_and_pigment: -len(name_and_pigment[0])))


def _normalise_name(name: str) -> str:
    return " ".join(re.sub(r"[\W_]+", " ", name.casefold()).split())


def _contains_phrase(name: str, phrase: str) -> bool:
    return re.search(rf"\b{re.escape(phrase)}", name) is not None
