"""From a module to its plan: what runs in place of its ``__call__``."""
from __future__ import annotations

from typing import Any, Union

import mlx.core as mx

from mlx_kd.patching.experts import ExpertPlan, expert_plan_of
from mlx_kd.patching.layers import AttentionCall, BlockCall, MlpCall
from mlx_kd.patching.operators import Operators
from mlx_kd.patching.positions import NormCall, RopeCall
from mlx_kd.patching.products import Linear, TiedHead
from mlx_kd.patching.structure import (
    Attention, Block, Mlp, Product, Unknown, attention_of, block_of, has_call_of, mlp_of, nn, norm_of, original_class,
    product_of, rope_of)

Plan = Union[Linear, NormCall, RopeCall, MlpCall, AttentionCall, BlockCall, ExpertPlan]


def plan_of(module: Any, ops: Operators, dtype: mx.Dtype) -> Union[Plan, Unknown, None]:
    """What could run in place of a module, or why nothing can; ``None`` for a module of no known kind."""
    experts = expert_plan_of(module, ops, dtype)
    if experts is not None:
        return experts
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
