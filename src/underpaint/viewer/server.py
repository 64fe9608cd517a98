"""A small server that shows pages to whoever knows its address, by default to this machine alone."""

import json
import secrets
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from mimetypes import guess_type
from pathlib import Path
from shutil import copyfileobj
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from underpaint.errors import OutputError, UnderpaintError

HOST = "127.0.0.1"
MOST_BODY_BYTES = 256 * 2**20
"""Of a photograph sent by the page."""
_POLL_S = 0.05
_OWN_NAMES = {HOST, "localhost"}
_NOTEBOOKS = "http://localhost:* http://127.0.0.1:*"


@dataclass(frozen=True)
class Request:
    """What a page asks for.

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
        if not text.removeprefix("-").isdecimal() or len(text) > 9:
            message = f"Cannot answer: {name} is {text[:20]!r}; it must be a whole number."
            raise UnderpaintError(message)
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
            message = "Cannot answer: the page sent no JSON. Load the page again."
            raise UnderpaintError(message) from error
        if not isinstance(value, dict):
            message = "Cannot answer: the page sent no JSON object. Load the page again."
            raise UnderpaintError(message)
        return value


@dataclass(frozen=True)
class Answer:
    """What is sent.

    Parameters
    ----------
    body : bytes or Path
        A path's file is sent as it is.
    kind : str
        Media type; "" takes it from the file's name.
    status : int
    headers : mapping of str to str
        More headers.
    policy : str
        Content-Security-Policy; "" takes the page's own.
    """

    body: bytes | Path
    kind: str = ""
    status: int = HTTPStatus.OK
    headers: Mapping[str, str] = field(default_factory=dict)
    policy: str = ""


Site = Callable[[Request], Answer | None]
"""What answers requests; None: there is nothing of that name."""


@dataclass(frozen=True)
class Server:
    """A running server.

    Parameters
    ----------
    address : str
        Of the first page, token included.
    thread : threading.Thread
        Serves until the ``with`` block of :func:`serve_site` ends.
    """

    address: str
    thread: threading.Thread

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
    try:
        server = ThreadingHTTPServer((host, port), _handler(site, token, names, framed))
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or "ports go from 0 to 65535"
        message = f"Cannot open port {port} on {host}: {reason}. Choose another, or 0 for a free one."
        raise OutputError(message) from error
    thread = threading.Thread(target=server.serve_forever, args=(_POLL_S,), daemon=True)
    thread.start()
    try:
        yield Server(f"http://{host}:{server.server_address[1]}/{token}/", thread)
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


def page_policy(*, framed: bool) -> str:
    """Return the policy of the viewer's own pages: scripts and styles of this server, and nothing evaluated."""
    return (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
        f"base-uri 'none'; form-action 'none'; frame-ancestors {_NOTEBOOKS if framed else chr(39) + 'none' + chr(39)}"
    )


def _handler(site: Site, token: str, names: set[str] | None, framed: bool) -> type[BaseHTTPRequestHandler]:
    policy = page_policy(framed=framed)

    class Handler(BaseHTTPRequestHandler):
        """Answers those who know the token."""

        server_version = "underpaint"
        sys_version = ""
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

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
            address = urlsplit(self.path)
            parts = tuple(unquote(part) for part in address.path.split("/") if part)
            known = bool(parts) and secrets.compare_digest(parts[0].encode(), token.encode())
            if not (known and self._from_here()):
                # Whatever a stranger sends along is not read.
                self._send(Answer(b"", "text/plain", HTTPStatus.NOT_FOUND), close=True)
                return
            body = self._body()
            if body is None:
                self._send(Answer(b"", "text/plain", HTTPStatus.REQUEST_ENTITY_TOO_LARGE), close=True)
                return
            if len(parts) == 1 and not address.path.endswith("/"):
                self._send(Answer(b"", "text/plain", HTTPStatus.FOUND, {"Location": f"/{token}/"}))
                return
            self._send(_safely(site, Request(method, parts[1:], dict(parse_qsl(address.query)), body)))

        def _from_here(self) -> bool:
            # Another name for this machine would let a web page of somebody else's read the answers.
            name = (self.headers.get("Host") or "").rpartition(":")[0]
            origin = self.headers.get("Origin")
            own = names is None or name in names
            return own and (origin is None or urlsplit(origin).netloc == self.headers.get("Host"))

        def _body(self) -> bytes | None:
            length = self.headers.get("Content-Length", "0")
            size = int(length) if length.isdecimal() else 0
            return None if size > MOST_BODY_BYTES else self.rfile.read(size)

        def _send(self, answer: Answer, *, close: bool = False) -> None:
            body = answer.body
            length = len(body) if isinstance(body, bytes) else body.stat().st_size
            kind = answer.kind or guess_type(body.name)[0] if isinstance(body, Path) else answer.kind
            headers = {
                "Content-Type": kind or "application/octet-stream",
                "Content-Length": str(length),
                "Content-Security-Policy": answer.policy or policy,
                "X-Content-Type-Options": "nosniff",
                "Referrer-Policy": "no-referrer",
                "Cache-Control": "no-store",
                **({"Connection": "close"} if close else {}),
                **answer.headers,
            }
            self.close_connection = close or self.close_connection
            try:
                self.send_response(answer.status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                if isinstance(body, bytes):
                    self.wfile.write(body)
                else:
                    with body.open("rb") as stream:
                        copyfileobj(stream, self.wfile)
            except ConnectionError:
                # The reader closed the page, or stopped the download of a large file.
                self.close_connection = True

        def log_message(self, *args: Any) -> None:
            """Stay silent; the address would be in the log."""

    return Handler


def _safely(site: Site, request: Request) -> Answer:
    """Turn what a user can mend into a message that the page shows."""
    try:
        return site(request) or Answer(b"", "text/plain", HTTPStatus.NOT_FOUND)
    except (UnderpaintError, OSError, MemoryError) as error:
        return json_answer({"error": str(error) or type(error).__name__}, HTTPStatus.BAD_REQUEST)
    except Exception as error:
        traceback.print_exc(file=sys.stderr)
        text = f"A fault of the viewer ({type(error).__name__}: {error}). All else goes on; please report it."
        return json_answer({"error": text}, HTTPStatus.INTERNAL_SERVER_ERROR)
