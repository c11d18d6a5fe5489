"""What is installed is what constraints.txt says, and what serves stays light."""

import tomllib
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, distribution

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.architecture.tree import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
CONSTRAINTS = (ROOT / "constraints.txt").read_text()
GPU_MARK = "# EXTRA=gpu only"
FAISS = {"faiss-cpu", "faiss-gpu"}
HEAVY = {"mlflow", "pandas", "polars", "pyarrow", "torch"}


def pins(part: str = CONSTRAINTS) -> dict[str, str]:
    """Version by package."""
    rows = part.splitlines()
    return dict(row.split("==") for row in rows if row and not row.startswith("#"))


def closure(extras: Iterable[str]) -> set[str]:
    """Every installed package that these extras bring."""
    waiting = [Requirement(row) for extra in extras for row in EXTRAS[extra]]
    found: set[str] = set()
    seen: set[str] = set()
    while waiting:
        requirement = waiting.pop()
        if requirement.name == PROJECT["name"]:
            waiting += [Requirement(row) for extra in requirement.extras for row in EXTRAS[extra]]
        elif str(requirement) not in seen:
            found.add(canonicalize_name(requirement.name))
            waiting += needs(requirement)
        seen.add(str(requirement))
    return found


def needs(requirement: Requirement) -> list[Requirement]:
    """What an installed package needs here, for the extras asked of it."""
    rows = map(Requirement, distribution(requirement.name).requires or ())
    extras = requirement.extras or {""}
    return [
        row
        for row in rows
        if not row.marker or any(row.marker.evaluate({"extra": extra}) for extra in extras)
    ]


def installed(name: str) -> str:
    """The version without what names its build, as in 2.13.0+cpu; empty if it is not there."""
    try:
        return distribution(name).version.split("+")[0]
    except PackageNotFoundError:
        return ""


def test_every_package_is_pinned_to_what_is_installed() -> None:
    used = closure(set(EXTRAS) - {"cpu", "gpu"}) | {name for name in FAISS if installed(name)}
    assert {name: installed(name) for name in used} == {name: pins().get(name) for name in used}


def test_nothing_else_is_pinned() -> None:
    needed = closure(set(EXTRAS) - {"cpu", "gpu"}) | {"faiss-cpu"}
    assert pins(CONSTRAINTS.partition(GPU_MARK)[0]).keys() - needed == set()


def test_what_serves_installs_nothing_that_learns() -> None:
    assert closure(["online", "redis", "nats"]) & HEAVY == set()


def test_only_cpu_and_gpu_carry_faiss() -> None:
    carriers = {extra for extra, rows in EXTRAS.items() if any("faiss" in row for row in rows)}
    assert carriers == {"cpu", "gpu"}
