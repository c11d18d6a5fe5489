"""From one bundle to the next while requests are answered.

The new bundle is opened and warmed on a thread of its own, with what was asked lately, and
takes over in one assignment: requests in flight finish on the old one, whose arrays go with
the last of them. A bundle that cannot answer what the old one answered is refused.
"""

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from feature_store.bundle import open_bundle
from online.delta.following import NUM_ROOM
from online.engine import Engine
from online.errors import RequestError, SnapshotError
from online.process.server import Parts, warm_up_requests
from online.snapshot import Snapshot, open_snapshot
from online.types import Cause, Request

PAUSE_S: Final = 0.002
"""Between two requests of the warming, so that those of users go first."""


async def swap(parts: Parts, bundle: Path) -> None:
    """Answer from another bundle, which somebody has verified, from now on.

    Raises BundleError or SnapshotError when it cannot be used; then nothing changes.
    """
    recent = tuple(parts.watchdog.recent)
    await asyncio.to_thread(_exchange, parts, bundle, recent)


def _exchange(parts: Parts, bundle: Path, recent: Sequence[Request]) -> None:
    parts.engine.snapshot = _prepare(parts, bundle, recent)


def _prepare(parts: Parts, bundle: Path, recent: Sequence[Request]) -> Snapshot:
    snapshot = open_snapshot(open_bundle(bundle, verify=False, num_room=NUM_ROOM))
    engine = Engine(parts.store, snapshot)
    for request in (*warm_up_requests(snapshot, parts.read_clock()), *recent):
        _try(engine, request)
        time.sleep(PAUSE_S)
    return snapshot


def _try(engine: Engine, request: Request) -> None:
    try:
        slate = engine.recommend(request)
    except RequestError:
        return  # what was asked does not exist in this bundle, or never did
    failed = [left_out.stage for left_out in slate.degraded if left_out.cause is Cause.FAILED]
    if failed:
        raise SnapshotError(
            f"bundle {engine.snapshot.bundle.directory} fails in {', '.join(failed)}; "
            "train it again, or with the code that serves"
        )
