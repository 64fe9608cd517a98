"""Pictures of the painting: kept with the results, and registered to the maps."""

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

from underpaint.display.viewer.one_writer import folder_inside, one_writer
from underpaint.display.viewer.server import Answer, Request, file_answer, json_answer
from underpaint.errors import OutputError, ScanError
from underpaint.io.results.contained import open_contained
from underpaint.io.results.pictures import (
    PHOTOGRAPH,
    PHOTOGRAPH_KEY,
    PICTURE_KINDS,
    PICTURES_FOLDER,
    is_picture_key,
    picture_digest,
    picture_files,
    picture_keys,
    registration_of,
)
from underpaint.io.results.result_maps import ResultMaps
from underpaint.reflectance.registration import (
    Registration,
    high_contrast_maps,
    register_automatically,
    register_by_points,
    warp_to_maps,
)
from underpaint.runtime.files import atomic_write, write_json

MOST_SIDE = 6000
"""Longer side that is kept, in pixels; maps are far coarser."""
MOST_PIXELS = 400_000_000
MAX_PICTURES = 40
_DEEP_MODES = ("I;16", "I;16B", "I;16L", "I", "F")
"""Of Pillow: grey values of more than eight bits, as digital X-radiographs have."""
_BLACK_AND_WHITE = (0.1, 99.9)
"""Percentiles of such values that are drawn black and white."""
_PREVIEW_SIDE = 1600
_LAID_SIDE = 2400
_MOST_POINTS = 1000
_FARTHEST = 1e6


