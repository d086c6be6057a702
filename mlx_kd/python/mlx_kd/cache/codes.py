"""How keys and values become planes: as they are, or quantised by MLX's affine rule."""
from __future__ import annotations

from typing import Any

import mlx.core as mx

from mlx_kd import _core
from mlx_kd import _operators as _named
from mlx_kd.cache.base import Held
from mlx_kd.cache.planes import Planes, first, put

BITS, GROUPS = (4, 8), (32, 64, 128)


_operators: Any = _named  # the functions of all operators that this build has


def check_code(bits: Any, group_size: Any) -> None:
    if bits not in BITS or isinstance(bits, bool):
        raise ValueError(f"[cache] bits is {bits!r}: quantised caches have {' or '.join(map(str, BITS))} bits")
    if group_size not in GROUPS or isinstance(group_size, bool):
        raise ValueError(f"[cache] group_size is {group_size!r}: it must be one of {', '.join(map(str, GROUPS))}")


def check_size(name: str, value: Any, least: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"[cache] {name} is {value!r}: it must be a whole number from {least}")
    return value


def check_trim(n: Any) -> None:
    if not isinstance(n, int) or n < 0:
        raise ValueError(f"[cache] trim({n!r}): it must be a whole number from 0")


def check_numbers(keys: mx.array, values: mx.array) -> None:
    """Of what is quantised."""
    for name, x in (("keys", keys), ("values", values)):
        if x.dtype not in (mx.float32, mx.float16, mx.bfloat16):
            raise ValueError(f"[cache] {name} are of type {x.dtype}: quantised caches take float32, float16 and bfloat16")


def runs_kernel(op: str) -> bool:
    """Whether a kernel of mlx_kd runs this operator now. Asked when a cache grows, not at each token."""
    return hasattr(_operators, op) and op in _core.settings()["default_kernels"]


class Plain(Held):
    """Keys and values as they come."""

    _kernel = False

    def _encode(self, x: mx.array) -> Planes:
        return x

    def _check(self, keys: mx.array, values: mx.array) -> None:
        check_rows(self, keys, values)

    def _write(self, at: int, keys: mx.array, values: mx.array) -> None:
        if self._kernel:
            self.keys, self.values = _operators.kv_append(self.keys, self.values, keys, values, at)
        else:
            self.keys, self.values = put(self.keys, at, keys), put(self.values, at, values)

    def _grown(self) -> None:
        self._kernel = runs_kernel("kv_append")


class Coded(Held):
    """Keys and values as codes, scales and biases. `bits` and `group_size` are what mlx-lm's attention asks for."""

    bits: int
    group_size: int
    turned_by = "qk_norm_rope_append_quantized"
    _kernel = False
    _turn: Any = None  # an operator that rotates what it writes, and its arguments; then the queries

    def append_turned(self, operator: Any, q: mx.array, keys: mx.array, values: mx.array, arrays: Any,
                      numbers: Any) -> Any:
        """Queries rotated, and what update_and_fetch gives for keys that are rotated as they are quantised. None, and
        nothing is done, where rows are not written in place."""
        if not self._writes_in_place(keys.shape[2]):
            return None
        self._turn = operator, q, arrays, numbers
        try:
            keys_now, values_now = self.update_and_fetch(keys, values)
            return self._turn, keys_now, values_now
        finally:
            self._turn = None

    def _writes_in_place(self, count: int) -> bool:
        return True

    def _encode(self, x: mx.array) -> Planes:
        return tuple(mx.quantize(x, group_size=self.group_size, bits=self.bits))

    def _check(self, keys: mx.array, values: mx.array) -> None:
        for name, x in (("keys", keys), ("values", values)):
            if x.shape[-1] % self.group_size:
                raise ValueError(f"[cache] {name} are {x.shape[-1]} wide, which is not a multiple of group_size "
                                 f"{self.group_size}: choose a smaller group")
        check_numbers(keys, values)
        check_rows(self, keys, values)

    def _write(self, at: int, keys: mx.array, values: mx.array) -> None:
        if self._turn is not None:
            operator, q, arrays, numbers = self._turn
            written = operator(*self.keys, *self.values, q, keys, values, at, *arrays, bits=self.bits,
                               group_size=self.group_size, **numbers)
            self.keys, self.values, self._turn = tuple(written[:3]), tuple(written[3:6]), written[6]
        elif self._kernel:
            written = _operators.kv_append_quantized(
                *self.keys, *self.values, keys, values, at, bits=self.bits, group_size=self.group_size)
            self.keys, self.values = tuple(written[:3]), tuple(written[3:])
        else:
            self.keys = put(tuple(self.keys), at, self._encode(keys))
            self.values = put(tuple(self.values), at, self._encode(values))

    def _grown(self) -> None:
        self._kernel = runs_kernel("kv_append_quantized")


def width_of(cache: Any, planes: Planes) -> int:
    """Of a row, in elements."""
    width = first(planes).shape[3]
    return int(width * 32 // cache.bits) if hasattr(cache, "bits") else int(width)


def check_rows(cache: Any, keys: mx.array, values: mx.array) -> None:
    """New rows must be those of one attention layer, and go with the rows that are there."""
    if keys.ndim != 4 or values.ndim != 4 or keys.shape[:3] != values.shape[:3]:
        raise ValueError(f"[cache] keys have shape {keys.shape} and values {values.shape}: they must be [B, H, T, D], of "
                         "equal B, H and T")
    if cache.keys is None:
        return
    there = first(cache.keys).shape
    wanted = (there[0], there[1], width_of(cache, cache.keys), width_of(cache, cache.values))
    given = (keys.shape[0], keys.shape[1], keys.shape[3], values.shape[3])
    if wanted != given:
        raise ValueError(f"[cache] batch, heads and widths of new keys and values are {given}, and those of the cache are "
                         f"{wanted}: use a cache for each layer and each model")


def check_alike(caches: list[Any], cls: type) -> None:
    """Of caches that become one batch."""
    if not caches:
        raise ValueError("[cache] merge of no caches: give one at least")
    for one in caches:
        if not isinstance(one, cls):
            raise ValueError(f"[cache] a {type(one).__name__} is merged with a {cls.__name__}: merge caches of one kind")
        for name in ("max_size", "bits", "group_size", "keep"):
            if getattr(one, name, None) != getattr(caches[0], name, None):
                raise ValueError(f"[cache] caches with {name} {getattr(caches[0], name, None)} and "
                                 f"{getattr(one, name, None)} are merged: merge those of equal {name}, made in one way")
    shapes = {(first(c.keys).shape[1], width_of(c, c.keys), width_of(c, c.values)) for c in caches if c.keys is not None}
    if len(shapes) > 1:
        raise ValueError(f"[cache] caches of different heads and widths are merged: {sorted(shapes)}")
