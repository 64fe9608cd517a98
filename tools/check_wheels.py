"""Check that the plain install resolves to wheels alone on Windows, macOS and Linux.

A museum's laptop has no compiler. pip resolves, for each platform, the dependencies that ``pyproject.toml`` names with
``--only-binary=:all:``; nothing is downloaded or installed.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Platform:
    """One kind of machine as pip names it.

    pip takes a tag literally on Linux, so that the older glibc tags have to be listed as well as the newest; on macOS
    it adds the older ones itself.
    """

    name: str
    tags: tuple[str, ...]
    sys_platform: str
    platform_system: str
    os_name: str
    machine: str

    @property
    def markers(self) -> dict[str, str]:
        """Environment markers of this platform, which pip would take from the machine that it runs on."""
        return {
            "sys_platform": self.sys_platform,
            "platform_system": self.platform_system,
            "os_name": self.os_name,
            "platform_machine": self.machine,
            "extra": "",
        }


PLATFORMS = (
    Platform("Windows x86-64", ("win_amd64",), "win32", "Windows", "nt", "AMD64"),
    Platform("macOS 14 Apple silicon", ("macosx_14_0_arm64",), "darwin", "Darwin", "posix", "arm64"),
    Platform("macOS 14 Intel", ("macosx_14_0_x86_64",), "darwin", "Darwin", "posix", "x86_64"),
    Platform(
        "Linux x86-64 (glibc 2.28)",
        ("manylinux_2_28_x86_64", "manylinux_2_27_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64"),
        "linux",
        "Linux",
        "posix",
        "x86_64",
    ),
)
PYTHON_VERSIONS = ("3.11", "3.12")


def plain_dependencies() -> list[str]:
    """Requirements of the plain install, without any extra."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return list(project["dependencies"])


def resolve(requirements: list[str], platform: Platform, python_version: str) -> list[dict[str, object]]:
    """Packages that pip would install for the platform, as its report lists them."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed"]
        command += ["--only-binary=:all:", "--implementation", "cp", "--python-version", python_version]
        command += [part for tag in platform.tags for part in ("--platform", tag)]
        command += ["--target", str(Path(folder) / "nothing"), "--report", str(report), *requirements]
        completed = subprocess.run(command, capture_output=True, text=True, check=False)
        if completed.returncode:
            raise LookupError("\n".join(line for line in completed.stderr.splitlines() if line.startswith("ERROR")))
        return list(json.loads(report.read_text(encoding="utf-8"))["install"])


def metadata(package: dict[str, object]) -> dict[str, object]:
    """Metadata part of one package of pip's report."""
    metadata_read = package["metadata"]
    return metadata_read if isinstance(metadata_read, dict) else {}


def needed_only_there(packages: list[dict[str, object]], platform: Platform) -> list[str]:
    """Requirements that hold on the platform but not on this machine (pip evaluates markers here)."""
    present = {canonicalize_name(str(metadata(package)["name"])) for package in packages}
    missing = []
    for package in packages:
        listed = metadata(package).get("requires_dist", [])
        for text in listed if isinstance(listed, list) else []:
            requirement = Requirement(str(text))
            if requirement.marker is None or canonicalize_name(requirement.name) in present:
                continue
            if requirement.marker.evaluate(platform.markers):
                missing.append(f"{requirement.name}{requirement.specifier}")
    return missing


def check(platform: Platform, python_version: str) -> tuple[bool, str]:
    """Whether all packages of the plain install are wheels there, and what to print about it."""
    requirements = plain_dependencies()
    try:
        packages = resolve(requirements, platform, python_version)
        extra = needed_only_there(packages, platform)
        if extra:
            packages = resolve(requirements + extra, platform, python_version)
    except LookupError as error:
        return False, str(error)
    files = [str(package.get("download_info", {}).get("url", "")) for package in packages]  # type: ignore[attr-defined]
    sources = [url.rsplit("/", 1)[-1] for url in files if not url.endswith(".whl")]
    return not sources, f"no wheel: {', '.join(sources)}" if sources else f"{len(packages)} wheels"


def main() -> int:
    """Print a table and return the exit code: 0 when every platform resolves."""
    failed = False
    for platform in PLATFORMS:
        for python_version in PYTHON_VERSIONS:
            good, remark = check(platform, python_version)
            failed = failed or not good
            print(f"{platform.name:28} Python {python_version}  {'wheels alone' if good else 'FAILS'}  {remark}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
