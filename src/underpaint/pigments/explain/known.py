"""What another method has shown of a painting: it is put in, and is never an answer of this program."""

from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from underpaint.errors import SampleError
from underpaint.physics.materials import library
from underpaint.runtime.untrusted import describe_faults, fault_of_name, read_toml

Um = Annotated[float, Field(gt=0, le=1000, allow_inf_nan=False)]


class Known(BaseModel):
    """A result of another method at a place, such as of a cross-section.

    Groups are named as in the library; a pigment stands for its group.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: str = Field(min_length=1, description="such as 'cross-section, SEM-EDX'")
    source: str = Field(min_length=1, description="sample, report, date")
    paint: int | None = Field(None, ge=1, description="number of the paint")
    pixel: tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0)]] | None = Field(
        None, description="row and column, from 0: the paint that lies there"
    )
    order: tuple[str, ...] = Field(
        (),
        max_length=3,
        description="groups from the surface down, up to as many as layers: each begins above the next",
    )
    thickness_um: tuple[Um, Um] | None = Field(None, description="ends of the uppermost layer's thickness, um")
    absent: tuple[str, ...] = Field((), description="groups that are not there")

    @field_validator("method", "source")
    @classmethod
    def _check_text(cls, text: str) -> str:
        if fault := fault_of_name(text):
            raise ValueError(fault)
        return text

    @field_validator("order", "absent")
    @classmethod
    def _name_groups(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        groups = tuple(group_of(name) for name in names)
        if len(set(groups)) < len(groups):
            raise ValueError("a group is named twice; name its uppermost layer alone")
        return groups

    @model_validator(mode="after")
    def _check(self) -> "Known":
        if (self.paint is None) == (self.pixel is None):
            raise ValueError("either paint or pixel is needed, to say where")
        if not self.order and self.thickness_um is None and not self.absent:
            raise ValueError("order, thickness_um or absent is needed, to say what is known")
        if len(self.order) == 1:
            raise ValueError("order needs two groups or more")
        if set(self.order) & set(self.absent):
            raise ValueError("a group of order cannot be absent")
        if self.thickness_um is not None and not self.thickness_um[0] < self.thickness_um[1]:
            raise ValueError("thickness_um needs its lower end first, and the two apart")
        return self

    def settles(self, first: str, second: str) -> bool:
        """Return whether the order of two groups is put in."""
        return first in self.order and second in self.order

    @property
    def words(self) -> str:
        """What was put in, and that it is no answer of this program."""

        def label(name: str) -> str:
            return library().group(name).label.partition(" (")[0]

        facts = [f"{label(above)} begins above {label(below)}" for above, below in pairwise(self.order)]
        if self.thickness_um is not None:
            facts.append("the top layer is {:g} to {:g} um thick".format(*self.thickness_um))
        if self.absent:
            facts.append(f"not there: {', '.join(label(name) for name in self.absent)}")
        return (
            f"Put in from another method and taken as given, no answer of this program: {'; '.join(facts)} "
            f"({self.method}; {self.source})."
        )


class _KnownFile(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    known: tuple[Known, ...] = Field(min_length=1, max_length=200)


def read_known(path: str | Path) -> tuple[Known, ...]:
    """Read a TOML file with a table ``[[known]]`` for each place.

    Raises
    ------
    SampleError
        It is missing, no TOML, or a field is wrong; the message names the field.
    """
    table: dict[str, Any] = read_toml(Path(path), SampleError, "the known results")
    try:
        return _KnownFile(**table).known
    except ValidationError as error:
        raise SampleError(f"Cannot use the known results {path}: {describe_faults(error.errors())}.") from error


def group_of(name: str) -> str:
    """Return a group, or the one group of a pigment.

    Raises
    ------
    SampleError
        The library knows no such name, or the pigment counts as several groups or none.
    """
    if name in {group.name for group in library().groups}:
        return name
    groups = library()[name].groups
    if len(groups) != 1:
        raise SampleError(
            f"Cannot say which group {name} is: it counts as {', '.join(groups) or 'none, as no element of it shows'}. "
            "Name one group, such as mercury_red."
        )
    return groups[0]
