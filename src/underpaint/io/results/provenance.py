"""Record of the scan and settings of results, by which a run recognises its finished results."""

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
from underpaint.io.results.folder import FOLDER_KIND, is_finished, unfinished_settings
from underpaint.io.results.nexus import read_summary
from underpaint.runtime.files import WORKING_FOLDER_PREFIX, encoding_fault, printable_path, read_mark
from underpaint.runtime.job import setting_differences

DEPENDENCIES_KEY = "depends_on"
"""Key in the settings of results for items on which results depend, but which are not settings."""
_SIZE_KEY, _CHANGE_TIME_KEY = "scan size", "scan time"
_LISTING_KEY, _SAMPLE_KEY = "scan files", "scan sample"
_BLOCK_BYTES = 4096
_MAX_BLOCKS, _MAX_BLOCKS_PER_FILE = 1024, 64
"""Maximum numbers of sampled blocks in total and per file, so that a sample is read in less than a second."""


def file_facts(source: str | Path) -> dict[str, int | str]:
    """Return the size, time of change and hashes of a scan's files. Together they identify the scan.

    Parameters
    ----------
    source : str or Path
        A scan, as for :func:`underpaint.load`.

    Returns
    -------
    dict
        ``scan size`` is the size of the file or folder in bytes, and ``scan time`` its last change in UTC. ``scan
        files`` is a hash of the name, size and time of change of every file
        (:func:`~underpaint.io._scan_files.scan_files`). ``scan sample`` is a hash of evenly spaced blocks of 4096
        bytes, at most 64 per file and 1024 in total.

    Raises
    ------
    ScanError
        The scan does not exist, or its name cannot be stored in results.
    """
    path, _ = split_location(source)
    if name_fault := encoding_fault(source):
        raise ScanError(
            f"Cannot use {printable_path(source)}: {name_fault}, so results could not record their source. Rename it."
        )
    path, source_stats = path.absolute(), []
    files = scan_files(path)
    listing_hash = blake2b(digest_size=8)
    for file, stat_result in files:
        if file == path or path in file.parents:
            source_stats.append(stat_result)
        listing_line = f"{_relative_name(file, path)}\0{stat_result.st_size}\0{stat_result.st_mtime_ns // 1000}\n"
        listing_hash.update(listing_line.encode("utf-8", "surrogateescape"))
    change_time = datetime.fromtimestamp(max((stat_result.st_mtime for stat_result in source_stats), default=0.0), UTC)
    return {
        _SIZE_KEY: sum(stat_result.st_size for stat_result in source_stats),
        _CHANGE_TIME_KEY: change_time.isoformat(sep=" "),
        _LISTING_KEY: listing_hash.hexdigest(),
        _SAMPLE_KEY: _sample_digest(files),
    }


def refuse_change(source: str | Path, facts_before: Mapping[str, Any], output_path: str | Path) -> None:
    """Raise an error if a scan has changed since its analysis began.

    Parameters
    ----------
    source : str or Path
        The scan.
    facts_before : mapping
        Result of :func:`file_facts` from before the scan was read.
    output_path : str or Path
        Path of the output, for error messages.

    Raises
    ------
    ScanError
        The scan has changed or no longer exists.
    """
    facts_now = file_facts(source)
    changed_facts = setting_differences({fact_name: facts_before[fact_name] for fact_name in facts_now}, facts_now)
    if changed_facts:
        raise ScanError(
            f"Cannot finish {output_path}: the scan {source} changed while it was read ({'; '.join(changed_facts)}). "
            "Nothing was written. Run again when the scan is complete."
        )


def _relative_name(file: Path, path: Path) -> str:
    """Return a file's path relative to its scan, which does not change when the scan is moved."""
    base_folder = path if path.is_dir() else path.parent
    return file.relative_to(base_folder).as_posix() if file.is_relative_to(base_folder) else file.name


