"""Exact search."""
from typing import Any

import mlx.core as mx

import mlx_kd
from mlx_kd.vectors import arrays
from mlx_kd.vectors.arrays import np
from mlx_kd.vectors.index import METRIC_INNER_PRODUCT, METRIC_L2, Index

QUERIES = 1 << 16  # of a call of an operator, on a CPU
CANDIDATES = 1 << 24  # about as many has a call on a GPU


def queries_of_call(k: int) -> int:
    """How many queries an operator takes at once: the candidates of all have room."""
    return QUERIES if arrays.device() == mx.cpu else max(64, CANDIDATES // (1024 + 64 * k))


def nearest(queries: Any, base: Any, k: int, is_l2: bool, device: Any = None) -> Any:
    """Distances and ids of the k nearest rows of base (of MLX) to each query, as arrays of MLX, not evaluated."""
    operator = mlx_kd.l2_topk if is_l2 else mlx_kd.ip_topk
    return operator(queries, base, k=k, stream=device or arrays.device())


def nearest_of_all(queries: Any, base: Any, k: int, is_l2: bool) -> Any:
    """The same for any number of queries, as arrays of NumPy."""
    found = []
    step = queries_of_call(k)
    for first in range(0, len(queries), step):
        distances, ids = nearest(mx.array(queries[first:first + step]), base, k, is_l2)
        mx.eval(distances, ids)
        found.append((np.array(distances), np.array(ids)))
    return (found[0] if len(found) == 1 else
            (np.concatenate([each[0] for each in found]), np.concatenate([each[1] for each in found])))


class IndexFlat(Index):
    """IndexFlat(d, metric=METRIC_L2): every vector is looked at."""

    def __init__(self, d: int, metric: int = METRIC_L2) -> None:
        super().__init__(d, metric)
        self._parts: tuple[Any, ...] = ()  # arrays of MLX, replaced as a whole: a search keeps those that it began with

    @property
    def ntotal(self) -> int:
        return sum(part.shape[0] for part in self._parts)

    @property
    def vectors(self) -> Any:
        """All vectors, an array of MLX [ntotal, d]."""
        parts = self._parts
        if len(parts) == 0:
            return mx.zeros((0, self.d))
        if len(parts) > 1:
            with self._lock:
                parts = self._parts
                whole, memory = arrays.empty((sum(part.shape[0] for part in parts), self.d))
                np.concatenate([arrays.to_numpy(part) for part in parts], out=memory)
                parts = self._parts = (whole,)
        return parts[0]

    def reset(self) -> None:
        """Forgets all vectors."""
        with self._lock:
            self._parts = ()

    def reconstruct(self, key: Any) -> Any:
        """The vector of an id."""
        return self.reconstruct_n(key, 1)[0]

    def reconstruct_n(self, n0: Any = 0, ni: Any = -1) -> Any:
        """The vectors [n0, n0 + ni); all from n0 on with ni = -1."""
        vectors = self.vectors
        ni = vectors.shape[0] - n0 if ni == -1 else ni
        if n0 < 0 or ni < 0 or n0 + ni > vectors.shape[0]:
            raise ValueError(f"[vectors] there is no vector {n0 if n0 < 0 or ni < 1 else n0 + ni - 1}: the index has "
                             f"{vectors.shape[0]}")
        return np.array(arrays.to_numpy(vectors)[n0:n0 + ni]) if ni else np.zeros((0, self.d), np.float32)

    def remove_ids(self, ids: Any) -> int:
        """Removes vectors; those behind them get lower ids, as in FAISS. Returns how many there were."""
        ids = arrays.ids_of(ids)
        with self._lock:
            vectors = arrays.to_numpy(self.vectors) if self.ntotal else np.zeros((0, self.d), np.float32)
            keep = np.ones(len(vectors), bool)
            keep[ids[(ids >= 0) & (ids < len(vectors))]] = False
            removed = int(len(vectors) - keep.sum())
            if removed:
                self._parts = (arrays.to_mlx(vectors[keep]),) if keep.any() else ()
            return removed

    def add_with_ids(self, x: Any, ids: Any, *, check: bool = True) -> None:
        raise ValueError("[vectors] IndexFlat has no ids of its own: use IndexIDMap(IndexFlat(d))")

    def _add(self, values: Any, ids: Any) -> None:
        if len(values) == 0:
            return
        part = arrays.to_mlx(values)
        with self._lock:
            self._parts = (*self._parts, part)

    def _search(self, queries: Any, k: int, **options: int) -> Any:
        base = self.vectors
        return arrays.padded(len(queries), k, self.is_l2) if base.shape[0] == 0 else \
            nearest_of_all(queries, base, k, self.is_l2)

    def _range_search(self, queries: Any, radius: float, found: list[list[Any]], **options: int) -> None:
        base = self.vectors
        if base.shape[0]:
            self._within(queries, arrays.to_numpy(base), np.arange(base.shape[0]), radius, found)


class IndexFlatL2(IndexFlat):
    """IndexFlatL2(d): squared L2 distances."""

    def __init__(self, d: int) -> None:
        super().__init__(d, METRIC_L2)


class IndexFlatIP(IndexFlat):
    """IndexFlatIP(d): inner products, the largest first."""

    def __init__(self, d: int) -> None:
        super().__init__(d, METRIC_INNER_PRODUCT)
