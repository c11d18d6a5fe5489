"""The files of this repository, as git sees them: what is committed and what is about to be."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
PACKAGES = ("feature_store", "offline", "online")
GENERATED = ("_pb2.py", "_pb2.pyi", "_pb2_grpc.py", "_pb2_grpc.pyi")


def files(*patterns: str) -> list[Path]:
    """Files that match a pattern of git's, relative to the root, without generated code."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *patterns]
    names = run(*command).stdout.splitlines()
    paths = sorted({Path(name) for name in names if not name.endswith(GENERATED)})
    return [path for path in paths if (ROOT / path).exists()]


def run(*command: str | Path, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end and keeps what it said."""
    return subprocess.run(
        command, cwd=cwd, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
