"""Measure the structure of the package: how much code there is, and how its parts depend on each other.

    python tools/structure.py --json FILE

Lines of code are those that hold a token which is neither a comment nor part of a docstring. A circle is a set of
modules that import each other, wherever in the module the import stands. A body is counted in lines of code.
"""

import argparse
import ast
import importlib
import io
import json
import sys
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import grimp
import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "underpaint"
NO_CODE = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
LONG_BODY = 40
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Module:
    """One file: all its lines, the numbers of those with code and of those of docstrings, and its functions."""

    n_lines: int
    code: frozenset[int]
    docstrings: frozenset[int]
    functions: tuple[Function, ...]

    @classmethod
    def read(cls, path: Path) -> "Module":
        """Parse a file."""
        text = path.read_text(encoding="utf-8")
        tree = ast.parse(text)
        docstrings = {number for node in ast.walk(tree) for number in docstring_lines(node)}
        code = {
            number
            for token in tokenize.generate_tokens(io.StringIO(text).readline)
            if token.type not in NO_CODE
            for number in range(token.start[0], token.end[0] + 1)
        }
        functions = tuple(node for node in ast.walk(tree) if isinstance(node, Function))
        return cls(len(text.splitlines()), frozenset(code - docstrings), frozenset(docstrings), functions)

    def bodies(self) -> Iterator[int]:
        """Lines of code of each function's body."""
        for function in self.functions:
            first, last = function.body[0].lineno, function.end_lineno or function.lineno
            yield len(self.code.intersection(range(first, last + 1)))


def docstring_lines(node: ast.AST) -> range:
    """Return the numbers of the lines of a string statement: a docstring, or one below an attribute."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
        return range(node.lineno, (node.end_lineno or node.lineno) + 1)
    return range(0)


def circles(graph: grimp.ImportGraph) -> list[list[str]]:
    """Return the sets of modules that import each other."""
    names = sorted(graph.modules)
    number = {name: index for index, name in enumerate(names)}
    pairs = [
        (number[name], number[imported]) for name in names for imported in graph.find_modules_directly_imported_by(name)
    ]
    rows, columns = np.array(pairs).T
    matrix = csr_array((np.ones(len(pairs)), (rows, columns)), shape=(len(names), len(names)))
    _, label = connected_components(matrix, connection="strong")
    sizes = np.bincount(label)
    return [[names[index] for index in np.flatnonzero(label == each)] for each in np.flatnonzero(sizes > 1)]


def single_importer_modules(graph: grimp.ImportGraph) -> list[str]:
    """Return the modules, packages left out, that one other module imports."""
    return [
        name
        for name in sorted(graph.modules)
        if not graph.find_children(name) and len(graph.find_modules_that_directly_import(name)) == 1
    ]


def measure() -> tuple[dict[str, float], dict[str, list[str]]]:
    """Return the figures by name, and the names behind some of them."""
    source = ROOT / "src" / PACKAGE
    modules = [Module.read(path) for path in sorted(source.rglob("*.py"))]
    bodies = [body for module in modules for body in module.bodies()]
    sys.path.insert(0, str(source.parent))
    graph = grimp.build_graph(PACKAGE, cache_dir=None)
    members, single = circles(graph), single_importer_modules(graph)
    figures = {
        "lines": sum(module.n_lines for module in modules),
        "code_lines": sum(len(module.code) for module in modules),
        "docstring_lines": sum(len(module.docstrings) for module in modules),
        "modules": len(modules),
        "packages": len([path for path in source.iterdir() if (path / "__init__.py").is_file()]),
        "circles": len(members),
        "functions": len(bodies),
        "median_body": median(bodies),
        "over_40": sum(body > LONG_BODY for body in bodies),
        "single_importer_modules": len(single),
        "public_names": len([name for name in importlib.import_module(PACKAGE).__all__ if not name.startswith("_")]),
    }
    return figures, {"circle_members": [", ".join(each) for each in members], "single_importer_names": single}


def main() -> None:
    """Print the figures, and write them as JSON where --json says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as JSON")
    arguments = parser.parse_args()
    figures, names = measure()
    for name, value in figures.items():
        print(f"{name:25s} {value:>8,}")
    for circle in names["circle_members"]:
        print(f"circle: {circle}")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures | names, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
