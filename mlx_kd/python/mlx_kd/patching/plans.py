"""What runs in place of a module's ``__call__``.

A plan holds operators and names of children, never arrays: weights are read at each call, so that new weights, other
layers in place of a child (LoRA, quantize) and shards take effect. ``run`` returns ``None`` for a call that the plan
does not serve; the module's own code runs then.
"""
from __future__ import annotations

from typing import Any, Optional, Union

import mlx.core as mx

from mlx_kd.patching.operators import Operators
from mlx_kd.patching.structure import (
    QKV, ROWS, Attention, Block, Mlp, Norm, Product, Rope, Unknown, attention_of, block_of, has_call_of, mlp_of,
    nn, norm_of, original_class, product_of, rope_of)


def rows_of(x: mx.array) -> int:
    return x.size // x.shape[-1] if x.ndim and x.shape[-1] else 0


def norm_weight(norm: Norm, module: Any) -> mx.array:
    weight: mx.array = module["weight"]
    return 1.0 + weight if norm.plus_one else weight


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
        if function is None:
            return self.in_parts(m, x, rows) if self.matvec and residual is None and norm is None else None
        result: mx.array
        if self.quantized:
            result = function(x, m["weight"], m["scales"], m.get("biases"), norm, m.get("bias"), residual, eps=eps)
        else:
            result = function(x, m["weight"], norm, m.get("bias"), residual, eps=eps)
        return result

    def in_parts(self, m: Any, x: mx.array, rows: int) -> Optional[mx.array]:
        """A prompt without a product for many rows: 16 rows at a time, each reads the weights once."""
        flat = x.reshape(rows, x.shape[-1])
        parts = [self.run(m, flat[at:at + ROWS]) for at in range(0, rows, ROWS)]
        if any(part is None for part in parts):
            return None
        return mx.concatenate([part for part in parts if part is not None]).reshape(*x.shape[:-1], -1)


class TiedHead(Linear):
    """An embedding used as the head of its model."""

    kind, method = "head", "as_linear"


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
        for name in names:
            cls = m[name].__class__
            if cls not in self.classes and getattr(cls, "_kd_original", None) not in self.classes:
                return False  # LoRA, a shard, another quantisation
        return True

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


class MlpCall(Shared):
    kind, method = "feed-forward", "__call__"

    def __init__(self, ops: Operators, mlp: Mlp, dtype: mx.Dtype) -> None:
        self.mlp, self.dtype = mlp, dtype
        self.names = (mlp.gate, mlp.up, mlp.down)
        self.projections = Projections(ops, mlp.product)
        self.swiglu = ops.swiglu if mlp.activation == 0 else None

    def missing(self) -> str:
        here = self.projections.gate_up or self.swiglu
        return "" if here else self.projections.prefix + "matvec_gate_up"

    @property
    def takes_norm(self) -> bool:
        return self.projections.gate_up is not None

    @property
    def adds_residual(self) -> bool:
        return self.projections.matvec is not None

    def runs(self) -> str:
        prefix = self.projections.prefix
        first = prefix + "matvec_gate_up" if self.projections.gate_up else "swiglu"
        return first + (f", {prefix}matvec" if self.projections.matvec else "")

    def serves(self, m: Any, x: mx.array) -> bool:
        return 0 < rows_of(x) <= ROWS and x.dtype == self.dtype and self.projections.holds(m, self.names)

    def run(self, m: Any, x: mx.array) -> Optional[mx.array]:
        return self.step(m, x, None, 1e-5, None) if self.serves(m, x) else None

    def step(self, m: Any, x: mx.array, norm: Optional[mx.array], eps: float, residual: Optional[mx.array]) -> mx.array:
        gate, up, down = m[self.mlp.gate], m[self.mlp.up], m[self.mlp.down]
        if self.projections.gate_up is not None and "bias" not in gate and "bias" not in up:
            h = self.projections.call_gate_up(gate, up, x, norm, eps, self.mlp.activation)
        else:
            if norm is not None:
                x = mx.fast.rms_norm(x, norm, eps)
            h = self.activated(gate(x), up(x))
        return product(self.projections, down, h, residual)

    def activated(self, gate: mx.array, up: mx.array) -> mx.array:
        if self.swiglu is not None:
            result: mx.array = self.swiglu(gate, up)
            return result
        h: mx.array = nn.gelu_approx(gate) if self.mlp.activation else nn.silu(gate)
        return h * up


