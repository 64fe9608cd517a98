"""Requests that no page sends, thrown at the viewer of a results folder that somebody hostile has prepared."""

import io
import json
import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch
from urllib.parse import quote, urlsplit

import numpy as np

from result_parts import joined
from underpaint.data.maps import Results
from underpaint.display.viewer import serve_start
from underpaint.io import write_results

SECRET = b"the-private-text-of-another-folder"
MAP_NAME = b"Fe_K"
_TEXTS = (
    *("", "0", "1", "-1", "-0", "1e9", "nan", "inf", "-inf", "1.5", "9" * 5000, "٣", "²", "0x10", "true", "null"),
    *(
        "\0",
        "%00",
        "../..",
        "..\\..",
        "/etc/passwd",
        "C:\\",
        "\\\\server\\share",
        "a" * 3000,
        "é",
        "\ud800",
        "[]",
        "{}",
    ),
    *("<script>alert(1)</script>", "=1+1", "\r\nX: y", "~", "*", "{{7*7}}", "$(id)", "'; --"),
)
_VALUES: tuple[Any, ...] = (
    *(
        None,
        True,
        0,
        -1,
        1.5,
        10**40,
        -(10**40),
        1e308,
        float("nan"),
        float("inf"),
        "",
        "x",
        "\0",
        "\ud800",
        "a" * 9000,
    ),
    *([], {}, [[]], [None], [[0, 0], [0, 9], [9, 9]], [[0, 0], ["a", 1], [2, 2]], [[1e308, 1e308]] * 3, [[0, 0, 3]]),
    *([{"name": "r", "corners": [[0, 0], [0, 3], [3, 3]]}], [1, "x"], {"a": {"b": []}}, [[float("nan")] * 4] * 3),
)
_ROUTES: dict[tuple[str, str], tuple[str, ...]] = {
    ("GET", "choices"): (),
    ("GET", "list"): ("path",),
    ("GET", "kind"): ("path",),
    ("POST", "open"): ("folder",),
    ("POST", "run"): ("scan", "out", "shape"),  # without a job, so that none is begun
    ("GET", "run"): ("run",),
    ("DELETE", "run"): ("run",),
    ("GET", "open/0/about"): (),
    ("GET", "open/0/scan"): (),
    ("POST", "open/0/scan"): (),
    ("GET", "open/0/lines"): (),
    ("GET", "open/0/map"): ("map",),
    ("GET", "open/0/thumbnail"): ("map", "size"),
    ("GET", "open/0/pixel"): ("row", "column"),
    ("GET", "open/0/class"): ("map", "row", "column", "least"),
    ("GET", "open/0/regions"): (),
    ("POST", "open/0/regions"): ("regions", "version"),
    ("POST", "open/0/region"): ("corners", "runs", "maps", "name", "no_spectrum"),
    ("GET", "open/0/pictures"): (),
    ("GET", "open/0/pictures/photograph/preview"): (),
    ("GET", "open/0/pictures/photograph/registered"): (),
    ("POST", "open/0/pictures/add"): ("kind",),
    ("POST", "open/0/pictures/infrared_1/place"): ("points", "automatic"),
    ("DELETE", "open/0/pictures/photograph"): (),
    ("POST", "open/0/explain"): ("row", "column", "instrument"),
    ("GET", "open/0/export/map"): ("map", "format", "window", "colors", "threshold", "hatch"),
    ("GET", "open/0/export/composite"): ("maps", "format", "window", "hatch"),
    ("GET", "open/0/export/figure5"): ("map", "format"),
    ("GET", "open/0/export/spectrum"): ("row", "column", "format"),
    ("GET", "open/0/export/values"): ("row", "column"),
    ("POST", "open/0/export/region"): ("corners", "runs", "name", "format"),
    ("GET", "open/0/files/"): (),
}
_FILES = (
    *("report.html", "link.html", "linked/secret.html", "../secret.html", "%2e%2e/secret.html", "..%2fsecret.html"),
    *("%2Fetc%2Fpasswd", "pipe.html", "regions.json", "photograph.jpg", "results.h5", "%00", "%ff", "%zz", ".", ".."),
    *(
        "....//secret.html",
        "linked",
        "con.html",
        "a:b.html",
        "..\\secret.html",
        "%252e%252e/secret.html",
        "//",
        "?",
        "#",
    ),
)
_HEADERS = (
    *(
        "Content-Length: -5",
        "Content-Length: x",
        "Content-Length: 99999999999999",
        "Content-Length: 7\r\nContent-Length: 8",
    ),
    *(
        "Transfer-Encoding: chunked",
        "Transfer-Encoding: identity\r\nContent-Length: 3",
        "Origin: null",
        "Origin: https://a.b",
    ),
    *(
        "Origin: http://[",
        "Expect: 100-continue",
        "Connection: upgrade",
        "X: " + "a" * 70000,
        "no colon",
        " : x",
        "X:\0",
    ),
    *(
        "\r\n".join(f"X-{n}: y" for n in range(150)),
        "Host: example.org",
        "Host: [::1",
        "Range: bytes=0-",
        "Cookie: a=b",
    ),
)
_GARBAGE = (
    b"\r\n\r\n",
    b"GET\r\n\r\n",
    b"\0" * 400,
    b"\x16\x03\x01\x05",
    b"GET / HTTP/2.0\r\n\r\n",
    b"A" * 70000 + b"\r\n\r\n",
)


