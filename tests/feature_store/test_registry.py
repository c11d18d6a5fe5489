"""The registry below a home: real MLflow over SQLite."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from feature_store.bundle import open_bundle
from feature_store.checksums import MANIFEST
from feature_store.errors import (
    BundleCorruptError,
    RegistryError,
    RegistryUnavailableError,
    SettingsError,
    VersionMissingError,
)
from feature_store.registry import ARTIFACTS, DATABASE, MODEL, Registry, Version
from tests.feature_store.registries import new_home, publish, write_bundle

if TYPE_CHECKING:
    from mlflow import MlflowClient


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return new_home(tmp_path)


@pytest.fixture
def registry(home: Path) -> Registry:
    return Registry(home)


@pytest.fixture
def client(home: Path) -> "MlflowClient":
    """MLflow's own view of the same database. The registry imports it first, as it does in use."""
    from mlflow import MlflowClient

    uri = f"sqlite:///{home / DATABASE}"
    return MlflowClient(uri, registry_uri=uri)


def stored(home: Path, version: Version) -> Path:
    """Where the registry keeps a bundle."""
    place = home / ARTIFACTS / version.run_id / "artifacts" / "bundles" / version.bundle_id
    assert place.is_dir()
    return place


def damage(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def test_both_bundles_of_a_run_become_versions(registry: Registry, tmp_path: Path) -> None:
    bundles = [write_bundle(tmp_path, role=role) for role in ("judged", "refit")]
    with registry.start_run("small") as run:
        judged, refit = (registry.register(run, bundle) for bundle in bundles)
    for version, bundle, role in zip((judged, refit), bundles, ("judged", "refit"), strict=True):
        assert (version.bundle_id, version.role) == (bundle.bundle_id, role)
        assert (version.run_id, version.horizon_time) == (run.run_id, bundle.horizon_time)
        assert registry.get(version.version) == version
    assert registry.versions() == [refit, judged]
    assert (registry.sibling(refit), registry.sibling(judged)) == (judged, refit)


def test_a_bundle_alone_has_no_sibling(registry: Registry, tmp_path: Path) -> None:
    first, second = (publish(registry, write_bundle(tmp_path, content)) for content in (1, 2))
    assert first.run_id != second.run_id
    assert registry.sibling(second) is None


def test_rolling_back_is_moving_the_alias(registry: Registry, tmp_path: Path) -> None:
    first, second = (publish(registry, write_bundle(tmp_path, content)) for content in (1, 2))
    assert registry.resolve("champion") == second
    registry.set_alias("champion", first)
    registry.set_alias("challenger", second)
    assert registry.resolve("champion") == first
    assert registry.aliases() == {"champion": first.version, "challenger": second.version}


def test_a_missing_alias_says_what_to_do(registry: Registry, tmp_path: Path) -> None:
    told = "no model has the alias champion; train one with python -m offline train"
    for answers in (registry, Registry(tmp_path / "nowhere")):
        with pytest.raises(VersionMissingError, match=told):
            answers.resolve("champion")
    publish(registry, write_bundle(tmp_path), alias="challenger")
    with pytest.raises(VersionMissingError, match=told):
        registry.resolve("champion")


def test_a_missing_number_is_said(registry: Registry, tmp_path: Path) -> None:
    publish(registry, write_bundle(tmp_path))
    with pytest.raises(VersionMissingError, match="version=99"):
        registry.get(99)


def test_a_run_keeps_what_is_logged(
    registry: Registry, client: "MlflowClient", tmp_path: Path
) -> None:
    report = tmp_path / "report.html"
    report.write_text("<p>fine</p>")
    with registry.start_run("small") as run:
        run.log_params({"als": {"alpha": 10.0, "deep": {"er": [1, 2]}}, "note": "x" * 7000})
        run.log_params({f"many_{number}": number for number in range(250)})
        run.log_metrics({"recall_at_20_all": 0.25})
        run.log_table("gate.json", {"measure": ["recall"], "candidate": [0.25]})
        run.log_text("notes/why.txt", "weil")
        run.log_artifact(report)
        run.log_artifact(write_bundle(tmp_path / "made").directory, "folder")
    kept = client.get_run(run.run_id)
    assert (kept.info.status, kept.info.run_name) == ("FINISHED", "small")
    assert kept.data.params["als.alpha"] == "10.0"
    assert kept.data.params["als.deep.er"] == "[1, 2]"
    assert len(kept.data.params) == 253
    assert kept.data.metrics == {"recall_at_20_all": 0.25}
    folder = Path(client.download_artifacts(run.run_id, ""))
    assert json.loads((folder / "gate.json").read_text())["columns"] == ["measure", "candidate"]
    assert (folder / "notes" / "why.txt").read_text() == "weil"
    assert (folder / "report.html").read_text() == report.read_text()
    assert open_bundle(folder / "folder").manifest.num_items == {"product": 2}


def test_a_run_that_fails_is_kept_as_failed(registry: Registry, client: "MlflowClient") -> None:
    with pytest.raises(ZeroDivisionError), registry.start_run("small") as run:
        print(1 / 0)
    assert client.get_run(run.run_id).info.status == "FAILED"


def test_a_bundle_is_fetched_as_it_was_written(registry: Registry, tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path)
    version = publish(registry, bundle)
    fetched = registry.fetch(version, tmp_path / "fetched")
    assert fetched == tmp_path / "fetched" / bundle.bundle_id
    assert open_bundle(fetched).manifest == bundle.manifest
    assert [path.name for path in (tmp_path / "fetched").iterdir()] == [bundle.bundle_id]


def test_a_bundle_that_is_there_is_not_fetched_again(registry: Registry, tmp_path: Path) -> None:
    version = publish(registry, write_bundle(tmp_path))
    fetched = registry.fetch(version, tmp_path / "fetched")
    before = fetched.stat()
    assert registry.fetch(version, tmp_path / "fetched").stat() == before


def test_a_bundle_damaged_on_this_machine_is_replaced(registry: Registry, tmp_path: Path) -> None:
    version = publish(registry, write_bundle(tmp_path))
    fetched = registry.fetch(version, tmp_path / "fetched")
    damage(fetched / "items" / "price.npy")
    assert registry.fetch(version, tmp_path / "fetched") == fetched
    open_bundle(fetched)
    assert [path.name for path in fetched.parent.iterdir()] == [fetched.name]


@pytest.mark.parametrize("trouble", ["altered", "missing", "without manifest", "another"])
def test_a_bundle_broken_in_the_registry_is_refused(
    home: Path, registry: Registry, tmp_path: Path, trouble: str
) -> None:
    version = publish(registry, write_bundle(tmp_path))
    place = stored(home, version)
    if trouble == "altered":
        damage(place / "items" / "price.npy")
    elif trouble == "missing":
        (place / "items" / "price.npy").unlink()
    elif trouble == "without manifest":
        (place / MANIFEST).unlink()
    else:
        other = write_bundle(tmp_path, content=1).directory
        for file in ("items/price.npy", MANIFEST):
            (place / file).write_bytes((other / file).read_bytes())
    with pytest.raises(BundleCorruptError):
        registry.fetch(version, tmp_path / "fetched")
    assert not list((tmp_path / "fetched").iterdir())


def test_artifacts_that_are_gone_are_said(home: Path, registry: Registry, tmp_path: Path) -> None:
    version = publish(registry, write_bundle(tmp_path))
    (home / ARTIFACTS).rename(home / "moved")
    with pytest.raises(RegistryError):
        registry.fetch(version, tmp_path / "fetched")


@pytest.mark.parametrize("tags", [{}, {"bundle_id": "../../etc", "role": "refit"}])
def test_a_version_of_another_program_is_refused(
    registry: Registry, client: "MlflowClient", tmp_path: Path, tags: dict[str, str]
) -> None:
    ours = publish(registry, write_bundle(tmp_path))
    model = client.create_model_version(MODEL, f"runs:/{ours.run_id}/x", ours.run_id, tags=tags)
    client.set_registered_model_alias(MODEL, "champion", model.version)
    with pytest.raises(RegistryError, match="was not registered by this program"):
        registry.resolve("champion")
    assert registry.versions() == [ours]


def test_a_bundle_without_a_role_is_not_registered(registry: Registry, tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path)
    bundle.manifest.ClearField("role")
    with (
        pytest.raises(BundleCorruptError, match="names no role"),
        registry.start_run("small") as run,
    ):
        registry.register(run, bundle)


@pytest.mark.parametrize("uri", ["file:///tmp/mlruns", "sqlite:///mlflow.db", "databricks"])
def test_an_address_that_is_no_server_is_refused(tmp_path: Path, uri: str) -> None:
    with pytest.raises(SettingsError, match="MLFLOW_TRACKING_URI must start with http"):
        Registry(tmp_path, uri)


def test_a_server_that_is_not_there_is_given_up_soon(tmp_path: Path) -> None:
    started = time.monotonic()
    with pytest.raises(RegistryUnavailableError):
        Registry(tmp_path, "http://127.0.0.1:9").resolve("champion")
    assert time.monotonic() - started < 20


@pytest.mark.parametrize("content", [b"this is no database, though it is long enough" * 9, None])
def test_a_database_that_cannot_be_read_is_said_at_once(
    tmp_path: Path, content: bytes | None
) -> None:
    if content is None:
        (tmp_path / DATABASE).mkdir()
    else:
        (tmp_path / DATABASE).write_bytes(content)
    with pytest.raises(RegistryUnavailableError, match="cannot be used as a database"):
        Registry(tmp_path).resolve("champion")


SILENT = """
import sys
from pathlib import Path

reached = []
sys.addaudithook(
    lambda event, arguments: event in ("socket.connect", "socket.getaddrinfo")
    and reached.append(arguments)
)
from feature_store.registry import Registry
from tests.feature_store.registries import publish, write_bundle

home = Path(sys.argv[1])
registry = Registry(home)
assert registry.versions() == []
assert "mlflow" not in sys.modules, "imported before it was needed"
assert not home.exists(), "made only to be asked"
version = publish(registry, write_bundle(home / "written"))
registry.fetch(registry.resolve("champion"), home / "fetched")
assert not reached, reached
"""


def test_it_is_silent_lazy_and_never_leaves_the_machine(tmp_path: Path) -> None:
    """From the first use of a home on, where nothing tells MLflow that it is being tested."""
    root = Path(__file__).parents[2]
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", SILENT, str(tmp_path / "home")],
        env={"PYTHONPATH": f"{root}:{root / 'proto'}", "PATH": "/usr/bin:/bin"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
    assert [path.name for path in tmp_path.iterdir()] == ["home"]
