"""Copies of modules, and random input to run them on."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any, Optional

import mlx.core as mx

from mlx_kd.patching.calls.delta import DeltaCall
from mlx_kd.patching.calls.latent import Latent, LatentCall, heads_of, input_size_of_heads, latent_of
from mlx_kd.patching.calls.layers import AttentionCall, BlockCall, MlpCall
from mlx_kd.patching.calls.positions import NormCall, RopeCall
from mlx_kd.patching.calls.post_norms import PostNormBlockCall
from mlx_kd.patching.plans import Plan
from mlx_kd.patching.structure import Unknown, attention_of, input_size, nn, original_class, output_size

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
        return tiled(x, self.factors)


class HeadsStand(nn.Module):  # type: ignore[misc]
    """In place of a product of each head."""

    def __init__(self, heads: Any, dtype: mx.Dtype) -> None:
        super().__init__()
        count, outputs, _ = heads["weight"].shape
        self.forth, self.back = random((count, 1, outputs), dtype), random((count, 1, input_size_of_heads(heads)), dtype)

    def __call__(self, x: mx.array, transpose: bool = True) -> mx.array:
        return tiled(x, self.forth if transpose else self.back)


def tiled(x: mx.array, factors: mx.array) -> mx.array:
    size = factors.shape[-1]
    times = -(-size // x.shape[-1])
    return mx.tile(x, [1] * (x.ndim - 1) + [times])[..., :size] * factors


def without_products(module: Any, names: tuple[str, ...], dtype: mx.Dtype) -> Any:
    """The module with stand-ins for its linear layers, so that the rest can be run and timed at many rows."""
    twin = clone(module)
    for name in names:
        kind = HeadsStand if heads_of(module[name]) else Stand
        dict.__setitem__(twin, name, kind(module[name], dtype))
    return twin


class FilledCache:
    """What an attention layer needs of a cache that holds keys already."""

    def __init__(self, keys: mx.array, values: mx.array) -> None:
        self.keys, self.values, self.offset = keys, values, keys.shape[2]

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        self.offset += keys.shape[2]
        return mx.concatenate([self.keys, keys], 2), mx.concatenate([self.values, values], 2)


class FilledStates(list[mx.array]):
    """What a layer of a convolution and a recurrent rule needs of a cache."""

    lengths: Optional[mx.array] = None

    def __init__(self, *states: mx.array) -> None:
        super().__init__(states)

    def advance(self, count: int) -> None:
        """All sequences are as long."""


class Case:
    """Input of one proof; called with a module and a cast it runs the module on that input."""

    def __init__(self, plan: Plan, x: mx.array, named: Optional[dict[str, Any]] = None) -> None:
        self.method, self.x, self.named = plan.method, x, named or {}
        self.cache: Optional[tuple[mx.array, mx.array]] = None
        self.make_cache: Any = FilledCache
        self.compared: Any = getattr(plan, "compared", lambda result, module: result)

    def with_cache(self, cache: Optional[tuple[mx.array, mx.array]], make: Any = FilledCache) -> Case:
        self.cache, self.make_cache = cache, make
        return self

    def __call__(self, module: Any, change: Change = unchanged) -> mx.array:
        result: mx.array = self.compared(getattr(module, self.method)(change(self.x), **self._named(change)), module)
        return result

    def served(self, module: Any) -> Optional[mx.array]:
        """By the plan of a module alone."""
        result: Any = module.__dict__["_kd_plan"].run(module, self.x, **self._named(unchanged))
        if result is None:
            return None
        made: mx.array = self.compared(result, module)
        mx.eval(made)  # compiles
        return made

    def _named(self, change: Change) -> dict[str, Any]:
        named = {name: change(value) if isinstance(value, mx.array) else value for name, value in self.named.items()}
        if self.cache is not None:
            named["cache"] = self.make_cache(*map(change, self.cache))
        return named


def case_of(plan: Plan, module: Any, dtype: mx.Dtype, rows: int) -> Case:
    if isinstance(plan, (BlockCall, PostNormBlockCall)):
        attention = module[plan.block.attention]
        width = module[plan.block.attention_norm if isinstance(plan, BlockCall) else plan.block.norms[0]].weight.shape[0]
        return of_attention(plan, attention, dtype, rows, width)
    if isinstance(plan, (AttentionCall, LatentCall)):
        return of_attention(plan, module, dtype, rows, input_size(module[plan.names[0]]))
    if isinstance(plan, DeltaCall):
        return Case(plan, *plan.inputs(module, dtype, rows)).with_cache(plan.state(module, dtype), FilledStates)
    if hasattr(plan, "inputs"):
        return Case(plan, *plan.inputs(module, dtype, rows))
    if isinstance(plan, RopeCall):
        return Case(plan, random((1, 2, rows, module.dims), dtype), {"offset": CONTEXT})
    width = module.weight.shape[0] if isinstance(plan, NormCall) else \
        input_size(module[plan.what.gate] if isinstance(plan, MlpCall) else module)
    return Case(plan, random((1, rows, width), dtype))


def of_attention(plan: Plan, attention: Any, dtype: mx.Dtype, rows: int, width: int) -> Case:
    """Of a layer with a cache, or of a block around one."""
    x, shapes = random((1, rows, width), dtype), shapes_of_cache(attention)
    named: dict[str, Any] = {"mask": "causal" if rows > 1 else None}
    if isinstance(latent_of(attention), Latent) and rows > 1:  # such layers take arrays alone
        named["mask"] = mx.arange(rows)[:, None] + CONTEXT >= mx.arange(CONTEXT + rows)
    return Case(plan, x, named).with_cache((random(shapes[0], dtype), random(shapes[1], dtype)) if shapes else None)


def shapes_of_cache(attention: Any) -> Optional[tuple[tuple[int, ...], tuple[int, ...]]]:
    if isinstance(latent_of(attention), Latent):
        width, rotated = attention.kv_lora_rank, attention.qk_rope_head_dim
        return (1, 1, CONTEXT, width), (1, 1, CONTEXT, rotated)
    found = attention_of(attention)
    if found is None or isinstance(found, Unknown):
        return None
    heads = getattr(attention, found.kv_heads or "")
    keys, values = ((1, heads, CONTEXT, output_size(attention[name]) // heads) for name in ("k_proj", "v_proj"))
    return keys, values


_key: list[mx.array] = []


def random(shape: tuple[int, ...], dtype: mx.Dtype) -> mx.array:
    """Normal numbers by a key of our own: the program's random state stays as it is."""
    if not _key:
        _key.append(mx.random.key(12))
    _key[0], now = mx.random.split(_key[0])
    array = mx.random.normal(shape, key=now).astype(dtype)
    mx.eval(array, _key[0])
    return array


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
