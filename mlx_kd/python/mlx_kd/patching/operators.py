"""The operators that replacements call, looked up by name: a replacement is not made if this build lacks its operator."""
from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Optional

import mlx.core as mx

from mlx_kd import _core, _operators

KNOWN = ("attention", "attention_paged", "attention_paged_quantized", "attention_quantized", "expert_combine", "gather_qmatvec",
         "gather_qmatvec_gate_up", "geglu", "gemm", "kv_append", "kv_append_quantized", "matvec", "matvec_gate_up",
         "matvec_qkv", "precise_swiglu", "qembedding", "qgemm", "qk_norm_rope", "qk_norm_rope_append",
         "qk_norm_rope_append_paged", "qk_norm_rope_append_paged_quantized", "qk_norm_rope_append_quantized", "qmatvec", "qmatvec_gate_up", "qmatvec_qkv",
         "rmsnorm", "rmsnorm_residual", "rope_standard", "router", "swiglu")


class Operators:
    """Functions of :mod:`mlx_kd` by name; ``None`` for one that is absent or was not asked for."""

    def __init__(self, functions: dict[str, Callable[..., Any]]) -> None:
        self.functions = functions
        for name in KNOWN:  # attributes: a call of a patched module reads them
            setattr(self, name, functions.get(name))

    def __getattr__(self, name: str) -> Any:  # for type checkers: all names are set above
        raise AttributeError(name)

    def are_own(self, *names: str) -> bool:
        """Whether all are there, and are functions of the extension that no program has wrapped."""
        return all(isinstance(self.functions.get(name), type(_core.call)) for name in names)

    def recorded(self) -> Recorded:
        return Recorded(self.functions)


class Recorded(Operators):
    """The same functions; the first call of each keeps its arguments, so that it can be explained."""

    def __init__(self, functions: dict[str, Callable[..., Any]]) -> None:
        self.calls: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {}
        super().__init__({name: self._recording(name, function) for name, function in functions.items()})

    def _recording(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **numbers: Any) -> Any:
            self.calls.setdefault(name, (arguments, numbers))
            return function(*arguments, **numbers)
        call.__wrapped__ = function  # type: ignore[attr-defined]
        return call

    def without_kernel(self) -> str:
        """Which operator of the recorded calls would run MLX's form, and why; "" if a kernel runs all of them."""
        known = set(_core.op_names())
        for name, (arguments, numbers) in self.calls.items():
            if name not in known:
                continue
            given = list(arguments) + [None] * (array_count(self.functions[name]) - len(arguments))
            arrays = [a if a is not None else mx.array([], mx.float32) for a in given]
            if not all(isinstance(a, mx.array) for a in arrays):
                continue
            why = _core.explain(name, arrays, {key: float(value) for key, value in numbers.items()})
            if not why["pinned"] and not why["by_default"] and "default setting runs" not in why["reason"]:
                return f"no kernel runs {name}: {why['reason']}"
        return ""


def array_count(function: Any) -> int:
    """How many arrays an operator's function takes; 0 if that is not known."""
    signatures = getattr(getattr(function, "__wrapped__", function), "__nb_signature__", None)
    return str(signatures[0][0]).split("*", 1)[0].count(": mlx.core.array") if signatures else 0


def chosen(ops: Optional[Iterable[str]]) -> Operators:
    """Those named by the user, or all that replacements can use."""
    names = list(KNOWN if ops is None else [ops] if isinstance(ops, str) else ops)
    for name in names:
        if name not in KNOWN:
            raise ValueError(f"[patch] ops names {name!r}, which no replacement calls: use names of {', '.join(KNOWN)}")
    return Operators({name: getattr(_operators, name) for name in names if hasattr(_operators, name)})


def calls_by_operator() -> dict[str, dict[str, int]]:
    """Of this process so far: {operator: {"pinned": ..., "default": ...}}."""
    stats = _core.stats()
    counts: dict[str, dict[str, int]] = {}
    for group, key, number in (("pins", "pinned", "hits"), ("by_default", "default", "calls")):
        for one in stats[group]:
            of_op = counts.setdefault(one["op"], {"pinned": 0, "default": 0})
            of_op[key] += one[number]
    return counts
