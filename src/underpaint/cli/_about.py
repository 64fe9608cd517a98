"""Commands about the program itself: ``cite`` and ``desktop``."""

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
from underpaint.cli._scans import OverwriteOption, QuietOption


class CitationForm(StrEnum):
    """Format in which references are printed."""

    text = "text"
    bibtex = "bibtex"
    cff = "cff"


def cite(
    form: Annotated[
        CitationForm, typer.Option("--format", help="Format of the references. cff is the Citation File Format.")
    ] = CitationForm.text,
) -> None:
    """Print the references to cite for underpaint and for the paper whose method underpaint extends.

    For example:

        underpaint cite --format bibtex >> references.bib
    """
    import yaml

    citation_text = _citation_file().read_text(encoding="utf-8")
    if form is CitationForm.cff:
        typer.echo(f"{citation_text}version: {__version__}")
        return
    citation = yaml.safe_load(citation_text)
    cited_works = [citation | {"version": __version__}, *citation["references"]]
    typer.echo(
        "\n\n".join(
            (_bibtex_entry if form is CitationForm.bibtex else _plain_reference)(cited_work)
            for cited_work in cited_works
        )
    )


def _citation_file() -> Any:
    """Return the file CITATION.cff of the installed package, or else of the source checkout."""
    installed_file = files("underpaint") / "CITATION.cff"
    return installed_file if installed_file.is_file() else Path(__file__).parents[3] / "CITATION.cff"


def _author_names(cited_work: dict[str, Any]) -> list[str]:
    return [
        author.get("name") or f"{author['family-names']}, {author['given-names']}" for author in cited_work["authors"]
    ]


def _plain_reference(cited_work: dict[str, Any]) -> str:
    sentences = ["; ".join(_author_names(cited_work)), cited_work["title"]]
    if "journal" in cited_work:
        page_range = f"{cited_work['volume']} ({cited_work['issue']}), {cited_work['start']}-{cited_work['end']}"
        sentences += [
            f"{cited_work['journal']} {cited_work['year']}, {page_range}",
            f"https://doi.org/{cited_work['doi']}",
        ]
    else:
        sentences.append(f"Version {cited_work['version']}")
    return " ".join(sentence if sentence.endswith("?") else f"{sentence}." for sentence in sentences)


def _bibtex_entry(cited_work: dict[str, Any]) -> str:
    author_list = " and ".join(
        "others" if author_name == "and others" else _brace_organisation(author_name)
        for author_name in _author_names(cited_work)
    )
    bibtex_fields = {"author": author_list, "title": f"{{{cited_work['title']}}}"}
    if "journal" in cited_work:
        bibtex_fields |= {
            field_name: str(cited_work[field_name]) for field_name in ("journal", "year", "volume", "doi")
        }
        bibtex_fields |= {"number": str(cited_work["issue"]), "pages": f"{cited_work['start']}--{cited_work['end']}"}
        first_line = f"@article{{{cited_work['authors'][0]['family-names'].lower()}{cited_work['year']},"
    else:
        bibtex_fields |= {"version": cited_work["version"], "note": cited_work["abstract"]}
        first_line = f"@software{{{cited_work['title']},"
    return "\n".join(
        [first_line, *(f"  {field_name} = {{{field_text}}}," for field_name, field_text in bibtex_fields.items()), "}"]
    )


def _brace_organisation(author_name: str) -> str:
    """Put an organisation's name in braces, so that BibTeX does not split the name."""
    return author_name if "," in author_name else f"{{{author_name}}}"


def desktop(
    out: Annotated[
        Path | None,
        new_file(
            "FILE", "File to write. By default, the launcher is added to the applications menu (Linux) or the desktop."
        ),
    ] = None,
    overwrite: OverwriteOption = False,
    quiet: QuietOption = False,
) -> None:
    """Write a desktop launcher, which opens the start page at a double click.

    On Linux, the launcher is an entry in the applications menu. The launcher is a .command file on macOS and a .bat
    file on Windows.

    For example:

        underpaint desktop
    """
    launcher_name, launcher_text = _launcher_name_and_text(sys.platform)
    launcher_path = out or _launcher_folder(sys.platform) / launcher_name
    if out is None:
        launcher_path.parent.mkdir(parents=True, exist_ok=True)
        check_new_files([launcher_path], overwrite=overwrite)
    from underpaint.runtime.files import atomic_write

    with atomic_write(launcher_path, replace=overwrite) as temporary_path:
        temporary_path.write_text(launcher_text, encoding="utf-8", newline="")
        temporary_path.chmod(0o755)
    say(f"Wrote {launcher_path}. Delete the file to remove the launcher.", quiet=quiet)


def _launcher_name_and_text(platform: str) -> tuple[str, str]:
    """Return the file name and the text of a launcher that runs underpaint with the current Python."""
    launch_command = [sys.executable, "-m", "underpaint"]
    if platform == "win32":
        python_path = launch_command[0].replace("%", "%%")
        script_lines = ["@echo off", "chcp 65001 >nul", f'"{python_path}" -m underpaint', "if errorlevel 1 pause", ""]
        return "underpaint.bat", "\r\n".join(script_lines)
    if platform == "darwin":
        return "underpaint.command", f"#!/bin/sh\nexec {shlex.join(launch_command)}\n"
    desktop_entry = {
        "Type": "Application",
        "Name": "underpaint",
        "Comment": "Pigments in X-ray fluorescence scans of paintings",
        "Exec": " ".join(map(_quote_exec_argument, launch_command)),
        "Terminal": "true",  # closing the terminal ends the program
        "Categories": "Science;",
    }
    return "underpaint.desktop", "[Desktop Entry]\n" + "".join(
        f"{entry_name}={entry_text}\n" for entry_name, entry_text in desktop_entry.items()
    )


def _quote_exec_argument(argument: str) -> str:
    """Quote an argument for the key Exec of a desktop entry (Desktop Entry Specification 1.5, "The Exec key")."""
    for character in '\\"`$':
        argument = argument.replace(character, "\\" + character)
    return '"' + argument.replace("\\", "\\\\").replace("%", "%%") + '"'


def _launcher_folder(platform: str) -> Path:
    if platform in {"win32", "darwin"}:
        return Path.home() / "Desktop"
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "applications"
