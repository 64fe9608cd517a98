"""Provenance of results, so that only those of the same scan and settings count as finished."""

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
"""Key in the settings of results for their other dependencies."""
_SIZE, _TIME = "scan size", "scan time"
_LISTING, _SAMPLE = "scan files", "scan sample"
_BLOCK_BYTES = 4096
_MAX_BLOCKS, _BLOCKS_A_FILE = 1024, 64
"""Sample of a scan for its identity: total blocks, and blocks per file at most; takes less than a second."""


def file_facts(source: str | Path) -> dict[str, int | str]:
    """Return the identity of a scan from all its files.

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
        The scan does not exist, or its name cannot be stored in results.
    """
    path, _ = split_location(source)
    if fault := fault_of_text(source):
        raise ScanError(
            f"Cannot use {printable(source)}: {fault}, so results could not record their source. Rename it."
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
    """Refuse to finish results of a scan that has changed since.

    Parameters
    ----------
    source : str or Path
        The scan.
    before : mapping
        Result of :func:`file_facts` before the scan was read.
    out : str or Path
        Path of the output.

    Raises
    ------
    ScanError
        It has changed, or is gone.
    """
    current = file_facts(source)
    changed = differences({name: before[name] for name in current}, current)
    if changed:
        raise ScanError(
            f"Cannot finish {out}: the scan {source} changed while it was read ({'; '.join(changed)}). Nothing was "
            "written. Run again when the scan is complete."
        )


def _name_in(file: Path, path: Path) -> str:
    """Return a file's name relative to its scan, which may be moved."""
    base = path if path.is_dir() else path.parent
    return file.relative_to(base).as_posix() if file.is_relative_to(base) else file.name


def _sampled(files: Sequence[tuple[Path, os.stat_result]]) -> str:
    """Return a digest of blocks spread evenly over files, and within each of them."""
    digest = blake2b(digest_size=8)
    step = max(1, -(-len(files) // _MAX_BLOCKS))
    chosen = files[::step]
    most = min(max(_MAX_BLOCKS // max(len(chosen), 1), 1), _BLOCKS_A_FILE)
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
    """Return the offsets of blocks of a file: all of a small one; of others the ends and some between."""
    n_block = -(-size // _BLOCK_BYTES)
    if n_block <= most:
        return [index * _BLOCK_BYTES for index in range(n_block)]
    if most == 1:
        return [_BLOCK_BYTES * (number * 7919 % n_block)]
    return [(size - _BLOCK_BYTES) * index // (most - 1) for index in range(most)]


def provenance_of(folder: str | Path) -> dict[str, Any]:
    """Return the provenance of results or of finished blocks; {} if neither exists.

    Raises
    ------
    ScanError
        The results are damaged.
    """
    if not is_finished(folder):
        return unfinished(folder)
    settings: dict[str, Any] = read_summary(folder)["settings"]
    return {**settings, **settings.get(DEPENDS, {})}


def check_provenance(folder: str | Path, depends: Mapping[str, Any]) -> None:
    """Refuse finished results of another scan or other settings.

    Parameters
    ----------
    folder : str or Path
        Of finished results.
    depends : mapping
        Dependencies of the requested results: the ``source``, its :func:`file_facts`, settings; JSON-serialisable.
        Values that the results of an earlier version lack are not compared, nor is the version.

    Raises
    ------
    OutputError
        The results differ; the message lists how. ScanError The results are damaged.
    """
    earlier, current = provenance_of(folder), json.loads(json.dumps(depends, default=str))
    shared = {*earlier} & {*current} - {"version"}
    if _is_of(earlier, current["source"], current):
        shared -= {"source"}
    changed = differences({name: earlier[name] for name in shared}, {name: current[name] for name in shared})
    if changed:
        raise OutputError(
            f"Cannot resume {folder}: it contains finished results made differently ({'; '.join(changed)}). "
            "Give another folder with --out, or --overwrite to replace them."
        )


def result_folders(sources: Sequence[str | Path], named: Sequence[Path]) -> list[Path]:
    """Return a folder of results for each scan: the one with its results, else an unused one.

    Parameters
    ----------
    sources : sequence of str or Path
        Scans.
    named : sequence of Path
        The default folder of each; a number is added if it is taken.
    """
    claimed = {
        folder: origin
        for name in dict.fromkeys(named)
        for folder in _numbered(name)
        if (origin := _read_provenance(folder))
    }
    folders: dict[int, Path] = {}
    for index, source in enumerate(map(str, sources)):
        free, facts = (folder for folder in claimed if folder not in folders.values()), _facts(source)
        folder = next((folder for folder in free if _is_of(claimed[folder], source, facts)), None)
        if folder is not None:
            folders[index] = folder
    used_numbers = {*claimed}
    for index in range(len(named)):
        if index not in folders:
            folders[index] = next(folder for folder in _names(named[index]) if folder not in used_numbers)
            used_numbers.add(folders[index])
    return [folders[index] for index in range(len(named))]


def _is_of(origin: Mapping[str, Any], source: str, facts: Mapping[str, Any]) -> bool:
    """Whether results are of the scan at a path, or of a moved one with the same name and files."""
    source_then = str(origin.get("source", ""))
    if Path(source_then).resolve() == Path(source).resolve():
        return True
    keys = [name for name in (_SIZE, _TIME, _LISTING, _SAMPLE) if name in origin]
    same_files = _SIZE in keys and all(origin[name] == facts.get(name) for name in keys)
    return same_files and _name(source_then) == _name(source) and not _is_there(source_then)


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


def _read_provenance(folder: Path) -> dict[str, Any]:
    """Return the provenance; {} for damaged results, which writing there will report."""
    try:
        return provenance_of(folder)
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
