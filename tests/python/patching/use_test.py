"""What users do with a patched model: training, caches, batches, other weights, threads; and the kernels themselves."""
import contextlib
import copy
import io
import threading
import unittest
from unittest import mock

from tests.support.package import LONG, PackageTest

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten

import mlx_kd
from mlx_kd.patching import proof, samples
from tests.support import mlx_lm_models as models
from tests.support.patched import Patching


class AfterThePatch(Patching):
    def test_quantize_works_and_a_new_patch_uses_it(self):
        model = models.make("llama", bits=16)
        self.patch(model)
        nn.quantize(model, group_size=32, bits=8)
        after = models.decode(model)
        self.assert_runs(model, False)
        mlx_kd.unpatch(model)
        self.assertTrue(mx.array_equal(models.decode(model), after).item())
        self.patch(model)
        self.assert_runs(model)

    def test_a_layer_of_another_quantisation_is_not_put_into_a_call_with_others(self):
        model = models.make("llama")
        self.patch(model)
        for layer in model.model.layers:
            layer.self_attn.k_proj = nn.QuantizedLinear(128, 64, bias=False, group_size=32, bits=8)
            layer.self_attn.k_proj.set_dtype(mx.bfloat16)
        self.assert_runs(model, False)
        self.assertTrue(self.calls["qmatvec_gate_up"])

    def test_prompts_on_a_gpu_take_weights_made_of_codes(self):
        from mlx_kd.patching.calls.products import unpacked
        mx.random.seed(0)
        for bits, group, mode, bias in ((4, 64, "affine", True), (8, 32, "affine", False), (4, 32, "mxfp4", False)):
            dense = nn.Linear(256, 96, bias=bias)
            linear = nn.QuantizedLinear.from_linear(dense, group, bits, mode)
            x, residual = mx.random.normal((1, 20, 256)), mx.random.normal((1, 20, 96))
            norm = mx.random.normal((256,))
            wanted = residual + linear(mx.fast.rms_norm(x, norm, 1e-5))
            self.assert_near(unpacked(linear, x, residual, norm, 1e-5), wanted, 2e-5)
            self.assert_near(unpacked(linear, x, None, None, 1e-5), linear(x), 2e-5)

    def test_weights_are_loaded_and_saved_as_before(self):
        model, other = models.make("qwen3", seed=1), models.make("qwen3", seed=2)
        wanted = models.decode(other)
        self.patch(model, verify=False)
        file = str(self.folder() / "weights.safetensors")
        other.save_weights(file)
        model.load_weights(file)
        self.assertLess(mx.mean(mx.abs(models.decode(model) - wanted)).item(), 0.2)
        model.save_weights(file)
        saved = mx.load(file)
        self.assertTrue(all(mx.array_equal(saved[name], array).item()
                            for name, array in tree_flatten(other.parameters())))

    def test_lora_gives_the_gradients_of_the_model_without_a_patch(self):
        from mlx_lm.tuner.lora import LoRALinear
        tokens = mx.array([[3, 1, 4, 1, 5, 9, 2, 6]])

        def loss(model):
            return nn.losses.cross_entropy(model(tokens[:, :-1]), tokens[:, 1:]).mean()

        def gradients(patched):
            model = models.make("llama", dtype=mx.float32)
            if patched:
                self.patch(model)
            mx.random.seed(5)
            for layer in model.model.layers:
                for name in ("q_proj", "v_proj"):
                    adapter = LoRALinear.from_base(layer.self_attn[name], r=4)
                    adapter.lora_b = mx.random.normal(adapter.lora_b.shape) * 0.01
                    layer.self_attn[name] = adapter
            model.freeze()
            model.apply_to_modules(lambda _, m: m.unfreeze(keys=["lora_a", "lora_b"], recurse=False, strict=False))
            self.calls.clear()
            return dict(tree_flatten(nn.value_and_grad(model, loss)(model)[1])), sum(self.calls.values()), model

        ours, ran, model = gradients(True)
        theirs, none, _ = gradients(False)
        self.assertEqual(ours.keys(), theirs.keys())
        self.assertEqual(len(ours), 8)
        self.assertTrue(ran and not none)
        for name, gradient in theirs.items():
            scale = mx.max(mx.abs(gradient)).item()
            self.assertGreater(scale, 0)
            self.assert_near(ours[name], gradient, 1e-3 * scale)
        fused = model.model.layers[0].self_attn.q_proj.fuse()
        self.assertIs(type(fused), nn.QuantizedLinear)
        model.model.layers[0].self_attn.q_proj = fused
        models.decode(model)

    def test_copies_of_a_patched_model_run_alone(self):
        model = models.make("llama")
        self.patch(model)
        twin = copy.deepcopy(model)
        mlx_kd.unpatch(model)
        self.assert_runs(model, False)
        self.assert_runs(twin)

    def test_compiled_calls_contain_the_replacements(self):
        model = models.make("llama", dtype=mx.float32)
        x = mx.array([[1, 2, 3]])
        wanted = model(x)
        self.patch(model)
        self.calls.clear()
        self.assert_near(mx.compile(model)(x), wanted, 1e-3)
        self.assertTrue(self.calls["qmatvec_qkv"])


