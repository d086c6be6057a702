"""Runs old and new on random input: a replacement is taken if it is as right as MLX's own result, and faster.

The judge is the same module in float32: parameters, scales, biases and input are cast. The new result's root-mean-square
error against it may be 1.25 times that of MLX's result in the model's type, or the two are equal bit for bit. Where the
judge is MLX's own form, since the model is in float32, an error of 2e-6 of the judge's root mean square is allowed.

MLX's quantised products take long on a CPU, so a module is run whole once per class, shapes and quantisation; every
other product is run for 64 of its output rows.
"""
from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Optional

import mlx.core as mx

from mlx_kd.patching.classes import install, walk
from mlx_kd.patching.operators import Operators
from mlx_kd.patching.plans import AttentionCall, BlockCall, Linear, MlpCall, NormCall, Plan, RopeCall, plan_of
from mlx_kd.patching.structure import QKV, ROWS, Unknown, attention_of, input_size, nn, original_class, output_size

SAMPLE = 64      # output rows of a product
CONTEXT = 37     # keys in the cache of the proof
RATIO = 1.25
FLOAT32_SHARE = 2e-6
SLOW_S = 0.05    # MLX's side is not run again above it
JUDGE_ROWS = 4096

DAMAGED = "MLX's own result has NaN or infinity: its weights may be damaged"

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
        if isinstance(plan, RopeCall):
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
                input_size(module[plan.mlp.gate] if isinstance(plan, MlpCall) else module)
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


def rms(x: mx.array) -> float:
    value: Any = mx.sqrt(mx.mean(mx.square(x.astype(mx.float32)))).item()
    return float(value)


def why_wrong(new: mx.array, old: mx.array, judge: mx.array) -> str:
    """"" where `new` is as right as `old`."""
    if new.shape != old.shape or new.dtype != old.dtype:
        return f"its result is {new.dtype} {new.shape}, and MLX's is {old.dtype} {old.shape}"
    if not mx.all(mx.isfinite(judge)).item() or not mx.all(mx.isfinite(old)).item():
        return DAMAGED
    if not mx.all(mx.isfinite(new)).item():
        return "its result has NaN or infinity, and MLX's has not"
    if mx.array_equal(new, old).item():
        return ""
    error, allowed = rms(new.astype(mx.float32) - judge), RATIO * rms(old.astype(mx.float32) - judge)
    if old.dtype == mx.float32:
        allowed = max(allowed, FLOAT32_SHARE * rms(judge))
    return "" if error <= allowed else f"its error is {error:.3g}, and {allowed:.3g} is allowed (1.25 times MLX's)"


def seconds_of(run: Callable[[], mx.array], count: int) -> float:
    start = time.perf_counter()
    mx.eval([run() for _ in range(count)])
    return (time.perf_counter() - start) / count


def speed_up(old: Callable[[], mx.array], new: Callable[[], mx.array], first_s: float) -> float:
    """Ratio of the least times of pairs: what else runs on the machine can only lengthen a time. One run of MLX's
    side where that takes long."""
    if first_s > SLOW_S:
        return first_s / min(seconds_of(new, 1) for _ in range(3))
    count = max(1, min(20, int(0.002 / first_s)))
    pairs = [(seconds_of(old, count), seconds_of(new, count)) for _ in range(7)]
    return min(old_s for old_s, _ in pairs) / min(new_s for _, new_s in pairs)


def judged(case: Case, module: Any) -> mx.array:
    """The float32 result; of a large product in parts, so that little memory is needed."""
    rows = output_size(module) if case.method == "as_linear" or "weight" in module and module.weight.ndim == 2 else 0
    if rows <= JUDGE_ROWS:
        result = case(clone(module, to_float32), to_float32)
        mx.eval(result)
        return result
    parts = []
    for begin in range(0, rows, JUDGE_ROWS):
        parts.append(case(clone(with_rows(module, begin, min(rows, begin + JUDGE_ROWS)), to_float32), to_float32))
        mx.eval(parts[-1])
    return mx.concatenate(parts, -1)


class Proof:
    """Of all modules of a model: what was proved stays known by class, shapes and quantisation."""

    def __init__(self, ops: Operators, dtype: mx.Dtype) -> None:
        self.ops, self.dtype = ops, dtype
        self.known: dict[Any, str] = {}  # "" or why not
        self.damaged: set[int] = set()   # ids of modules

    def why_not(self, plan: Plan, module: Any) -> str:
        """"" if the replacement may be made."""
        try:
            why = self._why_not(plan, module)
            if why == DAMAGED:
                self.damaged.add(id(module))
            return why
        except Exception as error:  # of a layer that is not what it looks like: any can come
            return f"the proof failed: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"

    def _why_not(self, plan: Plan, module: Any) -> str:
        key = (plan.kind, plan.runs(), signature(module))
        if key in self.known:
            return self.known[key] or self._part_damaged(module) or \
                (self._sampled(plan, module) if isinstance(plan, Linear) else "")
        why = self._whole(plan, module)
        mx.clear_cache()
        if why != DAMAGED:  # that is of this module alone
            self.known[key] = why
        return why

    def _part_damaged(self, module: Any) -> str:
        return DAMAGED if any(id(part) in self.damaged for _, part in walk(module)) else ""

    def _whole(self, plan: Plan, module: Any) -> str:
        recorded = self.ops.recorded()
        old, new = clone(module), clone(module)
        install_alone(new, recorded, self.dtype)
        cases = [Case(plan, module, self.dtype, rows) for rows in rows_of_proof(plan)]
        for case in cases:
            if case.served(new) is None:
                return "its replacement does not serve the calls of a decode step"
        if why := recorded.without_kernel():
            return why
        for i, case in enumerate(cases):
            start = time.perf_counter()
            before = case(old)
            mx.eval(before)
            taken = time.perf_counter() - start
            if why := why_wrong(case(new), before, judged(case, module)):
                return why
            if i == 0:
                ratio = speed_up(lambda: cases[0](old), lambda: cases[0](new), taken)
                if not ratio > 1:
                    return f"it is not faster here: {ratio:.2f} times MLX's speed"
        return self._prompt(plan, module)

    def _prompt(self, plan: Plan, module: Any) -> str:
        """A product of more than 16 rows, of a part of the output rows."""
        if not isinstance(plan, Linear):
            return ""
        return self._sampled(plan, module, ROWS + 1)

    def _sampled(self, plan: Plan, module: Any, rows: int = 1) -> str:
        begin = (id(module) // 64) % max(1, output_size(module) - SAMPLE + 1)
        part = with_rows(module, begin, begin + SAMPLE)
        new = clone(part)
        install_alone(new, self.ops, self.dtype)
        case = Case(plan, part, self.dtype, rows)
        return why_wrong(case(new), case(part), judged(case, part))


def rows_of_proof(plan: Plan) -> tuple[int, ...]:
    """Several rows need a mask, whose form depends on the attention."""
    return (1, 3) if isinstance(plan, BlockCall) and plan.attention else (1,)


def install_alone(module: Any, ops: Operators, dtype: mx.Dtype) -> None:
    """The plan of a module, without proof; its parts stay as they are."""
    plan = plan_of(module, ops, dtype)
    if plan is not None and not isinstance(plan, Unknown) and not plan.missing():
        install(module, plan)


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
