"""mlx_kd.xlstm: results, gradients, transformations, states and bad input."""
import itertools
import json
import unittest

from tests.support import mlstm_cases, package  # noqa: F401

import mlx.core as mx

import mlx_kd
from mlx_kd import xlstm
from mlx_kd.xlstm import metal_port, nxai

NAMES = ("q", "k", "v", "i", "f", "c0", "n0", "m0")


def arrays(s=40, qk=16, hv=32, b=1, nh=2, seed=0, kind=mx.float32):
    mx.random.seed(seed)
    q, k, v = (mx.random.normal((b, nh, s, width)).astype(kind) for width in (qk, qk, hv))
    return [q, k, v, mx.random.normal((b, nh, s)), mx.random.normal((b, nh, s)) + 2]


def state(qk=16, hv=32, b=1, nh=2):
    return [mx.random.normal((b, nh, qk, hv)), mx.random.normal((b, nh, qk)), mx.random.normal((b, nh))]


class Xlstm(unittest.TestCase):
    def assert_near(self, found, wanted, most=1e-5, what=""):
        self.assertEqual(found.shape, wanted.shape, what)
        if found.size == 0:
            return
        found, wanted = found.astype(mx.float32), wanted.astype(mx.float32)
        worst = (mx.abs(found - wanted).max() / mx.maximum(1, mx.abs(wanted).max())).item()
        self.assertLessEqual(worst, most, what)


class Forward(Xlstm):
    def test_equals_the_parallel_form_at_any_chunk(self):
        five, before = arrays(), state()
        for siging, normalize in ((False, True), (True, True), (True, False)):
            wanted, last = xlstm.mlstm_parallel(*five, state=before, return_last_states=True, siging=siging,
                                                normalize=normalize)
            for chunk in (None, 1, 7, 16, 33, 1000):
                h, found = xlstm.mlstm_chunkwise(*five, state=before, return_last_states=True, chunk_size=chunk,
                                                 siging=siging, normalize=normalize)
                self.assert_near(h, wanted, what=f"{siging} {normalize} {chunk}")
                for name, x, y in zip("Cnm", found, last):
                    self.assert_near(x, y, what=name)

    def test_steps_give_what_the_sequence_gives(self):
        five, before = arrays(s=9), state()
        for siging in (False, True):
            h, last = xlstm.mlstm_chunkwise(*five, state=before, return_last_states=True, siging=siging)
            now = tuple(before)
            for t in range(9):
                row, now = xlstm.mlstm_step(*(x[:, :, t] for x in five), now, siging=siging)
                self.assert_near(row, h[:, :, t])
            for x, y in zip(now, last):
                self.assert_near(x, y)

    def test_types_of_16_bits_are_near_float32(self):
        for kind, most in ((mx.bfloat16, 2e-2), (mx.float16, 2e-3)):
            five = arrays(kind=kind)
            h = xlstm.mlstm_chunkwise(*five)
            self.assertEqual(h.dtype, kind)
            self.assert_near(h, xlstm.mlstm_chunkwise(*(x.astype(mx.float32) for x in five)), most)

    def test_lengths_of_0_and_1(self):
        before = state()
        h, last = xlstm.mlstm_chunkwise(*arrays(s=0), state=before, return_last_states=True)
        self.assertEqual(h.shape, (1, 2, 0, 32))
        for x, y in zip(last, before):
            self.assertTrue(mx.array_equal(x, y))
        one = arrays(s=1)
        h, last = xlstm.mlstm_chunkwise(*one, state=before, return_last_states=True)
        row, stepped = xlstm.mlstm_step(*(x[:, :, 0] for x in one), before)
        self.assert_near(h[:, :, 0], row)
        for x, y in zip(last, stepped):
            self.assert_near(x, y)
        self.assertEqual(xlstm.mlstm_chunkwise(*arrays(b=0)).shape, (0, 2, 40, 32))

    def test_infinite_gates(self):
        five = arrays(s=6)
        self.assertTrue(mx.isfinite(xlstm.mlstm_chunkwise(*five)).all())
        inf = float("inf")

        def with_gates(i=None, f=None):
            third = mx.arange(6) == 3
            gates = [gate if value is None else mx.where(third, value, gate)
                     for gate, value in zip(five[3:], (i, f))]
            return xlstm.mlstm_chunkwise(*five[:3], *gates, return_last_states=True)

        nothing, _ = with_gates(-inf, -inf)
        self.assertEqual(mx.abs(nothing[:, :, 3]).max().item(), 0)
        ignored, _ = with_gates(-inf, None)
        self.assert_near(ignored[:, :, :3], xlstm.mlstm_chunkwise(*(x[:, :, :3] for x in five)))
        fresh, _ = with_gates(None, -inf)
        alone = xlstm.mlstm_chunkwise(*(x[:, :, 3:] for x in five), state=(None, None, mx.full((1, 2), -inf)))
        self.assert_near(fresh[:, :, 3:], alone)
        _, (c, _n, m) = with_gates(inf, None)
        self.assert_near(c, five[1][:, :, 3, :, None] * five[2][:, :, 3, None, :])
        self.assertTrue((m == inf).all())

    def test_nan_stays_in_its_head_and_behind_its_token(self):
        for port in range(5):
            five = arrays(s=20)
            five[port][0, 1, 10] = mx.nan
            is_nan = mx.isnan(xlstm.mlstm_chunkwise(*five))
            self.assertFalse(is_nan[0, 0].any() or is_nan[0, 1, :10].any(), port)
            self.assertTrue(is_nan[0, 1, 10].all(), port)

    def test_a_kernel_runs_without_a_pin(self):
        none = mx.zeros(0)
        why = mlx_kd.explain("mlstm_chunkwise", [*arrays(), none, none, none])["reason"]
        self.assertIn("the op's default setting runs, in cpp", why)
        mlx_kd.reset_stats()
        mx.eval(xlstm.mlstm_chunkwise(*arrays()))
        self.assertEqual((mlx_kd.stats()["calls"], mlx_kd.stats()["fallbacks"]), (1, 0))

    def test_other_layouts(self):
        q, k, v, i, f = arrays()
        wanted = xlstm.mlstm_chunkwise(q, k, v, i, f)
        turned = [mx.contiguous(x.swapaxes(1, 2)).swapaxes(1, 2) for x in (q, k, v, i, f)]
        self.assert_near(xlstm.mlstm_chunkwise(*turned), wanted, 0)
        self.assert_near(xlstm.mlstm_chunkwise(*(x[0] for x in (q, k, v, i, f))), wanted[0], 0)
        self.assert_near(xlstm.mlstm_chunkwise(q, k, v, mx.broadcast_to(i[:, :1], i.shape), f),
                         xlstm.mlstm_chunkwise(q, k, v, mx.contiguous(mx.broadcast_to(i[:, :1], i.shape)), f), 0)


