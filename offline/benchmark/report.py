"""What a benchmark prints: one JSON line for each model, every measure with its interval.

It knows no models and no data sets. Measures are one value a user (or a session), so that the
interval is a bootstrap over users.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from offline.metrics import bootstrap

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Line:
    """A model's measures by user, NaN for a user whom one does not concern, and what it took.

    `values` maps a name such as `recall_at_20` to shape (users,); `examples_per_s` None: the
    model is not trained by examples.
    """

    model: str
    values: Mapping[str, Floats]
    train_s: float
    examples_per_s: float | None = None

    def to_json(self) -> str:
        """The line as it is printed."""
        record: dict[str, object] = {"model": self.model}
        for name, values in self.values.items():
            found = bootstrap(values[~np.isnan(values)])
            record[name] = round(found.mean, 5)
            record[f"{name}_interval"] = [round(found.low, 5), round(found.high, 5)]
        rate = self.examples_per_s
        record["train_s"] = round(self.train_s, 1)
        record["examples_per_s"] = None if rate is None else round(rate)
        return json.dumps(record)


def difference(name: str, one: Line, other: Line) -> str:
    """A JSON line: `one` minus `other` by user, over the measures that both have."""
    values = {
        f"{measure}_difference": one.values[measure] - other.values[measure]
        for measure in one.values
        if measure in other.values
    }
    return Line(name, values, one.train_s).to_json()
