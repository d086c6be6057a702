"""Paged caches: a table of blocks for each sequence. Copies share blocks; a shared block is copied before a write."""
from __future__ import annotations

from typing import Any, Optional

import mlx.core as mx

from mlx_kd.cache.base import numbers, theirs
from mlx_kd.cache.batch import check_index, check_indices
from mlx_kd.cache.codes import check_trim
from mlx_kd.cache.pages import Pages, PagesRead, Table, append_to_all, by_token, pages_read
from mlx_kd.cache.planes import Planes, each
from mlx_kd.cache.pool import PagePool


class PagedCache(theirs._BaseCache):  # type: ignore[misc]
    """Keys and values of one sequence in blocks of a pool. Attention of MLX gets them gathered."""

    turned_by = "qk_norm_rope_append_paged"

    def __init__(self, pool: Optional[PagePool] = None, blocks: int = 128, block_size: int = 32) -> None:
        if pool is not None and pool.bits is not None:
            raise ValueError(f"[cache] a PagedCache on a pool of codes of {pool.bits} bits: use a QuantizedPagedCache")
        self._set(Pages(pool or PagePool(blocks, block_size)))

    def _set(self, pages: Pages) -> None:
        self.pages, self._table = pages, Table()

    @property
    def pool(self) -> PagePool:
        return self.pages.pool

    @property
    def block_table(self) -> list[int]:
        return list(self.pages.blocks)

    @property
    def offset(self) -> int:
        return self.pages.count

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[Planes, Planes]:
        if keys.ndim != 4 or keys.shape[0] != 1 or keys.shape[:3] != values.shape[:3]:
            raise ValueError(f"[cache] keys have shape {keys.shape} and values {values.shape}: a paged cache takes "
                             "[1, H, T, D]; merge makes a batch of several")
        self.pool.prepare(keys, values)
        slots, = append_to_all(self.pool, [self.pages], keys.shape[2])
        self.pool.write(slots, by_token(keys), by_token(values))
        return self.keys_and_values()

    def append_turned(self, operator: Any, q: mx.array, keys: mx.array, values: mx.array, arrays: Any,
                      numbers: Any) -> tuple[mx.array, PagesRead, None]:
        """Queries rotated, and the pages with the keys, rotated, and the values."""
        self.pool.prepare(keys, values)
        slots = append_to_all(self.pool, [self.pages], keys.shape[2])
        turned = self.pool.write_turned(operator, slots, q, keys, values, arrays, numbers)
        return turned, pages_read(self.pool, [self.pages], [0], self._table), None

    def hides_by_itself(self, mask: Any, count: int) -> bool:
        """Whether a mask for so many new tokens hides later keys alone, as attention over pages does."""
        return mask is None if count == 1 else isinstance(mask, str)

    def keys_and_values(self) -> tuple[Planes, Planes]:
        keys, values = self.pool.read(mx.array(self.pages.slots(), mx.int32))

        def by_head(x: mx.array) -> mx.array:
            return x.swapaxes(0, 1)[None]
        return each(by_head, keys), each(by_head, values)

    @property
    def keys(self) -> Planes:
        return None if self.empty() else self.keys_and_values()[0]

    @property
    def values(self) -> Planes:
        return None if self.empty() else self.keys_and_values()[1]

    @property
    def state(self) -> Any:
        """Gathered: a paged cache that is loaded has a pool of its own, of as many blocks as it had."""
        return self.keys, self.values, self.offset, self.pool.blocks, self.pool.block_size

    @state.setter
    def state(self, v: Any) -> None:
        keys, values, offset, blocks, block_size = v
        self._set(Pages(PagePool(blocks, block_size)))
        if keys is not None and offset:
            self.update_and_fetch(keys[..., :offset, :], values[..., :offset, :])

    def fork(self) -> Any:
        """A cache of the same tokens that shares the blocks: a block is copied when one of the two writes to it."""
        other = type(self).__new__(type(self))
        other._set(self.pages.share())
        return other

    def __deepcopy__(self, memo: Any) -> Any:
        return self.fork()

    __copy__ = fork

    def size(self) -> int:
        return self.offset

    def empty(self) -> bool:
        return self.offset == 0

    def is_trimmable(self) -> bool:
        return True

    def trim(self, n: int) -> int:
        check_trim(n)
        n = min(self.offset, n)
        self.pages.cut_end(n)
        return n

    def make_mask(self, *args: Any, **kwargs: Any) -> Any:
        return theirs.create_attention_mask(*args, offset=self.offset, **kwargs)

    def check(self) -> None:
        self.pages.check()

    def to_contiguous(self) -> Any:
        from mlx_kd.cache.single import ContiguousCache
        cache = ContiguousCache()
        if not self.empty():
            cache.update_and_fetch(*self.keys_and_values())
        return cache

    @property
    def nbytes(self) -> int:
        """Of its blocks, shared ones included."""
        return self.pool.nbytes // self.pool.blocks * len(self.pages.blocks)

    @classmethod
    def merge(cls, caches: list[PagedCache]) -> BatchPagedCache:
        return BatchPagedCache.merge(caches)


