"""mlx_kd.patch: what it changes and what it leaves, errors, and what users do with a model after it."""
import contextlib
import copy
import io
import json
import threading
import unittest
from unittest import mock

from tests.support.package import PackageTest, python

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten

import mlx_kd
from mlx_kd.patching import proof
from tests.support import mlx_lm_models as models
from tests.support.stand_ins import ALL, stand_ins

NAMES = [function.__name__ for function in ALL]


def quiet(function, *arguments, **options):
    with contextlib.redirect_stderr(io.StringIO()):
        return function(*arguments, **options)


class Patching(PackageTest):
    def setUp(self):
        context = contextlib.ExitStack()
        self.addCleanup(context.close)
        self.calls = context.enter_context(stand_ins())
        context.enter_context(mock.patch.object(proof, "speed_up", lambda *_: 2.0))
        self.addCleanup(mlx_kd.reset_settings)

    def patch(self, model, **options):
        self.addCleanup(mlx_kd.unpatch, model)
        return quiet(mlx_kd.patch, model, **{"ops": NAMES, **options})

    def reason(self, report, path):
        return next((one.why for one in report.left if one.path == path), None)

    def assert_near(self, one, other, tolerance=1e-4):
        self.assertLess(mx.max(mx.abs(one - other)).item(), tolerance)

    def assert_runs(self, model, expected=True):
        """Whether a decode step runs the fused operators."""
        self.calls.clear()
        models.decode(model)
        self.assertEqual(self.calls["qmatvec_qkv"] + self.calls["matvec_qkv"] > 0, expected, self.calls)


class WhatChanges(Patching):
    def test_only_the_code_of_the_model_changes_and_comes_back(self):
        model = models.make("llama")
        names, text, files = [type(m) for m in model.modules()], repr(model), dict(tree_flatten(model.parameters()))
        before = models.decode(model)
        self.patch(model)
        self.assertEqual([cls.__name__ for cls in names], [type(m).__name__ for m in model.modules()])
        self.assertEqual(repr(model), text)
        self.assertIsInstance(model.model.layers[0].mlp.up_proj, nn.QuantizedLinear)
        now = dict(tree_flatten(model.parameters()))
        self.assertEqual(list(now), list(files))
        self.assertTrue(all(now[name] is files[name] for name in files))
        mlx_kd.unpatch(model)
        self.assertEqual([type(m) for m in model.modules()], names)
        self.assertTrue(mx.array_equal(models.decode(model), before).item())
        mlx_kd.unpatch(model)  # again: nothing

    def test_context_manager_gives_the_report_and_takes_the_patch_back(self):
        model = models.make("llama")
        with quiet(mlx_kd.patched(model, ops=NAMES).__enter__) and contextlib.nullcontext():
            self.assert_runs(model)
        mlx_kd.unpatch(model)
        stderr = io.StringIO()
        with contextlib.redirect_stderr(stderr), mlx_kd.patched(model, ops=NAMES) as report:
            self.assertGreater(len(report.replaced), 20)
        self.assert_runs(model, False)
        self.assertIn("2 x TransformerBlock (block): norm in qmatvec_qkv", stderr.getvalue())

    def test_two_models_of_one_class_do_not_disturb_each_other(self):
        one, other = models.make("llama", seed=1), models.make("llama", seed=2)
        before = models.decode(other)
        self.patch(one)
        self.calls.clear()
        self.assertTrue(mx.array_equal(models.decode(other), before).item())
        self.assertFalse(self.calls)
        self.assert_runs(one)

    def test_random_state_of_the_program_stays(self):
        model = models.make("llama")
        mx.random.seed(3)
        wanted = mx.random.uniform(shape=(4,))
        mx.random.seed(3)
        self.patch(model)
        self.assertTrue(mx.array_equal(mx.random.uniform(shape=(4,)), wanted).item())

    def test_settings_come_back_with_the_last_patched_model(self):
        before = mlx_kd.settings()
        one, other = models.make("llama"), models.make("llama")
        for model in (one, other):
            self.patch(model, ops=["rmsnorm"])
        self.assertIn("rmsnorm", mlx_kd.settings()["default_kernels"])
        mlx_kd.unpatch(one)
        self.assertIn("rmsnorm", mlx_kd.settings()["default_kernels"])
        mlx_kd.unpatch(other)
        self.assertEqual(mlx_kd.settings(), before)

    def test_only_named_operators_are_used(self):
        model = models.make("llama")
        report = self.patch(model, ops=["qmatvec"])
        self.assertEqual({one.runs for one in report.replaced}, {"qmatvec", "qmatvec + residual"})
        self.assertIn("lacks", self.reason(report, "model.layers.0.mlp"))

    def test_hits_are_counted_from_the_patch_on(self):
        model = models.make("llama")
        report = self.patch(model, ops=["rmsnorm"], verify=False)
        self.assertEqual(report.hits(), {})
        models.decode(model, tokens=(1, 2))
        self.assertEqual(sum(report.hits()["rmsnorm"].values()), 5 * 3)


