"""No cell of a CSV is a formula, and numbers stay numbers."""

import csv
import io

import pytest

from underpaint.io.results.csv_text import write_csv


def written(*cells: object) -> list[str]:
    stream = io.StringIO(newline="")
    write_csv(stream, [cells])
    return next(csv.reader(io.StringIO(stream.getvalue(), newline="")))


@pytest.mark.parametrize(
    "text",
    ["=1+2", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "  =1", "\uff1d1", "=", "-", "\n=1", "+1-1"],
)
def test_text_that_would_be_a_formula_gets_an_apostrophe(text: str) -> None:
    assert written(text) == [f"'{text}"] or "'=" in written(text)[0]
    assert written(text)[0][0] == "'"


def test_a_separator_of_other_countries_begins_no_formula() -> None:
    assert written("lead;=HYPERLINK(1)") == ["lead;'=HYPERLINK(1)"]


@pytest.mark.parametrize("number", ["-1", "+1.5", "-.5", "1e-7", "-2.5E+10", "-inf", "nan", -3, 0.25])
def test_numbers_stay_numbers(number: object) -> None:
    assert written(number) == [str(number)]


def test_ordinary_text_stays_as_it_is() -> None:
    assert written("Hg-L", "a = b", None, "x@y", "lead white, red lead") == [
        "Hg-L",
        "a = b",
        "",
        "x@y",
        "lead white, red lead",
    ]
