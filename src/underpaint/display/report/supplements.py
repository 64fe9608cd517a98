"""Supplements to the maps of a report: registered pictures, regions, statements, and spectra of spots."""

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from underpaint.data import Scan
from underpaint.data.maps import Results
from underpaint.display.report.findings import Finding
from underpaint.display.report.spots import SpotSpectrum, region_spots, typical_spots
from underpaint.errors import ScanError
from underpaint.io.results.contained import has_file, open_contained
from underpaint.io.results.pictures import PHOTOGRAPH, picture_files, picture_keys, picture_name, registration_of
from underpaint.io.results.regions import Region
from underpaint.io.results.regions import read_regions as read_region_records
from underpaint.io.results.session import Session, Statement, read_session
from underpaint.io.results.sidecars import REGIONS_FOLDER, find_scan
from underpaint.pigments.explain import read_region

_MAX_SIDE_PIXELS = 1400
_JPEG_QUALITY = 85
Content = TypeVar("Content")


@dataclass(frozen=True)
class RegisteredPicture:
    """Picture of the painting that is aligned with the maps.

    Parameters
    ----------
    name : str
        Name, such as "Photograph" or "Infrared".
    source : str
        Image as a data URL, for the ``src`` attribute of an ``img`` element.
    registration : str
        Method and mean error of the registration, in words.
    """

    name: str
    source: str
    registration: str


@dataclass(frozen=True)
class Supplements:
    """Supplements to the maps of a report.

    Parameters
    ----------
    subject : str
        The object, in the user's words.
    photograph : RegisteredPicture or None
    pictures : sequence of RegisteredPicture
        Other registered pictures, such as infrared images.
    regions : mapping of str to (n_row, n_column) bool array
        Masks of the drawn regions, by name.
    spots : sequence of SpotSpectrum
    without_spots : str
        Reason why there are no spectra of spots.
    damaged : sequence of str
        Messages on files that were omitted because they cannot be read.
    statements : sequence of Statement
        Statements of experts.
    """

    subject: str = ""
    photograph: RegisteredPicture | None = None
    pictures: Sequence[RegisteredPicture] = ()
    regions: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)
    spots: Sequence[SpotSpectrum] = ()
    without_spots: str = ""
    damaged: Sequence[str] = ()
    statements: Sequence[Statement] = ()


def read_supplements(
    folder: Path,
    results: Results,
    findings: Sequence[Finding],
    *,
    scan: Scan | str | None = None,
    subject: str = "",
) -> Supplements:
    """Read pictures, regions, statements and spectra of spots for a folder of results.

    Parameters
    ----------
    folder : Path
    results : Results
    findings : sequence of Finding
        Findings for which typical spots are selected.
    scan : Scan, str or None
        The scan or its path. If None, the original path and the folder of the results are searched.
    subject : str
        The object, in the user's words.

    Raises
    ------
    ScanError
        The given scan cannot be read, or the results belong to another scan.
    """
    shape, summary = results.shape, results.summary
    damaged: list[str] = []
    regions = read_regions(folder, shape, damaged)
    keys = dict.fromkeys([PHOTOGRAPH, *picture_keys(folder)])
    pictures_by_key = {key: _read_or_default(partial(read_picture, folder, key), None, damaged) for key in keys}
    photograph = pictures_by_key.pop(PHOTOGRAPH, None)
    pictures = [picture for picture in pictures_by_key.values() if picture is not None]
    spots: list[SpotSpectrum] = []
    spectra_message = ""
    try:
        opened_scan = scan if isinstance(scan, Scan) else find_scan(folder, summary, scan, shape)
        spots = region_spots(regions, results, opened_scan)
        spots += typical_spots(results, findings, opened_scan)
    except ScanError as error:
        if scan is not None:
            raise
        spectra_message = str(error)
    session = _read_or_default(lambda: read_session(folder), Session(), damaged)
    return Supplements(subject, photograph, pictures, regions, spots, spectra_message, damaged, session.statements)


def read_regions(folder: Path, shape: tuple[int, ...], damaged: list[str]) -> dict[str, NDArray[np.bool_]]:
    """Return the regions drawn in the viewer, by name.

    Parameters
    ----------
    folder : Path
    shape : (n_row, n_column)
        Shape of the maps.
    damaged : list of str
        List to which messages on unreadable masks and names are appended.
    """
    n_row, n_column = shape
    region_records: list[Region] = _read_or_default(lambda: read_region_records(folder), [], damaged)
    names = {record.mask_file: record.name for record in region_records}
    masks_by_name: dict[str, NDArray[np.bool_]] = {}
    for path in sorted((folder / REGIONS_FOLDER).glob("*.png")):
        if not has_file(folder, REGIONS_FOLDER, path.name):
            damaged.append(f"Cannot read the region {path}: it is a link or not a file. Replace it by a file.")
            continue
        mask = _read_or_default(partial(read_region, path, (n_row, n_column)), None, damaged)
        if mask is not None:
            region_name = names.get(path.name, path.stem.replace("_", " "))
            masks_by_name[region_name if region_name not in masks_by_name else f"{region_name} ({path.stem})"] = mask
    return masks_by_name


def _read_or_default(read_file: Callable[[], Content], default: Content, damaged: list[str]) -> Content:
    try:
        return read_file()
    except ScanError as error:
        damaged.append(str(error))
        return default


def read_picture(folder: Path, key: str) -> RegisteredPicture | None:
    """Return a registered picture, reduced to the size of the page; None for a picture without a registration.

    Raises
    ------
    ScanError
        The picture or its record is damaged.
    """
    registration, path_parts = registration_of(folder, key), picture_files(key).registered
    if registration is None:
        return None
    stream = io.BytesIO()
    try:
        with open_contained(folder, *path_parts) as file, Image.open(file) as image:
            picture = image.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        reason = "it is no picture" if isinstance(error, UnidentifiedImageError) else error
        raise ScanError(
            f"Cannot read {folder.joinpath(*path_parts)}: {reason}. Register the {key} again in the viewer."
        ) from error
    picture.thumbnail((_MAX_SIDE_PIXELS, _MAX_SIDE_PIXELS))
    picture.save(stream, format="JPEG", quality=_JPEG_QUALITY)
    error_px = registration.get("error_px")
    error_text = f", mean error {error_px:.1f} map pixels" if isinstance(error_px, float) else ""
    doubt_text = "; the alignment is doubtful" if registration.get("doubtful") else ""
    source = data_url(stream.getvalue(), "jpeg")
    return RegisteredPicture(picture_name(key), source, f"aligned by {registration['how']}{error_text}{doubt_text}")


def data_url(image: bytes, image_format: str) -> str:
    """Return an encoded picture as a data URL; ``image_format`` is "png" or "jpeg"."""
    return f"data:image/{image_format};base64,{base64.b64encode(image).decode('ascii')}"