class WhatIsRight(Patching):
    def test_a_replacement_that_is_wrong_is_not_made(self):
        from mlx_kd import _operators
        right = _operators.qmatvec_gate_up
        with mock.patch.object(_operators, "qmatvec_gate_up", lambda *a, **n: right(*a, **n) * 1.05):
            model = models.make("llama")
            report = self.patch(model)
        self.assertRegex(self.reason(report, "model.layers.0.mlp"), "its error is .* and .* is allowed")
        self.assertRegex(self.reason(report, "model.layers.1"), "its error is")
        self.assertIsNone(self.reason(report, "model.layers.0.self_attn"))

    def test_a_replacement_that_is_not_faster_is_not_made(self):
        model = models.make("llama")
        with mock.patch.object(proof, "speed_up", lambda *_: 0.97):
            report = self.patch(model)
        self.assertEqual(report.replaced, [])
        self.assertEqual(self.reason(report, "model.layers.0"), "it is not faster here: 0.97 times MLX's speed")

    def test_nan_in_one_layer_leaves_that_layer_alone(self):
        for layer in (0, 1):
            model = models.make("llama")
            down = model.model.layers[layer].mlp.down_proj
            down.scales = mx.full(down.scales.shape, float("nan"), down.scales.dtype)
            report = self.patch(model)
            for path in ("", ".mlp", ".mlp.down_proj"):
                self.assertIn("NaN", self.reason(report, f"model.layers.{layer}{path}"))
                self.assertIsNone(self.reason(report, f"model.layers.{1 - layer}{path}"))
            mlx_kd.unpatch(model)

    def test_a_replacement_that_gives_nan_is_not_made(self):
        from mlx_kd import _operators
        with mock.patch.object(_operators, "qmatvec", lambda x, w, *a, **n: mx.full((*x.shape[:-1], w.shape[0]),
                                                                                   float("nan"), x.dtype)):
            report = self.patch(models.make("llama"), ops=["qmatvec"])
        self.assertIn("its result has NaN or infinity", self.reason(report, "model.layers.0.mlp.up_proj"))

    def test_silu_and_gelu_are_told_apart_by_the_names_in_the_code(self):
        model = models.make("gemma3_text")
        report = self.patch(model)
        self.assertIn("qmatvec_gate_up, qmatvec", [one.runs for one in report.replaced if one.kind == "feed-forward"])
        mlx_kd.unpatch(model)
        with stand_ins(but=["qmatvec_gate_up"]):
            report = self.patch(model)
        self.assertIn("lacks qmatvec_gate_up", self.reason(report, "model.layers.0.mlp"))


class Net(nn.Module):
    """Layers that a replacement must not be fooled by."""

    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.gate_proj, self.up_proj, self.down_proj = (nn.Linear(64, 64, bias=False) for _ in range(3))

        def __call__(self, x):
            return self.down_proj(mx.tanh(self.gate_proj(x)) * self.up_proj(x))

    class Clipped(Odd):
        def __call__(self, x):
            return self.down_proj(mx.clip(nn.silu(self.gate_proj(x)), -1, 1) * self.up_proj(x))

    class Swapped(Odd):
        def __call__(self, x):
            return self.down_proj(nn.silu(self.up_proj(x)) * self.gate_proj(x))

    def __init__(self, layer):
        super().__init__()
        self.layer = layer()

    def __call__(self, x):
        return self.layer(x)


