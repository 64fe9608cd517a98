"""Conversion of nested tables to TOML text."""

from typing import Any


def to_toml(table: dict[str, Any], prefix: str = "") -> str:
    """Return nested tables of strings, numbers, booleans and lists as TOML text."""
    lines = [f"{key} = {_format_value(value)}" for key, value in table.items() if not isinstance(value, dict)]
    for key, value in table.items():
        if isinstance(value, dict):
            lines += ["", f"[{prefix}{key}]", to_toml(value, f"{prefix}{key}.").rstrip("\n")]
    return "\n".join(lines) + "\n"


def _format_value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        escaped_text = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        return f'"{escaped_text}"'
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_format_value(element) for element in value) + "]"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_format_value(element)}" for key, element in value.items()) + " }"
    return repr(value)
