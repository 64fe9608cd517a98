"""HTTP server whose pages require a secret token in the address. By default, only this machine has access."""

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
MAX_BODY_BYTES = 256 * 2**20
"""Maximum size of the body of a request, in bytes. The body may be a picture."""
MAX_CONNECTIONS = 256
"""Maximum number of connections, each of which has a thread. Further connections get status 503."""
_MAX_PENDING_CONNECTIONS = 200
_MAX_NUMBER_DIGITS = 9
_MAX_QUERY_FIELDS = 100
_IDLE_TIME_S = 30.0
_CLOSE_TIME_S = 1.0
_REQUEST_TIME_S = 30.0
_MIN_BYTES_PER_S = 20_000
"""Minimum speed of a request, in bytes per second, after an allowance of ``_REQUEST_TIME_S``. A slower request is
aborted."""
_POLL_S = 0.05
_LOCAL_NAMES = {HOST, "localhost"}
_NOTEBOOK_ORIGINS = "http://localhost:* http://127.0.0.1:*"


@dataclass(frozen=True)
class Request:
    """Request of a page.

    Parameters
    ----------
    method : str
        "GET", "POST" or "DELETE".
    parts : tuple of str
        Decoded parts of the path after the token. Empty parts are omitted.
    query : mapping of str to str
    body : bytes
    """

    method: str
    parts: tuple[str, ...]
    query: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    def under(self, depth: int) -> "Request":
        """Return the same request without the first ``depth`` parts of its path."""
        return Request(self.method, self.parts[depth:], self.query, self.body)

    def number(self, name: str) -> int:
        """Return an integer from the query.

        Raises
        ------
        UnderpaintError
            The field is missing or not an integer.
        """
        text = self.query.get(name, "")
        if not text.removeprefix("-").isdecimal() or len(text) > _MAX_NUMBER_DIGITS:
            raise UnderpaintError(f"Cannot answer: {name} is {text[:20]!r}; it must be a whole number.")
        return int(text)

    def json(self) -> dict[str, Any]:
        """Return the JSON object in the body.

        Raises
        ------
        UnderpaintError
            The body is not a JSON object.
        """
        try:
            content = json.loads(self.body)
        except (ValueError, RecursionError) as error:
            raise UnderpaintError("Cannot answer: the page sent no JSON. Load the page again.") from error
        if not isinstance(content, dict):
            raise UnderpaintError("Cannot answer: the page sent no JSON object. Load the page again.")
        return content


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
        Additional headers.
    policy : str
        Content security policy; "" selects the policy of the viewer's pages.
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
        Address of the first page, including the token.
    thread : threading.Thread
        Thread that serves until the ``with`` block of :func:`serve_site` ends.
    visited : threading.Event
        Event that is set by the first request with a valid token.
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
        Function that answers requests with a valid token.
    port : int
        Port; 0 selects a free port.
    host : str
        Address to listen on. An address that is not local admits requests from the network.
    framed : bool
        Whether a notebook on this machine may show the pages in a frame.

    Raises
    ------
    OutputError
        The port is in use or invalid, or the host is not an address of this machine.
    """
    token = secrets.token_urlsafe(16)
    host_names = _LOCAL_NAMES if host in _LOCAL_NAMES else None
    visited = threading.Event()
    try:
        server = _BoundedServer((host, port), _handler(site, token, host_names, visited, framed=framed))
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or "ports go from 0 to 65535"
        if isinstance(error, PermissionError):
            reason += "; the system reserves ports below 1024 for the administrator"
        raise OutputError(
            f"Cannot open port {port} on {host}: {reason}. Choose another port, or 0 for a free port."
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
    """Answer with JSON, in which NaN and infinite numbers become null."""
    try:
        json_text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    except ValueError:
        json_text = json.dumps(json.loads(json.dumps(value), parse_constant=lambda _: None), separators=(",", ":"))
    return Answer(json_text.encode(), "application/json", status)


def file_answer(folder: Path, *names: str, policy: str = "") -> Answer | None:
    """Answer with a file of a results folder; None for a missing file or a link.

    The file may come from an untrusted source, so its policy forbids scripts and access to the viewer's pages.
    """
    try:
        file = open_contained(folder, *names)
    except (OSError, ValueError, UnderpaintError):
        return None
    kind = guess_type(names[-1])[0] or "application/octet-stream"
    kind += "; charset=utf-8" if kind.startswith("text/") else ""
    # Browsers do not show a PDF under a sandbox policy.
    headers = {"Content-Disposition": "attachment"} if kind == "application/pdf" else {}
    return Answer(file, kind, headers=headers, policy="; ".join([policy or "default-src 'none'", "sandbox"]))


def page_policy(*, framed: bool) -> str:
    """Return the content policy of the viewer's pages: scripts and styles from this server, no evaluated code."""
    return (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors " + (_NOTEBOOK_ORIGINS if framed else "'none'")
    )


