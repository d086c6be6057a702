"""The operators of mixtures of experts: kernels and MLX's form give what models of mlx-lm compute."""
import unittest

from tests.support.package import LONG, PackageTest

import mlx.core as mx

import mlx_kd

PRODUCTS = ["gather_gemm", "gather_matvec", "gather_qgemm", "gather_qmatvec"]  # of one matrix
NAMES = ["expert_combine", "router", *PRODUCTS, *(name + "_gate_up" for name in PRODUCTS)]
ALL_TYPES = (mx.float32, mx.float16, mx.bfloat16)
TYPES = ALL_TYPES if LONG else (mx.bfloat16,)  # each compiles kernels of its own
FORMATS = [dict(bits=bits, group_size=64, mode="affine") for bits in (2, 3, 4, 5, 6, 8)] + [
    dict(bits=4, group_size=32, mode="mxfp4"), dict(bits=8, group_size=32, mode="mxfp8"),
    dict(bits=4, group_size=16, mode="nvfp4")]


def quantized(experts, rows, columns, dtype, form):
    w = (0.05 * mx.random.normal((experts, rows, columns))).astype(dtype)
    codes, scales, *biases = mx.quantize(w, **form)
    return codes, scales, biases[0] if biases else None


def dense(arrays, form):
    codes, scales, biases = arrays
    if biases is None:
        return mx.dequantize(codes, scales, None, **form).astype(mx.float32)
    return mx.dequantize(codes, scales.astype(mx.float32), biases.astype(mx.float32), **form)


