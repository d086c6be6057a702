"""A model with MLX alone and with pins: what it says, how fast, in how much memory."""
from __future__ import annotations

import copy
import importlib
import time
from typing import Any, NamedTuple

import mlx.core as mx

from mlx_kd.promotion.judge import number

PROMPT = 8  # tokens before those that are timed
LONGEST_S = 1.0  # of the steps that tell the time of one


def new_cache(model: Any) -> Any:
    return importlib.import_module("mlx_lm.models.cache").make_prompt_cache(model)


def step(model: Any, token: int, cache: Any) -> mx.array:
    """The logits after one more token, of the type that tokens have in mlx-lm."""
    result: mx.array = model(mx.array([[token]], mx.uint32), cache=cache)[0, -1].astype(mx.float32)
    mx.eval(result)
    return result


def seconds_a_token(model: Any) -> float:
    """The least of three steps after the first, which may compile or page weights in; of one where that took long."""
    cache, times = new_cache(model), list[float]()
    while len(times) < 4 and not (len(times) > 1 and sum(times) > LONGEST_S):
        start = time.perf_counter()
        step(model, 1, cache)
        times.append(time.perf_counter() - start)
    return min(times[1:])


def own_text(model: Any, count: int, seed: int) -> list[int]:
    """A text as the model writes it: each token is drawn by its logits, so that it is one that it may meet."""
    key, cache, tokens = mx.random.key(seed), new_cache(model), [1]
    while len(tokens) < count:
        key, now = mx.random.split(key)
        tokens.append(int(number(mx.random.categorical(step(model, tokens[-1], cache), key=now))))
    return tokens


def forced_logits(model: Any, tokens: list[int]) -> mx.array:
    """[tokens, vocabulary]: each position decoded in a step of its own, whatever came before it."""
    cache = new_cache(model)
    result = mx.stack([step(model, token, cache) for token in tokens])
    mx.eval(result)
    return result


def continued(model: Any, prompt: list[int], count: int) -> tuple[list[int], mx.array]:
    """A text of so many tokens, the prompt and what the model adds to it, and the logits after each, by `count` steps."""
    cache, tokens, logits = new_cache(model), list(prompt), list[mx.array]()
    while len(logits) < count:
        logits.append(step(model, tokens[len(logits)], cache))
        if len(logits) == len(tokens):
            tokens.append(best(logits[-1]))
    result = mx.stack(logits)
    mx.eval(result)
    return tokens[:count], result


def best(logits: mx.array) -> int:
    return int(number(mx.argmax(logits)))


def gap(logits: mx.array) -> float:
    """Between the two largest."""
    two = mx.topk(logits, 2)
    return number(mx.abs(two[0] - two[1]))


def greedy(model: Any, prompt: list[int], count: int) -> tuple[list[int], list[float]]:
    """The tokens, and the gap of the top two logits at each."""
    _, logits = continued(model, prompt, len(prompt) + count - 1)
    after = [logits[at] for at in range(len(prompt) - 1, logits.shape[0])]
    return [best(one) for one in after], [gap(one) for one in after]


def filled(model: Any, prompt: list[int]) -> Any:
    """A cache that holds a prompt."""
    cache = new_cache(model)
    for token in prompt:
        step(model, token, cache)
    return cache


class Run(NamedTuple):
    tokens_per_s: float
    peak_bytes: int


def timed(model: Any, cache: Any, token: int, count: int, untimed: int) -> Run:
    """Of steps after a copy of a cache."""
    cache = copy.deepcopy(cache)
    for _ in range(untimed):
        step(model, token, cache)
    mx.clear_cache()
    mx.reset_peak_memory()
    last, start = mx.array([[token]]), time.perf_counter()
    for _ in range(count):
        last = mx.argmax(model(last, cache=cache)[:, -1], -1, keepdims=True)
        mx.eval(last)
    seconds = time.perf_counter() - start
    return Run(count / seconds, int(mx.get_peak_memory()))
