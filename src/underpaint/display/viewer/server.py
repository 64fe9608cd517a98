"""A small server that shows pages to whoever knows its address, by default to this machine alone."""

import io
import json
import os
import secrets
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from mimetypes import guess_type
from pathlib import Path
from shutil import copyfileobj
from typing import Any, BinaryIO
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from underpaint.display.viewer.page_words import page_words
from underpaint.errors import OutputError, UnderpaintError
from underpaint.io.results.contained import open_contained

HOST = "127.0.0.1"
MOST_BODY_BYTES = 256 * 2**20
"""Of a picture sent by the page."""
MOST_CONNECTIONS = 256
"""Each connection holds a thread; further connections are asked to try again."""
_BACKLOG = 200
_MOST_DIGITS = 9
_MOST_FIELDS = 100
_IDLE_S = 30.0
_HANG_UP_S = 1.0
_REQUEST_S = 30.0
_SLOWEST_BYTES_S = 20_000
"""A request that comes more slowly, once it has taken half a minute, is given up."""
_POLL_S = 0.05
_OWN_NAMES = {HOST, "localhost"}
_NOTEBOOKS = "http://localhost:* http://127.0.0.1:*"


@dataclass(frozen=True)
class Request:
    """Request of a page.

    Parameters
    ----------
    method : str
        "GET", "POST" or "DELETE".
    parts : tuple of str
        Path after the token, decoded, without empty parts.
    query : mapping of str to str
    body : bytes
    """

    method: str
    parts: tuple[str, ...]
    query: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    def under(self, depth: int) -> "Request":
        """Return the same request with the first parts of its path taken away."""
        return Request(self.method, self.parts[depth:], self.query, self.body)

    def number(self, name: str) -> int:
        """Return a whole number of the query.

        Raises
        ------
        UnderpaintError
            It is missing, or none.
        """
        text = self.query.get(name, "")
        if not text.removeprefix("-").isdecimal() or len(text) > _MOST_DIGITS:
            raise UnderpaintError(f"Cannot answer: {name} is {text[:20]!r}; it must be a whole number.")
        return int(text)

    def json(self) -> dict[str, Any]:
        """Return the body's JSON object.

        Raises
        ------
        UnderpaintError
            It is none.
        """
        try:
            value = json.loads(self.body)
        except (ValueError, RecursionError) as error:
            raise UnderpaintError("Cannot answer: the page sent no JSON. Load the page again.") from error
        if not isinstance(value, dict):
            raise UnderpaintError("Cannot answer: the page sent no JSON object. Load the page again.")
        return value


@dataclass(frozen=True)
class Answer:
    """Answer to a request.

    Parameters
    ----------
    body : bytes or binary file
        Content. A file is sent to its end and closed.
    kind : str
        Media type.
    status : int
    headers : mapping of str to str
        More headers.
    policy : str
        Content-Security-Policy; "" takes the page's own.
    """

    body: bytes | BinaryIO
    kind: str = "application/octet-stream"
    status: int = HTTPStatus.OK
    headers: Mapping[str, str] = field(default_factory=dict)
    policy: str = ""


Site = Callable[[Request], Answer | None]
"""Function that answers requests; it returns None if nothing has the requested name."""


@dataclass(frozen=True)
class Server:
    """A running server.

    Parameters
    ----------
    address : str
        Of the first page, token included.
    thread : threading.Thread
        Serves until the ``with`` block of :func:`serve_site` ends.
    visited : threading.Event
        Set once somebody who knows the address has asked for something.
    """

    address: str
    thread: threading.Thread
    visited: threading.Event = field(default_factory=threading.Event)

    def wait(self) -> None:
        """Wait until the server is closed."""
        while self.thread.is_alive():
            self.thread.join(0.5)


@contextmanager
def serve_site(site: Site, *, port: int = 0, host: str = HOST, framed: bool = False) -> Iterator[Server]:
    """Serve a site until the ``with`` block ends.

    Parameters
    ----------
    site : callable
        Answers requests that know the token.
    port : int
        0 takes a free one.
    host : str
        Another address than this machine's own lets the whole network ask.
    framed : bool
        Whether a notebook on this machine may show the pages within its own.

    Raises
    ------
    OutputError
        The port is taken or is none, or the host is not this machine's.
    """
    token = secrets.token_urlsafe(16)
    names = _OWN_NAMES if host in _OWN_NAMES else None
    visited = threading.Event()
    try:
        server = _BoundedServer((host, port), _handler(site, token, names, visited, framed=framed))
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or "ports go from 0 to 65535"
        if isinstance(error, PermissionError):
            reason += "; the system keeps ports below 1024 for its administrator"
        raise OutputError(
            f"Cannot open port {port} on {host}: {reason}. Choose another, or 0 for a free one."
        ) from error
    thread = threading.Thread(target=server.serve_forever, args=(_POLL_S,), daemon=True)
    thread.start()
    try:
        yield Server(f"http://{host}:{server.server_address[1]}/{token}/", thread, visited)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def json_answer(value: Any, status: int = HTTPStatus.OK) -> Answer:
    """Answer with JSON; numbers that are none become null."""
    try:
        text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    except ValueError:
        text = json.dumps(json.loads(json.dumps(value), parse_constant=lambda _: None), separators=(",", ":"))
    return Answer(text.encode(), "application/json", status)


