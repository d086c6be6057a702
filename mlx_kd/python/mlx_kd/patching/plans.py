"""From a module to its plan: what runs in place of its ``__call__``."""
from __future__ import annotations

from typing import Any, Union

import mlx.core as mx

from mlx_kd.patching.calls.convolutions import TapsCall, taps_plan_of
from mlx_kd.patching.calls.delta import DeltaCall, GatedAttentionCall, GatedNormCall, delta_of, is_gated_norm
from mlx_kd.patching.calls.embeddings import Embedding, EmbeddingRows, head_plan_of
from mlx_kd.patching.calls.experts import ExpertPlan, expert_plan_of, expert_step_of
from mlx_kd.patching.calls.latent import HeadProduct, LatentCall, heads_of, latent_of
from mlx_kd.patching.calls.layers import AttentionCall, BlockCall, MlpCall
from mlx_kd.patching.calls.positions import NormCall, RopeCall
from mlx_kd.patching.calls.post_norms import PostNormBlockCall, post_norm_block_of
from mlx_kd.patching.calls.products import Linear
from mlx_kd.patching.operators import Operators
from mlx_kd.patching.structure import (
    Mlp, Product, Unknown, attention_of, block_of, mlp_of, norm_of, original_class, product_of, rope_of)

AttentionPlan = Union[AttentionCall, LatentCall]
BlockPlan = Union[BlockCall, PostNormBlockCall]
Plan = Union[Linear, HeadProduct, NormCall, GatedNormCall, RopeCall, MlpCall, AttentionPlan, DeltaCall, BlockPlan,
             ExpertPlan, EmbeddingRows, TapsCall]
Installed = Union[Plan, Embedding]


def plan_of(module: Any, ops: Operators, dtype: mx.Dtype) -> Union[Plan, Unknown, None]:
    """What could run in place of a module, or why nothing can; ``None`` for a module of no known kind."""
    experts = expert_plan_of(module, ops, dtype)
    if experts is not None:
        return experts
    mlp = mlp_of(module)
    if mlp is not None:
        return mlp if isinstance(mlp, Unknown) else MlpCall(ops, mlp, dtype)
    attention = attention_plan(module, ops, dtype)
    if attention is not None:
        return attention
    if delta := delta_of(module):
        return DeltaCall(ops, delta, original_class(module).__call__)
    return block_plan(module, ops, dtype) or simple_plan(module, ops, dtype)


def attention_plan(module: Any, ops: Operators, dtype: mx.Dtype) -> Union[AttentionPlan, Unknown, None]:
    latent = latent_of(module)
    if latent is not None:
        return latent if isinstance(latent, Unknown) else LatentCall(ops, latent, dtype)
    found = attention_of(module)
    if found is None or isinstance(found, Unknown):
        return found
    return GatedAttentionCall(ops, found, dtype) if found.gated else AttentionCall(ops, found, dtype)


def block_plan(module: Any, ops: Operators, dtype: mx.Dtype) -> Union[BlockPlan, Unknown, None]:
    around = post_norm_block_of(module)
    if around is not None:
        if isinstance(around, Unknown):
            return around
        inside, mlp = attention_plan(module[around.attention], ops, dtype), mlp_of(module[around.mlp])
        if not isinstance(inside, AttentionCall) or not isinstance(mlp, Mlp):
            return Unknown("its attention is not of a known kind")
        return PostNormBlockCall(ops, around, inside, MlpCall(ops, mlp, dtype), dtype)
    block = block_of(module)
    if block is None or isinstance(block, Unknown):
        return block
    mlp = mlp_of(module[block.mlp])
    attention: Any = attention_plan(module[block.attention], ops, dtype)  # LatentCall has AttentionCall's step
    if not isinstance(attention, (AttentionCall, LatentCall)):
        attention = None
    return BlockCall(ops, block, attention, MlpCall(ops, mlp, dtype) if isinstance(mlp, Mlp) else None, dtype,
                     expert_step_of(module[block.mlp]))


def simple_plan(module: Any, ops: Operators, dtype: mx.Dtype) -> Union[Plan, Unknown, None]:
    if heads := heads_of(module):
        return HeadProduct(ops, heads, dtype)
    if is_gated_norm(module):
        return GatedNormCall(ops)
    if norm := norm_of(module):
        return NormCall(ops, norm)
    if rope := rope_of(module):
        return RopeCall(ops, rope)
    if head := head_plan_of(module, ops):
        return head
    if taps := taps_plan_of(module):
        return taps
    product = product_of(module)
    if isinstance(product, Product):
        return Linear(ops, product)
    return product if "Sharded" in type(module).__name__ else None
