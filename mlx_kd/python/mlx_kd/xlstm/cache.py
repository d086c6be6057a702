"""The state of an mLSTM layer between the tokens of a text, with the methods that mlx-lm asks of a cache."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Optional

import mlx.core as mx

from mlx_kd.xlstm.arrays import State


class StateCache:
    """C, n and m of one layer, in a cache of mlx-lm's protocol; its size does not depend on the tokens seen.

    Attributes
    ----------
    value : tuple or None
        C ``[B, NH, DHQK, DHHV]``, n ``[B, NH, DHQK]`` and m ``[B, NH]``, float32; None before the first token.
    """

    def __init__(self) -> None:
        self.value: Optional[State] = None
        self.left_padding: Optional[mx.array] = None
        self.lengths: Optional[mx.array] = None

    # mlx-lm evaluates what `state` holds, and writes it to files.
    @property
    def state(self) -> list[mx.array]:
        return [] if self.value is None else list(self.value)

    @state.setter
    def state(self, value: Sequence[mx.array]) -> None:
        self.left_padding = self.lengths = None
        self.value = (value[0], value[1], value[2]) if value else None

    @classmethod
    def from_state(cls, state: Sequence[mx.array], *_meta: Any) -> "StateCache":
        cache = cls()
        cache.state = state
        return cache

    meta_state = ""

    def is_trimmable(self) -> bool:
        return False  # a token cannot be taken out of the state

    def size(self) -> int:
        return 0

    def empty(self) -> bool:
        return self.value is None

    @property
    def nbytes(self) -> int:
        return sum(x.nbytes for x in self.state)

    # Batches: texts of several lengths, padded on either side. A padding token changes no state.
    def make_mask(self, tokens: int) -> Optional[mx.array]:
        """``[B, tokens]``: which are not padding; None where all are tokens."""
        place = mx.arange(tokens)
        mask = None if self.left_padding is None else place >= self.left_padding[:, None]
        if self.lengths is not None:
            inside = place < self.lengths[:, None]
            mask = inside if mask is None else mask & inside
        return mask

    def advance(self, tokens: int) -> None:
        if self.lengths is not None:
            self.lengths = self.lengths - tokens
        if self.left_padding is not None:
            self.left_padding = self.left_padding - tokens

    def prepare(self, *, left_padding: Any = None, lengths: Any = None, **_more: Any) -> None:
        if left_padding is not None:
            self.left_padding = mx.array(left_padding)
        if lengths is not None:
            self.lengths = mx.array(lengths)

    def finalize(self) -> None:
        self.left_padding = self.lengths = None

    def filter(self, batch_indices: Any) -> None:
        """Keeps these texts of the batch, in place."""
        if self.value is not None:
            c, n, m = (x[batch_indices] for x in self.value)
            self.value = (c, n, m)
        self.left_padding, self.lengths = (
            None if x is None else x[batch_indices] for x in (self.left_padding, self.lengths))

    def extract(self, index: int) -> "StateCache":
        """A cache of one text of the batch."""
        return StateCache.from_state([x[index:index + 1] for x in self.state])

    def extend(self, other: "StateCache") -> None:
        """Adds the texts of another cache behind these, in place; neither may be empty."""
        if self.value is None or other.value is None:
            raise ValueError("[mlstm] an empty cache has no batch size: give both caches a token before extend()")
        c, n, m = (mx.concatenate(list(pair)) for pair in zip(self.value, other.value))
        self.value = (c, n, m)

    @classmethod
    def merge(cls, caches: Sequence["StateCache"]) -> "StateCache":
        """One cache for the texts of several; those that are empty begin with zeros."""
        merged = cls()
        known = next((cache.value for cache in caches if cache.value is not None), None)
        if known is not None:
            parts = [cache.value or tuple(mx.zeros((1, *x.shape[1:]), x.dtype) for x in known) for cache in caches]
            c, n, m = (mx.concatenate(list(part)) for part in zip(*parts))
            merged.value = (c, n, m)
        return merged
