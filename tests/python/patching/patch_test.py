"""mlx_kd.patch: what it changes and what it leaves, and errors."""
import contextlib
import io
import json
import unittest
from unittest import mock

from tests.support.package import python

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten

import mlx_kd
from mlx_kd.patching import proof
from tests.support import mlx_lm_models as models
from tests.support.patched import NAMES, Patching, quiet
from tests.support.stand_ins import stand_ins


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

    def test_weights_that_do_not_fit_each_other_leave_their_module(self):
        net = nn.Sequential(nn.QuantizedLinear(128, 64, group_size=32, bits=4))
        net.layers[0].scales = net.layers[0].scales[:, :2]
        report = self.patch(net)
        self.assertRegex(self.reason(report, "layers.0"), r"^the proof failed: ValueError: .*\(64, ?4")

    def test_on_a_full_disk_modules_are_left_and_the_reason_is_given(self):
        code = ("import resource, signal, mlx.core as mx, mlx.nn as nn, mlx_kd\n"
                "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\nresource.setrlimit(resource.RLIMIT_FSIZE, (2048, 2048))\n"
                "net = nn.Sequential(nn.RMSNorm(48))\nmx.eval(net.parameters())\n"
                "print(mlx_kd.patch(net, ops=['rmsnorm']).left[0].why)\nprint(net(mx.ones((1, 1, 48))).sum().item())")
        first, value = self.assert_succeeds(python(code, MLX_KD_CACHE_DIR=self.folder())).splitlines()
        self.assertRegex(first, "^no kernel runs rmsnorm: .*cannot write .*: free some space, or set MLX_KD_CACHE_DIR")
        self.assertAlmostEqual(float(value), 48, places=2)

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
