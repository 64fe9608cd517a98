"""HTML files, style sheets and scripts of the viewer's pages."""

from functools import lru_cache
from importlib.resources import files

from underpaint.display.viewer.server import Answer

_MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
}


def page_file(name: str) -> Answer | None:
    """Return a file of the pages; None for an unknown name."""
    content = _page_contents().get(name)
    return None if content is None else Answer(content, _MEDIA_TYPES["." + name.rpartition(".")[2]])


@lru_cache(maxsize=1)
def _page_contents() -> dict[str, bytes]:
    page_folder = files("underpaint.display.viewer") / "page"
    return {
        file.name: file.read_bytes()
        for file in page_folder.iterdir()
        if "." + file.name.rpartition(".")[2] in _MEDIA_TYPES
    }
