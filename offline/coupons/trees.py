"""Boosted trees as ONNX, written node by node, so that what serves is what was learned.

Only what our trees have: numerical splits `value <= threshold`. Thresholds are rounded down to
32 bits, which changes no answer: between a double and the float below it there is no feature.
"""

from collections.abc import Sequence
from typing import Any, Final

import lightgbm as lgb
import numpy as np
from onnx import NodeProto, TensorProto, helper

OPSETS: Final = (("", 17), ("ai.onnx.ml", 3))
IR_VERSION: Final = 8


def trees_to_onnx(booster: lgb.Booster) -> bytes:
    """A binary booster as a model from `features` (n, features) to `probability` (n, 1).

    Raises ValueError for a split that is not numerical.
    """
    sigmoid = helper.make_node("Sigmoid", ["logit"], ["probability"])
    nodes = [tree_node(booster, "logit"), sigmoid]
    return as_model(nodes, [], booster.num_feature(), "probability")


def tree_node(booster: lgb.Booster, output: str) -> NodeProto:
    """The trees as one node from `features` to `output`, their sum before any logistic function.

    Raises ValueError for a split that is not numerical.
    """
    nodes: dict[str, list[Any]] = {name: [] for name in (*_NODE, *_LEAF)}
    for tree, described in enumerate(booster.dump_model()["tree_info"]):
        _add(nodes, tree, described["tree_structure"], [0])
    given: dict[str, Any] = {name: values for name, values in nodes.items() if values}
    return helper.make_node(
        "TreeEnsembleRegressor", ["features"], [output], domain="ai.onnx.ml", n_targets=1, **given
    )


def as_model(
    nodes: Sequence[NodeProto],
    constants: Sequence[TensorProto],
    num_features: int,
    output: str,
    source: str = "features",
) -> bytes:
    """A model of these nodes from `source` (n, features) to `output` (n, 1)."""
    shapes = (source, [None, num_features]), (output, [None, 1])
    inputs, outputs = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes
    )
    graph = helper.make_graph(nodes, "coupons", [inputs], [outputs], constants)
    opsets = [helper.make_opsetid(domain, version) for domain, version in OPSETS]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
    return bytes(model.SerializeToString())


_NODE: Final = (
    "nodes_treeids",
    "nodes_nodeids",
    "nodes_featureids",
    "nodes_values",
    "nodes_modes",
    "nodes_truenodeids",
    "nodes_falsenodeids",
)
_LEAF: Final = ("target_treeids", "target_nodeids", "target_ids", "target_weights")


def _add(nodes: dict[str, list[Any]], tree: int, node: dict[str, Any], count: list[int]) -> int:
    """Add a node and all below it; its number within the tree. `count` holds the next one."""
    number, count[0] = count[0], count[0] + 1
    if "leaf_value" in node:
        _append(nodes, _NODE, (tree, number, 0, 0.0, "LEAF", 0, 0))
        _append(nodes, _LEAF, (tree, number, 0, float(node["leaf_value"])))
        return number
    if node["decision_type"] != "<=":
        raise ValueError(f"a split by {node['decision_type']!r} cannot be written; use numbers")
    place = len(nodes["nodes_treeids"])
    threshold = _rounded_down(node["threshold"])
    _append(nodes, _NODE, (tree, number, int(node["split_feature"]), threshold, "BRANCH_LEQ", 0, 0))
    nodes["nodes_truenodeids"][place] = _add(nodes, tree, node["left_child"], count)
    nodes["nodes_falsenodeids"][place] = _add(nodes, tree, node["right_child"], count)
    return number


def _append(nodes: dict[str, list[Any]], names: tuple[str, ...], values: tuple[Any, ...]) -> None:
    for name, value in zip(names, values, strict=True):
        nodes[name].append(value)


def _rounded_down(threshold: float) -> float:
    near = np.float32(threshold)
    return float(near if near <= threshold else np.nextafter(near, np.float32(-np.inf)))
