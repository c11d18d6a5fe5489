"""A skipped test cannot hide a server that answers."""

import shutil
import sys
from pathlib import Path

import pytest

from tests.architecture.tree import ROOT, run

SKIPS = """
import pytest

def test_store():
    pytest.skip("no Redis answers on 127.0.0.1:6379")
"""


@pytest.mark.parametrize(
    ("services", "outcome"),
    [("", "1 skipped"), ("nats", "1 skipped"), ("postgresql,redis", "1 failed")],
)
def test_a_skip_fails_where_its_server_answers(tmp_path: Path, services: str, outcome: str) -> None:
    shutil.copy(ROOT / "tests" / "conftest.py", tmp_path)
    (tmp_path / "test_skips.py").write_text(SKIPS)
    pytest_run = (sys.executable, "-m", "pytest", "-p", "no:cacheprovider")
    ended = run(*pytest_run, f"--required-services={services}", cwd=tmp_path)
    assert outcome in ended.stdout
