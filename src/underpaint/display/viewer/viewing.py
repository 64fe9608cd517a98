"""Serving one folder of results, or the start page from which scans are run and results opened; and in notebooks."""

import atexit
import html
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from underpaint.data import Scan
from underpaint.data.maps import Results
from underpaint.display.viewer.result_site import ResultSite
from underpaint.display.viewer.runs import Runs
from underpaint.display.viewer.server import HOST, Server, serve_site
from underpaint.display.viewer.start_site import StartSite, remember
from underpaint.io import summarise_scan, write_results


@contextmanager
def serve(
    folder: str | Path, *, port: int = 0, host: str = HOST, scan: str | None = None, framed: bool = False
) -> Iterator[Server]:
    """Serve a folder of results to this machine until the ``with`` block ends.

    Parameters
    ----------
    folder : str or Path
        Results of ``identify`` or ``elements``.
    port : int
        0 takes a free one.
    host : str
        Another address than this machine's own lets the whole network ask.
    scan : str or None
        Where the scan is; None looks where it was, and beside the results.
    framed : bool
        Whether a notebook on this machine may show the pages within its own.

    Raises
    ------
    ScanError
        The folder holds no results.
    OutputError
        The port is taken or is none.
    """
    runs = Runs()
    site = ResultSite(folder, scan, runs)
    try:
        with serve_site(site, port=port, host=host, framed=framed) as server:
            if not framed:  # a notebook shows what is gone tomorrow
                remember(site.folder)
            yield server
    finally:
        runs.close()
        site.close()


@contextmanager
def serve_start(*, port: int = 0, host: str = HOST, home: str | Path | None = None) -> Iterator[Server]:
    """Serve the start page until the ``with`` block ends: choose a scan, run it, open its results.

    Parameters
    ----------
    port, host
        As for :func:`serve`.
    home : str, Path or None
        Folder whose files are offered first; None: the user's own.

    Raises
    ------
    OutputError
        The port is taken or is none.
    """
    site = StartSite(home)
    try:
        with serve_site(site, port=port, host=host) as server:
            yield server
    finally:
        site.close()


class View:
    """A viewer that is shown where a notebook's cell ends.

    Parameters
    ----------
    server : Server
    stack : ExitStack
        Closes the server.
    height : int
        Height of the frame in pixels.
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
        Height of the frame in a notebook, in pixels.

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
