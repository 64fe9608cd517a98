"""Messages for the pages: where a message names an option of the command line, the page names its field or button."""

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
_COMMAND = re.compile(r"`?(?<![\w-])(?:underpaint [a-z]+|--[a-z][\w-]*)")
_TERMINAL = " (These options are for the command line: this page has no field for them.)"


def page_words(text: str) -> str:
    """Return a message with the fields and buttons of the page in place of options of the command line.

    Examples
    --------
    >>> page_words("64 spectra, read as one row: give rows and columns (--shape)")
    '64 spectra, read as one row: fill in Rows × columns'
    """
    for pattern, words in _REPLACEMENTS:
        text = pattern.sub(words, text)
    return text + _TERMINAL if _COMMAND.search(text) else text


def page_notes(answer: Any) -> Any:
    """Return the result of a run with the words of the page in all its texts below ``notes`` and ``alerts``."""
    if not isinstance(answer, dict):
        return answer
    texts = {"notes", "alerts", "aside"}
    return {key: _in_all(value) if key in texts else page_notes(value) for key, value in answer.items()}


def _in_all(value: Any) -> Any:
    if isinstance(value, list):
        return [_in_all(each) for each in value]
    return page_words(value) if isinstance(value, str) else value
