"""Paged caches: a table of blocks for each sequence. Copies share blocks; a shared block is copied before a write."""
from __future__ import annotations

from typing import Any, Optional

import mlx.core as mx

from mlx_kd.cache.base import numbers, theirs
from mlx_kd.cache.batch import check_index
from mlx_kd.cache.codes import check_trim
from mlx_kd.cache.pool import PagePool


class Pages:
    """Tokens of one sequence: blocks, where the first token is in the first block, and how many there are."""

    def __init__(self, pool: PagePool, blocks: Optional[list[int]] = None, front: int = 0, count: int = 0) -> None:
        self.pool, self.blocks, self.front, self.count = pool, blocks or [], front, count

    def __del__(self) -> None:
        for block in getattr(self, "blocks", []):
            self.pool.drop(block)

    def share(self) -> Pages:
        return Pages(self.pool, [self.pool.share(block) for block in self.blocks], self.front, self.count)

    def needs(self, tokens: int) -> int:
        """How many blocks an append takes from the pool."""
        size, end = self.pool.block_size, self.front + self.count
        more = -(-(end + tokens) // size) - len(self.blocks)
        return more + (1 if tokens and end % size and self.pool.shared(self.blocks[end // size]) else 0)

    def append(self, tokens: int) -> list[int]:
        """Slots for so many more tokens, in blocks that no other cache uses."""
        size, end = self.pool.block_size, self.front + self.count
        self.pool.check_free(self.needs(tokens))
        if tokens and end % size and self.pool.shared(self.blocks[end // size]):
            old = self.blocks[end // size]
            self.blocks[end // size] = self.pool.copy_block(old)
            self.pool.drop(old)
        while len(self.blocks) * size < end + tokens:
            self.blocks.append(self.pool.take())
        self.count += tokens
        return self.slots(self.count - tokens)

    def slots(self, begin: int = 0) -> list[int]:
        size = self.pool.block_size
        places = range(self.front + begin, self.front + self.count)
        return [self.blocks[i // size] * size + i % size for i in places]

    def cut_end(self, tokens: int) -> None:
        self.count -= tokens
        while self.blocks and (len(self.blocks) - 1) * self.pool.block_size >= self.front + self.count:
            self.pool.drop(self.blocks.pop())
        if not self.blocks:
            self.front = 0

    def cut_front(self, tokens: int) -> None:
        self.front, self.count = self.front + tokens, self.count - tokens
        while self.blocks and self.front >= self.pool.block_size:
            self.pool.drop(self.blocks.pop(0))
            self.front -= self.pool.block_size
        if self.count == 0:
            self.cut_end(0)

    def check(self) -> None:
        for block in self.blocks:
            self.pool.check_block(block)


class PagedCache(theirs._BaseCache):  # type: ignore[misc]
    """Keys and values of one sequence in blocks of a pool. Attention of MLX gets them gathered."""

    def __init__(self, pool: Optional[PagePool] = None, blocks: int = 128, block_size: int = 32) -> None:
        self.pages = Pages(pool or PagePool(blocks, block_size))

    @property
    def pool(self) -> PagePool:
        return self.pages.pool

    @property
    def block_table(self) -> list[int]:
        return list(self.pages.blocks)

    @property
    def offset(self) -> int:
        return self.pages.count

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        if keys.ndim != 4 or keys.shape[0] != 1 or keys.shape[:3] != values.shape[:3]:
            raise ValueError(f"[cache] keys have shape {keys.shape} and values {values.shape}: a paged cache takes "
                             "[1, H, T, D]; merge makes a batch of several")
        self.pool.prepare(keys, values)
        self.pages.check()
        self.pool.write(self.pages.append(keys.shape[2]), keys[0].swapaxes(0, 1), values[0].swapaxes(0, 1))
        return self.keys_and_values()

    def keys_and_values(self) -> tuple[mx.array, mx.array]:
        keys, values = self.pool.read(mx.array(self.pages.slots(), mx.int32))
        return keys.swapaxes(0, 1)[None], values.swapaxes(0, 1)[None]

    @property
    def keys(self) -> Optional[mx.array]:
        return None if self.empty() else self.keys_and_values()[0]

    @property
    def values(self) -> Optional[mx.array]:
        return None if self.empty() else self.keys_and_values()[1]

    @property
    def state(self) -> Any:
        """Gathered: a paged cache that is loaded has a pool of its own, of as many blocks as it had."""
        return self.keys, self.values, self.offset, self.pool.blocks, self.pool.block_size

    @state.setter
    def state(self, v: Any) -> None:
        keys, values, offset, blocks, block_size = v
        self.pages = Pages(PagePool(blocks, block_size))
        if keys is not None and offset:
            self.update_and_fetch(keys[..., :offset, :], values[..., :offset, :])

    def fork(self) -> PagedCache:
        """A cache of the same tokens that shares the blocks: a block is copied when one of the two writes to it."""
        other = PagedCache.__new__(PagedCache)
        other.pages = self.pages.share()
        return other

    def __deepcopy__(self, memo: Any) -> PagedCache:
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


class BatchPagedCache(theirs._BaseCache):  # type: ignore[misc]
    """Several sequences on one pool: sequence b has the rows from shift[b] to _idx, and blocks for these alone."""

    def __init__(self, pool: PagePool, left_padding: list[int]) -> None:
        self.pool = pool
        self.pages = [Pages(pool) for _ in left_padding]
        self.left_padding = mx.array(left_padding)
        self.offset = -self.left_padding
        self._idx = 0
        self._right_padding: Optional[list[int]] = None

    def _shift(self, pages: Pages) -> int:
        return self._idx - pages.count

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        if keys.ndim != 4 or keys.shape[0] != len(self.pages) or keys.shape[:3] != values.shape[:3]:
            raise ValueError(f"[cache] keys have shape {keys.shape} and values {values.shape}: this batch takes "
                             f"[{len(self.pages)}, H, T, D]")
        self.pool.prepare(keys, values)
        count = keys.shape[2]
        for pages in self.pages:
            pages.check()
        self.pool.check_free(sum(pages.needs(count) for pages in self.pages))
        slots = [slot for pages in self.pages for slot in pages.append(count)]
        self.pool.write(slots, *(x.swapaxes(1, 2).reshape(-1, x.shape[1], x.shape[3]) for x in (keys, values)))
        self._idx += count
        self.offset = self.offset + count
        return self.keys_and_values()

    def keys_and_values(self) -> tuple[mx.array, mx.array]:
        slots = [[0] * self._shift(pages) + pages.slots() for pages in self.pages]
        keys, values = self.pool.read(mx.array(slots, mx.int32))
        return keys.swapaxes(1, 2), values.swapaxes(1, 2)

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
        return theirs.create_causal_mask(N, offset=self._idx, left_padding=self.left_padding, **kwargs)

    def check(self) -> None:
        for pages in self.pages:
            pages.check()

    def filter(self, batch_indices: Any) -> None:
        which = numbers(batch_indices) if isinstance(batch_indices, mx.array) else list(batch_indices)
        self.pages = [self.pages[i] for i in which]
        self.offset, self.left_padding = (x[mx.array(which, mx.int32)] for x in (self.offset, self.left_padding))
        unused = min(numbers(self.left_padding), default=0)
        if unused > 0:
            for pages in self.pages:
                pages.cut_front(max(0, unused - self._shift(pages)))
            self._idx -= unused
            self.left_padding = self.left_padding - unused

    def extend(self, other: Any) -> None:
        if not isinstance(other, BatchPagedCache) or other.pool is not self.pool:
            raise ValueError("[cache] a paged batch is extended by one of another kind or on another pool: make the caches "
                             "on one pool")
        end = max(self._idx, other._idx)
        self.left_padding = mx.concatenate([c.left_padding + (end - c._idx) for c in (self, other)])
        self.offset = mx.concatenate([self.offset, other.offset])
        self.pages = self.pages + [pages.share() for pages in other.pages]
        self._idx = end

    def extract(self, idx: int) -> PagedCache:
        idx = check_index(self, idx)
        cache = PagedCache.__new__(PagedCache)
        cache.pages = self.pages[idx].share()
        cache.pages.cut_front(max(0, numbers(self.left_padding)[idx] - self._shift(cache.pages)))
        return cache

    @classmethod
    def merge(cls, caches: list[Any]) -> BatchPagedCache:
        if not caches or not all(isinstance(c, PagedCache) and c.pool is caches[0].pool for c in caches):
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
