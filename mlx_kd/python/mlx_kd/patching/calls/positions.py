"""Norms and rotary positions: alone, and those of an attention layer's queries and keys in one call."""
from __future__ import annotations

from typing import Any, Optional

import mlx.core as mx

from mlx_kd.patching.calls.products import Shared, is_of
from mlx_kd.patching.operators import Operators
from mlx_kd.patching.structure import Attention, Norm, Rope


def norm_weight(norm: Norm, module: Any) -> mx.array:
    weight: mx.array = module["weight"]
    return 1.0 + weight if norm.plus_one else weight


class NormCall(Shared):
    kind, method = "norm", "__call__"

    def __init__(self, ops: Operators, norm: Norm) -> None:
        self.norm, self.rmsnorm = norm, ops.rmsnorm

    def missing(self) -> str:
        return "" if self.rmsnorm else "rmsnorm"

    def runs(self) -> str:
        return "rmsnorm"

    def run(self, m: Any, x: mx.array) -> Optional[mx.array]:
        result: mx.array = self.rmsnorm(x, norm_weight(self.norm, m), eps=m.eps)
        return result


class RopeCall(Shared):
    kind, method = "rope", "__call__"

    def __init__(self, ops: Operators, rope: Rope) -> None:
        self.rope, self.rope_standard = rope, ops.rope_standard

    def missing(self) -> str:
        return "" if self.rope_standard else "rope_standard"

    def runs(self) -> str:
        return "rope_standard"

    def run(self, m: Any, x: mx.array, offset: Any = 0) -> Optional[mx.array]:
        if x.ndim != 4:
            return None
        at, freqs = offsets(offset), freqs_of(self.rope, m)
        result: mx.array = self.rope_standard(x, at, freqs, **rope_numbers(self.rope, m, x.shape[-1]))
        return result


class Positions:
    """Norms and rotation of queries and keys."""

    def __init__(self, ops: Operators, attention: Attention) -> None:
        self.norms, self.norm, self.rope = attention.norms, attention.norm, attention.rope
        known = self.rope is not None
        self.fused: Any = ops.qk_norm_rope if known else None
        self.rope_standard: Any = ops.rope_standard if known else None

    def runs(self) -> str:
        return "qk_norm_rope" if self.fused else "rope_standard" if self.rope_standard else ""

    def holds(self, m: Any) -> bool:
        return self.rope is None or is_of(m["rope"], self.rope.cls)

    def __call__(self, m: Any, q: mx.array, k: mx.array, offset: Any) -> tuple[mx.array, mx.array]:
        rope = m["rope"]
        if self.fused is None and self.norms:
            q, k = m[self.norms[0]](q), m[self.norms[1]](k)
        if self.rope is None or not (self.fused or self.rope_standard):
            return rope(q, offset=offset), rope(k, offset=offset)
        if self.fused is None:
            at, freqs = offsets(offset), freqs_of(self.rope, rope)
            numbers = rope_numbers(self.rope, rope, q.shape[-1])
            return (self.rope_standard(q, at, freqs, **numbers), self.rope_standard(k, at, freqs, **numbers))
        arrays, numbers = self.arguments(m, q, offset)
        result: tuple[mx.array, mx.array] = self.fused(q, k, *arrays, **numbers)
        return result

    def arguments(self, m: Any, q: mx.array, offset: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Of qk_norm_rope after q and k, and of the operators that append what it makes."""
        rope: Any = self.rope
        wq = wk = None
        eps = 1e-6
        if self.norms and self.norm:
            first, second = m[self.norms[0]], m[self.norms[1]]
            wq, wk, eps = norm_weight(self.norm, first), norm_weight(self.norm, second), first.eps
        arrays = offsets(offset), wq, wk, freqs_of(rope, m["rope"])
        return arrays, {"eps": eps, **rope_numbers(rope, m["rope"], q.shape[-1])}


def rope_numbers(rope: Rope, m: Any, width: int) -> dict[str, Any]:
    numbers = {"dims": 0 if m.dims == width else m.dims, "traditional": int(m.traditional)}  # 0: all
    if rope.has_freqs:
        return {"base": 10000.0, "scale": 1.0, **numbers}
    return {"base": m.base, "scale": m.scale, **numbers}


def freqs_of(rope: Rope, m: Any) -> Optional[mx.array]:
    return m["_freqs"] if rope.has_freqs else None


_last: tuple[Any, Any] = (None, None)  # an offset as number and as array: one array for all layers of a token


def offsets(offset: Any) -> mx.array:
    """An offset of a cache, a number or one per sequence, as int32."""
    if isinstance(offset, mx.array):
        return offset if offset.ndim else offset.reshape(1)
    global _last
    last = _last
    if last[0] != offset:
        _last = last = (offset, mx.array([offset], mx.int32))
    result: mx.array = last[1]
    return result
