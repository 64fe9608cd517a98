"""Handle untrusted input: text to display, and settings from files of unknown origin."""

import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from underpaint.errors import UnderpaintError

MAX_SETTINGS_BYTES = 4 * 2**20
MAX_TABLE_BYTES = 64 * 2**20
"""Maximum size of a table of labels or positions, in bytes."""
MAX_CHARACTERS = 2000
_MAX_LISTED_FAULTS = 5
# Control characters (C0 except tab and new line, DEL, C1), marks that change the writing direction, invisible
# characters and surrogates. Terminals execute some of these characters, and the others change how text looks.
_UNSAFE_CHARACTERS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb\ud800-\udfff]"
)
# the memory that tomllib needs grows with the square of the number of parts in a key
_DEEPLY_NESTED_KEY = re.compile(rb"""(?<![\w\- \t"'.])(?:[\w\- \t"']*+\.){50}""")
_UNSAFE_IN_NAMES = re.compile(f"[\t\n]|{_UNSAFE_CHARACTERS.pattern}")


def plain_text(text: object) -> str:
    r"""Escape the control and invisible characters of a text, so that a terminal can show it safely.

    Examples
    --------
    >>> print(plain_text("a\x1b[2Jb"))
    a\x1b[2Jb
    """
    return _UNSAFE_CHARACTERS.sub(lambda match: _escape(match.group()), str(text))


def plain_json(text: str) -> str:
    """Replace unsafe characters in JSON text (see :func:`plain_text`) by JSON escapes; the values do not change."""
    return _UNSAFE_CHARACTERS.sub(lambda match: f"\\u{ord(match.group()):04x}", text)


def fault_of_name(text: str) -> str:
    """Return the reason why a name or sentence cannot be displayed; "" if it can be displayed."""
    if len(text) > MAX_CHARACTERS:
        return f"{text[:20]!r}... has {len(text)} characters, up to {MAX_CHARACTERS} are allowed"
    match = _UNSAFE_IN_NAMES.search(text)
    if match:
        excerpt = text[max(match.start() - 20, 0) : match.end() + 20]
        return f"{excerpt!a} contains the control character {_escape(match.group())}"
    return ""


def read_bounded(path: Path, max_bytes: int, error_type: type[UnderpaintError]) -> bytes:
    """Return the content of a file that has at most ``max_bytes`` bytes.

    Raises
    ------
    UnderpaintError
        An error of type ``error_type``. The file cannot be read, is not a regular file, or is too large.
    """
    try:
        if not path.is_file():
            raise error_type(f"Cannot read {path}: it is missing or not a regular file. Check the path.")
        with path.open("rb") as stream:
            file_bytes = stream.read(max_bytes + 1)
    except OSError as error:
        raise error_type(f"Cannot read {path}: {error.strerror}. Check the path and its permissions.") from error
    if len(file_bytes) > max_bytes:
        raise error_type(
            f"Cannot read {path}: it has {path.stat().st_size} bytes, up to {max_bytes} are allowed. Check the path."
        )
    return file_bytes


def read_toml(path: Path, error_type: type[UnderpaintError], content_type: str) -> dict[str, Any]:
    """Read a TOML file of unknown origin.

    Parameters
    ----------
    path : Path
    error_type : type of UnderpaintError
        Type of the error to raise.
    content_type : str
        Kind of file that the error message names.

    Raises
    ------
    UnderpaintError
        An error of type ``error_type``. The file cannot be read, is larger than 4 MiB, is not TOML, or is nested too
        deeply.
    """
    file_bytes = read_bounded(path, MAX_SETTINGS_BYTES, error_type)
    if _DEEPLY_NESTED_KEY.search(file_bytes):
        raise error_type(f"Cannot read {content_type} {str(path)!r}: a key has more than 50 parts. Correct the file.")
    try:
        return tomllib.loads(file_bytes.decode("utf-8"))
    # deep nesting raises RecursionError, and an integer with thousands of digits raises ValueError
    except (ValueError, RecursionError) as error:
        end_text = f"at the end, line {len(file_bytes.splitlines())}"
        reason = str(error)[:200].replace("at end of document", end_text)
        raise error_type(f"Cannot read {content_type} {str(path)!r}: not TOML ({reason}).") from error


def describe_faults(faults: list[Any], hint: Callable[[Any], str] = lambda _: "") -> str:
    """Return one line of text that describes the first faults of a pydantic error.

    Parameters
    ----------
    faults : list of dict
        Result of ``ValidationError.errors()``.
    hint : callable
        Function that returns a hint to append to the text of a fault.
    """
    fault_texts = []
    for fault in faults[:_MAX_LISTED_FAULTS]:
        field_path = ".".join(str(path_part)[:40] for path_part in fault["loc"])
        text = fault["msg"].removeprefix("Value error, ").rstrip(".")[:500] + hint(fault)
        fault_texts.append(f"{field_path}: {text}" if field_path else text)
    n_unlisted = len(faults) - _MAX_LISTED_FAULTS
    return "; ".join(fault_texts) + (f"; and {n_unlisted} more" if n_unlisted > 0 else "")


def _escape(character: str) -> str:
    code_point = ord(character)
    return f"\\x{code_point:02x}" if code_point < 0x100 else f"\\u{code_point:04x}"
