"""Feed-forward layers, attention layers and blocks of both, as few calls."""
from __future__ import annotations

import sys
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Optional

import mlx.core as mx

from mlx_kd import _core
from mlx_kd.patching.calls.positions import Positions, norm_weight
from mlx_kd.patching.calls.products import Projections, Shared, is_of, product, rows_of
from mlx_kd.patching.operators import Operators
from mlx_kd.patching.structure import QKV, ROWS, Attention, Block, Mlp, nn


CODES, GROUPS = (4, 8), (32, 64, 128)  # what attention reads of quantised caches
APPENDS = ("qk_norm_rope_append_quantized", "qk_norm_rope_append_paged",
           "qk_norm_rope_append_paged_quantized")  # by the `turned_by` of a cache


class Layer(Shared):
    """Serves few rows, and more where `prompts` is set: then products are the calls of the module's own children."""

    prompts = False
    projections: Projections

    @property
    def adds_residual(self) -> bool:
        return self.projections.matvec is not None

    def runs(self) -> str:
        raise NotImplementedError

    def many_rows(self) -> str:
        """What runs in a prompt."""
        raise NotImplementedError


class MlpCall(Layer):
    kind, method = "feed-forward", "__call__"

    def __init__(self, ops: Operators, mlp: Mlp, dtype: mx.Dtype) -> None:
        self.what, self.dtype = mlp, dtype
        self.names = (mlp.gate, mlp.up, mlp.down)
        self.projections = Projections(ops, mlp.product)
        self.glu = ops.geglu if mlp.activation else ops.swiglu

    def again(self, ops: Operators) -> MlpCall:
        return MlpCall(ops, self.what, self.dtype)

    def missing(self) -> str:
        return "" if self.projections.gate_up or self.glu else self.projections.prefix + "matvec_gate_up"

    @property
    def takes_norm(self) -> bool:
        return self.projections.gate_up is not None

    def runs(self) -> str:
        prefix = self.projections.prefix
        first = prefix + "matvec_gate_up" if self.projections.gate_up else self.many_rows()
        return first + (f", {prefix}matvec" if self.projections.matvec else "")

    def many_rows(self) -> str:
        return "" if self.glu is None else "geglu" if self.what.activation else "swiglu"

    def serves(self, m: Any, x: mx.array) -> bool:
        rows = rows_of(x)
        return (0 < rows and (rows <= ROWS or self.prompts) and x.dtype == self.dtype
                and self.projections.holds(m, self.names))

    def run(self, m: Any, x: mx.array) -> Optional[mx.array]:
        return self.step(m, x, None, 1e-5, None) if self.serves(m, x) else None

    def step(self, m: Any, x: mx.array, norm: Optional[mx.array], eps: float, residual: Optional[mx.array]) -> mx.array:
        gate, up, down = m[self.what.gate], m[self.what.up], m[self.what.down]
        if rows_of(x) > ROWS:
            result: mx.array = down(self.activated(gate(x), up(x)))
            return result
        if self.projections.gate_up is not None and "bias" not in gate and "bias" not in up:
            h = self.projections.call_gate_up(gate, up, x, norm, eps, self.what.activation)
        else:
            if norm is not None:
                x = mx.fast.rms_norm(x, norm, eps)
            h = self.activated(gate(x), up(x))
        return product(self.projections, down, h, residual)

    def activated(self, gate: mx.array, up: mx.array) -> mx.array:
        result: mx.array
        if self.glu is not None:
            result = self.glu(gate, up)
        else:
            result = (nn.gelu_approx(gate) if self.what.activation else nn.silu(gate)) * up
        return result


def by_head(x: mx.array, heads: int) -> mx.array:
    """[B, T, heads D] as [B, heads, T, D]; one row needs no transposition."""
    batch, length, _ = x.shape
    if length == 1:
        return x.reshape(batch, heads, 1, -1)
    return x.reshape(batch, length, heads, -1).transpose(0, 2, 1, 3)


