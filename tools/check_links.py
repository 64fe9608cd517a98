"""Check that every relative link and picture in the Markdown files leads to a file that exists."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"```.*?```", re.DOTALL)


def markdown_files() -> list[Path]:
    """Markdown files of the checkout, those that git ignores left out."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [ROOT / name for name in listed.splitlines() if (ROOT / name).is_file()]


def dead_links(page: Path) -> list[str]:
    """Relative targets of the page that do not exist."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    targets = [target.split("#", 1)[0] for target in LINK.findall(text)]
    local = [target for target in targets if target and "://" not in target and not target.startswith("mailto:")]
    return [target for target in local if not (page.parent / target).exists()]


def main() -> int:
    """Print each dead link; return the exit code."""
    pages = markdown_files()
    dead = [(page, target) for page in pages for target in dead_links(page)]
    for page, target in dead:
        print(f"{page.relative_to(ROOT)}: {target} does not exist")
    print(f"{len(pages)} pages, {len(dead)} dead links")
    return int(bool(dead))


if __name__ == "__main__":
    sys.exit(main())