class Caches(Patching):
    def setUp(self):
        super().setUp()
        self.model = models.make("qwen3", dtype=mx.float32)
        self.cache = models.module("cache")

    def both(self, run):
        before = run()
        self.patch(self.model)
        self.calls.clear()
        after = run()
        self.assert_near(after, before, 1e-3)

    def test_a_prompt_cache_made_before_the_patch_is_continued(self):
        cache = self.cache.make_prompt_cache(self.model)
        models.decode(self.model, cache=cache)
        copies = [copy.deepcopy(cache) for _ in range(2)]
        wanted = self.model(mx.array([[8]]), cache=copies[0])
        self.patch(self.model)
        self.assert_near(self.model(mx.array([[8]]), cache=copies[1]), wanted, 1e-3)

    def test_batches_have_offsets_of_their_own_and_a_mask(self):
        def run():
            caches = [self.cache.BatchKVCache([2, 0]) for _ in self.model.layers]
            self.model(mx.array([[0, 0, 4], [1, 2, 3]]), cache=caches)
            return mx.concatenate([self.model(mx.array([[t], [t + 1]]), cache=caches)[:, -1] for t in (5, 6)])
        self.both(run)
        self.assertTrue(self.calls["qk_norm_rope"])

    def test_rotating_and_quantised_caches_and_several_tokens_a_step(self):
        def rotating():
            caches = [self.cache.RotatingKVCache(max_size=8, keep=2) for _ in self.model.layers]
            return models.decode(self.model, prompt=12, tokens=range(5), cache=caches)

        def quantised():
            caches = [self.cache.QuantizedKVCache(group_size=32, bits=8) for _ in self.model.layers]
            return models.decode(self.model, prompt=5, cache=caches)

        def several():
            caches = self.cache.make_prompt_cache(self.model)
            self.model(mx.array([list(range(20))]), cache=caches)
            return self.model(mx.array([[1, 2, 3, 4]]), cache=caches)[0]

        for run in (rotating, quantised, several):
            self.both(run)
            mlx_kd.unpatch(self.model)

    def test_batch_generator_gives_the_same_tokens(self):
        generate = models.importlib.import_module("mlx_lm.generate")

        def tokens():
            generator = generate.BatchGenerator(self.model, max_tokens=5)
            generator.insert([[1, 2, 3], [4, 5], list(range(30))])
            found = {}
            while responses := generator.next_generated():
                for one in responses:
                    found.setdefault(one.uid, []).append(one.token)
            generator.close()
            return found

        before = tokens()
        self.patch(self.model)
        self.calls.clear()
        self.assertEqual(tokens(), before)
        self.assertEqual(len(before), 3)
        self.assertTrue(self.calls["qmatvec_qkv"])


class Threads(Patching):
    def test_patching_while_another_thread_generates_is_safe(self):
        model = models.make("llama", dtype=mx.float32)
        wanted, wrong, stop = models.decode(model), [], threading.Event()

        def generate():
            with mx.stream(mx.new_stream(mx.cpu)):
                while not stop.is_set():
                    try:
                        if mx.max(mx.abs(models.decode(model) - wanted)).item() > 1e-3:
                            wrong.append("another result")
                    except Exception as error:
                        wrong.append(error)

        mx.eval(wanted)
        thread = threading.Thread(target=generate)
        thread.start()
        for _ in range(10):
            self.patch(model, verify=False)
            mlx_kd.unpatch(model)
        self.patch(model)
        stop.set()
        thread.join()
        self.assertEqual(wrong, [])


class Kernels(PackageTest):
    """Without stand-ins: the default kernels of this build, on this machine."""

    def check(self, ops, **options):
        model = models.make("llama", hidden_size=512, intermediate_size=1024, head_dim=64, num_attention_heads=8)
        before = models.decode(model)
        judge = models.decode(samples.clone(model, samples.to_float32))
        self.addCleanup(mlx_kd.unpatch, model)
        with contextlib.redirect_stderr(io.StringIO()):
            report = mlx_kd.patch(model, ops=ops, **options)
        after = models.decode(model)
        self.assertLess(mx.mean(mx.square(after - judge)).item(), 2 * mx.mean(mx.square(before - judge)).item())
        return report

    def test_a_product_is_right_and_hit(self):
        if "qmatvec" not in mlx_kd.op_names():
            self.skipTest("this build has no qmatvec")
        with mock.patch.object(proof, "speed_up", lambda *_: 2.0):
            report = self.check(["qmatvec"])
        self.assertGreater(report.hits()["qmatvec"]["default"], 4 * 14)
        self.assertIn("qmatvec", [one.runs for one in report.replaced])

    @unittest.skipUnless(LONG, "compiles a kernel per operator (MLX_KD_LONG=1)")
    def test_all_operators_of_this_build_are_right_and_hit(self):
        report = self.check(None, verify=False)
        words = {word for one in report.replaced if one.kind == "block" for word in one.runs.replace(";", "").split()}
        expected = {word.rstrip(",") for word in words} & set(mlx_kd.op_names())
        self.assertTrue(expected)
        self.assertLessEqual(expected, set(report.hits()))


if __name__ == "__main__":
    unittest.main()
