"""Paged caches whose pages hold codes, scales and biases. mlx-lm's quantised attention gets them gathered."""
from __future__ import annotations

from typing import Any, Optional

import mlx.core as mx

from mlx_kd.cache.base import numbers
from mlx_kd.cache.batch import contiguous
from mlx_kd.cache.codes import check_code, check_size
from mlx_kd.cache.paged import BatchPagedCache, PagedCache
from mlx_kd.cache.pages import Pages, append_to_all, by_token
from mlx_kd.cache.planes import Planes, cut, each, first
from mlx_kd.cache.pool import PagePool


def checked_state(keys: Planes, values: Planes, batch: int, rows: Any, group_size: Any, bits: Any) -> tuple[Planes, Planes]:
    """The first `rows` of keys and values that a state has. ValueError where they are not codes of a batch like this."""
    from mlx_kd.wire.states import check_coded, parts_of
    check_code(bits, group_size)
    check_size("offset", rows, 0)
    parts = parts_of(keys), parts_of(values)
    shapes = {one.shape[:3] for part in parts for one in part}
    if len(shapes) != 1 or first(keys).shape[0] != batch or rows > first(keys).shape[2]:
        raise ValueError(f"[cache] keys and values of shapes {sorted(shapes)} do not hold {rows} tokens of {batch} sequences")
    check_coded(bits, group_size, *parts)
    return cut(tuple(parts[0]), 0, rows), cut(tuple(parts[1]), 0, rows)


class _CodedPages:
    """`bits` and `group_size` are what mlx-lm's attention asks for."""

    pool: Any

    @property
    def bits(self) -> int:
        return int(self.pool.bits)

    @property
    def group_size(self) -> int:
        return int(self.pool.group_size)


class QuantizedPagedCache(_CodedPages, PagedCache):
    """As PagedCache, quantised when it is written. A copy of a shared block is one of its codes."""

    turned_by = "qk_norm_rope_append_paged_quantized"

    def __init__(self, pool: Optional[PagePool] = None, blocks: int = 128, block_size: int = 32, group_size: int = 64,
                 bits: int = 8) -> None:
        if pool is not None and pool.bits is None:
            raise ValueError("[cache] a QuantizedPagedCache on a pool that is not of codes: give PagePool bits")
        self._set(Pages(pool or PagePool(blocks, block_size, group_size, bits)))

    @property
    def state(self) -> Any:
        """As PagedCache's, with the codes as they are."""
        return (self.keys, self.values, self.offset, self.pool.blocks, self.pool.block_size, self.group_size, self.bits)

    @state.setter
    def state(self, v: Any) -> None:
        keys, values, offset, blocks, block_size, group_size, bits = v
        self._set(Pages(PagePool(blocks, block_size, group_size, bits)))
        if keys is not None and offset:
            keys, values = checked_state(keys, values, 1, offset, group_size, bits)
            self.pool.make_pages(keys, values)
            slots, = append_to_all(self.pool, [self.pages], offset)
            self.pool.put(slots, each(by_token, keys), each(by_token, values))

    def to_contiguous(self) -> Any:
        from mlx_kd.cache.single import QuantizedCache
        cache = QuantizedCache(self.group_size, self.bits)
        if not self.empty():
            cache.keys, cache.values = (contiguous(x) for x in self.keys_and_values())
            cache.offset = self.offset
            cache._grown()
        return cache

    @classmethod
    def merge(cls, caches: list[Any]) -> BatchQuantizedPagedCache:
        merged: Any = BatchQuantizedPagedCache.merge(caches)
        return merged  # type: ignore[no-any-return]


class BatchQuantizedPagedCache(_CodedPages, BatchPagedCache):
    """QuantizedPagedCache for several sequences."""

    of: Any = QuantizedPagedCache
    turned_by = "qk_norm_rope_append_paged_quantized"

    @property
    def state(self) -> Any:
        gathered = self.keys_and_values() if self._idx else (None, None)
        return (*gathered, self.offset, self.left_padding, self._idx, self.pool.blocks, self.pool.block_size,
                self.group_size, self.bits)

    @state.setter
    def state(self, v: Any) -> None:
        keys, values, offset, left_padding, idx, blocks, block_size, group_size, bits = v
        BatchPagedCache.__init__(self, PagePool(blocks, block_size, group_size, bits), numbers(left_padding))
        if idx:
            keys, values = checked_state(keys, values, len(self.pages), idx, group_size, bits)
            self.pool.make_pages(keys, values)
            slots = append_to_all(self.pool, self.pages, idx)
            self.pool.put([slot for row in slots for slot in row], each(by_token, keys), each(by_token, values))
            self._idx = idx
        self.offset = offset if isinstance(offset, mx.array) else mx.array(offset)