class AttentionCall(Layer):
    kind, method = "attention", "__call__"

    def __init__(self, ops: Operators, attention: Attention, dtype: mx.Dtype) -> None:
        self.what, self.dtype = attention, dtype
        self.names = (*QKV, attention.out)
        self.projections = Projections(ops, attention.product)
        self.positions = Positions(ops, attention)
        self.attention = ops.attention
        self.attention_quantized = ops.attention_quantized
        self.attention_paged = ops.attention_paged
        self.attention_paged_quantized = ops.attention_paged_quantized
        self.appends: dict[str, Any] = {} if self.positions.fused is None else {
            name: ops.functions[name] for name in APPENDS if name in ops.functions}

    def again(self, ops: Operators) -> AttentionCall:
        return AttentionCall(ops, self.what, self.dtype)

    def missing(self) -> str:
        here = self.projections.qkv or self.positions.runs() or self.attention
        return "" if here else f"{self.projections.prefix}matvec_qkv, qk_norm_rope, attention"

    @property
    def takes_norm(self) -> bool:
        return self.projections.qkv is not None

    def runs(self) -> str:
        prefix = self.projections.prefix
        parts = [prefix + "matvec_qkv" if self.projections.qkv else "", self.positions.runs(),
                 "attention" if self.attention else "", prefix + "matvec" if self.projections.matvec else ""]
        return ", ".join(part for part in parts if part)

    def many_rows(self) -> str:
        return ", ".join(part for part in (self.positions.runs(), "attention" if self.attention else "") if part)

    def serves(self, m: Any, x: mx.array, cache: Any) -> bool:
        rows = rows_of(x)
        return (x.ndim == 3 and 0 < rows and (rows <= ROWS or self.prompts) and x.dtype == self.dtype and self.reads(cache)
                and self.projections.holds(m, self.names) and self.positions.holds(m))

    def reads(self, cache: Any) -> bool:
        """Whether attention can read what the cache holds."""
        if not hasattr(cache, "bits"):
            return True
        return (self.attention_quantized is not None and not self.what.sinks and cache.bits in CODES
                and cache.group_size in GROUPS)

    def run(self, m: Any, x: mx.array, mask: Any = None, cache: Any = None) -> Optional[mx.array]:
        return self.step(m, x, mask, cache, None, 1e-5, None) if self.serves(m, x, cache) else None

    def step(self, m: Any, x: mx.array, mask: Any, cache: Any, norm: Optional[mx.array], eps: float,
             residual: Optional[mx.array]) -> mx.array:
        batch, length, _ = x.shape
        few = batch * length <= ROWS
        if few and self.projections.qkv is not None:
            q, k, v = self.projections.call_qkv(m, x, norm, eps)
        else:
            if norm is not None:
                x = mx.fast.rms_norm(x, norm, eps)
            q, k, v = m["q_proj"](x), m["k_proj"](x), m["v_proj"](x)
        heads, kv_heads = getattr(m, self.what.heads or ""), getattr(m, self.what.kv_heads or "")
        (q, gate), k, v = self.queries(q, heads), by_head(k, kv_heads), by_head(v, kv_heads)
        q, k, v = self.append(m, q, k, v, mask, cache)
        if isinstance(k, mx.array):
            y = self.attend(m, q, k, v, mask)
        elif v is None:
            y = self.attend_pages(m, q, k, cache)
        else:
            y = self.attend_coded(m, q, k, v, mask, cache)
        if length > 1:
            y = y.transpose(0, 2, 1, 3)
        y = y.reshape(batch, length, -1)
        if gate is not None:
            y = y * mx.sigmoid(gate)
        result: mx.array = product(self.projections, m[self.what.out], y, residual) if few else m[self.what.out](y)
        return result

    def queries(self, q: mx.array, heads: int) -> tuple[mx.array, Optional[mx.array]]:
        """[B, heads, T, D] and a gate [B, T, heads D] of the result, if there is one."""
        return by_head(q, heads), None

    def append(self, m: Any, q: mx.array, k: mx.array, v: mx.array, mask: Any, cache: Any) -> tuple[Any, Any, Any]:
        """Rotated queries, and the keys and values that attention reads."""
        operator = self.appends.get(getattr(cache, "turned_by", ""))
        if operator is not None and self.may_read(cache, mask, q.shape[2]):
            arrays, numbers = self.positions.arguments(m, q, cache.offset)
            turned: Optional[tuple[Any, Any, Any]] = cache.append_turned(operator, q, k, v, arrays, numbers)
            if turned is not None:
                return turned
        q, k = self.positions(m, q, k, 0 if cache is None else cache.offset)
        if cache is not None:
            k, v = cache.update_and_fetch(k, v)
        return q, k, v

    def may_read(self, cache: Any, mask: Any, count: int) -> bool:
        """Whether attention can read what append_turned leaves in a cache."""
        if not hasattr(cache, "hides_by_itself"):
            return True
        over_pages = self.attention_paged_quantized if hasattr(cache, "bits") else self.attention_paged
        return over_pages is not None and not self.what.sinks and bool(cache.hides_by_itself(mask, count))

    def attend(self, m: Any, q: mx.array, k: mx.array, v: mx.array, mask: Any) -> mx.array:
        scale = getattr(m, self.what.scale)
        sinks = m["sinks"] if self.what.sinks else None
        result: mx.array
        if self.attention is not None:
            causal = isinstance(mask, str)
            result = self.attention(q, k, v, None if causal else mask, sinks, None, scale=scale, causal=int(causal),
                                    window=0)
        else:
            result = mx.fast.scaled_dot_product_attention(q, k, v, scale=scale, mask=mask, sinks=sinks)
        return result

    def attend_pages(self, m: Any, q: mx.array, pages: Any, cache: Any) -> mx.array:
        scale = getattr(m, self.what.scale)
        result: mx.array
        if hasattr(cache, "bits"):
            result = self.attention_paged_quantized(q, *pages.keys, *pages.values, *pages[2:], scale=scale,
                                                    bits=cache.bits, group_size=cache.group_size)
        else:
            result = self.attention_paged(q, *pages, scale=scale)
        return result

    def attend_coded(self, m: Any, q: mx.array, k: Any, v: Any, mask: Any, cache: Any) -> mx.array:
        """Over keys and values that are codes, scales and biases; masks of such caches are bool."""
        causal = isinstance(mask, str)
        result: mx.array = self.attention_quantized(
            q, *k, *v, None if causal else mask, scale=getattr(m, self.what.scale), causal=int(causal), bits=cache.bits,
            group_size=cache.group_size)
        return result


