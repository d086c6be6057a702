"""Mixtures of experts: their products, gated layers of them, and blocks with the router."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Optional, Union

import mlx.core as mx

from mlx_kd.patching.calls.layers import ExpertStep
from mlx_kd.patching.calls.products import Shared, rows_of
from mlx_kd.patching.operators import Operators
from mlx_kd.patching.structure import (
    ARRAY_NAMES, ROWS, Mlp, Product, Unknown, activation_of, code_of, first_of, mlp_of, nn, not_understood,
    original_class, output_size, product_of)

PARTS = ("gate_proj", "up_proj", "down_proj")
LINEAR_NAMES = frozenset({"mx", "gather_qmm", "get", "bits", "group_size", "mode", "global_scale", "expand_dims"})
GLU_NAMES = ARRAY_NAMES | frozenset(PARTS) | {"mx", "expand_dims", "stop_gradient", "_gather_sort", "activation",
                                              "_scatter_unsort", "squeeze", "flatten"}
SHARDING = frozenset({"sharding_group", "sum_gradients", "distributed", "all_sum"})
BLOCK_NAMES = ARRAY_NAMES | SHARDING | {
    "mx", "softmax", "argpartition", "mlx_topk", "stop_gradient", "take_along_axis", "top_k", "num_experts_per_tok",
    "norm_topk_prob", "sum", "astype", "expand_dims", "sigmoid", "config", "n_shared_experts"}
CHOICE_NAMES = frozenset({"group_expert_select", "weight", "T", "e_score_correction_bias", "top_k", "n_group",
                          "topk_group", "routed_scaling_factor", "norm_topk_prob"})


@dataclass(frozen=True)
class Experts:
    activation: int  # 0: silu, 2: that of gpt-oss
    classes: frozenset[Any]  # of the three products


@dataclass(frozen=True)
class ExpertBlock:
    router: str  # children
    experts: str
    shared: Optional[str]  # for all tokens
    shared_gate: Optional[str]
    top: Optional[str]  # an attribute; None: the router is a layer that chooses
    scoring: int  # 0: a softmax of all, 2: of the chosen
    experts_class: Any


def is_expert_product(module: Any) -> bool:
    """Quantised weights of all experts, used through mx.gather_qmm."""
    if not isinstance(module, nn.Module) or "scales" not in module or module["scales"].ndim != 3:
        return False
    code = code_of(module)
    return (code is not None and code.arguments == ("self", "x", "indices", "sorted_indices")
            and "gather_qmm" in code.names and not not_understood(code, LINEAR_NAMES))


def gate_of(module: Any) -> Union[int, Unknown]:
    """Of an activation of two arguments, up first."""
    code = code_of(module)
    if code is not None and code.arguments == ("self", "x", "gate"):
        if activation_of(code) == 0 and len(code.names) == 1:
            return 0
        if code.names == ("swiglu_oai", "_alpha", "_limit") and (module._alpha, module._limit) == (1.702, 7.0):
            return 2
    return Unknown(f"its activation {type(module).__name__} is neither SwiGLU nor gpt-oss's with its usual numbers")


def experts_of(module: Any) -> Union[Experts, Unknown, None]:
    if not all(isinstance(module.get(name), nn.Module) for name in (*PARTS, "activation")):
        return None
    code = code_of(module)
    if code is None or code.arguments != ("self", "x", "indices"):
        return None
    if odd := not_understood(code, GLU_NAMES):
        return Unknown(f"its code names {odd}")
    for name in PARTS:
        if not is_expert_product(module[name]):
            return Unknown(f"{name} is not a quantised layer of experts")
    activation = gate_of(module["activation"])
    if isinstance(activation, Unknown):
        return activation
    return Experts(activation, frozenset(original_class(module[name]) for name in PARTS))


def is_choice(module: Any) -> bool:
    """Sigmoids of a product, with a correction and groups, and a choice of the largest."""
    code = code_of(module)
    return code is not None and code.arguments == ("self", "x") and frozenset(code.names) == CHOICE_NAMES \
        and all(isinstance(module.get(name), mx.array) for name in ("weight", "e_score_correction_bias"))


def expert_block_of(module: Any) -> Union[ExpertBlock, Unknown, None]:
    children = [name for name, value in module.items() if isinstance(value, nn.Module)]
    experts = [name for name in children if isinstance(experts_of(module[name]), Experts)]
    code, others = code_of(module), [name for name in children if name not in experts]
    if len(experts) != 1 or not others:
        return None
    if code is None or code.arguments != ("self", "x"):
        return Unknown("its __call__ does not take x alone")
    if odd := not_understood(code, BLOCK_NAMES | set(children)):
        return Unknown(f"its code names {odd}")
    shared = next((name for name in others if isinstance(mlp_of(module[name]), Mlp)), None)
    gate = next((name for name in others if shared and is_number(module[name]) and "sigmoid" in code.names), None)
    routers = [name for name in others if name not in (shared, gate)]
    if len(routers) != 1:
        return Unknown(f"its parts {', '.join(routers)} are not a router alone")
    cls, router = original_class(module[experts[0]]), routers[0]
    if is_choice(module[router]):
        return ExpertBlock(router, experts[0], shared, gate, None, 1, cls)
    top = first_of(module, ("top_k", "num_experts_per_tok"))
    chooses = next((name for name in ("argpartition", "mlx_topk") if name in code.names), None)
    if top is None or chooses is None or "softmax" not in code.names:
        return Unknown("its router is not a softmax and a choice of the largest")
    of_chosen = code.names.index("softmax") > code.names.index(chooses)
    return ExpertBlock(router, experts[0], shared, gate, top, 2 if of_chosen else 0, cls)


def expert_step_of(module: Any) -> Optional[ExpertStep]:
    """Of a block of experts whose router is a product and a choice, without an expert for all tokens."""
    block = expert_block_of(module)
    if not isinstance(block, ExpertBlock) or block.top is None or block.shared is not None:
        return None
    router, experts = product_of(module[block.router]), experts_of(module[block.experts])
    if not isinstance(router, Product) or not isinstance(experts, Experts):
        return None
    names = dict(zip(("gate", "up", "down"), PARTS), router=block.router, experts=block.experts, top=block.top)
    return ExpertStep(names, frozenset(router.classes), (block.experts_class, *experts.classes), experts.activation,
                      block.scoring)


def is_number(module: Any) -> bool:
    """A linear layer with one output."""
    return isinstance(product_of(module), Product) and output_size(module) == 1


def holds(module: Any, classes: frozenset[Any]) -> bool:
    """Whether a product of experts is still one that an operator takes."""
    return original_class(module) in classes and module.get("global_scale") is None \
        and module.__dict__.get("global_scale") is None


def inputs_of(module: Any, dtype: mx.Dtype, rows: int, experts: int, width: int) -> tuple[mx.array, mx.array]:
    """Of a proof: x, and two experts of each row."""
    from mlx_kd.patching.samples import random

    first = mx.arange(rows, dtype=mx.uint32) % experts
    ids = mx.stack([first, (first + 1) % experts], -1)[None].astype(mx.uint32)
    return random((1, rows, width), dtype), ids


def width_of(product: Any) -> int:
    return int(product["scales"].shape[-1]) * int(product.group_size)


class ExpertProduct(Shared):
    """The product of chosen experts."""

    kind, method = "product of experts", "__call__"

    def __init__(self, ops: Operators, module: Any, dtype: mx.Dtype) -> None:
        self.classes, self.dtype = frozenset({original_class(module)}), dtype
        self.matvec = ops.gather_qmatvec

    def missing(self) -> str:
        return "" if self.matvec else self.runs()

    def runs(self) -> str:
        return "gather_qmatvec"

    def inputs(self, m: Any, dtype: mx.Dtype, rows: int) -> tuple[mx.array, dict[str, Any]]:
        x, ids = inputs_of(m, dtype, rows, m["weight"].shape[0], width_of(m))
        return mx.expand_dims(x, (-2, -3)), {"indices": ids}

    def run(self, m: Any, x: mx.array, indices: mx.array, sorted_indices: bool = False) -> Optional[mx.array]:
        """x [..., 1 or A, 1, K], as mx.gather_qmm has it."""
        if (sorted_indices or x.ndim != indices.ndim + 2 or x.shape[-2] != 1 or not 0 < indices.size or x.size == 0
                or x.dtype != self.dtype or not holds(m, self.classes)):
            return None
        return mx.expand_dims(product(self.matvec, m, x.squeeze(-2), indices), -2)


def product(matvec: Any, m: Any, x: mx.array, ids: mx.array) -> mx.array:
    result: mx.array = matvec(x, ids, m["weight"], m["scales"], m.get("biases"), m.get("bias"))
    return result


class ExpertsCall(Shared):
    """Gate, up and down of chosen experts in two calls."""

    kind, method = "experts", "__call__"

    def __init__(self, ops: Operators, experts: Experts, dtype: mx.Dtype) -> None:
        self.what, self.dtype = experts, dtype
        self.gate_up, self.matvec = ops.gather_qmatvec_gate_up, ops.gather_qmatvec

    def missing(self) -> str:
        return "" if self.gate_up and self.matvec else self.runs()

    def runs(self) -> str:
        return "gather_qmatvec_gate_up, gather_qmatvec"

    def inputs(self, m: Any, dtype: mx.Dtype, rows: int) -> tuple[mx.array, dict[str, Any]]:
        gate = m["gate_proj"]
        x, ids = inputs_of(m, dtype, rows, gate["weight"].shape[0], width_of(gate))
        return x, {"indices": ids}

    def serves(self, m: Any, x: mx.array) -> bool:
        gate, up = m["gate_proj"], m["up_proj"]
        return (0 < rows_of(x) and x.dtype == self.dtype
                and all(holds(m[name], self.what.classes) for name in PARTS)
                and (gate.bits, gate.group_size, gate.mode, "bias" in gate) ==
                (up.bits, up.group_size, up.mode, "bias" in up))

    def run(self, m: Any, x: mx.array, indices: mx.array) -> Optional[mx.array]:
        if not self.serves(m, x) or indices.size == 0 or indices.ndim != x.ndim:
            return None
        gate, up = m["gate_proj"], m["up_proj"]
        ids = indices if indices.dtype == mx.uint32 else indices.astype(mx.uint32)
        h = self.gate_up(mx.expand_dims(x, -2), ids, gate["weight"], gate["scales"], gate.get("biases"), up["weight"],
                         up["scales"], up.get("biases"), gate.get("bias"), up.get("bias"),
                         activation=self.what.activation)
        return product(self.matvec, m["down_proj"], h, ids)


class ChoiceCall(Shared):
    """The router of DeepSeek's kind: a layer that gives ids and weights."""

    kind, method = "router", "__call__"

    def __init__(self, ops: Operators, dtype: mx.Dtype) -> None:
        self.dtype, self.router, self.matvec, self.gemm = dtype, ops.router, ops.matvec, ops.gemm

    def missing(self) -> str:
        return "" if self.router and self.matvec else self.runs()

    def runs(self) -> str:
        return "matvec, router"

    def inputs(self, m: Any, dtype: mx.Dtype, rows: int) -> tuple[mx.array, dict[str, Any]]:
        return inputs_of(m, dtype, rows, 2, m["weight"].shape[-1])[0], {}

    def compared(self, result: tuple[mx.array, mx.array], m: Any) -> mx.array:
        """The weights by expert: in which order they come does not matter."""
        ids, weights = result
        dense = mx.zeros((*ids.shape[:-1], m["weight"].shape[0]), mx.float32)
        return mx.put_along_axis(dense, ids.astype(mx.uint32), weights.astype(mx.float32), -1)

    def run(self, m: Any, x: mx.array) -> Optional[tuple[mx.array, mx.array]]:
        product = self.matvec if rows_of(x) <= ROWS else self.gemm
        if m.training or product is None or x.dtype != self.dtype or m["weight"].dtype != self.dtype or not x.size:
            return None
        normalise, groups = int(m.norm_topk_prob and m.top_k > 1), int(m.n_group or 1)
        logits, correction = product(x, m["weight"], None, None, None), m["e_score_correction_bias"].astype(mx.float32)
        ids, weights = self.router(
            logits, correction, m.routed_scaling_factor, top=m.top_k, scoring=1, normalise=normalise, groups=groups,
            top_groups=int(m.topk_group) if groups > 1 else 1, group_best=2 if groups > 1 else 1)
        return ids, weights


