"""Viewer of results in a browser or in a notebook. By default, only this machine has access to the viewer."""

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
from underpaint.display.viewer.start_site import StartSite, remember_folder
from underpaint.io import summarise_scan, write_results

__all__ = ["Server", "View", "serve", "serve_start", "view"]


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
        Port; 0 selects a free port.
    host : str
        Address to listen on. An address that is not local admits requests from the network.
    scan : str or None
        Path of the scan. If None, the recorded path and the folder of the results are searched.
    framed : bool
        Whether a notebook on this machine may show the pages in a frame.

    Raises
    ------
    ScanError
        The folder holds no results.
    OutputError
        The port is in use or invalid.
    """
    runs = Runs()
    site = ResultSite(folder, scan, runs)
    try:
        with serve_site(site, port=port, host=host, framed=framed) as server:
            if not framed:  # results in a notebook are temporary
                remember_folder(site.folder)
            yield server
    finally:
        runs.close()
        site.close()


@contextmanager
def serve_start(*, port: int = 0, host: str = HOST, home: str | Path | None = None) -> Iterator[Server]:
    """Serve the start page, where scans are analysed and results opened, until the ``with`` block ends.

    Parameters
    ----------
    port, host
        As for :func:`serve`.
    home : str, Path or None
        Folder shown first; by default the folder of the last visit, or else the user's home folder.

    Raises
    ------
    OutputError
        The port is in use or invalid.
    """
    site = StartSite(home)
    try:
        with serve_site(site, port=port, host=host) as server:
            yield server
    finally:
        site.close()


class View:
    """Viewer that a notebook shows as the output of a cell.

    Parameters
    ----------
    server : Server
    exit_stack : ExitStack
        Exit stack whose closing stops the server.
    height : int
        Height of the frame in pixels.
    """

    def __init__(self, server: Server, exit_stack: ExitStack, height: int) -> None:
        self.address = server.address
        self._exit_stack = exit_stack
        self._height = height

    def close(self) -> None:
        """Stop the server."""
        self._exit_stack.close()

    def _repr_html_(self) -> str:
        address = html.escape(self.address, quote=True)
        return (
            f'<iframe src="{address}" width="100%" height="{self._height}" style="border:1px solid #8888"></iframe>'
            f'<p><a href="{address}" target="_blank">Open in a separate window</a>  '
            "(the notebook has to run on this machine)</p>"
        )

    def __repr__(self) -> str:
        return f"<underpaint viewer at {self.address}>"


def view(results: Results, *, scan: Scan | None = None, height: int = 760) -> View:
    """Show results in the browser or in a notebook on this machine.

    Parameters
    ----------
    results : Results
        Results of ``up.identify`` or ``up.fit_elements``; ``pigments | elements`` combines both results.
    scan : Scan or None
        Scan whose file provides the spectra of pixels.
    height : int
        Height of the frame in a notebook, in pixels.

    Returns
    -------
    View
        Viewer that a notebook shows as the last value of a cell. Any browser on this machine opens the viewer's
        ``address``, and ``close`` stops the server.

    Examples
    --------
    >>> import underpaint as up
    >>> shown = up.view(up.read_results("panel_underpaint"))
    >>> shown.address.startswith("http://127.0.0.1:")
    True
    >>> shown.close()
    """
    cleanup = ExitStack()
    folder = Path(cleanup.enter_context(TemporaryDirectory(prefix="underpaint_"))) / "maps"
    if scan is not None and "sum_counts" not in results.summary:
        settings = {**results.settings, "source": scan.source}
        results = replace(results, summary={**results.summary, **summarise_scan(scan), "settings": settings})
    write_results(folder, results)
    scan_path = scan.source if scan is not None and scan.source else None
    server = cleanup.enter_context(serve(folder, scan=scan_path, framed=True))
    atexit.register(cleanup.close)
    return View(server, cleanup, height)