def product(projections: Projections, linear: Any, x: mx.array, residual: Optional[mx.array]) -> mx.array:
    """residual + linear(x), as one call where there is an operator for it."""
    if projections.matvec is not None:
        y = projections.one.run(linear, x, residual)
        if y is not None:
            return y
    result: mx.array = linear(x)
    return result if residual is None else residual + result


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
        at, freqs = offsets(offset), freqs_of(self.rope, rope)
        numbers = rope_numbers(self.rope, rope, q.shape[-1])
        if self.fused is None:
            return (self.rope_standard(q, at, freqs, **numbers), self.rope_standard(k, at, freqs, **numbers))
        wq = wk = None
        eps = 1e-6
        if self.norms and self.norm:
            first, second = m[self.norms[0]], m[self.norms[1]]
            wq, wk, eps = norm_weight(self.norm, first), norm_weight(self.norm, second), first.eps
        result: tuple[mx.array, mx.array] = self.fused(q, k, at, wq, wk, freqs, eps=eps, **numbers)
        return result


def rope_numbers(rope: Rope, m: Any, width: int) -> dict[str, Any]:
    numbers = {"dims": 0 if m.dims == width else m.dims, "traditional": int(m.traditional)}  # 0: all, as pins have it
    if rope.has_freqs:
        return {"base": 10000.0, "scale": 1.0, **numbers}
    return {"base": m.base, "scale": m.scale, **numbers}


def freqs_of(rope: Rope, m: Any) -> Optional[mx.array]:
    return m["_freqs"] if rope.has_freqs else None


_last: tuple[Any, Any] = (None, None)  # an offset as number and as array: one array for all layers of a token


def offsets(offset: Any) -> mx.array:
    """An offset of a cache, a number or one per sequence, as int32."""
    if isinstance(offset, mx.array):
        return offset
    global _last
    last = _last
    if last[0] != offset:
        _last = last = (offset, mx.array([offset], mx.int32))
    result: mx.array = last[1]
    return result


def by_head(x: mx.array, heads: int) -> mx.array:
    """[B, T, heads D] as [B, heads, T, D]; one row needs no transposition."""
    batch, length, _ = x.shape
    if length == 1:
        return x.reshape(batch, heads, 1, -1)
    return x.reshape(batch, length, heads, -1).transpose(0, 2, 1, 3)


class AttentionCall(Shared):
    kind, method = "attention", "__call__"

    def __init__(self, ops: Operators, attention: Attention, dtype: mx.Dtype) -> None:
        self.what, self.dtype = attention, dtype
        self.names = (*QKV, attention.out)
        self.projections = Projections(ops, attention.product)
        self.positions = Positions(ops, attention)
        self.attention = ops.attention

    def missing(self) -> str:
        here = self.projections.qkv or self.positions.runs() or self.attention
        return "" if here else f"{self.projections.prefix}matvec_qkv, qk_norm_rope, attention"

    @property
    def takes_norm(self) -> bool:
        return self.projections.qkv is not None

    @property
    def adds_residual(self) -> bool:
        return self.projections.matvec is not None

    def runs(self) -> str:
        prefix = self.projections.prefix
        parts = [prefix + "matvec_qkv" if self.projections.qkv else "", self.positions.runs(),
                 "attention" if self.attention else "", prefix + "matvec" if self.projections.matvec else ""]
        return ", ".join(part for part in parts if part)

    def serves(self, m: Any, x: mx.array, cache: Any) -> bool:
        return (x.ndim == 3 and 0 < rows_of(x) <= ROWS and x.dtype == self.dtype and not hasattr(cache, "bits")
                and self.projections.holds(m, self.names) and self.positions.holds(m))

    def run(self, m: Any, x: mx.array, mask: Any = None, cache: Any = None) -> Optional[mx.array]:
        return self.step(m, x, mask, cache, None, 1e-5, None) if self.serves(m, x, cache) else None

    def step(self, m: Any, x: mx.array, mask: Any, cache: Any, norm: Optional[mx.array], eps: float,
             residual: Optional[mx.array]) -> mx.array:
        batch, length, _ = x.shape
        if self.projections.qkv is not None:
            q, k, v = self.projections.call_qkv(m, x, norm, eps)
        else:
            if norm is not None:
                x = mx.fast.rms_norm(x, norm, eps)
            q, k, v = m["q_proj"](x), m["k_proj"](x), m["v_proj"](x)
        heads, kv_heads = getattr(m, self.what.heads or ""), getattr(m, self.what.kv_heads or "")
        q, k, v = (by_head(x, n) for x, n in ((q, heads), (k, kv_heads), (v, kv_heads)))
        q, k = self.positions(m, q, k, 0 if cache is None else cache.offset)
        if cache is not None:
            k, v = cache.update_and_fetch(k, v)
        y = self.attend(m, q, k, v, mask)
        if length > 1:
            y = y.transpose(0, 2, 1, 3)
        return product(self.projections, m[self.what.out], y.reshape(batch, length, -1), residual)

    def attend(self, m: Any, q: mx.array, k: mx.array, v: mx.array, mask: Any) -> mx.array:
        scale = getattr(m, self.what.scale)
        sinks = m["sinks"] if self.what.sinks else None
        result: mx.array
        if self.attention is not None:
            causal = isinstance(mask, str)
            result = self.attention(q, k, v, None if causal else mask, sinks, scale=scale, causal=int(causal), window=0)
        else:
            result = mx.fast.scaled_dot_product_attention(q, k, v, scale=scale, mask=mask, sinks=sinks)
        return result


