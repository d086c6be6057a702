"""Caches of several sequences: rows on the left are padding, so that all end at the same row."""
from __future__ import annotations

from typing import Any, cast

import mlx.core as mx

from mlx_kd.cache.base import Held, numbers, theirs
from mlx_kd.cache.codes import Coded, Plain, check_alike, check_code, check_size, check_trim
from mlx_kd.cache.planes import (
    Planes, cut, filled, join, padded, put_batch, rolled, rolled_each, rows, spare, stack, taken)
from mlx_kd.cache.single import (
    ContiguousCache, QuantizedCache, QuantizedRotatingCache, RotatingCache, _Contiguous, check_planes, grow_ring)


def joined(one: Any, other: Any, end: int) -> list[Any]:
    """Keys, values, offset and left_padding of two batches, whose filled rows then end at `end`."""
    sample = one if one.keys is not None else other
    length = max(rows(c.keys) for c in (one, other) if c.keys is not None)
    parts = []
    for cache in (one, other):
        left = end - cache._idx
        planes = []
        for name in ("keys", "values"):
            x = getattr(cache, name)
            if x is None:
                x = spare(getattr(sample, name), 0, cache.offset.shape[0])
            x = filled(x, length - left)
            planes.append(padded(x, left, length - left - rows(x)))
        parts.append((*planes, cache.offset, cache.left_padding + left))
    return [join_two(a, b) for a, b in zip(*parts)]


def join_two(a: Any, b: Any) -> Any:
    return mx.concatenate([a, b]) if isinstance(a, mx.array) and a.ndim == 1 else stack(a, b)


def right_aligned(caches: list[Any], lengths: list[int]) -> tuple[Planes, Planes]:
    """The last rows of each cache, in order, behind zeros."""
    longest = max(lengths)
    sample = next(c for c in caches if c.keys is not None)
    keys, values = spare(sample.keys, longest, len(caches)), spare(sample.values, longest, len(caches))
    for i, (cache, length) in enumerate(zip(caches, lengths)):
        if cache.keys is None or length == 0:
            continue
        for to, x in ((keys, cache.keys), (values, cache.values)):
            in_order = cache._ordered(x) if hasattr(cache, "_ordered") else filled(x, cache.offset)
            put_batch(to, i, longest - length, cut(in_order, rows(in_order) - length, None))
    return keys, values


def check_index(cache: Any, index: Any) -> int:
    count = int(cache.left_padding.size)
    if not isinstance(index, int) or not -count <= index < count:
        raise ValueError(f"[cache] extract({index!r}) of a batch of {count}")
    return index % count


def check_indices(cache: Any, indices: Any) -> list[int]:
    """Of a batch, as numbers: MLX reads whatever is where an index outside points."""
    count = int(cache.left_padding.size)
    which = numbers(indices) if isinstance(indices, mx.array) else list(indices)
    for index in which:
        if not hasattr(index, "__index__") or not -count <= index < count:
            raise ValueError(f"[cache] filter of {index!r} of a batch of {count}: give numbers from 0 to {count - 1}")
    return which


class _Sequences(Held):
    """Of several sequences: what both kinds of batches do."""

    of: Any  # the class of one sequence
    _like: Any
    _single: Any
    _set_length: Any

    def trim(self, n: int) -> int:
        check_trim(n)
        return int(super().trim(n))

    def filter(self, batch_indices: Any) -> None:
        check_indices(self, batch_indices)
        if self.keys is not None:
            self.keys, self.values = taken(self.keys, batch_indices), taken(self.values, batch_indices)
        self.offset, self.left_padding = self.offset[batch_indices], self.left_padding[batch_indices]

    def _extends_empty(self, other: Any) -> bool:
        """Whether neither batch has rows; then the sequences of both are here."""
        check_alike([self, other], type(self))
        if self.keys is not None or other.keys is not None:
            return False
        self.offset = mx.concatenate([self.offset, other.offset])
        self.left_padding = mx.concatenate([self.left_padding, other.left_padding])
        return True

    @classmethod
    def merge(cls, caches: list[Any]) -> Any:
        check_alike(caches, cls.of)
        lengths = [c.size() if c.keys is not None else 0 for c in caches]
        longest = max(lengths)
        batch = cls._like(caches[0], [longest - length for length in lengths])
        if longest == 0:
            return batch
        batch.keys, batch.values = right_aligned(caches, lengths)
        batch._set_length(caches, longest)
        batch._grown()
        return batch


