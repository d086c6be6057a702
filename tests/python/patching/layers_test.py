"""Layers of one family each: latent attention, the gated delta rule, norms around layers; that they are right and hit."""
import copy
import unittest
from unittest import mock

from tests.support import package  # noqa: F401  (before mlx_kd)

import mlx.core as mx
import mlx.nn as nn

from tests.support import mlx_lm_models as models
from tests.support.patched import NAMES, Patching

WITH_GEMM = [*NAMES, "gemm", "qgemm", "rmsnorm", "precise_swiglu"]


class Layers(Patching):
    def both(self, model, run, **options):
        """The largest difference between the results of a run before and after the patch."""
        before = run()
        report = self.patch(model, **{"ops": WITH_GEMM, **options})
        self.calls.clear()
        after = run()
        self.assert_near(after, before, 1e-3 * mx.max(mx.abs(before)).item())
        return report


class LatentAttention(Layers):
    def setUp(self):
        super().setUp()
        self.model = models.make("glm4_moe_lite", dtype=mx.float32)

    def after_context(self, tokens, context=20):
        cache = models.module("cache").make_prompt_cache(self.model)
        self.model(mx.array([list(range(context))]), cache=cache)
        self.calls.clear()
        return self.model(mx.array([tokens]), cache=cache)[0]

    def test_a_step_attends_to_latents_by_one_call_a_layer(self):
        self.both(self.model, lambda: self.after_context([5]))
        self.assertEqual((self.calls["attention"], self.calls["qmatvec"]), (2, 11))

    def test_several_tokens_make_no_keys_of_the_context(self):
        self.both(self.model, lambda: self.after_context([5, 6, 7]))
        self.assertEqual(self.calls["attention"], 2)
        self.assertEqual(self.calls["gather_qmatvec"], 2 * 2 + 1)  # per layer queries and results, then experts

    def test_prompts_make_keys_of_all_heads_by_products_of_many_rows(self):
        self.both(self.model, lambda: self.after_context(list(range(40)), context=3))
        self.assertEqual((self.calls["attention"], self.calls["qmatvec"]), (2, 0))

    def test_weights_that_are_not_quantised(self):
        self.model = models.make("deepseek_v3", dtype=mx.float32, bits=16)
        report = self.both(self.model, lambda: self.after_context([5]))
        self.assertEqual(len([one for one in report.replaced if one.kind == "product of heads"]), 4)
        self.assertGreaterEqual(self.calls["matvec"], 2 * 2 * 4 + 11)

    def test_without_a_product_of_heads_of_its_own_the_layer_runs_those_of_mlx(self):
        self.both(self.model, lambda: self.after_context([5]), ops=["attention", "qmatvec"])
        self.assertEqual((self.calls["attention"], self.calls["gather_qmatvec"]), (2, 0))


class GatedDelta(Layers):
    def setUp(self):
        super().setUp()
        self.model = models.make("qwen3_next", dtype=mx.float32)
        self.rule = mock.patch.object(mx.fast, "gated_delta_update", wraps=mx.fast.gated_delta_update).start()
        self.addCleanup(mock.patch.stopall)

    def test_prompts_and_steps_run_mlx_own_operator_of_the_rule(self):
        self.both(self.model, lambda: models.decode(self.model, prompt=21))
        self.rule.reset_mock()
        models.decode(self.model, tokens=(1, 2))
        self.assertEqual(self.rule.call_count, 3)  # one such layer: the prompt and two tokens

    def test_another_model_of_the_class_keeps_its_code(self):
        other = models.make("qwen3_next", seed=3)
        before = models.decode(other)
        self.patch(self.model)
        self.rule.reset_mock()
        self.assertTrue(mx.array_equal(models.decode(other), before).item())
        self.assertEqual(self.rule.call_count, 0)

    def test_attention_with_a_gate_reads_a_quantised_cache(self):
        cache = models.module("cache")

        def quantised():
            caches = [cache.ArraysCache(2), cache.QuantizedKVCache(group_size=32, bits=8)]
            self.model(mx.array([[1, 2, 3]]), cache=caches)
            return self.model(mx.array([[4]]), cache=caches)[:, -1]

        self.both(self.model, quantised, ops=[*WITH_GEMM, "attention_quantized"])

    def test_a_mask_and_training_take_the_layers_own_code(self):
        cache = models.module("cache")

        def padded():
            caches = [cache.ArraysCache(2, left_padding=[2, 0]), cache.BatchKVCache([2, 0])]
            return self.model(mx.array([[0, 0, 4], [1, 2, 3]]), cache=caches)[:, -1]

        self.both(self.model, padded)
        self.rule.reset_mock()
        padded()
        self.model.train()
        models.decode(self.model)
        self.assertEqual(self.rule.call_count, 0)