class Structure(Patching):
    def left(self, layer):
        return self.reason(self.patch(Net(layer)), "layer")

    def test_layers_of_unknown_structure_are_left_and_the_reason_is_given(self):
        self.assertIn("neither silu nor gelu_approx", self.left(Net.Odd))
        self.assertEqual(self.left(Net.Clipped), "its code names clip, mx")
        self.assertRegex(self.left(Net.Swapped), "its error is")

    def test_sharded_layers_are_left(self):
        from mlx.nn.layers.distributed import shard_linear
        model = models.make("llama")
        attention = model.model.layers[0].self_attn
        attention.q_proj = shard_linear(attention.q_proj, "all-to-sharded", group=mx.distributed.init())
        report = self.patch(model)
        self.assertIn("it is sharded (QuantizedAllToShardedLinear)", self.reason(report, "model.layers.0.self_attn.q_proj"))
        self.assertIn("q_proj: it is sharded", self.reason(report, "model.layers.0.self_attn"))
        self.assertIsNone(self.reason(report, "model.layers.1.self_attn"))


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


class Misuse(Patching):
    def refused(self, pattern, *arguments, **options):
        before = mlx_kd.settings()
        with self.assertRaisesRegex(ValueError, pattern):
            quiet(mlx_kd.patch, *arguments, **options)
        self.assertEqual(mlx_kd.settings(), before)

    def test_a_model_that_is_patched_already(self):
        model = models.make("llama")
        self.patch(model)
        self.refused(r"patched already: call mlx_kd.unpatch\(model\) first", model)

    def test_what_is_not_a_model(self):
        self.refused("the model is a tuple, not an mlx.nn.Module", (models.make("llama"), None))

    def test_a_model_on_another_device(self):
        with mock.patch.object(mx, "default_device", lambda: mx.Device(mx.gpu)):
            self.refused(r"the default device is .*gpu.*mx.set_default_device\(mx.cpu\)", models.make("llama"))

    def test_operators_that_no_replacement_calls(self):
        self.refused("ops names 'no_such_op', which no replacement calls", models.make("llama"), ops=["no_such_op"])

    def test_a_pack_that_is_missing(self):
        self.refused("/no/such/pack.json", models.make("llama"), "/no/such/pack.json")

    def test_a_pack_of_another_machine_is_not_matched_and_that_is_reported(self):
        entry = {"key": {"op_name": "rmsnorm", "mlx_version": mx.__version__, "device_arch": "arm64",
                         "device_name": "Another CPU", "dtype": "bfloat16",
                         "shape_signature": {"rows": 1, "D": 128}},
                 "language": "cpp", "func_name": "mlx_kd_rmsnorm", "source": "int x;", "protocol": "test",
                 "inputs_spec": [{"name": "inp"}, {"name": "weight"}], "outputs_spec": [{"name": "out"}],
                 "launch_params": {"launch_kind": "cpu_rows", "THREADS": 1, "GRAIN": 1}, "target": {"cores": 1}}
        pack = self.folder() / "pack.json"
        pack.write_text(json.dumps({"schema_version": "3", "runtime": {}, "entries": [entry]}))
        report = self.patch(models.make("llama"), pack=pack)
        self.assertIn("0 pins of pack.json", report.pins)
        self.assertRegex(report.pins, "none of its 1 entries matches this machine and MLX: .*Another CPU")

    def test_without_a_compiler_modules_are_left_and_the_reason_is_given(self):
        code = ("import mlx.core as mx, mlx.nn as nn, mlx_kd\n"
                "net = nn.Sequential(nn.RMSNorm(48))\nmx.eval(net.parameters())\n"
                "report = mlx_kd.patch(net, ops=['rmsnorm'])\nprint(len(report.replaced), report.left[0].why)\n"
                "print(net(mx.ones((1, 1, 48))).sum().item())")
        printed = self.assert_succeeds(python(code, PATH="/nowhere", CXX="", MLX_KD_CACHE_DIR=self.folder()))
        first, value = printed.splitlines()
        self.assertRegex(first, "^0 no kernel runs rmsnorm: .*its kernel cannot be used: .*no C\\+\\+ compiler")
        self.assertAlmostEqual(float(value), 48, places=2)


if __name__ == "__main__":
    unittest.main()
