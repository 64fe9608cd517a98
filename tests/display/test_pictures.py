"""Pictures beside the maps: any number, each kept, registered and removed by itself."""

import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image
from viewer_fakes import SHAPE, results

from underpaint.display.viewer.result_site import ResultSite
from underpaint.display.viewer.server import Request
from underpaint.errors import OutputError, ScanError
from underpaint.io.results.pictures import PHOTOGRAPH_FILE, REGISTERED_FILE


def jpeg(size: tuple[int, int]) -> bytes:
    stream = io.BytesIO()
    rng = np.random.default_rng(1)
    Image.fromarray(rng.integers(0, 255, (*size, 3), dtype=np.uint8)).save(stream, format="JPEG")
    return stream.getvalue()


POINTS = [[0, 0, 0, 0], [200, 0, SHAPE[1], 0], [0, 120, 0, SHAPE[0]], [200, 120, SHAPE[1], SHAPE[0]]]
"""Of a picture of 200 x 120 pixels that shows just what the maps show."""


def added(site: ResultSite, kind: str, body: bytes) -> str:
    return str(answered(site, "POST", "add", body=body, kind=kind)["key"])


def answered(site: ResultSite, method: str, *parts: str, body: bytes = b"", **query: str) -> Any:
    answer = site(Request(method, ("pictures", *parts), query, body))
    assert answer is not None
    assert isinstance(answer.body, bytes)
    return json.loads(answer.body)


def test_pictures_are_kept_registered_and_removed(tmp_path: Path) -> None:
    folder = results(tmp_path)
    site = ResultSite(folder)
    keys = [added(site, kind, jpeg((120, 200))) for kind in ("visible", "infrared", "visible", "infrared")]
    assert keys == ["photograph", "infrared_1", "visible_1", "infrared_2"]
    assert (folder / PHOTOGRAPH_FILE).is_file()
    for key in ("photograph", "infrared_2"):
        facts = answered(site, "POST", key, "place", body=json.dumps({"points": POINTS}).encode())
        np.testing.assert_allclose(facts["registration"]["matrix"], np.diag([10.0, 10.0, 1.0]), atol=1e-6)
    for path in (folder / REGISTERED_FILE, folder / "pictures" / "infrared_2_registered.png"):
        with Image.open(path) as image:
            assert image.width % SHAPE[1] == 0
    site.close()
    again = ResultSite(folder)
    about = answered(again, "GET")
    assert [each["key"] for each in about] == ["photograph", "visible_1", "infrared_1", "infrared_2"]
    assert [each["registration"] is not None for each in about] == [True, False, False, True]
    (folder / "pictures" / "notes.txt").write_text("mine")
    for key in keys:
        answered(again, "DELETE", key)
    assert not list(folder.glob("photograph*"))
    assert [path.name for path in (folder / "pictures").iterdir()] == ["notes.txt"]
    again.close()


@pytest.mark.parametrize("body", [b"", b"no picture", b"<svg onload='alert(1)'/>"])
def test_what_is_no_picture_is_refused_and_nothing_is_kept(tmp_path: Path, body: bytes) -> None:
    folder = results(tmp_path)
    site = ResultSite(folder)
    for kind in ("visible", "x_radiograph"):
        with pytest.raises(ScanError, match="no readable JPEG, PNG or TIFF"):
            added(site, kind, body)
    with pytest.raises(ScanError, match="kind"):
        added(site, "../visible", jpeg((12, 20)))
    with pytest.raises(ScanError, match="the picture photograph: it does not exist"):
        answered(site, "POST", "photograph", "place", body=b'{"automatic": true}')
    assert not list(folder.glob("p[hi][oc]*"))
    site.close()


def test_an_x_radiograph_of_sixteen_bits_keeps_its_contrast(tmp_path: Path) -> None:
    values = np.linspace(20_000, 40_000, 30 * 40).reshape(30, 40).astype(np.uint16)
    stream = io.BytesIO()
    tifffile.imwrite(stream, values)
    folder = results(tmp_path)
    site = ResultSite(folder)
    key = added(site, "x_radiograph", stream.getvalue())
    with Image.open(folder / "pictures" / f"{key}.jpg") as image:
        grey = np.asarray(image.convert("L"), dtype=float)
    assert grey[0].mean() < 16
    assert grey[-1].mean() > 239
    assert abs(grey[15].mean() - 128) < 10
    site.close()


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_pictures_follow_no_link_out_of_the_results(tmp_path: Path) -> None:
    folder = results(tmp_path)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "infrared_1.jpg").write_bytes(jpeg((12, 20)))
    (folder / "pictures").symlink_to(outside, target_is_directory=True)
    site = ResultSite(folder)
    assert "link" in answered(site, "GET")[0]["broken"]
    with pytest.raises(OutputError, match="link"):
        added(site, "ultraviolet", jpeg((12, 20)))
    with pytest.raises(OutputError, match="link"):
        answered(site, "DELETE", "infrared_1")
    assert [path.name for path in outside.iterdir()] == ["infrared_1.jpg"]
    site.close()
