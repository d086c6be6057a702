"""Latent attention: products of each head, and the layer that is made of them.

A cache holds one latent row and one rotated key per position. In a step of few rows the queries are brought to the
latents (`embed_q`), so that no keys are made of the cache: one attention over [latent, rotated key], whose values are
the latents, and `unembed_out` after it. In a prompt keys and values of all heads are made once.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Optional, Union

import mlx.core as mx

from mlx_kd.patching.calls.layers import Layer, by_head
from mlx_kd.patching.calls.positions import norm_weight
from mlx_kd.patching.calls.products import Linear, Projections, Shared, product_with, rows_of
from mlx_kd.patching.operators import Operators
from mlx_kd.patching.structure import (
    ARRAY_NAMES, ROWS, Norm, Product, Unknown, code_of, is_mlx_attention, nn, norm_of, not_understood, original_class,
    product_of)

HEADS_QUANTIZED = frozenset({"mx", "quantized_matmul", "get", "group_size", "bits", "mode"})
HEADS_DENSE = frozenset({"weight", "swapaxes"})
LATENT_NAMES = ARRAY_NAMES | {
    "q_lora_rank", "q_proj", "q_b_proj", "q_a_layernorm", "q_a_proj", "num_heads", "q_head_dim", "mx", "split",
    "qk_nope_head_dim", "kv_a_proj_with_mqa", "kv_lora_rank", "qk_rope_head_dim", "kv_a_layernorm", "offset", "rope",
    "expand_dims", "update_and_fetch", "scale", "where", "array", "finfo", "min", "embed_q", "unembed_out",
    "scaled_dot_product_attention", "o_proj"}
LATENT_PARTS = ("kv_a_proj_with_mqa", "kv_a_layernorm", "embed_q", "unembed_out", "o_proj", "rope")


# Products of each head.

@dataclass(frozen=True)
class Heads:
    quantized: bool
    cls: Any


def heads_of(module: Any) -> Optional[Heads]:
    """x of each head times its own matrix: ``module(x, transpose=True)``."""
    weight, code = module.get("weight"), code_of(module)
    if not isinstance(weight, mx.array) or weight.ndim != 3 or code is None:
        return None
    if code.arguments != ("self", "x", "transpose"):
        return None
    for known, quantized in ((HEADS_QUANTIZED, True), (HEADS_DENSE, False)):
        if not not_understood(code, known) and ("scales" in module) == quantized:
            return Heads(quantized, original_class(module))
    return None


class HeadProduct(Shared):
    kind, method = "product of heads", "__call__"

    def __init__(self, ops: Operators, heads: Heads, dtype: mx.Dtype) -> None:
        self.what, self.dtype = heads, dtype
        self.all_heads = Linear(ops, Product(heads.quantized, frozenset()))
        self.own: Any = ops.gather_qmatvec if heads.quantized else ops.matvec
        self.gemm: Any = ops.gemm

    def missing(self) -> str:
        return "" if self.own else self.runs()

    def runs(self) -> str:
        return "gather_qmatvec" if self.what.quantized else "matvec"

    @property
    def rows_of_proof(self) -> tuple[int, ...]:
        """A row of each head; rows of one head; such rows the other way."""
        return (1, ROWS + 1, -ROWS - 1) if self.gemm is not None else (1, ROWS + 1)

    def inputs(self, m: Any, dtype: mx.Dtype, rows: int) -> tuple[mx.array, dict[str, Any]]:
        from mlx_kd.patching.samples import random

        heads, width = (m["weight"].shape[0] if rows == 1 else 1), input_size_of_heads(m)
        if rows < 0:
            return random((1, 1, -rows, m["weight"].shape[1]), dtype), {"transpose": False}
        return random((1, heads, rows, width), dtype), {}

    def run(self, m: Any, x: mx.array, transpose: bool = True) -> Optional[mx.array]:
        heads = m["weight"].shape[0]
        if x.ndim != 4 or x.dtype != self.dtype or not x.size:
            return None
        if not transpose:
            return self.back(m, x, heads) if x.shape[1] == 1 else None
        if x.shape[1] == 1 < heads:
            return self.of_one(m, x, heads)
        few = x.shape[1] == heads and x.shape[0] * x.shape[2] <= ROWS
        return self.of_each(m, x, heads) if few and self.own is not None else None

    def of_each(self, m: Any, x: mx.array, heads: int) -> mx.array:
        """[B, H, M, K] to [B, H, M, N]."""
        batch, _, rows, width = x.shape
        one = rows == 1
        x = x.reshape(batch, heads, width) if one else x.transpose(0, 2, 1, 3).reshape(batch * rows, heads, width)
        if self.what.quantized:
            ids = mx.broadcast_to(mx.arange(heads, dtype=mx.uint32), (x.shape[0], heads))
            y = self.own(x, ids, m["weight"], m["scales"], m.get("biases"), None)
        else:
            weight = m["weight"]
            y = mx.stack([self.own(x[:, head], weight[head], None, None, None) for head in range(heads)], 1)
        result: mx.array = y[:, :, None] if one else y.reshape(batch, rows, heads, -1).transpose(0, 2, 1, 3)
        return result

    def of_one(self, m: Any, x: mx.array, heads: int) -> Optional[mx.array]:
        """[B, 1, M, K], rows that all heads share, to [B, H, M, N]: one product with the rows of all matrices."""
        flat = {name: value.reshape(-1, value.shape[-1]) for name in ("weight", "scales", "biases")
                if (value := m.get(name)) is not None}
        return by_heads(self.all_heads.run(flat, x[:, 0]), heads)

    def back(self, m: Any, x: mx.array, heads: int) -> Optional[mx.array]:
        """[B, 1, M, N] to [B, H, M, K]: the other way, by matrices that are turned for this call."""
        if self.gemm is None:
            return None
        weight = m["weight"]
        if self.what.quantized:
            weight = mx.dequantize(weight, m["scales"], m.get("biases"), group_size=m.group_size, bits=m.bits,
                                   mode=m.mode)
        weight = weight.astype(x.dtype).swapaxes(-1, -2).reshape(-1, x.shape[-1])
        return by_heads(self.gemm(x[:, 0], weight, None, None, None), heads)


def input_size_of_heads(module: Any) -> int:
    width = int(module["weight"].shape[-1])
    return width * 32 // int(module.bits) if "scales" in module else width


def by_heads(y: Optional[mx.array], heads: int) -> Optional[mx.array]:
    return None if y is None else by_head(y, heads)


# The layer.

@dataclass(frozen=True)
class Latent:
    narrow: bool  # queries go through q_a_proj, a norm and q_b_proj
    product: Product
    norm: Norm


def latent_of(module: Any) -> Union[Latent, Unknown, None]:
    if not all(isinstance(module.get(name), nn.Module) for name in LATENT_PARTS):
        return None
    code = code_of(module)
    if code is None or code.arguments != ("self", "x", "mask", "cache"):
        return Unknown("its __call__ does not take x, mask and cache")
    if odd := not_understood(code, LATENT_NAMES):
        return Unknown(f"its code names {odd}")
    if not is_mlx_attention(code):
        return Unknown("its attention is not mx.fast.scaled_dot_product_attention")
    if any(heads_of(module[name]) is None for name in ("embed_q", "unembed_out")):
        return Unknown("embed_q or unembed_out is not a product of each head")
    narrow = "q_a_proj" in module
    found, classes = list[bool](), set[Any]()
    for name in product_names(narrow):
        product = product_of(module[name])
        if isinstance(product, Unknown):
            return Unknown(f"{name}: {product.why}")
        found.append(product.quantized)
        classes |= product.classes
    if len(set(found)) > 1:
        return Unknown("some of its products are quantised and some are not")
    norm = norm_of(module["kv_a_layernorm"])
    if norm is None or narrow and norm_of(module["q_a_layernorm"]) != norm:
        return Unknown("its norms are not rmsnorms of one kind")
    return Latent(narrow, Product(found[0], frozenset(classes)), norm)


def product_names(narrow: bool) -> tuple[str, ...]:
    return (*(("q_a_proj", "q_b_proj") if narrow else ("q_proj",)), "kv_a_proj_with_mqa", "o_proj")


class LatentCall(Layer):
    kind, method = "attention", "__call__"

    def __init__(self, ops: Operators, latent: Latent, dtype: mx.Dtype) -> None:
        self.what, self.dtype, self.names = latent, dtype, product_names(latent.narrow)
        self.stands = (*self.names, "embed_q", "unembed_out")
        self.projections = Projections(ops, latent.product)
        self.attention: Any = ops.attention

    def again(self, ops: Operators) -> LatentCall:
        return LatentCall(ops, self.what, self.dtype)

    def missing(self) -> str:
        return "" if self.attention else "attention"

    @property
    def takes_norm(self) -> bool:
        return self.adds_residual

    def runs(self) -> str:
        return f"{self.projections.prefix}matvec, attention" if self.takes_norm else "attention"

    def many_rows(self) -> str:
        return "attention"

    def serves(self, m: Any, x: mx.array, cache: Any) -> bool:
        rows = rows_of(x)
        return (x.ndim == 3 and 0 < rows and (rows <= ROWS or self.prompts) and x.dtype == self.dtype
                and not hasattr(cache, "bits")
                and all(original_class(m[name]) in self.projections.classes for name in self.names))

    def run(self, m: Any, x: mx.array, mask: Any = None, cache: Any = None) -> Optional[mx.array]:
        return self.step(m, x, mask, cache, None, 1e-5, None) if self.serves(m, x, cache) else None

    def step(self, m: Any, x: mx.array, mask: Any, cache: Any, norm: Optional[mx.array], eps: float,
             residual: Optional[mx.array]) -> mx.array:
        batch, length, _ = x.shape
        few = batch * length <= ROWS
        one = self.projections.one if few else None
        q = by_head(self.queries(m, x, one, norm, eps), m.num_heads)
        q, q_pe = mx.split(q, [m.qk_nope_head_dim], -1)
        latent, k_pe = mx.split(product_with(one, m["kv_a_proj_with_mqa"], x, norm, eps), [m.kv_lora_rank], -1)
        latent, k_pe = m["kv_a_layernorm"](latent)[:, None], k_pe[:, None]
        offset = 0 if cache is None else cache.offset
        q_pe, k_pe = m["rope"](q_pe, offset), m["rope"](k_pe, offset)
        if cache is not None:
            latent, k_pe = cache.update_and_fetch(latent, k_pe)
        y = self.few(m, q, q_pe, latent, k_pe, mask) if few else self.many(m, q, q_pe, latent, k_pe, mask)
        y = (y if length == 1 else y.transpose(0, 2, 1, 3)).reshape(batch, length, -1)
        return product_with(one, m["o_proj"], y, residual=residual)

    def queries(self, m: Any, x: mx.array, one: Optional[Linear], norm: Optional[mx.array], eps: float) -> mx.array:
        if not self.what.narrow:
            return product_with(one, m["q_proj"], x, norm, eps)
        x = product_with(one, m["q_a_proj"], x, norm, eps)
        between = m["q_a_layernorm"]
        if one is None or one.matvec is None:
            result: mx.array = m["q_b_proj"](between(x))
            return result
        return product_with(one, m["q_b_proj"], x, norm_weight(self.what.norm, between), between.eps)

    def few(self, m: Any, q: mx.array, q_pe: mx.array, latent: mx.array, k_pe: mx.array, mask: Any) -> mx.array:
        q = mx.concatenate([m["embed_q"](q), q_pe], -1)
        y = self.attend(m, q, mx.concatenate([latent, k_pe], -1), latent, mask)
        result: mx.array = m["unembed_out"](y)
        return result

    def many(self, m: Any, q: mx.array, q_pe: mx.array, latent: mx.array, k_pe: mx.array, mask: Any) -> mx.array:
        k, v = m["embed_q"](latent, transpose=False), m["unembed_out"](latent)
        k = mx.concatenate([k, mx.broadcast_to(k_pe, (*k.shape[:3], k_pe.shape[-1]))], -1)
        return self.attend(m, mx.concatenate([q, q_pe], -1), k, v, mask)

    def attend(self, m: Any, q: mx.array, k: mx.array, v: mx.array, mask: Any) -> mx.array:
        causal = isinstance(mask, str)
        result: mx.array = self.attention(q, k, v, None if causal else mask, None, None, scale=m.scale,
                                          causal=int(causal), window=0)
        return result

