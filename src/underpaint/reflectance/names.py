"""Names of measured spectra -> pigments of the library, and which of those light cannot tell apart."""

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
    """Return ``data/names.toml``."""
    return MappingProxyType(tomllib.loads((files("underpaint.reflectance") / "data" / "names.toml").read_text("utf-8")))


@lru_cache
def _members() -> Mapping[str, str]:
    return {other: first for first, equivalents in name_table()["members"].items() for other in equivalents}


def member_of(pigment: str) -> str:
    """Return the pigment that stands for all that light cannot tell from ``pigment``; itself where there is none."""
    return _members().get(pigment, pigment)


def pigments_of(member: str) -> tuple[str, ...]:
    """Return the pigments that a member stands for, itself first."""
    return (member, *name_table()["members"].get(member, ()))


def groups_of(member: str) -> tuple[frozenset[str], ...]:
    """Return the groups that X-ray fluorescence sees of a member: a set for each of its pigments, empty where blind.

    A member that the pigment library does not know has one empty set.
    """
    known = library()
    sets = [frozenset(known[name].groups) for name in pigments_of(member) if name in known]
    return tuple(dict.fromkeys(sets)) or (frozenset(),)


def pigment_of(name: str) -> str:
    """Return the pigment that a measured spectrum's name means; "" if none is recognised.

    Tried in turn: the pigment library's names and synonyms; the words of ``names.toml`` in their order; the longest
    name of the library that stands in it.

    Examples
    --------
    >>> pigment_of("Natural azurite 40 um, gum arabic")
    'azurite'
    """
    plain = _plain(name)
    if plain in library():
        return library()[plain].name
    for words, pigment in name_table()["words"].items():
        if _has(plain, words):
            return str(pigment)
    for known, pigment in _known_names():
        if _has(plain, known):
            return pigment
    return ""


@lru_cache
def _known_names() -> tuple[tuple[str, str], ...]:
    names = {
        _plain(name): pigment.name
        for pigment in library()
        for name in (pigment.name, pigment.label, *pigment.synonyms)
        if len(name) > 3  # abbreviations such as "LW" stand in too many words
    }
    return tuple(sorted(names.items(), key=lambda entry: -len(entry[0])))


def _plain(name: str) -> str:
    return " ".join(re.sub(r"[\W_]+", " ", name.casefold()).split())


def _has(name: str, words: str) -> bool:
    return re.search(rf"\b{re.escape(words)}", name) is not None
