"""A model with MLX alone and with pins: what it says, how fast, in how much memory."""
from __future__ import annotations

import importlib
import time
from typing import Any, NamedTuple

import mlx.core as mx

from mlx_kd.promotion.judge import number

PROMPT = 8  # tokens before those that are timed
LONGEST_S = 10.0


def new_cache(model: Any) -> Any:
    return importlib.import_module("mlx_lm.models.cache").make_prompt_cache(model)


def step(model: Any, token: int, cache: Any) -> mx.array:
    """The logits after one more token, of the type that tokens have in mlx-lm."""
    result: mx.array = model(mx.array([[token]], mx.uint32), cache=cache)[0, -1].astype(mx.float32)
    mx.eval(result)
    return result


def seconds_a_token(model: Any) -> float:
    """The least of three steps after the first, which may compile or page weights in; fewer where they are long."""
    cache, times = new_cache(model), list[float]()
    step(model, 1, cache)
    while len(times) < 3 and sum(times) < LONGEST_S:
        start = time.perf_counter()
        step(model, 1, cache)
        times.append(time.perf_counter() - start)
    return min(times)


def own_text(model: Any, count: int, seed: int) -> list[int]:
    """A text as the model writes it: each token is drawn by its logits, so that it is one that it may meet."""
    key, cache, tokens = mx.random.key(seed), new_cache(model), [1]
    while len(tokens) < count:
        key, now = mx.random.split(key)
        tokens.append(int(number(mx.random.categorical(step(model, tokens[-1], cache), key=now))))
    return tokens


def forced_logits(model: Any, tokens: list[int]) -> mx.array:
    """[tokens, vocabulary]: each position decoded in a step of its own, whatever was said before it."""
    cache = new_cache(model)
    result = mx.stack([step(model, token, cache) for token in tokens])
    mx.eval(result)
    return result


def gap(logits: mx.array) -> float:
    """Between the two largest."""
    two = mx.topk(logits, 2)
    return number(mx.abs(two[0] - two[1]))


def greedy(model: Any, prompt: list[int], count: int) -> tuple[list[int], list[float]]:
    """The tokens, and the gap of the top two logits at each."""
    cache, tokens, gaps = new_cache(model), [], []
    for token in prompt[:-1]:
        step(model, token, cache)
    last = prompt[-1]
    for _ in range(count):
        logits = step(model, last, cache)
        last = int(number(mx.argmax(logits)))
        tokens.append(last)
        gaps.append(gap(logits))
    return tokens, gaps


class Run(NamedTuple):
    tokens_per_s: float
    peak_bytes: int


def timed(model: Any, prompt: list[int], count: int) -> Run:
    cache = new_cache(model)
    for token in prompt:
        step(model, token, cache)
    mx.clear_cache()
    mx.reset_peak_memory()
    last, start = mx.array([[prompt[-1]]]), time.perf_counter()
    for _ in range(count):
        last = mx.argmax(model(last, cache=cache)[:, -1], -1, keepdims=True)
        mx.eval(last)
    seconds = time.perf_counter() - start
    return Run(count / seconds, int(mx.get_peak_memory()))
