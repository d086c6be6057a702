"""A decoder layer's step as one call: the same numbers and caches as its operators one by one."""
import unittest

from tests.support.package import PackageTest

import mlx.core as mx
import mlx.nn as nn

import mlx_kd
from mlx_kd import _core
from mlx_kd.patching import classes
from tests.support import mlx_lm_models as models
from tests.support.patched import quiet

NAMES = ("attention", "attention_norm", "mlp", "mlp_norm", "out", "heads", "kv_heads", "scale", "gate", "up", "down")


def with_step(model):
    """The plans of its blocks whose step is one call."""
    plans = (module.__dict__.get("_kd_plan") for _, module in classes.walk(model))
    return [plan for plan in plans if getattr(plan, "decode", None) is not None]


class DecodeStep(PackageTest):
    def setUp(self):
        self.addCleanup(mlx_kd.reset_settings)

    def patch(self, model):
        self.addCleanup(mlx_kd.unpatch, model)
        quiet(mlx_kd.patch, model, verify=False)
        mlx_kd.configure(enabled=False, default_kernels=[])  # MLX's forms of the operators: nothing is compiled
        return model

    def tokens(self, model, batch=1, steps=4):
        """Logits of some steps and what the caches hold then."""
        cache = models.module("cache").make_prompt_cache(model)
        model(mx.array([[5, 6, 7]] * batch), cache=cache)
        logits = [model(mx.array([[token]] * batch), cache=cache) for token in range(steps)]
        mx.eval(logits, [layer.state for layer in cache])
        return logits, cache

    def check(self, model, batch=1):
        plans = with_step(self.patch(model))
        self.assertEqual(len(plans), len(model.layers))
        calls = []
        for plan in plans:
            step = plan.decode
            plan.decode = lambda *a, step=step: calls.append(step(*a)) or calls[-1]
        logits, cache = self.tokens(model, batch)
        self.assertEqual(sum(call is not None for call in calls), 4 * len(plans))
        for plan in plans:
            plan.decode = None
        expected, expected_cache = self.tokens(model, batch)
        for one, other in zip(logits, expected):
            self.assertTrue(mx.array_equal(one, other))
        for one, other in zip(cache, expected_cache):
            self.assertEqual(one.offset, other.offset)
            for got, want in zip(one.keys_and_values(), other.keys_and_values()):
                self.assertTrue(mx.array_equal(got, want))

    def test_quantised_layers(self):
        self.check(models.make("llama"))

    def test_dense_layers_with_norms_of_queries_and_keys(self):
        self.check(models.make("qwen3", bits=16))

    def test_a_batch(self):
        self.check(models.make("qwen3"), batch=3)

    def test_layers_with_experts(self):
        self.check(models.make("qwen3_moe"))

    def test_a_batch_of_layers_with_experts(self):
        self.check(models.make("qwen3_moe"), batch=3)

    def test_experts_in_training_in_parts_or_of_other_classes_run_the_layers_own_code(self):
        model = self.patch(models.make("qwen3_moe"))
        plan, layer = with_step(model)[-1], model.layers[-1]
        cache = models.module("cache").KVCache()
        layer(mx.zeros((1, 3, 128), plan.dtype), mask="causal", cache=cache)
        x, experts = mx.zeros((1, 1, 128), plan.dtype), layer.mlp.switch_mlp
        layer.mlp.train()
        self.assertIsNone(plan.decode(layer, x, cache))
        layer.mlp.eval()
        layer.mlp.sharding_group = object()
        self.assertIsNone(plan.decode(layer, x, cache))
        layer.mlp.sharding_group = None
        experts.up_proj.global_scale = mx.array(2.0)
        self.assertIsNone(plan.decode(layer, x, cache))
        experts.up_proj.global_scale = None
        up, experts.up_proj = experts.up_proj, nn.Linear(128, 64)
        self.assertIsNone(plan.decode(layer, x, cache))
        experts.up_proj = up
        self.assertEqual(cache.offset, 3)
        self.assertIsNotNone(plan.decode(layer, x, cache))

    def test_a_full_cache_grows_by_its_own_code(self):
        model = self.patch(models.make("llama"))
        plan = with_step(model)[0]
        cache = models.module("cache").KVCache()
        x = mx.zeros((1, 1, 128), plan.dtype)
        self.assertIsNone(plan.decode(model.layers[0], x, cache))
        model.layers[0](mx.zeros((1, 256, 128), plan.dtype), mask="causal", cache=cache)
        self.assertEqual((cache.offset, cache.keys.shape[2]), (256, 256))
        self.assertIsNone(plan.decode(model.layers[0], x, cache))
        self.assertEqual(cache.offset, 256)
        model.layers[0](x, cache=cache)
        self.assertEqual((cache.offset, cache.keys.shape[2]), (257, 512))
        self.assertIsNotNone(plan.decode(model.layers[0], x, cache))
        self.assertEqual(cache.offset, 258)

    def test_other_parts_caches_and_shapes_run_the_layers_own_code(self):
        model = self.patch(models.make("llama"))
        plan, layer = with_step(model)[0], model.layers[0]
        cache = models.module("cache").KVCache()
        layer(mx.zeros((1, 3, 128), plan.dtype), mask="causal", cache=cache)
        x = mx.zeros((1, 1, 128), plan.dtype)
        self.assertIsNone(plan.decode(layer, mx.zeros((1, 2, 128), plan.dtype), cache))
        self.assertIsNone(plan.decode(layer, mx.zeros((2, 1, 128), plan.dtype), cache))
        self.assertIsNone(plan.decode(layer, x.astype(mx.float16), cache))
        self.assertIsNone(plan.decode(layer, x, None))
        self.assertIsNone(plan.decode(layer, x, models.module("cache").RotatingKVCache(max_size=8)))
        down = layer.mlp.down_proj
        layer.mlp.down_proj = nn.Linear(256, 128)
        self.assertIsNone(plan.decode(layer, x, cache))
        self.assertEqual(cache.offset, 3)
        layer.mlp.down_proj = down
        self.assertIsNotNone(plan.decode(layer, x, cache))

    def test_names_that_are_missing_are_refused(self):
        names = {name: name for name in NAMES}
        del names["gate"]
        with self.assertRaisesRegex(ValueError, "names lacks 'gate'"):
            _core.DecodeStep(names, (), (), (), (), False, 0, False)


if __name__ == "__main__":
    unittest.main()