def send_requests(n: int, seed: int) -> tuple[int, int]:
    """Send requests to a viewer, and return how many there were and how many of them told or broke something.

    A leak is an answer of status 500 or above, words on standard error, what lies outside the folder, an answer of
    substance to somebody who does not know the token, a request with the token that is refused without words, and a
    file outside that was changed.
    """
    requests, leaks = leaks_of(n, seed)
    return requests, len(leaks)


def leaks_of(n: int, seed: int) -> tuple[int, list[str]]:
    """Return how many requests were sent, and in words which of them leaked."""
    rng = np.random.default_rng(seed)
    leaks: list[str] = []
    words = io.StringIO()
    with tempfile.TemporaryDirectory() as place, redirect_stderr(words), _served(Path(place)) as (address, outside):
        for _ in range(n):
            known, sent = _request(rng, urlsplit(address))
            answer = _exchange(urlsplit(address), sent)
            reason = _reason(answer, sent, known=known) or words.getvalue()
            words.seek(0)
            words.truncate()
            if reason:
                leaks.append(f"{reason}: {sent[:200]!r} -> {answer[:200]!r}")
        leaks += [f"{path} was changed" for path in outside if path.read_bytes() != SECRET]
    return n, leaks


@contextmanager
def _served(place: Path) -> Iterator[tuple[str, list[Path]]]:
    """Serve the start page with hostile results opened; yield the address and the files that nothing may touch."""
    private = place / "private"
    private.mkdir()
    outside = [private / "secret.html", private / "photograph.jpg", private / "regions.json", place / "secret.html"]
    for path in outside:
        path.write_bytes(SECRET)
    folder = place / "results"
    area = np.ones((4, 5, 2), np.float32)
    maps = Results.of_lines((MAP_NAME.decode(), "Pb_L"), area, area)
    settings = {"source": str(private / "secret.html")}
    write_results(folder, joined(maps, summary={"name": "panel"}, **settings))
    (folder / "report.html").write_text("<p>report</p>")
    with suppress(
        OSError, NotImplementedError, AttributeError
    ):  # Windows lets few users make links, and knows no pipes
        (folder / "link.html").symlink_to(outside[0])
        (folder / "photograph.jpg").symlink_to(outside[1])
        (folder / "regions.json").symlink_to(outside[2])
        (folder / "linked").symlink_to(private, target_is_directory=True)
        (folder / "regions").symlink_to(private, target_is_directory=True)
        os.mkfifo(folder / "pipe.html")
    with patch.dict(os.environ, {"UNDERPAINT_STATE": str(place / "state")}), serve_start(home=place) as server:
        root = urlsplit(server.address).path
        body = json.dumps({"folder": str(folder)}).encode()
        head = f"POST {root}open HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
        opened = _exchange(urlsplit(server.address), head.encode() + body)
        assert b"open/0/" in opened, opened
        yield server.address, outside


