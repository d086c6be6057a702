"""What caches hold: keys and values as planes, one array [B, H, rows, D], or codes, scales and biases of the same rows.

All caches move rows; none looks into them. A function here does one thing to the rows of all planes.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Any, Optional

import mlx.core as mx
from mlx.utils import tree_flatten, tree_map

Planes = Any  # mx.array, or a tuple of three


def each(function: Callable[..., mx.array], planes: Planes, *more: Planes) -> Planes:
    return tree_map(function, planes, *more)


def first(planes: Planes) -> mx.array:
    one: mx.array = planes if isinstance(planes, mx.array) else planes[0]
    return one


def rows(planes: Planes) -> int:
    return first(planes).shape[2]


def cut(planes: Planes, begin: Optional[int], end: Optional[int]) -> Planes:
    return each(lambda x: x[..., begin:end, :], planes)


def filled(planes: Planes, count: int) -> Planes:
    """The first rows; the planes themselves where that is all."""
    return planes if count >= rows(planes) else cut(planes, 0, count)


def join(*parts: Planes) -> Planes:
    """Along the rows."""
    return each(lambda *x: mx.concatenate(list(x), axis=2), *parts)


def stack(*parts: Planes) -> Planes:
    """Along the batch."""
    return each(lambda *x: mx.concatenate(list(x), axis=0), *parts)


def spare(planes: Planes, count: int, batch: Optional[int] = None) -> Planes:
    """`count` rows of zeros, otherwise as `planes`."""
    def one(x: mx.array) -> mx.array:
        return mx.zeros((x.shape[0] if batch is None else batch, x.shape[1], count, x.shape[3]), x.dtype)
    return each(one, planes)


def padded(planes: Planes, left: int, right: int) -> Planes:
    if left == 0 and right == 0:
        return planes
    return each(lambda x: mx.pad(x, [(0, 0), (0, 0), (left, right), (0, 0)]), planes)


def rolled(planes: Planes, by: int) -> Planes:
    return each(lambda x: mx.roll(x, by, 2), planes)


def rolled_each(planes: Planes, by: mx.array) -> Planes:
    """Each of the batch by its own number of rows, to the right."""
    def one(x: mx.array) -> mx.array:
        length = x.shape[2]
        index = (mx.arange(length)[None, :] - by[:, None]) % max(1, length)
        return mx.take_along_axis(x, index[:, None, :, None], axis=2)
    return each(one, planes)


def taken(planes: Planes, which: Any) -> Planes:
    """Of the batch."""
    return each(lambda x: x[which], planes)


def put(planes: Planes, at: int, added: Planes) -> Planes:
    """`added` in the place of the rows from `at` on: in place where nothing else holds the memory."""
    count = rows(added)

    def one(x: mx.array, new: mx.array) -> mx.array:
        x[..., at:at + count, :] = new
        return x
    return each(one, planes, added)


def put_batch(planes: Planes, which: int, at: int, added: Planes) -> Planes:
    count = rows(added)

    def one(x: mx.array, new: mx.array) -> mx.array:
        x[which:which + 1, :, at:at + count] = new
        return x
    return each(one, planes, added)


def arrays_of(tree: Any) -> list[mx.array]:
    """All arrays in lists and tuples of anything."""
    flat: Any = tree_flatten(tree)
    return [x for _, x in flat if isinstance(x, mx.array)]


def bytes_of(*planes: Planes) -> int:
    return sum(int(x.nbytes) for x in arrays_of(list(planes)))
