"""Raw ids at the edge: they become pseudonyms, those of erased people become nobody.

While the pseudonym key is rotated there are two keys. A user whose state still lies under the
former pseudonym is merged into the present one before the call goes on, through the same log
as a merge at login, so that the tables learn of it too; claims go along. It knows no message and
no bundle.
"""

import asyncio
import logging
from typing import Final

from feature_store.errors import FeatureStoreError
from feature_store.events import Merge, Source
from feature_store.ids import Pseudonymizer
from feature_store.ledger import Ledger
from feature_store.tombstones import Tombstones
from online.feedback.intake import Feedback
from online.known import user_name

logger = logging.getLogger(__name__)

FOLLOW_S: Final = 0.1
"""How long a call waits for a state to be moved; it goes on without the state then."""

MAX_FOLLOWED: Final = 1_000_000


class Identities:
    """Used by the services, on the event loop. `former` is None when no key is rotated."""

    def __init__(
        self,
        present: Pseudonymizer,
        tombstones: Tombstones,
        feedback: Feedback,
        ledger: Ledger,
        former: Pseudonymizer | None = None,
    ) -> None:
        self._present = present
        self._former = former
        self._tombstones = tombstones
        self._feedback = feedback
        self._ledger = ledger
        self._followed: set[bytes] = set()

    def digest(self, raw: str) -> bytes:
        """The 32-byte pseudonym of a raw id, b"" of one that was erased."""
        return b"" if self._tombstones.has_id(raw) else self._present.digest(raw)

    def hexdigest(self, raw: str) -> str:
        """The pseudonym as 64 hexadecimal digits, "" of one that was erased."""
        return self.digest(raw).hex()

    def is_erased(self, raw: str) -> bool:
        """Whether who has this id was erased."""
        return self._tombstones.has_id(raw)

    def pseudonyms(self, raw: str) -> tuple[bytes, ...]:
        """All pseudonyms that an id has or had, also of somebody who was erased."""
        keys = (self._present, self._former)
        return tuple(key.digest(raw) for key in keys if key is not None)

    async def follow(self, *user_ids: str, now_time: int) -> None:
        """See to it that what is kept of these users lies under their present pseudonyms."""
        if self._former is None:
            return
        for raw in filter(None, user_ids):
            present = self.digest(raw)
            if present and present not in self._followed:
                former = self._former.hexdigest(raw)
                await self._move(present, former, now_time)

    async def _move(self, present: bytes, former: str, now_time: int) -> None:
        merge = Merge(kind=Source.USER, source=former, target=present.hex(), merge_time=now_time)
        moving = asyncio.ensure_future(self._rename(merge))
        try:
            await asyncio.wait_for(asyncio.shield(moving), FOLLOW_S)
        except (FeatureStoreError, TimeoutError) as error:
            logger.warning("a state is not found under the present key yet: %s", error)
            return
        if len(self._followed) >= MAX_FOLLOWED:
            self._followed.clear()
        self._followed.add(present)

    async def _rename(self, merge: Merge) -> None:
        await asyncio.wrap_future(self._feedback.rename(merge))
        names = (user_name(bytes.fromhex(one)) for one in (merge.source, merge.target))
        await asyncio.to_thread(self._ledger.move, *names)
