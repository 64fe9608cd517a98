"""Output options of commands, and the check before a command runs that no existing file is replaced."""

import re
from collections.abc import Callable, Iterator, Mapping
from functools import wraps
from pathlib import Path
from typing import Any, get_type_hints

import typer
from typer.models import ParameterInfo


def new_file(metavar: str, help: str) -> Any:  # noqa: A002 - the name in typer
    """Declare an option for a file to write; existing files are refused without --overwrite."""
    return typer.Option(metavar=metavar, help=help, writable=True, dir_okay=False)


def new_folder(metavar: str, help: str) -> Any:  # noqa: A002 - the name in typer
    """Declare an option for a folder to write to; files are refused, and the command checks the folder's content."""
    return typer.Option(metavar=metavar, help=help, writable=True, file_okay=False)


def careful(command: Callable[..., None]) -> Callable[..., None]:
    """Decorate a command so that its outputs are checked before it runs, and its help wraps no example."""
    declared_parameters = parameters(command)

    @wraps(command)
    def run(**values: Any) -> None:
        from underpaint.runtime.files import new_files

        refuse_to_replace(declared_parameters, values)
        output_names = (
            name
            for name, (_, declaration) in declared_parameters.items()
            if declaration is not None and declaration.writable
        )
        with new_files(Path(values[name]) for name in output_names if values.get(name) is not None):
            command(**values)

    # click wraps a paragraph unless its first line is a backspace; a wrapped example cannot be copied
    run.__doc__ = re.sub(r"\n\n( +)    (?=underpaint )", "\n\n\\1    \b\n\\1", command.__doc__ or "")
    return run


def parameters(command: Callable[..., None]) -> dict[str, tuple[Any, ParameterInfo | None]]:
    """Return type and declaration of a command's parameters by name."""
    hints = get_type_hints(command, include_extras=True)
    declarations = {}
    for name, hint in hints.items():
        declaration = next(
            (metadata for metadata in getattr(hint, "__metadata__", ()) if isinstance(metadata, ParameterInfo)), None
        )
        declarations[name] = (getattr(hint, "__origin__", hint), declaration)
    return declarations


def refuse_to_replace(declared: Mapping[str, tuple[Any, ParameterInfo | None]], values: Mapping[str, Any]) -> None:
    """Raise an error for outputs that exist; with --overwrite, only for outputs that are inputs.

    Raises
    ------
    OutputError
        An output exists, has an invalid name, or its folder does not exist.
    """
    from underpaint.errors import OutputError, ScanError
    from underpaint.runtime.files import check_path, encoding_fault, printable_path

    outputs = {
        name: declaration
        for name, (_, declaration) in declared.items()
        if declaration is not None and declaration.writable
    }
    inputs = [path for name, value in values.items() if name not in outputs for path in _paths(value)]
    given_outputs = {name: declaration for name, declaration in outputs.items() if values.get(name) is not None}
    invalid_input = next((path for path in inputs if encoding_fault(path)), None)
    if given_outputs and invalid_input is not None:
        raise ScanError(
            f"Cannot use {printable_path(invalid_input)}: {encoding_fault(invalid_input)}, so it cannot be recorded in "
            "a file. Rename it."
        )
    for name, declaration in given_outputs.items():
        path = Path(values[name])
        check_path(path)
        if declaration.file_okay:
            check_new_files([path], inputs, overwrite=values.get("overwrite"))
        elif path.exists() and not path.is_dir():
            raise OutputError(f"Cannot write to {path}: it is a file. Give the name of a folder.")


def check_new_files(paths: list[Path], inputs: list[Path] | None = None, *, overwrite: bool | None) -> None:
    """Raise an error for files that exist, whose folder does not exist, or that are inputs.

    Raises
    ------
    OutputError
        A file cannot be written.
    """
    from underpaint.errors import OutputError
    from underpaint.io._scan_files import belongs_to
    from underpaint.pipeline.run import check_new_file

    for path in paths:
        check_new_file(path, overwrite=overwrite)
        source = next((source for source in inputs or [] if path.exists() and belongs_to(path, source)), None)
        if source is not None:
            raise OutputError(f"Cannot write {path}: it is part of the input {source}. Give another name.")


def _paths(value: Any) -> Iterator[Path]:
    """Yield the existing files and folders that a value names; FILE::NAME names the file."""
    for text in value if isinstance(value, list | tuple) else (value,):
        if isinstance(text, str | Path) and str(text):
            full_path, file_path = Path(text), Path(str(text).rpartition("::")[0] or str(text))
            yield from (path for path in dict.fromkeys((full_path, file_path)) if path.exists())