def file_answer(folder: Path, *names: str, policy: str = "") -> Answer | None:
    """Answer with a file of a results folder; None where there is none, or a link.

    Whoever sent the folder may have written the file: it runs no script and has no part in the viewer's pages.
    """
    try:
        file = open_contained(folder, *names)
    except (OSError, ValueError, UnderpaintError):
        return None
    kind = guess_type(names[-1])[0] or "application/octet-stream"
    kind += "; charset=utf-8" if kind.startswith("text/") else ""
    # Browsers do not show a PDF that may run nothing.
    headers = {"Content-Disposition": "attachment"} if kind == "application/pdf" else {}
    return Answer(file, kind, headers=headers, policy="; ".join([policy or "default-src 'none'", "sandbox"]))


def page_policy(*, framed: bool) -> str:
    """Return the policy of the viewer's own pages: scripts and styles of this server, and nothing evaluated."""
    return (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
        f"base-uri 'none'; form-action 'none'; frame-ancestors {_NOTEBOOKS if framed else chr(39) + 'none' + chr(39)}"
    )


class _BoundedServer(ThreadingHTTPServer):
    """Server with a maximum number of connections; further connections are asked to try again."""

    request_queue_size = _BACKLOG
    daemon_threads = True
    allow_reuse_address = os.name != "nt"  # Windows would let another program take the port over

    def __init__(self, *given: Any) -> None:
        self._free = threading.BoundedSemaphore(MOST_CONNECTIONS)
        super().__init__(*given)

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._free.acquire(blocking=False):
            try:
                super().process_request(request, client_address)
            except BaseException:
                self._free.release()
                raise
            return
        with suppress(OSError):
            request.sendall(b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n")
        self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say in a line what went wrong, if it was not the other end that went away."""
        del request, client_address
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            _report_fault(error)


class _Patient(io.RawIOBase):
    """Reads from a connection, and gives it up where nothing comes, or too slowly."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._until = time.monotonic() + _IDLE_S

    def allow(self, seconds: float) -> None:
        """Allow so much time from now on."""
        self._until = time.monotonic() + seconds

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._connection.settimeout(max(min(self._until - time.monotonic(), _IDLE_S), 0.001))
        return self._connection.recv_into(buffer)


class _Refused(Exception):  # noqa: N818 - an answer, not a fault
    """A request that is answered with a status and words, and whose connection is closed."""

    def __init__(self, status: HTTPStatus, words: str) -> None:
        super().__init__(words)
        self.status = status


def _handler(
    site: Site, token: str, names: set[str] | None, visited: threading.Event, *, framed: bool
) -> type[BaseHTTPRequestHandler]:
    policy = page_policy(framed=framed)

    class Handler(BaseHTTPRequestHandler):
        """Answers those who know the token."""

        server_version = "underpaint"
        sys_version = ""
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        timeout = _IDLE_S

        def setup(self) -> None:
            super().setup()
            self.rfile.close()
            self._patient = _Patient(self.connection)
            self.rfile = io.BufferedReader(self._patient)

        def handle_one_request(self) -> None:
            """Answer one request; the time that it may take begins anew."""
            self._patient.allow(_REQUEST_S)
            try:
                super().handle_one_request()
            except (OSError, ValueError):
                # The reader closed the page, stopped the download of a large file, or sent too slowly.
                self.close_connection = True

        def parse_request(self) -> bool:
            """Read the headers; the time that a connection waited for the first line does not count."""
            self._patient.allow(_REQUEST_S)
            return super().parse_request()

        def do_GET(self) -> None:
            """Answer, or say that there is nothing of that name."""
            self._answer("GET")

        def do_POST(self) -> None:
            """Answer to what a page sends."""
            self._answer("POST")

        def do_DELETE(self) -> None:
            """Remove what a page made."""
            self._answer("DELETE")

        def _answer(self, method: str) -> None:
            try:
                request = self._request(method)
            except _Refused as error:
                self._send(_words(error.status, str(error)), close=True)
                return
            except TimeoutError:
                self._send(_words(HTTPStatus.REQUEST_TIMEOUT, "The request did not come to its end."), close=True)
                return
            visited.set()
            if request is None:
                self._send(Answer(b"", "text/plain", HTTPStatus.FOUND, {"Location": f"/{token}/"}))
            else:
                self._send(_safely(site, request))

        def _request(self, method: str) -> Request | None:
            """Return the request of somebody who knows the token; None where only its last slash is missing."""
            try:
                address = urlsplit(self.path)
            except ValueError:
                raise _Refused(HTTPStatus.BAD_REQUEST, "This is no address.") from None
            parts = tuple(unquote(part) for part in address.path.split("/") if part)
            has_valid_token = bool(parts) and secrets.compare_digest(parts[0].encode(errors="replace"), token.encode())
            if not (has_valid_token and self._from_here()):
                # Whatever a stranger sends along is not read.
                raise _Refused(HTTPStatus.NOT_FOUND, "")
            body = self._body()
            if len(parts) == 1 and not address.path.endswith("/"):
                return None
            return Request(method, parts[1:], _query(address), body)

        def _from_here(self) -> bool:
            # Another name for this machine would let a web page of somebody else's read the answers.
            hosts = self.headers.get_all("Host") or [""]
            try:
                name = urlsplit(f"//{hosts[0]}").hostname
            except ValueError:
                return False
            origin = self.headers.get("Origin")
            here = names is None or name in names
            same = origin in {None, f"http://{hosts[0]}", f"https://{hosts[0]}"}
            return here and len(hosts) == 1 and same

        def _body(self) -> bytes:
            lengths = set(self.headers.get_all("Content-Length") or ["0"])
            length = lengths.pop().strip()
            if "Transfer-Encoding" in self.headers:
                words = "Send the length of the body: what comes in pieces is not read."
                raise _Refused(HTTPStatus.LENGTH_REQUIRED, words)
            if lengths or not (length.isascii() and length.isdecimal()):
                raise _Refused(HTTPStatus.BAD_REQUEST, "The length of the body is no number.")
            if len(length.lstrip("0")) > _MOST_DIGITS or int(length) > MOST_BODY_BYTES:
                words = f"The body is too large: {MOST_BODY_BYTES // 2**20} MB are allowed."
                raise _Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, words)
            size = int(length)
            self._patient.allow(_REQUEST_S + size / _SLOWEST_BYTES_S)
            body: bytes = self.rfile.read(size)
            if len(body) < size:
                raise _Refused(HTTPStatus.BAD_REQUEST, f"The body ended after {len(body)} of {size} bytes.")
            return body

        def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
            """Refuse a request that is none, in words and without a page."""
            del explain
            self.request_version = "HTTP/1.0"  # what could not be read gets a status line, too
            status = HTTPStatus.METHOD_NOT_ALLOWED if code == HTTPStatus.NOT_IMPLEMENTED else HTTPStatus(code)
            if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
                status = HTTPStatus.BAD_REQUEST
            self._send(_words(status, (message or status.phrase)[:200]), close=True)

        def _send(self, answer: Answer, *, close: bool = False) -> None:
            body = io.BytesIO(answer.body) if isinstance(answer.body, bytes) else answer.body
            with body:
                length = body.seek(0, os.SEEK_END)
                body.seek(0)
                headers = {
                    "Content-Type": answer.kind,
                    "Content-Length": str(length),
                    "Content-Security-Policy": answer.policy or policy,
                    "Cross-Origin-Resource-Policy": "same-origin",
                    "Cross-Origin-Opener-Policy": "same-origin",
                    "X-Content-Type-Options": "nosniff",
                    "Referrer-Policy": "no-referrer",
                    "Cache-Control": "no-store",
                    **({"Connection": "close"} if close else {}),
                    **answer.headers,
                }
                self.close_connection = close or self.close_connection
                self.connection.settimeout(_IDLE_S)
                self.send_response(answer.status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    copyfileobj(body, self.wfile)
            if close:
                self._hang_up()

        def _hang_up(self) -> None:
            """Let the other end read the answer: a connection closed over what it still sends would lose it."""
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_WR)
            self.connection.settimeout(_HANG_UP_S)
            until = time.monotonic() + _HANG_UP_S
            while time.monotonic() < until and self.connection.recv(2**16):
                pass

        def log_message(self, *args: Any) -> None:
            """Stay silent; the address would be in the log."""

    return Handler


