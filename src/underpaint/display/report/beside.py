"""Files beside results that belong in their report: registered pictures, regions, statements, spectra of spots."""

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
from underpaint.io.results.regions import read_regions as recorded_regions
from underpaint.io.results.session import Session, Statement, read_session
from underpaint.io.results.sidecars import REGIONS_FOLDER, find_scan
from underpaint.pigments.explain import read_region

_MOST_SIDE = 1400
_QUALITY = 85
Read = TypeVar("Read")


@dataclass(frozen=True)
class RegisteredPicture:
    """A picture of the painting on the grid of the maps.

    Parameters
    ----------
    name : str
        "Photograph", "Infrared".
    source : str
        The image, as the ``src`` of an ``img``.
    registration : str
        Method and mean error of the registration, in words.
    """

    name: str
    source: str
    registration: str


@dataclass(frozen=True)
class Beside:
    """Contents of a report that are not maps.

    Parameters
    ----------
    subject : str
        The object, in the user's words.
    photograph : RegisteredPicture or None
    pictures : sequence of RegisteredPicture
        All others, such as infrared pictures.
    regions : mapping of str to (n_row, n_column) bool array
        Those that were drawn, by name.
    spots : sequence of SpotSpectrum
    without_spots : str
        Why there are none.
    damaged : sequence of str
        Texts on files that cannot be read and are omitted.
    statements : sequence of Statement
        Of experts.
    """

    subject: str = ""
    photograph: RegisteredPicture | None = None
    pictures: Sequence[RegisteredPicture] = ()
    regions: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)
    spots: Sequence[SpotSpectrum] = ()
    without_spots: str = ""
    damaged: Sequence[str] = ()
    statements: Sequence[Statement] = ()


def look_beside(
    folder: Path,
    results: Results,
    findings: Sequence[Finding],
    *,
    scan: Scan | str | None = None,
    subject: str = "",
) -> Beside:
    """Read the files beside the results of a folder.

    Parameters
    ----------
    folder : Path
    results : Results
    findings : sequence of Finding
        Findings for which typical spots are selected.
    scan : Scan, str or None
        The scan or its path; None for its original path or a scan beside the results.
    subject : str
        The object, in the user's words.

    Raises
    ------
    ScanError
        The given scan cannot be read or is a different one.
    """
    shape, summary = results.shape, results.summary
    damaged: list[str] = []
    regions = read_regions(folder, shape, damaged)
    keys = dict.fromkeys([PHOTOGRAPH, *picture_keys(folder)])
    read = {key: _unless_damaged(partial(read_picture, folder, key), None, damaged) for key in keys}
    photograph = read.pop(PHOTOGRAPH, None)
    pictures = [picture for picture in read.values() if picture is not None]
    spots: list[SpotSpectrum] = []
    why = ""
    try:
        own = scan if isinstance(scan, Scan) else find_scan(folder, summary, scan, shape)
        spots = region_spots(regions, results, own)
        spots += typical_spots(results, findings, own)
    except ScanError as error:
        if scan is not None:
            raise
        why = str(error)
    session = _unless_damaged(lambda: read_session(folder), Session(), damaged)
    return Beside(subject, photograph, pictures, regions, spots, why, damaged, session.statements)


def read_regions(folder: Path, shape: tuple[int, ...], damaged: list[str]) -> dict[str, NDArray[np.bool_]]:
    """Return the regions drawn in the viewer, by name.

    Parameters
    ----------
    folder : Path
    shape : (n_row, n_column)
        Shape of the maps.
    damaged : list of str
        List to which texts on masks and names that cannot be read are appended.
    """
    n_row, n_column = shape
    recorded: list[Region] = _unless_damaged(lambda: recorded_regions(folder), [], damaged)
    names = {own.mask_file: own.name for own in recorded}
    found: dict[str, NDArray[np.bool_]] = {}
    for path in sorted((folder / REGIONS_FOLDER).glob("*.png")):
        if not has_file(folder, REGIONS_FOLDER, path.name):
            damaged.append(f"Cannot read the region {path}: it is a link or no file, and was not followed.")
            continue
        mask = _unless_damaged(partial(read_region, path, (n_row, n_column)), None, damaged)
        if mask is not None:
            called = names.get(path.name, path.stem.replace("_", " "))
            found[called if called not in found else f"{called} ({path.stem})"] = mask
    return found


def _unless_damaged(read: Callable[[], Read], instead: Read, damaged: list[str]) -> Read:
    try:
        return read()
    except ScanError as error:
        damaged.append(str(error))
        return instead


def read_picture(folder: Path, key: str) -> RegisteredPicture | None:
    """Return a registered picture, as large as a page shows it; None for a picture without a registration.

    Raises
    ------
    ScanError
        The picture or its record is damaged.
    """
    record, names = registration_of(folder, key), picture_files(key).registered
    if record is None:
        return None
    stream = io.BytesIO()
    try:
        with open_contained(folder, *names) as file, Image.open(file) as image:
            picture = image.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        reason = "it is no picture" if isinstance(error, UnidentifiedImageError) else error
        raise ScanError(
            f"Cannot read {folder.joinpath(*names)}: {reason}. Register the {key} again in the viewer."
        ) from error
    picture.thumbnail((_MOST_SIDE, _MOST_SIDE))
    picture.save(stream, format="JPEG", quality=_QUALITY)
    error_px = record.get("error_px")
    accuracy = f", mean error {error_px:.1f} map pixels" if isinstance(error_px, float) else ""
    doubt = "; the alignment is doubtful" if record.get("doubtful") else ""
    source = data_url(stream.getvalue(), "jpeg")
    return RegisteredPicture(picture_name(key), source, f"aligned by {record['how']}{accuracy}{doubt}")


def data_url(image: bytes, kind: str) -> str:
    """Return a picture ("png" or "jpeg") as a data URL."""
    return f"data:image/{kind};base64,{base64.b64encode(image).decode('ascii')}"
