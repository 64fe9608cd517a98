"""The server shows one folder to whoever knows the token, and nothing else to anybody."""

import errno
import http.client
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest

import underpaint.display.viewer.server
from underpaint.data.maps import Results
from underpaint.display.viewer import Server, serve
from underpaint.display.viewer.result_site import ResultSite
from underpaint.display.viewer.server import Request, file_answer
from underpaint.errors import OutputError, ScanError
from underpaint.io import write_results

PAGE = b"<p>hello</p>"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Results, with a file beside them and one outside."""
    (tmp_path / "outside.html").write_text("private")
    place = tmp_path / "results"
    maps = Results.of_lines(("Fe_K",), np.ones((2, 3, 1), np.float32), np.ones((2, 3, 1), np.float32))
    write_results(place, replace(maps, summary={"name": "panel"}))
    (place / "pigments").mkdir()
    (place / "report.html").write_bytes(PAGE)
    (place / "pigments" / "vermilion.tif").write_bytes(b"II*\0")
    (place / "notes.txt").write_text("private")
    (place / "link.html").symlink_to(tmp_path / "outside.html")
    return place


@pytest.fixture
def server(folder: Path) -> Iterator[Server]:
    with serve(folder) as running:
        yield running


def ask(server: Server, path: str, *, method: str = "GET", host: str | None = None) -> tuple[int, bytes]:
    """Ask for a path as it stands; a usual client would tidy it."""
    address = urlsplit(server.address)
    connection = http.client.HTTPConnection(str(address.hostname), int(address.port or 0), timeout=120)
    connection.putrequest(method, path, skip_host=True)
    connection.putheader("Host", host or address.netloc)
    connection.endheaders()
    answer = connection.getresponse()
    status, body = answer.status, answer.read()
    connection.close()
    return status, body


def token_of(server: Server) -> str:
    return urlsplit(server.address).path.split("/")[1]


def exchange(server: Server, sent: bytes) -> tuple[int, bytes]:
    """Send bytes as they stand, and return the status and everything that came back."""
    address = urlsplit(server.address)
    with socket.create_connection((str(address.hostname), int(address.port or 0)), timeout=120) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: connection.recv(2**16), b""))
    return int(answer.split(b" ", 2)[1]), answer


def test_report_and_maps_are_shown(server: Server) -> None:
    files = f"/{token_of(server)}/files"
    assert ask(server, f"{files}/report.html") == (200, PAGE)
    assert ask(server, files) == (200, PAGE)
    assert ask(server, f"{files}/pigments/vermilion.tif") == (200, b"II*\0")


def test_the_first_page_is_the_viewer_without_inline_script_or_style(server: Server) -> None:
    status, body = ask(server, f"/{token_of(server)}/")
    assert status == 200
    assert b"viewer.js" in body
    assert b"<script>" not in body
    assert b"style=" not in body
    assert b" on" + b"click=" not in body


def test_nothing_is_evaluated_and_nothing_foreign_is_loaded(server: Server) -> None:
    with urllib.request.urlopen(server.address, timeout=120) as answer:  # noqa: S310 - our own server
        policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy


def test_a_page_of_another_origin_is_not_answered(server: Server) -> None:
    request = urllib.request.Request(server.address + "about", headers={"Origin": "https://example.org"})  # noqa: S310
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(request, timeout=120)  # noqa: S310 - our own server


def test_the_token_is_long_and_new_every_time(folder: Path) -> None:
    tokens = set()
    for _ in range(3):
        with serve(folder) as running:
            tokens.add(token_of(running))
    assert len(tokens) == 3
    assert min(map(len, tokens)) >= 20


@pytest.mark.parametrize("path", ["/", "/files/report.html", "/wrong/files/report.html", "//about"])
def test_without_the_token_nothing_is_shown(server: Server, path: str) -> None:
    status, body = ask(server, path)
    assert status == 404
    assert token_of(server).encode() not in body


def test_part_of_the_token_is_not_enough(server: Server) -> None:
    assert ask(server, f"/{token_of(server)[:-1]}/files/report.html")[0] == 404


@pytest.mark.parametrize(
    "path",
    [
        "../outside.html",
        "%2e%2e/outside.html",
        "..%2foutside.html",
        "pigments/../../outside.html",
        "%2Fetc%2Fpasswd",
        "link.html",
        "notes.txt",
        "pigments",
        "absent.html",
        "%00.html",
        "a" * 3000 + ".html",
        "%ff.html",
    ],
)
def test_nothing_but_the_folders_results_is_shown(server: Server, path: str) -> None:
    status, body = ask(server, f"/{token_of(server)}/files/{path}")
    assert status == 404
    assert b"private" not in body


def test_an_absolute_path_is_refused(folder: Path) -> None:
    assert file_answer(folder, str(folder.parent / "outside.html")) is None
    answer = file_answer(folder, "report.html")
    assert answer is not None
    assert not isinstance(answer.body, bytes)
    with answer.body as file:
        assert file.read() == PAGE


def test_a_page_under_another_name_of_this_machine_learns_nothing(server: Server) -> None:
    assert ask(server, urlsplit(server.address).path, host="example.org")[0] == 404


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.0.0.1:80", "LOCALHOST:9"])
def test_a_browser_may_leave_the_usual_port_out(server: Server, host: str) -> None:
    assert ask(server, urlsplit(server.address).path, host=host)[0] == 200


@pytest.mark.parametrize("host", ["", "[", "127.0.0.1.example.org", "example.org:80", "127.0.0.1@example.org", "::1"])
def test_a_host_that_is_not_this_machine_learns_nothing(server: Server, host: str) -> None:
    status, body = exchange(server, f"GET {urlsplit(server.address).path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    assert status == 404
    assert token_of(server).encode() not in body


def test_files_of_the_result_run_nothing_and_have_no_part_in_the_pages(server: Server) -> None:
    _, answer = exchange(server, f"GET /{token_of(server)}/files/ HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
    head = answer.split(b"\r\n\r\n")[0].decode()
    policy = next(line for line in head.splitlines() if line.startswith("Content-Security-Policy"))
    assert policy.endswith("; sandbox")
    assert "Cross-Origin-Resource-Policy: same-origin" in head
    assert "X-Content-Type-Options: nosniff" in head
    assert "Cache-Control: no-store" in head


@pytest.mark.parametrize(
    ("head", "status"),
    [
        ("Content-Length: -1", 400),
        ("Content-Length: x", 400),
        ("Content-Length: ", 400),
        ("Content-Length: 2\r\nContent-Length: 3", 400),
        ("Content-Length: 50", 400),
        ("Content-Length: 99999999999", 413),
        (f"Content-Length: {'9' * 5000}", 413),
        ("Transfer-Encoding: chunked", 411),
    ],
)
def test_a_body_without_a_true_length_is_refused_in_words(server: Server, head: str, status: int) -> None:
    sent = f"POST /{token_of(server)}/regions HTTP/1.1\r\nHost: localhost\r\n{head}\r\n\r\n{{}}"
    answered_status, answer = exchange(server, sent.encode())
    assert answered_status == status
    assert b'"error":"' in answer


@pytest.mark.parametrize(
    "sent",
    [b"\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\x16\x03\x01\x02\r\n\r\n", b"GET //[ HTTP/1.1\r\n\r\n"],
)
def test_what_is_no_request_is_refused(server: Server, sent: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    address = urlsplit(server.address)
    with socket.create_connection((str(address.hostname), int(address.port or 0)), timeout=120) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        answer = connection.recv(2**16)
    assert not answer or b"400" in answer or b"404" in answer
    assert capfd.readouterr().err == ""


def test_a_request_that_does_not_come_to_its_end_is_given_up(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(underpaint.display.viewer.server, "_REQUEST_TIME_S", 0.2)
    address = urlsplit(server.address)
    head = f"POST /{token_of(server)}/regions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n"
    with socket.create_connection((str(address.hostname), int(address.port or 0)), timeout=120) as connection:
        connection.sendall(head.encode())
        assert b" 408 " in connection.recv(2**16)


def test_two_hundred_connections_at_once_are_answered(server: Server) -> None:
    address = urlsplit(server.address)
    all_of_them = [http.client.HTTPConnection("127.0.0.1", int(address.port or 0), timeout=120) for _ in range(200)]
    for connection in all_of_them:
        connection.request("GET", f"{address.path}about")
    assert [connection.getresponse().status for connection in all_of_them] == [200] * 200
    for connection in all_of_them:
        connection.close()


def test_more_connections_than_threads_are_refused_for_now(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(underpaint.display.viewer.server, "MAX_CONNECTIONS", 2)
    with serve(folder) as running:
        address = urlsplit(running.address)
        held = [socket.create_connection(("127.0.0.1", int(address.port or 0)), timeout=120) for _ in range(2)]
        assert exchange(running, b"")[0] == 503
        for connection in held:
            connection.close()
        for _ in range(3000):
            status, _ = ask(running, address.path)
            if status == 200:
                break
            time.sleep(0.02)
        assert status == 200


def test_a_port_that_is_forbidden_is_refused_with_the_reason(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(socket.socket, "bind", forbidden)
    with pytest.raises(OutputError, match=r"port 80 .*below 1024.*0 for a free port"), serve(folder, port=80):
        pass


def test_a_viewer_that_was_closed_answers_in_words(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    site = ResultSite(folder)
    site.close()
    for parts, query in ((("map",), {"map": "0"}), (("pixel",), {"row": "0", "column": "0"})):
        answer = underpaint.display.viewer.server._answer_or_error(site, Request("GET", parts, query))
        assert answer.status == 400
        assert b"the viewer was closed" in answer.body
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(("method", "status"), [("PUT", 405), ("POST", 404), ("DELETE", 404)])
def test_files_cannot_be_written(server: Server, method: str, status: int) -> None:
    assert ask(server, f"/{token_of(server)}/files/report.html", method=method)[0] == status


def test_it_listens_on_this_machine_alone_until_it_is_closed(folder: Path) -> None:
    with serve(folder) as running:
        assert urlsplit(running.address).hostname == "127.0.0.1"
        assert running.thread.is_alive()
    assert not running.thread.is_alive()
    running.wait()
    with pytest.raises(ConnectionRefusedError):
        ask(running, "/")


def test_a_folder_without_results_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ScanError, match=r"no results\.h5"), serve(tmp_path):
        pass


@pytest.mark.parametrize("port", [-1, 70000])
def test_a_port_that_is_none_is_refused(folder: Path, port: int) -> None:
    with pytest.raises(OutputError, match=r"ports go from 0 to 65535"), serve(folder, port=port):
        pass


def test_a_port_that_is_taken_is_refused(server: Server, folder: Path) -> None:
    port = int(urlsplit(server.address).port or 0)
    with pytest.raises(OutputError, match=f"Cannot open port {port}"), serve(folder, port=port):
        pass