class Positions(Layers):
    def test_an_offset_may_be_a_number_or_an_array_without_axes(self):
        class Net(nn.Module):  # Gemma 4 gives such an array
            def __init__(self):
                super().__init__()
                self.rope = nn.RoPE(32)

            def __call__(self, x, offset):
                return self.rope(x, offset=offset)

        net, x = Net(), mx.random.normal((1, 2, 3, 32))
        wanted = net(x, 5)
        self.assertEqual([one.runs for one in self.patch(net).replaced], ["rope_standard"])
        self.calls.clear()
        for offset in (5, mx.array(5), mx.array([5])):
            self.assert_near(net(x, offset), wanted)
        self.assertEqual(self.calls["rope_standard"], 3)


class PostNorms(Layers):
    def test_norms_after_the_layers_are_operators_and_those_before_are_in_products(self):
        model = models.make("gemma3_text", dtype=mx.float32)
        report = self.both(model, lambda: models.decode(model))
        self.assertIn("norm in qmatvec_qkv, qk_norm_rope, attention, qmatvec, rmsnorm; norm in qmatvec_gate_up, qmatvec, "
                      "rmsnorm", [one.runs for one in report.replaced if one.kind == "block"])
        self.assertEqual(self.calls["qmatvec_qkv"], 2 * 3)

    def test_sums_that_are_clipped_in_float16_stay_with_the_block(self):
        model = models.make("gemma3_text", dtype=mx.float16)
        model.model.embed_tokens.scales *= 4000
        wanted = models.decode(model)
        report = self.patch(model, ops=WITH_GEMM)
        self.assertEqual([one for one in report.replaced if one.kind == "block"], [])
        self.assertIn("does not serve", self.reason(report, "model.layers.0"))
        self.assertTrue(mx.all(mx.isfinite(models.decode(model))).item() or not mx.all(mx.isfinite(wanted)).item())


class Choices(Layers):
    def test_groups_of_experts_and_a_correction(self):
        model = models.make("deepseek_v3", dtype=mx.float32, n_routed_experts=8, n_group=4, topk_group=2,
                            routed_scaling_factor=2.5)
        gate = model.model.layers[1].mlp.gate
        gate.weight, gate.e_score_correction_bias = mx.random.normal(gate.weight.shape), mx.random.normal((8,))
        report = self.both(model, lambda: models.decode(model))
        self.assertIn("router", [one.kind for one in report.replaced])
        self.assertEqual(self.calls["router"], 1 + 3)

    def test_experts_of_all_tokens_are_added_with_and_without_a_gate(self):
        for family in ("glm4_moe_lite", "qwen3_next"):
            model = models.make(family, dtype=mx.float32)
            report = self.both(model, lambda model=model: models.decode(model))
            self.assertIn("block of experts", [one.kind for one in report.replaced])
            self.assertTrue(self.calls["expert_combine"])

    def test_prompts_run_the_experts_by_the_same_operators(self):
        model = models.make("qwen3_moe", dtype=mx.float32)
        self.both(model, lambda: models.decode(model, prompt=70, tokens=()))
        self.assertEqual([self.calls[name] for name in ("router", "gather_qmatvec_gate_up", "gather_qmatvec",
                                                        "expert_combine")], [1, 1, 1, 1])

    def test_copies_run_alone(self):
        model = models.make("qwen3_next", dtype=mx.float32)
        self.patch(model)
        wanted = models.decode(model)
        self.assert_near(models.decode(copy.deepcopy(model)), wanted, 1e-4)


if __name__ == "__main__":
    unittest.main()
