"""Caches from the states of extension frames: only classes of caches, and only states that fit their class."""
from __future__ import annotations

from importlib import import_module
from typing import Any

import mlx.core as mx


def their_class(name: str) -> Any:
    """Of mlx-lm."""
    return getattr(import_module("mlx_lm.models.cache"), name)


def known_classes() -> dict[str, Any]:
    """Those of mlx-lm and of mlx_kd.cache, which adds its own there."""
    import_module("mlx_kd.cache")
    cache = import_module("mlx_lm.models.cache")
    return {name: one for name, one in vars(cache).items()
            if isinstance(one, type) and issubclass(one, cache._BaseCache) and not name.startswith("_")}


def cache_from(cls: str, state: Any, frame: str) -> Any:
    """A cache of this class with this state. ValueError, naming the frame, where the two do not fit."""
    try:
        return checked(cls, state)
    except ValueError as error:
        raise ValueError(f"[wire] {frame}: a {cls[:40]!r} cannot be made of its state: {error}") from None
    except (TypeError, AttributeError, IndexError, KeyError, RuntimeError) as error:
        raise ValueError(f"[wire] {frame}: a {cls[:40]!r} cannot be made of its state: {type(error).__name__}") from None


def checked(cls: str, state: Any) -> Any:
    classes = known_classes()
    if cls not in classes:
        raise ValueError(f"the class must be one of {', '.join(sorted(classes))}")
    if cls == "CacheList":
        parts = [checked(name, part) for part, name in state]
        return classes[cls](*parts)
    if cls == "ArraysCache":
        return arrays_cache(classes[cls], state)
    cache = classes[cls].from_state(state)
    if hasattr(cache, "check"):  # ours know themselves
        cache.check()
    else:
        check_rows(cache)
    return cache


def arrays_cache(cls: Any, state: Any) -> Any:
    arrays, padding, lengths = state
    if not isinstance(arrays, list) or not all(one is None or isinstance(one, mx.array) for one in arrays):
        raise ValueError("its first entry must be a list of arrays")
    if not all(one is None or isinstance(one, mx.array) for one in (padding, lengths)):
        raise ValueError("left_padding and lengths must be arrays")
    return cls.from_state((arrays, padding, lengths))


def whole(value: Any, name: str, least: int = 0) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value < 1 << 31:
        raise ValueError(f"{name} must be a whole number from {least}")
    return value


def check_rows(cache: Any) -> None:
    """Keys and values of equal batch, heads and rows; counts that stay inside them."""
    for name in ("offset", "_idx", "_offset", "max_size", "keep", "chunk_size", "start_position"):
        value = getattr(cache, name, 0)
        if not isinstance(value, mx.array):
            whole(value, name)
    if cache.keys is None and cache.values is None:
        return
    keys, values = parts_of(cache.keys), parts_of(cache.values)
    rows = {(one.shape[0], one.shape[1], one.shape[2]) for one in keys + values}
    if len(rows) != 1 or len(keys) != len(values):
        raise ValueError("keys and values differ in batch, heads or rows")
    (batch, _, length), = rows
    check_quantized(cache, keys, values)
    for name in ("offset", "left_padding"):
        value = getattr(cache, name, None)
        if isinstance(value, mx.array) and (value.shape != (batch,) or not mx.issubdtype(value.dtype, mx.integer)):
            raise ValueError(f"{name} must be whole numbers, one for each of the batch")
    ring = hasattr(cache, "max_size")
    start = getattr(cache, "start_position", 0)
    filled = cache._idx if hasattr(cache, "_idx") else cache.offset - start
    if not 0 <= filled <= length or (ring and cache.max_size < 1):
        raise ValueError(f"it counts {filled} of {length} rows as filled")
    if ring and length < min(count_of(cache), cache.max_size):
        raise ValueError(f"it has {length} rows for {count_of(cache)} tokens")


def count_of(cache: Any) -> int:
    return int(cache._offset if hasattr(cache, "_offset") else cache.offset)


def parts_of(one: Any) -> list[Any]:
    parts = list(one) if isinstance(one, (list, tuple)) else [one]
    if not parts or not all(isinstance(part, mx.array) and part.ndim == 4 for part in parts):
        raise ValueError("keys and values must be arrays of the axes (batch, heads, rows, width)")
    return parts


def check_quantized(cache: Any, keys: list[Any], values: list[Any]) -> None:
    if hasattr(cache, "bits"):
        check_coded(cache.bits, cache.group_size, keys, values)
    elif len(keys) != 1:
        raise ValueError("keys must be one array")


def check_coded(bits: Any, group: Any, keys: list[Any], values: list[Any]) -> None:
    """Of codes, scales and biases [B, H, rows, ..]."""
    bits, group = whole(bits, "bits", 2), whole(group, "group_size", 16)
    for part in (keys, values):
        if len(part) != 3 or part[0].dtype != mx.uint32:
            raise ValueError("quantised keys and values are uint32 codes, scales and biases")
        width = part[0].shape[3] * 32 // bits
        if part[1].shape != part[2].shape or part[1].shape[3] * group != width or part[1].dtype != part[2].dtype:
            raise ValueError(f"codes, scales and biases do not fit {bits} bits in groups of {group}")
