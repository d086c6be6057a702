"""What the functions of mlx_kd.xlstm ask of their arrays, and states that come in either of two shapes."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

import mlx.core as mx

FLOATS = (mx.float32, mx.bfloat16, mx.float16)
State = tuple[mx.array, mx.array, mx.array]  # C [B, NH, DHQK, DHHV], n [B, NH, DHQK], m [B, NH] or [B, NH, 1]


def refuse(what: str, error: type[Exception] = ValueError) -> None:
    raise error(f"[mlstm] {what}")


def _list(shape: Sequence[int]) -> str:
    return "[" + ", ".join(map(str, shape)) + "]"


def check_types(q: mx.array, k: mx.array, v: mx.array, i: mx.array, f: mx.array) -> None:
    if not (q.dtype == k.dtype == v.dtype) or q.dtype not in FLOATS:
        refuse(f"q, k and v have the types {q.dtype}, {k.dtype} and {v.dtype}: give one of float32, bfloat16 and "
               "float16 for all three")
    for name, gate in (("i", i), ("f", f)):
        if gate.dtype not in FLOATS:
            refuse(f"{name} has the type {gate.dtype}: give float32, bfloat16 or float16")


def check_shapes(q: mx.array, k: mx.array, v: mx.array, i: mx.array, f: mx.array, behind: int) -> None:
    """`behind`: axes of q after the batch and the heads, 2 for a sequence, 1 for a token."""
    letters = "S, DHQK" if behind == 2 else "DHQK"
    if q.ndim < behind + 1:
        refuse(f"q has the shape {_list(q.shape)}: it must be [B, NH, {letters}], with any number of axes before "
               "the last " + ("two" if behind == 2 else "one"))
    leading, tokens = q.shape[:-1], q.shape[-2:-1] if behind == 2 else ()
    for name, array, wanted in (("k", k, q.shape), ("v", v, (*leading, v.shape[-1] if v.ndim else 0)),
                                ("i", i, leading), ("f", f, leading)):
        if tuple(array.shape) != tuple(wanted):
            refuse(f"{name} has the shape {_list(array.shape)}: it must be {_list(wanted)}, as q has the shape "
                   f"{_list(q.shape)}")
    if q.shape[-1] == 0 or v.shape[-1] == 0:
        refuse(f"q has the shape {_list(q.shape)} and v {_list(v.shape)}: DHQK and DHHV must be at least 1")


def check_chunk(chunk_size: Optional[int]) -> int:
    if chunk_size is None:
        return 0
    if isinstance(chunk_size, bool) or not isinstance(chunk_size, int):
        refuse(f"chunk_size is {chunk_size!r}: give a whole number of tokens, or None", TypeError)
    if not 1 <= chunk_size <= 1024:
        refuse(f"chunk_size is {chunk_size}: give 1 to 1024 tokens, or None for the kernel's own")
    return chunk_size


def open_state(state: Optional[Sequence[Optional[mx.array]]], leading: Sequence[int], qk: int,
               hv: int) -> tuple[Optional[State], bool]:
    """C, n and m without a last axis of 1, and whether m had it; what is None is zeros."""
    if state is None or all(part is None for part in state):
        return None, False
    if len(state) != 3:
        refuse(f"the state has {len(state)} parts: give C, n and m")
    wanted = ((*leading, qk, hv), (*leading, qk), tuple(leading))
    parts, has_axis = [], False
    for name, part, shape in zip("Cnm", state, wanted):
        if part is None:
            part = mx.zeros(shape, mx.float32)
        elif not isinstance(part, mx.array) or part.dtype != mx.float32:
            refuse(f"{name} of the state has the type {getattr(part, 'dtype', type(part).__name__)}: states are "
                   "float32")
        if name == "m" and tuple(part.shape) == (*leading, 1):
            has_axis, part = True, part.squeeze(-1)
        if tuple(part.shape) != tuple(shape):
            both = f" or {_list((*shape, 1))}" if name == "m" else ""
            refuse(f"{name} of the state has the shape {_list(part.shape)}: it must be {_list(shape)}{both}")
        parts.append(part)
    return (parts[0], parts[1], parts[2]), has_axis


def close_state(state: State, has_axis: bool) -> State:
    c, n, m = state
    return (c, n, m[..., None]) if has_axis else (c, n, m)


def zero_state(leading: Sequence[int], qk: int, hv: int) -> State:
    return (mx.zeros((*leading, qk, hv), mx.float32), mx.zeros((*leading, qk), mx.float32),
            mx.zeros(tuple(leading), mx.float32))
