"""Messages of the pages name fields and buttons where those of the command line name options."""

import ast
import re
import sys
from pathlib import Path

import pytest

import underpaint
from underpaint.display.viewer.page_words import page_notes, page_words
from underpaint.display.viewer.runs import FAILED, Run

SOURCES = Path(underpaint.__file__).parent
MESSAGES = [
    ("they cannot be aligned. Choose one by its number, --detector 1, or by its name.", "Choose one under Detector."),
    ("detectors of one name: if twice, read them one by one (--detector)", "choose one under Detector"),
    ("9 spectra, read as one row: give rows and columns (--shape) for a map", "fill in Rows × columns for a map"),
    ("Add one, or give the shape (`--shape ROWSxCOLUMNS`; Python: `shape=(rows, columns)`).", "under Rows × columns."),
    ("Give rows and columns with --shape, e.g. --shape 12x40.", "Fill in Rows × columns: 12x40."),
    ("Give --shape 12x40 for a map, --shape 1x480, or its rows", "Rows × columns: 12x40 for a map, 1x480, or its rows"),
    ("Use model 'xu2022' (--model xu2022), which needs 1.00-2.00 keV.", "Use model 'xu2022' under Network, which"),
    ("it differs; find the axis with `underpaint calibrate`", "find the axis under Calibrate by hand"),
    (
        "Run `underpaint calibrate`, and give its instrument file with --instrument; in Python "
        "`underpaint.calibrate.resolve_energy_axis(scan).scan` has an axis.",
        "Calibrate by hand, or choose the instrument.",
    ),
    (
        "Omit the instrument, give the correct one, put the values of `underpaint calibrate` into its file, or use it "
        "nevertheless with --trust-instrument (trust_instrument=True).",
        "Omit the instrument, choose the correct one, or calibrate by hand.",
    ),
    (
        "Put the right file next to the results, or give its path: underpaint view --scan FILE.",
        "next to the results, then open the scan again.",
    ),
    ("Give another folder with --out, or --overwrite to replace them.", "tick “replace the results that are there”."),
]


@pytest.mark.parametrize(("message", "words"), MESSAGES)
def test_a_message_of_the_page_names_its_fields(message: str, words: str) -> None:
    text = page_words(message)
    assert words in text
    assert "--" not in text
    assert "underpaint " not in text


def test_an_option_without_a_field_is_marked_as_of_the_command_line() -> None:
    text = page_words("give the stored value per count with --counts-scale")
    assert text.endswith("(These options are for the command line: this page has no field for them.)")


def test_paths_and_other_words_stay() -> None:
    text = "Cannot read /data/a--out/underpaint-scan.h5: it is damaged - copy it again."
    assert page_words(text) == text


def test_notes_of_a_result_are_in_the_words_of_the_page_and_its_values_stay() -> None:
    result = {"folder": "/x --shape", "calibration": {"notes": ["give rows and columns (--shape)"]}, "sum": [1.0]}
    assert page_notes(result) == {
        "folder": "/x --shape",
        "calibration": {"notes": ["fill in Rows × columns"]},
        "sum": [1.0],
    }


def test_the_error_of_a_run_reaches_the_page_in_its_words() -> None:
    code = "import json; print(json.dumps({'error': 'Choose one by its number, --detector 1, or by its name.'}))"
    state = Run({"what": "look"}, (sys.executable, "-c", code)).wait(20)
    assert (state["state"], state["error"]) == (FAILED, "Choose one under Detector.")


def source_texts() -> list[str]:
    """All texts of the packages that read, calibrate and predict, with a number for each value put in."""
    texts = []
    for package in ("io", "calibrate", "data", "pigments/predict"):
        for path in (SOURCES / package).rglob("*.py"):
            nodes = list(ast.walk(ast.parse(path.read_text("utf-8"))))
            parts_of_others = {id(part) for node in nodes if isinstance(node, ast.JoinedStr) for part in node.values}
            for node in nodes:
                if id(node) in parts_of_others:
                    continue
                if isinstance(node, ast.JoinedStr):
                    parts = (part.value if isinstance(part, ast.Constant) else "12" for part in node.values)
                    texts.append("".join(map(str, parts)))
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    texts.append(node.value)
    return texts


@pytest.mark.parametrize("option", ["--detector", "--shape", "--instrument", "--trust-instrument", "--model"])
def test_no_message_sends_a_person_at_the_page_to_an_option_that_the_page_has(option: str) -> None:
    texts = [text for text in source_texts() if re.search(rf"{option}(?![\w-])", text)]
    assert texts
    assert not [text for text in texts if option in page_words(text) and "``" not in text]
