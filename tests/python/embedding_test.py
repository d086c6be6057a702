"""Rows of quantised embeddings, and queries and keys that are written into a cache, against MLX's own operators."""
import unittest

from tests.support.package import PackageTest

import mlx.core as mx

import mlx_kd

NAMES = ["qembedding", "qk_norm_rope_append"]
FORMATS = [dict(bits=bits, group_size=group, mode="affine") for bits in (2, 3, 4, 5, 6, 8) for group in (32, 64, 128)] + [
    dict(bits=4, group_size=32, mode="mxfp4"), dict(bits=8, group_size=32, mode="mxfp8"),
    dict(bits=4, group_size=16, mode="nvfp4")]


class WithKernels(PackageTest):
    def setUp(self):
        mx.random.seed(11)
        self.addCleanup(mlx_kd.reset_settings)

    def both(self):
        for kernels in ([], NAMES):
            mlx_kd.configure(default_kernels=kernels)
            yield bool(kernels)


class Embedding(WithKernels):
    def test_rows_are_those_of_dequantize_rounded_once(self):
        ids = mx.array([[3, 0, 6], [6, 1, 2]], mx.uint32)
        for dtype in (mx.float32, mx.float16, mx.bfloat16):
            for form in FORMATS:
                codes, scales, *biases = mx.quantize((0.05 * mx.random.normal((7, 384))).astype(dtype), **form)
                exact = mx.dequantize(codes, *(a.astype(mx.float32) if a.dtype != mx.uint8 else a for a in (scales, *biases)),
                                      **form, dtype=mx.float32)[ids]
                like = None if biases else mx.zeros((1,), dtype)
                for kernels in self.both():
                    y = mlx_kd.qembedding(ids, codes, scales, *(biases or [None]), like, bits=form["bits"])
                    self.assertEqual((y.shape, y.dtype), ((2, 3, 384), dtype))
                    if kernels:
                        off = mx.abs(y.astype(mx.float32) - exact.astype(dtype).astype(mx.float32))
                        unit = {mx.float32: 2e-6, mx.float16: 2e-3, mx.bfloat16: 1e-2}[dtype]
                        self.assertLessEqual((off / (mx.abs(exact) + 0.05)).max().item(), unit)

    def test_an_id_that_is_no_row_gives_nan(self):
        mlx_kd.configure(default_kernels=NAMES)
        codes, scales, biases = mx.quantize(mx.random.normal((3, 64)))
        y = mlx_kd.qembedding(mx.array([1, 3, 0xffffffff], mx.uint32), codes, scales, biases)
        self.assertEqual(mx.all(mx.isnan(y), -1).tolist(), [False, True, True])

    def test_what_is_no_format_is_refused(self):
        codes, scales, biases = mx.quantize(mx.random.normal((3, 64)))
        ids = mx.array([0], mx.uint32)
        with self.assertRaisesRegex(ValueError, r"\[qembedding\] scales has shape \(2, 1\)"):
            mlx_kd.qembedding(ids, codes, scales[:2], biases)
        with self.assertRaisesRegex(ValueError, r"its rows have no whole number of codes of 3 bits"):
            mlx_kd.qembedding(ids, codes, scales, biases, bits=3)
        with self.assertRaisesRegex(ValueError, r"like has shape \(2\): it must be \(1\), or left out"):
            mlx_kd.qembedding(ids, codes, scales, biases, mx.zeros((2,)))


class Append(WithKernels):
    def arrays(self, dtype, rows):
        def random(*shape):
            return mx.random.normal(shape).astype(dtype)
        return (random(2, 2, 9, 32), random(2, 2, 9, 24), random(2, rows, 4, 32).transpose(0, 2, 1, 3), random(2, 2, rows, 32),
                random(2, rows, 2, 24).transpose(0, 2, 1, 3))

    def expected(self, keys, values, q, k, v, offset, wq, wk):
        def turned(x, weight):
            x = x if weight is None else mx.fast.rms_norm(x.astype(mx.float32), weight.astype(mx.float32), 1e-5)
            return mx.fast.rope(x.astype(mx.float32), 32, traditional=False, base=10000.0, scale=1.0, offset=offset)
        keys, values = mx.array(keys), mx.array(values)
        keys[:, :, offset:offset + k.shape[2]] = turned(k, wk).astype(keys.dtype)
        values[:, :, offset:offset + k.shape[2]] = v
        return keys, values, turned(q, wq).astype(q.dtype)

    def test_keys_and_values_are_where_a_cache_has_them(self):
        for dtype, share in ((mx.float32, 2e-6), (mx.bfloat16, 1e-2)):
            weights = [mx.random.uniform(0.5, 1.5, (32,)).astype(dtype) for _ in range(2)]
            for rows, offset, (wq, wk) in ((1, 4, weights), (3, 6, (None, None)), (2, 0, (None, weights[0]))):
                arrays = self.arrays(dtype, rows)
                wanted = self.expected(*arrays, offset, wq, wk)
                for _ in self.both():
                    for place in (offset, mx.array([offset, offset], mx.int32)):
                        made = mlx_kd.qk_norm_rope_append(*arrays, place, wq, wk, eps=1e-5)
                        self.assertTrue(mx.array_equal(made[1], wanted[1]).item())
                        for got, right in ((made[0], wanted[0]), (made[2], wanted[2])):
                            off = mx.abs(got.astype(mx.float32) - right.astype(mx.float32)).max()
                            self.assertLess(off.item(), share * mx.abs(right.astype(mx.float32)).max().item())
                        there = mx.array([i for i in range(9) if not offset <= i < offset + rows])
                        self.assertTrue(mx.array_equal(made[0][:, :, there], arrays[0][:, :, there]).item())

    def test_rows_that_do_not_fit_are_not_written(self):
        arrays = self.arrays(mx.float32, 2)
        for _ in self.both():
            keys, values, q = mlx_kd.qk_norm_rope_append(*arrays, mx.array([8, 3], mx.int32))
            self.assertTrue(mx.array_equal(keys[0], arrays[0][0]).item() and mx.array_equal(values[0], arrays[1][0]).item())
            self.assertFalse(mx.array_equal(keys[1], arrays[0][1]).item() or mx.any(mx.isnan(q)).item())
        with self.assertRaisesRegex(ValueError, r"offset"):
            mlx_kd.qk_norm_rope_append(*arrays, 8)
        with self.assertRaisesRegex(ValueError, r"\[qk_norm_rope_append\] v has shape \(2, 2, 1, 24\)"):
            mlx_kd.qk_norm_rope_append(*arrays[:4], arrays[4][:, :, :1], 0)


if __name__ == "__main__":
    unittest.main()