def _request(rng: np.random.Generator, address: Any) -> tuple[bool, bytes]:
    """Return whether a request knows the token and is from here, and its bytes."""
    if rng.random() < 0.03:
        return False, _GARBAGE[rng.integers(len(_GARBAGE))]
    routes = list(_ROUTES)
    method, route = routes[rng.integers(len(routes))]
    fields = _ROUTES[method, route]
    known = rng.random() > 0.15
    token = address.path.strip("/")
    wrong = ("", token[:-1], token + "x", "%00", "..", token.swapcase())
    root = token if known else wrong[rng.integers(len(wrong))]
    if route.endswith("files/"):
        route += _FILES[rng.integers(len(_FILES))]
    elif rng.random() < 0.1:
        route += "/" + quote(_TEXTS[rng.integers(len(_TEXTS))], errors="replace")
    body = b""
    if method == "GET":
        chosen = {name: _text(rng) for name in fields if rng.random() > 0.2}
        pairs = [f"{name}={quote(text, errors='replace')}" for name, text in chosen.items()]
        route += "?" + "&".join(pairs) if pairs else ""
    else:
        body = _body(rng, fields)
    headers = [f"Host: {address.netloc}", f"Content-Length: {len(body)}"]
    if rng.random() < 0.2:
        odd = _HEADERS[rng.integers(len(_HEADERS))]
        headers = [odd, *headers] if rng.random() < 0.5 else [headers[0], odd]
    if rng.random() < 0.05:
        method = ("PUT", "HEAD", "OPTIONS", "TRACE", "get", "G\0T")[rng.integers(6)]
    head = f"{method} /{root}/{route} HTTP/1.1\r\n" + "\r\n".join(headers) + "\r\n\r\n"
    return known, head.encode("latin-1", "replace") + body


def _text(rng: np.random.Generator) -> str:
    usual = ("0", "1", "2", "csv", "tif", "0,1,0,1", "0,,1")
    return usual[rng.integers(len(usual))] if rng.random() < 0.5 else _TEXTS[rng.integers(len(_TEXTS))]


def _body(rng: np.random.Generator, fields: tuple[str, ...]) -> bytes:
    bodies = (
        b"",
        b"\0\xff",
        b"[" * 60000,
        b"{",
        b'"x"',
        b"[1]",
        b"null",
        b"\xff\xd8\xff\xe0junk",
        b"\x89PNG\r\n\x1a\n",
    )
    if rng.random() < 0.2:
        return bodies[rng.integers(len(bodies))]
    return json.dumps({name: _VALUES[rng.integers(len(_VALUES))] for name in fields if rng.random() > 0.1}).encode()


def _exchange(address: Any, sent: bytes) -> bytes:
    with socket.create_connection((address.hostname, address.port), timeout=60) as connection:
        with suppress(ConnectionError):
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
        answer = b""
        with suppress(ConnectionError):
            while part := connection.recv(2**16):
                answer += part
    return answer


def _reason(answer: bytes, sent: bytes, *, known: bool) -> str:
    """Return in words why an answer is a leak; "" where it is none."""
    answer = answer.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n")
    if not answer:
        return "" if sent in _GARBAGE else "no answer"
    status = int(answer[9:12])
    if status >= 500 or b"Traceback" in answer:
        return "a fault"
    if SECRET[:16] in answer:
        return "a private file"
    if not known and (status < 400 or MAP_NAME in answer):
        return "an answer without the token"
    if known and status >= 400 and not sent.startswith(b"HEAD") and b'"error":"' not in answer and status != 404:
        return "no words"
    return ""
