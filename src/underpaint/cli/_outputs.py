"""What commands write: in one place it is refused to replace what is there, before any work is done."""

from collections.abc import Callable, Iterator, Mapping
from functools import wraps
from pathlib import Path
from typing import Any, get_type_hints

import typer
from typer.models import ParameterInfo


def new_file(metavar: str, help: str) -> Any:  # noqa: A002 - as typer calls it
    """Declare an option that names a file to write; one that is there is refused, unless there is --overwrite."""
    return typer.Option(metavar=metavar, help=help, writable=True, dir_okay=False)


def new_folder(metavar: str, help: str) -> Any:  # noqa: A002 - as typer calls it
    """Declare an option that names a folder to write to; a file is refused, and the command checks what is in it."""
    return typer.Option(metavar=metavar, help=help, writable=True, file_okay=False)


def careful(command: Callable[..., None]) -> Callable[..., None]:
    """Make a command look at its outputs before it begins."""
    declared = parameters(command)

    @wraps(command)
    def run(**values: Any) -> None:
        from underpaint.runtime.files import new_files

        refuse_to_replace(declared, values)
        outputs = (name for name, (_, about) in declared.items() if about is not None and about.writable)
        with new_files(Path(values[name]) for name in outputs if values.get(name) is not None):
            command(**values)

    return run


def parameters(command: Callable[..., None]) -> dict[str, tuple[Any, ParameterInfo | None]]:
    """Return type and declaration of a command's parameters by name."""
    hints = get_type_hints(command, include_extras=True)
    found = {}
    for name, hint in hints.items():
        about = next((own for own in getattr(hint, "__metadata__", ()) if isinstance(own, ParameterInfo)), None)
        found[name] = (getattr(hint, "__origin__", hint), about)
    return found


def refuse_to_replace(declared: Mapping[str, tuple[Any, ParameterInfo | None]], values: Mapping[str, Any]) -> None:
    """Refuse outputs that would replace something; with --overwrite, those alone that would replace an input.

    Raises
    ------
    OutputError
        An output is there, has a name that cannot be, or its folder is not there.
    """
    from underpaint.errors import OutputError, ScanError
    from underpaint.runtime.files import check_path, fault_of_text, printable

    outputs = {name: about for name, (_, about) in declared.items() if about is not None and about.writable}
    inputs = [path for name, value in values.items() if name not in outputs for path in _paths(value)]
    asked = {name: about for name, about in outputs.items() if values.get(name) is not None}
    faulty = next((path for path in inputs if fault_of_text(path)), None)
    if asked and faulty is not None:
        raise ScanError(
            f"Cannot use {printable(faulty)}: {fault_of_text(faulty)}, so no file could name it. Rename it."
        )
    for name, about in asked.items():
        path = Path(values[name])
        check_path(path)
        if about.file_okay:
            check_new_files([path], inputs, overwrite=values.get("overwrite"))
        elif path.exists() and not path.is_dir():
            raise OutputError(f"Cannot write to {path}: it is a file. Give the name of a folder.")


def check_new_files(paths: list[Path], inputs: list[Path] | None = None, *, overwrite: bool | None) -> None:
    """Refuse to write files that are there, whose folder is not, or that are inputs.

    Raises
    ------
    OutputError
        One of them.
    """
    from underpaint.errors import OutputError
    from underpaint.io._scan_files import belongs_to
    from underpaint.pipeline.run import check_new_file

    for path in paths:
        check_new_file(path, overwrite=overwrite)
        source = next((source for source in inputs or [] if path.exists() and belongs_to(path, source)), None)
        if source is not None:
            raise OutputError(f"Cannot write {path}: it is part of {source}, which is read. Give another name.")


def _paths(value: Any) -> Iterator[Path]:
    """Return the files and folders that a value names, as far as they are there; FILE::NAME names the file."""
    for text in value if isinstance(value, list | tuple) else (value,):
        if isinstance(text, str | Path) and str(text):
            whole, part = Path(text), Path(str(text).rpartition("::")[0] or str(text))
            yield from (path for path in dict.fromkeys((whole, part)) if path.exists())
