"""Derivatives and vmap of functions that MLX cannot look into.

A function has one formula, its jvp; the vjp is the transpose of that, since a jvp is linear in its tangents.
Functions whose jvp is made of themselves (`solve`) give their vjp too. Arrays of a call share their leading axes,
so under vmap one more axis goes before them.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Optional, Union

import mlx.core as mx

from mlx_kd._core import placeholders, seal

Arrays = tuple[mx.array, ...]
Compute = Callable[..., Arrays]
Where = Union[mx.Stream, mx.Device]
Jvp = Callable[[Sequence[mx.array], Sequence[mx.array], Sequence[mx.array]], Sequence[mx.array]]


def no_gradient(what: str, why: str) -> Jvp:
    """The jvp of a function without one."""
    def refuse(*_: Sequence[mx.array]) -> Sequence[mx.array]:
        raise ValueError(f"[linalg] {what} has no gradient: {why}")
    return refuse


def transposed(jvp: Jvp, primals: Sequence[mx.array], outputs: Sequence[mx.array],
               cotangents: Sequence[mx.array]) -> list[mx.array]:
    """The vjp that belongs to a jvp; of an output without a tangent the cotangent is of no account."""
    def linear(*tangents: mx.array) -> list[mx.array]:
        return list(jvp(primals, tangents, outputs))

    count = len(linear(*[mx.zeros_like(x) for x in primals]))
    _, gradients = mx.vjp(linear, [mx.zeros_like(x) for x in primals], list(cotangents[:count]))
    return list(gradients)


def batched(inputs: Sequence[mx.array], axes: Sequence[Optional[int]]) -> list[mx.array]:
    """Every input with the mapped axis first."""
    size = next(x.shape[axis] for x, axis in zip(inputs, axes) if axis is not None)
    return [mx.broadcast_to(x[None], (size, *x.shape)) if axis is None else mx.moveaxis(x, axis, 0)
            for x, axis in zip(inputs, axes)]


def hidden(compute: Compute, inputs: Sequence[mx.array], stream: Where) -> Arrays:
    """compute(*inputs) on a stream, as one node on a CPU: a custom function of MLX lets vmap look inside."""
    with mx.stream(stream):
        inputs = [mx.stop_gradient(x) for x in inputs]  # a jvp looks inside
        if mx.default_device() != mx.cpu:
            return tuple(compute(*inputs))
        stand_ins = placeholders(inputs)
        return tuple(seal(inputs, stand_ins, list(compute(*stand_ins)), mx.default_stream(mx.cpu)))


def apply(compute: Compute, jvp: Jvp, *arrays: mx.array, stream: Where, vjp: Optional[Jvp] = None) -> Arrays:
    """compute(*arrays), differentiable by `jvp`(primals, tangents, outputs), whose tangents belong to the first outputs.

    `vjp` takes (primals, cotangents, outputs). The rules compute on the stream too.
    """
    @mx.custom_function
    def function(*inputs: mx.array) -> Arrays:
        return hidden(compute, inputs, stream)

    def of_outputs(primals: Sequence[mx.array]) -> Arrays:
        return apply(compute, jvp, *primals, stream=stream, vjp=vjp)

    @function.vjp
    def _(primals: Sequence[mx.array], cotangents: Sequence[mx.array], outputs: Sequence[mx.array]) -> Arrays:
        primals = as_tuple(primals)
        with mx.stream(stream):
            outputs = of_outputs(primals)
            if vjp is not None:
                return tuple(vjp(primals, as_tuple(cotangents), outputs))
            return tuple(transposed(jvp, primals, outputs, as_tuple(cotangents)))

    @function.jvp
    def _(primals: Sequence[mx.array], tangents: Sequence[mx.array]) -> Arrays:
        primals = as_tuple(primals)
        given = [mx.zeros_like(x) if t is None else t for x, t in zip(primals, as_tuple(tangents))]
        with mx.stream(stream):
            outputs = of_outputs(primals)
            found = list(jvp(primals, given, outputs))
            return (*found, *(mx.zeros_like(x) for x in outputs[len(found):]))

    @function.vmap
    def _(inputs: Sequence[mx.array], axes: Sequence[Optional[int]]) -> tuple[Arrays, tuple[int, ...]]:
        many = axes if isinstance(axes, (tuple, list)) else (axes,)
        outputs = of_outputs(batched(as_tuple(inputs), many))
        return outputs, (0,) * len(outputs)

    found: Arrays = tuple(function(*arrays))  # type: ignore[arg-type]
    return found


def as_tuple(arrays: Sequence[mx.array]) -> Arrays:
    return (arrays,) if isinstance(arrays, mx.array) else tuple(arrays)
