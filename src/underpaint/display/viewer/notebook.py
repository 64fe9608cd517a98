"""The viewer within a notebook: results are written to a folder of their own, and shown from it."""

import atexit
import html
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from underpaint.data import Scan
from underpaint.data.maps import Results
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


def view(results: Results, *, scan: Scan | None = None, height: int = 760) -> View:
    """Show results in the browser or in a notebook, from this machine alone.

    Parameters
    ----------
    results : Results
        As ``up.identify`` or ``up.fit_elements`` gives them; ``pigments | elements`` shows both.
    scan : Scan or None
        Gives the spectra of pixels; its file is read again by pixel.
    height : int
        Of a notebook's frame, pixels.

    Returns
    -------
    View
        Shown where it stands last in a cell; ``address`` opens anywhere on this machine, ``close`` ends it.

    Examples
    --------
    >>> import underpaint as up
    >>> shown = up.view(up.read_results("panel_underpaint"))
    >>> shown.address.startswith("http://127.0.0.1:")
    True
    >>> shown.close()
    """
    from underpaint.display.viewer.viewing import serve

    stack = ExitStack()
    folder = Path(stack.enter_context(TemporaryDirectory(prefix="underpaint_"))) / "maps"
    if scan is not None and "sum_counts" not in results.summary:
        settings = {**results.settings, "source": scan.source}
        results = replace(results, summary={**results.summary, **summarise_scan(scan), "settings": settings})
    write_results(folder, results)
    location = scan.source if scan is not None and scan.source else None
    server = stack.enter_context(serve(folder, scan=location, framed=True))
    atexit.register(stack.close)
    return View(server, stack, height)