class _Batch(_Sequences):
    """Rows [left_padding[b], _idx) of sequence b are filled."""

    _right_padding: Any = None

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[Planes, Planes]:
        self._check(keys, values)
        at, count = self._idx, keys.shape[2]
        if self.keys is None or at + count > rows(self.keys):
            _Contiguous._grow(cast(Any, self), keys, values, at, count)
        self.offset = self.offset + count
        self._idx = at + count
        self._write(at, keys, values)
        return self.keys_and_values()

    def keys_and_values(self) -> tuple[Planes, Planes]:
        return cut(self.keys, 0, self._idx), cut(self.values, 0, self._idx)

    def finalize(self) -> None:
        if self._right_padding is None:
            return
        padding, self._right_padding = self._right_padding, None
        self.keys, self.values = rolled_each(self.keys, padding), rolled_each(self.values, padding)
        self.offset = self.offset - padding
        self.left_padding = self.left_padding + padding

    def filter(self, batch_indices: Any) -> None:
        super().filter(batch_indices)
        unused = min(numbers(self.left_padding), default=0)
        if unused > 0:
            if self.keys is not None:
                self.keys, self.values = cut(self.keys, unused, None), cut(self.values, unused, None)
            self._idx -= unused
            self.left_padding = self.left_padding - unused

    def extend(self, other: Any) -> None:
        if self._extends_empty(other):
            return
        end = max(self._idx, other._idx)
        self.keys, self.values, self.offset, self.left_padding = joined(self, other, end)
        self._idx = end
        self._grown()

    def extract(self, idx: int) -> Any:
        idx = check_index(self, idx)
        cache = self._single()
        if self.keys is None:
            return cache
        begin = numbers(self.left_padding)[idx]
        cache.keys, cache.values = (
            contiguous(cut(taken(x, slice(idx, idx + 1)), begin, self._idx)) for x in (self.keys, self.values))
        cache.offset = rows(cache.keys)
        return cache

    def _set_length(self, caches: list[Any], length: int) -> None:
        self.offset = self.offset + length
        self._idx = length

    def empty(self) -> bool:
        return self.keys is None

    def check(self) -> None:
        check_planes(self, self._idx)


def contiguous(planes: Planes) -> Planes:
    return tuple(mx.contiguous(x) for x in planes) if isinstance(planes, (list, tuple)) else mx.contiguous(planes)


class BatchCache(_Batch, Plain, theirs.BatchKVCache):  # type: ignore[misc]
    """ContiguousCache for several sequences."""

    of: Any = ContiguousCache

    @classmethod
    def _like(cls, cache: Any, left_padding: list[int]) -> BatchCache:
        return cls(left_padding)

    def _single(self) -> ContiguousCache:
        return ContiguousCache()


class BatchQuantizedCache(_Batch, Coded, theirs.BatchKVCache):  # type: ignore[misc]
    """QuantizedCache for several sequences."""

    of: Any = QuantizedCache

    def __init__(self, left_padding: list[int], group_size: int = 64, bits: int = 8) -> None:
        check_code(bits, group_size)
        super().__init__(left_padding)
        self.group_size, self.bits = group_size, bits

    @classmethod
    def _like(cls, cache: Any, left_padding: list[int]) -> BatchQuantizedCache:
        return cls(left_padding, cache.group_size, cache.bits)

    def _single(self) -> QuantizedCache:
        return QuantizedCache(self.group_size, self.bits)

    @property
    def state(self) -> Any:
        return self.keys, self.values, self.offset, self.left_padding, self._idx, self.group_size, self.bits

    @state.setter
    def state(self, v: Any) -> None:
        self.keys, self.values, self.offset, self.left_padding, self._idx, self.group_size, self.bits = v
        self._right_padding = None


