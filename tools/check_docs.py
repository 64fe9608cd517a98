"""Build the site into docs/_build/html, and check it.

Counted are warnings of the build; relative links in the Markdown files and in the built pages that lead nowhere; what
the pages would load from a network; and public names of ``underpaint`` without an example that shows a result. The test
suite runs the examples. Any of them ends with an exit code other than 0.
"""

from __future__ import annotations

import argparse
import doctest
import inspect
import json
import subprocess
import sys
import tempfile
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import underpaint
from check_links import ROOT, dead_links, markdown_files

DOCS = ROOT / "docs"
SITE = DOCS / "_build" / "html"


class Page(HTMLParser):
    """Anchors of a page, where its links lead, and what it loads by itself."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: set[str] = set()
        self.loaded: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what one element names."""
        facts = {name: value for name, value in attrs if value}
        self.anchors |= {facts[name] for name in ("id", "name") if name in facts}
        if tag == "a" and "href" in facts:
            self.links.add(facts["href"])
        elif tag == "link" and "href" in facts:
            self.loaded.add(facts["href"])
        elif "src" in facts:
            self.loaded.add(facts["src"])


def build(site: Path) -> list[str]:
    """Build the site anew where it changed; return the warnings."""
    with tempfile.TemporaryDirectory() as folder:
        listed = Path(folder) / "warnings"
        command = [sys.executable, "-m", "sphinx", "--quiet", "--keep-going", "--fail-on-warning", "-w", str(listed)]
        done = subprocess.run([*command, str(DOCS), str(site)], check=False)
        warnings = [line for line in listed.read_text(encoding="utf-8").splitlines() if line.strip()]
    return warnings if warnings or not done.returncode else [f"sphinx ended with {done.returncode}"]


def broken_in_site(site: Path) -> list[str]:
    """Return links between built pages that lead nowhere, and what would come from a network."""
    pages = {path.resolve(): Page(path.read_text(encoding="utf-8")) for path in site.rglob("*.html")}
    return [
        f"{path.relative_to(site.resolve())}: {target}"
        for path, page in sorted(pages.items())
        for target in sorted(page.links | page.loaded)
        if _is_broken(path, target, pages, loaded=target in page.loaded)
    ]


def _is_broken(path: Path, target: str, pages: dict[Path, Page], *, loaded: bool) -> bool:
    parts = urlsplit(target)
    if parts.scheme or parts.netloc:
        return loaded and parts.scheme != "data"
    target_path = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    if not target_path.exists():
        return True
    anchor = unquote(parts.fragment)
    return bool(anchor) and target_path in pages and anchor not in pages[target_path].anchors


def with_example(names: list[str]) -> list[str]:
    """Return the names whose docstring has an example that shows a result, which the test suite compares."""
    parser = doctest.DocTestParser()
    documented = {name: inspect.getdoc(getattr(underpaint, name)) or "" for name in names}
    return [name for name, text in documented.items() if any(each.want for each in parser.get_examples(text))]


def main() -> int:
    """Print what is wrong, and the figures; return the exit code."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--json", type=Path, metavar="FILE", help="write the figures")
    chosen = arguments.parse_args()

    warnings = build(SITE)
    dead = [f"{page.relative_to(ROOT)}: {target}" for page in markdown_files() for target in dead_links(page)]
    dead += broken_in_site(SITE)
    names = [name for name in underpaint.__all__ if name != "__version__"]
    bare = sorted(set(names) - set(with_example(names)))

    for line in [*(f"leads nowhere: {link}" for link in dead), *(f"no example: {name}" for name in bare)]:
        print(line)
    figures = {
        "public_names": len(names),
        "with_example": len(names) - len(bare),
        "warnings": len(warnings),
        "broken_links": len(dead),
        "pages": len(list(SITE.rglob("*.html"))),
    }
    if chosen.json:
        chosen.json.parent.mkdir(parents=True, exist_ok=True)
        chosen.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    print(", ".join(f"{name} {value}" for name, value in figures.items()))
    print(f"Open {SITE / 'index.html'} in a browser.")
    return int(bool(warnings or dead or bare))


if __name__ == "__main__":
    sys.exit(main())