# The last mask that a batch made, and what it was made of: one mask serves the layers of a step.
_made: tuple[Any, int, int, list[int]] = (None, 0, 0, [])


class BatchPagedCache(theirs._BaseCache):  # type: ignore[misc]
    """Several sequences on one pool: sequence b has the rows from shift[b] to _idx, and blocks for these alone."""

    of: Any = PagedCache
    turned_by = "qk_norm_rope_append_paged"

    def __init__(self, pool: PagePool, left_padding: list[int]) -> None:
        self.pool = pool
        self.pages = [Pages(pool) for _ in left_padding]
        self.left_padding = mx.array(left_padding)
        self.offset = -self.left_padding
        self._idx = 0
        self._read: tuple[Any, list[int]] = (None, [])
        self._table = Table()
        self._right_padding: Optional[list[int]] = None

    def _shift(self, pages: Pages) -> int:
        return self._idx - pages.count

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[Planes, Planes]:
        if keys.ndim != 4 or keys.shape[0] != len(self.pages) or keys.shape[:3] != values.shape[:3]:
            raise ValueError(f"[cache] keys have shape {keys.shape} and values {values.shape}: this batch takes "
                             f"[{len(self.pages)}, H, T, D]")
        self.pool.prepare(keys, values)
        slots = append_to_all(self.pool, self.pages, keys.shape[2])
        self.pool.write([slot for row in slots for slot in row], by_token(keys), by_token(values))
        self._count(keys.shape[2])
        return self.keys_and_values()

    def append_turned(self, operator: Any, q: mx.array, keys: mx.array, values: mx.array, arrays: Any,
                      numbers: Any) -> tuple[mx.array, PagesRead, None]:
        """As PagedCache's."""
        self.pool.prepare(keys, values)
        slots = append_to_all(self.pool, self.pages, keys.shape[2])
        turned = self.pool.write_turned(operator, slots, q, keys, values, arrays, numbers)
        self._count(keys.shape[2])
        hidden = [max(0, padding - self._shift(pages)) for padding, pages in zip(self._padding(), self.pages)]
        return turned, pages_read(self.pool, self.pages, hidden, self._table), None

    def hides_by_itself(self, mask: Any, count: int) -> bool:
        """Whether a mask is one that a batch of equal rows made, for so many new tokens, without a window."""
        return mask is _made[0] and _made[1:] == (count, self._idx, self._padding())

    def _padding(self) -> list[int]:
        """left_padding as numbers, read when it changes."""
        if self._read[0] is not self.left_padding:
            self._read = (self.left_padding, numbers(self.left_padding))
        return self._read[1]

    def _count(self, tokens: int) -> None:
        self._idx += tokens
        self.offset = self.offset + tokens

    def keys_and_values(self) -> tuple[Planes, Planes]:
        slots = [[0] * self._shift(pages) + pages.slots() for pages in self.pages]
        keys, values = self.pool.read(mx.array(slots, mx.int32))

        def by_head(x: mx.array) -> mx.array:
            return x.swapaxes(1, 2)
        return each(by_head, keys), each(by_head, values)

    def prepare(self, *, left_padding: Any = None, lengths: Any = None, right_padding: Any = None) -> None:
        if left_padding is not None:
            if self._idx:
                raise ValueError("[cache] left padding is added to an empty batch alone")
            self.left_padding = self.left_padding + mx.array(left_padding)
            self.offset = self.offset - mx.array(left_padding)
        if right_padding is not None and max(right_padding) > 0:
            self._right_padding = [int(n) for n in right_padding]

    def finalize(self) -> None:
        if self._right_padding is None:
            return
        for pages, padding in zip(self.pages, self._right_padding):
            pages.cut_end(padding)
        self.left_padding = self.left_padding + mx.array(self._right_padding)
        self.offset = self.offset - mx.array(self._right_padding)
        self._right_padding = None

    @property
    def state(self) -> Any:
        gathered = self.keys_and_values() if self._idx else (None, None)
        return *gathered, self.offset, self.left_padding, self._idx, self.pool.blocks, self.pool.block_size

    @state.setter
    def state(self, v: Any) -> None:
        keys, values, offset, left_padding, idx, blocks, block_size = v
        BatchPagedCache.__init__(self, PagePool(blocks, block_size), numbers(left_padding))
        if idx:
            self.update_and_fetch(keys[..., :idx, :], values[..., :idx, :])
        self.offset = offset

    def size(self) -> int:
        return self._idx

    def empty(self) -> bool:
        return self._idx == 0

    def is_trimmable(self) -> bool:
        return True

    def trim(self, n: int) -> int:
        check_trim(n)
        n = min(self._idx, n)
        for pages in self.pages:
            pages.cut_end(min(n, pages.count))
        self._idx -= n
        self.offset = self.offset - n
        return n

    def make_mask(self, N: int, return_array: bool = False, **kwargs: Any) -> Any:
        global _made
        mask = theirs.create_causal_mask(N, offset=self._idx, left_padding=self.left_padding, **kwargs)
        if not any(value is not None for value in kwargs.values()):
            _made = (mask, N, self._idx, self._padding())
        return mask

    def check(self) -> None:
        for pages in self.pages:
            pages.check()

    def filter(self, batch_indices: Any) -> None:
        which = check_indices(self, batch_indices)
        self.pages = [self.pages[i] for i in which]
        self.offset, self.left_padding = (x[mx.array(which, mx.int32)] for x in (self.offset, self.left_padding))
        unused = min(numbers(self.left_padding), default=0)
        if unused > 0:
            for pages in self.pages:
                pages.cut_front(max(0, unused - self._shift(pages)))
            self._idx -= unused
            self.left_padding = self.left_padding - unused

    def extend(self, other: Any) -> None:
        if type(other) is not type(self) or other.pool is not self.pool:
            raise ValueError("[cache] a paged batch is extended by one of another kind or on another pool: make the caches "
                             "on one pool")
        end = max(self._idx, other._idx)
        self.left_padding = mx.concatenate([c.left_padding + (end - c._idx) for c in (self, other)])
        self.offset = mx.concatenate([self.offset, other.offset])
        self.pages = self.pages + [pages.share() for pages in other.pages]
        self._idx = end

    def extract(self, idx: int) -> Any:
        idx = check_index(self, idx)
        cache = self.of.__new__(self.of)
        cache._set(self.pages[idx].share())
        cache.pages.cut_front(max(0, numbers(self.left_padding)[idx] - self._shift(cache.pages)))
        return cache

    @classmethod
    def merge(cls, caches: list[Any]) -> BatchPagedCache:
        if not caches or not all(type(c) is cls.of and c.pool is caches[0].pool for c in caches):
            raise ValueError("[cache] a paged cache is merged with one of another kind or on another pool: make the caches "
                             "with mlx_kd.cache.make(..., like=the first), which shares its pools")
        longest = max(c.offset for c in caches)
        batch = cls(caches[0].pool, [longest - c.offset for c in caches])
        batch.pages = [c.pages.share() for c in caches]
        batch._idx = longest
        batch.offset = batch.offset + longest
        return batch

    @property
    def nbytes(self) -> int:
        return self.pool.nbytes // self.pool.blocks * sum(len(pages.blocks) for pages in self.pages)