class _BatchRotating(_Sequences):
    """A ring for all sequences at once; _offset counts rows, offset the tokens of each. As in mlx-lm's, the first
    tokens of a sequence are not kept."""

    _lengths: Any = None

    def _in_order(self) -> None:
        if self.rotated:
            self.keys, self.values = rolled(self.keys, -self._idx), rolled(self.values, -self._idx)
            self._idx = rows(self.keys)
            self.rotated = False

    _temporal_order = _in_order

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[Planes, Planes]:
        self._check(keys, values)
        if keys.shape[2] > 1:
            self._several(keys, values)
        elif self._lengths is None:
            self._one(keys, values)
        else:
            raise RuntimeError("[cache] finalize() must come between a padded prompt and the first token after it")
        count = self._offset if keys.shape[2] == 1 else rows(self.keys)
        return filled(self.keys, count), filled(self.values, count)

    def _writes_in_place(self, count: int) -> bool:
        return count == 1

    def _several(self, keys: mx.array, values: mx.array) -> None:
        new_keys, new_values = self._encode(keys), self._encode(values)
        if self.keys is not None:
            self._in_order()
            self.keys, self.values = filled(self.keys, self._idx), filled(self.values, self._idx)
            self._drop_padding()
            surplus = self._idx - self.max_size + 1
            if surplus > 0:
                self.left_padding = self.left_padding - surplus
                self.keys, self.values = cut(self.keys, surplus, None), cut(self.values, surplus, None)
            new_keys, new_values = join(self.keys, new_keys), join(self.values, new_values)
        self.keys, self.values = new_keys, new_values
        self._count(keys.shape[2])
        self._idx = rows(self.keys)

    def _drop_padding(self) -> None:
        """Sequences that ended move to the right, so that what is dropped next is their padding."""
        if self._lengths is not None:
            by = mx.maximum(0, self.offset - self._lengths)
            self.keys, self.values = rolled_each(self.keys, by), rolled_each(self.values, by)
            self.left_padding = self.left_padding + by
            self.offset = self.offset - by

    def _count(self, tokens: int) -> None:
        self.offset = self.offset + tokens
        self._offset += tokens
        numbers = (self.left_padding, self.offset)  # evaluated with the keys, or their graph grows
        keys = self.keys if isinstance(self.keys, mx.array) else self.keys[0]
        keys = mx.depends(keys, numbers)
        self.keys = keys if isinstance(self.keys, mx.array) else (keys, *self.keys[1:])

    def _one(self, keys: mx.array, values: mx.array) -> None:
        grow_ring(self, keys, values, self._offset)
        surplus = rows(self.keys) - self.max_size
        if surplus > 0:
            self.keys, self.values = cut(self.keys, surplus, None), cut(self.values, surplus, None)
            self._idx = self.max_size
            self.left_padding = self.left_padding - surplus
            self._grown()
        if self._idx == self.max_size:
            self.rotated, self._idx = True, 0
        if self.rotated:
            self.left_padding = self.left_padding - 1
        self._write(self._idx, keys, values)
        self._idx += 1
        self._count(1)

    def keys_and_values(self) -> tuple[Planes, Planes]:
        return filled(self.keys, self._offset), filled(self.values, self._offset)

    def finalize(self) -> None:
        if self._lengths is not None:
            self._drop_padding()
            self._lengths = None

    def extend(self, other: Any) -> None:
        if self._extends_empty(other):
            return
        if self.rotated != other.rotated or self._idx != other._idx:
            self._in_order()
            other._in_order()
        end = max(self._idx, other._idx)
        self.keys, self.values, self.offset, self.left_padding = joined(self, other, end)
        self._idx, self._offset = end, max(self._offset, other._offset)
        self._grown()

    def extract(self, idx: int) -> Any:
        idx = check_index(self, idx)
        cache = self._single()
        if self.keys is None:
            return cache
        begin, end = max(0, numbers(self.left_padding)[idx]), self._idx
        for name in ("keys", "values"):
            x = taken(getattr(self, name), slice(idx, idx + 1))
            if self.rotated:
                x, end = rolled(x, -self._idx), self.max_size
            setattr(cache, name, contiguous(cut(x, begin, end)))
        cache.offset = numbers(self.offset)[idx]
        cache._idx = rows(cache.keys)
        return cache

    def _set_length(self, caches: list[Any], length: int) -> None:
        self.offset = mx.array([c.offset for c in caches])
        self._idx = self._offset = length

    def check(self) -> None:
        check_size("max_size", self.max_size, 1)
        check_planes(self, self._idx)


class BatchRotatingCache(_BatchRotating, Plain, theirs.BatchRotatingKVCache):  # type: ignore[misc]
    """RotatingCache for several sequences."""

    of: Any = RotatingCache

    @classmethod
    def _like(cls, cache: Any, left_padding: list[int]) -> BatchRotatingCache:
        return cls(cache.max_size, left_padding)

    def _single(self) -> RotatingCache:
        return RotatingCache(self.max_size)


class BatchQuantizedRotatingCache(_BatchRotating, Coded, theirs.BatchRotatingKVCache):  # type: ignore[misc]
    """QuantizedRotatingCache for several sequences."""

    of: Any = QuantizedRotatingCache

    def __init__(self, max_size: int, left_padding: list[int], group_size: int = 64, bits: int = 8) -> None:
        check_code(bits, group_size)
        super().__init__(max_size, left_padding)
        self.group_size, self.bits = group_size, bits

    @classmethod
    def _like(cls, cache: Any, left_padding: list[int]) -> BatchQuantizedRotatingCache:
        return cls(cache.max_size, left_padding, cache.group_size, cache.bits)

    def _single(self) -> QuantizedRotatingCache:
        return QuantizedRotatingCache(self.max_size, 0, self.group_size, self.bits)

    @property
    def state(self) -> Any:
        return (self.keys, self.values, self.offset, self.left_padding, self.max_size, self._offset, self._idx,
                self.rotated, self.group_size, self.bits)

    @state.setter
    def state(self, v: Any) -> None:
        (self.keys, self.values, self.offset, self.left_padding, self.max_size, self._offset, self._idx, self.rotated,
         self.group_size, self.bits) = v
        self._lengths = None
