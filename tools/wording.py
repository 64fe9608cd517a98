"""Check the vocabulary: no odd names, and none of the words that the glossary replaces.

    python tools/wording.py
    python tools/wording.py --sample 50 --seed 1    # names and sentences for a reader who has not seen the code

Names are those that code defines: modules, classes, functions, parameters, variables. Words are the last column of the
tables in ``docs/reference/glossary.md``; they must not occur in docstrings, comments, messages and pages.
"""

import argparse
import ast
import inspect
import io
import random
import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
GLOSSARY = Path("docs", "reference", "glossary.md")
NAMES = frozenset(
    re.findall(
        r"\w+",
        "alike apart asked beside begun born crew everything feigned found gone here how kept laid lamp lit met "
        "nothing one others own said seen showing spoken taken taking_over tell there this told wanted what where who "
        "whole why",
    )
)
"""Pronouns, participles and verbs of saying: no name of its own, in whatever case and with leading underscores."""
PARTS = frozenset({"asked", "feigned", "laid", "own", "said", "told"})
"""No part of a name between underscores either."""
EXEMPT = {"tools/wording.py", "tests/test_wording.py"}
"""Files that quote the words."""
CHECKED = ("src/underpaint", "benchmarks", "docs", "tests", "tools", "README.md", "CHANGELOG.md")
Hit = tuple[int, str]


def files(root: Path) -> Iterator[Path]:
    """Yield the files that are checked, in order."""
    for place in (root / name for name in CHECKED):
        yield from sorted(path for path in place.rglob("*") if path.is_file()) if place.is_dir() else (place,)


def replaced_words(page: str) -> list[str]:
    """Return the words of the last column of a glossary's tables, comma-separated in each row."""
    rows = [line.strip().strip("|").split("|") for line in page.splitlines() if line.startswith("| ")]
    cells = (row[3] for row in rows if len(row) == 4 and row[3].strip() != "Not")
    return [word.strip() for cell in cells for word in cell.split(",") if word.strip()]


def names(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield the line and name of all that code defines."""
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield node.lineno, name
            case ast.arg(arg=name) | ast.Name(id=name, ctx=ast.Store()) | ast.alias(asname=str(name)):
                yield node.lineno, name


def texts(source: str, tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield the line and text of docstrings, messages and comments.

    Values in a message are replaced by ``...``; lines of one comment are joined.
    """
    parts = set()
    for node in ast.walk(tree):  # outer nodes first
        if isinstance(node, ast.JoinedStr):
            parts |= {id(part) for part in ast.walk(node)}
            pieces = (part.value if isinstance(part, ast.Constant) else "..." for part in node.values)
            yield node.lineno, "".join(str(piece) for piece in pieces)
        elif (
            isinstance(node, ast.Constant)
            and id(node) not in parts
            and isinstance(text := node.value, str)
            and " " in text.strip()
        ):
            yield node.lineno, inspect.cleandoc(text)
    comments = [
        (*token.start, token.string)
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    ]
    for place, (line, column, text) in enumerate(comments):
        if place == 0 or comments[place - 1][:2] != (line - 1, column):
            block = [text]
            for later in comments[place + 1 :]:
                if later[:2] != (line + len(block), column):
                    break
                block.append(later[2].lstrip("#"))
            yield line, "".join(block)


def paragraphs(text: str) -> list[str]:
    """Return the paragraphs of a text; each entry of a docstring's sections is one, without its name and type."""
    headed = re.sub(r"^(.+)\n-+$", "", text, flags=re.MULTILINE)
    entries = re.sub(r"^\S.*(?: : .*$|$(?=\n    ))", "", headed, flags=re.MULTILINE)
    return re.split(r"\n\s*\n", entries)


def odd(name: str) -> bool:
    """Whether a name is none that a colleague would use."""
    plain = name.strip("_").lower()
    return plain in NAMES or not PARTS.isdisjoint(plain.split("_"))


def check(path: Path, words: re.Pattern[str]) -> Iterator[Hit]:
    """Yield line and fault of a file of Python or Markdown."""
    if path.suffix == ".md" and path.name != GLOSSARY.name:
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
            yield from ((number, f"the glossary replaces {hit.group()!r}") for hit in words.finditer(line))
    if path.suffix != ".py":
        return
    source = path.read_text("utf-8")
    tree = ast.parse(source)
    if odd(path.stem):
        yield 1, f"the module's name {path.stem!r}"
    yield from ((number, f"the name {name!r}") for number, name in names(tree) if odd(name))
    for number, text in texts(source, tree):
        yield from ((number, f"the glossary replaces {hit.group()!r}") for hit in words.finditer(text))


def main(root: Path = ROOT) -> int:
    """Print the faults."""
    replaced = replaced_words((root / GLOSSARY).read_text("utf-8"))
    words = re.compile("|".join(rf"\b{re.escape(word)}\b" for word in replaced), re.IGNORECASE)
    faults = []
    for path in files(root):
        name = path.relative_to(root).as_posix()
        if name not in EXEMPT:
            faults += [f"{name}:{line}: {fault}" for line, fault in check(path, words)]
    if faults:
        print(*faults, sep="\n")
        print(f"Use the words of {GLOSSARY}, and standard nouns and verbs as names.")
    return int(bool(faults))


def sample(root: Path, number: int, seed: int) -> None:
    """Print names that the package defines, with their module, and sentences of its code, templates and pages."""
    defined, sentences = set(), set()
    for path in files(root):
        name = path.relative_to(root).as_posix()
        text = path.read_text("utf-8") if path.suffix in {".py", ".md", ".jinja", ".html"} else ""
        if path.suffix == ".py" and name.startswith("src/"):
            tree = ast.parse(text)
            defined |= {f"{name.removeprefix('src/underpaint/')}: {each}" for _, each in names(tree) if len(each) > 1}
            blocks = [part for _, block in texts(text, tree) for part in paragraphs(block)]
        elif path.suffix == ".py":
            continue
        elif path.suffix == ".md":
            blocks = re.sub(r"```.*?```|^[|#].*?$", "", text, flags=re.DOTALL | re.MULTILINE).split("\n\n")
        else:
            blocks = re.findall(r">([^<>{}]+)<", text)
        for block in blocks:
            for sentence in re.split(r"(?<=[.!?])\s+(?=[^a-z])", " ".join(block.split())):
                if len(sentence.split()) > 4 and "\\" not in sentence and re.search(r" [a-z]+ ", sentence):
                    sentences.add(f"{name}: {sentence}")
    chooser = random.Random(seed)  # noqa: S311 - a sample for readers
    for title, pool in (("Names", defined), ("Sentences", sentences)):
        print(f"\n{title}, {number} of {len(pool)} (seed {seed})\n")
        print(*chooser.sample(sorted(pool), number), sep="\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Check names and words, or draw a sample of them for a reader.")
    parser.add_argument("--sample", type=int, metavar="N", help="print N names and N sentences instead")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    if arguments.sample is None:
        sys.exit(main())
    sample(ROOT, arguments.sample, arguments.seed)
