"""Blocks of Gemma's kind: a norm before and another after each of attention and feed-forward, inside the sum."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Optional, Union

import mlx.core as mx

from mlx_kd.patching.calls.layers import AttentionCall, MlpCall
from mlx_kd.patching.calls.positions import norm_weight
from mlx_kd.patching.calls.products import Shared, is_of, rows_of
from mlx_kd.patching.operators import Operators
from mlx_kd.patching.structure import QKV, ROWS, Mlp, Norm, Unknown, child_names, code_of, mlp_of, norm_of

CLIPS = "clip_residual"  # of Gemma 3: a sum that is kept finite in float16


@dataclass(frozen=True)
class PostNormBlock:
    attention: str  # children
    mlp: str
    norms: tuple[str, str, str, str]  # before and after attention, before and after the feed-forward layer
    norm: Norm
    clips: bool


def post_norm_block_of(module: Any) -> Union[PostNormBlock, Unknown, None]:
    """h = x + norm(attention(norm(x))); h + norm(mlp(norm(h)))."""
    children = child_names(module)
    norms = [name for name in children if norm_of(module[name])]
    layers = [name for name in children if name not in norms]
    if len(norms) != 4 or len(layers) != 2:
        return None
    code = code_of(module)
    if code is None or code.arguments != ("self", "x", "mask", "cache"):
        return Unknown("its __call__ does not take x, mask and cache")
    attention = next((name for name in layers if all(part in module[name] for part in QKV)), None)
    mlp = next((name for name in layers if isinstance(mlp_of(module[name]), Mlp)), None)
    order = [name for name in code.names if name in children]
    if attention is None or mlp is None or len(order) != 6:
        return Unknown("its two layers are not attention and a feed-forward layer of known kinds")
    if odd := [name for name in code.names if name not in children and name != CLIPS]:
        return Unknown(f"its code names {', '.join(odd)}")
    at, then = order.index(attention), order.index(mlp)
    first, second = order[:3], order[3:]
    if attention not in first or mlp not in second or at == 2 or then == 5:
        return Unknown("its norms are not before and after each of its layers")
    before, between = order[at + 1], order[then + 1]  # a layer is called with its norm's result
    after, last = (next(name for name in part if name not in (attention, mlp, before, between)) for part in (first, second))
    kinds = {norm_of(module[name]) for name in norms}
    norm = kinds.pop()
    return Unknown("its norms differ") if kinds or norm is None else \
        PostNormBlock(attention, mlp, (before, after, between, last), norm, CLIPS in code.names)


class PostNormBlockCall(Shared):
    kind, method = "block", "__call__"

    def __init__(self, ops: Operators, block: PostNormBlock, attention: AttentionCall, mlp: MlpCall,
                 dtype: mx.Dtype) -> None:
        self.block, self.attention, self.mlp, self.dtype = block, attention, mlp, dtype
        self.rmsnorm: Any = ops.rmsnorm
        self.clipped = block.clips and dtype == mx.float16

    def missing(self) -> str:
        if not self.rmsnorm:
            return "rmsnorm"
        return "" if self.attention.takes_norm and self.mlp.takes_norm else "qmatvec_qkv, qmatvec_gate_up"

    def runs(self) -> str:
        return f"norm in {self.attention.runs()}, rmsnorm; norm in {self.mlp.runs()}, rmsnorm"

    def run(self, m: Any, x: mx.array, mask: Any = None, cache: Any = None) -> Optional[mx.array]:
        block = self.block
        if self.clipped or not (x.ndim == 3 and 0 < rows_of(x) <= ROWS and x.dtype == self.dtype):
            return None
        attention, mlp = m[block.attention], m[block.mlp]
        before, after, between, last = (m[name] for name in block.norms)
        if not all(is_of(norm, block.norm.cls) for norm in (before, after, between, last)) \
                or not self.attention.serves(attention, x, cache) or not self.mlp.serves(mlp, x):
            return None
        r = self.attention.step(attention, x, mask, cache, norm_weight(block.norm, before), before.eps, None)
        h = x + self.normed(after, r)
        r = self.mlp.step(mlp, h, norm_weight(block.norm, between), between.eps, None)
        return h + self.normed(last, r)

    def normed(self, norm: Any, x: mx.array) -> mx.array:
        result: mx.array = self.rmsnorm(x, norm_weight(self.block.norm, norm), eps=norm.eps)
        return result
