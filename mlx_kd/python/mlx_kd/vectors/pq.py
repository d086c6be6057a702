"""Inverted files of codes: a vector is the centroid of its list and m codes of 8 bits for what is left of it."""
from typing import Any

import mlx.core as mx

import mlx_kd
from mlx_kd.vectors import arrays, lists
from mlx_kd.vectors.arrays import np
from mlx_kd.vectors.flat import nearest_of_all
from mlx_kd.vectors.index import METRIC_INNER_PRODUCT, METRIC_L2
from mlx_kd.vectors.ivf import IndexIVF
from mlx_kd.vectors.kmeans import Kmeans

CODES = 256
MOST_PARTS = 128


class IndexIVFPQ(IndexIVF):
    """IndexIVFPQ(quantizer, d, nlist, m, nbits=8, metric=METRIC_L2), as in FAISS, or with keywords and no quantizer:
    m codes of 8 bits a vector, by residual."""

    def __init__(self, quantizer: Any = None, d: Any = None, nlist: Any = None, m: Any = None, nbits: Any = 8, metric: int = METRIC_L2) -> None:
        super().__init__(quantizer, d, nlist, metric)
        self.m = arrays.count("m", m, MOST_PARTS)
        if nbits != 8:
            raise ValueError(f"[vectors] nbits is {nbits!r}: codes have 8 bits")
        if self.d % self.m:
            raise ValueError(f"[vectors] m is {self.m} and d {self.d}: give a divisor of d")
        self.nbits, self.code_size = 8, self.m
        self._books: Any = None  # float32 (m, d / m, 256), of MLX

    @property
    def codebooks(self) -> Any:
        """What each code means, float32 (m, 256, d / m)."""
        self._refuse_untrained()
        return np.ascontiguousarray(arrays.to_numpy(self._books).transpose(0, 2, 1))

    def set_codebooks(self, books: Any) -> None:
        """Codebooks (m, 256, d / m) of the caller's own, in the place of what train finds."""
        books = np.asarray(books, np.float32)
        if books.shape != (self.m, CODES, self.d // self.m):
            raise ValueError(f"[vectors] books has shape {books.shape}: give {(self.m, CODES, self.d // self.m)}")
        self._books = arrays.to_mlx(np.ascontiguousarray(books.transpose(0, 2, 1)))
        self.is_trained = self.quantizer.ntotal == self.nlist

    def _train_entries(self, values: Any) -> None:
        if len(values) < CODES:
            raise ValueError(f"[vectors] there are {len(values)} training points for {CODES} codes: give at least {CODES}")
        random = np.random.default_rng(1234)
        if len(values) > CODES * CODES:
            values = values[np.sort(random.choice(len(values), CODES * CODES, replace=False))]
        of_list = nearest_of_all(values, self.quantizer.vectors, 1, self.is_l2)[1][:, 0]
        rest = values - arrays.to_numpy(self.quantizer.vectors)[of_list]
        books = []
        for part in np.split(rest, self.m, axis=1):
            clusters = Kmeans(self.d // self.m, CODES)
            clusters.train(np.ascontiguousarray(part), check=False)
            books.append(clusters.centroids.T)
        self._books = arrays.to_mlx(np.ascontiguousarray(np.stack(books), np.float32))

    def _encoded(self, values: Any, of_list: Any) -> Any:
        books, centroids = self.codebooks, arrays.to_numpy(self.quantizer.vectors)
        codes = np.empty((len(values), self.m), np.uint8)
        width, step = self.d // self.m, 1 << 16
        for first in range(0, len(values), step):
            some = slice(first, first + step)
            rest = values[some] - centroids[np.maximum(of_list[some], 0)]
            for part in range(self.m):
                own = np.ascontiguousarray(rest[:, part * width:(part + 1) * width])
                found = nearest_of_all(own, mx.array(books[part]), 1, True)[1][:, 0]
                codes[some, part] = np.maximum(found, 0)
        return codes

    def _decoded(self, entries: Any, of_list: Any) -> Any:
        books = self.codebooks
        parts = [books[part][entries[:, part]] for part in range(self.m)]
        return np.concatenate(parts, 1) + arrays.to_numpy(self.quantizer.vectors)[of_list]

    def _scan(self, queries: Any, segment: lists.Segment, probes: Any, k: int) -> Any:
        return mlx_kd.ivfpq_topk(queries, segment.entries, self._books, self.quantizer.vectors, probes, segment.offsets,
                                 segment.ids, k=k, inner=int(self.metric_type == METRIC_INNER_PRODUCT), stream=arrays.device())
