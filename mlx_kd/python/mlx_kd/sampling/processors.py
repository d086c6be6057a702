"""Logits processors with mlx-lm's names and arguments."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any, Optional

import mlx.core as mx

Processor = Callable[[mx.array, mx.array], mx.array]


def bias(biases: dict[int, float]) -> Processor:
    ids, values = mx.array(list(biases.keys())), mx.array(list(biases.values()))
    return lambda _, logits: logits.at[:, ids].add(values)


def repetition(penalty: float, size: int) -> Processor:
    if penalty < 0 or not isinstance(penalty, (int, float)):
        raise ValueError(f"[sample] repetition_penalty is {penalty}: give a number of at least 0")

    def process(tokens: Any, logits: mx.array) -> mx.array:
        if len(tokens) > 0:
            last = tokens[-size:]
            x = logits[:, last]
            logits[:, last] = mx.where(x < 0, x * penalty, x / penalty)
        return logits

    return process


def presence(penalty: float, size: int) -> Processor:
    def process(tokens: Any, logits: mx.array) -> mx.array:
        if len(tokens) > 0:
            logits[:, tokens[-size:]] -= penalty
        return logits

    return process


def frequency(penalty: float, size: int) -> Processor:
    def process(tokens: Any, logits: mx.array) -> mx.array:
        return logits.at[:, tokens[-size:]].subtract(penalty) if len(tokens) > 0 else logits

    return process


def make_logits_processors(
        logit_bias: Optional[dict[int, float]] = None, repetition_penalty: Optional[float] = None,
        repetition_context_size: Optional[int] = 20, presence_penalty: Optional[float] = None,
        presence_context_size: Optional[int] = 20, frequency_penalty: Optional[float] = None,
        frequency_context_size: Optional[int] = 20) -> list[Processor]:
    """In place of ``mlx_lm.sample_utils.make_logits_processors``.

    Parameters
    ----------
    logit_bias : dict of int to float, optional
        Added to the logits of these tokens.
    repetition_penalty : float, optional
        Logits of the last `repetition_context_size` tokens: divided by it where positive, else multiplied with it.
    presence_penalty : float, optional
        Subtracted once from the logits of the last `presence_context_size` tokens.
    frequency_penalty : float, optional
        Subtracted from them for each time that a token is among the last `frequency_context_size`.

    Returns
    -------
    list of callable
        From tokens and logits ``[rows, V]`` to logits. A penalty of None or 0 is off.

    Raises
    ------
    ValueError
        If `repetition_penalty` is negative.
    """
    made: list[Processor] = [bias(logit_bias)] if logit_bias else []
    for make, penalty, size in ((repetition, repetition_penalty, repetition_context_size),
                                (presence, presence_penalty, presence_context_size),
                                (frequency, frequency_penalty, frequency_context_size)):
        if penalty is not None and penalty != 0:
            made.append(make(penalty, size))  # type: ignore[arg-type]
    return made
