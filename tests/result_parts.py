"""Results with some of their numbers or facts changed."""

from dataclasses import replace
from functools import reduce
from operator import or_
from typing import Any

from numpy.typing import NDArray

from underpaint.data.maps import Results, Stack


def changed(results: Results, **values: NDArray[Any] | None) -> Results:
    """Return results with other numbers, by quantity; None leaves a quantity out."""
    stacks = dict(results.stacks)
    for name, numbers in values.items():
        stack = stacks.pop(name)
        if numbers is not None:
            stacks[name] = Stack(stack.keys, numbers)
    return replace(results, stacks=stacks)


def configured(results: Results, settings: dict[str, Any], process: str = "pigments") -> Results:
    """Return results with another configuration of a process."""
    return replace(results, process_settings={**results.process_settings, process: settings})


def joined(*parts: Results, summary: dict[str, Any] | None = None, **settings: Any) -> Results:
    """Return what all parts hold, with facts of a scan, and settings."""
    facts = dict(summary or {})
    if settings:
        facts["settings"] = settings
    return replace(reduce(or_, parts, Results()), summary=facts)
