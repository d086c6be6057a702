"""Products in place of linear layers: alone, and several of them in one call.

A plan holds operators and names of children, never arrays: weights are read at each call, so that new weights, other
layers in place of a child (LoRA, quantize) and shards take effect. ``run`` returns ``None`` for a call that the plan
does not serve; the module's own code runs then.
"""
from __future__ import annotations

from typing import Any, Optional

import mlx.core as mx

from mlx_kd.patching.operators import Operators
from mlx_kd.patching.structure import ROWS, Product


def rows_of(x: mx.array) -> int:
    return x.size // x.shape[-1] if x.ndim and x.shape[-1] else 0


def is_of(module: Any, cls: Any) -> bool:
    return module.__class__ is cls or getattr(module.__class__, "_kd_original", None) is cls


class Shared:
    """A plan never changes, so copies of a module share it."""

    def __deepcopy__(self, memo: Any) -> Any:
        return self


class Linear(Shared):
    """One product, for decode and, in blocks of rows or by a product of its own, for prompts."""

    kind, method = "product", "__call__"

    def __init__(self, ops: Operators, product: Product) -> None:
        self.quantized = product.quantized
        self.matvec = ops.qmatvec if product.quantized else ops.matvec
        self.gemm = ops.qgemm if product.quantized else ops.gemm

    def missing(self) -> str:
        return "" if self.matvec or self.gemm else ("qmatvec" if self.quantized else "matvec")

    def runs(self) -> str:
        names = ("qmatvec", "qgemm") if self.quantized else ("matvec", "gemm")
        return " or ".join(name for name, there in zip(names, (self.matvec, self.gemm)) if there)

    def run(self, m: Any, x: mx.array, residual: Optional[mx.array] = None, norm: Optional[mx.array] = None,
            eps: float = 1e-5) -> Optional[mx.array]:
        rows = rows_of(x)
        function: Any = self.matvec if rows <= ROWS else self.gemm
        if not rows:
            return None
        if self.quantized and rows > ROWS and mx.default_device() != mx.cpu:
            return unpacked(m, x, residual, norm, eps)
        if function is None:
            return self.in_parts(m, x, rows) if self.matvec and residual is None and norm is None else None
        result: mx.array
        weights = (m["weight"], m["scales"], m.get("biases")) if self.quantized else (m["weight"],)
        result = function(x, *weights, norm, m.get("bias"), residual, eps=eps)
        return result

    def in_parts(self, m: Any, x: mx.array, rows: int) -> Optional[mx.array]:
        """A prompt without a product for many rows: 16 rows at a time, each reads the weights once."""
        flat = x.reshape(rows, x.shape[-1])
        parts = [self.run(m, flat[at:at + ROWS]) for at in range(0, rows, ROWS)]
        if any(part is None for part in parts):
            return None
        return mx.concatenate([part for part in parts if part is not None]).reshape(*x.shape[:-1], -1)


def unpacked(m: Any, x: mx.array, residual: Optional[mx.array], norm: Optional[mx.array], eps: float) -> mx.array:
    """A prompt on a GPU: MLX's product with W made of its codes for this call. MLX's own product with codes is slower
    for many rows, and compiled when it is first called, which takes a minute."""
    if norm is not None:
        x = mx.fast.rms_norm(x, norm, eps)
    w = mx.dequantize(m["weight"], m["scales"], m.get("biases"), m.group_size, m.bits, m.mode, dtype=x.dtype)
    y = x @ w.T
    if "bias" in m:
        y = y + m["bias"]
    return y if residual is None else residual + y


class Projections:
    """The products of one kind that a module's children are made of."""

    def __init__(self, ops: Operators, product: Product) -> None:
        self.quantized, self.classes = product.quantized, product.classes
        self.one = Linear(ops, product)
        self.matvec = self.one.matvec
        self.gate_up = ops.qmatvec_gate_up if product.quantized else ops.matvec_gate_up
        self.qkv = ops.qmatvec_qkv if product.quantized else ops.matvec_qkv
        self.prefix = "q" if product.quantized else ""

    def holds(self, m: Any, names: tuple[str, ...]) -> bool:
        """Whether the children are still layers that one call can take: no LoRA, no shard, one quantisation."""
        formats = set()
        for name in names:
            child = m[name]
            cls = child.__class__
            if cls not in self.classes and getattr(cls, "_kd_original", None) not in self.classes:
                return False
            if self.quantized and name is not names[-1]:
                own = child.__dict__
                formats.add((own.get("bits"), own.get("group_size"), own.get("mode")))
        return len(formats) < 2

    def call_gate_up(self, gate: Any, up: Any, x: mx.array, norm: Optional[mx.array], eps: float,
                     activation: int) -> mx.array:
        result: mx.array
        if self.quantized:
            result = self.gate_up(x, gate["weight"], gate["scales"], gate.get("biases"), up["weight"], up["scales"],
                                  up.get("biases"), norm, eps=eps, activation=activation)
        else:
            result = self.gate_up(x, gate["weight"], up["weight"], norm, eps=eps, activation=activation)
        return result

    def call_qkv(self, m: Any, x: mx.array, norm: Optional[mx.array], eps: float) -> Any:
        q, k, v = m["q_proj"], m["k_proj"], m["v_proj"]
        biases = (q.get("bias"), k.get("bias"), v.get("bias"))
        if self.quantized:
            return self.qkv(x, q["weight"], q["scales"], q.get("biases"), k["weight"], k["scales"], k.get("biases"),
                            v["weight"], v["scales"], v.get("biases"), norm, *biases, eps=eps)
        return self.qkv(x, q["weight"], k["weight"], v["weight"], norm, *biases, eps=eps)


def product(projections: Projections, linear: Any, x: mx.array, residual: Optional[mx.array]) -> mx.array:
    """residual + linear(x), as one call where there is an operator for it."""
    if projections.matvec is not None:
        y = projections.one.run(linear, x, residual)
        if y is not None:
            return y
    result: mx.array = linear(x)
    return result if residual is None else residual + result


def product_with(one: Optional[Linear], linear: Any, x: mx.array, norm: Optional[mx.array] = None, eps: float = 1e-5,
                 residual: Optional[mx.array] = None) -> mx.array:
    """residual + linear(norm(x)): one call of `one` if that serves it."""
    if one is not None and one.matvec is not None:
        y = one.run(linear, x, residual, norm, eps)
        if y is not None:
            return y
    result: mx.array = linear(x if norm is None else mx.fast.rms_norm(x, norm, eps))
    return result if residual is None else residual + result
