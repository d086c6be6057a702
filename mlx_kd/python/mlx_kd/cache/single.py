"""Caches of one sequence (or several of equal length): contiguous and rotating, plain and quantised."""
from __future__ import annotations

from typing import Any, Optional

import mlx.core as mx

from mlx_kd.cache.base import Held, theirs
from mlx_kd.cache.codes import Coded, Plain, check_code, check_size, check_trim
from mlx_kd.cache.planes import Planes, cut, filled, join, rows, spare


class _Single(Held):
    """Of one sequence."""

    def keys_and_values(self) -> tuple[Planes, Planes]:
        return filled(self.keys, self.offset), filled(self.values, self.offset)

    def _take(self, other: Any) -> None:
        """The keys and values of a cache that is not quantised, in codes of this one."""
        if other.keys is not None:
            self._check(other.keys, other.values)
            self.keys, self.values = self._encode(other.keys), self._encode(other.values)

    @classmethod
    def merge(cls, caches: list[Any]) -> Any:
        return merged(caches)


class _Contiguous(_Single):
    """Grows by whole steps; a token is written in place."""

    step = 256

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[Planes, Planes]:
        self._check(keys, values)
        at, count = self.offset, keys.shape[2]
        if self.keys is None or at + count > rows(self.keys):
            self._grow(keys, values, at, count)
        self.offset = at + count
        self._write(at, keys, values)
        return self.keys_and_values()

    def _grow(self, keys: mx.array, values: mx.array, at: int, count: int) -> None:
        more = (self.step + count - 1) // self.step * self.step
        if self.keys is None:
            self.keys = spare(self._encode(keys[..., :1, :]), more)
            self.values = spare(self._encode(values[..., :1, :]), more)
        else:
            self.keys, self.values = (join(filled(x, at), spare(x, more)) for x in (self.keys, self.values))
        self._grown()

    def size(self) -> int:
        return int(self.offset)

    def trim(self, n: int) -> int:
        check_trim(n)
        n = min(self.offset, n)
        self.offset -= n
        return n

    def empty(self) -> bool:
        return self.keys is None

    def check(self) -> None:
        """ValueError where a state that was set does not hold together."""
        check_planes(self, self.offset)


def grow_ring(cache: Any, keys: mx.array, values: mx.array, at: int) -> None:
    """Room for row `at`, as long as the ring has not its full size."""
    if cache.keys is not None and (at < rows(cache.keys) or rows(cache.keys) >= cache.max_size):
        return
    more = min(cache.step, cache.max_size - at)
    if cache.keys is None:
        cache.keys, cache.values = spare(cache._encode(keys), more), spare(cache._encode(values), more)
    else:
        cache.keys, cache.values = (join(x, spare(x, more)) for x in (cache.keys, cache.values))
    cache._idx = at
    cache._grown()


def check_planes(cache: Any, count: int) -> None:
    from mlx_kd.wire.states import check_rows as check_state
    check_size("offset", count, 0)
    if hasattr(cache, "bits"):
        check_code(cache.bits, cache.group_size)
    check_state(cache)


def merged(caches: list[Any]) -> Any:
    """The batch of the kind that the first is of; all must be of that kind."""
    from mlx_kd.cache import batch
    for cls in (batch.BatchCache, batch.BatchQuantizedCache, batch.BatchRotatingCache, batch.BatchQuantizedRotatingCache):
        if caches and isinstance(caches[0], cls.of):
            return cls.merge(caches)
    raise ValueError("[cache] merge needs caches of mlx_kd.cache, one at least")


class ContiguousCache(_Contiguous, Plain, theirs.KVCache):  # type: ignore[misc]
    """Keys and values in one piece, written in place. Keys and values may differ in width."""

    def to_quantized(self, group_size: int = 64, bits: int = 4) -> QuantizedCache:
        cache = QuantizedCache(group_size=group_size, bits=bits)
        cache.offset = self.offset
        cache._take(self)
        return cache


class QuantizedCache(_Contiguous, Coded, theirs.QuantizedKVCache):  # type: ignore[misc]
    """As ContiguousCache, quantised when it is written."""

    def __init__(self, group_size: int = 64, bits: int = 8) -> None:
        check_code(bits, group_size)
        super().__init__(group_size=group_size, bits=bits)


