"""The house itself: import contracts, light start, public files."""

import ast
import doctest
import importlib
import json
import pkgutil
import re
import runpy
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import underpaint

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "underpaint"
OLD_FILES = ROOT / "tests" / "old_files" / "0.1.0"
PACKAGES = sorted(module.name for module in pkgutil.iter_modules(underpaint.__path__) if module.ispkg)
WITH_EXAMPLES = sorted(
    ".".join(path.relative_to(SOURCE.parent).with_suffix("").parts)
    for path in SOURCE.rglob("*.py")
    if ">>> " in path.read_text(encoding="utf-8")
)
PUBLIC_FILES = (
    "README.md",
    "LICENSE",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "CITATION.cff",
    "Makefile",
    ".ci/run",
    "docs/conf.py",
    "docs/index.md",
    "docs/decisions/COPYME.md",
    "src/underpaint/py.typed",
)
LARGEST_FILE_BYTES = 7_500_000  # the default network is the largest, 7.0 MB


def run(*command: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_import_contracts_hold() -> None:
    lint = "from importlinter.cli import lint_imports; raise SystemExit(lint_imports(no_cache=True))"
    done = run(sys.executable, "-c", lint)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


@pytest.mark.parametrize("heavy", ["torch", "lightning", "matplotlib", "onnxruntime"])
def test_import_underpaint_is_light(heavy: str) -> None:
    done = run(sys.executable, "-c", f"import sys, underpaint; print({heavy!r} in sys.modules)")
    assert done.stdout.strip() == "False", f"import underpaint pulls in {heavy}: {done.stderr}"


@pytest.mark.parametrize("package", PACKAGES)
def test_each_package_says_what_it_is_for(package: str) -> None:
    door = (SOURCE / package / "__init__.py").read_text(encoding="utf-8")
    purpose = ast.get_docstring(ast.parse(door))
    assert purpose is not None
    assert len(purpose.split()) >= 4


def test_the_packages_are_these() -> None:
    expected = (
        "calibrate cli data display elements io lab physics pigments pipeline reflectance repair runtime simulate"
    )
    assert " ".join(PACKAGES) == expected


@pytest.mark.parametrize("module", WITH_EXAMPLES)
def test_examples_in_docstrings_are_true(module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(OLD_FILES / "panel.h5", tmp_path)
    shutil.copytree(OLD_FILES / "default", tmp_path / "panel_underpaint")
    result = doctest.testmod(importlib.import_module(module.removesuffix(".__init__")))
    assert result.attempted > 0
    assert result.failed == 0


@pytest.mark.parametrize("name", PUBLIC_FILES)
def test_public_file_exists(name: str) -> None:
    assert (ROOT / name).is_file()


def test_no_large_file_is_tracked() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    names = run("git", "ls-files").stdout.splitlines()
    assert names
    files = [ROOT / name for name in names if (ROOT / name).is_file()]
    large = [file for file in files if file.stat().st_size > LARGEST_FILE_BYTES]
    assert large == []


def test_readme_shows_the_measured_figures() -> None:
    done = run(sys.executable, "tools/readme_figures.py", "--check")
    assert done.returncode == 0, done.stdout


def test_links_in_the_documents_lead_somewhere() -> None:
    done = run(sys.executable, "tools/check_links.py")
    assert done.returncode == 0, done.stdout


def test_figures_are_pasted_where_measured_and_missed_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "forward.json").write_text(json.dumps({"spectra_per_s": 1234.4}), encoding="utf-8")
    paste = runpy.run_path(str(ROOT / "tools" / "readme_figures.py"))["paste"]
    page = paste("<!-- figures:begin physics -->\nstale\n<!-- figures:end -->\nrest", tmp_path)
    assert " spectra a second: all orders, scatter, detector | 1,234 |" in page
    assert " the same, in double precision | not measured yet |" in page
    assert "stale" not in page
    assert page.endswith("rest")


def test_unknown_figures_are_refused(tmp_path: Path) -> None:
    paste = runpy.run_path(str(ROOT / "tools" / "readme_figures.py"))["paste"]
    with pytest.raises(ValueError, match="asks for the figures 'weather'"):
        paste("<!-- figures:begin weather -->\n<!-- figures:end -->", tmp_path)


def test_the_conda_recipe_needs_what_the_package_needs() -> None:
    recipe = (ROOT / "recipe" / "recipe.yaml").read_text(encoding="utf-8")
    run_part = recipe[recipe.index("  run:") : recipe.index("tests:")]
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert all(text.replace(">=", " >=") in recipe for text in settings["build-system"]["requires"])
    expected = {re.sub(r"\[.*?\]", "", text).replace(">=", " >=") for text in settings["project"]["dependencies"]}
    listed = {
        line.strip("- ").replace("matplotlib-base", "matplotlib") for line in run_part.splitlines()[1:] if line.strip()
    }
    assert listed == {*expected, "python >=3.11"}


def test_the_description_for_pypi_has_no_relative_links() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]["metadata"]
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for substitution in settings["hooks"]["fancy-pypi-readme"]["substitutions"]:
        text = re.sub(substitution["pattern"], substitution["replacement"], text)
    assert re.findall(r"\]\((?!https?:)[^)]*\)|!\[|<!--", text) == []
    assert "(https://doi.org/10.1039/d2ja00246a)" in text
    assert "| Held-out virtual panels" in text


def test_the_version_stands_in_one_place() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert "version" in project["dynamic"]
    assert not re.search(r"^version:", (ROOT / "CITATION.cff").read_text(encoding="utf-8"), re.MULTILINE)


def test_workflows_and_forms_are_valid_yaml() -> None:
    yaml = pytest.importorskip("yaml")
    files = [*(ROOT / ".github").rglob("*.yml"), ROOT / "CITATION.cff", ROOT / "recipe" / "recipe.yaml"]
    assert len(files) > 6
    for file in files:
        assert isinstance(yaml.safe_load(file.read_text(encoding="utf-8")), dict), file.name
