"""mlx_kd.vectors on an NVIDIA GPU, beside float64."""
import unittest

from tests.support.vectors import Vectors, distances64, np, synthetic

import mlx.core as mx

import mlx_kd
import mlx_kd.vectors as kv
from mlx_kd.vectors import arrays

HAS_GPU = mx.is_available(mx.gpu) and not mx.metal.is_available()


class OnACpu(unittest.TestCase):
    def test_searches_run_where_the_default_device_is(self):
        before = mx.default_device()
        self.addCleanup(mx.set_default_device, before)
        mx.set_default_device(mx.cpu)
        self.assertEqual(arrays.device(), mx.cpu)

    def test_the_ids_that_a_gpu_is_compared_by_are_right(self):
        found = arrays.found_on(mx.cpu)
        x = np.random.default_rng(1).standard_normal((20000, 12)).astype(np.float32)
        q = x[:9] + np.float32(0.25)
        self.assertTrue((found[0] == np.argsort(distances64(q, x), 1)[:, :5]).all())
        self.assertTrue((found[3] == np.argsort(-distances64(q, x[:900], False), 1)[:, :5]).all())
        self.assertTrue((found[4][0] == np.argsort(distances64(q[:1], x[:900]), 1)[0, :5]).all())


@unittest.skipUnless(HAS_GPU, "no NVIDIA GPU, or an MLX without CUDA")
class OnAGpu(Vectors):
    def setUp(self):
        mx.set_default_device(mx.gpu)
        if mx.device_info(mx.gpu)["architecture"] != arrays.GPU:
            self.skipTest("this GPU has no kernels for searches")
        self.assertTrue(arrays.has_kernels())
        mlx_kd.reset_stats()

    def tearDown(self):
        self.assertEqual(mlx_kd.stats()["fallbacks"], 0)

    def test_exact_search(self):
        for d, count in ((24, 3000), (65, 20000), (128, 60000), (300, 9000)):
            x, q = synthetic(d, count, 2), synthetic(d, 70, 3)
            for index, is_l2 in ((kv.IndexFlatL2(d), True), (kv.IndexFlatIP(d), False)):
                index.add(x[:1000])
                index.add(x[1000:])
                for queries in (1, 5, 70):
                    self.assert_nearest(q[:queries], x, *index.search(q[:queries], 10), is_l2)

    def test_lists_find_what_a_cpu_finds(self):
        x, q = synthetic(64, 30000, 2), synthetic(64, 50, 3)
        for metric in (kv.METRIC_L2, kv.METRIC_INNER_PRODUCT):
            for index in (kv.IndexIVFFlat(d=64, nlist=64, metric=metric), kv.IndexIVFPQ(d=64, nlist=64, m=16, metric=metric),
                          kv.IndexIVFPQ(d=64, nlist=5, m=4, metric=metric)):
                index.train(x)
                index.add(x)
                for k in (1, 10, 500):
                    d, i = index.search(q, k, nprobe=5)
                    mx.set_default_device(mx.cpu)
                    wanted = index.search(q, k, nprobe=5)
                    mx.set_default_device(mx.gpu)
                    self.assert_like_faiss((d, i), wanted, 64 * 2 ** -24 * float((x * x).sum(1).max()))

    def test_equal_vectors_are_in_the_order_of_their_ids(self):
        index = kv.IndexFlatL2(32)
        index.add(np.ones((50000, 32), np.float32))
        d, i = index.search(np.ones((3, 32), np.float32), 100)
        self.assertTrue((d == 0).all() and (i == np.arange(100)).all())

    def test_codes_and_vectors_that_are_missing(self):
        x = synthetic(16, 3000, 2)
        index = kv.IndexIVFPQ(d=16, nlist=7, m=4)
        index.train(x)
        index.add(x)
        self.assertTrue((index.search(x[:5], 3, nprobe=7)[1] >= 0).all())
        few = kv.IndexFlatIP(16)
        few.add(x[:2])
        d, i = few.search(x[:9], 5)
        self.assertTrue((i[:, 2:] == -1).all() and (d[:, 2:] == np.finfo(np.float32).min).all())


if __name__ == "__main__":
    unittest.main()
