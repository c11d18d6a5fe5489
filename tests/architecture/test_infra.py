"""What infra/ runs exists: its files parse, and their commands, options and paths are real.

No container is built here, so this promises nothing about the images themselves.
"""

import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from online.settings import FIELDS, variable
from tests.architecture.tree import ROOT, files, run

DOCKERFILE = (ROOT / "infra" / "Dockerfile").read_text()
YAML = files("infra/*.yaml")
TEXTS = files("infra/*", "Makefile", "README.md")
COMMAND = re.compile(r"python -m (online|offline) ([a-z]+)")
PROBES = {"startupProbe", "readinessProbe", "livenessProbe"}


def documents(path: Path) -> list[Any]:
    return list(yaml.safe_load_all((ROOT / path).read_text()))


def values(node: Any, key: str) -> Iterator[Any]:
    """Every value of a key, at any depth."""
    if isinstance(node, dict):
        if key in node:
            yield node[key]
        for child in node.values():
            yield from values(child, key)
    elif isinstance(node, list):
        for child in node:
            yield from values(child, key)


def commands() -> set[tuple[str, str]]:
    """Package and command of everything that infra, the Makefile and the README run."""
    found = {pair for path in TEXTS for pair in COMMAND.findall((ROOT / path).read_text())}
    services = documents(Path("infra/compose.yaml"))[0]["services"]
    return found | {("online", word) for word in services["server"]["command"]}


@pytest.mark.parametrize("package", ["online", "offline"])
def test_every_command_exists(package: str) -> None:
    said = run(sys.executable, "-m", package, "--help")
    assert said.returncode == 0, said.stdout
    used = {command for owner, command in commands() if owner == package}
    assert used
    assert not [word for word in used if not re.search(rf"\b{word}\b", said.stdout)]


@pytest.mark.parametrize("path", YAML, ids=str)
def test_every_setting_exists(path: Path) -> None:
    known = {variable(name) for name in FIELDS}
    assert not set(re.findall(r"\bAISLE_[A-Z_]+", (ROOT / path).read_text())) - known


@pytest.mark.parametrize("path", files("infra/kubernetes/*.yaml"), ids=str)
def test_kubernetes_objects_are_whole(path: Path) -> None:
    for document in documents(path):
        assert {"apiVersion", "kind", "metadata", "spec"} <= document.keys()
        assert re.fullmatch(r"[a-z][a-z0-9-]*", document["metadata"]["name"])
        for pod in values(document, "containers"):
            assert all(container["image"] in built_images() for container in pod)


def built_images() -> set[str]:
    """The images that compose builds from the Dockerfile, each from a stage that is there."""
    services = documents(Path("infra/compose.yaml"))[0]["services"].values()
    built = [service for service in services if "build" in service]
    stages = set(re.findall(r"^FROM \S+ AS (\w+)$", DOCKERFILE, re.MULTILINE))
    assert {service["build"]["target"] for service in built} <= stages
    return {service["image"] for service in built}


def test_the_server_is_probed_over_grpc_where_it_listens() -> None:
    documents_ = documents(Path("infra/kubernetes/server.yaml"))
    (container,) = next(values(documents_, "containers"))
    environment = {row["name"]: row.get("value") for row in container["env"]}
    port = int(environment["AISLE_ADDRESS"].rpartition(":")[2])
    assert container["ports"][0]["containerPort"] == port
    assert {container[probe]["grpc"]["port"] for probe in PROBES} == {port}


def test_images_are_made_of_what_is_there() -> None:
    lines = re.findall(r"^COPY (.+) \S+$", DOCKERFILE, re.MULTILINE)
    copied = [name for line in lines for name in line.split()]
    assert not [name for name in copied if not (ROOT / name).exists()]
    sent = (ROOT / "infra" / "Dockerfile.dockerignore").read_text()
    assert not [name for name in copied if f"!{name}\n" not in sent]
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    asked = {extra for row in re.findall(r"\.\[([^\]]+)\]", DOCKERFILE) for extra in row.split(",")}
    assert asked - {"$EXTRA"} <= extras.keys()
