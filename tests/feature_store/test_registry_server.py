"""The registry on a tracking server: the real MLflow server over the real PostgreSQL.

Skipped only where nothing listens on PostgreSQL's port. PGUSER and PGPASSWORD say who comes.
"""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from uuid import uuid4

import psycopg2
import pytest

from feature_store.bundle import open_bundle
from feature_store.errors import RegistryUnavailableError, VersionMissingError
from feature_store.registry import ARTIFACTS, DATABASE, Registry
from tests.feature_store.registries import publish, write_bundle

HOST, PORT = "127.0.0.1", 5432
USER = os.environ.get("PGUSER", "postgres")
START_TIMEOUT_S = 120


@pytest.fixture
def database() -> Iterator[str]:
    """The address of a database of our own, gone afterwards."""
    if not listens(PORT):
        pytest.skip(f"no PostgreSQL listens on {HOST}:{PORT}")
    name = f"aisle_test_{uuid4().hex}"
    with closing(psycopg2.connect(dbname="postgres", host=HOST, port=PORT, user=USER)) as admin:
        admin.autocommit = True
        admin.cursor().execute(f"CREATE DATABASE {name}")
        try:
            yield f"postgresql+psycopg2://{USER}@{HOST}:{PORT}/{name}"
        finally:
            admin.cursor().execute(f"DROP DATABASE {name} WITH (FORCE)")


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0


@contextmanager
def tracking_server(database: str, folder: Path) -> Iterator[str]:
    """`mlflow server` on a free port; gone, with its workers, on leaving."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--workers", "1"]
    command += ["--host", HOST, "--port", str(port)]
    command += ["--backend-store-uri", database, "--artifacts-destination", str(folder / "kept")]
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen(
            command,
            env=os.environ | quiet,
            cwd=folder,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        wait_until_healthy(server, f"http://{HOST}:{port}", folder / "server.log")
        yield f"http://{HOST}:{port}"
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def wait_until_healthy(server: subprocess.Popen[bytes], address: str, log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            urllib.request.urlopen(f"{address}/health", timeout=5).close()
        except (urllib.error.URLError, OSError):
            assert server.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        else:
            return


def test_versions_aliases_and_bundles_live_on_the_server(
    database: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / "home"
    with tracking_server(database, tmp_path) as address:
        trainer = Registry(home, address)
        with pytest.raises(VersionMissingError, match="no model has the alias champion"):
            trainer.resolve("champion")
        old = publish(trainer, write_bundle(tmp_path, content=1))
        bundles = [write_bundle(tmp_path, content=2, role=role) for role in ("judged", "refit")]
        with trainer.start_run("small") as run:
            run.log_params({"als": {"alpha": 10.0}})
            run.log_metrics({"recall_at_20_all": 0.25})
            run.log_table("gate.json", {"measure": ["recall"], "candidate": [0.25]})
            judged, refit = (trainer.register(run, bundle) for bundle in bundles)
        trainer.set_alias("champion", refit)

        server = Registry(tmp_path / "elsewhere", address)
        assert server.resolve("champion") == refit
        assert server.versions() == [refit, judged, old]
        assert server.sibling(refit) == judged
        fetched = server.fetch(refit, tmp_path / "elsewhere")
        assert open_bundle(fetched).manifest == bundles[1].manifest
        server.set_alias("champion", old)
        assert trainer.resolve("champion") == old
        with pytest.raises(VersionMissingError, match="version=99"):
            server.get(99)
    with pytest.raises(RegistryUnavailableError):
        server.resolve("champion")
    assert capfd.readouterr() == ("", "")
    assert not (home / DATABASE).exists()
    assert not (home / ARTIFACTS).exists()
