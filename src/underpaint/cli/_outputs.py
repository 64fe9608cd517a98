"""Output options of commands, and checks that outputs replace neither existing files nor inputs."""

import re
from collections.abc import Callable, Iterator, Mapping
from functools import wraps
from pathlib import Path
from typing import Any, get_type_hints

import typer
from typer.models import ParameterInfo


def new_file(metavar: str, help: str) -> Any:  # noqa: A002 - the name in typer
    """Declare an option for a file to write. An existing file is only replaced with --overwrite.

    If the metavar has an ending, as in ``FILE.png``, the file must have this ending.
    """
    return typer.Option(metavar=metavar, help=help, writable=True, dir_okay=False)


def new_folder(metavar: str, help: str) -> Any:  # noqa: A002 - the name in typer
    """Declare an option for an output folder.

    The path must not be an existing file. If the path is an existing folder, the command checks the folder's content.
    """
    return typer.Option(metavar=metavar, help=help, writable=True, file_okay=False)


def with_output_check(command: Callable[..., None]) -> Callable[..., None]:
    """Decorate a command: its outputs are checked before it runs, and examples in its help are not wrapped."""
    declared_parameters = parameter_declarations(command)

    @wraps(command)
    def run_command(**option_values: Any) -> None:
        from underpaint.runtime.files import new_files

        refuse_to_replace(declared_parameters, option_values)
        output_names = (
            option_name
            for option_name, (_, declaration) in declared_parameters.items()
            if declaration is not None and declaration.writable
        )
        with new_files(
            Path(option_values[option_name])
            for option_name in output_names
            if option_values.get(option_name) is not None
        ):
            command(**option_values)

    # A wrapped example cannot be copied. click does not wrap a paragraph whose first line is a backspace.
    run_command.__doc__ = re.sub(r"\n\n( +)    (?=underpaint )", "\n\n\\1    \b\n\\1", command.__doc__ or "")
    return run_command


def parameter_declarations(command: Callable[..., None]) -> dict[str, tuple[Any, ParameterInfo | None]]:
    """Return the type and the typer declaration of each parameter of a command, by name."""
    type_hints = get_type_hints(command, include_extras=True)
    declarations = {}
    for parameter_name, type_hint in type_hints.items():
        declaration = next(
            (metadata for metadata in getattr(type_hint, "__metadata__", ()) if isinstance(metadata, ParameterInfo)),
            None,
        )
        declarations[parameter_name] = (getattr(type_hint, "__origin__", type_hint), declaration)
    return declarations


def refuse_to_replace(
    declared_parameters: Mapping[str, tuple[Any, ParameterInfo | None]], option_values: Mapping[str, Any]
) -> None:
    """Raise an error if an output exists. With --overwrite, raise an error only if an output is also an input.

    Raises
    ------
    OutputError
        An output exists, has an invalid name or ending, or is in a folder that does not exist.
    """
    from underpaint.errors import OutputError, ScanError
    from underpaint.runtime.files import check_path, encoding_fault, printable_path

    output_declarations = {
        option_name: declaration
        for option_name, (_, declaration) in declared_parameters.items()
        if declaration is not None and declaration.writable
    }
    input_paths = [
        path
        for option_name, option_value in option_values.items()
        if option_name not in output_declarations
        for path in _existing_paths(option_value)
    ]
    given_outputs = {
        option_name: declaration
        for option_name, declaration in output_declarations.items()
        if option_values.get(option_name) is not None
    }
    invalid_input = next((path for path in input_paths if encoding_fault(path)), None)
    if given_outputs and invalid_input is not None:
        raise ScanError(
            f"Cannot use {printable_path(invalid_input)}: {encoding_fault(invalid_input)}, so it cannot be recorded in "
            "a file. Rename it."
        )
    for option_name, declaration in given_outputs.items():
        path = Path(option_values[option_name])
        check_path(path)
        if declaration.file_okay:
            check_new_files([path], input_paths, overwrite=option_values.get("overwrite"))
            check_ending(path, declaration.metavar or "")
        elif path.exists() and not path.is_dir():
            raise OutputError(f"Cannot write to {path}: it is a file. Give the name of a folder.")


def check_ending(path: Path, metavar: str) -> None:
    """Raise an error if a file does not have the ending of its metavar, such as ``FILE.png``.

    A metavar may have several endings (``FILE.cfg|.toml``) or none. For ``.h5``, other endings of HDF5 are allowed too.

    Raises
    ------
    OutputError
        The file has another ending.
    """
    from underpaint.errors import OutputError
    from underpaint.io.convert import HDF5_ENDINGS

    endings = tuple(re.findall(r"\.\w+", metavar))
    allowed_endings = HDF5_ENDINGS if endings == (".h5",) else endings
    if allowed_endings and path.suffix.lower() not in allowed_endings:
        raise OutputError(
            f"Cannot write {path}: this file must end in {' or '.join(allowed_endings)}, but ends in "
            f"{path.suffix or 'none of these'}. Give another name, such as {path.with_suffix(endings[0])}."
        )


def check_new_files(paths: list[Path], inputs: list[Path] | None = None, *, overwrite: bool | None) -> None:
    """Raise an error if a file exists, is part of an input, or is in a folder that does not exist.

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
        input_path = next(
            (input_path for input_path in inputs or [] if path.exists() and belongs_to(path, input_path)), None
        )
        if input_path is not None:
            raise OutputError(f"Cannot write {path}: it is part of the input {input_path}. Give another name.")


def _existing_paths(option_value: Any) -> Iterator[Path]:
    """Yield the existing files and folders that an option value names. For FILE::NAME, FILE is one of these paths."""
    for path_text in option_value if isinstance(option_value, list | tuple) else (option_value,):
        if isinstance(path_text, str | Path) and str(path_text):
            full_path, file_path = Path(path_text), Path(str(path_text).rpartition("::")[0] or str(path_text))
            yield from (path for path in dict.fromkeys((full_path, file_path)) if path.exists())
