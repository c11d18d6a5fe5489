"""The README's tree is the real tree.

Between two `<!-- tree -->` marks stands a fenced block with one name and a few words about it on
each line, children indented below their folder, with or without lines drawn. It lists what is at
the root and what is in each package; whatever else it lists must exist.
"""

import re

from online.settings import FIELDS, variable
from tests.architecture.tree import PACKAGES, ROOT, files

MARK = "<!-- tree -->"
LINE = re.compile(r"^(?P<indent>[\s│├└─|`+-]*)(?P<name>[\w.][\w./-]*)(?P<about>.*)$")


def described() -> dict[str, str]:
    """What the README says about each path."""
    block = (ROOT / "README.md").read_text().split(MARK)[1].strip().strip("`")
    parents: list[tuple[int, str]] = []
    about: dict[str, str] = {}
    for match in filter(None, map(LINE.match, block.splitlines())):
        indent = len(match["indent"])
        while parents and parents[-1][0] >= indent:
            parents.pop()
        path = "/".join([name for _, name in parents] + [match["name"].rstrip("/")])
        parents.append((indent, match["name"].rstrip("/")))
        about[path] = match["about"].strip()
    return about


def expected() -> set[str]:
    """The root's entries, and the modules and folders of each package."""
    paths = [path for path in files() if not path.parts[0].startswith(".")]
    inside = [path for path in paths if path.parts[0] in PACKAGES and path.name != "__init__.py"]
    modules = {"/".join(path.parts[:2]) for path in inside}
    return {path.parts[0] for path in paths} | modules


def test_the_tree_lists_everything() -> None:
    assert sorted(expected() - described().keys()) == []


def test_the_tree_lists_nothing_else() -> None:
    assert [path for path in described() if not (ROOT / path).exists()] == []


def test_every_line_says_something() -> None:
    assert [path for path, words in described().items() if not words] == []


def test_the_settings_are_all_described() -> None:
    """Each variable that the server reads, and no other, has a row."""
    rows = re.findall(r"^\| `(AISLE_\w+)` \|", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert rows == [variable(name) for name in FIELDS]
