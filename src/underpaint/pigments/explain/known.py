"""Results of other methods for the paints of a painting. The results are taken as known and marked in reports."""

from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from underpaint.errors import SampleError
from underpaint.physics.materials import library
from underpaint.runtime.untrusted import describe_faults, fault_of_name, read_toml

ThicknessUm = Annotated[float, Field(gt=0, le=1000, allow_inf_nan=False)]


class KnownLayers(BaseModel):
    """Result of another method for one paint, for example of a cross-section.

    Groups are named as in the library. The name of a pigment is replaced by its group.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: str = Field(min_length=1, description="such as 'cross-section, SEM-EDX'")
    source: str = Field(min_length=1, description="sample, report, date")
    paint: int | None = Field(None, ge=1, description="number of the paint")
    pixel: tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0)]] | None = Field(
        None, description="row and column, from 0, of a pixel of the paint"
    )
    order: tuple[str, ...] = Field(
        (),
        max_length=3,
        description="groups from the surface down, at most one for each layer: each begins above the next",
    )
    thickness_um: tuple[ThicknessUm, ThicknessUm] | None = Field(
        None, description="minimum and maximum of the top layer, um"
    )
    absent: tuple[str, ...] = Field((), description="groups that are not present")

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
            raise ValueError("a group is listed twice; list only its uppermost layer")
        return groups

    @model_validator(mode="after")
    def _check_fields(self) -> "KnownLayers":
        if (self.paint is None) == (self.pixel is None):
            raise ValueError("either paint or pixel is needed, for the place")
        if not self.order and self.thickness_um is None and not self.absent:
            raise ValueError("order, thickness_um or absent is needed, for the result")
        if len(self.order) == 1:
            raise ValueError("order needs two groups or more")
        if set(self.order) & set(self.absent):
            raise ValueError("a group of order cannot be absent")
        if self.thickness_um is not None and not self.thickness_um[0] < self.thickness_um[1]:
            raise ValueError("thickness_um needs a minimum and a larger maximum, in this order")
        return self

    def gives_order_of(self, first_group: str, second_group: str) -> bool:
        """Return whether the result contains the order of two groups."""
        return first_group in self.order and second_group in self.order

    @property
    def sentence(self) -> str:
        """Sentence that states the result, its method and its source."""

        def group_label(name: str) -> str:
            return library().group(name).label.partition(" (")[0]

        result_texts = [
            f"{group_label(upper_group)} begins above {group_label(lower_group)}"
            for upper_group, lower_group in pairwise(self.order)
        ]
        if self.thickness_um is not None:
            result_texts.append("the top layer is {:g} to {:g} um thick".format(*self.thickness_um))
        if self.absent:
            result_texts.append(f"not present: {', '.join(group_label(name) for name in self.absent)}")
        return (
            f"Given by another method, not a result of this program: {'; '.join(result_texts)} "
            f"({self.method}; {self.source})."
        )


class _KnownResultsFile(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    known: tuple[KnownLayers, ...] = Field((), max_length=200)


def read_known(path: str | Path) -> tuple[KnownLayers, ...]:
    """Read a TOML file with a table ``[[known]]`` for each paint.

    Raises
    ------
    SampleError
        The file is missing, is not TOML or has no entry, or a field is invalid. The message names the field.
    """
    toml_table: dict[str, Any] = read_toml(Path(path), SampleError, "the known results")
    try:
        entries = _KnownResultsFile(**toml_table).known
    except ValidationError as error:
        raise SampleError(f"Cannot use the known results {path}: {describe_faults(error.errors())}.") from error
    if not entries:
        raise SampleError(
            f"Cannot use the known results {path}: they contain no entry. Write a table [[known]] for each paint, as "
            "in `underpaint paints --help`."
        )
    return entries


def group_of(name: str) -> str:
    """Return the group with this name, or the only group of the pigment with this name.

    Raises
    ------
    SampleError
        The library does not contain the name, or the pigment belongs to no group or to several groups.
    """
    if name in {group.name for group in library().groups}:
        return name
    groups = library()[name].groups
    if len(groups) != 1:
        raise SampleError(
            f"Cannot replace {name} by a group: it belongs to "
            f"{', '.join(groups) or 'none, since none of its elements has a visible line'}. Name one group, such as "
            "mercury_red."
        )
    return groups[0]
