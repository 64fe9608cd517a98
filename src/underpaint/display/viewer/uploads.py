"""Files that the page sends into a folder: in pieces, under a temporary name until complete; nothing is replaced."""

import os
import secrets
import shutil
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

from underpaint.errors import OutputError
from underpaint.runtime.files import atomic_write, encoding_fault, is_reserved

MAX_AT_ONCE = 20
MAX_BYTES = 2**40


class _Cancelled(Exception):  # noqa: N818 - not an error
    """The upload was cancelled."""


@dataclass
class _Upload:
    target: Path
    size: int
    part: Path
    written: ExitStack
    n_piece: int = 0
    n_byte: int = 0

    def discard(self) -> None:
        self.written.__exit__(_Cancelled, _Cancelled(), None)


class Uploads:
    """The files that are being sent."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._open: dict[str, _Upload] = {}

    def begin(self, folder: Path, name: object, size: object) -> dict[str, Any]:
        """Begin a file; the answer's ``upload`` is its key.

        Raises
        ------
        OutputError
            The name cannot be used or is taken, the disk lacks space, or too many files are sent at once.
        """
        if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= MAX_BYTES:
            raise OutputError("Cannot upload: the page sent no size. Load the page again.")
        target = folder / _checked(name)
        if os.path.lexists(target):
            raise OutputError(
                f"Cannot upload {target.name}: {folder} already holds a file of that name, and none is replaced. "
                "Rename the file, or choose another folder."
            )
        free = shutil.disk_usage(folder).free
        if size >= free:
            sizes = f"it has {size / 1e6:,.0f} MB, and {folder} has {free / 1e6:,.0f} MB free"
            raise OutputError(f"Cannot upload {target.name}: {sizes}. Make room, or choose another folder.")
        with self._lock:
            if len(self._open) >= MAX_AT_ONCE:
                raise OutputError(f"Cannot upload {target.name}: {MAX_AT_ONCE} files are being sent. Try again later.")
            written = ExitStack()
            part = written.enter_context(atomic_write(target, replace=False))
            key = secrets.token_hex(8)
            self._open[key] = _Upload(target, size, part, written)
            part.touch()
            return self._received(key, b"")

    def receive(self, key: str, piece: int, body: bytes) -> dict[str, Any] | None:
        """Take the next piece; None where nothing of that key is being sent.

        Raises
        ------
        OutputError
            It is not the next piece, is too long, or cannot be written; the upload is given up.
        """
        with self._lock:
            upload = self._open.get(key)
            if upload is None:
                return None
            if piece != upload.n_piece or not body or upload.n_byte + len(body) > upload.size:
                self._discard(key)
                raise OutputError(f"Cannot upload {upload.target.name}: it was not sent in order. Try again.")
            try:
                return self._received(key, body)
            except BaseException:
                self._discard(key)
                raise

    def cancel(self, key: str) -> bool:
        """Give up an upload; nothing of it is left. Return whether there was one."""
        with self._lock:
            return self._discard(key)

    def close(self) -> None:
        """Give up what is being sent."""
        with self._lock:
            for key in list(self._open):
                self._discard(key)

    def _received(self, key: str, body: bytes) -> dict[str, Any]:
        upload = self._open[key]
        with upload.part.open("ab") as stream:
            stream.write(body)
        upload.n_byte += len(body)
        upload.n_piece += bool(body)
        complete = upload.n_byte == upload.size
        if complete:
            del self._open[key]
            upload.written.close()
        return {"upload": key, "bytes": upload.n_byte, "complete": complete, "path": str(upload.target)}

    def _discard(self, key: str) -> bool:
        upload = self._open.pop(key, None)
        if upload is not None:
            upload.discard()
        return upload is not None


def _checked(name: object) -> str:
    is_usable = (
        isinstance(name, str)
        and name not in {"", ".", ".."}
        and not any(separator in name for separator in "/\\")
        and not name.startswith(".")
        and not encoding_fault(name)
        and not is_reserved(name)
    )
    if not (is_usable and isinstance(name, str)):
        raise OutputError(f"Cannot upload {str(name)[:200]!a}: it is no usable file name. Rename the file.")
    return name