@dataclass(frozen=True)
class ExpertStep:
    """A mixture of experts as a step of decoding takes it."""

    names: dict[str, str]  # router, experts, top, gate, up, down
    products: frozenset[Any]  # classes of the router's product
    classes: tuple[Any, ...]  # of the experts and their products
    activation: int
    scoring: int


def decode_step(ops: Operators, block: Block, attention: Optional[AttentionCall], mlp: Optional[MlpCall],
                experts: Optional[ExpertStep]) -> Optional[Any]:
    """The whole layer as one call, which saves two thirds of Python's time, if all of its parts are ours."""
    if type(attention) is not AttentionCall:  # those that derive from it compute something else
        return None
    if not ops.are_own("kv_append", "qk_norm_rope", "qk_norm_rope_append", "attention"):
        return None
    whole = attention.takes_norm and attention.adds_residual and attention.attention and attention.positions.fused
    own, rope = attention.what, attention.what.rope
    if own.heads is None or own.kv_heads is None:
        return None
    if not whole or own.sinks or rope is None or block.norm.plus_one or (own.norm and own.norm.plus_one):
        return None
    names = {"attention": block.attention, "attention_norm": block.attention_norm, "mlp": block.mlp,
             "mlp_norm": block.mlp_norm, "out": own.out, "heads": own.heads, "kv_heads": own.kv_heads,
             "scale": own.scale}
    if own.norms:
        names.update(q_norm=own.norms[0], k_norm=own.norms[1])
    norms = {block.norm.cls} | ({own.norm.cls} if own.norm else set())

    def made(linear: frozenset[Any], activation: int, *of_experts: Any) -> Any:
        return _core.DecodeStep(names, tuple(own.product.classes | linear), tuple(norms), (rope.cls,), plain_caches(),
                                own.product.quantized, activation, rope.has_freqs, *of_experts)

    if mlp is not None:
        if not (mlp.takes_norm and mlp.adds_residual) or own.product.quantized != mlp.what.product.quantized:
            return None
        names.update(gate=mlp.what.gate, up=mlp.what.up, down=mlp.what.down)
        return made(mlp.what.product.classes, mlp.what.activation)
    if experts is None or not ops.are_own("rmsnorm", "rmsnorm_residual", "matvec", "qmatvec", "router", "expert_combine",
                                          "gather_qmatvec", "gather_qmatvec_gate_up"):
        return None
    names.update(experts.names)
    return made(experts.products, experts.activation, experts.classes, experts.scoring)


def plain_caches() -> tuple[type, ...]:
    """The classes of caches that are arrays with room at their end."""
    if "mlx_lm.models" not in sys.modules:  # the model is of another package
        return ()
    cls: type = import_module("mlx_lm.models.cache").KVCache
    own: type = import_module("mlx_kd.cache").ContiguousCache
    return (cls, own)


class BlockCall(Shared):
    """h = x + attention(norm(x)); h + mlp(norm(h)), with norms and sums inside the products where they can be."""

    kind, method = "block", "__call__"

    def __init__(self, ops: Operators, block: Block, attention: Optional[AttentionCall], mlp: Optional[MlpCall],
                 dtype: mx.Dtype, experts: Optional[ExpertStep] = None) -> None:
        self.block, self.dtype = block, dtype
        self.attention = attention if attention and (attention.takes_norm or attention.adds_residual) else None
        self.mlp = mlp if mlp and mlp.takes_norm else None
        self.rmsnorm_residual = ops.rmsnorm_residual
        self.decode = decode_step(ops, block, self.attention, self.mlp, experts)

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
        if self.decode is not None and mask is None and x.dtype == self.dtype and 0 < x.size <= ROWS * x.shape[-1]:
            y: Optional[mx.array] = self.decode(m, x, cache)
            if y is not None:
                return y
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
