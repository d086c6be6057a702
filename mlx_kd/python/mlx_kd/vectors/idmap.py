"""Ids of the caller's own over an index that counts its vectors."""

from typing import Any

from mlx_kd.vectors import arrays
from mlx_kd.vectors.arrays import np
from mlx_kd.vectors.flat import IndexFlat
from mlx_kd.vectors.index import Index


class IndexIDMap(Index):
    """IndexIDMap(IndexFlat(d)): add_with_ids, and searches that give those ids. A search waits while another thread
    adds."""

    def __init__(self, index: Any) -> None:
        if not isinstance(index, IndexFlat):
            raise ValueError(f"[vectors] index is {index!r}: give an IndexFlat; inverted files have ids of their own")
        if index.ntotal:
            raise ValueError(f"[vectors] the index has {index.ntotal} vectors without ids: give an empty one")
        super().__init__(index.d, index.metric_type)
        self.index = index
        self.id_map = np.zeros(0, np.int64)

    @property
    def ntotal(self) -> int:
        return len(self.id_map)

    def add(self, x: Any, *, check: bool = True) -> None:
        raise ValueError("[vectors] IndexIDMap takes vectors with their ids: use add_with_ids")

    def reset(self) -> None:
        with self._lock:
            self.index.reset()
            self.id_map = np.zeros(0, np.int64)

    def remove_ids(self, ids: Any) -> int:
        """Removes every vector with one of the ids. Returns how many there were."""
        with self._lock:
            gone = np.isin(self.id_map, arrays.ids_of(ids))
            self.index.remove_ids(np.flatnonzero(gone))
            self.id_map = self.id_map[~gone]
            return int(gone.sum())

    def reconstruct(self, key: Any) -> Any:
        """The vector of an id (the first, where several have it)."""
        with self._lock:
            at = np.flatnonzero(self.id_map == key)
            if not len(at):
                raise ValueError(f"[vectors] there is no vector {key} in the index")
            return self.index.reconstruct(int(at[0]))

    def _add(self, values: Any, ids: Any) -> None:
        with self._lock:
            self.index._add(values, None)
            self.id_map = np.concatenate([self.id_map, ids])

    def _named(self, rows: Any) -> Any:
        return np.where(rows >= 0, self.id_map[rows], -1) if len(self.id_map) else rows

    def _search(self, queries: Any, k: int, **options: int) -> tuple[Any, Any]:
        with self._lock:
            distances, rows = self.index._search(queries, k)
            return distances, self._named(rows)

    def _range_search(self, queries: Any, radius: float, found: list[list[Any]], **options: int) -> None:
        with self._lock:
            self.index._range_search(queries, radius, found)
            for parts in found:
                parts[:] = [(distances, self._named(rows)) for distances, rows in parts]
