"""Tokens from logits: ``mlx_kd.sample``, and samplers for mlx-lm.

>>> import mlx.core as mx, mlx_kd                                    # doctest: +SKIP
>>> token, logprob = mlx_kd.sample(logits, temperature=0.7, top_p=0.9)  # doctest: +SKIP
>>> mlx_lm.generate(model, tokenizer, prompt, sampler=mlx_kd.make_sampler(0.7, top_p=0.9))  # doctest: +SKIP

On a CPU, and on an NVIDIA GPU for logits of 16 bits without xtc, the tokens are those of mlx-lm's chain of MLX
operators for the same key, without a sort (the operator ``sample_tokens``); elsewhere that chain runs (chain.py).
:func:`sampling_counts` says how often which of them ran.
"""
from __future__ import annotations

import math
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any, Optional, Union

import mlx.core as mx

from mlx_kd import _core
from mlx_kd._operators import sample_tokens
from mlx_kd.sampling import chain
from mlx_kd.sampling.processors import make_logits_processors
from mlx_kd.sampling.settings import Settings, columns

__all__ = ["make_logits_processors", "make_sampler", "sample", "sampling_counts"]

Number = Union[float, Sequence[float]]
NUMBERS = ("temperature", "top_p", "min_p", "min_tokens_to_keep", "top_k", "xtc_probability", "xtc_threshold")
FLOATS = (mx.float32, mx.bfloat16, mx.float16)

_counts = {"kernel": 0, "chain": 0}
_in_cuda: dict[mx.Dtype, bool] = {}
Made = tuple[list[Settings], Optional[mx.array]]
_remembered: dict[Any, Made] = {}
_lock = threading.Lock()


def sample(logits: mx.array, temperature: Number = 1.0, top_p: Number = 0.0, min_p: Number = 0.0,
           min_tokens_to_keep: Union[int, Sequence[int]] = 1, top_k: Union[int, Sequence[int]] = 0,
           xtc_probability: Number = 0.0, xtc_threshold: Number = 0.1,
           xtc_special_tokens: Optional[Sequence[int]] = None, *, key: Optional[mx.array] = None, logprobs: int = 0,
           normalised: bool = False, check: bool = False) -> tuple[mx.array, ...]:
    """A token of each row of logits, drawn as mlx-lm draws it.

    Parameters
    ----------
    logits : mlx.core.array
        ``[..., V]``. Rows are drawn together, as one call of mlx-lm's sampler draws them.
    temperature, top_p, min_p, min_tokens_to_keep, top_k, xtc_probability, xtc_threshold : number or sequence
        As in ``mlx_lm.sample_utils.make_sampler``: a temperature of 0 takes the first of the largest log
        probabilities; ``top_p`` outside (0, 1), ``min_p`` of 0, ``top_k`` of 0 or less and ``xtc_probability`` of 0 or
        less are off. If one is a sequence, with a number for each row, each row is drawn alone, one after the other,
        as ``BatchGenerator`` draws requests that have samplers of their own.
    xtc_special_tokens : sequence of int, optional
        Tokens that xtc leaves in.
    key : mlx.core.array, optional
        The tokens are those of a run with ``mx.random.state = [key]``. Left out: MLX's state is used, and left as
        MLX leaves it.
    logprobs : int
        How many of the largest log probabilities are returned in addition.
    normalised : bool
        Whether `logits` are log probabilities, as mlx-lm gives them to samplers.
    check : bool
        Whether the logits are evaluated and looked at; without it a row that has no distribution gives token 0 and a
        log probability of NaN.

    Returns
    -------
    tuple of mlx.core.array
        The tokens ``[...]`` and their log probabilities, float32 ``[...]``; with `logprobs` the ids and the log
        probabilities of the largest too, both ``[..., logprobs]``, the largest first.

    Raises
    ------
    ValueError
        For what mlx-lm refuses: ``min_p``, ``xtc_probability`` and ``xtc_threshold`` out of range,
        ``min_tokens_to_keep`` below 1 or above V, ``top_k`` of V or more; for logits without an element, a key that
        is not uint32 ``[2]``, sequences that are not one number for each row, and with `check`, naming the rows, for
        NaN, +inf or nothing but -inf.
    """
    if logits.ndim == 0:
        raise ValueError("[sample] logits has no axis: give [..., V]")
    if logits.size == 0:
        raise ValueError(f"[sample] logits has shape {logits.shape}: give one row of one logit at least")
    rows, width = math.prod(logits.shape[:-1]), logits.shape[-1]
    numbers = (temperature, top_p, min_p, min_tokens_to_keep, top_k, xtc_probability, xtc_threshold)
    alone = any(not isinstance(value, (int, float)) for value in numbers)
    given, table = remembered(rows, width, numbers, alone)
    if not 0 <= logprobs <= width:
        raise ValueError(f"[sample] logprobs is {logprobs}: give 0 to V = {width}")
    if check:
        check_rows(logits)
    state = next_state(given, key, alone)
    special = list(xtc_special_tokens or ())
    if runs_here(logits, given) and not is_quick_in_mlx(given, alone, logprobs):
        try:
            made = by_operator(logits, given, table, special, state, logprobs, normalised)
        except RuntimeError:  # its kernel cannot be compiled here
            pass
        else:
            count("kernel")
            return tuple(made if logprobs else made[:2])
    count("chain")
    return chain.sample(logits, given if alone else given[0], special, state, logprobs, normalised)


