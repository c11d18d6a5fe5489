"""The pointer file: readable at any moment, movable with its folder, never half written."""

import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from feature_store.errors import BundleError, PointerError
from feature_store.pointer import (
    Pointer,
    pointer_path,
    read_pointer,
    read_pointers,
    serving_folder,
    write_pointer,
)

ROOT = Path(__file__).parents[2]


def pointer(home: Path, version: int = 1, alias: str = "champion") -> Pointer:
    bundle_id = f"{version:016x}"
    return Pointer(alias, version, bundle_id, serving_folder(home) / "bundles" / bundle_id)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    written = pointer(tmp_path, 3)
    assert write_pointer(tmp_path, written) == tmp_path / "serving" / "champion.json"
    assert read_pointer(tmp_path) == written


def test_each_alias_has_its_own(tmp_path: Path) -> None:
    both = [pointer(tmp_path, 2, "challenger"), pointer(tmp_path, 1, "champion")]
    for one in both:
        write_pointer(tmp_path, one)
    pointer_path(tmp_path, "damaged").write_text("{")
    assert read_pointers(tmp_path) == both


def test_a_home_may_be_moved_and_named_relatively(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_pointer(Path("old"), pointer(Path("old")))
    Path("old").rename("new")
    assert read_pointer(tmp_path / "new") == pointer(tmp_path / "new")


def test_another_user_may_read_it(tmp_path: Path) -> None:
    mask = os.umask(0o077)
    try:
        path = write_pointer(tmp_path, pointer(tmp_path))
    finally:
        os.umask(mask)
    assert path.stat().st_mode & 0o777 == 0o644


def test_an_absent_pointer_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(PointerError, match="run python -m offline sync --alias champion"):
        read_pointer(tmp_path)
    assert read_pointers(tmp_path) == []


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"\xff", b"[]", b"{}", b'{"alias": "champion", "version": "x"}', b"null"],
)
def test_a_damaged_pointer_is_an_error_of_the_bundle(tmp_path: Path, content: bytes) -> None:
    write_pointer(tmp_path, pointer(tmp_path))
    pointer_path(tmp_path).write_bytes(content)
    with pytest.raises(BundleError, match=r"damaged: run python -m offline sync"):
        read_pointer(tmp_path)


@pytest.mark.parametrize("alias", ["", "../champion", "a/b", "a.b", "a\n"])
def test_an_alias_that_is_no_file_name_is_refused(tmp_path: Path, alias: str) -> None:
    for use in (pointer_path, read_pointer):
        with pytest.raises(PointerError, match="is no alias"):
            use(tmp_path, alias)


def test_a_bundle_elsewhere_is_refused(tmp_path: Path) -> None:
    elsewhere = replace(pointer(tmp_path), directory=tmp_path / "bundles" / "1")
    with pytest.raises(PointerError, match="does not lie in"):
        write_pointer(tmp_path, elsewhere)
    assert not pointer_path(tmp_path).exists()


def test_a_reader_sees_one_pointer_or_the_other(tmp_path: Path) -> None:
    write_pointer(tmp_path, pointer(tmp_path, 0))
    done = threading.Event()

    def move() -> None:
        for version in range(50):
            write_pointer(tmp_path, pointer(tmp_path, version))
        done.set()

    thread = threading.Thread(target=move)
    thread.start()
    seen = []
    while not done.is_set():
        seen.append(read_pointer(tmp_path).version)
    thread.join()
    assert seen == sorted(seen)
    assert len(set(seen)) > 1
    assert [path.name for path in serving_folder(tmp_path).iterdir()] == ["champion.json"]


def test_a_failed_write_leaves_the_old_one(tmp_path: Path) -> None:
    write_pointer(tmp_path, pointer(tmp_path, 1))
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path)],
        env={"PYTHONPATH": f"{ROOT}:{ROOT / 'proto'}"},
        check=False,
    )
    assert done.returncode == 0
    assert read_pointer(tmp_path).version == 1
    assert [path.name for path in serving_folder(tmp_path).iterdir()] == ["champion.json"]


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from feature_store.pointer import Pointer, write_pointer

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (8, 8))
home = Path(sys.argv[1])
try:
    write_pointer(home, Pointer("champion", 2, "22", home / "serving" / "bundles" / "22"))
except OSError:
    sys.exit(0)
sys.exit(1)
"""
