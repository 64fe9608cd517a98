"""Build sdist and wheel, and check what a release needs of them.

The wheel is made from the sdist, so both are complete. Checked are the version (with ``--tag``, that of the tag), the
size, that networks, tables and CITATION.cff are inside and nothing else is, that the metadata are complete, and that
the description for PyPI has no relative links. Needs ``build`` or ``uv``.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email.parser import Parser
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LARGEST_WHEEL_BYTES = 15_000_000
IN_WHEEL = (
    "underpaint/py.typed",
    "underpaint/CITATION.cff",
    "underpaint/pigments/weights/data/default.onnx",
    "underpaint/physics/materials/data/pigments.toml",
    "underpaint/display/viewer/",
)
IN_SDIST = ("pyproject.toml", "LICENSE", "CITATION.cff", "tests/", "docs/conf.py", "constraints.txt", "tools/")
NAMED = ("Name", "Version", "Summary", "License-Expression", "Requires-Python", "Description-Content-Type")


def build(folder: Path) -> tuple[Path, Path]:
    """Build both; return the paths of sdist and wheel."""
    uv = shutil.which("uv", path=str(Path(sys.executable).parent)) or shutil.which("uv")
    tool = [sys.executable, "-m", "build"] if find_spec("build") else [str(uv), "build", "--quiet"]
    subprocess.run([*tool, "--out-dir" if "uv" in tool[0] else "--outdir", str(folder), str(ROOT)], check=True)
    return next(folder.glob("*.tar.gz")), next(folder.glob("*.whl"))


def faults(sdist: Path, wheel: Path, tag: str | None) -> list[str]:
    """Return what is wrong, one line each."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = Parser().parsestr(
            archive.read(next(name for name in names if name.endswith(".dist-info/METADATA"))).decode("utf-8")
        )
    with tarfile.open(sdist) as archive:
        packed = [name.partition("/")[2] for name in archive.getnames()]
    wrong = [f"the wheel lacks {name}" for name in IN_WHEEL if not any(each.startswith(name) for each in names)]
    wrong += [f"the sdist lacks {name}" for name in IN_SDIST if not any(each.startswith(name) for each in packed)]
    wrong += [f"the metadata lack {name}" for name in NAMED if not metadata[name]]
    description = str(metadata.get_payload())
    wrong += [f"the description links to {link}" for link in re.findall(r"\]\((?!https?:)([^)]*)\)", description)]
    wrong += [f"the wheel holds {name}" for name in names if not name.startswith("underpaint")]
    if wheel.stat().st_size > LARGEST_WHEEL_BYTES:
        wrong.append(f"the wheel has {wheel.stat().st_size:,} bytes, {LARGEST_WHEEL_BYTES:,} are allowed")
    if tag is not None and tag != f"v{metadata['Version']}":
        wrong.append(f"the tag is {tag}, the version {metadata['Version']}")
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    if tag is not None and f"## [{metadata['Version']}]" not in changes:
        wrong.append(f"CHANGELOG.md has no section for {metadata['Version']}")
    return wrong


def main() -> int:
    """Build, print what is wrong, and return the exit code."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--out", type=Path, default=ROOT / "dist", help="folder to build into; missing or empty")
    arguments.add_argument("--tag", help="the release's tag, v and the version")
    chosen = arguments.parse_args()
    if chosen.out.exists() and any(chosen.out.iterdir()):
        print(f"{chosen.out} is not empty: give another folder")
        return 1
    sdist, wheel = build(chosen.out)
    wrong = faults(sdist, wheel, chosen.tag)
    print(
        "\n".join(
            [
                *wrong,
                f"{wheel.name}: {wheel.stat().st_size / 1e6:.1f} MB",
                f"{sdist.name}: {sdist.stat().st_size / 1e6:.1f} MB",
            ]
        )
    )
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
