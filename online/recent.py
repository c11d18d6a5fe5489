"""What was made of late, kept for who asks again: the one asked for longest ago goes first.

Any thread may ask. It knows neither what it keeps nor why.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class Recent(Generic[Key, Value]):
    """At most `limit` values by their keys."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._kept: OrderedDict[Key, Value] = OrderedDict()
        self._lock = Lock()

    def __contains__(self, key: Key) -> bool:
        """Whether the value is kept; that is no use of it."""
        return key in self._kept

    def get(self, key: Key, make: Callable[[], Value]) -> Value:
        """The value of a key, made at its first use.

        Two threads that ask for the same one at once may both make it; they get the same.
        """
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        made = make()
        with self._lock:
            value = self._kept.setdefault(key, made)
            self._kept.move_to_end(key)
            while len(self._kept) > self._limit:
                self._kept.popitem(last=False)
        return value
