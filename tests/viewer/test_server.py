"""The server shows one folder to whoever knows the token, and nothing else to anybody."""

import http.client
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from underpaint.errors import OutputError, ScanError
from underpaint.viewer import ReportServer, serve
from underpaint.viewer.server import find_file

PAGE = b"<p>hello</p>"
TOKEN = "the-token"  # noqa: S105 - of the tests


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Results, with a file beside them and one outside."""
    (tmp_path / "outside.html").write_text("private")
    place = tmp_path / "results"
    (place / "pigments").mkdir(parents=True)
    (place / "report.html").write_bytes(PAGE)
    (place / "pigments" / "vermilion.tif").write_bytes(b"II*\0")
    (place / "notes.txt").write_text("private")
    (place / "link.html").symlink_to(tmp_path / "outside.html")
    return place


@pytest.fixture
def server(folder: Path) -> Iterator[ReportServer]:
    with serve(folder) as running:
        yield running


def ask(server: ReportServer, path: str, *, method: str = "GET", host: str | None = None) -> tuple[int, bytes]:
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


def token_of(server: ReportServer) -> str:
    return urlsplit(server.address).path.split("/")[1]


def test_report_and_maps_are_shown(server: ReportServer) -> None:
    assert ask(server, f"/{token_of(server)}/report.html") == (200, PAGE)
    assert ask(server, f"/{token_of(server)}/") == (200, PAGE)
    assert ask(server, f"/{token_of(server)}/pigments/vermilion.tif") == (200, b"II*\0")


def test_the_token_is_long_and_new_every_time(folder: Path) -> None:
    tokens = set()
    for _ in range(3):
        with serve(folder) as running:
            tokens.add(token_of(running))
    assert len(tokens) == 3
    assert min(map(len, tokens)) >= 20


@pytest.mark.parametrize("path", ["/", "/report.html", "/wrong/report.html", "//report.html"])
def test_without_the_token_nothing_is_shown(server: ReportServer, path: str) -> None:
    status, body = ask(server, path)
    assert status == 404
    assert token_of(server).encode() not in body


def test_part_of_the_token_is_not_enough(server: ReportServer) -> None:
    assert ask(server, f"/{token_of(server)[:-1]}/report.html")[0] == 404


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
def test_nothing_but_the_folders_results_is_shown(server: ReportServer, path: str) -> None:
    status, body = ask(server, f"/{token_of(server)}/{path}")
    assert status == 404
    assert b"private" not in body


def test_an_absolute_path_within_an_address_is_refused(folder: Path) -> None:
    outside = str(folder.parent / "outside.html").replace("/", "%2F")
    assert find_file(folder, TOKEN, f"/{TOKEN}/{outside}") is None
    assert find_file(folder, TOKEN, f"/{TOKEN}/report.html") == folder / "report.html"


def test_a_page_under_another_name_of_this_machine_learns_nothing(server: ReportServer) -> None:
    assert ask(server, urlsplit(server.address).path, host="example.org")[0] == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_nothing_can_be_written(server: ReportServer, method: str) -> None:
    assert ask(server, urlsplit(server.address).path, method=method)[0] == 501


def test_it_listens_on_this_machine_alone_until_it_is_closed(folder: Path) -> None:
    with serve(folder) as running:
        assert urlsplit(running.address).hostname == "127.0.0.1"
        assert running.thread.is_alive()
    assert not running.thread.is_alive()
    running.wait()
    with pytest.raises(ConnectionRefusedError):
        ask(running, "/")


def test_a_folder_without_report_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ScanError, match=r"no report\.html"), serve(tmp_path):
        pass


@pytest.mark.parametrize("port", [-1, 70000])
def test_a_port_that_is_none_is_refused(folder: Path, port: int) -> None:
    with pytest.raises(OutputError, match=r"ports go from 0 to 65535"), serve(folder, port=port):
        pass


def test_a_port_that_is_taken_is_refused(server: ReportServer, folder: Path) -> None:
    port = int(urlsplit(server.address).port or 0)
    with pytest.raises(OutputError, match=f"Cannot open port {port}"), serve(folder, port=port):
        pass
