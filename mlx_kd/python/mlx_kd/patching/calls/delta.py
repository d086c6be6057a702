"""Layers of Qwen3-Next's kind: the gated delta rule, norms with a gate after them, attention with a gate."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import FunctionType
from typing import Any, Optional, Union

import mlx.core as mx

from mlx_kd.patching.calls.layers import AttentionCall
from mlx_kd.patching.calls.products import Shared
from mlx_kd.patching.operators import Operators
from mlx_kd.patching.structure import Norm, Unknown, code_of, input_size, nn, original_class, product_of

DELTA_MODULE = "mlx_lm.models.gated_delta"
GATED_NORM_NAMES = ("mx", "fast", "rms_norm", "weight", "eps", "precise_swiglu", "astype", "dtype")


# The gated delta rule.

@dataclass(frozen=True)
class Delta:
    products: tuple[str, ...]  # children
    function: Any              # of mlx-lm, that the layer's code names
    key_heads: int
    key_width: int
    value_heads: int
    value_width: int


def delta_of(module: Any) -> Union[Delta, None]:
    """A layer whose code calls mlx-lm's gated_delta_update."""
    code = code_of(module)
    function = code.globals.get("gated_delta_update") if code and "gated_delta_update" in code.names else None
    if code is None or getattr(function, "__module__", "") != DELTA_MODULE or code.arguments != (
            "self", "inputs", "mask", "cache"):
        return None
    products = tuple(name for name, child in module.items()
                     if isinstance(child, nn.Module) and not isinstance(product_of(child), Unknown))
    numbers = [module.__dict__.get(name) for name in ("num_k_heads", "head_k_dim", "num_v_heads", "head_v_dim")]
    if not products or not all(isinstance(number, int) for number in numbers) or "conv1d" not in module:
        return None
    return Delta(products, function, *numbers)


def as_one_call(original: Callable[..., Any]) -> Callable[..., Any]:
    """gated_delta_update of mlx-lm by MLX's own operator of the rule, in place of one step of operations per token."""
    names = original.__globals__

    def gated_delta_update(q: mx.array, k: mx.array, v: mx.array, a: mx.array, b: mx.array, A_log: mx.array,
                           dt_bias: mx.array, state: Optional[mx.array] = None, mask: Optional[mx.array] = None,
                           **others: Any) -> tuple[mx.array, mx.array]:
        other_rule = others.get("lower_bound") is not None or others.get("allow_neg_eigval")
        if other_rule or mask is not None or not others.get("use_kernel", True):  # the last: it is being trained
            result: tuple[mx.array, mx.array] = original(q, k, v, a, b, A_log, dt_bias, state, mask, **others)
            return result
        y, state = mx.fast.gated_delta_update(q, k, v, names["compute_g"](A_log, a, dt_bias), mx.sigmoid(b), state)
        return y, state

    return gated_delta_update


class DeltaCall(Shared):
    """The layer's own code, in which one name means something else: other layers of the class keep theirs."""

    kind, method = "gated delta rule", "__call__"

    def __init__(self, ops: Operators, delta: Delta, code: Any) -> None:
        self.what, self.products = delta, delta.products
        own = {**code.__globals__, "gated_delta_update": as_one_call(delta.function)}
        self.call = FunctionType(code.__code__, own, code.__name__, code.__defaults__, code.__closure__)

    def missing(self) -> str:
        return ""

    def runs(self) -> str:
        return "mx.fast.gated_delta_update"

    def inputs(self, m: Any, dtype: mx.Dtype, rows: int) -> tuple[mx.array, dict[str, Any]]:
        from mlx_kd.patching.samples import random

        return random((1, rows, input_size(m[self.products[0]])), dtype), {"mask": None}

    def state(self, m: Any, dtype: mx.Dtype) -> tuple[mx.array, mx.array]:
        """Of a cache: the last inputs of the convolution, and the state of the rule."""
        from mlx_kd.patching.samples import random

        what, conv = self.what, m["conv1d"]["weight"].shape
        return (random((1, conv[1] - 1, conv[0]), dtype),
                0.1 * random((1, what.value_heads, what.value_width, what.key_width), mx.float32))

    def run(self, m: Any, inputs: mx.array, mask: Optional[mx.array] = None, cache: Any = None) -> Optional[mx.array]:
        result: mx.array = self.call(m, inputs, mask, cache)
        return result


# A norm, then a gate.

def is_gated_norm(module: Any) -> bool:
    code = code_of(module)
    return code is not None and code.names == GATED_NORM_NAMES and code.arguments == ("self", "hidden_states", "gate") \
        and isinstance(module.get("weight"), mx.array)


class GatedNormCall(Shared):
    kind, method = "norm", "__call__"

    def __init__(self, ops: Operators) -> None:
        self.rmsnorm, self.precise_swiglu = ops.rmsnorm, ops.precise_swiglu

    def missing(self) -> str:
        return "" if self.rmsnorm and self.precise_swiglu else self.runs()

    def runs(self) -> str:
        return "rmsnorm, precise_swiglu"

    def inputs(self, m: Any, dtype: mx.Dtype, rows: int) -> tuple[mx.array, dict[str, Any]]:
        from mlx_kd.patching.samples import random

        shape = (1, rows, 8, m["weight"].shape[0])
        return random(shape, dtype), {"gate": random(shape, dtype)}

    def run(self, m: Any, hidden_states: mx.array, gate: Optional[mx.array] = None) -> Optional[mx.array]:
        if gate is None or gate.dtype != hidden_states.dtype:
            return None
        result: mx.array = self.precise_swiglu(gate, self.rmsnorm(hidden_states, m["weight"], eps=m.eps))
        return result


# Attention with a gate.

class GatedAttentionCall(AttentionCall):
    """q_proj gives queries and, next to those of each head, a gate whose sigmoid multiplies the result."""

    def again(self, ops: Operators) -> GatedAttentionCall:
        return GatedAttentionCall(ops, self.what, self.dtype)

    def queries(self, q: mx.array, heads: int) -> tuple[mx.array, Optional[mx.array]]:
        batch, length, _ = q.shape
        q, gate = mx.split(q.reshape(batch, length, heads, -1), 2, -1)
        return q.transpose(0, 2, 1, 3), gate.reshape(batch, length, -1)
