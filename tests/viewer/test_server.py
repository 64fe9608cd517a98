"""The server shows one folder to whoever knows the token, and nothing else to anybody."""

import http.client
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest

from underpaint.errors import OutputError, ScanError
from underpaint.io import write_results
from underpaint.maps import ElementMaps
from underpaint.viewer import Server, serve
from underpaint.viewer.result_site import find_file

PAGE = b"<p>hello</p>"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Results, with a file beside them and one outside."""
    (tmp_path / "outside.html").write_text("private")
    place = tmp_path / "results"
    maps = ElementMaps(("Fe_K",), np.ones((2, 3, 1), np.float32), np.ones((2, 3, 1), np.float32))
    write_results(place, pigments=None, elements=maps, scan_summary={"name": "panel"}, settings={})
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
    connection = http.client.HTTPConnection(str(address.hostname), int(address.port or 0), timeout=10)
    connection.putrequest(method, path, skip_host=True)
    connection.putheader("Host", host or address.netloc)
    connection.endheaders()
    answer = connection.getresponse()
    status, body = answer.status, answer.read()
    connection.close()
    return status, body


def token_of(server: Server) -> str:
    return urlsplit(server.address).path.split("/")[1]


def test_report_and_maps_are_shown(server: Server) -> None:
    files = f"/{token_of(server)}/files"
    assert ask(server, f"{files}/report.html") == (200, PAGE)
    assert ask(server, files) == (200, PAGE)
    assert ask(server, f"{files}/pigments/vermilion.tif") == (200, b"II*\0")


def test_the_first_page_is_the_viewer_without_script_or_style_of_its_own(server: Server) -> None:
    status, body = ask(server, f"/{token_of(server)}/")
    assert status == 200
    assert b"viewer.js" in body
    assert b"<script>" not in body
    assert b"style=" not in body
    assert b" on" + b"click=" not in body


def test_nothing_is_evaluated_and_nothing_foreign_is_loaded(server: Server) -> None:
    with urllib.request.urlopen(server.address, timeout=10) as answer:  # noqa: S310 - our own server
        policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy


def test_a_page_of_another_origin_is_not_answered(server: Server) -> None:
    request = urllib.request.Request(server.address + "about", headers={"Origin": "https://example.org"})  # noqa: S310
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(request, timeout=10)  # noqa: S310 - our own server


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
    assert find_file(folder, (str(folder.parent / "outside.html"),)) is None
    assert find_file(folder, ("report.html",)) == folder / "report.html"


def test_a_page_under_another_name_of_this_machine_learns_nothing(server: Server) -> None:
    assert ask(server, urlsplit(server.address).path, host="example.org")[0] == 404


@pytest.mark.parametrize(("method", "status"), [("PUT", 501), ("POST", 404), ("DELETE", 404)])
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
