"""What the functions of mlx_kd.linalg take: checks, types, streams, axes before the matrices; and failures."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Optional, Union

import mlx.core as mx

from mlx_kd._core import is_traced

Where = Union[mx.Stream, mx.Device]
Stream = Union[mx.Stream, mx.Device, mx.DeviceType, None]

OURS = (mx.float32, mx.float16, mx.bfloat16)
WIDE = (mx.float64, mx.complex64)  # taken by MLX's form


def place(stream: Any) -> Where:
    """The stream of a call; a device means its default stream."""
    if isinstance(stream, mx.Stream):
        return stream
    if stream is None:
        return mx.default_stream(mx.default_device())
    return mx.default_stream(stream if isinstance(stream, mx.Device) else mx.Device(stream))


def is_cpu(where: Any) -> bool:
    device = where.device if isinstance(where, mx.Stream) else where
    return bool(device == mx.cpu)


def cpu_place(where: Where) -> Where:
    """The stream if it is a CPU's, else the CPU's default one."""
    return where if is_cpu(where) else mx.default_stream(mx.cpu)


def matrices(what: str, a: Any, name: str = "a", square: bool = False, complex_too: bool = False,
             integers_too: bool = False) -> mx.array:
    """An array of at least one matrix axis pair, of a type that the function takes."""
    a = a if isinstance(a, mx.array) else mx.array(a)
    if a.ndim < 2:
        raise ValueError(f"[linalg] {what}: {name} has shape {a.shape}: give at least two axes, [..., m, n]")
    if square and a.shape[-1] != a.shape[-2]:
        raise ValueError(f"[linalg] {what}: {name} has shape {a.shape}: give square matrices, [..., n, n]")
    return typed(what, a, name, complex_too, integers_too)


def typed(what: str, a: mx.array, name: str, complex_too: bool = False, integers_too: bool = False) -> mx.array:
    if a.dtype in OURS or a.dtype == mx.float64 or (a.dtype == mx.complex64 and complex_too):
        return a
    if a.dtype == mx.complex64:
        raise ValueError(f"[linalg] {what}: {name} has type complex64: give a real type, MLX has no complex {what}")
    if integers_too:
        return a.astype(mx.float32)
    raise ValueError(f"[linalg] {what}: {name} has type {str(a.dtype).split('.')[-1]}: "
                     f"give a floating-point type, {name}.astype(mx.float32)")


def transpose(a: mx.array) -> mx.array:
    return mx.swapaxes(a, -1, -2)


def adjoint(a: mx.array) -> mx.array:
    return mx.conjugate(transpose(a)) if a.dtype == mx.complex64 else transpose(a)


def eye_like(a: mx.array) -> mx.array:
    """The identity of a's last axis."""
    return mx.eye(a.shape[-1], dtype=a.dtype)


def diagonal(a: mx.array) -> mx.array:
    return mx.diagonal(a, axis1=-2, axis2=-1)


def trace(a: mx.array) -> mx.array:
    return diagonal(a).sum(-1)


def together(what: str, a: mx.array, b: mx.array, b_axes: int = 2) -> tuple[mx.array, mx.array]:
    """Both with one type and the same leading axes; b's last `b_axes` axes are its own."""
    if a.dtype != b.dtype:
        kind = mx.result_type(a, b)
        a, b = a.astype(kind), b.astype(kind)
    ours, theirs = a.shape[:-2], b.shape[:b.ndim - b_axes]
    try:
        lead = mx.broadcast_shapes(ours, theirs)
    except ValueError:
        raise ValueError(f"[linalg] {what}: the leading axes {tuple(ours)} of a and {tuple(theirs)} of b do not "
                         "broadcast: give the same, or 1, on each") from None
    return (mx.broadcast_to(a, (*lead, *a.shape[-2:])),
            mx.broadcast_to(b, (*lead, *b.shape[b.ndim - b_axes:])))


# ---- failures

def finish(what: str, outputs: Sequence[mx.array], info: mx.array, return_info: bool, check: bool) -> Any:
    """The outputs as the caller asked for them: one array or a tuple, info after them, failures raised."""
    if check:
        refuse_failures(what, info)
    found = (*outputs, info) if return_info else tuple(outputs)
    return found if len(found) > 1 else found[0]


def refuse_failures(what: str, info: mx.array) -> None:
    if is_traced([info]):
        raise ValueError(f"[linalg] {what}: check=True looks at values, which a function under compile, grad or vmap "
                         "does not have: leave it out and use return_info=True")
    failed = indices(info)
    if failed:
        named = ", ".join(map(str, failed[:8])) + (", ..." if len(failed) > 8 else "")
        raise ValueError(f"[linalg] {what}: {len(failed)} of {info.size} matrices failed, at {named}: correct them, "
                         "or leave out check=True to have NaN in their place")


def indices(info: mx.array) -> list[Any]:
    """Where info is not 0: ints, or tuples where there are several axes; () is the only matrix."""
    found: list[Any] = []

    def walk(values: Any, path: tuple[int, ...]) -> None:
        if isinstance(values, list):
            for i, each in enumerate(values):
                walk(each, (*path, i))
        elif values != 0:
            found.append(path[0] if len(path) == 1 else path)

    walk(info.tolist(), ())
    return found


def nan_info(a: mx.array, axes: int = 2) -> mx.array:
    """1 for each matrix with an element that is not a number."""
    bad = mx.isnan(a.real) | mx.isnan(a.imag) if a.dtype == mx.complex64 else mx.isnan(a)
    return bad.any(tuple(range(-axes, 0))).astype(mx.int32)


def not_finite(a: mx.array) -> mx.array:
    """1 for each matrix with an element that is not finite."""
    good = mx.isfinite(a.real) & mx.isfinite(a.imag) if a.dtype == mx.complex64 else mx.isfinite(a)
    return (~good.all((-2, -1))).astype(mx.int32)


def in_place_of(failed: mx.array, a: mx.array, value: Optional[float] = None) -> mx.array:
    """a with NaN, or `value`, in the matrices (or rows) that failed."""
    wide = failed.reshape(failed.shape + (1,) * (a.ndim - failed.ndim))
    return mx.where(wide != 0, mx.array(float("nan") if value is None else value, a.dtype), a)
