"""What all indexes have in common: names of FAISS, checks, range searches."""
import threading
from typing import Any

from mlx_kd.vectors import arrays
from mlx_kd.vectors.arrays import np

METRIC_INNER_PRODUCT, METRIC_L2 = 0, 1
BLOCK = 1 << 22  # distances that a range search computes at once


class Index:
    """d dimensions, ntotal vectors. Threads may search and add at once."""

    def __init__(self, d: int, metric: int) -> None:
        self.d = arrays.count("d", d)
        if metric not in (METRIC_INNER_PRODUCT, METRIC_L2):
            raise ValueError(f"[vectors] metric is {metric!r}: give METRIC_L2 or METRIC_INNER_PRODUCT")
        self.metric_type = int(metric)
        self.is_trained = True
        self._lock = threading.RLock()

    @property
    def is_l2(self) -> bool:
        return self.metric_type == METRIC_L2

    @property
    def ntotal(self) -> int:
        """Vectors in the index."""
        raise NotImplementedError(type(self).__name__)

    def __len__(self) -> int:
        return self.ntotal

    def train(self, x: Any, *, check: bool = True) -> None:
        """Nothing, where an index needs none."""
        arrays.Rows("x", x, self.d, check)

    def add(self, x: Any, *, check: bool = True) -> None:
        """Adds the rows of x, which get the ids from ntotal on."""
        self._refuse_untrained()
        self._add(arrays.Rows("x", x, self.d, check).values, None)

    def add_with_ids(self, x: Any, ids: Any, *, check: bool = True) -> None:
        """Adds the rows of x by ids of the caller's own. An id may occur several times."""
        self._refuse_untrained()
        rows = arrays.Rows("x", x, self.d, check)
        self._add(rows.values, arrays.ids_of(ids, len(rows)))

    def search(self, x: Any, k: int, *, params: Any = None, nprobe: Any = None, check: bool = True) -> Any:
        """Distances (n, k) and ids (n, k) of the nearest vectors to each row of x, the best first.

        Where fewer than k are found, I is -1 and D the largest float32 (the lowest of inner products). `params` is
        FAISS's form of `nprobe`. With check=False a row with NaN finds nothing instead of raising.
        """
        k = arrays.count("k", k, arrays.MOST_NEIGHBOURS)
        options = self._options(params, nprobe)
        self._refuse_untrained()
        rows = arrays.Rows("x", x, self.d, check)
        if len(rows) == 0:
            return rows.given(*arrays.padded(0, k, self.is_l2))
        return rows.given(*self._search(rows.values, k, **options))

    def range_search(self, x: Any, radius: float, *, params: Any = None, nprobe: Any = None, check: bool = True) -> Any:
        """(lims, D, I) of all vectors nearer than radius, or of products above it, as FAISS returns them: those of
        row i of x are D[lims[i]:lims[i + 1]], in the order of their ids."""
        options = self._options(params, nprobe)
        self._refuse_untrained()
        rows = arrays.Rows("x", x, self.d, check)
        found: list[list[Any]] = [[] for _ in range(len(rows))]
        if not np.isnan(float(radius)) and len(rows):
            self._range_search(rows.values, float(radius), found, **options)
        lims, distances, ids = np.zeros(len(rows) + 1, np.int64), [], []
        for i, parts in enumerate(found):
            d = np.concatenate([part[0] for part in parts]) if parts else np.zeros(0, np.float32)
            own = np.concatenate([part[1] for part in parts]) if parts else np.zeros(0, np.int64)
            order = np.argsort(own, kind="stable")
            distances.append(d[order])
            ids.append(own[order])
            lims[i + 1] = lims[i] + len(own)
        return rows.given(lims, np.concatenate(distances or [np.zeros(0, np.float32)]),
                          np.concatenate(ids or [np.zeros(0, np.int64)]))

    def _options(self, params: Any, nprobe: Any) -> dict[str, int]:
        """Of a search. An index without lists takes none."""
        if params is not None or nprobe is not None:
            raise ValueError(f"[vectors] {type(self).__name__} has no lists: leave out params and nprobe")
        return {}

    def _add(self, values: Any, ids: Any) -> None:
        raise NotImplementedError(type(self).__name__)

    def _search(self, queries: Any, k: int, **options: int) -> tuple[Any, Any]:
        raise NotImplementedError(type(self).__name__)

    def _range_search(self, queries: Any, radius: float, found: list[list[Any]], **options: int) -> None:
        raise NotImplementedError(type(self).__name__)

    def _refuse_untrained(self) -> None:
        if not self.is_trained:
            raise ValueError(f"[vectors] {type(self).__name__} is not trained: call train first")

    def _within(self, queries: Any, vectors: Any, ids: Any, radius: float, found: Any) -> None:
        """Adds what lies within the radius to found[i] of query i. Candidates are chosen by products, with what those
        may be off by, and decided by the distances themselves."""
        with np.errstate(invalid="ignore", over="ignore"):
            of_queries = np.einsum("ij,ij->i", queries, queries)[:, None]
            step = max(1, BLOCK // max(1, len(queries)))
            for first in range(0, len(vectors), step):
                x = vectors[first:first + step]
                products = queries @ x.T
                norms = of_queries + np.einsum("ij,ij->i", x, x)[None]
                slack = np.float32(1e-5) * norms
                near = norms - 2 * products < radius + slack if self.is_l2 else products > radius - slack
                for i in np.flatnonzero(near.any(1)):
                    at = np.flatnonzero(near[i])
                    apart = x[at] - queries[i] if self.is_l2 else None
                    d = np.einsum("ij,ij->i", apart, apart) if self.is_l2 else x[at] @ queries[i]
                    keep = d < radius if self.is_l2 else d > radius
                    if keep.any():
                        found[i].append((d[keep].astype(np.float32), ids[first + at[keep]]))
