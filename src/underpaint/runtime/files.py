"""Write files and folders atomically, and protect files that other programs created.

Output is first written to a *working folder*, which is a hidden folder with a random name next to the target. A mark
file in the folder names the target, so that an interrupted run can be resumed. The writing process holds a lock in the
folder. The operating system releases this lock when the process ends for any reason.

The finished file or folder is renamed to its final name. Renaming is atomic on every file system that supports
``os.replace``. Files and folders are flushed to the disk (fsync) before and after renaming. A power failure thus leaves
either the old or the new content. Windows cannot flush folders, but its journal preserves the order of changes. Windows
cannot replace a file that another program has open, so renaming is retried for a second.
"""

import hashlib
import json
import os
import shutil
import socket
import stat
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from errno import ENAMETOOLONG, ENOENT, ENOLCK, ENOSYS, EOPNOTSUPP
from importlib import import_module
from pathlib import Path
from random import uniform
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any

from underpaint.errors import OutputError

if TYPE_CHECKING:
    from filelock import FileLock

WORKING_FOLDER_PREFIX = ".underpaint-"
_MARK_FILE, _LOCK_FILE, _PROGRAM_NAME = "underpaint.json", "lock", "underpaint"
_MAX_MARK_BYTES = 2**16
_REPARSE_TAGS = {0xA000000C, 0xA0000003}
"""Windows reparse tags of symbolic links and junctions. Other reparse points, such as OneDrive files, count as
files."""
_NO_LOCK_ERRORS = (ENOLCK, ENOSYS, EOPNOTSUPP)
"""Error numbers of file systems without locks, which include some network disks."""
_MAX_LOCK_ATTEMPTS = 4
"""Maximum number of attempts to lock a target. If two processes start within milliseconds, the first attempts of both
may fail."""
_MAX_WINDOWS_CHARACTERS = 247
"""Maximum length of a folder's path on Windows if long paths are not enabled, in characters."""
_DEVICE_NAMES = {"con", "prn", "aux", "nul", "conin$", "conout$"} | {
    f"{port}{digit}" for port in ("com", "lpt") for digit in "123456789¹²³"
}


_new_targets: set[Path] = set()
"""Targets that did not exist when the run started. A target that another program created since then is not replaced."""


def is_windows() -> bool:
    """Return whether the operating system is Windows."""
    return os.name == "nt"


# --- atomic files -----------------------------------------------------------------------------------


@contextmanager
def atomic_write(path: str | Path, *, replace: bool = True) -> Iterator[Path]:
    """Yield a temporary path. A file at this path is renamed to the target at the end, or removed after an error.

    Parameters
    ----------
    path : path
        Path of the file to create.
    replace : bool
        Whether to replace an existing file. If false, an existing file causes an error.

    Raises
    ------
    OutputError
        The file cannot be written. An existing file remains unchanged.
    """
    target = Path(path)
    try:
        check_path(target)
        with working_folder(target) as work_folder:
            for abandoned_folder in work_folder.abandoned_folders:
                remove_working_folder(abandoned_folder)
            temporary_path = work_folder.path / target.name
            yield temporary_path
            rename_finished(temporary_path, target, replace=replace)
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        raise write_error(target, error) from error


