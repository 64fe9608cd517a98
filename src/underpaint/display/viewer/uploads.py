"""Uploads of files in pieces, under a temporary name until complete; existing files are not replaced."""

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

MAX_SIMULTANEOUS = 20
MAX_BYTES = 2**40


class _Cancelled(Exception):  # noqa: N818 - not an error
    """The upload was cancelled."""


@dataclass
class _Upload:
    target: Path
    size: int
    partial_path: Path
    write_context: ExitStack
    n_piece: int = 0
    n_byte: int = 0

    def discard(self) -> None:
        self.write_context.__exit__(_Cancelled, _Cancelled(), None)


class Uploads:
    """The uploads of a server that are in progress."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._open: dict[str, _Upload] = {}

    def begin(self, folder: Path, name: object, size: object) -> dict[str, Any]:
        """Start an upload and return its progress, with its key as ``upload``.

        Raises
        ------
        OutputError
            The name is invalid or in use, the disk is full, or too many uploads are in progress.
        """
        if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= MAX_BYTES:
            raise OutputError("Cannot upload: the page sent no valid size. Load the page again.")
        target = folder / _valid_file_name(name)
        if os.path.lexists(target):
            raise OutputError(
                f"Cannot upload {target.name}: {folder} already contains a file with this name, which is not "
                "replaced. Rename the file, or choose another folder."
            )
        free_bytes = shutil.disk_usage(folder).free
        if size >= free_bytes:
            size_text = f"it has {size / 1e6:,.0f} MB, and {folder} has {free_bytes / 1e6:,.0f} MB free"
            raise OutputError(f"Cannot upload {target.name}: {size_text}. Make room, or choose another folder.")
        with self._lock:
            if len(self._open) >= MAX_SIMULTANEOUS:
                raise OutputError(
                    f"Cannot upload {target.name}: {MAX_SIMULTANEOUS} uploads are in progress. Try again later."
                )
            write_context = ExitStack()
            partial_path = write_context.enter_context(atomic_write(target, replace=False))
            key = secrets.token_hex(8)
            self._open[key] = _Upload(target, size, partial_path, write_context)
            partial_path.touch()
            return self._append(key, b"")

    def receive(self, key: str, piece: int, body: bytes) -> dict[str, Any] | None:
        """Append the next piece of an upload and return its progress; None for an unknown key.

        Raises
        ------
        OutputError
            The piece is out of order, too long, or cannot be written; the upload is then cancelled.
        """
        with self._lock:
            upload = self._open.get(key)
            if upload is None:
                return None
            if piece != upload.n_piece or not body or upload.n_byte + len(body) > upload.size:
                self._discard_upload(key)
                raise OutputError(f"Cannot upload {upload.target.name}: its pieces were not sent in order. Try again.")
            try:
                return self._append(key, body)
            except BaseException:
                self._discard_upload(key)
                raise

    def cancel(self, key: str) -> bool:
        """Cancel an upload and remove its data; return whether the key was known."""
        with self._lock:
            return self._discard_upload(key)

    def close(self) -> None:
        """Cancel all uploads."""
        with self._lock:
            for key in list(self._open):
                self._discard_upload(key)

    def _append(self, key: str, body: bytes) -> dict[str, Any]:
        upload = self._open[key]
        with upload.partial_path.open("ab") as stream:
            stream.write(body)
        upload.n_byte += len(body)
        upload.n_piece += bool(body)
        is_complete = upload.n_byte == upload.size
        if is_complete:
            del self._open[key]
            upload.write_context.close()
        return {"upload": key, "bytes": upload.n_byte, "complete": is_complete, "path": str(upload.target)}

    def _discard_upload(self, key: str) -> bool:
        upload = self._open.pop(key, None)
        if upload is not None:
            upload.discard()
        return upload is not None


def _valid_file_name(file_name: object) -> str:
    is_usable = (
        isinstance(file_name, str)
        and file_name not in {"", ".", ".."}
        and not any(separator in file_name for separator in "/\\")
        and not file_name.startswith(".")
        and not encoding_fault(file_name)
        and not is_reserved(file_name)
    )
    if not (is_usable and isinstance(file_name, str)):
        raise OutputError(f"Cannot upload {str(file_name)[:200]!a}: it is not a valid file name. Rename the file.")
    return file_name
