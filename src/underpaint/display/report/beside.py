"""What lies beside results and belongs into their report: the photograph, regions, spectra of spots."""

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
from underpaint.io.results.pictures import REGISTERED_FILE, registration_of
from underpaint.io.results.regions import Region
from underpaint.io.results.regions import read_regions as recorded_regions
from underpaint.io.results.session import Session, Statement, read_session
from underpaint.io.results.sidecars import REGIONS_FOLDER, find_scan
from underpaint.pigments.explain import read_region

_MOST_SIDE = 1400
_QUALITY = 85
Read = TypeVar("Read")


@dataclass(frozen=True)
class Photograph:
    """The photograph as it lies over the maps.

    Parameters
    ----------
    source : str
        As the ``src`` of an ``img``.
    how : str
        How it was laid, in words.
    """

    source: str
    how: str


@dataclass(frozen=True)
class Beside:
    """What a report tells beside the maps.

    Parameters
    ----------
    subject : str
        The object, in the user's words.
    photograph : Photograph or None
    regions : mapping of str to (n_row, n_column) bool array
        Those that were drawn, by name.
    spots : sequence of SpotSpectrum
    without_spots : str
        Why there are none.
    damaged : sequence of str
        In words: what cannot be read, and is left out.
    statements : sequence of Statement
        Of experts.
    """

    subject: str = ""
    photograph: Photograph | None = None
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
    photograph = _unless_damaged(lambda: read_photograph(folder), None, damaged)
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
    return Beside(subject, photograph, regions, spots, why, damaged, session.statements)


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


def read_photograph(folder: Path) -> Photograph | None:
    """Return the photograph that was laid over the maps, as large as a page shows it; None where there is none.

    Raises
    ------
    ScanError
        The picture or its record is damaged.
    """
    record = registration_of(folder)
    if record is None:
        return None
    stream = io.BytesIO()
    try:
        with open_contained(folder, REGISTERED_FILE) as file, Image.open(file) as image:
            picture = image.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        reason = "it is no picture" if isinstance(error, UnidentifiedImageError) else error
        raise ScanError(
            f"Cannot read {folder / REGISTERED_FILE}: {reason}. Register the photograph again in the viewer."
        ) from error
    picture.thumbnail((_MOST_SIDE, _MOST_SIDE))
    picture.save(stream, format="JPEG", quality=_QUALITY)
    error_px = record.get("error_px")
    off = f", {error_px:.2f} pixels off on average" if isinstance(error_px, float) else ""
    how = f"by {record.get('how', 'an unknown way')}{off}"
    return Photograph(data_url(stream.getvalue(), "jpeg"), how)


def data_url(image: bytes, kind: str) -> str:
    """Return a picture ("png" or "jpeg") as a data URL."""
    return f"data:image/{kind};base64,{base64.b64encode(image).decode('ascii')}"
