"""A small server bound to 127.0.0.1 that shows one folder of results to whoever knows its address."""

import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from mimetypes import guess_type
from pathlib import Path
from shutil import copyfileobj
from typing import Any
from urllib.parse import unquote, urlsplit

from underpaint.errors import OutputError, ScanError

HOST = "127.0.0.1"
REPORT_FILE = "report.html"
_POLL_S = 0.05
_SHOWN = {".html", ".csv", ".tif", ".h5"}
# The page brings its own style and pictures along, and needs nothing else.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


@dataclass(frozen=True)
class ReportServer:
    """A running server.

    Parameters
    ----------
    address : str
        Address of the report, token included.
    thread : threading.Thread
        Serves until the ``with`` block of :func:`serve` ends.
    """

    address: str
    thread: threading.Thread

    def wait(self) -> None:
        """Wait until the server is closed."""
        while self.thread.is_alive():
            self.thread.join(0.5)


@contextmanager
def serve(folder: str | Path, *, port: int = 0) -> Iterator[ReportServer]:
    """Serve a folder's report to this machine until the ``with`` block ends.

    Parameters
    ----------
    folder : str or Path
        Results with a ``report.html``.
    port : int
        0 takes a free one.

    Raises
    ------
    ScanError
        The folder has no report.
    OutputError
        The port is taken or is none.
    """
    place = Path(folder).resolve()
    if not (place / REPORT_FILE).is_file():
        message = (
            f"Cannot show {folder}: there is no {REPORT_FILE} in it. Give a folder that `underpaint identify` made."
        )
        raise ScanError(message)
    token = secrets.token_urlsafe(16)
    try:
        server = ThreadingHTTPServer((HOST, port), _handler(place, token))
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or "ports go from 0 to 65535"
        message = f"Cannot open port {port} on this machine: {reason}. Choose another, or 0 for a free one."
        raise OutputError(message) from error
    thread = threading.Thread(target=server.serve_forever, args=(_POLL_S,), daemon=True)
    thread.start()
    try:
        yield ReportServer(f"http://{HOST}:{server.server_address[1]}/{token}/{REPORT_FILE}", thread)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def find_file(place: Path, token: str, address: str) -> Path | None:
    """Return the file that an address names, or None where there is none or it may not be shown."""
    parts = [unquote(part) for part in urlsplit(address).path.split("/") if part]
    if not parts or not secrets.compare_digest(parts[0].encode(), token.encode()):
        return None
    try:
        file = place.joinpath(*(parts[1:] or [REPORT_FILE])).resolve()
        inside = file.is_relative_to(place) and file.suffix in _SHOWN
        return file if inside and file.is_file() else None
    except (OSError, ValueError):
        # A name that no file can have: too long, or with a null in it.
        return None


def _handler(place: Path, token: str) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        """Answers GET for files of one folder."""

        server_version = "underpaint"
        sys_version = ""

        def do_GET(self) -> None:
            """Send a file, or say that there is none."""
            # Another name for this machine would let a web page of somebody else's read the report.
            own_name = (self.headers.get("Host") or "").rpartition(":")[0] in {HOST, "localhost"}
            file = find_file(place, token, self.path) if own_name else None
            if file is None:
                self.send_error(HTTPStatus.NOT_FOUND)
                return
            self.send_response(HTTPStatus.OK)
            kind = "text/html; charset=utf-8" if file.suffix == ".html" else guess_type(file.name)[0]
            self.send_header("Content-Type", kind or "application/octet-stream")
            self.send_header("Content-Length", str(file.stat().st_size))
            self.send_header("Content-Security-Policy", _POLICY)
            self.send_header("X-Content-Type-Options", "nosniff")
            self.send_header("Referrer-Policy", "no-referrer")
            self.end_headers()
            try:
                with file.open("rb") as stream:
                    copyfileobj(stream, self.wfile)
            except ConnectionError:
                # The reader closed the page, or stopped the download of a large file.
                self.close_connection = True

        def log_message(self, *args: Any) -> None:
            """Stay silent; the address would be in the log."""

    return Handler
