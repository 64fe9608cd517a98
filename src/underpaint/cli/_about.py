"""Commands about the program itself: cite, desktop."""

import os
import shlex
import sys
from enum import StrEnum
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

import typer

from underpaint._version import __version__
from underpaint.cli._console import say
from underpaint.cli._outputs import check_new_files, new_file
from underpaint.cli._scans import Overwrite, Quiet


class CitationForm(StrEnum):
    """Format of a reference."""

    text = "text"
    bibtex = "bibtex"
    cff = "cff"


def cite(
    form: Annotated[CitationForm, typer.Option("--format", help="cff: the Citation File Format.")] = CitationForm.text,
) -> None:
    """Print the references to cite: underpaint, and the paper whose method it extends.

    For example:

        underpaint cite --format bibtex >> references.bib
    """
    import yaml

    text = _citation_file().read_text(encoding="utf-8")
    if form is CitationForm.cff:
        typer.echo(f"{text}version: {__version__}")
        return
    citation = yaml.safe_load(text)
    works = [citation | {"version": __version__}, *citation["references"]]
    typer.echo(
        "\n\n".join((_bibtex_entry if form is CitationForm.bibtex else _plain_reference)(work) for work in works)
    )


def _citation_file() -> Any:
    """Return CITATION.cff of the installed package, or of the checkout."""
    installed = files("underpaint") / "CITATION.cff"
    return installed if installed.is_file() else Path(__file__).parents[3] / "CITATION.cff"


def _authors(work: dict[str, Any]) -> list[str]:
    return [author.get("name") or f"{author['family-names']}, {author['given-names']}" for author in work["authors"]]


def _plain_reference(work: dict[str, Any]) -> str:
    sentences = ["; ".join(_authors(work)), work["title"]]
    if "journal" in work:
        pages = f"{work['volume']} ({work['issue']}), {work['start']}-{work['end']}"
        sentences += [f"{work['journal']} {work['year']}, {pages}", f"https://doi.org/{work['doi']}"]
    else:
        sentences.append(f"Version {work['version']}")
    return " ".join(sentence if sentence.endswith("?") else f"{sentence}." for sentence in sentences)


def _bibtex_entry(work: dict[str, Any]) -> str:
    authors = " and ".join("others" if name == "and others" else _braced(name) for name in _authors(work))
    fields = {"author": authors, "title": f"{{{work['title']}}}"}
    if "journal" in work:
        fields |= {key: str(work[key]) for key in ("journal", "year", "volume", "doi")}
        fields |= {"number": str(work["issue"]), "pages": f"{work['start']}--{work['end']}"}
        first_line = f"@article{{{work['authors'][0]['family-names'].lower()}{work['year']},"
    else:
        fields |= {"version": work["version"], "note": work["abstract"]}
        first_line = f"@software{{{work['title']},"
    return "\n".join([first_line, *(f"  {key} = {{{value}}}," for key, value in fields.items()), "}"])


def _braced(name: str) -> str:
    """Put the name of an organisation in braces, so that BibTeX does not split it."""
    return name if "," in name else f"{{{name}}}"


def desktop(
    out: Annotated[
        Path | None, new_file("FILE", "File to write; by default in the applications menu (Linux) or on the desktop.")
    ] = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Write a launcher for the desktop: a double click opens the start page, without a terminal.

    On Linux it is an entry in the applications menu, on macOS a .command file, on Windows a .bat file.

    For example:

        underpaint desktop
    """
    name, text = _launcher(sys.platform)
    path = out or _launcher_folder(sys.platform) / name
    if out is None:
        path.parent.mkdir(parents=True, exist_ok=True)
        check_new_files([path], overwrite=overwrite)
    from underpaint.runtime.files import atomic_write

    with atomic_write(path, replace=overwrite) as temporary_path:
        temporary_path.write_text(text, encoding="utf-8", newline="")
        temporary_path.chmod(0o755)
    say(f"Wrote {path}. Delete the file to remove the launcher.", quiet=quiet)


def _launcher(platform: str) -> tuple[str, str]:
    """Return name and content of a launcher that runs underpaint with this Python."""
    command = [sys.executable, "-m", "underpaint"]
    if platform == "win32":
        program = command[0].replace("%", "%%")
        lines = ["@echo off", "chcp 65001 >nul", f'"{program}" -m underpaint', "if errorlevel 1 pause", ""]
        return "underpaint.bat", "\r\n".join(lines)
    if platform == "darwin":
        return "underpaint.command", f"#!/bin/sh\nexec {shlex.join(command)}\n"
    desktop_entry = {
        "Type": "Application",
        "Name": "underpaint",
        "Comment": "Pigments in X-ray fluorescence scans of paintings",
        "Exec": " ".join(map(_quoted_exec, command)),
        "Terminal": "true",  # closing it ends the program
        "Categories": "Science;",
    }
    return "underpaint.desktop", "[Desktop Entry]\n" + "".join(
        f"{key}={value}\n" for key, value in desktop_entry.items()
    )


def _quoted_exec(argument: str) -> str:
    """Quote an argument of Exec; source: Desktop Entry Specification 1.5, "The Exec key"."""
    for character in '\\"`$':
        argument = argument.replace(character, "\\" + character)
    return '"' + argument.replace("\\", "\\\\").replace("%", "%%") + '"'


def _launcher_folder(platform: str) -> Path:
    if platform in {"win32", "darwin"}:
        return Path.home() / "Desktop"
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "applications"
