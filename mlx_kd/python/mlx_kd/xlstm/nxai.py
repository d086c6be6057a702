"""The functions of mlstm_kernels (NX-AI) under their names and with their parameters, for arrays of MLX.

What differs: sequences and chunks may have any length; the gradient is the true one, that of the normaliser and of
m included, which the published backward kernels leave out; all run the same kernels. What sets the tiles of Triton
kernels (``siz_b_*``, ``num_warps_*``, ``num_stages_*``) or says when states are computed again
(``recompute_states_in_bw``) is taken so that calls need no change: results do not depend on it there, nor here.

m is ``[B, NH, 1]``, or ``[B, NH]`` if it comes so.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Any, Optional, TypeVar, Union

import mlx.core as mx

from mlx_kd.xlstm import arrays, operators
from mlx_kd.xlstm.arrays import State

Result = Union[mx.array, tuple[mx.array, State]]
Optional_ = Optional[mx.array]
Sequences = Callable[..., Any]  # h, or h and the state, as a flag says
Step = Callable[..., tuple[mx.array, State]]
Kernel = TypeVar("Kernel")


def _with_axis(m: Optional_, leading: tuple[int, ...]) -> Optional_:
    """m as it came; zeros with a last axis where there is none, so that the last m has it too."""
    return mx.zeros((*leading, 1), mx.float32) if m is None else m


def _narrowed(kind: Optional[mx.Dtype], *several: mx.array) -> list[mx.array]:
    if kind is not None and kind not in arrays.FLOATS:
        arrays.refuse(f"autocast_kernel_dtype is {kind}: give float32, float16 or bfloat16")
    return [x if kind is None or kind == mx.float32 else x.astype(kind) for x in several]


def _sequence(q: mx.array, k: mx.array, v: mx.array, i: mx.array, f: mx.array,
              state: tuple[Optional_, Optional_, Optional_], last: bool, eps: float, chunk: Optional[int] = None,
              kind: Optional[mx.Dtype] = None, siging: bool = False, normalize: bool = True) -> Result:
    type_of_h = q.dtype
    q, k, v = _narrowed(kind, q, k, v)
    c, n, m = state
    if last and not siging:
        m = _with_axis(m, q.shape[:-2])
    found = operators.mlstm_chunkwise(q, k, v, i, f, chunk_size=chunk, state=(c, n, m), return_last_states=last, eps=eps,
                                      siging=siging, normalize=normalize)
    if isinstance(found, mx.array):
        return found.astype(type_of_h)
    h, states = found
    return h.astype(type_of_h), states


def mlstm_chunkwise__xl_chunk(
        q: mx.array, k: mx.array, v: mx.array, i: mx.array, f: mx.array, c_initial: Optional_ = None,
        n_initial: Optional_ = None, m_initial: Optional_ = None, return_last_states: bool = False, eps: float = 1e-6,
        chunk_size: int = 128, chunk_size_inter: Optional[int] = None, chunk_size_intra: Optional[int] = None,
        siz_b_L_parallel: Optional[int] = None, siz_b_L_loop: Optional[int] = None,
        siz_b_DH_parallel: Optional[int] = None, siz_b_DH_loop: Optional[int] = None,
        num_warps_intra: Optional[int] = None, num_warps_inter: Optional[int] = None,
        num_stages_intra: Optional[int] = None, num_stages_inter: Optional[int] = None,
        recompute_states_in_bw: bool = True, autocast_kernel_dtype: mx.Dtype = mx.float32) -> Result:
    """h, or h and (C, n, m) with `return_last_states`; q, k and v are rounded to `autocast_kernel_dtype`."""
    return _sequence(q, k, v, i, f, (c_initial, n_initial, m_initial), return_last_states, eps,
                     chunk_size_inter or chunk_size, autocast_kernel_dtype)


def mlstm_chunkwise__limit_chunk(
        q: mx.array, k: mx.array, v: mx.array, i: mx.array, f: mx.array, c_initial: Optional_ = None,
        n_initial: Optional_ = None, m_initial: Optional_ = None, return_last_states: bool = False, eps: float = 1e-6,
        chunk_size: int = 64, autocast_kernel_dtype: mx.Dtype = mx.float16) -> Result:
    """As :func:`mlstm_chunkwise__xl_chunk`."""
    return _sequence(q, k, v, i, f, (c_initial, n_initial, m_initial), return_last_states, eps, chunk_size,
                     autocast_kernel_dtype)


def mlstm_siging_chunkwise__xl_chunk(
        q: mx.array, k: mx.array, v: mx.array, i: mx.array, f: mx.array, c_initial: Optional_ = None,
        n_initial: Optional_ = None, m_initial: Optional_ = None, return_last_states: bool = False, eps: float = 1e-6,
        normalize: bool = True, chunk_size: int = 128, chunk_size_inter: Optional[int] = None,
        chunk_size_intra: Optional[int] = None, siz_b_L_parallel: Optional[int] = None,
        siz_b_L_loop: Optional[int] = None, siz_b_DH_parallel: Optional[int] = None,
        siz_b_DH_loop: Optional[int] = None, num_warps_intra: Optional[int] = None,
        num_warps_inter: Optional[int] = None, num_stages_intra: Optional[int] = None,
        num_stages_inter: Optional[int] = None, recompute_states_in_bw: bool = True,
        autocast_kernel_dtype: mx.Dtype = mx.float32) -> Union[mx.array, tuple[mx.array, tuple[mx.array, mx.array]]]:
    """With a sigmoid input gate: h, or h and (C, n). There is no m; `m_initial` is not read."""
    found = _sequence(q, k, v, i, f, (c_initial, n_initial, None), return_last_states, eps,
                      chunk_size_inter or chunk_size, autocast_kernel_dtype, True, normalize)
    return found if isinstance(found, mx.array) else (found[0], found[1][:2])


def mlstm_chunkwise__native_autograd(
        q: mx.array, k: mx.array, v: mx.array, i: mx.array, f: mx.array, c_initial: Optional_ = None,
        n_initial: Optional_ = None, m_initial: Optional_ = None, return_last_states: bool = False, eps: float = 1e-6,
        chunk_size: int = 64, **kwargs: Any) -> Result:
    """h, or h and (C, n, m) with `return_last_states`."""
    return _sequence(q, k, v, i, f, (c_initial, n_initial, m_initial), return_last_states, eps, chunk_size)


def mlstm_chunkwise__native_custbw(
        q: mx.array, k: mx.array, v: mx.array, i: mx.array, f: mx.array, c_initial: Optional_ = None,
        n_initial: Optional_ = None, m_initial: Optional_ = None, return_last_states: bool = False, eps: float = 1e-6,
        chunk_size: int = 64, autocast_kernel_dtype: mx.Dtype = mx.float32) -> Result:
    """As :func:`mlstm_chunkwise__native_autograd`."""
    return _sequence(q, k, v, i, f, (c_initial, n_initial, m_initial), return_last_states, eps, chunk_size,
                     autocast_kernel_dtype)


def mlstm_parallel__native_autograd(
        q: mx.array, k: mx.array, v: mx.array, i: mx.array, f: mx.array, c_initial: Optional_ = None,
        n_initial: Optional_ = None, m_initial: Optional_ = None, return_last_states: bool = False, eps: float = 1e-6,
        **kwargs: Any) -> Result:
    """h, chunk by chunk: the result is that of the parallel form."""
    return _sequence(q, k, v, i, f, (c_initial, n_initial, m_initial), return_last_states, eps)


def mlstm_siging_parallel__native_autograd(
        q: mx.array, k: mx.array, v: mx.array, i: mx.array, f: mx.array, c_initial: Optional_ = None,
        n_initial: Optional_ = None, m_initial: Optional_ = None, return_last_states: bool = False, eps: float = 1e-6,
        stable_fgate: bool = True, normalize: bool = True, **kwargs: Any) -> Result:
    """With a sigmoid input gate; sums of gates are as exact with `stable_fgate` as without."""
    return _sequence(q, k, v, i, f, (c_initial, n_initial, None), return_last_states, eps, siging=True,
                     normalize=normalize)


def _check_state_type(kind: mx.Dtype) -> None:
    if kind != mx.float32:
        arrays.refuse(f"dtype_state is {kind}: states are float32")


def mlstm_recurrent_step__native_fw(
        matC_old: mx.array, vecN_old: mx.array, scaM_old: mx.array, vecQ: mx.array, vecK: mx.array, vecV: mx.array,
        scaI: mx.array, scaF: mx.array, eps: float = 1e-6, dtype_state: mx.Dtype = mx.float32,
        **kwargs: Any) -> tuple[mx.array, State]:
    """One token: h ``[B, NH, DHHV]`` and (C, n, m)."""
    _check_state_type(dtype_state)
    return operators.mlstm_step(vecQ, vecK, vecV, scaI, scaF, (matC_old, vecN_old, scaM_old), eps=eps)


def mlstm_recurrent_step__native(
        q: mx.array, k: mx.array, v: mx.array, i: mx.array, f: mx.array, c: mx.array, n: mx.array, m: mx.array,
        eps: float = 1e-6, dtype_state: mx.Dtype = mx.float32, **kwargs: Any) -> tuple[mx.array, State]:
    """One token: h ``[B, NH, DHHV]`` and (C, n, m); i and f are ``[B, NH, 1]``."""
    return mlstm_recurrent_step__native_fw(c, n, m, q, k, v, i, f, eps, dtype_state)


def mlstm_recurrent_sequence__native_fw(
        q: mx.array, k: mx.array, v: mx.array, i: mx.array, f: mx.array, c_initial: Optional_ = None,
        n_initial: Optional_ = None, m_initial: Optional_ = None, return_last_states: bool = False, eps: float = 1e-6,
        dtype_state: mx.Dtype = mx.float32, **kwargs: Any) -> Result:
    """A sequence: h, or h and (C, n, m) with `return_last_states`."""
    _check_state_type(dtype_state)
    return _sequence(q, k, v, i, f, (c_initial, n_initial, m_initial), return_last_states, eps)


_KERNELS: dict[str, Sequences] = {
    "chunkwise--native_autograd": mlstm_chunkwise__native_autograd,
    "chunkwise--native_custbw": mlstm_chunkwise__native_custbw,
    "chunkwise--triton_limit_chunk": mlstm_chunkwise__limit_chunk,
    "chunkwise--triton_xl_chunk": mlstm_chunkwise__xl_chunk,
    "chunkwise--triton_xl_chunk_siging": mlstm_siging_chunkwise__xl_chunk,
    "parallel--native_autograd": mlstm_parallel__native_autograd,
    "parallel--native_siging_autograd": mlstm_siging_parallel__native_autograd}
_STEPS: dict[str, Step] = {"native": mlstm_recurrent_step__native, "triton": mlstm_recurrent_step__native}
_SEQUENCES: dict[str, Sequences] = {
    "native_sequence__native": mlstm_recurrent_sequence__native_fw,
    "native_sequence__triton": mlstm_recurrent_sequence__native_fw}


def _find(table: dict[str, Kernel], name: str, what: str) -> Kernel:
    if name not in table:
        arrays.refuse(f"there is no {what} {name!r}: choose {', '.join(table)}")
    return table[name]


def get_mlstm_kernel(name: str) -> Sequences:
    """The function of a name such as ``chunkwise--triton_xl_chunk``."""
    return _find(_KERNELS, name, "kernel")


def get_mlstm_step_kernel(name: str) -> Step:
    """The function of ``native`` or ``triton``."""
    return _find(_STEPS, name, "step kernel")


def get_mlstm_sequence_kernel(name: str) -> Sequences:
    """The function of a name such as ``native_sequence__native``."""
    return _find(_SEQUENCES, name, "sequence kernel")


def get_available_mlstm_kernels() -> list[str]:
    return list(_KERNELS)


def get_available_mlstm_step_kernels() -> list[str]:
    return list(_STEPS)


def get_available_mlstm_sequence_kernels() -> list[str]:
    return list(_SEQUENCES)


__all__ = [
    "get_available_mlstm_kernels", "get_available_mlstm_sequence_kernels", "get_available_mlstm_step_kernels",
    "get_mlstm_kernel", "get_mlstm_sequence_kernel", "get_mlstm_step_kernel", "mlstm_chunkwise__limit_chunk",
    "mlstm_chunkwise__native_autograd", "mlstm_chunkwise__native_custbw", "mlstm_chunkwise__xl_chunk",
    "mlstm_parallel__native_autograd", "mlstm_recurrent_sequence__native_fw", "mlstm_recurrent_step__native",
    "mlstm_recurrent_step__native_fw", "mlstm_siging_chunkwise__xl_chunk", "mlstm_siging_parallel__native_autograd"]
