"""Lloyd's k-means, as FAISS trains quantizers: a sample of the points, empty clusters split off large ones."""

from typing import Any

from mlx_kd.vectors import arrays
from mlx_kd.vectors.arrays import np
from mlx_kd.vectors.flat import nearest_of_all

SPLIT = np.float32(1 / 1024)  # how far the halves of a cluster are moved apart


class Kmeans:
    """Kmeans(d, k): centroids of points.

    niter: iterations; seed: of the sample and of the first centroids; max_points_per_centroid: a larger training set is
    sampled; spherical: centroids are normalised; is_l2: whether points go to the nearest centroid or to that of the
    largest inner product. After train: centroids, float32 [k, d], and obj, the sum of the points' distances (products)
    of each iteration.
    """

    def __init__(self, d: int, k: int, *, niter: int = 25, seed: int = 1234, max_points_per_centroid: Any = 256, spherical: bool = False, is_l2: bool = True) -> None:
        self.d, self.k = arrays.count("d", d), arrays.count("k", k)
        self.niter, self.seed = arrays.count("niter", niter), seed
        self.most = arrays.count("max_points_per_centroid", max_points_per_centroid)
        self.spherical, self.is_l2 = spherical, is_l2
        self.centroids: Any = None
        self.obj: list[float] = []

    def train(self, x: Any, *, check: bool = True) -> float:
        points = arrays.Rows("x", x, self.d, check).values
        if len(points) < self.k:
            raise ValueError(f"[vectors] there are {len(points)} training points for {self.k} clusters: give at least "
                             f"{self.k}")
        random = np.random.default_rng(self.seed)
        if len(points) > self.k * self.most:
            points = points[np.sort(random.choice(len(points), self.k * self.most, replace=False))]
        centroids = points[random.choice(len(points), self.k, replace=False)]
        self.obj = []
        for _ in range(self.niter):
            distances, nearest = nearest_of_all(points, arrays.to_mlx(self._normal(centroids)), 1, self.is_l2)
            self.obj.append(float(distances.sum(dtype=np.float64)))
            centroids = self._means(points, nearest[:, 0], centroids, random)
        self.centroids = self._normal(centroids)
        return self.obj[-1]

    def _normal(self, centroids: Any) -> Any:
        if not self.spherical:
            return centroids
        norms = np.linalg.norm(centroids, axis=1, keepdims=True)
        return centroids / np.where(norms > 0, norms, 1)

    def _means(self, points: Any, nearest: Any, before: Any, random: Any) -> Any:
        order = np.argsort(nearest, kind="stable")
        order = order[nearest[order] >= 0]  # a NaN has no centroid
        sizes = np.bincount(nearest[order], minlength=self.k)
        full = np.flatnonzero(sizes)
        centroids = before.copy()
        if len(full):
            starts = np.cumsum(sizes) - sizes
            sums = np.add.reduceat(points[order], starts[full], axis=0)
            centroids[full] = sums / sizes[full, None].astype(np.float32)
        weights = sizes.astype(np.float64)
        for empty in np.flatnonzero(sizes == 0):
            chances = np.maximum(weights - 1, 0)
            if chances.sum() == 0:
                break
            large = random.choice(self.k, p=chances / chances.sum())
            sign = np.where(np.arange(self.d) % 2 == 0, SPLIT, -SPLIT)
            centroids[empty] = centroids[large] * (1 + sign)
            centroids[large] = centroids[large] * (1 - sign)
            weights[empty] = weights[large] = weights[large] / 2
        return centroids
