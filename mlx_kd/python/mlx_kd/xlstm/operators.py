"""mLSTM over sequences and token by token: the operators with gradients and vmap."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Literal, NamedTuple, Optional, Union, cast, overload

import mlx.core as mx

from mlx_kd import _operators
from mlx_kd._core import call
from mlx_kd.xlstm import arrays
from mlx_kd.xlstm.arrays import State

STATE = 3  # arrays of a state
Arrays = tuple[mx.array, ...]
Run = Callable[..., Arrays]


class Settings(NamedTuple):
    eps: float
    siging: bool
    normalize: bool
    normalizer_grad: bool
    chunk: int = 0

    def numbers(self) -> dict[str, Any]:
        return {"eps": self.eps, "siging": int(self.siging), "normalize": int(self.normalize),
                "normalizer_grad": int(self.normalizer_grad), "chunk": self.chunk}


def _settings(eps: float, siging: bool, normalize: bool, normalizer_grad: bool, chunk: int) -> Settings:
    if not normalize and not siging:
        arrays.refuse("normalize is False and so is siging: only the sigmoid input gate does without a normaliser")
    if not eps > 0:
        arrays.refuse(f"eps is {eps}: give a number above 0")
    return Settings(float(eps), bool(siging), bool(normalize), bool(normalizer_grad), chunk)


def _folded(run: Run) -> Callable[[Sequence[mx.array], Sequence[Optional[int]]], tuple[Arrays, tuple[int, ...]]]:
    """A vmap of `run`: the mapped axis becomes the first of every array, for leading axes may be any."""
    def vmap(inputs: Sequence[mx.array], axes: Sequence[Optional[int]]) -> tuple[Arrays, tuple[int, ...]]:
        size = next(x.shape[axis] for x, axis in zip(inputs, axes) if axis is not None)
        moved = [mx.broadcast_to(x[None], (size, *x.shape)) if axis is None else mx.moveaxis(x, axis, 0)
                 for x, axis in zip(inputs, axes)]
        outputs = run(*moved)
        return outputs, (0,) * len(outputs)
    return vmap


def _custom(run: Run, vjp: Optional[Callable[[Arrays, Arrays, Arrays], Arrays]] = None) -> Run:
    """`run` with this gradient, if any, and a vmap."""
    function = mx.custom_function(run)
    made = cast(Run, function)
    if vjp is not None:
        function.vjp(vjp)
    function.vmap(_folded(made))
    return made


@lru_cache(maxsize=64)
def _backward(settings: Settings) -> Run:
    def run(*inputs: mx.array) -> Arrays:
        has_state = len(inputs) == 5 + STATE + 4
        middle = [] if has_state else [mx.zeros(0)] * STATE
        found = call("mlstm_chunkwise_vjp", [*inputs[:-4], *middle, *inputs[-4:]], settings.numbers())
        return tuple(found[:5 + STATE if has_state else 5])

    return _custom(run)


@lru_cache(maxsize=64)
def _chunkwise(settings: Settings) -> Run:
    def run(q: mx.array, k: mx.array, v: mx.array, i: mx.array, f: mx.array, *state: mx.array) -> Arrays:
        c, n, m = state or (None, None, None)
        return tuple(_operators.mlstm_chunkwise(q, k, v, i, f, c, n, m, **settings.numbers()))

    def vjp(primals: Arrays, cotangents: Arrays, _outputs: Arrays) -> Arrays:
        return _backward(settings)(*primals, *cotangents)

    return _custom(run, vjp)


@lru_cache(maxsize=64)
def _step(settings: Settings) -> Run:
    def run(q: mx.array, k: mx.array, v: mx.array, i: mx.array, f: mx.array, *state: mx.array) -> Arrays:
        c, n, m = state
        return tuple(_operators.mlstm_step(q, k, v, i, f, c, n, m, eps=settings.eps, siging=int(settings.siging),
                                           normalize=int(settings.normalize)))

    def vjp(primals: Arrays, cotangents: Arrays, _outputs: Arrays) -> Arrays:  # a sequence of one token
        q, k, v = (x[..., None, :] for x in primals[:3])
        i, f = (x[..., None] for x in primals[3:5])
        dh, *of_state = cotangents
        found = _backward(settings)(q, k, v, i, f, *primals[5:], dh[..., None, :], *of_state)
        return (*(x.squeeze(-2) for x in found[:3]), *(x.squeeze(-1) for x in found[3:5]), *found[5:])

    return _custom(run, vjp)


@overload
def mlstm_chunkwise(
        q: mx.array, k: mx.array, v: mx.array, i: mx.array, f: mx.array, *, chunk_size: Optional[int] = ...,
        state: Optional[Sequence[Optional[mx.array]]] = ..., return_last_states: Literal[False] = ..., eps: float = ...,
        normalizer_grad: bool = ..., siging: bool = ..., normalize: bool = ...) -> mx.array: ...


@overload
def mlstm_chunkwise(
        q: mx.array, k: mx.array, v: mx.array, i: mx.array, f: mx.array, *, chunk_size: Optional[int] = ...,
        state: Optional[Sequence[Optional[mx.array]]] = ..., return_last_states: Literal[True], eps: float = ...,
        normalizer_grad: bool = ..., siging: bool = ..., normalize: bool = ...) -> tuple[mx.array, State]: ...


@overload
def mlstm_chunkwise(
        q: mx.array, k: mx.array, v: mx.array, i: mx.array, f: mx.array, *, chunk_size: Optional[int] = ...,
        state: Optional[Sequence[Optional[mx.array]]] = ..., return_last_states: bool, eps: float = ...,
        normalizer_grad: bool = ..., siging: bool = ...,
        normalize: bool = ...) -> Union[mx.array, tuple[mx.array, State]]: ...


def mlstm_chunkwise(
        q: mx.array, k: mx.array, v: mx.array, i: mx.array, f: mx.array, *, chunk_size: Optional[int] = None,
        state: Optional[Sequence[Optional[mx.array]]] = None, return_last_states: bool = False, eps: float = 1e-6,
        normalizer_grad: bool = True, siging: bool = False,
        normalize: bool = True) -> Union[mx.array, tuple[mx.array, State]]:
    """mLSTM over sequences of any length, chunk by chunk; differentiable.

    Parameters
    ----------
    q, k : mx.array
        ``[B, NH, S, DHQK]``, of one type with `v`: float32, bfloat16 or float16. q is scaled by 1 / sqrt(DHQK).
    v : mx.array
        ``[B, NH, S, DHHV]``.
    i, f : mx.array
        ``[B, NH, S]``: input and forget gates before their functions.
    chunk_size : int, optional
        Tokens of a chunk, 1 to 1024; it changes no result but by rounding. None: what the kernel takes.
    state : tuple, optional
        C ``[B, NH, DHQK, DHHV]``, n ``[B, NH, DHQK]`` and m ``[B, NH]`` or ``[B, NH, 1]`` before the first token,
        float32; None, or a part that is None: zeros.
    return_last_states : bool
        Whether the state after the last token is returned too, m in the shape in which it came.
    eps : float
        Added to the normaliser.
    normalizer_grad : bool
        False: the gradient takes the normaliser and m for constants, as the published kernels do.
    siging : bool
        The input gate is a sigmoid, and m is 0.
    normalize : bool
        False, with `siging`: without a normaliser.

    Returns
    -------
    mx.array or tuple
        h ``[B, NH, S, DHHV]`` in the type of q; with `return_last_states`, h and the state.

    Notes
    -----
    Leading axes may be any, and ``mx.vmap`` adds one. Gates may be infinite: a token whose i is -inf is ignored,
    f of -inf drops the past, i of +inf leaves the token alone. Second derivatives go through MLX's operators, for
    finite gates.
    """
    arrays.check_types(q, k, v, i, f)
    arrays.check_shapes(q, k, v, i, f, 2)
    settings = _settings(eps, siging, normalize, normalizer_grad, arrays.check_chunk(chunk_size))
    leading, sizes = q.shape[:-2], (q.shape[-1], v.shape[-1])
    before, has_axis = arrays.open_state(state, leading, *sizes)
    if q.size == 0 or v.size == 0:
        h = mx.zeros(v.shape, q.dtype)
        last = before or arrays.zero_state(leading, *sizes)
    else:
        h, *rest = _chunkwise(settings)(q, k, v, i.astype(mx.float32), f.astype(mx.float32), *(before or ()))
        last = (rest[0], rest[1], rest[2])
    return (h, arrays.close_state(last, has_axis)) if return_last_states else h


def mlstm_step(q: mx.array, k: mx.array, v: mx.array, i: mx.array, f: mx.array,
               state: Optional[Sequence[Optional[mx.array]]] = None, *, eps: float = 1e-6,
               normalizer_grad: bool = True, siging: bool = False,
               normalize: bool = True) -> tuple[mx.array, State]:
    """One token of mLSTM; differentiable.

    Parameters
    ----------
    q, k : mx.array
        ``[B, NH, DHQK]``.
    v : mx.array
        ``[B, NH, DHHV]``.
    i, f : mx.array
        ``[B, NH]`` or ``[B, NH, 1]``.
    state : tuple, optional
        As of :func:`mlstm_chunkwise`; C is updated in place where nothing else holds it.
    eps, normalizer_grad, siging, normalize
        As of :func:`mlstm_chunkwise`.

    Returns
    -------
    tuple
        h ``[B, NH, DHHV]`` and the state after the token.
    """
    i, f = (gate.squeeze(-1) if tuple(gate.shape) == (*q.shape[:-1], 1) else gate for gate in (i, f))
    arrays.check_types(q, k, v, i, f)
    arrays.check_shapes(q, k, v, i, f, 1)
    settings = _settings(eps, siging, normalize, normalizer_grad, 0)
    leading, sizes = q.shape[:-1], (q.shape[-1], v.shape[-1])
    before, has_axis = arrays.open_state(state, leading, *sizes)
    before = before or arrays.zero_state(leading, *sizes)
    if q.size == 0:
        return mx.zeros(v.shape, q.dtype), arrays.close_state(before, has_axis)
    h, c, n, m = _step(settings)(q, k, v, i.astype(mx.float32), f.astype(mx.float32), *before)
    return h, arrays.close_state((c, n, m), has_axis)
