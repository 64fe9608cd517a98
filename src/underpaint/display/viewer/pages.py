"""The files that make the pages: HTML, style and scripts, as they stand in the package."""

from functools import lru_cache
from importlib.resources import files

from underpaint.display.viewer.server import Answer

_KINDS = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
}


def page_file(name: str) -> Answer | None:
    """Return a file of the pages, or None where there is none of that name."""
    found = _all().get(name)
    return None if found is None else Answer(found, _KINDS["." + name.rpartition(".")[2]])


@lru_cache(maxsize=1)
def _all() -> dict[str, bytes]:
    place = files("underpaint.display.viewer") / "page"
    return {own.name: own.read_bytes() for own in place.iterdir() if "." + own.name.rpartition(".")[2] in _KINDS}
