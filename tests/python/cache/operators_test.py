"""The operators of quantised caches: MLX's form and the default kernels give the same, and refuse the same."""
import unittest

from tests.support.package import PackageTest
from tests.support import mlx_lm_models as models

import mlx.core as mx

import mlx_kd
import mlx_kd.cache as caches

NAMES = ["attention_paged", "attention_paged_quantized", "attention_quantized", "kv_append", "kv_append_quantized",
         "qk_norm_rope_append_paged", "qk_norm_rope_append_paged_quantized", "qk_norm_rope_append_quantized"]
CODES = [(8, 64), (8, 32), (4, 64), (4, 128)]


def coded(x, bits, group):
    return mx.quantize(x, group_size=group, bits=bits)


def plain(parts, bits, group):
    codes, scales, biases = parts
    return mx.dequantize(codes, scales.astype(mx.float32), biases.astype(mx.float32), group_size=group, bits=bits)


class Operators(PackageTest):
    def setUp(self):
        mx.random.seed(2)
        self.addCleanup(mlx_kd.reset_settings)

    def both(self):
        """MLX's forms, then the kernels."""
        for names in ([], NAMES):
            mlx_kd.configure(default_kernels=names)
            yield bool(names)

    def test_new_rows_are_those_of_mx_quantize_and_all_others_keep_their_bits(self):
        for kernels in self.both():
            for dtype in (mx.float32, mx.bfloat16, mx.float16):
                for bits, group in CODES:
                    keys, values = (mx.random.normal((2, 3, 7, 128)).astype(dtype) for _ in range(2))
                    there = [mx.random.randint(0, 9, (2, 3, 20, x.shape[3])).astype(x.dtype)
                             for k in (keys, values) for x in coded(k, bits, group)]
                    new = [x for k in (keys, values) for x in coded(k, bits, group)]
                    for offset in (0, 5, 13, mx.array([2, 9])):
                        got = mlx_kd.kv_append_quantized(*there, keys, values, offset, bits=bits, group_size=group)
                        at = offset.tolist() if isinstance(offset, mx.array) else [offset] * 2
                        for x, old, rows in zip(got, there, new):
                            for b, first in enumerate(at):
                                wanted = mx.concatenate([old[b, :, :first], rows[b], old[b, :, first + 7:]], axis=1)
                                self.assertTrue(mx.array_equal(x[b], wanted).item(), (kernels, dtype, bits, group))

    def test_attention_over_codes_is_attention_over_their_numbers(self):
        for kernels in self.both():
            for dtype, share in ((mx.float32, 1e-4), (mx.bfloat16, 0.02 if kernels else 0.1)):
                for bits, group in CODES:
                    q = mx.random.normal((2, 6, 3, 128)).astype(dtype)
                    k, v = (mx.random.normal((2, 2, 80, 128)).astype(dtype) for _ in range(2))
                    k, v = coded(k, bits, group), coded(v, bits, group)
                    cut = [[x[..., 7:, :] for x in parts] for parts in (k, v)]  # not row-major
                    for causal, mask in ((0, None), (1, None), (0, mx.random.uniform(shape=(2, 1, 3, 73)) > 0.3)):
                        got = mlx_kd.attention_quantized(q, *cut[0], *cut[1], mask, scale=0.09, causal=causal, bits=bits,
                                                         group_size=group)
                        wanted = mx.fast.scaled_dot_product_attention(
                            q.astype(mx.float32), *(plain(x, bits, group) for x in cut), scale=0.09,
                            mask="causal" if causal else mask)
                        error = mx.max(mx.abs(got.astype(mx.float32) - wanted)) / mx.max(mx.abs(wanted))
                        self.assertLess(error.item(), share, (kernels, dtype, bits, group))

    def test_keys_are_rotated_as_they_are_quantised(self):
        for kernels in self.both():
            for bits, group in CODES:
                q, k, v = (mx.random.normal((2, heads, 3, 128)) for heads in (6, 2, 2))
                there = [x for _ in range(2) for x in coded(mx.random.normal((2, 2, 20, 128)), bits, group)]
                wq, wk = mx.random.normal((128,)), mx.random.normal((128,))
                for at, row, weights in ((4, 4, (None, None)), (mx.array([90, 7]), 17, (wq, wk))):
                    *got, turned = mlx_kd.qk_norm_rope_append_quantized(*there, q, k, v, row, at, *weights, bits=bits,
                                                                        group_size=group)
                    wanted_q, wanted_k = mlx_kd.qk_norm_rope(q, k, at, *weights)
                    self.assertLess(mx.max(mx.abs(turned - wanted_q)).item(), 1e-4)
                    for part, x in enumerate((wanted_k, v)):
                        before = plain(there[3 * part:3 * part + 3], bits, group)
                        wanted = mx.slice_update(before, plain(coded(x, bits, group), bits, group), mx.array([row]), [2])
                        now = plain(got[3 * part:3 * part + 3], bits, group)
                        step = mx.max(mx.abs(got[3 * part + 1])).item()  # a rotation may change a code by one
                        self.assertLess(mx.max(mx.abs(now - wanted)).item(), 1.01 * step * (1 - part) + 1e-6, kernels)

    def test_attention_over_pages_is_attention_over_their_tokens(self):
        table = mx.array([[3, 0, 5], [1, 4, -1]], mx.int32)
        for kernels in self.both():
            for dtype, share in ((mx.float32, 1e-5), (mx.bfloat16, 0.02)):
                for rows in (1, 3):
                    q = mx.random.normal((2, 6, rows, 64)).astype(dtype)
                    pages = [mx.random.normal((6, 2, 4, 64)).astype(dtype) for _ in range(2)]
                    got = mlx_kd.attention_paged(q, *pages, table, mx.array([2, 0]), mx.array([11, 5]), scale=0.1)
                    for b, (blocks, begin, end) in enumerate(((([3, 0, 5]), 2, 11), ([1, 4], 0, 5))):
                        k, v = (x[mx.array(blocks)].swapaxes(0, 1).reshape(2, -1, 64)[:, begin:end].astype(mx.float32)
                                for x in pages)
                        wanted = mx.fast.scaled_dot_product_attention(q[b:b + 1].astype(mx.float32), k[None], v[None],
                                                                      scale=0.1, mask="causal")
                        error = mx.max(mx.abs(got[b:b + 1].astype(mx.float32) - wanted)) / mx.max(mx.abs(wanted))
                        self.assertLess(error.item(), share, (kernels, dtype, rows))
                none = mlx_kd.attention_paged(q, *pages, table, mx.array([4, 3]), mx.array([4, 3]), scale=0.1)
                self.assertEqual(mx.max(mx.abs(none[:, :, -1])).item(), 0)  # no key is seen

    def test_keys_are_rotated_into_their_slots(self):
        for kernels in self.both():
            pages = [mx.random.normal((3, 2, 4, 64)) for _ in range(2)]
            q, k, v = (mx.random.normal((2, heads, 2, 64)) for heads in (4, 2, 2))
            slots, at = mx.array([[11, 0], [5, -1]], mx.int32), mx.array([11, 90])
            keys, values, turned = mlx_kd.qk_norm_rope_append_paged(*pages, q, k, v, slots, at)
            wanted_q, wanted_k = mlx_kd.qk_norm_rope(q, k, at)
            self.assertLess(mx.max(mx.abs(turned - wanted_q)).item(), 1e-4)
            for now, before, new in ((keys, pages[0], wanted_k), (values, pages[1], v)):
                wanted = mx.array(before)
                wanted[2, :, 3], wanted[0, :, 0], wanted[1, :, 1] = new[0, :, 0], new[0, :, 1], new[1, :, 0]
                self.assertLess(mx.max(mx.abs(now - wanted)).item(), 1e-4, kernels)

    def test_attention_over_codes_in_pages_is_attention_over_their_numbers(self):
        table = mx.array([[3, 0, 5], [1, 4, -1]], mx.int32)
        for kernels in self.both():
            for dtype, share in ((mx.float32, 1e-4), (mx.bfloat16, 0.02 if kernels else 0.1)):
                for bits, group in CODES:
                    q = mx.random.normal((2, 6, 3, 128)).astype(dtype)
                    pages = [coded(mx.random.normal((6, 2, 20, 128)).astype(dtype), bits, group) for _ in range(2)]
                    got = mlx_kd.attention_paged_quantized(q, *pages[0], *pages[1], table, mx.array([2, 0]),
                                                           mx.array([55, 25]), scale=0.1, bits=bits, group_size=group)
                    for b, (blocks, begin, end) in enumerate(((([3, 0, 5]), 2, 55), ([1, 4], 0, 25))):
                        k, v = (plain(x, bits, group)[mx.array(blocks)].swapaxes(0, 1).reshape(2, -1, 128)[:, begin:end]
                                for x in pages)
                        wanted = mx.fast.scaled_dot_product_attention(q[b:b + 1].astype(mx.float32), k[None], v[None],
                                                                      scale=0.1, mask="causal")
                        error = mx.max(mx.abs(got[b:b + 1].astype(mx.float32) - wanted)) / mx.max(mx.abs(wanted))
                        self.assertLess(error.item(), share, (kernels, dtype, bits, group))
                    none = mlx_kd.attention_paged_quantized(q, *pages[0], *pages[1], table, mx.array([4, 3]),
                                                            mx.array([4, 3]), scale=0.1, bits=bits, group_size=group)
                    self.assertEqual(mx.max(mx.abs(none[:, :, -1])).item(), 0)  # no key is seen

    def test_keys_are_rotated_and_quantised_into_their_slots(self):
        for kernels in self.both():
            for bits, group in CODES:
                pages = [coded(mx.random.normal((3, 2, 4, 128)), bits, group) for _ in range(2)]
                q, k, v = (mx.random.normal((2, heads, 2, 128)) for heads in (4, 2, 2))
                slots, at = mx.array([[11, 0], [5, -1]], mx.int32), mx.array([11, 90])
                *got, turned = mlx_kd.qk_norm_rope_append_paged_quantized(*pages[0], *pages[1], q, k, v, slots, at,
                                                                          bits=bits, group_size=group)
                wanted_q, wanted_k = mlx_kd.qk_norm_rope(q, k, at)
                self.assertLess(mx.max(mx.abs(turned - wanted_q)).item(), 1e-4)
                for part, new in enumerate((wanted_k, v)):
                    wanted, rows = plain(pages[part], bits, group), plain(coded(new, bits, group), bits, group)
                    wanted[2, :, 3], wanted[0, :, 0], wanted[1, :, 1] = rows[0, :, 0], rows[0, :, 1], rows[1, :, 0]
                    now = plain(got[3 * part:3 * part + 3], bits, group)
                    step = mx.max(mx.abs(got[3 * part + 1])).item()  # a rotation may change a code by one
                    self.assertLess(mx.max(mx.abs(now - wanted)).item(), 1.01 * step * (1 - part) + 1e-6, kernels)

    def test_what_does_not_go_together_is_refused(self):
        x = mx.ones((1, 2, 4, 128))
        parts = coded(x, 8, 64)
        for call, pattern in (
                (lambda: mlx_kd.kv_append_quantized(*parts, *parts, x, x, 0, bits=5), "bits is 5"),
                (lambda: mlx_kd.kv_append_quantized(*parts, *parts, x, x, 0, group_size=16), "group_size is 16"),
                (lambda: mlx_kd.kv_append_quantized(*parts, *parts, x, x, 0, bits=4), "key_codes has shape"),
                (lambda: mlx_kd.kv_append_quantized(*parts, *parts, x, x, 1), "offset"),
                (lambda: mlx_kd.kv_append_quantized(*parts, *parts, x[..., :100], x, 0), "multiple of group_size"),
                (lambda: mlx_kd.qk_norm_rope_append_quantized(*parts, *parts, x, x, x, 1, 0), "row"),
                (lambda: mlx_kd.qk_norm_rope_append_quantized(*parts, *parts, x, x[:, :1], x, 0, 0), "v has shape"),
                (lambda: mlx_kd.qk_norm_rope_append_paged(x, x, x, x, x, mx.zeros((1, 3), mx.int32), 0), "slots has shape"),
                (lambda: mlx_kd.attention_paged(x[:, :1], x, x, mx.zeros((1, 1), mx.int32), *[mx.array([0])] * 2),
                 "divides the 1 of q"),
                (lambda: mlx_kd.qk_norm_rope_append_paged_quantized(*parts, *parts, x, x, x, mx.zeros((1, 3), mx.int32), 0),
                 "slots has shape"),
                (lambda: mlx_kd.qk_norm_rope_append_paged_quantized(*parts, *parts, x, x, x, mx.zeros((1, 4), mx.int32), 0,
                                                                    bits=4), "key_codes has shape"),
                (lambda: mlx_kd.attention_paged_quantized(x, *parts, *parts, mx.zeros((2, 1), mx.int32),
                                                          *[mx.array([0])] * 2), "table has shape"),
                (lambda: mlx_kd.attention_paged_quantized(x, *parts, *parts, mx.zeros((1, 1), mx.int32),
                                                          *[mx.array([0])] * 2, bits=4), "key_codes has shape"),
                (lambda: mlx_kd.attention_quantized(x[:, :1], *parts, *parts, scale=0.1), "divides the 1 of q"),
                (lambda: mlx_kd.attention_quantized(x, *parts, *parts, mx.ones((3, 3), mx.bool_), scale=0.1), "mask has shape"),
                (lambda: mlx_kd.attention_quantized(x[..., :64], *parts, *parts, scale=0.1), "key_codes has shape")):
            with self.assertRaisesRegex(ValueError, pattern):
                call()

    def test_caches_write_by_the_kernels_and_hold_the_same(self):
        model = models.make("llama", dtype=mx.float32, bits=16)
        for kind in ("contiguous", "rotating", "quantized", "quantized-rotating"):
            mlx_kd.configure(default_kernels=[])
            wanted = models.decode(model, cache=caches.make(model, kind, group_size=32, max_size=24))
            mlx_kd.configure(default_kernels=["kv_append", "kv_append_quantized"])
            mlx_kd.reset_stats()
            got = models.decode(model, cache=caches.make(model, kind, group_size=32, max_size=24))
            self.assertTrue(mx.array_equal(got, wanted).item(), kind)
            op = "kv_append_quantized" if kind.startswith("quantized") else "kv_append"
            self.assertTrue(any(one["op"] == op and one["calls"] for one in mlx_kd.stats()["by_default"]), kind)


if __name__ == "__main__":
    unittest.main()
