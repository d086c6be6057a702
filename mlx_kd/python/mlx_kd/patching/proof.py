"""Runs old and new on random input: a replacement is taken if it is as right as MLX's own result, and faster.

The judge is the same module in float32: parameters, scales, biases and input are cast. The new result's root-mean-square
error against it may be 1.25 times that of MLX's result in the model's type, or the two are equal bit for bit. Where the
judge is MLX's own form, since the model is in float32, an error of 2e-6 of the judge's root mean square is allowed.

MLX's quantised products take long on a CPU, so a module is run whole once per class, shapes and quantisation; every
other product is run for 64 of its output rows.
"""
from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from typing import Any, Optional

import mlx.core as mx

from mlx_kd.patching.calls.embeddings import EmbeddingRows
from mlx_kd.patching.calls.experts import expert_block_of, is_choice
from mlx_kd.patching.calls.layers import BlockCall, Layer
from mlx_kd.patching.calls.post_norms import PostNormBlockCall
from mlx_kd.patching.calls.products import Linear
from mlx_kd.patching.classes import install, walk
from mlx_kd.patching.operators import Operators
from mlx_kd.patching.plans import Plan, plan_of
from mlx_kd.patching.samples import Case, Stand, case_of, clone, signature, to_float32, with_rows, without_products
from mlx_kd.patching.structure import ROWS, Unknown, code_of, is_embedding, output_size

SAMPLE = 64       # output rows of a product
PROMPT_ROWS = 64  # of a layer whose products are stand-ins
RATIO = 1.25
FLOAT32_SHARE = 2e-6
SLOW_S = 0.05  # MLX's side is not run again above it
LOOKS, MOST_PAIRS = (7, 13, 31), 31  # pairs of times
JUDGE_ROWS = 4096
TRIES = 4  # of a layer that chooses or rounds: near ties, a last bit decides, in MLX's result as in the new one
DAMAGED = "MLX's own result has NaN or infinity: its weights may be damaged"


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
    """Median ratio of pairs, one after the other in turn, until its interval excludes 1 or there are MOST_PAIRS: what
    else the machine does meanwhile lengthens both times of a pair, or makes an outlier. One run of MLX's side where
    that takes long."""
    if first_s > SLOW_S:
        return first_s / min(seconds_of(new, 1) for _ in range(3))
    count = max(1, min(20, int(0.002 / first_s)))
    seconds_of(new, count)  # memory of the first run
    ratios: list[float] = []
    while len(ratios) < MOST_PAIRS:
        sides = (old, new) if len(ratios) % 2 else (new, old)
        taken = {side: seconds_of(side, count) for side in sides}
        ratios.append(taken[old] / taken[new])
        if len(ratios) in LOOKS and (bounds := median_interval(ratios)) and not bounds[0] <= 1 <= bounds[1]:
            break
    return statistics.median(ratios)


def median_interval(values: list[float]) -> tuple[float, float]:
    """Order statistics between which the median lies with at least 98 %: LOOKS looks at it leave 95 %."""
    ordered, count = sorted(values), len(values)
    outside, below = 0, -1
    while (outside := outside + math.comb(count, below + 1)) <= 0.01 * 2**count:
        below += 1
    return (ordered[below], ordered[count - 1 - below]) if below >= 0 else (0.0, math.inf)


