"""The photograph of the painting: kept with the results, and laid over the maps."""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from underpaint.display.viewer.one_writer import one_writer
from underpaint.display.viewer.server import Answer, Request, file_answer, json_answer
from underpaint.errors import OutputError, ScanError
from underpaint.io.results.contained import open_contained
from underpaint.io.results.result_maps import ResultMaps
from underpaint.io.results.sidecars import (
    PHOTOGRAPH_FILE,
    PHOTOGRAPH_KEY,
    REGISTERED_FILE,
    REGISTRATION_FILE,
    photograph_digest,
    registration_of,
)
from underpaint.reflectance.registration import (
    Registration,
    automatically,
    by_points,
    telling_maps,
    warped,
)
from underpaint.runtime.files import atomic_write, write_json

MOST_SIDE = 6000
"""Longer side that is kept, pixels; maps are far coarser."""
MOST_PIXELS = 400_000_000
_PREVIEW_SIDE = 1600
_LAID_SIDE = 2400
_MOST_POINTS = 1000
_FARTHEST = 1e6


class Photograph:
    """A folder's photograph.

    Parameters
    ----------
    folder : Path
        Of the results.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def facts(self) -> dict[str, Any]:
        """Return whether there is one, its size, how it was laid, and in words what of it cannot be read."""
        if not os.path.lexists(self.folder / PHOTOGRAPH_FILE):
            return {"there": False, "broken": ""}
        try:
            width, height = _size(self.folder, PHOTOGRAPH_FILE)
        except ScanError as error:
            return {"there": False, "broken": str(error)}
        found = {"there": True, "width": width, "height": height, "laid": None, "broken": ""}
        try:
            laid = registration_of(self.folder)
            if laid is not None:
                _size(self.folder, REGISTERED_FILE)
        except ScanError as error:
            return found | {"broken": str(error)}
        return found | {"laid": laid}

    def answer(self, request: Request, maps: ResultMaps) -> Answer | None:
        """Take a new photograph, lay it, send it, or remove it."""
        what = request.parts[0] if request.parts else ""
        if request.method == "DELETE" and not what:
            self.remove()
        elif request.method == "POST" and what == "picture":
            self.keep(request.body)
        elif request.method == "POST" and what == "place":
            self.lay(request.json(), maps)
        elif request.method == "GET" and what == "preview":
            return Answer(self._preview(), "image/jpeg")
        elif request.method == "GET" and what == "laid":
            return file_answer(self.folder, REGISTERED_FILE)
        elif what:
            return None
        return json_answer(self.facts())

    def keep(self, body: bytes) -> None:
        """Save a picture; a registration of an earlier one goes.

        Raises
        ------
        ScanError
            It is none, or far too large.
        """
        try:
            with Image.open(io.BytesIO(body)) as opened:
                if opened.width * opened.height > MOST_PIXELS:
                    raise ScanError(
                        f"Cannot use a photograph of {opened.width} x {opened.height} pixels: it is too large."
                    )
                picture = ImageOps.exif_transpose(opened).convert("RGB")
        except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError) as error:
            raise ScanError(
                "Cannot use the photograph: it is no JPEG, PNG or TIFF picture that can be read."
            ) from error
        picture.thumbnail((MOST_SIDE, MOST_SIDE))
        with one_writer(self.folder):
            with atomic_write(self.folder / PHOTOGRAPH_FILE) as part:
                picture.save(part, format="JPEG", quality=93)
            self._remove(REGISTRATION_FILE, REGISTERED_FILE)  # no longer counts: it names the picture that it is of

    def remove(self) -> None:
        """Remove the photograph and its registration.

        Raises
        ------
        OutputError
            They cannot be removed.
        """
        with one_writer(self.folder):
            self._remove(REGISTRATION_FILE, REGISTERED_FILE, PHOTOGRAPH_FILE)

    def _remove(self, *names: str) -> None:
        for name in names:
            try:
                (self.folder / name).unlink(missing_ok=True)  # a link goes, and what it leads to stays
            except OSError as error:
                raise OutputError(
                    f"Cannot remove {self.folder / name}: {error.strerror or error}. Check the folder's rights."
                ) from error

    def lay(self, asked: dict[str, Any], maps: ResultMaps) -> Registration:
        """Lay the photograph over the maps, by points of both or automatically, and save how.

        Raises
        ------
        ScanError
            There is no photograph, or the points do not do.
        """
        digest = photograph_digest(self.folder)
        if digest is None:
            raise ScanError("There is no photograph to lay over the maps. Choose one first.")
        pixels = _pixels(self.folder, digest)
        if asked.get("automatic"):
            registration = automatically(_shrunk(pixels), telling_maps(maps))
            registration = replace(registration, matrix=_enlarged(registration.matrix, pixels))
        else:
            pairs = _pairs(asked.get("points"))
            registration = by_points([own[:2] for own in pairs], [own[2:] for own in pairs])
        if not np.isfinite(registration.matrix).all():
            raise ScanError("Cannot lay the photograph: its points lie on one line or on one another. Mark others.")
        scale = max(1, _LAID_SIDE // max(maps.shape))
        laid = warped(pixels, registration.matrix, maps.shape, scale)
        record = {
            "matrix": registration.matrix.tolist(),
            "how": registration.method,
            "error_px": registration.error_px,
            "similarity": registration.similarity,
            "doubtful": registration.verdict == "doubtful",
            PHOTOGRAPH_KEY: digest,
            "meaning": "matrix takes (column, row, 1) of the maps to (x, y, 1) of the photograph, pixels, first at 0.5",
        }
        with one_writer(self.folder):
            if photograph_digest(self.folder) != digest:
                raise ScanError(
                    "Another photograph was chosen meanwhile, so this one was not laid. Load the page again."
                )
            with atomic_write(self.folder / REGISTERED_FILE) as part:
                Image.fromarray((255 * np.clip(laid, 0, 1)).astype(np.uint8)).save(part, format="PNG")
            write_json(self.folder / REGISTRATION_FILE, record)
        return registration

    def _preview(self) -> bytes:
        stream = io.BytesIO()
        with _opened(self.folder, PHOTOGRAPH_FILE) as image:
            image.thumbnail((_PREVIEW_SIDE, _PREVIEW_SIDE))
            image.convert("RGB").save(stream, format="JPEG", quality=88)
        return stream.getvalue()


@contextmanager
def _opened(folder: Path, name: str) -> Iterator[Image.Image]:
    """Open a picture of a results folder.

    Raises
    ------
    ScanError
        It is none, is damaged, or is a link.
    """
    try:
        with open_contained(folder, name) as file, Image.open(file) as image:
            yield image
    except (OSError, ValueError, SyntaxError, ScanError, Image.DecompressionBombError) as error:
        reason = "it is no picture" if isinstance(error, UnidentifiedImageError) else error
        raise ScanError(
            f"Cannot read {folder / name}: {reason}. Choose the photograph again; until then the file is left as it is."
        ) from error


def _size(folder: Path, name: str) -> tuple[int, int]:
    with _opened(folder, name) as image:
        width, height = image.size
        image.verify()
    return int(width), int(height)


def _pairs(points: Any) -> list[tuple[float, float, float, float]]:
    try:
        pairs = [(float(x), float(y), float(column), float(row)) for x, y, column, row in points or ()]
        if len(pairs) <= _MOST_POINTS and all(abs(at) <= _FARTHEST for pair in pairs for at in pair):
            return pairs
        reason: Exception | None = None
    except (TypeError, ValueError, OverflowError) as error:
        reason = error
    raise ScanError(
        f"Cannot lay the photograph: points are at most {_MOST_POINTS} times four numbers, x and y, column and row."
    ) from reason


@lru_cache(maxsize=1)
def _pixels(folder: Path, digest: str) -> NDArray[np.float32]:
    del digest  # only so that another picture of the same name is read anew
    with _opened(folder, PHOTOGRAPH_FILE) as image:
        return np.asarray(np.asarray(image.convert("RGB"), dtype=np.float32) / 255, dtype=np.float32)


def _shrunk(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    step = max(1, max(pixels.shape) // _PREVIEW_SIDE)
    height, width = (size // step * step for size in pixels.shape[:2])
    parts = pixels[:height, :width].reshape(height // step, step, width // step, step, 3)
    return np.asarray(parts.mean(axis=(1, 3)), dtype=np.float32)


def _enlarged(matrix: NDArray[np.float64], pixels: NDArray[np.float32]) -> NDArray[np.float64]:
    step = max(1, max(pixels.shape) // _PREVIEW_SIDE)
    return np.asarray(np.diag([step, step, 1.0]) @ matrix)
