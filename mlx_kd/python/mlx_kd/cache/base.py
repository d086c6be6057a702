"""mlx-lm's caches, and what type checkers know about ours: they are put together from parts that share attributes."""
from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import mlx.core as mx

from mlx_kd.cache.planes import bytes_of

try:
    theirs: Any = import_module("mlx_lm.models.cache")
except ImportError as error:
    raise ImportError(f"[cache] mlx_kd.cache holds caches for models of mlx-lm, and that cannot be imported ({error}): "
                      "pip install mlx-lm") from error


class Held:
    """A part of a cache."""

    keys: Any
    values: Any
    offset: Any
    max_size: Any
    left_padding: Any
    rotated: Any
    _idx: Any
    _offset: Any

    @property
    def nbytes(self) -> int:
        return 0 if self.keys is None else bytes_of(self.keys, self.values)

    if TYPE_CHECKING:
        def __getattr__(self, name: str) -> Any: ...

        def trim(self, n: int) -> Any: ...


def numbers(x: mx.array) -> list[int]:
    """Of one axis."""
    values: Any = x.tolist()
    return list(values)
