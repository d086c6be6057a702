"""Pages of keys and values, as they are or quantised, that several caches share: blocks with a count of their users."""
from __future__ import annotations

from typing import Any, Optional

import mlx.core as mx

from mlx_kd.cache.codes import check_code, check_numbers, check_size
from mlx_kd.cache.planes import Planes, bytes_of, each, first


class PoolFull(RuntimeError):
    """A cache asked for more blocks than are free. The cache is as it was."""


class PagePool:
    """`blocks` blocks of `block_size` tokens, of one layer. The memory is taken at the first token.

    Token i of a cache is in slot ``table[i // block_size] * block_size + i % block_size``. Keys and values are
    [blocks, H, block_size, D], with `bits` as codes, scales and biases of these. A pool and the caches on it are used
    by one thread at a time.
    """

    def __init__(self, blocks: int, block_size: int = 32, group_size: int = 64, bits: Optional[int] = None) -> None:
        self.blocks = check_size("blocks", blocks, 1)
        self.block_size = check_size("block_size", block_size, 1)
        if bits is not None:
            check_code(bits, group_size)
        self.bits, self.group_size = bits, group_size
        self.keys: Planes = None
        self.values: Planes = None
        self._users = [0] * blocks
        self._free = list(range(blocks - 1, -1, -1))

    @property
    def free(self) -> int:
        """How many blocks no cache uses."""
        return len(self._free)

    @property
    def nbytes(self) -> int:
        return bytes_of(self.keys, self.values)

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

    def encode(self, rows: mx.array) -> Planes:
        """As the pool holds them."""
        return rows if self.bits is None else tuple(mx.quantize(rows, group_size=self.group_size, bits=self.bits))

    def prepare(self, keys: mx.array, values: mx.array) -> None:
        """Memory for keys and values like these [B, H, T, D]."""
        wanted = (keys.shape[1], keys.shape[3], values.shape[3])
        if self.bits is not None and (wanted[1] % self.group_size or wanted[2] % self.group_size):
            raise ValueError(f"[cache] keys and values are {wanted[1]} and {wanted[2]} wide, which are not multiples of "
                             f"group_size {self.group_size}: choose a smaller group")
        if self.bits is not None:
            check_numbers(keys, values)
        if self.keys is None:
            self.make_pages(*(self.encode(x[:1, :, :1]) for x in (keys, values)))
        there = (first(self.keys).shape[1], self._width(self.keys), self._width(self.values))
        if there != wanted:
            raise ValueError(f"[cache] heads and widths of new keys and values are {wanted}, and those of the pool are "
                             f"{there}: use a pool for each layer and each model")

    def make_pages(self, keys: Planes, values: Planes) -> None:
        """Of zeros, for rows like these [B, H, T, ..], encoded."""
        def zeros(x: mx.array) -> mx.array:
            return mx.zeros((self.blocks, x.shape[1], self.block_size, x.shape[3]), x.dtype)
        self.keys, self.values = each(zeros, keys), each(zeros, values)

    def _width(self, planes: Planes) -> int:
        """Of a row, in elements."""
        width = int(first(planes).shape[3])
        return width if self.bits is None else width * 32 // self.bits

    def copy_block(self, block: int) -> int:
        """A block of its own with the same tokens."""
        new = self.take()

        def copied(x: mx.array) -> mx.array:
            x[new] = x[block]
            return x
        self.keys, self.values = each(copied, self.keys), each(copied, self.values)
        return new

    def write(self, slots: list[int], keys: mx.array, values: mx.array) -> None:
        """Rows [N, H, D] into slots."""
        self.put(slots, self.encode(keys), self.encode(values))

    def put(self, slots: list[int], keys: Planes, values: Planes) -> None:
        """Rows [N, H, ..], encoded, into slots."""
        size = self.block_size
        if len(slots) == 1:
            block, at = divmod(slots[0], size)

            def one(x: mx.array, rows: mx.array) -> mx.array:
                x[block, :, at] = rows[0]
                return x
            self.keys, self.values = each(one, self.keys, keys), each(one, self.values, values)
            return
        where = mx.array(slots, mx.int32)
        blocks, places = (where // size)[:, None], (where % size)[:, None]
        heads = mx.arange(first(self.keys).shape[1])

        def several(x: mx.array, rows: mx.array) -> mx.array:
            x[blocks, heads, places] = rows
            return x
        self.keys, self.values = each(several, self.keys, keys), each(several, self.values, values)

    def write_turned(self, operator: Any, slots: list[list[int]], q: mx.array, keys: mx.array, values: mx.array,
                     arrays: Any, numbers: Any) -> mx.array:
        """Rows [B, H, T, D] into slots [B][T], the keys rotated by `operator`, which gives the rotated queries."""
        where = mx.array(slots, mx.int32)
        turned: mx.array
        if self.bits is None:
            self.keys, self.values, turned = operator(self.keys, self.values, q, keys, values, where, *arrays, **numbers)
        else:
            written = operator(*self.keys, *self.values, q, keys, values, where, *arrays, bits=self.bits,
                               group_size=self.group_size, **numbers)
            self.keys, self.values, turned = tuple(written[:3]), tuple(written[3:6]), written[6]
        return turned

    def read(self, slots: mx.array) -> tuple[Planes, Planes]:
        """Slots of any shape [..]: keys [.., H, Dk] and values [.., H, Dv], encoded."""
        blocks, places = (slots // self.block_size)[..., None], (slots % self.block_size)[..., None]
        heads = mx.arange(first(self.keys).shape[1])

        def rows(x: mx.array) -> mx.array:
            return x[blocks, heads, places]
        return each(rows, self.keys), each(rows, self.values)