def write_json(path: str | Path, value: Any) -> None:
    """Convert a value by :func:`json_types`, and write it to a JSON file atomically.

    Raises
    ------
    OutputError
        The file cannot be written.
    """
    with atomic_write(path) as temporary_path:
        temporary_path.write_text(json.dumps(json_types(value), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def json_types(value: Any) -> Any:
    """Return a value converted to JSON types: tuples to lists, NumPy numbers to numbers, paths to text, NaN to None."""
    return json.loads(json.dumps(value, default=_json_value), parse_constant=lambda _: None)


def _json_value(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else str(value)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 digest of a file as hexadecimal text."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_error(target: Path, error: Exception) -> OutputError:
    """Return the error to raise if a file or folder cannot be written."""
    reason = (error.strerror if isinstance(error, OSError) else None) or str(error).split(" (", 1)[0]
    return OutputError(f"Cannot write {target}: {reason}. Check that the folder exists, is writable and has space.")


def rename_finished(finished_path: Path, target: Path, *, replace: bool = True) -> None:
    """Rename a finished file or folder to its final name, so that a power failure leaves the old or the new content.

    Raises
    ------
    OutputError
        The target exists and may not be replaced, or another program has the target open (on Windows).
    OSError
        The file or folder cannot be renamed.
    """
    resolved_target = target.parent.resolve() / target.name
    replace = replace and resolved_target not in _new_targets
    if os.path.lexists(target):
        if not replace:
            raise OutputError(f"Cannot write {target}: it already exists and is not replaced. Choose another name.")
        if not (target.is_symlink() or target.is_file() or target.is_dir()):
            raise OutputError(f"Cannot write {target}: it is a device or a pipe, not a file. Give the name of a file.")
    sync(finished_path)
    if replace or finished_path.is_dir():
        _rename(finished_path, target, os.replace if replace else os.rename)
    else:
        _move_to_new(finished_path, target)
    _new_targets.discard(resolved_target)
    sync_folder(target.parent)


@contextmanager
def new_files(paths: Iterable[Path]) -> Iterator[None]:
    """Protect files that another program creates at the given paths while the context is active."""
    new_paths = {path.parent.resolve() / path.name for path in paths if not os.path.lexists(path)}
    _new_targets.update(new_paths)
    try:
        yield
    finally:
        _new_targets.difference_update(new_paths)


def _move_to_new(finished_path: Path, target: Path) -> None:
    """Rename a file, but replace no existing file, even if that file was created in the meantime."""
    if is_windows():
        _rename(finished_path, target, os.rename)  # on Windows, os.rename fails if the name exists
        return
    try:
        os.link(finished_path, target)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        _rename(finished_path, target, os.rename)
    else:
        finished_path.unlink()


def _rename(source: Path, target: Path, rename_function: Callable[[Path, Path], None]) -> None:
    """Rename a file, with retries on Windows, where a virus scanner or an indexer may have the file open."""
    for attempt_index in range(10):
        try:
            rename_function(source, target)
        except PermissionError as error:
            if not is_windows():
                raise
            if attempt_index == 9:
                raise OutputError(
                    f"Cannot write {target}: another program has the file open. Close the file there and try again."
                ) from error
            time.sleep(0.1)
        else:
            return


def sync(path: Path) -> None:
    """Flush a file, or a folder with its content, to the disk."""
    if path.is_symlink():
        return
    if path.is_dir():
        for entry in path.iterdir():
            sync(entry)
        sync_folder(path)
    elif path.is_file():
        try:
            descriptor = os.open(path, os.O_RDWR | getattr(os, "O_BINARY", 0))
        except PermissionError:  # a read-only file
            return
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def sync_folder(path: Path) -> None:
    """Flush the entries of a folder to the disk, if the operating system and the file system support this."""
    if is_windows():
        return
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def remove_tree(path: Path) -> None:
    """Remove a folder created by this program. Files that cannot be removed remain."""

    def make_writable(remove_function: Callable[..., Any], name: str, _: object) -> None:
        with suppress(OSError):
            if not is_link(Path(name)):  # chmod would change the target of a link
                Path(name).chmod(stat.S_IRWXU)  # Windows does not remove read-only files
                remove_function(name)

    if sys.version_info >= (3, 12):
        shutil.rmtree(path, onexc=make_writable)
    else:
        shutil.rmtree(path, onerror=make_writable)


def is_link(path: Path) -> bool:
    """Return whether a path is a symbolic link or a Windows junction."""
    return is_link_status(path.lstat())


def is_link_status(file_status: os.stat_result) -> bool:
    """Return whether a file status belongs to a symbolic link or a Windows junction."""
    return stat.S_ISLNK(file_status.st_mode) or getattr(file_status, "st_reparse_tag", 0) in _REPARSE_TAGS


def has_only_files_and_folders(path: Path, *, recursive: bool = False) -> bool:
    """Return whether a folder contains only files and folders. If ``recursive``, subfolders are checked too.

    This program writes only files and folders into its working folders. Links, pipes and devices may be part of an
    attack.
    """
    try:
        for entry in path.iterdir():
            entry_status = entry.lstat()
            if is_link_status(entry_status) or not (
                stat.S_ISREG(entry_status.st_mode) or stat.S_ISDIR(entry_status.st_mode)
            ):
                return False
            if (
                recursive
                and stat.S_ISDIR(entry_status.st_mode)
                and not has_only_files_and_folders(entry, recursive=True)
            ):
                return False
    except OSError:
        return False
    return True


# --- working folders ---------------------------------------------------------------------------------


@dataclass
class WorkingFolder:
    """Folder into which output is written until it is complete.

    Parameters
    ----------
    path : Path
        Path of the folder. This process holds the lock of the folder.
    abandoned_folders : list of Path
        Working folders that interrupted runs with the same target left behind. This process has locked the abandoned
        folders, too.
    is_kept : bool
        Whether the folder is kept when the lock is released.
    """

    path: Path
    abandoned_folders: list[Path]
    is_kept: bool = False


@contextmanager
def working_folder(
    path: str | Path, *, output_kind: str = "file", is_exclusive: bool = False
) -> Iterator[WorkingFolder]:
    """Yield a new working folder next to a target. The folder is locked while the context is active.

    Parameters
    ----------
    path : path
        File or folder to create, whose parent folder must exist.
    output_kind : str
        Kind of output. Abandoned folders with another kind of output are ignored.
    is_exclusive : bool
        Whether to raise an error if another process also writes to the target exclusively.

    Raises
    ------
    OutputError
        Another process is writing to the target.
    OSError
        The parent folder does not exist or is not writable.
    """
    target = Path(path)
    target = target.parent.resolve() / target.name
    if not target.parent.is_dir():
        raise FileNotFoundError(ENOENT, os.strerror(ENOENT), str(target.parent))
    with ExitStack() as locks:
        work_folder = _make_working_folder(target, output_kind, locks, is_exclusive=is_exclusive)
        try:
            yield work_folder
        finally:
            if not work_folder.is_kept:
                remove_working_folder(work_folder.path)
    for folder in (work_folder.path, *work_folder.abandoned_folders):
        if _is_empty(folder):  # Windows does not remove a lock file while the lock is held
            remove_working_folder(folder)


@contextmanager
def exclusive_lock(path: str | Path) -> Iterator[None]:
    """Lock a file or folder against all other processes while the context is active.

    Raises
    ------
    OutputError
        Another process is writing to the file or folder.
    OSError
        The parent folder does not exist or is not writable.
    """
    with working_folder(path, output_kind="turn", is_exclusive=True) as work_folder:
        for abandoned_folder in work_folder.abandoned_folders:
            remove_working_folder(abandoned_folder)
        yield


def _make_working_folder(target: Path, output_kind: str, locks: ExitStack, *, is_exclusive: bool) -> WorkingFolder:
    for attempt_index in range(_MAX_LOCK_ATTEMPTS):
        if attempt_index:
            time.sleep(uniform(0.02, 0.1 * attempt_index))  # noqa: S311 - not for cryptography
        with ExitStack() as attempt_locks:
            folder = Path(mkdtemp(prefix=WORKING_FOLDER_PREFIX, dir=target.parent))
            lock = _lock(folder)
            if lock is not None:
                attempt_locks.callback(lock.release)
            _write_mark(folder, target, output_kind, is_exclusive=is_exclusive)
            abandoned_folders, is_target_busy = _abandoned_folders(target, folder, output_kind, attempt_locks)
            if not (is_exclusive and is_target_busy):
                locks.push(attempt_locks.pop_all())
                return WorkingFolder(folder, abandoned_folders)
            remove_working_folder(folder)
        if folder.exists():
            remove_working_folder(folder)
    raise OutputError(
        f"Cannot write to {target}: another run is writing to it. Wait until that run ends, stop it, or choose another "
        "folder with --out."
    )


def _abandoned_folders(target: Path, new_folder: Path, output_kind: str, locks: ExitStack) -> tuple[list[Path], bool]:
    """Lock and return the abandoned folders of a target; also return whether another process writes exclusively."""
    abandoned_folders, is_target_busy = [], False
    for folder in working_folders(target):
        mark = read_mark(folder)
        if folder == new_folder or mark is None:
            continue
        lock = _lock(folder)
        if lock is None or (not lock.is_locked and _may_run(mark)):
            is_target_busy |= bool(mark.get("alone"))
            continue
        if mark.get("kind") == output_kind:
            locks.callback(lock.release)
            abandoned_folders.append(folder)
        else:
            lock.release()
    return abandoned_folders, is_target_busy


def working_folders(target: Path) -> list[Path]:
    """Return the working folders whose mark file names the target, oldest first, except folders that contain links."""
    target_name = os.path.normcase(target.name)
    with suppress(OSError):
        folder_paths = sorted(
            (entry.path for entry in os.scandir(target.parent) if _has_prefix(entry)), key=_modification_time
        )
        paths_and_marks = ((Path(path), read_mark(Path(path))) for path in folder_paths)
        matching_paths = (
            path for path, mark in paths_and_marks if mark and os.path.normcase(str(mark.get("target"))) == target_name
        )
        return [path for path in matching_paths if has_only_files_and_folders(path)]
    return []


def _has_prefix(folder_entry: "os.DirEntry[str]") -> bool:
    return folder_entry.name.startswith(WORKING_FOLDER_PREFIX) and folder_entry.is_dir(follow_symlinks=False)


def is_working_folder(path: Path) -> bool:
    """Return whether a folder has the mark of a working folder of this program."""
    return path.name.startswith(WORKING_FOLDER_PREFIX) and not path.is_symlink() and read_mark(path) is not None


def read_mark(folder: Path) -> dict[str, Any] | None:
    """Return the content of the mark file of a working folder; None for other folders."""
    path = folder / _MARK_FILE
    if path.is_symlink() or not path.is_file():
        return None
    try:
        with path.open(encoding="utf-8") as stream:
            mark = json.loads(stream.read(_MAX_MARK_BYTES))
    except (OSError, ValueError, RecursionError):
        return None
    return mark if isinstance(mark, dict) and mark.get("program") == _PROGRAM_NAME else None


def remove_working_folder(folder: Path) -> None:
    """Remove a working folder. The mark file is removed last, so that an interruption leaves no unidentified folder."""
    last_files = {_MARK_FILE, _LOCK_FILE}
    with suppress(OSError):
        for entry in list(folder.iterdir()):
            if entry.name in last_files:
                continue
            if entry.is_dir() and not entry.is_symlink():
                remove_tree(entry)
            else:
                entry.unlink(missing_ok=True)
        if any(entry.name not in last_files for entry in folder.iterdir()):
            return
        for name in (_LOCK_FILE, _MARK_FILE):
            (folder / name).unlink(missing_ok=True)
        folder.rmdir()


def _is_empty(folder: Path) -> bool:
    """Return whether a working folder contains only its mark file and its lock file."""
    try:
        return {entry.name for entry in folder.iterdir()} <= {_MARK_FILE, _LOCK_FILE}
    except OSError:
        return False


def _write_mark(folder: Path, target: Path, output_kind: str, *, is_exclusive: bool) -> None:
    output_record = {"program": _PROGRAM_NAME, "target": target.name, "kind": output_kind, "alone": is_exclusive}
    process_record = {"host": socket.gethostname(), "process": os.getpid()}
    draft_path = folder / "mark"
    draft_path.write_text(json.dumps(output_record | process_record), "utf-8")
    if output_kind != "file":  # single files are not resumed after a power failure
        sync(draft_path)
    draft_path.replace(folder / _MARK_FILE)


def _lock(folder: Path) -> "FileLock | None":
    """Return the lock of a working folder, acquired if the file system has locks; None if another process has it."""
    from filelock import FileLock, Timeout  # imported here, because filelock imports asyncio (50 ms)

    path = folder / _LOCK_FILE
    if path.is_symlink():
        return None
    # the lock is not bound to a thread, because different threads start and finish an upload
    lock = FileLock(path, blocking=False, thread_local=False)
    try:
        lock.acquire()
    except Timeout:
        return None
    except NotImplementedError:
        pass  # older releases of filelock raise this error on file systems without locks
    except OSError as error:
        if error.errno not in _NO_LOCK_ERRORS:
            return None
    return lock


def _may_run(mark: dict[str, Any]) -> bool:
    """On file systems without locks, return whether the process that wrote a mark may still be running."""
    if is_windows() or mark.get("host") != socket.gethostname():
        return True
    try:
        os.kill(int(mark["process"]), 0)
    except (ProcessLookupError, KeyError, ValueError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _modification_time(path: str) -> float:
    try:
        return Path(path).stat().st_mtime
    except OSError:
        return 0.0


def claim_folder(path: str | Path, *, known_files: Iterable[str] = ()) -> None:
    """Create a folder for the output of several calls, or check that this program created the existing folder.

    A mark file or another known file identifies a folder of this program.

    Parameters
    ----------
    path : path
        Path of the folder. The folder may be missing or empty.
    known_files : iterable of str
        Names of files that the caller writes into the folder. Such a file identifies the folder instead of a mark file.

    Raises
    ------
    OutputError
        The folder contains files of another program, or it cannot be created.
    """
    folder, known_names = Path(path), tuple(known_files)
    check_path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if read_mark(folder) is not None:
            return
        if any(folder.iterdir()) and not any((folder / name).exists() for name in known_names):
            raise OutputError(
                f"Cannot write to the folder {folder}: it contains files of other origin, which could be replaced. "
                "Choose a new or empty folder."
            )
        if not known_names:
            write_json(folder / _MARK_FILE, {"program": _PROGRAM_NAME, "kind": "folder"})
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        raise write_error(folder, error) from error


# --- names -------------------------------------------------------------------------------------------


def check_path(path: str | Path) -> None:
    """Check that the name of a path can be used on all systems and printed.

    Raises
    ------
    OutputError
        The name is not valid UTF-8, is too long, or is reserved by Windows.
    """
    target = Path(path)
    fault = encoding_fault(target) or _fault_of_names(target)
    if not fault:
        try:
            target.lstat()
        except OSError as error:
            fault = (
                "a name in the path is too long; most systems allow 255 bytes" if error.errno == ENAMETOOLONG else ""
            )
        except ValueError:
            fault = "it contains a zero byte"
    if fault:
        raise OutputError(f"Cannot write {printable_path(target)}: {fault}. Choose another name.")


def encoding_fault(path: str | Path) -> str:
    """Return the reason why a path cannot be stored in results; "" for a valid path."""
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError:
        return "its name is not valid UTF-8"
    return ""


def printable_path(path: str | Path) -> str:
    """Return a path as text, with escapes for invalid UTF-8."""
    return str(path).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def is_reserved(name: str) -> bool:
    """Return whether Windows reserves or forbids a name, such as ``con``, ``aux.txt``, ``end.`` or ``a:b``."""
    stem = name.partition(".")[0].rstrip(" ").casefold()
    return (
        stem in _DEVICE_NAMES
        or name != name.rstrip(" .")
        or any(character in '<>:"|?*' or character < " " for character in name)
    )


def _fault_of_names(target: Path) -> str:
    if not is_windows():
        return ""
    absolute_path = target.absolute()
    reserved_names = [name for name in absolute_path.parts[1:] if name not in {".", ".."} and is_reserved(name)]
    if reserved_names:
        return f"Windows cannot make a file called {reserved_names[0]!r}"
    if len(str(absolute_path)) > _MAX_WINDOWS_CHARACTERS and not _has_long_paths():
        return (
            f"the path has {len(str(absolute_path))} characters, Windows allows {_MAX_WINDOWS_CHARACTERS} unless long "
            "paths are enabled"
        )
    return ""


def _has_long_paths() -> bool:
    """Return whether long paths are enabled on Windows (LongPathsEnabled in the registry)."""
    try:
        registry: Any = import_module("winreg")
        registry_path = r"SYSTEM\CurrentControlSet\Control\FileSystem"
        with registry.OpenKey(registry.HKEY_LOCAL_MACHINE, registry_path) as registry_key:
            return bool(registry.QueryValueEx(registry_key, "LongPathsEnabled")[0])
    except (ImportError, OSError):
        return False