class Experts(PackageTest):
    def setUp(self):
        mx.random.seed(7)
        self.addCleanup(mlx_kd.reset_settings)

    def by_kernels(self):
        mlx_kd.configure(default_kernels=NAMES)

    def assert_near(self, got, wanted, share):
        wanted = wanted.astype(mx.float32)
        error = mx.max(mx.abs(got.astype(mx.float32) - wanted)) / mx.max(mx.abs(wanted))
        self.assertLess(error.item(), share)

    def test_products_are_those_of_gather_qmm_in_all_formats(self):
        ids = mx.array([[3, 0], [1, 1], [4, 2]], mx.uint32)
        for kernels in (False, True):
            mlx_kd.configure(default_kernels=NAMES if kernels else [])
            for form in FORMATS:
                for dtype, share in ((mx.float32, 1e-5), (mx.bfloat16, 0.05)):
                    w = quantized(5, 37, 192, dtype, form)
                    bias = mx.random.normal((5, 37)).astype(dtype)
                    for rows in (1, 2):
                        x = mx.random.normal((3, rows, 192)).astype(dtype)
                        wanted = (x.astype(mx.float32)[..., None, :] * dense(w, form)[ids]).sum(-1)
                        for product in (mlx_kd.gather_qmatvec, *([mlx_kd.gather_qgemm] if dtype in TYPES else [])):
                            self.assert_near(product(x, ids, *w), wanted, share)
                            self.assert_near(product(x, ids, *w, bias), wanted + bias[ids], share)

    def test_products_with_weights_that_are_not_quantised_are_those_of_gather_mm(self):
        ids = mx.array([[[3, 0], [1, 1], [4, 2]]], mx.uint32)
        for kernels in (False, True):
            mlx_kd.configure(default_kernels=NAMES if kernels else [])
            for dtype in TYPES:
                share = {mx.float32: 1e-5, mx.float16: 2e-3, mx.bfloat16: 0.02}[dtype]
                w, bias = ((0.05 * mx.random.normal(shape)).astype(dtype) for shape in ((5, 37, 75), (5, 37)))
                for rows in (1, 2):
                    x = mx.random.normal((1, 3, rows, 75)).astype(dtype)
                    wanted = (x.astype(mx.float32)[..., None, :] * w.astype(mx.float32)[ids]).sum(-1)
                    for product in (mlx_kd.gather_matvec, mlx_kd.gather_gemm):
                        self.assert_near(product(x, ids, w), wanted, share)
                        self.assert_near(product(x, ids, w, bias), wanted + bias[ids], share)
                    g = wanted * mx.sigmoid(wanted) * wanted
                    for product in (mlx_kd.gather_matvec_gate_up, mlx_kd.gather_gemm_gate_up):
                        self.assert_near(product(x, ids, w, w), g, 3 * share)

    def test_errors_of_dense_experts_are_those_of_mlx_with_its_rows_in_float32(self):
        def rms_errors(name, arrays, wanted):
            for kernels in (True, False):
                mlx_kd.configure(default_kernels=[name] if kernels else [])
                error = getattr(mlx_kd, name)(*arrays).astype(mx.float32) - wanted
                yield mx.sqrt(mx.mean(mx.square(error))).item()

        for dtype in TYPES:
            x, ids = mx.random.normal((8, 1, 192)).astype(dtype), mx.random.randint(0, 5, (8, 2)).astype(mx.uint32)
            w, u = ((mx.random.normal((5, 75, 192)) / 14).astype(dtype) for _ in range(2))
            y, up = ((x.astype(mx.float32)[..., None, :] * v.astype(mx.float32)[ids]).sum(-1) for v in (w, u))
            for name, arrays, wanted in (("gather_matvec", (x, ids, w), y), ("gather_gemm", (x, ids, w), y),
                                         ("gather_matvec_gate_up", (x, ids, w, u), y * mx.sigmoid(y) * up),
                                         ("gather_gemm_gate_up", (x, ids, w, u), y * mx.sigmoid(y) * up)):
                ours, mlx = rms_errors(name, arrays, wanted)
                self.assertLessEqual(ours, 1.25 * mlx + 1e-6, (name, dtype))
                self.assertGreater(mlx, 0)

    def test_a_prompt_is_what_its_tokens_are_one_by_one(self):
        self.by_kernels()
        for dtype in TYPES:
            ids = mx.random.randint(0, 7, (301, 2)).astype(mx.uint32)  # one expert has none
            ids = mx.where(ids == 3, 5, ids)
            w = quantized(7, 70, 192, dtype, FORMATS[2])
            for rows in (1, 2):
                x = mx.random.normal((301, rows, 192)).astype(dtype)
                for many, few, arrays in ((mlx_kd.gather_qgemm, mlx_kd.gather_qmatvec, w),
                                          (mlx_kd.gather_qgemm_gate_up, mlx_kd.gather_qmatvec_gate_up, w + w)):
                    one = mx.concatenate([few(x[i:i + 16], ids[i:i + 16], *arrays) for i in range(0, 301, 16)])
                    self.assert_near(many(x, ids, *arrays), one.astype(mx.float32),
                                     {mx.float32: 1e-6, mx.float16: 2e-3, mx.bfloat16: 0.02}[dtype])

    def test_gates_are_silu_gelu_and_that_of_gpt_oss(self):
        ids, form = mx.array([[2, 0, 3]], mx.uint32), FORMATS[2]
        gate, up = (quantized(4, 40, 128, mx.float32, form) for _ in range(2))
        b_gate, b_up = mx.random.normal((4, 40)), 8 * mx.random.normal((4, 40))
        x = 4 * mx.random.normal((1, 1, 128))
        g, u = ((x[..., None, :] * dense(w, form)[ids]).sum(-1) + b[ids] for w, b in ((gate, b_gate), (up, b_up)))
        oss = mx.minimum(g, 7)
        wanted = [g * mx.sigmoid(g) * u, mx.array(0), oss * mx.sigmoid(1.702 * oss) * (mx.clip(u, -7, 7) + 1)]
        wanted[1] = 0.5 * g * (1 + mx.tanh(0.7978845608 * (g + 0.044715 * g ** 3))) * u
        for kernels in (False, True):
            mlx_kd.configure(default_kernels=NAMES if kernels else [])
            for activation, result in enumerate(wanted):
                for product in (mlx_kd.gather_qmatvec_gate_up, mlx_kd.gather_qgemm_gate_up):
                    self.assert_near(product(x, ids, *gate, *up, b_gate, b_up, activation=activation), result, 1e-4)

    def test_an_id_that_is_no_expert_gives_nan_and_reads_nothing(self):
        self.by_kernels()
        form = FORMATS[2]
        for dtype in (mx.float32, mx.float16, mx.bfloat16):
            w = quantized(3, 33, 64, dtype, form)
            x = mx.random.normal((1, 1, 64)).astype(dtype)
            ids = mx.array([[1, 3, 2, 0xffffffff]], mx.uint32)
            products, gated = [mlx_kd.gather_qmatvec], [mlx_kd.gather_qmatvec_gate_up]
            if dtype in TYPES:
                products.append(mlx_kd.gather_qgemm)
                gated.append(mlx_kd.gather_qgemm_gate_up)
            for y in [product(x, ids, *w) for product in products] + [product(x, ids, *w, *w) for product in gated]:
                missing = mx.all(mx.isnan(y), -1)
                self.assertEqual(missing.tolist(), [[False, True, False, True]])
                self.assertFalse(mx.any(mx.isnan(y[:, ::2])).item())

    def test_shapes_that_do_not_go_together_are_refused(self):
        w = quantized(3, 33, 64, mx.float32, FORMATS[2])
        x, ids = mx.zeros((2, 1, 64)), mx.zeros((2, 2), mx.uint32)
        with self.assertRaisesRegex(ValueError, r"\[gather_qmatvec\] x has shape \(64\): it must be \(..., 1, K\)"):
            mlx_kd.gather_qmatvec(x[0, 0], ids, *w)
        with self.assertRaisesRegex(ValueError, r"ids has shape \(1, 2\): it must be \(..., A\)"):
            mlx_kd.gather_qmatvec(x, ids[:1], *w)
        with self.assertRaisesRegex(ValueError, r"its axis before the last must be 1 or that of ids, 2"):
            mlx_kd.gather_qmatvec(mx.zeros((2, 3, 64)), ids, *w)
        with self.assertRaisesRegex(ValueError, r"w has shape \(33, 8\): it must be \(E, N, K bits / 32\)"):
            mlx_kd.gather_qmatvec(x, ids, *(one[0] for one in w))
        with self.assertRaisesRegex(ValueError, r"w has shape \(3, 33, 8\): it must be \(E, N, 64\), as x says"):
            mlx_kd.gather_gemm(x, ids, w[0].astype(mx.float32))
        with self.assertRaisesRegex(ValueError, r"w_up has shape \(2, 5, 64\): it must be \(3, 5, 64\), as w_gate is"):
            mlx_kd.gather_matvec_gate_up(x, ids, mx.zeros((3, 5, 64)), mx.zeros((2, 5, 64)))

    def test_the_best_experts_come_first_and_equal_ones_by_index(self):
        logits = mx.array([[0.5, 2.0, -1.0, 2.0, 0.5], [1.0, 1.0, 1.0, 1.0, 1.0]])
        for kernels in (False, True):
            mlx_kd.configure(default_kernels=NAMES if kernels else [])
            ids, weights = mlx_kd.router(logits, top=3, normalise=1)
            self.assertEqual(ids.tolist(), [[1, 3, 0], [0, 1, 2]])
            chosen = mx.softmax(mx.take_along_axis(logits, ids, -1), -1)
            self.assert_near(weights, chosen, 1e-6)
            self.assert_near(mlx_kd.router(logits, top=3, scoring=2)[1], chosen, 1e-6)
            self.assert_near(mlx_kd.router(logits, top=3, scale=2.0)[1],
                             2 * mx.take_along_axis(mx.softmax(logits, -1), ids, -1), 1e-6)

    def test_groups_and_corrections_are_those_of_deepseek(self):
        logits, correction = mx.random.normal((6, 64)).astype(mx.bfloat16), 0.3 * mx.random.normal((64,))
        scores = mx.sigmoid(logits.astype(mx.float32))
        parts = (scores + correction).reshape(6, 8, 8)
        worst = mx.argsort(mx.topk(parts, 2, axis=-1).sum(-1, keepdims=True), -2)[:, :4]
        choice = mx.put_along_axis(parts, worst, mx.array(0.0), -2).reshape(6, 64)
        wanted = mx.argsort(-choice, -1)[:, :6]
        weights = mx.take_along_axis(scores, wanted, -1)
        weights = 2.5 * weights / weights.sum(-1, keepdims=True)
        for kernels in (False, True):
            mlx_kd.configure(default_kernels=NAMES if kernels else [])
            ids, got = mlx_kd.router(logits, correction, 2.5, top=6, scoring=1, normalise=1, groups=8, top_groups=4,
                                     group_best=2)
            self.assertEqual((ids.tolist(), got.dtype), (wanted.tolist(), mx.float32))
            self.assert_near(got, weights, 1e-6)

    def test_products_of_a_sum_are_rounded_as_mlx_rounds_them(self):
        self.by_kernels()
        x = mx.random.normal((2, 4, 75)).astype(mx.bfloat16)
        for wide, dtype in enumerate((mx.bfloat16, mx.float32)):
            weights = mx.random.uniform(shape=(2, 4)).astype(dtype)
            products = (x * weights[..., None]).astype(mx.float32)
            total = products[:, 0]
            for k in range(1, 4):
                total = total + products[:, k]
            self.assertTrue(mx.array_equal(mlx_kd.expert_combine(x, weights, wide=wide), total.astype(mx.bfloat16)).item())


if __name__ == "__main__":
    unittest.main()