class _BoundedServer(ThreadingHTTPServer):
    """Server with a maximum number of connections; further connections get status 503."""

    request_queue_size = _MAX_PENDING_CONNECTIONS
    daemon_threads = True
    allow_reuse_address = os.name != "nt"  # on Windows, True would let another program use the same port

    def __init__(self, *arguments: Any) -> None:
        self._free_connections = threading.BoundedSemaphore(MAX_CONNECTIONS)
        super().__init__(*arguments)

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._free_connections.acquire(blocking=False):
            try:
                super().process_request(request, client_address)
            except BaseException:
                self._free_connections.release()
                raise
            return
        with suppress(OSError):
            request.sendall(b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n")
        self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free_connections.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log an error unless it is an error of the connection."""
        del request, client_address
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            _log_fault(error)


class _TimedReader(io.RawIOBase):
    """Connection reader that raises TimeoutError after a deadline, or after a period without data."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._deadline_s = time.monotonic() + _IDLE_TIME_S

    def allow(self, seconds: float) -> None:
        """Set the deadline to ``seconds`` from now."""
        self._deadline_s = time.monotonic() + seconds

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._connection.settimeout(max(min(self._deadline_s - time.monotonic(), _IDLE_TIME_S), 0.001))
        return self._connection.recv_into(buffer)


class _RefusedRequest(Exception):  # noqa: N818 - an answer, not an error of the program
    """Refusal of a request, with the status and message of the answer. The server then closes the connection."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


def _handler(
    site: Site, token: str, host_names: set[str] | None, visited: threading.Event, *, framed: bool
) -> type[BaseHTTPRequestHandler]:
    policy = page_policy(framed=framed)

    class Handler(BaseHTTPRequestHandler):
        """Handler that answers requests with a valid token."""

        server_version = "underpaint"
        sys_version = ""
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        timeout = _IDLE_TIME_S

        def setup(self) -> None:
            super().setup()
            self.rfile.close()
            self._timed_reader = _TimedReader(self.connection)
            self.rfile = io.BufferedReader(self._timed_reader)

        def handle_one_request(self) -> None:
            """Answer one request, with a new deadline."""
            self._timed_reader.allow(_REQUEST_TIME_S)
            try:
                super().handle_one_request()
            except (OSError, ValueError):
                # The user closed the page or stopped a download, or the request was too slow.
                self.close_connection = True

        def parse_request(self) -> bool:
            """Read the headers, with a new deadline that does not include the wait for the first line."""
            self._timed_reader.allow(_REQUEST_TIME_S)
            return super().parse_request()

        def do_GET(self) -> None:
            """Answer a GET request."""
            self._answer("GET")

        def do_POST(self) -> None:
            """Answer a POST request."""
            self._answer("POST")

        def do_DELETE(self) -> None:
            """Answer a DELETE request."""
            self._answer("DELETE")

        def _answer(self, method: str) -> None:
            try:
                request = self._request(method)
            except _RefusedRequest as error:
                self._send(_error_answer(error.status, str(error)), close=True)
                return
            except TimeoutError:
                self._send(
                    _error_answer(HTTPStatus.REQUEST_TIMEOUT, "The request was not complete in time."), close=True
                )
                return
            visited.set()
            if request is None:
                self._send(Answer(b"", "text/plain", HTTPStatus.FOUND, {"Location": f"/{token}/"}))
            else:
                self._send(_answer_or_error(site, request))

        def _request(self, method: str) -> Request | None:
            """Return the request after checking the token; None if only the final slash of the address is missing."""
            try:
                address = urlsplit(self.path)
            except ValueError:
                raise _RefusedRequest(HTTPStatus.BAD_REQUEST, "The address is not valid.") from None
            parts = tuple(unquote(part) for part in address.path.split("/") if part)
            has_valid_token = bool(parts) and secrets.compare_digest(parts[0].encode(errors="replace"), token.encode())
            if not (has_valid_token and self._is_from_local_page()):
                # The body of a request without a valid token is not read.
                raise _RefusedRequest(HTTPStatus.NOT_FOUND, "")
            body = self._read_body()
            if len(parts) == 1 and not address.path.endswith("/"):
                return None
            return Request(method, parts[1:], _query_fields(address), body)

        def _is_from_local_page(self) -> bool:
            # A foreign web page that gives this machine another host name must not read the answers.
            host_headers = self.headers.get_all("Host") or [""]
            try:
                host_name = urlsplit(f"//{host_headers[0]}").hostname
            except ValueError:
                return False
            origin_header = self.headers.get("Origin")
            is_local_name = host_names is None or host_name in host_names
            is_same_origin = origin_header in {None, f"http://{host_headers[0]}", f"https://{host_headers[0]}"}
            return is_local_name and len(host_headers) == 1 and is_same_origin

        def _read_body(self) -> bytes:
            length_headers = set(self.headers.get_all("Content-Length") or ["0"])
            length = length_headers.pop().strip()
            if "Transfer-Encoding" in self.headers:
                refusal_message = "Chunked bodies are not read. Send the length of the body."
                raise _RefusedRequest(HTTPStatus.LENGTH_REQUIRED, refusal_message)
            if length_headers or not (length.isascii() and length.isdecimal()):
                raise _RefusedRequest(HTTPStatus.BAD_REQUEST, "The length of the body is not a number.")
            if len(length.lstrip("0")) > _MAX_NUMBER_DIGITS or int(length) > MAX_BODY_BYTES:
                refusal_message = f"The body is too large: {MAX_BODY_BYTES // 2**20} MB are allowed."
                raise _RefusedRequest(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, refusal_message)
            n_byte = int(length)
            self._timed_reader.allow(_REQUEST_TIME_S + n_byte / _MIN_BYTES_PER_S)
            body: bytes = self.rfile.read(n_byte)
            if len(body) < n_byte:
                raise _RefusedRequest(HTTPStatus.BAD_REQUEST, f"The body ended after {len(body)} of {n_byte} bytes.")
            return body

        def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
            """Answer an invalid request with a message instead of a page."""
            del explain
            self.request_version = "HTTP/1.0"  # so that the answer to an unreadable request also has a status line
            status = HTTPStatus.METHOD_NOT_ALLOWED if code == HTTPStatus.NOT_IMPLEMENTED else HTTPStatus(code)
            if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
                status = HTTPStatus.BAD_REQUEST
            self._send(_error_answer(status, (message or status.phrase)[:200]), close=True)

        def _send(self, answer: Answer, *, close: bool = False) -> None:
            body = io.BytesIO(answer.body) if isinstance(answer.body, bytes) else answer.body
            with body:
                body_length = body.seek(0, os.SEEK_END)
                body.seek(0)
                headers = {
                    "Content-Type": answer.kind,
                    "Content-Length": str(body_length),
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
                self.connection.settimeout(_IDLE_TIME_S)
                self.send_response(answer.status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    copyfileobj(body, self.wfile)
            if close:
                self._close_after_reading()

        def _close_after_reading(self) -> None:
            """Close the connection after reading the remaining data, so that the client still receives the answer."""
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_WR)
            self.connection.settimeout(_CLOSE_TIME_S)
            deadline_s = time.monotonic() + _CLOSE_TIME_S
            while time.monotonic() < deadline_s and self.connection.recv(2**16):
                pass

        def log_message(self, *args: Any) -> None:
            """Log nothing, because the log would contain the token."""

    return Handler


def _query_fields(address: SplitResult) -> dict[str, str]:
    try:
        return dict(parse_qsl(address.query, max_num_fields=_MAX_QUERY_FIELDS))
    except ValueError:
        raise _RefusedRequest(HTTPStatus.BAD_REQUEST, f"The query has more than {_MAX_QUERY_FIELDS} fields.") from None


def _error_answer(status: int, message: str) -> Answer:
    """Return an answer with an error message that the page shows; without a message the answer is empty."""
    return json_answer({"error": message}, status) if message else Answer(b"", "text/plain", status)


def _answer_or_error(site: Site, request: Request) -> Answer:
    """Return the site's answer, or an error message that the page shows."""
    try:
        return site(request) or _error_answer(HTTPStatus.NOT_FOUND, "Nothing has this name.")
    except (UnderpaintError, OSError, MemoryError) as error:
        return _error_answer(HTTPStatus.BAD_REQUEST, page_words(str(error) or type(error).__name__))
    except Exception as error:
        _log_fault(error)
        message = (
            f"A fault of the viewer ({type(error).__name__}: {error}). The viewer continues; please report this fault."
        )
        return json_answer({"error": message}, HTTPStatus.INTERNAL_SERVER_ERROR)


def _log_fault(error: BaseException | None) -> None:
    """Write the type and source line of a program error to standard error, but not the page's address."""
    stack_frames = traceback.extract_tb(error.__traceback__ if error else None)
    position = f"{Path(stack_frames[-1].filename).name}, line {stack_frames[-1].lineno}" if stack_frames else "unknown"
    sys.stderr.write(f"A fault of the viewer: {type(error).__name__} at {position}. Please report it.\n")