class Gradient(Xlstm):
    def gradients(self, function, inputs, weights, **options):
        def loss(*given):
            h, last = function(*given[:5], state=given[5:] or None, return_last_states=True, **options)
            return sum((x * w).sum() for x, w in zip((h, *last), weights))
        return mx.grad(loss, argnums=list(range(len(inputs))))(*inputs)

    def test_is_that_of_the_parallel_form(self):
        weights = [mx.random.normal((1, 2, 40, 32)), *state()]
        for with_state, (siging, normalize), eps in itertools.product(
                (False, True), ((False, True), (True, True), (True, False)), (1e-6, 0.1)):
            inputs = arrays(seed=3) + (state() if with_state else [])
            options = {"siging": siging, "normalize": normalize, "eps": eps}
            wanted = self.gradients(xlstm.mlstm_parallel, inputs, weights, **options)
            for chunk in (16, 33):
                found = self.gradients(xlstm.mlstm_chunkwise, inputs, weights, chunk_size=chunk, **options)
                for name, x, y in zip(NAMES, found, wanted):
                    self.assert_near(x, y, 2e-5, f"{name} {options} {chunk}")

    def test_constant_normaliser_changes_q_and_not_v(self):
        inputs, weights = arrays(), [mx.random.normal((1, 2, 40, 32)), *state()]
        whole = self.gradients(xlstm.mlstm_chunkwise, inputs, weights)
        constant = self.gradients(xlstm.mlstm_chunkwise, inputs, weights, normalizer_grad=False)
        self.assert_near(constant[2], whole[2], 1e-6)
        self.assertGreater(mx.abs(constant[0] - whole[0]).max().item(), 1e-3)

    def test_of_a_step(self):
        inputs, weights = arrays(s=1) + state(), [mx.random.normal((1, 2, 32)), *state()]

        def loss(*given):
            h, last = xlstm.mlstm_step(*(x[:, :, 0] for x in given[:5]), given[5:])
            return sum((x * w).sum() for x, w in zip((h, *last), weights))
        found = mx.grad(loss, argnums=list(range(8)))(*inputs)
        wanted = self.gradients(xlstm.mlstm_parallel, inputs, [weights[0][:, :, None], *weights[1:]])
        for name, x, y in zip(NAMES, found, wanted):
            self.assert_near(x, y, 1e-5, name)

    def test_of_16_bits_and_of_gates_in_them(self):
        five = [x.astype(mx.bfloat16) for x in arrays()]
        grads = mx.grad(lambda *x: xlstm.mlstm_chunkwise(*x).astype(mx.float32).sum(), argnums=list(range(5)))(*five)
        wanted = mx.grad(lambda *x: xlstm.mlstm_chunkwise(*x).sum(), argnums=list(range(5)))(
            *(x.astype(mx.float32) for x in five))
        for name, x, y in zip(NAMES, grads, wanted):
            self.assertEqual(x.dtype, mx.bfloat16)
            self.assert_near(x, y, 2e-2, name)

    def test_second_one(self):
        five = arrays(s=5)

        def second(function):
            q, *rest = five
            first = mx.grad(lambda x: (function(x, *rest) ** 2).sum())
            return mx.grad(lambda x: (first(x) ** 2).sum())(q)
        self.assert_near(second(xlstm.mlstm_chunkwise), second(xlstm.mlstm_parallel), 1e-4)

    def test_vmap_of_results_and_gradients(self):
        five = [mx.stack([x, 2 * x]) for x in arrays(s=10)]
        found = mx.vmap(xlstm.mlstm_chunkwise)(*five)
        for at in range(2):
            self.assert_near(found[at], xlstm.mlstm_chunkwise(*(x[at] for x in five)), 0)
        q, k, v, i, f = five
        shared = mx.vmap(lambda q: xlstm.mlstm_chunkwise(q, k[0], v[0], i[0], f[0]), in_axes=2, out_axes=1)(
            mx.moveaxis(q, 0, 2))
        self.assert_near(shared[:, 1], xlstm.mlstm_chunkwise(q[1], k[0], v[0], i[0], f[0]), 0)
        of_q = mx.grad(lambda *x: xlstm.mlstm_chunkwise(*x).sum())
        grads = mx.vmap(of_q)(*five)
        for at in range(2):
            self.assert_near(grads[at], of_q(*(x[at] for x in five)), 0)
        whole = mx.grad(lambda *x: mx.vmap(xlstm.mlstm_chunkwise)(*x).sum())(*five)
        self.assert_near(whole, grads, 0)
        rows = mx.vmap(lambda *x: xlstm.mlstm_step(*x)[0])(*(x[..., 0, :] if x.ndim == 5 else x[..., 0] for x in five))
        self.assertEqual(rows.shape, (2, 1, 2, 32))

    def test_in_compiled_functions(self):
        five = arrays()
        loss = mx.compile(mx.value_and_grad(lambda *x: xlstm.mlstm_chunkwise(*x).sum()))
        value, grad = loss(*five)
        self.assert_near(grad, mx.grad(lambda *x: xlstm.mlstm_chunkwise(*x).sum())(*five), 0)
        self.assert_near(value, xlstm.mlstm_chunkwise(*five).sum())


