"""Pages of keys and values that several caches share: blocks with a count of the caches that use each."""
from __future__ import annotations

from typing import Any, Optional

import mlx.core as mx

from mlx_kd.cache.codes import check_size


class PoolFull(RuntimeError):
    """A cache asked for more blocks than are free. The cache is as it was."""


class PagePool:
    """`blocks` blocks of `block_size` tokens, of one layer. The memory is taken at the first token.

    Token i of a cache is in slot ``table[i // block_size] * block_size + i % block_size``. Keys and values are
    [blocks, H, block_size, D]. A pool and the caches on it are used by one thread at a time.
    """

    def __init__(self, blocks: int, block_size: int = 32) -> None:
        self.blocks = check_size("blocks", blocks, 1)
        self.block_size = check_size("block_size", block_size, 1)
        self.keys: Optional[mx.array] = None
        self.values: Optional[mx.array] = None
        self._users = [0] * blocks
        self._free = list(range(blocks - 1, -1, -1))

    @property
    def free(self) -> int:
        """How many blocks no cache uses."""
        return len(self._free)

    @property
    def nbytes(self) -> int:
        return 0 if self.keys is None or self.values is None else self.keys.nbytes + self.values.nbytes

    def check_free(self, count: int) -> None:
        if count > len(self._free):
            raise PoolFull(f"[cache] {count} more blocks of {self.block_size} tokens are needed, and {len(self._free)} of "
                           f"{self.blocks} are free: make the pool larger (max_size), or drop caches that use it")

    def take(self) -> int:
        self.check_free(1)
        block = self._free.pop()
        self._users[block] = 1
        return block

    def share(self, block: int) -> int:
        self._users[block] += 1
        return block

    def drop(self, block: int) -> None:
        self._users[block] -= 1
        if self._users[block] == 0:
            self._free.append(block)

    def shared(self, block: int) -> bool:
        return self._users[block] > 1

    def check_block(self, block: Any) -> None:
        if not isinstance(block, int) or not 0 <= block < self.blocks or self._users[block] == 0:
            raise ValueError(f"[cache] the block table points to block {block!r}: blocks in use are among 0 to "
                             f"{self.blocks - 1}")

    def prepare(self, keys: mx.array, values: mx.array) -> None:
        """Memory for keys and values like these [B, H, T, D]."""
        wanted = (keys.shape[1], keys.shape[3], values.shape[3])
        if self.keys is None or self.values is None:
            def zeros(x: mx.array) -> mx.array:
                return mx.zeros((self.blocks, x.shape[1], self.block_size, x.shape[3]), x.dtype)
            self.keys, self.values = zeros(keys), zeros(values)
        there = (self.keys.shape[1], self.keys.shape[3], self.values.shape[3])
        if there != wanted:
            raise ValueError(f"[cache] heads and widths of new keys and values are {wanted}, and those of the pool are "
                             f"{there}: use a pool for each layer and each model")

    def copy_block(self, block: int) -> int:
        """A block of its own with the same tokens."""
        new = self.take()
        assert self.keys is not None and self.values is not None
        self.keys[new] = self.keys[block]
        self.values[new] = self.values[block]
        return new

    def write(self, slots: list[int], keys: mx.array, values: mx.array) -> None:
        """Rows [N, H, D] into slots."""
        assert self.keys is not None and self.values is not None
        size = self.block_size
        if len(slots) == 1:
            block, at = divmod(slots[0], size)
            self.keys[block, :, at], self.values[block, :, at] = keys[0], values[0]
            return
        where = mx.array(slots, mx.int32)
        blocks, places, heads = (where // size)[:, None], (where % size)[:, None], mx.arange(keys.shape[1])
        self.keys[blocks, heads, places], self.values[blocks, heads, places] = keys, values

    def write_turned(self, operator: Any, slots: list[list[int]], q: mx.array, keys: mx.array, values: mx.array,
                     arrays: Any, numbers: Any) -> mx.array:
        """Rows [B, H, T, D] into slots [B][T], the keys rotated by `operator`, which gives the rotated queries."""
        turned: mx.array
        self.keys, self.values, turned = operator(self.keys, self.values, q, keys, values, mx.array(slots, mx.int32),
                                                  *arrays, **numbers)
        return turned

    def read(self, slots: mx.array) -> tuple[mx.array, mx.array]:
        """Slots of any shape [..]: keys [.., H, Dk] and values [.., H, Dv]."""
        assert self.keys is not None and self.values is not None
        blocks, places = (slots // self.block_size)[..., None], (slots % self.block_size)[..., None]
        heads = mx.arange(self.keys.shape[1])
        return self.keys[blocks, heads, places], self.values[blocks, heads, places]
