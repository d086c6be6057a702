"""The mLSTM functions of xLSTM-metal under their names and with their parameters, on every device.

What differs: the gradient exists; the last states are right for lengths that are not a multiple of the chunk; chunks may
be longer than 64 tokens. m is ``[B, NH]``, or ``[B, NH, 1]`` if it comes so. The sizes of threadgroups (``siz_b_*``)
are taken so that calls need no change: results do not depend on them there, nor here.
"""
from __future__ import annotations

from typing import Optional

import mlx.core as mx

from mlx_kd.xlstm import arrays, operators
from mlx_kd.xlstm.arrays import State


def _floats(*several: Optional[mx.array]) -> tuple[Optional[mx.array], ...]:
    return tuple(None if x is None else x.astype(mx.float32) for x in several)


def mlstm_recurrent_step(
        q: mx.array, k: mx.array, v: mx.array, i_preact: mx.array, f_preact: mx.array, c_state: mx.array,
        n_state: mx.array, m_state: mx.array, eps: float = 1e-6) -> tuple[mx.array, mx.array, mx.array, mx.array]:
    """One token: h ``[B, NH, DHHV]``, C, n and m; states of other types become float32."""
    h, (c, n, m) = operators.mlstm_step(q, k, v, i_preact, f_preact, _floats(c_state, n_state, m_state), eps=eps)
    return h, c, n, m


def mlstm_sequential(
        q: mx.array, k: mx.array, v: mx.array, i_preact: mx.array, f_preact: mx.array,
        c_initial: Optional[mx.array] = None, n_initial: Optional[mx.array] = None,
        m_initial: Optional[mx.array] = None, eps: float = 1e-6,
        return_last_states: bool = True) -> tuple[mx.array, Optional[State]]:
    """A sequence: h ``[B, NH, S, DHHV]`` and the last state, or None."""
    h, state = operators.mlstm_chunkwise(q, k, v, i_preact, f_preact, eps=eps, return_last_states=True,
                                         state=_floats(c_initial, n_initial, m_initial))
    return h, state if return_last_states else None


def mlstm_chunkwise(
        q: mx.array, k: mx.array, v: mx.array, i_preact: mx.array, f_preact: mx.array, chunk_size: int = 64,
        c_initial: Optional[mx.array] = None, n_initial: Optional[mx.array] = None,
        m_initial: Optional[mx.array] = None, eps: float = 1e-6, return_last_states: bool = True,
        siz_b_DHQK: int = 16, siz_b_DHHV: int = 16, siz_b_LQ: int = 8, siz_b_LKV: int = 8,
        siz_b_DHQK_parallel: int = 8, siz_b_DHHV_parallel: int = 8,
        max_chunk_size: int = 64) -> tuple[mx.array, Optional[State]]:
    """A sequence: h ``[B, NH, S, DHHV]`` and the last state, or None; chunks of at most `max_chunk_size` tokens."""
    if chunk_size > max_chunk_size:
        arrays.refuse(f"chunk_size is {chunk_size}: max_chunk_size allows {max_chunk_size}, which may be up to 1024")
    h, state = operators.mlstm_chunkwise(q, k, v, i_preact, f_preact, chunk_size=chunk_size, eps=eps,
                                         return_last_states=True, state=_floats(c_initial, n_initial, m_initial))
    return h, state if return_last_states else None


__all__ = ["mlstm_chunkwise", "mlstm_recurrent_step", "mlstm_sequential"]
