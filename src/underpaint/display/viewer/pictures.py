"""Pictures of the painting that are saved with the results and registered to the maps."""

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

MAX_PICTURE_SIDE = 6000
"""Maximum length of the longer side of a saved picture, in pixels."""
MAX_PIXELS = 400_000_000
MAX_PICTURES = 40
_HIGH_BIT_DEPTH_MODES = ("I;16", "I;16B", "I;16L", "I", "F")
"""Pillow modes with more than eight bits per pixel, as in digital X-radiographs."""
_CONTRAST_PERCENTILES = (0.1, 99.9)
"""Percentiles of the grey values of a picture with more than eight bits per pixel. The first percentile becomes black,
and the second white."""
_PREVIEW_SIDE = 1600
_REGISTERED_SIDE = 2400
_MAX_POINT_PAIRS = 1000
_MAX_COORDINATE = 1e6


class Pictures:
    """Pictures in a folder of results, by key.

    Parameters
    ----------
    folder : Path
        Folder of results.
    maps : ResultMaps
    """

    def __init__(self, folder: Path, maps: ResultMaps) -> None:
        self.folder, self.maps = folder, maps

    def answer(self, request: Request) -> Answer | None:
        """Answer requests for ``pictures``, ``pictures/add?kind=`` and ``pictures/KEY[/place|preview|registered]``."""
        if not request.parts:
            return json_answer(self.facts()) if request.method == "GET" else None
        key, action = request.parts[0], "/".join(request.parts[1:])
        match request.method, action:
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
                return Answer(self._preview_jpeg(key), "image/jpeg")
            case "GET", "registered":
                return file_answer(self.folder, *picture_files(key).registered)
        return None

    def facts(self) -> list[dict[str, Any]]:
        """Return the properties of each picture."""
        return [self.facts_of(key) for key in picture_keys(self.folder)]

    def facts_of(self, key: str) -> dict[str, Any]:
        """Return the size and registration of a picture, and a message if either cannot be read."""
        sidecar_files = picture_files(key)
        properties = {"key": key, "width": 0, "height": 0, "registration": None, "broken": ""}
        try:
            properties["width"], properties["height"] = _picture_size(self.folder, sidecar_files.picture)
            registration = registration_of(self.folder, key)
            if registration is not None:
                _picture_size(self.folder, sidecar_files.registered)
        except ScanError as error:
            return properties | {"broken": str(error)}
        return properties | {"registration": registration}

    def add(self, encoded_picture: bytes, kind: str) -> str:
        """Save a picture and return its key; the first picture in visible light is the photograph.

        Raises
        ------
        ScanError
            The data are not a picture, the picture is too large, there are too many pictures, or the kind is unknown.
        """
        if kind not in PICTURE_KINDS:
            raise ScanError(f"Cannot add a picture of the kind {kind[:40]!r}; choose {', '.join(PICTURE_KINDS)}.")
        picture = _decode(encoded_picture)
        with one_writer(self.folder):
            keys = picture_keys(self.folder)
            if len(keys) >= MAX_PICTURES:
                raise ScanError(f"Cannot add a picture: there are {len(keys)} already. Remove one first.")
            numbered_keys = (f"{kind}_{number}" for number in range(1, len(keys) + 2))
            is_photograph = kind == "visible" and PHOTOGRAPH not in keys
            key = (
                PHOTOGRAPH
                if is_photograph
                else next(numbered_key for numbered_key in numbered_keys if numbered_key not in keys)
            )
            if not is_photograph:
                folder_inside(self.folder, PICTURES_FOLDER)
            sidecar_files = picture_files(key)
            with atomic_write(self.folder.joinpath(*sidecar_files.picture)) as partial_path:
                picture.save(partial_path, format="JPEG", quality=93)
            self._remove_files(
                sidecar_files.place, sidecar_files.registered
            )  # an existing registration belongs to an earlier picture
        return key

    def remove(self, key: str) -> None:
        """Remove a picture and its registration.

        Raises
        ------
        OutputError
            A file cannot be removed.
        """
        sidecar_files = picture_files(key)
        with one_writer(self.folder):
            if key != PHOTOGRAPH and os.path.lexists(self.folder / PICTURES_FOLDER):
                folder_inside(self.folder, PICTURES_FOLDER)
            self._remove_files(sidecar_files.place, sidecar_files.registered, sidecar_files.picture)

    def _remove_files(self, *relative_paths: tuple[str, ...]) -> None:
        for path_parts in relative_paths:
            path = self.folder.joinpath(*path_parts)
            try:
                path.unlink(missing_ok=True)  # removes a link, not its target
            except OSError as error:
                raise OutputError(
                    f"Cannot remove {path}: {error.strerror or error}. Check the folder's rights."
                ) from error

    def register(self, key: str, request_body: dict[str, Any]) -> Registration:
        """Register a picture to the maps, by pairs of points or automatically, and save the registration.

        Raises
        ------
        ScanError
            The picture does not exist, or the points do not determine a registration.
        """
        sidecar_files = picture_files(key)
        digest = picture_digest(self.folder, key)
        if digest is None:
            raise ScanError(f"Cannot register the picture {key}: it does not exist. Choose a picture first.")
        pixels = _read_pixels(self.folder, sidecar_files.picture, digest)
        if request_body.get("automatic"):
            registration = register_automatically(_shrink(pixels), high_contrast_maps(self.maps))
            registration = replace(registration, matrix=_enlarge(registration.matrix, pixels))
        else:
            point_pairs = _point_pairs(request_body.get("points"))
            registration = register_by_points(
                [pair[:2] for pair in point_pairs], [pair[2:] for pair in point_pairs], "picture"
            )
        if not np.isfinite(registration.matrix).all():
            raise ScanError("Cannot register the picture: its points lie on one line or coincide. Mark other points.")
        shape = self.maps.shape
        registered_picture = warp_to_maps(pixels, registration.matrix, shape, max(1, _REGISTERED_SIDE // max(shape)))
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
                raise ScanError("Cannot register the picture: another one was chosen meanwhile. Load the page again.")
            with atomic_write(self.folder.joinpath(*sidecar_files.registered)) as partial_path:
                Image.fromarray((255 * np.clip(registered_picture, 0, 1)).astype(np.uint8)).save(
                    partial_path, format="PNG"
                )
            write_json(self.folder.joinpath(*sidecar_files.place), record)
        return registration

    def _preview_jpeg(self, key: str) -> bytes:
        stream = io.BytesIO()
        with _open_picture(self.folder, picture_files(key).picture) as image:
            image.thumbnail((_PREVIEW_SIDE, _PREVIEW_SIDE))
            image.convert("RGB").save(stream, format="JPEG", quality=88)
        return stream.getvalue()


def _decode(encoded_picture: bytes) -> Image.Image:
    """Return a decoded picture in RGB, upright and reduced to ``MAX_PICTURE_SIDE``.

    Raises
    ------
    ScanError
        The data are not a readable picture, or the picture is too large.
    """
    try:
        with Image.open(io.BytesIO(encoded_picture)) as source_image:
            _refuse_large(source_image.width, source_image.height)
            upright_image = ImageOps.exif_transpose(source_image)
            picture = (
                _stretch_contrast(np.asarray(upright_image))
                if upright_image.mode in _HIGH_BIT_DEPTH_MODES
                else upright_image.convert("RGB")
            )
    except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError) as error:
        raise ScanError(
            "Cannot use the picture: it is no readable JPEG, PNG or TIFF picture. Choose another."
        ) from error
    picture.thumbnail((MAX_PICTURE_SIDE, MAX_PICTURE_SIDE))
    return picture


def _stretch_contrast(gray_values: NDArray[Any]) -> Image.Image:
    """Return grey values of any bit depth as an eight-bit image, with the contrast stretched from black to white."""
    black_value, white_value = np.nanpercentile(gray_values, _CONTRAST_PERCENTILES)
    scaled_values = (gray_values.astype(np.float32) - black_value) / max(float(white_value - black_value), 1e-9)
    return Image.fromarray(np.round(255 * np.clip(np.nan_to_num(scaled_values), 0, 1)).astype(np.uint8)).convert("RGB")


def _refuse_large(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise ScanError(
            f"Cannot use a picture of {width} x {height} pixels: at most {MAX_PIXELS / 1e6:.0f} million are allowed. "
            "Save it smaller."
        )


@contextmanager
def _open_picture(folder: Path, path_parts: tuple[str, ...]) -> Iterator[Image.Image]:
    """Open a picture of a results folder.

    Raises
    ------
    ScanError
        The file is missing, is damaged, is not a picture, or is a link.
    """
    try:
        with open_contained(folder, *path_parts) as file, Image.open(file) as image:
            yield image
    except (OSError, ValueError, SyntaxError, ScanError, Image.DecompressionBombError) as error:
        reason = "it is no picture" if isinstance(error, UnidentifiedImageError) else error
        raise ScanError(
            f"Cannot read {folder.joinpath(*path_parts)}: {reason}. Remove the picture and "
            "choose it again. Until then the file remains unchanged."
        ) from error


def _picture_size(folder: Path, path_parts: tuple[str, ...]) -> tuple[int, int]:
    with _open_picture(folder, path_parts) as image:
        width, height = image.size
        image.verify()
    return int(width), int(height)


def _point_pairs(point_values: Any) -> list[tuple[float, float, float, float]]:
    try:
        point_pairs = [(float(x), float(y), float(column), float(row)) for x, y, column, row in point_values or ()]
        if len(point_pairs) <= _MAX_POINT_PAIRS and all(
            abs(coordinate) <= _MAX_COORDINATE for point_pair in point_pairs for coordinate in point_pair
        ):
            return point_pairs
        reason: Exception | None = None
    except (TypeError, ValueError, OverflowError) as error:
        reason = error
    raise ScanError(
        f"Cannot register: at most {_MAX_POINT_PAIRS} points are allowed, each with x, y, column and row."
    ) from reason


@lru_cache(maxsize=1)
def _read_pixels(folder: Path, path_parts: tuple[str, ...], digest: str) -> NDArray[np.float32]:
    del digest  # the digest is only part of the cache's key
    with _open_picture(folder, path_parts) as image:
        return np.asarray(np.asarray(image.convert("RGB"), dtype=np.float32) / 255, dtype=np.float32)


def _shrink(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    block_size = max(1, max(pixels.shape) // _PREVIEW_SIDE)
    height, width = (size // block_size * block_size for size in pixels.shape[:2])
    pixel_blocks = pixels[:height, :width].reshape(height // block_size, block_size, width // block_size, block_size, 3)
    return np.asarray(pixel_blocks.mean(axis=(1, 3)), dtype=np.float32)


def _enlarge(matrix: NDArray[np.float64], pixels: NDArray[np.float32]) -> NDArray[np.float64]:
    block_size = max(1, max(pixels.shape) // _PREVIEW_SIDE)
    return np.asarray(np.diag([block_size, block_size, 1.0]) @ matrix)