class ExpertBlockCall(Shared):
    """The router, the experts, and their sum. The parts run as they are, or by plans of their own."""

    kind, method = "block of experts", "__call__"

    def __init__(self, ops: Operators, block: ExpertBlock, dtype: mx.Dtype) -> None:
        self.what, self.dtype = block, dtype
        self.router, self.combine = ops.router, ops.expert_combine

    def missing(self) -> str:
        return "" if self.router and self.combine else self.runs()

    def runs(self) -> str:
        return "router, expert_combine" if self.what.top else "expert_combine"

    def inputs(self, m: Any, dtype: mx.Dtype, rows: int) -> tuple[mx.array, dict[str, Any]]:
        gate = m[self.what.experts]["gate_proj"]
        return inputs_of(m, dtype, rows, 2, width_of(gate))[0], {}

    def run(self, m: Any, x: mx.array) -> Optional[mx.array]:
        what = self.what
        if m.training and what.top is not None:  # a router has no gradient
            return None
        if not rows_of(x) or x.dtype != self.dtype or m.__dict__.get("sharding_group") is not None \
                or original_class(m[what.experts]) is not what.experts_class:
            return None
        ids, weights = self.choose(m, x)
        wide = weights.dtype != x.dtype
        result: mx.array = self.combine(m[what.experts](x, ids), weights, wide=int(wide))
        if what.shared is None:
            return result
        shared: mx.array = m[what.shared](x)
        return result + (shared if what.shared_gate is None else mx.sigmoid(m[what.shared_gate](x)) * shared)

    def choose(self, m: Any, x: mx.array) -> tuple[mx.array, mx.array]:
        what = self.what
        chosen: tuple[mx.array, mx.array] = m[what.router](x)
        if what.top is None:
            return chosen
        normalise = what.scoring == 2 or bool(m.__dict__.get("norm_topk_prob", False))
        ids, weights = self.router(chosen, None, top=m.__dict__[what.top], scoring=what.scoring,
                                   normalise=int(normalise))
        return ids, weights


ExpertPlan = Union[ExpertProduct, ExpertsCall, ChoiceCall, ExpertBlockCall]


def expert_plan_of(module: Any, ops: Operators, dtype: mx.Dtype) -> Union[ExpertPlan, Unknown, None]:
    """Of a module that is a part of a mixture of experts; ``None`` for all others."""
    if is_expert_product(module):
        return ExpertProduct(ops, module, dtype)
    if is_choice(module):
        return ChoiceCall(ops, dtype)
    experts = experts_of(module)
    if experts is not None:
        return experts if isinstance(experts, Unknown) else ExpertsCall(ops, experts, dtype)
    block = expert_block_of(module)
    if block is not None:
        return block if isinstance(block, Unknown) else ExpertBlockCall(ops, block, dtype)
    return None
