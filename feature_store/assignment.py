"""Who is in which arm of a test: by a hash of the person and the test, the same each time.

Nothing is kept of it, and a test with another name deals everybody anew. It knows names and shares.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def dice(salt: str, names: Sequence[str]) -> NDArray[np.float64]:
    """A number from 0 to below 1 for each name, the same each time; shape (names,)."""
    seed = hashlib.blake2b(salt.encode(), digest_size=32).digest()
    blake2b = hashlib.blake2b
    digests = b"".join(blake2b(n.encode(), key=seed, digest_size=8).digest() for n in names)
    return np.frombuffer(digests, "<u8") / 2.0**64


def assign(test: str, shares: Sequence[float], names: Sequence[str]) -> list[int]:
    """The place of each name's arm among the `shares`, which are relative to each other."""
    ends = np.cumsum(shares)
    places = np.searchsorted(ends / ends[-1], dice(f"arm/{test}", names), "right")
    return [min(place, len(shares) - 1) for place in places.tolist()]