class _Rotating(_Single):
    """The last max_size tokens, and the first `keep`. Single tokens go into a ring; several are joined in order, and
    those that no query of theirs sees are dropped."""

    def _ordered(self, x: Planes) -> Planes:
        """In the order of time, without spare rows."""
        if self._idx == rows(x):
            return x
        if self._idx < self.offset:
            return join(cut(x, 0, self.keep), cut(x, self._idx, None), cut(x, self.keep, self._idx))
        return cut(x, 0, self._idx)

    _temporal_order = _ordered  # the name that mlx-lm's batches ask for

    def _without(self, x: Planes, count: int) -> Planes:
        """Without the `count` oldest rows after the kept ones."""
        if count <= 0:
            return x
        rest = cut(x, count + self.keep, None)
        return join(cut(x, 0, self.keep), rest) if self.keep else rest

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[Planes, Planes]:
        self._check(keys, values)
        return self._one(keys, values) if keys.shape[2] == 1 else self._several(keys, values)

    def _writes_in_place(self, count: int) -> bool:
        return count == 1

    def _several(self, keys: mx.array, values: mx.array) -> tuple[Planes, Planes]:
        count, new_keys, new_values = keys.shape[2], self._encode(keys), self._encode(values)
        if self.keys is not None:
            in_order = self._ordered(self.keys), self._ordered(self.values)
            surplus = rows(in_order[0]) - self.max_size + 1
            new_keys = join(self._without(in_order[0], surplus), new_keys)
            new_values = join(self._without(in_order[1], surplus), new_values)
        self.keys, self.values = new_keys, new_values
        self.offset += count
        self._idx = rows(self.keys)
        return self.keys, self.values

    def _one(self, keys: mx.array, values: mx.array) -> tuple[Planes, Planes]:
        self._make_room(keys, values)
        if self._idx == self.max_size:
            self._idx = self.keep
        self._write(self._idx, keys, values)
        self.offset += 1
        self._idx += 1
        return self.keys_and_values()

    def _make_room(self, keys: mx.array, values: mx.array) -> None:
        grow_ring(self, keys, values, self.offset)
        surplus = rows(self.keys) - self.max_size
        if surplus > 0:
            self.keys, self.values = self._without(self.keys, surplus), self._without(self.values, surplus)
            self._idx = self.max_size
            self._grown()

    def trim(self, n: int) -> int:
        check_trim(n)
        n = min(self.offset, n)
        self.offset -= n
        self._idx -= n
        return n

    def check(self) -> None:
        check_size("max_size", self.max_size, 1)
        check_size("keep", self.keep, 0)
        check_planes(self, self.offset)
        if self.keys is not None and self.keep >= self.max_size:
            raise ValueError(f"[cache] keep is {self.keep} of {self.max_size} tokens: it must be less")


def check_window(max_size: Any, keep: Any) -> None:
    check_size("max_size", max_size, 1)
    check_size("keep", keep, 0)
    if keep >= max_size:
        raise ValueError(f"[cache] keep is {keep} of max_size {max_size}: it must be less, or nothing rotates")


class RotatingCache(_Rotating, Plain, theirs.RotatingKVCache):  # type: ignore[misc]
    """The last max_size tokens, the first `keep` among them."""

    def __init__(self, max_size: int, keep: int = 0) -> None:
        check_window(max_size, keep)
        super().__init__(max_size=max_size, keep=keep)

    def to_quantized(self, group_size: int = 64, bits: int = 4) -> QuantizedRotatingCache:
        cache = QuantizedRotatingCache(self.max_size, self.keep, group_size, bits)
        cache.offset, cache._idx = self.offset, self._idx
        cache._take(self)
        return cache


class QuantizedRotatingCache(_Rotating, Coded, theirs.RotatingKVCache):  # type: ignore[misc]
    """As RotatingCache, quantised when it is written."""

    def __init__(self, max_size: int, keep: int = 0, group_size: int = 64, bits: int = 8) -> None:
        check_window(max_size, keep)
        check_code(bits, group_size)
        super().__init__(max_size=max_size, keep=keep)
        self.group_size, self.bits = group_size, bits

    @property
    def state(self) -> Any:
        return self.keys, self.values, self.offset, self.keep, self.max_size, self._idx, self.group_size, self.bits

    @state.setter
    def state(self, v: Any) -> None:
        (self.keys, self.values, self.offset, self.keep, self.max_size, self._idx, self.group_size, self.bits) = v

    def to_quantized(self, group_size: Optional[int] = None, bits: Optional[int] = None) -> QuantizedRotatingCache:
        return self