class PublishedNames(Xlstm):
    def test_give_the_numbers_of_the_native_functions(self):
        with open(mlstm_cases.FILE, encoding="utf-8") as file:
            for case in json.load(file):
                *five, dh = mlstm_cases.inputs(mx, case["size"], case["seed"])
                results = self.native(case, five, dh)
                for name, wanted in case["numbers"].items():
                    found = mlstm_cases.sampled(results[name].reshape(-1).tolist())
                    self.assert_near(mx.array(found), mx.array(wanted), 1e-4, f"{case['kind']} {name} {case['size']}")

    def native(self, case, five, dh):
        if case["kind"] == "exp":
            return {"h": nxai.mlstm_chunkwise__xl_chunk(*five, chunk_size=case["chunk"])}
        if case["kind"].startswith("siging"):
            return {"h": nxai.mlstm_siging_chunkwise__xl_chunk(*five, normalize=case["kind"] == "siging",
                                                               chunk_size=case["chunk"])}
        if case["kind"] == "gradient":
            grads = mx.grad(lambda *x: (nxai.mlstm_chunkwise__native_autograd(*x) * dh).sum(),
                            argnums=list(range(5)))(*five)
            return {f"d{name}": x for name, x in zip("qkvif", grads)}
        h, (c, n, m) = nxai.mlstm_chunkwise__native_autograd(*five, return_last_states=True, chunk_size=case["chunk"])
        self.assertEqual(m.shape[-1], 1)
        return {"h": h, "c": c, "n": n, "m": m}

    def test_states_pass_from_call_to_call(self):
        five = arrays(s=50)
        whole, last = nxai.mlstm_recurrent_sequence__native_fw(*five, return_last_states=True)
        now, rows = (None, None, None), []
        for begin, end in ((0, 13), (13, 45), (45, 50)):
            h, now = nxai.mlstm_chunkwise__xl_chunk(*(x[:, :, begin:end] for x in five), *now, True)
            rows.append(h)
        self.assert_near(mx.concatenate(rows, 2), whole)
        for x, y in zip(now, last):
            self.assert_near(x, y)
        token = [x[:, :, 0] for x in five]
        h, stepped = nxai.mlstm_recurrent_step__native(*token[:3], token[3][..., None], token[4][..., None], *now)
        other, c, n, m = metal_port.mlstm_recurrent_step(*token, now[0], now[1], now[2].squeeze(-1))
        self.assertEqual((stepped[2].shape, m.shape), ((1, 2, 1), (1, 2)))
        self.assert_near(h, other, 0)
        self.assert_near(stepped[0], c, 0)

    def test_of_the_metal_port(self):
        five = arrays(s=70)
        h, (c, n, m) = metal_port.mlstm_chunkwise(*five, chunk_size=32)
        other, last = metal_port.mlstm_sequential(*five)
        self.assert_near(h, other)
        self.assertEqual(m.shape, (1, 2))
        for x, y in zip((c, n, m), last):
            self.assert_near(x, y)
        self.assertIsNone(metal_port.mlstm_chunkwise(*five, return_last_states=False)[1])
        with self.assertRaisesRegex(ValueError, r"\[mlstm\] chunk_size is 128: max_chunk_size allows 64"):
            metal_port.mlstm_chunkwise(*five, chunk_size=128)

    def test_are_found_by_name(self):
        self.assertIs(nxai.get_mlstm_kernel("chunkwise--triton_xl_chunk"), nxai.mlstm_chunkwise__xl_chunk)
        self.assertIs(nxai.get_mlstm_step_kernel("native"), nxai.mlstm_recurrent_step__native)
        self.assertIs(nxai.get_mlstm_sequence_kernel("native_sequence__native"),
                      nxai.mlstm_recurrent_sequence__native_fw)
        with self.assertRaisesRegex(ValueError, r"\[mlstm\] there is no kernel 'fast': choose chunkwise--native"):
            nxai.get_mlstm_kernel("fast")