def judged(case: Case, module: Any) -> mx.array:
    """The float32 result; of a large product in parts, so that little memory is needed."""
    splits = case.method == "as_linear" or "weight" in module and module.weight.ndim == 2 and not is_embedding(module)
    rows = output_size(module) if splits else 0
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
        self.prompts: set[Any] = set()   # keys of those whose plan serves many rows too

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
            why = self.known[key] or self._part_damaged(module) or \
                (self._sampled(plan, module) if isinstance(plan, Linear) else "")
        else:
            why = self._whole(plan, module)
            mx.clear_cache()
            if why != DAMAGED:  # that is of this module alone
                self.known[key] = why
            if not why and isinstance(plan, Layer) and not self._why_not_prompts(plan, module):
                self.prompts.add(key)
        if isinstance(plan, Layer):
            plan.prompts = key in self.prompts
        return why

    def _why_not_prompts(self, plan: Any, module: Any) -> str:
        """Of many rows, with stand-ins for the products: what they cost would hide all else."""
        if not plan.many_rows():
            return "nothing of it is replaced in a prompt"
        recorded = self.ops.recorded()
        old = without_products(module, getattr(plan, "stands", plan.names), self.dtype)
        new, many = clone(old), plan.again(recorded)
        many.prompts, many.projections.classes = True, many.projections.classes | {Stand}
        install(new, many)
        case = case_of(plan, module, self.dtype, PROMPT_ROWS)
        if case.served(new) is None:
            return "it does not serve a prompt"
        if why := recorded.without_kernel() or why_wrong(case(new), case(old), judged(case, old)):
            return why
        ratio = speed_up(lambda: case(old), lambda: case(new), seconds_of(lambda: case(old), 1))
        return "" if ratio > 1 else f"it is not faster in a prompt: {ratio:.2f} times MLX's speed"

    def _part_damaged(self, module: Any) -> str:
        return DAMAGED if any(id(part) in self.damaged for _, part in walk(module)) else ""

    def _whole(self, plan: Plan, module: Any) -> str:
        recorded = self.ops.recorded()
        old, new = clone(module), clone(module)
        install_alone(new, recorded, self.dtype, plan)
        rows, times = rows_of_proof(plan), []
        cases = [case_of(plan, module, self.dtype, count) for count in rows]
        for case in cases:
            if case.served(new) is None:
                return "its replacement does not serve the calls of a decode step"
        if why := recorded.without_kernel():
            return why
        for i, case in enumerate(cases):
            for attempt in range(TRIES if chooses(module) or rounds(module) else 1):
                case = case if attempt == 0 else case_of(plan, module, self.dtype, rows[i])
                start = time.perf_counter()
                before = case(old)
                mx.eval(before)
                times.append(time.perf_counter() - start)
                if not (why := why_wrong(case(new), before, judged(case, module))):
                    break
            if why:
                return why
        ratio = speed_up(lambda: cases[0](old), lambda: cases[0](new), times[0])
        return self._prompt(plan, module) if ratio > 1 else f"it is not faster here: {ratio:.2f} times MLX's speed"

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
        case = case_of(plan, part, self.dtype, rows)
        return why_wrong(case(new), case(part), judged(case, part))


def chooses(module: Any) -> bool:
    """Whether experts are chosen in it."""
    return any(expert_block_of(part) is not None or is_choice(part) for _, part in walk(module))


def rounds(module: Any) -> bool:
    """Whether a function that its code calls, or that of a part, rounds to steps, as afm7 does with keys and values."""
    for _, part in walk(module):
        code = code_of(part)
        called = [code.globals.get(name) for name in code.names] if code else []
        if any("round" in getattr(getattr(one, "__code__", None), "co_names", ()) for one in called):
            return True
    return False


def rows_of_proof(plan: Plan) -> tuple[int, ...]:
    """Several rows need a mask, whose form depends on the attention."""
    if isinstance(plan, PostNormBlockCall) or isinstance(plan, BlockCall) and plan.attention:
        return 1, 3
    return getattr(plan, "rows_of_proof", (1,))


def install_alone(module: Any, ops: Operators, dtype: mx.Dtype, like: Optional[Plan] = None) -> None:
    """The plan of a module, of the kind of `like` where there are two, without proof; its parts stay as they are."""
    plan = like.again(ops, module) if isinstance(like, EmbeddingRows) else plan_of(module, ops, dtype)
    if plan is not None and not isinstance(plan, Unknown) and not plan.missing():
        install(module, plan)
