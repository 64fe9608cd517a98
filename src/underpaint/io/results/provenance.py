"""What results were made from: so that only those of the same scan and settings are taken for finished."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from hashlib import blake2b
from itertools import count
from pathlib import Path
from typing import Any

from underpaint.errors import OutputError, ScanError
from underpaint.io._scan_files import scan_files
from underpaint.io.load import split_location
from underpaint.io.results.folder import KIND, is_finished, unfinished
from underpaint.io.results.nexus import read_summary
from underpaint.runtime.files import PREFIX, fault_of_text, printable, read_mark
from underpaint.runtime.job import differences

DEPENDS = "depends_on"
"""Key, among the settings of results, of what they depend on besides those."""
_SIZE, _TIME = "scan size", "scan time"
_LISTING, _SAMPLE = "scan files", "scan sample"
_BLOCK_BYTES = 4096
_MOST_BLOCKS, _BLOCKS_A_FILE = 1024, 64
"""Read of a scan to know it again: so many blocks in all, at most so many of a file, so that it takes no second."""


def file_facts(source: str | Path) -> dict[str, int | str]:
    """Return what tells whether a scan is still the same: of all files that it consists of.

    Parameters
    ----------
    source : str or Path
        A scan, as for :func:`underpaint.load`.

    Returns
    -------
    dict
        ``scan size`` (bytes) and ``scan time`` (last change, UTC) of what was named, file or folder; ``scan files``, a
        digest of name, size and time of change of every file (:func:`~underpaint.io._scan_files.scan_files`); and
        ``scan sample``, a digest of blocks of 4096 bytes spread evenly over them, 64 a file and 1024 in all.

    Raises
    ------
    ScanError
        There is no such scan, or its name cannot be kept in results.
    """
    path, _ = split_location(source)
    if fault := fault_of_text(source):
        raise ScanError(
            f"Cannot use {printable(source)}: {fault}, so results could not say what they are of. Rename it."
        )
    path, main = path.absolute(), []
    files = scan_files(path)
    listing = blake2b(digest_size=8)
    for file, about in files:
        if file == path or path in file.parents:
            main.append(about)
        entry = f"{_name_in(file, path)}\0{about.st_size}\0{about.st_mtime_ns // 1000}\n"
        listing.update(entry.encode("utf-8", "surrogateescape"))
    changed = datetime.fromtimestamp(max((about.st_mtime for about in main), default=0.0), UTC)
    return {
        _SIZE: sum(about.st_size for about in main),
        _TIME: changed.isoformat(sep=" "),
        _LISTING: listing.hexdigest(),
        _SAMPLE: _sampled(files),
    }


def refuse_change(source: str | Path, before: Mapping[str, Any], out: str | Path) -> None:
    """Refuse to finish what was made of a scan that has changed since.

    Parameters
    ----------
    source : str or Path
        The scan.
    before : mapping
        What :func:`file_facts` said before the scan was read.
    out : str or Path
        What was to be written.

    Raises
    ------
    ScanError
        It has changed, or is gone.
    """
    now = file_facts(source)
    other = differences({name: before[name] for name in now}, now)
    if other:
        raise ScanError(
            f"Cannot finish {out}: the scan {source} changed while it was read ({'; '.join(other)}). Nothing was "
            "written. Run again when the scan is complete."
        )


def _name_in(file: Path, path: Path) -> str:
    """Return a file's name as seen from its scan, which may be moved as a whole."""
    base = path if path.is_dir() else path.parent
    return file.relative_to(base).as_posix() if file.is_relative_to(base) else file.name


def _sampled(files: Sequence[tuple[Path, os.stat_result]]) -> str:
    """Return a digest of blocks spread evenly over files, and within each of them."""
    digest = blake2b(digest_size=8)
    step = max(1, -(-len(files) // _MOST_BLOCKS))
    chosen = files[::step]
    most = min(max(_MOST_BLOCKS // max(len(chosen), 1), 1), _BLOCKS_A_FILE)
    for number, (file, about) in enumerate(chosen):
        try:
            with file.open("rb") as stream:
                for offset in _offsets(about.st_size, most, number):
                    stream.seek(offset)
                    digest.update(stream.read(_BLOCK_BYTES))
        except OSError as error:
            raise ScanError(
                f"Cannot read {file}: {error.strerror}. Check the path and that you may read it."
            ) from error
    return digest.hexdigest()


def _offsets(size: int, most: int, number: int) -> list[int]:
    """Return where blocks of a file begin: all of a small one; of others the ends and between; one alone wanders."""
    n_block = -(-size // _BLOCK_BYTES)
    if n_block <= most:
        return [index * _BLOCK_BYTES for index in range(n_block)]
    if most == 1:
        return [_BLOCK_BYTES * (number * 7919 % n_block)]
    return [(size - _BLOCK_BYTES) * index // (most - 1) for index in range(most)]


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
        raise OutputError(
            f"Cannot resume {folder}: it holds finished results that were made otherwise ({'; '.join(other)}). "
            "Give another folder with --out, or --overwrite to replace them."
        )


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
    known = [name for name in (_SIZE, _TIME, _LISTING, _SAMPLE) if name in origin]
    same_files = _SIZE in known and all(origin[name] == facts.get(name) for name in known)
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
    entries = []
    for entry in name.parent.iterdir() if name.parent.is_dir() else ():
        mark = read_mark(entry) if entry.name.startswith(PREFIX) else None
        if mark is None or mark.get("kind") == KIND:
            entries.append(entry.name if mark is None else str(mark.get("target")))
    begins = f"{name.name}_"
    numbered = (entry for entry in sorted(entries) if entry == name.name or entry.removeprefix(begins).isdecimal())
    return [name.with_name(entry) for entry in dict.fromkeys(numbered)]