def _query(address: SplitResult) -> dict[str, str]:
    try:
        return dict(parse_qsl(address.query, max_num_fields=_MOST_FIELDS))
    except ValueError:
        raise _Refused(HTTPStatus.BAD_REQUEST, f"The query has more than {_MOST_FIELDS} fields.") from None


def _words(status: int, text: str) -> Answer:
    """Answer a request that is none in words, which the page shows and a person can read."""
    return json_answer({"error": text}, status) if text else Answer(b"", "text/plain", status)


def _safely(site: Site, request: Request) -> Answer:
    """Turn what a user can mend into a message that the page shows."""
    try:
        return site(request) or _words(HTTPStatus.NOT_FOUND, "There is nothing of that name.")
    except (UnderpaintError, OSError, MemoryError) as error:
        return _words(HTTPStatus.BAD_REQUEST, page_words(str(error) or type(error).__name__))
    except Exception as error:
        _report_fault(error)
        text = f"A fault of the viewer ({type(error).__name__}: {error}). All else goes on; please report it."
        return json_answer({"error": text}, HTTPStatus.INTERNAL_SERVER_ERROR)


def _report_fault(error: BaseException | None) -> None:
    """Say in one line what fault of the program it was and where, without the address."""
    steps = traceback.extract_tb(error.__traceback__ if error else None)
    where = f"{Path(steps[-1].filename).name}, line {steps[-1].lineno}" if steps else "unknown"
    sys.stderr.write(f"A fault of the viewer: {type(error).__name__} at {where}. Please report it.\n")
