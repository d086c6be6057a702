"""Caches of keys and values for models of mlx-lm, made by :func:`make`.

>>> cache = mlx_kd.cache.make(model, kind="quantized-rotating", bits=8, max_size=4096)    # doctest: +SKIP
>>> mlx_lm.generate(model, tokenizer, prompt, prompt_cache=cache)                          # doctest: +SKIP

They have the methods of mlx-lm's caches, so they go wherever those go: generate, BatchGenerator, prompt caches, the
server. Importing this module adds the classes to ``mlx_lm.models.cache``, by which saved prompt caches find them.
"""
from __future__ import annotations

from typing import Any, Optional

from mlx_kd.cache.base import theirs as _theirs
from mlx_kd.cache.batch import (
    BatchCache, BatchQuantizedCache, BatchQuantizedRotatingCache, BatchRotatingCache)
from mlx_kd.cache.codes import check_code, check_size
from mlx_kd.cache.paged import BatchPagedCache, PagedCache
from mlx_kd.cache.paged_codes import BatchQuantizedPagedCache, QuantizedPagedCache
from mlx_kd.cache.pool import PagePool, PoolFull
from mlx_kd.cache.single import ContiguousCache, QuantizedCache, QuantizedRotatingCache, RotatingCache

KINDS = ("contiguous", "rotating", "quantized", "quantized-rotating", "paged", "quantized-paged")
CLASSES = (ContiguousCache, RotatingCache, QuantizedCache, QuantizedRotatingCache, PagedCache, QuantizedPagedCache,
           BatchCache, BatchRotatingCache, BatchQuantizedCache, BatchQuantizedRotatingCache, BatchPagedCache,
           BatchQuantizedPagedCache)
__all__ = ["KINDS", "PagePool", "PoolFull", "make", *(one.__name__ for one in CLASSES)]

for _one in CLASSES:
    setattr(_theirs, _one.__name__, _one)


def make(model: Any, kind: str = "contiguous", bits: int = 8, group_size: int = 64, max_size: Optional[int] = None,
         keep: int = 0, block_size: int = 32, like: Optional[list[Any]] = None) -> list[Any]:
    """Caches for a model, one for each layer.

    Parameters
    ----------
    model : mlx.nn.Module
        A model of mlx-lm. Where it makes its own caches (``make_cache``), those of keys and values are replaced: a
        rotating one by a rotating one of its size, all others by `kind`; what is not a cache of keys and values stays.
    kind : str
        ``contiguous``, ``rotating``, ``quantized``, ``quantized-rotating``, ``paged`` or ``quantized-paged``. ``merge``
        makes a batch of several.
    bits, group_size : int
        Of the quantised kinds: 4 or 8 bits, groups of 32, 64 or 128 that divide the widths of the heads.
    max_size : int, optional
        Tokens: of the rotating kinds the most that are kept; of the paged kinds what the pool of a layer holds (4096).
    keep : int
        Of the rotating kinds: first tokens that are never dropped.
    block_size : int
        Of the paged kinds: tokens in a block.
    like : list, optional
        Of the paged kinds: caches made before, whose pools are shared, so that they can be merged.

    Returns
    -------
    list
        One cache for each layer.

    Raises
    ------
    ValueError
        For an unknown kind, or sizes that make no sense; ``max_size`` is needed by the rotating kinds.
    """
    if kind not in KINDS:
        raise ValueError(f"[cache] kind is {kind!r}: it must be one of {', '.join(KINDS)}")
    check_code(bits, group_size)
    if max_size is None and kind.endswith("rotating"):
        raise ValueError(f"[cache] kind {kind!r} needs max_size, the most tokens that are kept")
    if max_size is not None:
        check_size("max_size", max_size, 1)
    options = {"kind": kind, "bits": bits, "group_size": group_size, "max_size": max_size, "keep": keep,
               "block_size": block_size}
    own = model.make_cache() if hasattr(model, "make_cache") else [_theirs.KVCache() for _ in model.layers]
    if like is not None and (not kind.endswith("paged") or len(like) != len(own)):
        raise ValueError("[cache] like is for the kinds 'paged' and 'quantized-paged', and has one cache for each layer of the same model")
    return [_replaced(one, options, like[i] if like else None) for i, one in enumerate(own)]


def _replaced(one: Any, options: dict[str, Any], like: Any) -> Any:
    """Ours in the place of a cache of mlx-lm."""
    if isinstance(one, _theirs.CacheList):
        parts = like.caches if like is not None else [None] * len(one.caches)
        return _theirs.CacheList(*(_replaced(part, options, a) for part, a in zip(one.caches, parts)))
    if isinstance(one, _theirs.RotatingKVCache):
        size = min(one.max_size, options["max_size"] or one.max_size)
        if options["kind"].startswith("quantized"):
            return QuantizedRotatingCache(size, min(one.keep, size - 1), options["group_size"], options["bits"])
        return RotatingCache(size, min(one.keep, size - 1))
    return _new(options, like) if type(one) is _theirs.KVCache else one


def _new(options: dict[str, Any], like: Any) -> Any:
    kind, bits, group_size, max_size = (options[name] for name in ("kind", "bits", "group_size", "max_size"))
    if kind == "contiguous":
        return ContiguousCache()
    if kind == "quantized":
        return QuantizedCache(group_size, bits)
    if kind == "rotating":
        return RotatingCache(max_size, options["keep"])
    if kind == "quantized-rotating":
        return QuantizedRotatingCache(max_size, options["keep"], group_size, bits)
    size = check_size("block_size", options["block_size"], 1)
    blocks = -(-(max_size or 4096) // size)
    if kind == "quantized-paged":
        return QuantizedPagedCache(like.pool if like is not None else PagePool(blocks, size, group_size, bits))
    return PagedCache(like.pool if like is not None else PagePool(blocks, size))
