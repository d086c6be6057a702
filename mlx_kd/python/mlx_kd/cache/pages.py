"""The blocks of sequences: which tokens are where in a pool, and what attention over pages reads."""
from __future__ import annotations

from typing import Any, NamedTuple, Optional
from weakref import ref

import mlx.core as mx

from mlx_kd.cache.planes import Planes
from mlx_kd.cache.pool import PagePool


class PagesRead(NamedTuple):
    """What attention over pages reads: keys `begins` to `ends` of each sequence's pages in the table."""

    keys: Planes
    values: Planes
    table: mx.array
    begins: mx.array
    ends: mx.array


class Pages:
    """Tokens of one sequence: blocks, where the first token is in the first block, and how many there are."""

    def __init__(self, pool: PagePool, blocks: Optional[list[int]] = None, front: int = 0, count: int = 0) -> None:
        self.pool, self.blocks, self.front, self.count = pool, blocks or [], front, count
        self.changes = 0  # of the blocks

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
            self.changes += 1
        while len(self.blocks) * size < end + tokens:
            self.blocks.append(self.pool.take())
            self.changes += 1
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
            self.changes += 1
        if not self.blocks:
            self.front = 0

    def cut_front(self, tokens: int) -> None:
        self.front, self.count = self.front + tokens, self.count - tokens
        while self.blocks and self.front >= self.pool.block_size:
            self.pool.drop(self.blocks.pop(0))
            self.changes += 1
            self.front -= self.pool.block_size
        if self.count == 0:
            self.cut_end(0)

    def check(self) -> None:
        for block in self.blocks:
            self.pool.check_block(block)


def append_to_all(pool: PagePool, sequences: list[Pages], count: int) -> list[list[int]]:
    """Slots for so many new rows of each sequence. Raises before anything is changed."""
    for pages in sequences:
        pages.check()
    pool.check_free(sum(pages.needs(count) for pages in sequences))
    return [pages.append(count) for pages in sequences]


def by_token(x: mx.array) -> mx.array:
    """[B, H, T, D] as [B T, H, D]."""
    return x[0].swapaxes(0, 1) if x.shape[0] == 1 else x.swapaxes(1, 2).reshape(-1, x.shape[1], x.shape[3])


class Table:
    """The blocks of some sequences as one array, made again where they change."""

    def __init__(self) -> None:
        self.of: list[Any] = []
        self.array: Any = None

    def read(self, sequences: list[Pages]) -> mx.array:
        now = [(ref(pages), pages.changes) for pages in sequences]
        if self.array is None or self.of != now:
            width = max(len(pages.blocks) for pages in sequences)
            rows = [pages.blocks + [-1] * (width - len(pages.blocks)) for pages in sequences]
            self.of, self.array = now, mx.array(rows, mx.int32)
        result: mx.array = self.array
        return result


def pages_read(pool: PagePool, sequences: list[Pages], hidden: list[int], table: Table) -> PagesRead:
    """Of each sequence, all but the first `hidden` tokens."""
    begins = [pages.front + min(skipped, pages.count) for pages, skipped in zip(sequences, hidden)]
    ends = [pages.front + pages.count for pages in sequences]
    return PagesRead(pool.keys, pool.values, table.read(sequences), mx.array(begins, mx.int32), mx.array(ends, mx.int32))
