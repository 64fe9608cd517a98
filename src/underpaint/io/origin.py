"""What results were made from: so that only those of the same scan and settings are taken for finished."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

from underpaint.errors import OutputError, ScanError
from underpaint.io.folder import differences, is_finished, unfinished
from underpaint.io.load import split_location
from underpaint.io.results import read_summary

DEPENDS = "depends_on"
"""Key, among the settings of results, of what they depend on besides those."""
_SIZE, _TIME = "scan size", "scan time"


def file_facts(source: str | Path) -> dict[str, int | str]:
    """Return size (bytes) and time of last change (UTC) of a scan's files.

    Raises
    ------
    ScanError
        There is no such scan.
    """
    path, _ = split_location(source)
    stats = [own.stat() for own in ([path] if path.is_file() else path.rglob("*")) if own.is_file()]
    changed = datetime.fromtimestamp(max((own.st_mtime for own in stats), default=0.0), UTC)
    return {_SIZE: sum(own.st_size for own in stats), _TIME: changed.isoformat(sep=" ")}


def origin_of(folder: str | Path) -> dict[str, Any]:
    """Return what results, or finished blocks to go on from, say that they were made from; {} where neither is.

    Raises
    ------
    ScanError
        The results are damaged.
    """
    if not is_finished(folder):
        return unfinished(folder)
    settings: dict[str, Any] = read_summary(folder)["settings"]
    return {**settings, **settings.get(DEPENDS, {})}


def check_origin(folder: str | Path, depends: Mapping[str, Any]) -> None:
    """Refuse to take finished results of another scan or of other settings for those that are asked for.

    Parameters
    ----------
    folder : str or Path
        Of finished results.
    depends : mapping
        What the results asked for depend on: the ``source``, its :func:`file_facts`, settings; JSON-serialisable. What
        the results do not tell, because an earlier version made them, is not compared; nor is the version.

    Raises
    ------
    OutputError
        They are others; it is said how they differ.
    ScanError
        The results are damaged.
    """
    then, now = origin_of(folder), json.loads(json.dumps(depends, default=str))
    told = {*then} & {*now} - {"version"}
    if _is_of(then, now["source"], now):
        told -= {"source"}
    other = differences({name: then[name] for name in told}, {name: now[name] for name in told})
    if other:
        message = (
            f"Cannot resume {folder}: it holds finished results that were made otherwise ({'; '.join(other)}). "
            "Give another folder with --out, or --overwrite to replace them."
        )
        raise OutputError(message)


def folders_of(sources: Sequence[str | Path], named: Sequence[Path]) -> list[Path]:
    """Return a folder of results for each scan: the one that holds its own, else one that holds nobody's.

    Parameters
    ----------
    sources : sequence of str or Path
        Scans.
    named : sequence of Path
        The folder that each would have alone; where it is taken, a number is added.
    """
    held = {own: origin for name in dict.fromkeys(named) for own in _numbered(name) if (origin := _told(own))}
    found: dict[int, Path] = {}
    for index, source in enumerate(map(str, sources)):
        free, facts = (own for own in held if own not in found.values()), _facts(source)
        own = next((own for own in free if _is_of(held[own], source, facts)), None)
        if own is not None:
            found[index] = own
    taken = {*held}
    for index in range(len(named)):
        if index not in found:
            found[index] = next(own for own in _names(named[index]) if own not in taken)
            taken.add(found[index])
    return [found[index] for index in range(len(named))]


def _is_of(origin: Mapping[str, Any], source: str, facts: Mapping[str, Any]) -> bool:
    """Whether results are of the scan at a place, or of one that is no longer where it was: same name, same files."""
    then = str(origin.get("source", ""))
    if Path(then).resolve() == Path(source).resolve():
        return True
    same_files = all(name in facts and origin.get(name) == facts[name] for name in (_SIZE, _TIME))
    return same_files and _name(then) == _name(source) and not _is_there(then)


def _name(source: str) -> tuple[str, str]:
    path, _, array = source.partition("::")
    return Path(path).name, array


def _is_there(source: str) -> bool:
    return Path(source).exists() or Path(source.partition("::")[0]).exists()


def _facts(source: str) -> dict[str, int | str]:
    try:
        return file_facts(source)
    except ScanError:
        return {}


def _told(folder: Path) -> dict[str, Any]:
    """Return the origin, {} where damaged results tell none: whoever writes there will be told."""
    try:
        return origin_of(folder)
    except ScanError:
        return {}


def _names(name: Path) -> Iterator[Path]:
    yield name
    for number in count(2):
        yield name.with_name(f"{name.name}_{number}")


def _numbered(name: Path) -> list[Path]:
    """Return the folders of a name, with and without a number, of finished results or of blocks to go on from."""
    pattern = re.compile(rf"({re.escape(name.name)}(?:_\d+)?)(?:\.part)?")
    entries = sorted(own.name for own in name.parent.iterdir()) if name.parent.is_dir() else []
    matches = (pattern.fullmatch(own) for own in entries)
    return [name.with_name(own) for own in dict.fromkeys(own.group(1) for own in matches if own)]
