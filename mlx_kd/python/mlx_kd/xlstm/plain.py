"""mLSTM with all pairs of tokens, in MLX's own operators: what it costs without a kernel, and what one compares with."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Optional, Union, overload

import mlx.core as mx
from mlx.nn.layers import activations

from mlx_kd.xlstm import arrays
from mlx_kd.xlstm.arrays import State


@overload
def mlstm_parallel(
        q: mx.array, k: mx.array, v: mx.array, i: mx.array, f: mx.array, *,
        state: Optional[Sequence[Optional[mx.array]]] = ..., return_last_states: Literal[False] = ..., eps: float = ...,
        siging: bool = ..., normalize: bool = ...) -> mx.array: ...


@overload
def mlstm_parallel(
        q: mx.array, k: mx.array, v: mx.array, i: mx.array, f: mx.array, *,
        state: Optional[Sequence[Optional[mx.array]]] = ..., return_last_states: Literal[True], eps: float = ...,
        siging: bool = ..., normalize: bool = ...) -> tuple[mx.array, State]: ...


@overload
def mlstm_parallel(
        q: mx.array, k: mx.array, v: mx.array, i: mx.array, f: mx.array, *,
        state: Optional[Sequence[Optional[mx.array]]] = ..., return_last_states: bool, eps: float = ...,
        siging: bool = ..., normalize: bool = ...) -> Union[mx.array, tuple[mx.array, State]]: ...


def mlstm_parallel(
        q: mx.array, k: mx.array, v: mx.array, i: mx.array, f: mx.array, *,
        state: Optional[Sequence[Optional[mx.array]]] = None, return_last_states: bool = False, eps: float = 1e-6,
        siging: bool = False, normalize: bool = True) -> Union[mx.array, tuple[mx.array, State]]:
    """As :func:`mlx_kd.xlstm.mlstm_chunkwise`, for finite gates, by MLX's operators alone.

    Time and memory grow with the square of S. It has every transformation that MLX's operators have.
    """
    arrays.check_types(q, k, v, i, f)
    arrays.check_shapes(q, k, v, i, f, 2)
    before, has_axis = arrays.open_state(state, q.shape[:-2], q.shape[-1], v.shape[-1])
    c0, n0, m0 = before or arrays.zero_state(q.shape[:-2], q.shape[-1], v.shape[-1])
    kind = q.dtype
    q, k, v, i, f = (x.astype(mx.float32) for x in (q, k, v, i, f))
    q = q * q.shape[-1] ** -0.5
    b = mx.cumsum(activations.log_sigmoid(f), axis=-1)
    i = activations.log_sigmoid(i) if siging else i
    seen = mx.tri(q.shape[-2], dtype=mx.bool_)
    d = mx.where(seen, b[..., :, None] - b[..., None, :] + i[..., None, :], -mx.inf)
    from_m0 = b if siging else b + m0[..., None]
    m = mx.zeros_like(b) if siging else mx.maximum(from_m0, d.max(-1))
    weights = mx.exp(d - m[..., None])
    past = mx.exp(from_m0 - m)
    scores = (q @ k.swapaxes(-1, -2)) * weights
    old = q * past[..., None]
    h = scores @ v + old @ c0
    if normalize:
        r = scores.sum(-1) + (old @ n0[..., None]).squeeze(-1)
        h = h / (mx.maximum(mx.abs(r), 1.0 if siging else mx.exp(-m)) + eps)[..., None]
    if not return_last_states:
        return h.astype(kind)
    shares = k * weights[..., -1, :, None]
    last = (c0 * past[..., -1, None, None] + shares.swapaxes(-1, -2) @ v,
            n0 * past[..., -1, None] + shares.sum(-2), m[..., -1])
    return h.astype(kind), arrays.close_state(last, has_axis)