def remembered(rows: int, width: int, numbers: tuple[Any, ...], alone: bool) -> Made:
    """The settings of each row, checked, and, of rows that are drawn alone, as the operator takes them. Kept for later
    calls: a batch goes on with the same."""
    is_plain = all(isinstance(value, (int, float, list, tuple)) for value in numbers)
    key = (rows, width, *((tuple(value), tuple(map(type, value))) if isinstance(value, (list, tuple)) else
                          (value, type(value)) for value in numbers)) if is_plain else None
    found = _remembered.get(key) if key else None
    if found is None:
        given = columns(rows, **dict(zip(NUMBERS, numbers)))
        for each in given:
            each.check(width)
        found = given, mx.array([each.row() for each in given]) if alone else None
        if key:
            with _lock:
                if len(_remembered) >= 64:
                    _remembered.clear()
                _remembered[key] = found
    return found


def by_operator(logits: mx.array, given: list[Settings], table: Optional[mx.array], special: list[int],
                state: mx.array, top: int, normalised: bool) -> tuple[mx.array, ...]:
    tokens = mx.array(special, dtype=mx.int32) if special else None
    if table is not None:
        return sample_tokens(logits, state, tokens, table, top=top, normalised=int(normalised))
    one = given[0].effective()
    return sample_tokens(logits, state, tokens, None, one.temperature, one.top_p, one.min_p, one.min_tokens_to_keep,
                         one.top_k, one.xtc_probability, one.xtc_threshold, top, int(normalised))


def runs_here(logits: mx.array, given: list[Settings]) -> bool:
    """Whether the operator draws what MLX draws: on a CPU whose MLX adds one number after the other; in CUDA C++ but
    for xtc, whose probabilities MLX adds in 16 bits there."""
    if sys.platform != "linux" or logits.size == 0 or not all(each.is_plain() for each in given):
        return False
    if mx.default_device() == mx.cpu:
        return logits.dtype in FLOATS
    return (mx.cuda.is_available() and logits.dtype in FLOATS[1:] and is_in_cuda(logits.dtype)
            and not any(each.xtc_probability > 0 and each.temperature != 0 for each in given))


def is_quick_in_mlx(given: list[Settings], alone: bool, top: int) -> bool:
    """On a GPU the largest of rows is found by MLX's few operators sooner than by the operator."""
    return mx.default_device() != mx.cpu and not alone and given[0].temperature == 0 and top == 0


def is_in_cuda(dtype: mx.Dtype) -> bool:
    """Whether the operator's kernel of a type is the one in CUDA C++: without the module for it, Metal's runs."""
    if dtype not in _in_cuda:
        none = mx.zeros((0,), mx.int32)
        why = _core.explain("sample_tokens", [mx.zeros((1, 2), dtype), mx.zeros((2,), mx.uint32), none,
                                              none.astype(mx.float32)])
        _in_cuda[dtype] = str(why["reason"]).endswith(", in cuda")
    return _in_cuda[dtype]


def next_state(given: list[Settings], key: Optional[mx.array], alone: bool) -> mx.array:
    """The state that the draws start from; MLX's own advances by as many draws."""
    if key is not None:
        if not isinstance(key, mx.array):
            raise ValueError(f"[sample] key is {key!r}: give an array, uint32 (2,), as mx.random.key does")
        if key.dtype != mx.uint32 or key.shape != (2,):
            raise ValueError(f"[sample] key has shape {key.shape} and type {key.dtype}: give uint32 (2,), as "
                             "mx.random.key does")
        return key
    states: Any = mx.random.state  # MLX's stubs call it an object
    state: mx.array = states[0]
    for each in given if alone else given[:1]:
        for _ in range(each.draws()):
            mx.random.uniform()  # not evaluated: it takes a key
    return state


def check_rows(logits: mx.array) -> None:
    most = mx.max(logits.reshape(-1, logits.shape[-1]), axis=-1).astype(mx.float32)
    values: Any = most.tolist()
    bad = [row for row, value in enumerate(values) if not math.isfinite(value)]
    if bad:
        named = ", ".join(map(str, bad[:8])) + (" and more" if len(bad) > 8 else "")
        raise ValueError(f"[sample] logits have no distribution in row {named}: a NaN, +inf, or nothing but -inf")


def count(which: str) -> None:
    with _lock:
        _counts[which] += 1


def sampling_counts() -> dict[str, int]:
    """How many calls the operator served, and how many MLX's own chain."""
    with _lock:
        return dict(_counts)


def make_sampler(temp: float = 0.0, top_p: float = 0.0, min_p: float = 0.0, min_tokens_to_keep: int = 1, top_k: int = 0,
                 xtc_probability: float = 0.0, xtc_threshold: float = 0.1,
                 xtc_special_tokens: Optional[list[int]] = None) -> Callable[[mx.array], mx.array]:
    """In place of ``mlx_lm.sample_utils.make_sampler``: for ``generate``, ``stream_generate``, ``BatchGenerator``.

    Parameters
    ----------
    temp, top_p, min_p, min_tokens_to_keep, top_k, xtc_probability, xtc_threshold, xtc_special_tokens
        As there; values out of range raise ``ValueError`` when the sampler is called, as there.

    Returns
    -------
    callable
        From log probabilities ``[..., V]`` to tokens ``[...]``. It takes keys from MLX's state.
    """
    special = list(xtc_special_tokens or ())

    def sampler(logprobs: mx.array) -> mx.array:
        return sample(logprobs, temp, top_p, min_p, min_tokens_to_keep, top_k, xtc_probability, xtc_threshold, special,
                      normalised=True)[0]

    return sampler


