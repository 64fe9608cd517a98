"""The viewer within a notebook: the maps are written to a folder of their own, and shown from it."""

import atexit
import html
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from underpaint.data import Scan
from underpaint.data.maps import ElementMaps, PigmentMaps
from underpaint.display.viewer.server import Server
from underpaint.io import summarise_scan, write_results


class View:
    """A viewer that is shown where a notebook's cell ends.

    Parameters
    ----------
    server : Server
    stack : ExitStack
        Closes the server.
    height : int
        Of the frame, pixels.
    """

    def __init__(self, server: Server, stack: ExitStack, height: int) -> None:
        self.address = server.address
        self._stack = stack
        self._height = height

    def close(self) -> None:
        """Stop the server."""
        self._stack.close()

    def _repr_html_(self) -> str:
        address = html.escape(self.address, quote=True)
        return (
            f'<iframe src="{address}" width="100%" height="{self._height}" style="border:1px solid #8888"></iframe>'
            f'<p><a href="{address}" target="_blank">Open in a window of its own</a> '
            "(the notebook has to run on this machine)</p>"
        )

    def __repr__(self) -> str:
        return f"<underpaint viewer at {self.address}>"


def view(
    maps: PigmentMaps | ElementMaps,
    *,
    elements: ElementMaps | None = None,
    scan: Scan | None = None,
    height: int = 760,
) -> View:
    """Show maps in the browser or in a notebook, from this machine alone.

    Parameters
    ----------
    maps : PigmentMaps or ElementMaps
    elements : ElementMaps or None
        Shown beside pigment maps.
    scan : Scan or None
        Gives the spectra of pixels; its file is read again by pixel.
    height : int
        Of a notebook's frame, pixels.

    Returns
    -------
    View
        Shown where it stands last in a cell; ``address`` opens anywhere on this machine, ``close`` ends it.
    """
    from underpaint.display.viewer.viewing import serve

    stack = ExitStack()
    folder = Path(stack.enter_context(TemporaryDirectory(prefix="underpaint_"))) / "maps"
    pigments = maps if isinstance(maps, PigmentMaps) else None
    lines = maps if isinstance(maps, ElementMaps) else elements
    facts = {"name": "maps"} if scan is None else summarise_scan(scan)
    settings = {"source": "" if scan is None else scan.source}
    write_results(folder, pigments=pigments, elements=lines, scan_summary=facts, settings=settings)
    location = scan.source if scan is not None and scan.source else None
    server = stack.enter_context(serve(folder, scan=location, framed=True))
    atexit.register(stack.close)
    return View(server, stack, height)