class BlockCall(Shared):
    """h = x + attention(norm(x)); h + mlp(norm(h)), with norms and sums inside the products where they can be."""

    kind, method = "block", "__call__"

    def __init__(self, ops: Operators, block: Block, attention: Optional[AttentionCall], mlp: Optional[MlpCall],
                 dtype: mx.Dtype) -> None:
        self.block, self.dtype = block, dtype
        self.attention = attention if attention and (attention.takes_norm or attention.adds_residual) else None
        self.mlp = mlp if mlp and mlp.takes_norm else None
        self.rmsnorm_residual = ops.rmsnorm_residual

    def missing(self) -> str:
        return "" if self.attention or self.mlp or self.rmsnorm_residual else "rmsnorm_residual"

    def runs(self) -> str:
        parts = []
        if self.attention:
            parts.append("norm in " * self.attention.takes_norm + self.attention.runs()
                         + " + residual" * self.attention.adds_residual)
        if self.mlp:
            parts.append("norm in " + self.mlp.runs() + " + residual" * self.mlp.adds_residual)
        elif self.rmsnorm_residual and not (self.attention and self.attention.adds_residual):
            parts.append("rmsnorm_residual")
        return "; ".join(parts)

    def serves(self, m: Any, x: mx.array, cache: Any) -> bool:
        block = self.block
        if not (x.ndim == 3 and 0 < rows_of(x) <= ROWS and x.dtype == self.dtype):
            return False
        for name in (block.attention_norm, block.mlp_norm):
            if not is_of(m[name], block.norm.cls):
                return False
        return ((self.attention is None or self.attention.serves(m[block.attention], x, cache))
                and (self.mlp is None or self.mlp.serves(m[block.mlp], x)))

    def run(self, m: Any, x: mx.array, mask: Any = None, cache: Any = None) -> Optional[mx.array]:
        if not self.serves(m, x, cache):
            return None
        block = self.block
        first, second = m[block.attention_norm], m[block.mlp_norm]
        added = True  # x + r was made
        if self.attention is None:
            h, added = m[block.attention](first(x), mask=mask, cache=cache), False
        elif self.attention.takes_norm:
            weight = norm_weight(block.norm, first)
            h = self.attention.step(m[block.attention], x, mask, cache, weight, first.eps, x)
        else:
            h = self.attention.step(m[block.attention], first(x), mask, cache, None, first.eps, x)
        if self.mlp is not None:
            h = h if added else x + h
            return self.mlp.step(m[block.mlp], h, norm_weight(block.norm, second), second.eps, h)
        if added or self.rmsnorm_residual is None:
            h = h if added else x + h
            y = second(h)
        else:
            y, h = self.rmsnorm_residual(h, x, norm_weight(block.norm, second), eps=second.eps)
        result: mx.array = h + m[block.mlp](y)
        return result


Plan = Union[Linear, NormCall, RopeCall, MlpCall, AttentionCall, BlockCall]


def plan_of(module: Any, ops: Operators, dtype: mx.Dtype) -> Union[Plan, Unknown, None]:
    """What could run in place of a module, or why nothing can; ``None`` for a module of no known kind."""
    mlp = mlp_of(module)
    if mlp is not None:
        return mlp if isinstance(mlp, Unknown) else MlpCall(ops, mlp, dtype)
    attention = attention_of(module)
    if attention is not None:
        return attention if isinstance(attention, Unknown) else AttentionCall(ops, attention, dtype)
    block = block_of(module)
    if block is not None:
        return block if isinstance(block, Unknown) else block_plan(module, ops, block, dtype)
    return simple_plan(module, ops)


def block_plan(module: Any, ops: Operators, block: Block, dtype: mx.Dtype) -> BlockCall:
    attention, mlp = attention_of(module[block.attention]), mlp_of(module[block.mlp])
    return BlockCall(ops, block, AttentionCall(ops, attention, dtype) if isinstance(attention, Attention) else None,
                     MlpCall(ops, mlp, dtype) if isinstance(mlp, Mlp) else None, dtype)


def simple_plan(module: Any, ops: Operators) -> Union[Plan, Unknown, None]:
    if norm := norm_of(module):
        return NormCall(ops, norm)
    if rope := rope_of(module):
        return RopeCall(ops, rope)
    for embedding, quantized in ((nn.QuantizedEmbedding, True), (nn.Embedding, False)):
        if has_call_of(module, embedding):
            return TiedHead(ops, Product(quantized, frozenset({original_class(module)})))
    product = product_of(module)
    if isinstance(product, Product):
        return Linear(ops, product)
    return product if "Sharded" in type(module).__name__ else None
