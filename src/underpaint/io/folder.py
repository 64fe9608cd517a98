"""A folder of results that is whole or not there: written beside its place, renamed at the end."""

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from underpaint.errors import OutputError
from underpaint.files import whole_file, written_alone
from underpaint.io.companions import carry_over
from underpaint.io.stored import JOURNAL, RESULTS_FILE

_MARK = ".underpaint-part"
_BLOCKS = "blocks"
_SPARE_BYTES = 64 * 2**20


@dataclass(frozen=True)
class ResultFolder:
    """Where results are written before they are whole.

    Parameters
    ----------
    path : Path
        Write here; it becomes the folder asked for.
    blocks : Path
        A folder for finished blocks (:class:`~underpaint.io.BlockStore`) and all else that an interrupted run goes on
        from; it is removed when all is done.
    earlier : Path
        The results that these replace, if there are any.
    """

    path: Path
    blocks: Path
    earlier: Path


@contextmanager
def result_folder(
    path: str | Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    needed_bytes: int = _SPARE_BYTES,
    settings: Mapping[str, Any] | None = None,
) -> Iterator[ResultFolder]:
    """Open a folder for results; it appears whole at the end of the ``with`` block, or not at all.

    Parameters
    ----------
    path : str or Path
        The folder to make. What is written goes to ``<path>.part`` until the end.
    resume : bool
        Go on from the finished blocks of an interrupted run; without it they are thrown away.
    overwrite : bool
        Replace results that are there, and throw away finished blocks of a run with other settings. What users
        added to them stays (:func:`~underpaint.io.companions.carry_over`).
    needed_bytes : int
        Space that must be free.
    settings : mapping or None
        What the blocks depend on (JSON-serialisable).

    Raises
    ------
    OutputError
        The folder exists and neither flag is given, or holds something other than results; the run to be resumed was
        begun with other settings; another run writes there just now; the place is not writable or too small; or the
        disk fills up meanwhile.

    Notes
    -----
    What is interrupted, by an error, Ctrl-C or a kill, leaves its blocks in ``<path>.part``, if there are any. Of two
    runs at once the second is refused; ``<path>.lock`` is held meanwhile, and one that a kill left keeps nobody out.
    """
    target = Path(path).resolve()
    part = _part(target)
    with ExitStack() as held:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            held.enter_context(written_alone(target))
            sweep(target)
            _check_target(target, replace_allowed=resume or overwrite)
            blocks = _prepare(part, settings or {}, resume=resume, afresh=overwrite)
            place = ResultFolder(part, blocks, _earlier(target))
            _check_space(place, needed_bytes)
        except OSError as error:
            raise _explained(error, target) from error
        try:
            yield place
            _publish(part, target)
        except BaseException as error:
            _clear(part)
            if isinstance(error, OSError) and not isinstance(error, OutputError) and error.errno is not None:
                raise _explained(error, target) from error
            raise


def is_finished(path: str | Path) -> bool:
    """Whether a folder holds the results of a run that came to its end."""
    return (Path(path) / RESULTS_FILE).is_file()


def unfinished(path: str | Path) -> dict[str, Any]:
    """Return the settings of the run whose finished blocks wait to be gone on from; {} where there is none."""
    mark = _part(Path(path)) / _MARK
    return dict(json.loads(mark.read_text("utf-8"))) if mark.is_file() else {}


def differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Say in which settings two runs differ; what a palette or an instrument holds is not spelled out."""
    names = (name for name in sorted({*then, *now}) if then.get(name) != now.get(name))
    return [
        f"{name} something else now"
        if isinstance(then.get(name), dict) and isinstance(now.get(name), dict)
        else f"{name} {then.get(name)!r} then, {now.get(name)!r} now"
        for name in names
    ]


def _check_target(target: Path, *, replace_allowed: bool) -> None:
    if not target.exists():
        return
    if not target.is_dir():
        message = f"Cannot write results to {target}: it is a file. Give the name of a folder with --out."
        raise OutputError(message)
    if not any(target.iterdir()):
        return
    if not replace_allowed:
        message = (
            f"Cannot write results to {target}: the folder exists and is not empty. "
            "Give another one with --out, or --overwrite to replace it, or --resume to go on."
        )
        raise OutputError(message)
    if not is_finished(target):
        message = (
            f"Cannot replace {target}: it holds no {RESULTS_FILE}, so it is not a folder of results. "
            "Nothing was touched; give another one with --out."
        )
        raise OutputError(message)


def _prepare(part: Path, settings: Mapping[str, Any], *, resume: bool, afresh: bool) -> Path:
    if part.exists() and not (part / _MARK).is_file() and any(own.name != _MARK + ".part" for own in part.iterdir()):
        message = f"Cannot write to {part}: it exists and was not made by an interrupted run. Move it away."
        raise OutputError(message)
    text = json.dumps(settings, sort_keys=True, default=str)
    if (part / _MARK).is_file() and not (resume and _goes_on(part, text, afresh=afresh)):
        _remove(part)
    part.mkdir(parents=True, exist_ok=True)
    with whole_file(part / _MARK) as mark:
        mark.write_text(text, "utf-8")
    blocks = part / _BLOCKS
    blocks.mkdir(exist_ok=True)
    return blocks


def _goes_on(part: Path, text: str, *, afresh: bool) -> bool:
    """Whether a run can be gone on with: its settings are the same; else it is an error, or begun afresh."""
    before = (part / _MARK).read_text("utf-8")
    if before == text or afresh:
        return before == text
    other = differences(json.loads(before), json.loads(text))
    message = (
        f"Cannot resume {part.with_suffix('')}: it was begun otherwise ({'; '.join(other)}). Call as before, or leave "
        "out --resume to begin again."
    )
    raise OutputError(message)


def _check_space(place: ResultFolder, needed_bytes: int) -> None:
    # What an interrupted run has written already needs no room.
    held = sum(4096 * (own.stat().st_size // 4096) for own in place.blocks.rglob("*") if own.is_file())
    free = shutil.disk_usage(place.path).free + held
    if free >= needed_bytes:
        return
    _clear(place.path)
    message = (
        f"Cannot write results to {place.path.parent}: {free / 2**20:.0f} MB are free, "
        f"{needed_bytes / 2**20:.0f} MB needed. "
        "Make room, or give a folder on another disk with --out."
    )
    raise OutputError(message)


def _publish(part: Path, target: Path) -> None:
    """Put the part in its place; what was there goes only once the new is there, and the blocks last of all.

    What users added to the old results up to this moment comes along.

    So a kill at any moment leaves the old results, or the new, or blocks to go on from.
    """
    old = _old(target)
    carry_over(_earlier(target), part)
    if is_finished(old):
        shutil.rmtree(old)
    if target.exists() and any(target.iterdir()):
        target.replace(old)
    elif target.exists():
        target.rmdir()
    try:
        part.replace(target)
    except OSError:
        if old.exists():
            old.replace(target)
        raise
    shutil.rmtree(old, ignore_errors=True)
    sweep(target)


def _part(target: Path) -> Path:
    return target.with_name(target.name + ".part")


def _old(target: Path) -> Path:
    return target.with_name(target.name + ".old")


def _earlier(target: Path) -> Path:
    """Return where the results are that will be replaced; a kill at the last moment may have left them aside."""
    return target if target.exists() else _old(target)


def sweep(target: Path) -> None:
    """Remove what finished results no longer need; a kill may have kept it from being done."""
    if (target / _MARK).is_file():
        shutil.rmtree(target / _BLOCKS, ignore_errors=True)
        (target / _MARK).unlink(missing_ok=True)


def _clear(part: Path) -> None:
    """Leave nothing but blocks, and nothing at all where none is finished."""
    if any((part / _BLOCKS).rglob(JOURNAL)):
        _remove(part, but=(_BLOCKS, _MARK))
    elif part.exists():
        _remove(part)


def _remove(part: Path, but: tuple[str, ...] = ()) -> None:
    """Remove what an interrupted run left; its mark goes last, or else a kill would leave what nobody made."""
    for entry in sorted(part.iterdir(), key=lambda own: own.name == _MARK):
        if entry.name in but:
            continue
        if entry.is_dir():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)
    if not but:
        shutil.rmtree(part, ignore_errors=True)


def _explained(error: OSError, target: Path) -> OutputError:
    if isinstance(error, OutputError):
        return error
    message = (
        f"Cannot write results to {target}: {error.strerror or error}. "
        "Check that the place exists, is writable and has space, or give another one with --out."
    )
    return OutputError(message)