class Pictures:
    """The pictures in a folder of results, by key.

    Parameters
    ----------
    folder : Path
        Of the results.
    maps : ResultMaps
    """

    def __init__(self, folder: Path, maps: ResultMaps) -> None:
        self.folder, self.maps = folder, maps

    def answer(self, request: Request) -> Answer | None:
        """Answer ``pictures`` (all), ``pictures/add?kind=`` and ``pictures/KEY[/place|preview|registered]``."""
        if not request.parts:
            return json_answer(self.facts()) if request.method == "GET" else None
        key, what = request.parts[0], "/".join(request.parts[1:])
        match request.method, what:
            case "POST", "" if key == "add":
                return json_answer(self.facts_of(self.add(request.body, request.query.get("kind", ""))))
            case _ if not is_picture_key(key):
                return None
            case "DELETE", "":
                self.remove(key)
                return json_answer(self.facts())
            case "POST", "place":
                self.register(key, request.json())
                return json_answer(self.facts_of(key))
            case "GET", "preview":
                return Answer(self._preview(key), "image/jpeg")
            case "GET", "registered":
                return file_answer(self.folder, *picture_files(key).registered)
        return None

    def facts(self) -> list[dict[str, Any]]:
        """Return what is known of each picture."""
        return [self.facts_of(key) for key in picture_keys(self.folder)]

    def facts_of(self, key: str) -> dict[str, Any]:
        """Return a picture's size, its registration, and what of it cannot be read, in words."""
        files = picture_files(key)
        facts = {"key": key, "width": 0, "height": 0, "registration": None, "broken": ""}
        try:
            facts["width"], facts["height"] = _size(self.folder, files.picture)
            registration = registration_of(self.folder, key)
            if registration is not None:
                _size(self.folder, files.registered)
        except ScanError as error:
            return facts | {"broken": str(error)}
        return facts | {"registration": registration}

    def add(self, body: bytes, kind: str) -> str:
        """Save a picture and return its key; the first in visible light is the photograph.

        Raises
        ------
        ScanError
            It is none, it is far too large, there are too many, or the kind is unknown.
        """
        if kind not in PICTURE_KINDS:
            raise ScanError(f"Cannot add a picture of the kind {kind[:40]!r}; choose {', '.join(PICTURE_KINDS)}.")
        picture = _decoded(body)
        with one_writer(self.folder):
            keys = picture_keys(self.folder)
            if len(keys) >= MAX_PICTURES:
                raise ScanError(f"Cannot add a picture: there are {len(keys)} already. Remove one first.")
            numbered = (f"{kind}_{number}" for number in range(1, len(keys) + 2))
            is_photograph = kind == "visible" and PHOTOGRAPH not in keys
            key = PHOTOGRAPH if is_photograph else next(name for name in numbered if name not in keys)
            if not is_photograph:
                folder_inside(self.folder, PICTURES_FOLDER)
            files = picture_files(key)
            with atomic_write(self.folder.joinpath(*files.picture)) as part:
                picture.save(part, format="JPEG", quality=93)
            self._remove(files.place, files.registered)  # no longer counts: it names the picture that it is of
        return key

    def remove(self, key: str) -> None:
        """Remove a picture and its registration.

        Raises
        ------
        OutputError
            They cannot be removed.
        """
        files = picture_files(key)
        with one_writer(self.folder):
            if key != PHOTOGRAPH and os.path.lexists(self.folder / PICTURES_FOLDER):
                folder_inside(self.folder, PICTURES_FOLDER)
            self._remove(files.place, files.registered, files.picture)

    def _remove(self, *paths: tuple[str, ...]) -> None:
        for names in paths:
            path = self.folder.joinpath(*names)
            try:
                path.unlink(missing_ok=True)  # a link goes, and what it leads to stays
            except OSError as error:
                raise OutputError(
                    f"Cannot remove {path}: {error.strerror or error}. Check the folder's rights."
                ) from error

    def register(self, key: str, sent: dict[str, Any]) -> Registration:
        """Register a picture to the maps, by points of both or automatically, and save how.

        Raises
        ------
        ScanError
            There is no such picture, or the points do not do.
        """
        files = picture_files(key)
        digest = picture_digest(self.folder, key)
        if digest is None:
            raise ScanError(f"There is no picture {key} to lay over the maps. Choose one first.")
        pixels = _pixels(self.folder, files.picture, digest)
        if sent.get("automatic"):
            registration = register_automatically(_shrunk(pixels), high_contrast_maps(self.maps))
            registration = replace(registration, matrix=_enlarged(registration.matrix, pixels))
        else:
            pairs = _pairs(sent.get("points"))
            registration = register_by_points([pair[:2] for pair in pairs], [pair[2:] for pair in pairs], "picture")
        if not np.isfinite(registration.matrix).all():
            raise ScanError("Cannot lay the picture: its points lie on one line or on one another. Mark others.")
        shape = self.maps.shape
        on_maps = warp_to_maps(pixels, registration.matrix, shape, max(1, _LAID_SIDE // max(shape)))
        record = {
            "matrix": registration.matrix.tolist(),
            "how": registration.method,
            "error_px": registration.error_px,
            "similarity": registration.similarity,
            "doubtful": registration.verdict == "doubtful",
            PHOTOGRAPH_KEY: digest,
            "meaning": "matrix takes (column, row, 1) of the maps to (x, y, 1) of the picture, pixels, first at 0.5",
        }
        with one_writer(self.folder):
            if picture_digest(self.folder, key) != digest:
                raise ScanError("Another picture was chosen meanwhile, so this one was not laid. Load the page again.")
            with atomic_write(self.folder.joinpath(*files.registered)) as part:
                Image.fromarray((255 * np.clip(on_maps, 0, 1)).astype(np.uint8)).save(part, format="PNG")
            write_json(self.folder.joinpath(*files.place), record)
        return registration

    def _preview(self, key: str) -> bytes:
        stream = io.BytesIO()
        with _opened(self.folder, picture_files(key).picture) as image:
            image.thumbnail((_PREVIEW_SIDE, _PREVIEW_SIDE))
            image.convert("RGB").save(stream, format="JPEG", quality=88)
        return stream.getvalue()


def _decoded(body: bytes) -> Image.Image:
    """Return a picture in RGB, upright, at the size that is kept; grey values of many bits are stretched.

    Raises
    ------
    ScanError
        It is none that can be read, or far too large.
    """
    try:
        with Image.open(io.BytesIO(body)) as opened:
            _refuse_large(opened.width, opened.height)
            upright = ImageOps.exif_transpose(opened)
            picture = _stretched(np.asarray(upright)) if upright.mode in _DEEP_MODES else upright.convert("RGB")
    except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError) as error:
        raise ScanError(
            "Cannot use the picture: it is no JPEG, PNG or TIFF picture that can be read. Choose another."
        ) from error
    picture.thumbnail((MOST_SIDE, MOST_SIDE))
    return picture


def _stretched(values: NDArray[Any]) -> Image.Image:
    """Return grey values of any depth in eight bits, their extremes black and white."""
    low, high = np.nanpercentile(values, _BLACK_AND_WHITE)
    scaled = (values.astype(np.float32) - low) / max(float(high - low), 1e-9)
    return Image.fromarray(np.round(255 * np.clip(np.nan_to_num(scaled), 0, 1)).astype(np.uint8)).convert("RGB")


def _refuse_large(width: int, height: int) -> None:
    if width * height > MOST_PIXELS:
        raise ScanError(
            f"Cannot use a picture of {width} x {height} pixels: at most {MOST_PIXELS / 1e6:.0f} million are taken. "
            "Save it smaller."
        )


@contextmanager
def _opened(folder: Path, names: tuple[str, ...]) -> Iterator[Image.Image]:
    """Open a picture of a results folder.

    Raises
    ------
    ScanError
        It is none, is damaged, or is a link.
    """
    try:
        with open_contained(folder, *names) as file, Image.open(file) as image:
            yield image
    except (OSError, ValueError, SyntaxError, ScanError, Image.DecompressionBombError) as error:
        reason = "it is no picture" if isinstance(error, UnidentifiedImageError) else error
        raise ScanError(
            f"Cannot read {folder.joinpath(*names)}: {reason}. Remove the picture and choose it again; until then the "
            "file is left as it is."
        ) from error


def _size(folder: Path, names: tuple[str, ...]) -> tuple[int, int]:
    with _opened(folder, names) as image:
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
        f"Cannot lay the picture: points are at most {_MOST_POINTS} times four numbers, x and y, column and row."
    ) from reason


@lru_cache(maxsize=1)
def _pixels(folder: Path, names: tuple[str, ...], digest: str) -> NDArray[np.float32]:
    del digest  # only so that another picture of the same name is read anew
    with _opened(folder, names) as image:
        return np.asarray(np.asarray(image.convert("RGB"), dtype=np.float32) / 255, dtype=np.float32)


def _shrunk(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    step = max(1, max(pixels.shape) // _PREVIEW_SIDE)
    height, width = (size // step * step for size in pixels.shape[:2])
    parts = pixels[:height, :width].reshape(height // step, step, width // step, step, 3)
    return np.asarray(parts.mean(axis=(1, 3)), dtype=np.float32)


def _enlarged(matrix: NDArray[np.float64], pixels: NDArray[np.float32]) -> NDArray[np.float64]:
    step = max(1, max(pixels.shape) // _PREVIEW_SIDE)
    return np.asarray(np.diag([step, step, 1.0]) @ matrix)
