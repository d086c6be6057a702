"""mlx-lm's chain with MLX's own operators, for devices and types that the operator ``sample_tokens`` does not serve."""
from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Union

import mlx.core as mx

from mlx_kd.sampling.settings import Settings


def keys_of(state: mx.array) -> Iterator[mx.array]:
    """The keys that draws take from a state, as mx.random takes them."""
    while True:
        state, key = mx.random.split(state)
        yield key


def drop(which: mx.array, x: mx.array) -> mx.array:
    return mx.where(which, mx.array(-math.inf, x.dtype), x)


def by_top_p(x: mx.array, top_p: float) -> mx.array:
    ordered = mx.sort(x, axis=-1)
    p = mx.exp(ordered.astype(mx.float32))
    above = mx.cumsum(p, axis=-1, reverse=True, inclusive=False)
    dropped = (above >= top_p * (above[..., :1] + p[..., :1])).sum(axis=-1, keepdims=True)
    return drop(x < mx.take_along_axis(ordered, dropped, axis=-1), x)


def by_min_p(x: mx.array, min_p: float, kept: int) -> mx.array:
    dropped = x < mx.max(x, axis=-1, keepdims=True) + math.log(min_p)
    if kept > 1:
        largest = mx.argpartition(x, kth=-kept, axis=-1)[..., -kept:]
        dropped = mx.put_along_axis(dropped, largest, mx.array(False), axis=-1)
    return drop(dropped, x)


def by_xtc(x: mx.array, probability: float, threshold: float, special: list[int], key: mx.array) -> mx.array:
    p = mx.softmax(x, axis=-1)
    dropped = p > mx.where(p > threshold, p, mx.array(math.inf, p.dtype)).min(axis=-1, keepdims=True)
    if special:
        dropped[..., mx.array(special)] = False
    return mx.where(mx.random.uniform(0, 1, key=key) > probability, x, drop(dropped, x))


def by_top_k(x: mx.array, top_k: int) -> mx.array:
    rest = mx.argpartition(-x, kth=top_k - 1, axis=-1)[..., top_k:]
    return mx.put_along_axis(x, rest, mx.array(-math.inf, x.dtype), axis=-1)


def draw(logprobs: mx.array, one: Settings, special: list[int], keys: Iterator[mx.array]) -> mx.array:
    """Tokens [...] of log probabilities [..., V]."""
    if one.temperature == 0:
        return mx.argmax(logprobs, axis=-1)
    x = logprobs
    if one.has_top_p():
        x = by_top_p(x, one.top_p)
    if one.min_p != 0:
        x = by_min_p(x, one.min_p, one.min_tokens_to_keep)
    if one.xtc_probability > 0:
        x = by_xtc(x, one.xtc_probability, one.xtc_threshold, special, next(keys))
    if one.top_k > 0:
        x = by_top_k(x, one.top_k)
    return mx.random.categorical(x * (1.0 / one.temperature), key=next(keys))


def sample(logits: mx.array, given: Union[Settings, list[Settings]], special: list[int], state: mx.array, top: int,
           normalised: bool) -> tuple[mx.array, ...]:
    """As :func:`mlx_kd.sample`; a list has settings for each row, which are drawn alone."""
    logprobs = logits if normalised else logits - mx.logsumexp(logits, axis=-1, keepdims=True)
    keys = keys_of(state)
    if isinstance(given, list):
        rows = logprobs.reshape(-1, logprobs.shape[-1])
        drawn = [draw(rows[i:i + 1], one, special, keys) for i, one in enumerate(given[:rows.shape[0]])]
        token = (mx.concatenate(drawn) if drawn else mx.zeros((0,), mx.uint32)).reshape(logprobs.shape[:-1])
    else:
        token = draw(logprobs, given, special, keys)
    chosen = mx.take_along_axis(logprobs, token[..., None], axis=-1)[..., 0].astype(mx.float32)
    if not top:
        return token, chosen
    order = mx.argsort(-logprobs, axis=-1)[..., :top]
    return token, chosen, order, mx.take_along_axis(logprobs, order, axis=-1).astype(mx.float32)
