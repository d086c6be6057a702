"""What the tests of mlx_kd.vectors share. NumPy is taken from PyPI where it is missing."""
from tests.support import on_demand
from tests.support.package import PackageTest

on_demand.need("numpy")

import numpy as np

import mlx_kd.vectors as kv


def synthetic(d, count, seed, latent=10):
    """As FAISS's SyntheticDataset: a few latent dimensions, mixed and bent."""
    shape = np.random.default_rng(1)
    mix, scale = shape.standard_normal((latent, d)), shape.uniform(0.1, 2, d)
    x = np.random.default_rng(seed).standard_normal((count, latent)) @ mix
    return np.sin(x * scale).astype(np.float32)


def distances64(q, x, is_l2=True):
    q, x = q.astype(np.float64), x.astype(np.float64)
    return (q * q).sum(1)[:, None] + (x * x).sum(1) - 2 * q @ x.T if is_l2 else q @ x.T


def recall(found, wanted):
    return np.mean([len(set(a) & set(b)) / len(b) for a, b in zip(found, wanted)])


def every_index(x):
    """One of each kind, of 1,500 vectors of 16 dimensions."""
    mapped = kv.IndexIDMap(kv.IndexFlatIP(16))
    mapped.add_with_ids(x, np.arange(1500) + 5)
    made = [kv.IndexFlatL2(16), kv.IndexFlatIP(16), kv.IndexIVFFlat(d=16, nlist=7),
            kv.IndexIVFPQ(d=16, nlist=7, m=4)]
    for index in made:
        index.train(x)
        index.add(x[:900])
        index.add(x[900:])
    for index in made[2:]:
        index.nprobe = 3
    return made + [mapped]


class Vectors(PackageTest):
    def assert_nearest(self, q, x, distances, ids, is_l2=True, k=10):
        """Right up to 8 u (|q|^2 + |x|^2), as the operators promise."""
        exact = distances64(q, x, is_l2)
        allowed = 16 * 2 ** -24 * ((q * q).sum(1)[:, None] + (x * x).sum(1).max())
        own = np.take_along_axis(exact, ids, 1)
        self.assertTrue((np.abs(distances - own) <= allowed).all())
        best = np.sort(exact if is_l2 else -exact, 1)[:, :k]
        self.assertTrue((np.abs((own if is_l2 else -own) - best) <= allowed).all())
        self.assertTrue(all(len(set(row)) == k for row in ids))

    def assert_like_faiss(self, ours, theirs, slack):
        """The same ids, but for those whose distances are as near to each other as rounding lets them be."""
        (d, i), (fd, fi) = ours, theirs
        self.assertTrue((np.abs(np.where(d == fd, 0, d - fd)) <= slack).all(), np.abs(d - fd).max())
        for row in range(len(d)):
            odd = set(i[row]) ^ set(fi[row])
            edge = d[row, -1]
            for which in odd:
                at = d[row][i[row] == which] if which in i[row] else fd[row][fi[row] == which]
                self.assertLessEqual(abs(float(at[0]) - float(edge)), 2 * slack)
