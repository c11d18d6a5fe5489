"""A bundle is refused as a whole when another version of aisle wrote it."""

import json
from pathlib import Path

import pytest

from feature_store.bundle import FORMAT_VERSION, open_bundle
from feature_store.checksums import MANIFEST
from feature_store.errors import UnknownFormatError
from tests.feature_store.registries import write_bundle


@pytest.mark.parametrize("version", [1, FORMAT_VERSION + 1])
def test_a_bundle_of_another_format_is_refused(tmp_path: Path, version: int) -> None:
    directory = write_bundle(tmp_path).directory
    said = json.loads((directory / MANIFEST).read_text())
    assert said["formatVersion"] == FORMAT_VERSION == 2
    (directory / MANIFEST).write_text(json.dumps(said | {"formatVersion": version}))
    with pytest.raises(UnknownFormatError, match=f"has format {version}, .* train again"):
        open_bundle(directory)
