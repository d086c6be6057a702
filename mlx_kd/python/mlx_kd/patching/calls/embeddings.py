"""Embeddings: the rows of a quantised one, and either kind used as the head of its model."""
from __future__ import annotations

from typing import Any, Optional

import mlx.core as mx

from mlx_kd.patching.calls.products import Linear, Shared
from mlx_kd.patching.operators import Operators
from mlx_kd.patching.structure import Product, has_call_of, nn, original_class, output_size


class TiedHead(Linear):
    """An embedding used as the head of its model."""

    kind, method = "head", "as_linear"


class EmbeddingRows(Shared):
    """The rows of a quantised embedding, which MLX makes of three gathers and dequantize."""

    kind, method = "embedding", "__call__"

    def __init__(self, ops: Operators, module: Any) -> None:
        self.qembedding = ops.qembedding
        self.like: Optional[mx.array] = None
        if module.get("biases") is None:  # formats whose scales do not state the type of the result
            rows = {name: module[name][:1] for name in ("weight", "scales")}
            row = mx.dequantize(rows["weight"], rows["scales"], None, module.group_size, module.bits, module.mode)
            self.like = mx.zeros((1,), row.dtype)

    def missing(self) -> str:
        return "" if self.qembedding else "qembedding"

    def runs(self) -> str:
        return "qembedding"

    def again(self, ops: Operators, module: Any) -> EmbeddingRows:
        return EmbeddingRows(ops, module)

    def run(self, m: Any, x: mx.array) -> Optional[mx.array]:
        if x.ndim == 0 or x.size == 0:
            return None
        if x.dtype != mx.uint32:  # a negative id counts from the end
            x = mx.where(x < 0, x + output_size(m), x).astype(mx.uint32)
        result: mx.array = self.qembedding(x, m["weight"], m["scales"], m.get("biases"), self.like, bits=m.bits)
        return result

    def inputs(self, m: Any, dtype: mx.Dtype, rows: int) -> tuple[mx.array, dict[str, Any]]:
        """Ids from all over the table, the first and the last among them."""
        step, last = 7919, output_size(m) - 1
        ids = [min(last, i * step % (last + 1)) for i in range(rows)] + [last]
        return mx.array([ids], mx.uint32), {}


class Embedding(Shared):
    """Both of one module."""

    kind, method, methods = "embedding", "__call__", ("__call__", "as_linear")

    def __init__(self, rows: EmbeddingRows, head: TiedHead) -> None:
        self.run, self.run_as_linear = rows.run, head.run


def rows_plan_of(module: Any, ops: Operators) -> Optional[EmbeddingRows]:
    return EmbeddingRows(ops, module) if has_call_of(module, nn.QuantizedEmbedding) else None


def head_plan_of(module: Any, ops: Operators) -> Optional[TiedHead]:
    for embedding, quantized in ((nn.QuantizedEmbedding, True), (nn.Embedding, False)):
        if has_call_of(module, embedding):
            return TiedHead(ops, Product(quantized, frozenset({original_class(module)})))
    return None