def _sample_digest(files: Sequence[tuple[Path, os.stat_result]]) -> str:
    """Return a hash of sampled blocks, which are spread evenly over the files and inside each file."""
    sample_hash = blake2b(digest_size=8)
    file_stride = max(1, -(-len(files) // _MAX_BLOCKS))
    sampled_files = files[::file_stride]
    max_blocks = min(max(_MAX_BLOCKS // max(len(sampled_files), 1), 1), _MAX_BLOCKS_PER_FILE)
    for file_index, (file, stat_result) in enumerate(sampled_files):
        try:
            with file.open("rb") as stream:
                for offset in _block_offsets(stat_result.st_size, max_blocks, file_index):
                    stream.seek(offset)
                    sample_hash.update(stream.read(_BLOCK_BYTES))
        except OSError as error:
            raise ScanError(
                f"Cannot read {file}: {error.strerror}. Check the path and that you may read it."
            ) from error
    return sample_hash.hexdigest()


def _block_offsets(file_bytes: int, max_blocks: int, file_index: int) -> list[int]:
    """Return the offset in bytes of each sampled block of a file.

    A small file is sampled completely. In a large file, the first, the last and evenly spaced blocks are sampled.
    """
    n_file_block = -(-file_bytes // _BLOCK_BYTES)
    if n_file_block <= max_blocks:
        return [index * _BLOCK_BYTES for index in range(n_file_block)]
    if max_blocks == 1:
        return [_BLOCK_BYTES * (file_index * 7919 % n_file_block)]
    return [(file_bytes - _BLOCK_BYTES) * index // (max_blocks - 1) for index in range(max_blocks)]


def provenance_of(folder: str | Path) -> dict[str, Any]:
    """Return the provenance of the results or finished blocks in a folder, or {} if there are none.

    Raises
    ------
    ScanError
        The results are damaged.
    """
    if not is_finished(folder):
        return unfinished_settings(folder)
    settings: dict[str, Any] = read_summary(folder)["settings"]
    return {**settings, **settings.get(DEPENDENCIES_KEY, {})}


def check_provenance(folder: str | Path, depends: Mapping[str, Any]) -> None:
    """Raise an error if a folder contains finished results of another scan or of other settings.

    Parameters
    ----------
    folder : str or Path
        Folder of finished results.
    depends : mapping
        Items on which the requested results depend, in types that JSON can store: the ``source``, its
        :func:`file_facts`, and the settings. The version, and items that results of earlier versions do not have, are
        not compared.

    Raises
    ------
    OutputError
        The folder contains results of another scan or other settings. The message lists the differences.
    ScanError
        The results are damaged.
    """
    earlier_settings, requested_settings = provenance_of(folder), json.loads(json.dumps(depends, default=str))
    shared_names = {*earlier_settings} & {*requested_settings} - {"version"}
    if _is_same_scan(earlier_settings, requested_settings["source"], requested_settings):
        shared_names -= {"source"}
    changed_settings = setting_differences(
        {setting_name: earlier_settings[setting_name] for setting_name in shared_names},
        {setting_name: requested_settings[setting_name] for setting_name in shared_names},
    )
    if changed_settings:
        raise OutputError(
            f"Cannot resume {folder}: it contains finished results of another scan or other settings "
            f"({'; '.join(changed_settings)}). Give another folder with --out, or --overwrite to replace them."
        )


def result_folders(sources: Sequence[str | Path], default_folders: Sequence[Path]) -> list[Path]:
    """Return a results folder for each scan, which either contains results of this scan already or does not exist.

    Parameters
    ----------
    sources : sequence of str or Path
        Scans.
    default_folders : sequence of Path
        Default folder of each scan. If its name is in use, a number is appended.
    """
    provenance_by_folder = {
        folder: provenance
        for default_folder in dict.fromkeys(default_folders)
        for folder in _existing_folders(default_folder)
        if (provenance := _read_provenance(folder))
    }
    assigned_folders: dict[int, Path] = {}
    for index, source in enumerate(map(str, sources)):
        unassigned_folders, scan_facts = (
            (folder for folder in provenance_by_folder if folder not in assigned_folders.values()),
            _facts_or_empty(source),
        )
        folder = next(
            (
                folder
                for folder in unassigned_folders
                if _is_same_scan(provenance_by_folder[folder], source, scan_facts)
            ),
            None,
        )
        if folder is not None:
            assigned_folders[index] = folder
    used_folders = {*provenance_by_folder}
    for index in range(len(default_folders)):
        if index not in assigned_folders:
            assigned_folders[index] = next(
                folder for folder in _numbered_names(default_folders[index]) if folder not in used_folders
            )
            used_folders.add(assigned_folders[index])
    return [assigned_folders[index] for index in range(len(default_folders))]


def _is_same_scan(provenance: Mapping[str, Any], source: str, scan_facts: Mapping[str, Any]) -> bool:
    """Return whether results belong to the scan at a path. The scan may have been moved since the analysis."""
    recorded_source = str(provenance.get("source", ""))
    if Path(recorded_source).resolve() == Path(source).resolve():
        return True
    fact_names = [
        fact_name for fact_name in (_SIZE_KEY, _CHANGE_TIME_KEY, _LISTING_KEY, _SAMPLE_KEY) if fact_name in provenance
    ]
    has_same_files = _SIZE_KEY in fact_names and all(
        provenance[fact_name] == scan_facts.get(fact_name) for fact_name in fact_names
    )
    return has_same_files and _scan_name(recorded_source) == _scan_name(source) and not _scan_exists(recorded_source)


def _scan_name(source: str) -> tuple[str, str]:
    path, _, array_name = source.partition("::")
    return Path(path).name, array_name


def _scan_exists(source: str) -> bool:
    return Path(source).exists() or Path(source.partition("::")[0]).exists()


def _facts_or_empty(source: str) -> dict[str, int | str]:
    try:
        return file_facts(source)
    except ScanError:
        return {}


def _read_provenance(folder: Path) -> dict[str, Any]:
    """Return the provenance of results, or {} if they are damaged."""
    try:
        return provenance_of(folder)
    except ScanError:
        return {}


def _numbered_names(default_folder: Path) -> Iterator[Path]:
    yield default_folder
    for folder_number in count(2):
        yield default_folder.with_name(f"{default_folder.name}_{folder_number}")


def _existing_folders(default_folder: Path) -> list[Path]:
    """Return existing folders of finished or resumable runs that have the default name, with or without a number."""
    folder_names = []
    for folder_entry in default_folder.parent.iterdir() if default_folder.parent.is_dir() else ():
        mark = read_mark(folder_entry) if folder_entry.name.startswith(WORKING_FOLDER_PREFIX) else None
        if mark is None or mark.get("kind") == FOLDER_KIND:
            folder_names.append(folder_entry.name if mark is None else str(mark.get("target")))
    numbered_prefix = f"{default_folder.name}_"
    matching_names = (
        folder_entry
        for folder_entry in sorted(folder_names)
        if folder_entry == default_folder.name or folder_entry.removeprefix(numbered_prefix).isdecimal()
    )
    return [default_folder.with_name(folder_entry) for folder_entry in dict.fromkeys(matching_names)]
