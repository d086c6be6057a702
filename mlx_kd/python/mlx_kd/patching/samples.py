"""Copies of modules, and random input to run them on."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any, Optional

import mlx.core as mx

from mlx_kd.patching.experts import ExpertBlockCall, ExpertProduct, ExpertsCall
from mlx_kd.patching.layers import AttentionCall, BlockCall, MlpCall
from mlx_kd.patching.plans import Plan
from mlx_kd.patching.positions import NormCall, RopeCall
from mlx_kd.patching.structure import QKV, Unknown, attention_of, input_size, nn, original_class, output_size

CONTEXT = 37  # keys in the cache of a proof

Change = Callable[[mx.array], mx.array]


def unchanged(array: mx.array) -> mx.array:
    return array


def to_float32(array: mx.array) -> mx.array:
    return array.astype(mx.float32) if array.dtype in (mx.bfloat16, mx.float16) else array


def clone(module: Any, change: Change = unchanged) -> Any:
    """A module with the same code and arrays, in the classes that it had before a patch."""
    if isinstance(module, nn.Module):
        cls = original_class(module)
        twin = cls.__new__(cls)
        twin.__dict__.update({name: value for name, value in module.__dict__.items() if name != "_kd_plan"})
        for key, value in module.items():
            dict.__setitem__(twin, key, clone(value, change))
        return twin
    if isinstance(module, mx.array):
        return change(module)
    if isinstance(module, dict):
        return {key: clone(value, change) for key, value in module.items()}
    if isinstance(module, (list, tuple)):
        return type(module)(clone(value, change) for value in module)
    return module


def with_rows(linear: Any, begin: int, end: int) -> Any:
    """A linear layer or an embedding with a part of its output rows."""
    twin = clone(linear)
    for name in ("weight", "scales", "biases", "bias"):
        if isinstance(twin.get(name), mx.array):
            dict.__setitem__(twin, name, twin[name][begin:end])
    return twin


class Stand(nn.Module):  # type: ignore[misc]
    """In place of a linear layer: as many outputs, made of the input at little cost."""

    def __init__(self, linear: Any, dtype: mx.Dtype) -> None:
        super().__init__()
        self.factors = random((output_size(linear),), dtype)

    def __call__(self, x: mx.array) -> mx.array:
        size = self.factors.shape[0]
        times = -(-size // x.shape[-1])
        result: mx.array = mx.tile(x, [1] * (x.ndim - 1) + [times])[..., :size] * self.factors
        return result


def without_products(module: Any, names: tuple[str, ...], dtype: mx.Dtype) -> Any:
    """The module with stand-ins for its linear layers, so that the rest can be run and timed at many rows."""
    twin = clone(module)
    for name in names:
        dict.__setitem__(twin, name, Stand(module[name], dtype))
    return twin


class FilledCache:
    """What an attention layer needs of a cache that holds keys already."""

    def __init__(self, keys: mx.array, values: mx.array) -> None:
        self.keys, self.values, self.offset = keys, values, keys.shape[2]

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        self.offset += keys.shape[2]
        return mx.concatenate([self.keys, keys], 2), mx.concatenate([self.values, values], 2)


class Case:
    """Input of one proof; called with a module and a cast it runs the module on that input."""

    def __init__(self, plan: Plan, module: Any, dtype: mx.Dtype, rows: int) -> None:
        self.method = plan.method
        self.cache: Optional[tuple[mx.array, mx.array]] = None
        self.named: dict[str, Any] = {}
        if isinstance(plan, (ExpertProduct, ExpertsCall, ExpertBlockCall)):
            self.x, self.named = plan.inputs(module, dtype, rows)
        elif isinstance(plan, RopeCall):
            self.x = random((1, 2, rows, module.dims), dtype)
            self.named = {"offset": CONTEXT}
        elif isinstance(plan, (AttentionCall, BlockCall)):
            attention = module[plan.block.attention] if isinstance(plan, BlockCall) else module
            width = module[plan.block.attention_norm].weight.shape[0] if isinstance(plan, BlockCall) else \
                input_size(attention["q_proj"])
            self.x = random((1, rows, width), dtype)
            self.named = {"mask": "causal" if rows > 1 else None}
            if all(name in attention for name in QKV):
                self.cache = random_cache(attention, dtype)
        else:
            width = module.weight.shape[0] if isinstance(plan, NormCall) else \
                input_size(module[plan.what.gate] if isinstance(plan, MlpCall) else module)
            self.x = random((1, rows, width), dtype)

    def __call__(self, module: Any, change: Change = unchanged) -> mx.array:
        result: mx.array = getattr(module, self.method)(change(self.x), **self._named(change))
        return result

    def served(self, module: Any) -> Optional[mx.array]:
        """By the plan of a module alone."""
        result: Optional[mx.array] = module.__dict__["_kd_plan"].run(module, self.x, **self._named(unchanged))
        if result is not None:
            mx.eval(result)  # compiles
        return result

    def _named(self, change: Change) -> dict[str, Any]:
        named = dict(self.named)
        if self.cache is not None:
            named["cache"] = FilledCache(change(self.cache[0]), change(self.cache[1]))
        return named


_key: list[mx.array] = []


def random(shape: tuple[int, ...], dtype: mx.Dtype) -> mx.array:
    """Normal numbers by a key of our own: the program's random state stays as it is."""
    if not _key:
        _key.append(mx.random.key(12))
    _key[0], now = mx.random.split(_key[0])
    array = mx.random.normal(shape, key=now).astype(dtype)
    mx.eval(array, _key[0])
    return array


def random_cache(attention: Any, dtype: mx.Dtype) -> Optional[tuple[mx.array, mx.array]]:
    found = attention_of(attention)
    if found is None or isinstance(found, Unknown):
        return None
    heads = getattr(attention, found.kv_heads or "")
    shapes = [(1, heads, CONTEXT, output_size(attention[name]) // heads) for name in ("k_proj", "v_proj")]
    return random(shapes[0], dtype), random(shapes[1], dtype)


def signature(module: Any) -> tuple[Any, ...]:
    """What decides how a module runs: classes, shapes, types, numbers of the module and its parts."""
    arrays: list[Any] = []

    def visit(value: Any, at: str) -> None:
        if isinstance(value, mx.array):
            arrays.append((at, value.shape, str(value.dtype)))
        elif isinstance(value, nn.Module):
            numbers = sorted((k, v) for k, v in value.__dict__.items() if isinstance(v, (bool, int, float, str)))
            arrays.append((at, original_class(value), tuple(numbers)))
        items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, (list, tuple)) else ()
        for key, child in items:
            visit(child, f"{at}.{key}")

    visit(module, "")
    return tuple(arrays)
