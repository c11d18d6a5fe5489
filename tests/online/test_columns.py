"""The short ways say what NumPy's general ones say."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from online.columns import distinct, positions, sums

COLUMNS = st.lists(st.integers(-1, 50), max_size=80).map(lambda some: np.array(some, np.int32))


@given(COLUMNS, COLUMNS)
def test_distinct_is_the_union(
    one: np.typing.NDArray[np.int32], other: np.typing.NDArray[np.int32]
) -> None:
    assert distinct(one, other).tolist() == np.union1d(one, other).tolist()


@given(COLUMNS)
def test_positions_lead_back_to_the_items(items: np.typing.NDArray[np.int32]) -> None:
    known, place = positions(items)
    assert known.tolist() == np.unique(items).tolist()
    assert known[place].tolist() == items.tolist()


@given(COLUMNS)
def test_sums_are_those_of_each_item(items: np.typing.NDArray[np.int32]) -> None:
    weights = np.linspace(0.5, 3.0, len(items))
    known, total = sums(items, weights)
    expected = {int(item): float(weights[items == item].sum()) for item in items}
    assert known.tolist() == sorted(expected)
    np.testing.assert_allclose(total, [expected[int(item)] for item in known])