class BadInput(Xlstm):
    def refuses(self, text, *given, error=ValueError, **options):
        with self.assertRaisesRegex(error, r"^\[mlstm\] " + text):
            xlstm.mlstm_chunkwise(*given, **options)

    def test_shapes_and_types(self):
        q, k, v, i, f = arrays()
        self.refuses(r"k has the shape \[1, 2, 40, 8\]: it must be \[1, 2, 40, 16\]", q, k[..., :8], v, i, f)
        self.refuses(r"v has the shape \[1, 2, 39, 32\]: it must be \[1, 2, 40, 32\]", q, k, v[:, :, 1:], i, f)
        self.refuses(r"f has the shape \[1, 2, 40, 1\]: it must be \[1, 2, 40\]", q, k, v, i, f[..., None])
        self.refuses(r"q has the shape \[40\]", q[0, 0, :, 0], k, v, i, f)
        self.refuses("q has .* DHQK and DHHV must be at least 1", q[..., :0], k[..., :0], v, i, f)
        self.refuses("q, k and v have the types", q, k.astype(mx.bfloat16), v, i, f)
        self.refuses("q, k and v have the types mlx.core.int32", *(x.astype(mx.int32) for x in (q, k, v)), i, f)
        self.refuses("i has the type mlx.core.int32", q, k, v, i.astype(mx.int32), f)

    def test_states(self):
        five, (c, n, m) = arrays(), state()
        self.refuses("C of the state has the type mlx.core.bfloat16: states are float32", *five,
                     state=(c.astype(mx.bfloat16), n, m))
        self.refuses(r"m of the state has the shape \[2\]: it must be \[1, 2\] or \[1, 2, 1\]", *five,
                     state=(c, n, m[0]))
        self.refuses("the state has 2 parts", *five, state=(c, n))
        last = xlstm.mlstm_chunkwise(*five, state=(c, n, m[..., None]), return_last_states=True)[1]
        self.assertEqual(last[2].shape, (1, 2, 1))

    def test_options(self):
        five = arrays(s=4)
        self.refuses("chunk_size is 0: give 1 to 1024", *five, chunk_size=0)
        self.refuses("chunk_size is 2000", *five, chunk_size=2000)
        self.refuses("chunk_size is 1.5", *five, chunk_size=1.5, error=TypeError)
        self.refuses("normalize is False and so is siging", *five, normalize=False)
        self.refuses("eps is 0", *five, eps=0)
        with self.assertRaisesRegex(ValueError, r"\[mlstm\] dtype_state is mlx.core.bfloat16"):
            nxai.mlstm_recurrent_sequence__native_fw(*five, dtype_state=mx.bfloat16)

    def test_heads_beyond_the_limit(self):
        with self.assertRaisesRegex(ValueError, "DHHV is 4097: mlstm_chunkwise takes heads of at most 4096"):
            mx.eval(xlstm.mlstm_chunkwise(*arrays(s=2, hv=4097)))


if __name__ == "__main__":
    unittest.main()
