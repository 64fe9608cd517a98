"""Adapt messages to the pages: names of fields and buttons replace command-line options."""

import re
from typing import Any

_REPLACEMENTS = tuple(
    (re.compile(pattern), words)
    for pattern, words in (
        (r", or give its path: underpaint view --scan\s+FILE", ", then open the scan again"),
        (r"Choose one by its number, --detector 1, or by its name", "Choose one under Detector"),
        (r"read them one by one \(--detector\)", "choose one under Detector"),
        (r"give rows and columns \(--shape\)", "fill in Rows × columns"),
        (r"(?:Give rows and columns with --shape, e\.g\.|Give) --shape (\d+x\d+)", r"Fill in Rows × columns: \1"),
        (r"--shape (\d+x\d+)", r"\1"),
        (r" ?\(`--shape ROWSxCOLUMNS`; Python: `[^`]*`\)", " under Rows × columns"),
        (r"give the correct one, put the values of `underpaint calibrate` into its file, or use it nevertheless with "
         r"--trust-instrument \(trust_instrument=True\)", "choose the correct one, or calibrate by hand"),
        (r"Run `underpaint calibrate`(?: on the scan)?,? and give its (?:instrument )?file with --instrument"
         r"(?:; in Python `[^`]*` has an axis)?", "Calibrate by hand, or choose the instrument"),
        (r"Check the energy calibration with `underpaint calibrate`", "Check the energy axis under Calibrate by hand"),
        (r"find the axis with `underpaint calibrate`", "find the axis under Calibrate by hand"),
        (r"`underpaint calibrate` determines an axis that fits the lines", "Calibrate by hand to find the axis"),
        (r" \(--model (\w+)\)", r" under Network"),
        (r"Give it with --instrument", "Choose it under Instrument"),
        (r"and this file with --instrument", "and choose this file as the instrument"),
        (r" states? a better one \(--palette\)", " states a better one"),
        (r"; `underpaint info` states why", ""),
        (r"\s*`underpaint pigments list` shows all \d+\.", ""),
        (r"Sum more pixels, or name the pigments with --pigments", "Choose a pixel of a larger area of the same paint"),
        (r"[Gg]ive another (?:folder|one) with --out(?:, or (?:add )?--overwrite to replace (?:it|them))?",
         "Move or rename the folder, or tick “replace the results that are there”"),
        (r",? (?:or choose|or) a folder on another disk with --out", " or move the scan to another disk"),
        (r"continue with --resume", "run the scan again"),
    )
)  # fmt: skip
_COMMAND_LINE_OPTION = re.compile(r"`?(?<![\w-])(?:underpaint [a-z]+|--[a-z][\w-]*)")
_TERMINAL_NOTE = " (These options are for the command line: this page has no field for them.)"


def page_words(text: str) -> str:
    """Replace command-line options in a message by the names of fields and buttons of the page.

    Examples
    --------
    >>> page_words("64 spectra, read as one row: give rows and columns (--shape)")
    '64 spectra, read as one row: fill in Rows × columns'
    """
    for pattern, words in _REPLACEMENTS:
        text = pattern.sub(words, text)
    return text + _TERMINAL_NOTE if _COMMAND_LINE_OPTION.search(text) else text


def page_notes(run_result: Any) -> Any:
    """Return the result of a run after applying :func:`page_words` to its notes and alerts."""
    if not isinstance(run_result, dict):
        return run_result
    text_keys = {"notes", "alerts", "aside"}
    return {key: _replace_words(value) if key in text_keys else page_notes(value) for key, value in run_result.items()}


def _replace_words(value: Any) -> Any:
    if isinstance(value, list):
        return [_replace_words(entry) for entry in value]
    return page_words(value) if isinstance(value, str) else value
