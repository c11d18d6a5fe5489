"""An uplift learner as ONNX, so that what serves is what was chosen.

Its lines and trees as they are (`offline.coupons.fitted`), weighted and added up; 32-bit floats, as
the features have them.
"""

from collections.abc import Iterator
from itertools import count

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper

from offline.coupons.fitted import Clipped, Line, Predict, Sum, Trees
from offline.coupons.trees import as_model, tree_node

OUTPUT = "uplift"


def uplift_to_onnx(model: Predict, num_features: int) -> bytes:
    """A model from `features` (n, features) to `uplift` (n, 1), from `given` if it is clipped.

    Raises ValueError for a model that is not made of lines and trees.
    """
    numbers = count()
    nodes: list[NodeProto] = []
    constants: list[TensorProto] = []
    parts: list[str] = []
    source = "features"
    if isinstance(model, Clipped):
        source = "given"
        bounds = (("low", model.low), ("high", model.high))
        constants += [numpy_helper.from_array(row.astype(np.float32), name) for name, row in bounds]
        nodes.append(helper.make_node("Max", [source, "low"], ["raised"]))
        nodes.append(helper.make_node("Min", ["raised", "high"], ["features"]))
        model = model.model
    for weight, part in flat(model, 1.0):
        name = f"part_{next(numbers)}"
        added, value = _line(part, name) if isinstance(part, Line) else _trees(part, name)
        factor = numpy_helper.from_array(np.array([weight], np.float32), f"{name}_factor")
        nodes += [*added, helper.make_node("Mul", [f"{name}_value", factor.name], [name])]
        constants += [*value, factor]
        parts.append(name)
    nodes.append(helper.make_node("Sum", parts, [OUTPUT]))
    return as_model(nodes, constants, num_features, OUTPUT, source)


def flat(model: Predict, weight: float) -> Iterator[tuple[float, Line | Trees]]:
    """The lines and trees that a model adds up, each by its weight."""
    if isinstance(model, Sum):
        for share, part in model.terms:
            yield from flat(part, weight * share)
    elif isinstance(model, (Line, Trees)):
        yield weight, model
    else:
        raise ValueError(f"{type(model).__name__} cannot be written; use lines and trees")


def _line(line: Line, name: str) -> tuple[list[NodeProto], list[TensorProto]]:
    weights = numpy_helper.from_array(line.weights[:, None].astype(np.float32), f"{name}_weights")
    intercept = numpy_helper.from_array(np.array([line.intercept], np.float32), f"{name}_intercept")
    raw = f"{name}_raw" if line.is_logistic else f"{name}_value"
    given = ["features", weights.name, intercept.name]
    nodes = [helper.make_node("Gemm", given, [raw])]
    if line.is_logistic:
        nodes.append(helper.make_node("Sigmoid", [raw], [f"{name}_value"]))
    return nodes, [weights, intercept]


def _trees(trees: Trees, name: str) -> tuple[list[NodeProto], list[TensorProto]]:
    is_logistic = str(trees.booster.dump_model()["objective"]).startswith("binary")
    if not is_logistic:
        return [tree_node(trees.booster, f"{name}_value")], []
    sigmoid = helper.make_node("Sigmoid", [f"{name}_raw"], [f"{name}_value"])
    return [tree_node(trees.booster, f"{name}_raw"), sigmoid], []
