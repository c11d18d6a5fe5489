"""One small synthetic shop for all tests of the benches."""

import pytest

from infra.bench.shop import Shop, Size, open_shop
from offline.progress import QUIET

SIZE = Size(num_items=3_000, num_users=300, num_iterations=2)


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return open_shop(SIZE, tmp_path_factory.mktemp("shops"), QUIET)
