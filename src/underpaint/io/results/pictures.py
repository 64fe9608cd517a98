"""Photographs, ultraviolet and infrared images and X-radiographs in a folder of results, registered to the maps."""

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from underpaint.errors import ScanError, reason_of
from underpaint.io.results.contained import digest_contained, read_contained_text

PHOTOGRAPH_FILE = "photograph.jpg"
REGISTRATION_FILE = "photograph.json"
PHOTOGRAPH_KEY = "photograph_sha256"
"""Key in a registration's record for the SHA-256 hash of the registered picture."""
REGISTERED_FILE = "photograph_registered.png"
PHOTOGRAPH = "photograph"
"""Key of the picture that is the photograph."""
PICTURES_FOLDER = "pictures"
"""Folder of all pictures except the photograph, with the same three files for each picture as for the photograph."""
PICTURE_KINDS = ("visible", "ultraviolet", "infrared", "x_radiograph", "other")
_KIND_NAMES = dict(
    zip(PICTURE_KINDS, ("Visible light", "Ultraviolet", "Infrared", "X-radiograph", "Picture"), strict=True)
)
_PICTURE_KEY = re.compile(rf"({'|'.join(PICTURE_KINDS)})_[1-9][0-9]{{0,3}}")


@dataclass(frozen=True)
class PictureFiles:
    """Paths of a picture's files relative to the folder of results, as tuples of names.

    Parameters
    ----------
    picture, place, registered : tuple of str
        Paths of the picture, of the record of its registration to the maps, and of the picture resampled to the maps'
        pixels.
    """

    picture: tuple[str, ...]
    place: tuple[str, ...]
    registered: tuple[str, ...]


def picture_files(picture_key: str) -> PictureFiles:
    """Return the files of the picture with a given key, such as ``photograph`` or ``infrared_1``."""
    if picture_key == PHOTOGRAPH:
        return PictureFiles((PHOTOGRAPH_FILE,), (REGISTRATION_FILE,), (REGISTERED_FILE,))
    file_names = (f"{picture_key}.jpg", f"{picture_key}.json", f"{picture_key}_registered.png")
    return PictureFiles(*((PICTURES_FOLDER, file_name) for file_name in file_names))


def is_picture_key(picture_key: str) -> bool:
    """Return whether a text is ``photograph``, or the kind and number of another picture, such as ``infrared_1``."""
    return picture_key == PHOTOGRAPH or _PICTURE_KEY.fullmatch(picture_key) is not None


def picture_name(picture_key: str) -> str:
    """Return the name of a picture on pages, such as "Photograph", "Infrared" or "X-radiograph 2"."""
    if picture_key == PHOTOGRAPH:
        return "Photograph"
    picture_kind, _, picture_number = picture_key.rpartition("_")
    kind_name = _KIND_NAMES[picture_kind]
    return kind_name if picture_number == "1" else f"{kind_name} {picture_number}"


def picture_keys(folder: Path) -> list[str]:
    """Return the keys of the pictures in a folder of results. The photograph is first."""
    stems = [path.stem for path in (folder / PICTURES_FOLDER).glob("*.jpg") if _PICTURE_KEY.fullmatch(path.stem)]
    kinds_and_numbers = [
        (picture_kind, int(picture_number), f"{picture_kind}_{picture_number}")
        for picture_kind, _, picture_number in (stem.rpartition("_") for stem in stems)
    ]
    photograph_keys = [PHOTOGRAPH] if os.path.lexists(folder / PHOTOGRAPH_FILE) else []
    return photograph_keys + [
        picture_key
        for *_, picture_key in sorted(
            kinds_and_numbers, key=lambda kind_and_number: (PICTURE_KINDS.index(kind_and_number[0]), kind_and_number[1])
        )
    ]


def registration_of(folder: Path, picture_key: str = PHOTOGRAPH) -> dict[str, Any] | None:
    """Return a picture's registration to the maps (``how``, ``error_px``, ``matrix``), or None if it has none.

    A record with the hash of another picture is ignored.

    Raises
    ------
    ScanError
        The record is damaged.
    """
    files = picture_files(picture_key)
    path = folder.joinpath(*files.place)
    if not ((path.exists() or path.is_symlink()) and folder.joinpath(*files.registered).exists()):
        return None
    try:
        registration = dict(json.loads(read_contained_text(folder, *files.place)))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise ScanError(
            f"Cannot read {path}: {reason_of(error).rstrip('.')}. "
            f"Register the {picture_key} again in the viewer; until then the file is kept."
        ) from error
    error_px = registration.get("error_px")
    if not isinstance(registration.get("how"), str) or not (error_px is None or isinstance(error_px, float | int)):
        raise ScanError(
            f"Cannot read {path}: it has no registration of the {picture_key}. Register it again in the viewer."
        )
    return registration if registration.get(PHOTOGRAPH_KEY) in {None, picture_digest(folder, picture_key)} else None


def picture_digest(folder: Path, picture_key: str = PHOTOGRAPH) -> str | None:
    """Return the SHA-256 hash of a picture, or None if the picture does not exist.

    Raises
    ------
    ScanError
        The picture cannot be read.
    """
    path_parts = picture_files(picture_key).picture
    try:
        return digest_contained(folder, *path_parts)
    except OSError as error:
        raise ScanError(
            f"Cannot read {folder.joinpath(*path_parts)}: {error.strerror or error}. Check that you may read it."
        ) from error
