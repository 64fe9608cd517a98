"""Serving one folder of results, or the start page from which scans are run and results opened."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from underpaint.display.viewer.result_site import ResultSite
from underpaint.display.viewer.runs import Runs
from underpaint.display.viewer.server import HOST, Server, serve_site
from underpaint.display.viewer.start_site import StartSite, remember


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
