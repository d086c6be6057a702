"""Inverted files: vectors in the list of their nearest centroid; a search looks into the nprobe nearest lists."""
from typing import Any, NamedTuple

import mlx.core as mx

import mlx_kd
from mlx_kd.vectors import arrays, lists
from mlx_kd.vectors.arrays import np
from mlx_kd.vectors.flat import IndexFlat, nearest, nearest_of_all, queries_of_call
from mlx_kd.vectors.index import METRIC_INNER_PRODUCT, METRIC_L2, Index
from mlx_kd.vectors.kmeans import Kmeans

HEAP_BYTES = 1 << 27  # of the heaps of a call
TRAIN_ITERATIONS = 10  # as FAISS trains the quantizer of an inverted file


class SearchParametersIVF(NamedTuple):
    """search(x, k, params=SearchParametersIVF(nprobe=16)), as FAISS has it."""

    nprobe: int = 1


class IndexIVF(Index):
    """What inverted files have in common: the quantizer, segments of lists, probes."""

    def __init__(self, quantizer: Any, d: int, nlist: int, metric: int) -> None:
        if isinstance(quantizer, Index) and d is None:
            d = quantizer.d
        super().__init__(d, metric)
        self.nlist = arrays.count("nlist", nlist)
        if quantizer is None:
            quantizer = IndexFlat(self.d, self.metric_type)
        if not isinstance(quantizer, IndexFlat):
            raise ValueError(f"[vectors] quantizer is {quantizer!r}: give an IndexFlat of this module, or leave it out")
        if quantizer.d != self.d:
            raise ValueError(f"[vectors] quantizer has {quantizer.d} dimensions and the index {self.d}: give one of "
                             f"{self.d}")
        self.quantizer = quantizer
        self.nprobe = 1
        self.is_trained = False
        self._segments: tuple[lists.Segment, ...] = ()  # replaced as a whole

    @property
    def ntotal(self) -> int:
        return sum(segment.size for segment in self._segments)

    def list_sizes(self) -> Any:
        """Vectors of each list, int64 [nlist]."""
        return sum((np.diff(arrays.to_numpy(each.offsets)) for each in self._segments), np.zeros(self.nlist, np.int64))

    def train(self, x: Any, *, check: bool = True) -> None:
        """Finds the centroids, unless the quantizer has nlist of them already."""
        rows = arrays.Rows("x", x, self.d, check)
        with self._lock:
            if self.quantizer.ntotal != self.nlist:
                clusters = Kmeans(self.d, self.nlist, niter=TRAIN_ITERATIONS, is_l2=self.is_l2)
                clusters.train(rows.values, check=False)
                self.quantizer.reset()
                self.quantizer.add(clusters.centroids)
            self._train_entries(rows.values)
            self.is_trained = True

    def reset(self) -> None:
        """Forgets all vectors, and keeps what was trained."""
        with self._lock:
            self._segments = ()

    def remove_ids(self, ids: Any) -> Any:
        """Removes every vector with one of the ids. Returns how many there were."""
        with self._lock:
            self._segments, removed = lists.without(self._segments, arrays.ids_of(ids))
        return removed

    def reconstruct(self, key: Any) -> Any:
        """The vector of an id (the first, where several have it)."""
        segment, place = lists.find(self._segments, key)
        of_list = int(np.searchsorted(arrays.to_numpy(segment.offsets), place, "right")) - 1
        return self._decoded(arrays.to_numpy(segment.entries)[place:place + 1], np.array([of_list]))[0]

    def _train_entries(self, values: Any) -> None:
        """What an index needs in addition to centroids."""
        raise NotImplementedError(type(self).__name__)

    def _encoded(self, values: Any, of_list: Any) -> Any:
        """What is kept of vectors in their lists."""
        raise NotImplementedError(type(self).__name__)

    def _decoded(self, entries: Any, of_list: Any) -> Any:
        """The vectors of what is kept."""
        raise NotImplementedError(type(self).__name__)

    def _scan(self, queries: Any, segment: lists.Segment, probes: Any, k: int) -> Any:
        """Distances and ids of the k nearest in the probed lists of a segment, not evaluated."""
        raise NotImplementedError(type(self).__name__)

    def _options(self, params: Any, nprobe: Any) -> dict[str, int]:
        if params is not None:
            if nprobe is not None:
                raise ValueError("[vectors] both params and nprobe are given: give one")
            nprobe = params["nprobe"] if isinstance(params, dict) else getattr(params, "nprobe", None)
            if getattr(params, "sel", None) is not None:
                raise ValueError("[vectors] params has a selector of ids: remove_ids is what there is")
        probes = arrays.count("nprobe", self.nprobe if nprobe is None else nprobe)
        return {"nprobe": min(probes, self.nlist)}

    def _add(self, values: Any, ids: Any) -> None:
        if len(values) == 0:
            return
        of_list = nearest_of_all(values, self.quantizer.vectors, 1, self.is_l2)[1][:, 0]
        entries = self._encoded(values, of_list)
        segment = lists.make_segment(entries, np.arange(len(values)) if ids is None else ids, of_list, self.nlist)
        with self._lock:
            if ids is None:
                segment = segment._replace(ids=arrays.to_mlx(arrays.to_numpy(segment.ids) + self.ntotal))
            self._segments = lists.with_segment(self._segments, segment, self.nlist)

    def _probes(self, queries: Any, nprobe: Any) -> Any:
        """Distances and lists of the nprobe nearest centroids, (M, nprobe), not evaluated."""
        centroids = self.quantizer.vectors
        if nprobe <= arrays.MOST_NEIGHBOURS:
            return nearest(queries, centroids, nprobe, self.is_l2, arrays.device())
        x, q = arrays.to_numpy(centroids), np.array(queries)
        keys = -(q @ x.T) if not self.is_l2 else (x * x).sum(1) - 2 * q @ x.T + (q * q).sum(1)[:, None]
        found = np.argpartition(keys, nprobe - 1, axis=1)[:, :nprobe]
        d = np.take_along_axis(keys, found, 1)
        return mx.array(d if self.is_l2 else -d), mx.array(np.where(np.isnan(d), -1, found))

    def _search(self, queries: Any, k: int, nprobe: int = 1, **options: int) -> Any:
        segments = self._segments
        if not segments:
            return arrays.padded(len(queries), k, self.is_l2)
        step = queries_of_call(k) if arrays.device() == mx.gpu else max(1, HEAP_BYTES // (8 * k * nprobe))
        found = [self._search_some(mx.array(queries[first:first + step]), k, nprobe, segments)
                 for first in range(0, len(queries), step)]
        return found[0] if len(found) == 1 else tuple(np.concatenate(each) for each in zip(*found))

    def _search_some(self, queries: Any, k: int, nprobe: Any, segments: Any) -> Any:
        probes = self._probes(queries, nprobe)[1]
        results = [self._scan(queries, segment, probes, k) for segment in segments]
        mx.eval(results)
        return arrays.best([tuple(map(np.array, each)) for each in results], k, self.is_l2)

    def _range_search(self, queries: Any, radius: float, found: list[list[Any]], nprobe: int = 1,
                      **options: int) -> None:
        probes = np.array(self._probes(mx.array(queries), nprobe)[1])
        for segment in self._segments:
            offsets = arrays.to_numpy(segment.offsets)
            entries, ids = arrays.to_numpy(segment.entries), arrays.to_numpy(segment.ids)
            for of_list in np.unique(probes[probes >= 0]):
                part = slice(offsets[of_list], offsets[of_list + 1])
                if part.start == part.stop:
                    continue
                asking = np.flatnonzero((probes == of_list).any(1))
                of_asking: list[list[Any]] = [[] for _ in asking]
                vectors = self._decoded(entries[part], np.full(part.stop - part.start, of_list))
                self._within(queries[asking], vectors, ids[part], radius, of_asking)
                for i, parts in zip(asking, of_asking):
                    found[i].extend(parts)


class IndexIVFFlat(IndexIVF):
    """IndexIVFFlat(quantizer, d, nlist, metric=METRIC_L2), as in FAISS, or IndexIVFFlat(d=128, nlist=1024)."""

    def __init__(self, quantizer: Any = None, d: Any = None, nlist: Any = None, metric: int = METRIC_L2) -> None:
        super().__init__(quantizer, d, nlist, metric)

    def _train_entries(self, values: Any) -> None:
        pass

    def _encoded(self, values: Any, of_list: Any) -> Any:
        return values

    def _decoded(self, entries: Any, of_list: Any) -> Any:
        return np.array(entries)

    def _scan(self, queries: Any, segment: lists.Segment, probes: Any, k: int) -> Any:
        return mlx_kd.ivf_topk(queries, segment.entries, probes, segment.offsets, segment.ids, k=k,
                               inner=int(self.metric_type == METRIC_INNER_PRODUCT), stream=arrays.device())
