"""The measures of the house: short files, short functions, nothing left undone."""

import ast
import re
from pathlib import Path
from statistics import median

import pytest

from tests.architecture.tree import PACKAGES, ROOT, files

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60
MARKS = re.compile("|".join(("TO" + "DO", "FIX" + "ME", "X" + "XX", "HA" + "CK")))
UNDONE = "raise " + "NotImplemented"
MOCKS = "unittest." + "mock"

CODE = files("*.py", "*.proto")
PYTHON = [path for path in CODE if path.suffix == ".py"]
OWN = [path for path in PYTHON if path.parts[0] in PACKAGES]


def lines(path: Path) -> list[str]:
    return (ROOT / path).read_text().splitlines()


def function_lines(path: Path) -> dict[str, int]:
    """The length of each function, from `def` to its last line, by its name and place."""
    tree = ast.parse((ROOT / path).read_text())
    return {
        f"{path}:{node.lineno} {node.name}": (node.end_lineno or node.lineno) - node.lineno + 1
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def test_files_are_short() -> None:
    assert not {str(path): size for path in CODE if (size := len(lines(path))) > MAX_FILE_LINES}


def test_functions_are_short() -> None:
    sizes = {name: size for path in PYTHON for name, size in function_lines(path).items()}
    assert not {name: size for name, size in sizes.items() if size > MAX_FUNCTION_LINES}


def test_most_functions_are_very_short() -> None:
    sizes = sorted(size for path in OWN for size in function_lines(path).values())
    assert median(sizes) < 10
    assert sizes[int(len(sizes) * 0.9)] < 30


@pytest.mark.parametrize("mark", [MARKS, re.compile(UNDONE), re.compile(re.escape(MOCKS))])
def test_nothing_is_left_undone_or_pretended(mark: re.Pattern[str]) -> None:
    texts = files("*.py", "*.proto", "*.md", "*.toml", "*.yaml", "Makefile")
    assert not [
        f"{path}:{number}"
        for path in texts
        for number, line in enumerate(lines(path), 1)
        if mark.search(line)
    ]


def test_every_module_says_why_it_exists() -> None:
    silent = [
        path for path in PYTHON if not ast.get_docstring(ast.parse((ROOT / path).read_text()))
    ]
    assert not silent
