"""Small models of the families of mlx-lm, patched: what is hit, and that results are as right as before."""
import contextlib
import io
import unittest
from unittest import mock

from tests.support.package import PackageTest

import mlx.core as mx

import mlx_kd
from mlx_kd.patching import proof, samples
from tests.support import mlx_lm_models as models
from tests.support.patched import NAMES
from tests.support.stand_ins import stand_ins

DECODE = 3  # tokens

# Of GLM-4-MoE-lite and DeepSeek-V3: per layer five products, of which the queries' three take norms, two of each head,
# rope twice, and one attention over the latents; in the layer of experts the router, them and those of all tokens.
LATENT = dict(qmatvec=11, matvec=1, rope_standard=4, attention=2, gather_qmatvec=5, qmatvec_gate_up=2, router=1,
              expert_combine=1, gather_qmatvec_gate_up=1)

# Per family: calls of operators in the decode steps, per token and model; what stays as it is.
EXPECTED = {
    "llama": (dict(qmatvec_qkv=2, qk_norm_rope=2, attention=2, qmatvec_gate_up=2, qmatvec=5), set()),
    "qwen3": (dict(qmatvec_qkv=2, qk_norm_rope=2, attention=2, qmatvec_gate_up=2, qmatvec=5), set()),
    "qwen3_moe": (dict(qmatvec_qkv=2, qk_norm_rope=2, attention=2, qmatvec_gate_up=1, qmatvec=5,
                       gather_qmatvec_gate_up=1, gather_qmatvec=1, router=1, expert_combine=1), set()),
    "gemma3_text": (dict(qmatvec_qkv=2, qk_norm_rope=2, attention=2, qmatvec_gate_up=2, qmatvec=5), set()),
    "gpt_oss": (dict(qmatvec_qkv=2, qk_norm_rope=2, attention=2, qmatvec=5, gather_qmatvec_gate_up=2, gather_qmatvec=2,
                     router=2, expert_combine=2), set()),
    "glm4_moe_lite": (LATENT, set()),
    "deepseek_v3": (LATENT, set()),
    "lfm2": (dict(qmatvec_qkv=1, qk_norm_rope=1, attention=1, qmatvec_gate_up=2, qmatvec=6), set()),
    "qwen3_next": (dict(qmatvec_qkv=1, qk_norm_rope=1, attention=1, qmatvec_gate_up=2, qmatvec=11, router=2,
                        expert_combine=2, gather_qmatvec_gate_up=2, gather_qmatvec=2), set())}


def patched(model, **options):
    """With the stand-ins, taken whatever their speed is."""
    with contextlib.redirect_stderr(io.StringIO()), mock.patch.object(proof, "speed_up", lambda *_: 2.0):
        return mlx_kd.patch(model, ops=NAMES, **options)


def error(logits, judge):
    return mx.sqrt(mx.mean(mx.square(logits.astype(mx.float32) - judge))).item()


class Families(PackageTest):
    def check(self, family, **changes):
        model = models.make(family, **changes)
        before = models.decode(model)
        judge = models.decode(samples.clone(model, samples.to_float32))
        with stand_ins() as calls:
            report = patched(model)
            self.addCleanup(mlx_kd.unpatch, model)
            calls.clear()
            cache = models.module("cache").make_prompt_cache(model)
            models.decode(model, tokens=(), cache=cache)
            calls.clear()
            for token in range(DECODE):
                mx.eval(model(mx.array([[token]]), cache=cache))
            decoded = dict(calls)
            after = models.decode(model)
        hits, left = EXPECTED[family]
        for op, count in hits.items():
            self.assertEqual(decoded.get(op, 0), DECODE * count, (family, op, decoded))
        self.assertEqual({one.cls for one in report.left}, left | {one.cls for one in report.left if "lacks" in one.why})
        self.assertFalse([one for one in report.left if "proof failed" in one.why], report)
        return error(after, judge), error(before, judge)


def family_test(family):
    def test(self):
        # Each module's error is at most 1.25 times MLX's. In a model roundings add up, and with experts a rounding may
        # choose another expert: then logits of both differ from the judge's by as much as those of two experts.
        new, old = self.check(family)
        self.assertLess(new, 2 * old)
    return test


for _family in EXPECTED:
    setattr(Families, f"test_{_family}_decodes_as_right_as_before_and_hits_its_operators", family_test(_family))


class Kinds(PackageTest):
    def decoded(self, model):
        before, judge = models.decode(model), models.decode(samples.clone(model, samples.to_float32))
        with stand_ins() as calls:
            patched(model)
            self.addCleanup(mlx_kd.unpatch, model)
            calls.clear()
            after = models.decode(model)
            counts = dict(calls)
        return error(after, judge), error(before, judge), counts

    def test_dense_models_use_the_dense_products(self):
        new, old, calls = self.decoded(models.make("llama", bits=16))
        self.assertEqual(calls["matvec_qkv"], 2 * DECODE)
        self.assertEqual(calls["matvec_gate_up"], 2 * DECODE)
        self.assertLess(new, 2 * old)

    def test_float32_models_are_proved_too(self):
        model = models.make("qwen3", dtype=mx.float32)
        before = models.decode(model)
        _, _, calls = self.decoded(model)
        self.assertEqual(calls["qmatvec_qkv"], 2 * DECODE)
        with stand_ins():
            self.assertLess(error(models.decode(model), before), 1e-4)

    def test_biases_and_traditional_rope_and_scaled_frequencies(self):
        scaling = {"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 128}
        for changes in (dict(attention_bias=True), dict(mlp_bias=True), dict(rope_traditional=True),
                        dict(rope_scaling=scaling)):
            new, old, calls = self.decoded(models.make("llama", **changes))
            self.assertEqual(calls["qmatvec_qkv"], 2 * DECODE, changes)
            self.assertEqual(calls["qk_norm_rope"], 2 * (1 + DECODE), changes)
            self.assertLess(new, 2 * old, changes)

    def test_prompts_run_positions_and_attention_of_a_layer(self):
        for family in ("llama", "gemma3_text"):
            model = models.make(family)
            wanted = models.decode(model, prompt=40, tokens=())
            with stand_ins() as calls:
                report = patched(model)
                self.addCleanup(mlx_kd.unpatch, model)
                self.assertTrue([one for one in report.replaced if "in prompts qk_norm_rope, attention" in one.runs])
                calls.clear()
                after = models.decode(model, prompt=40, tokens=())
            self.assertEqual((calls["attention"], calls["qk_norm_rope"], calls["qmatvec_qkv"]), (2, 2, 0))
            self.assertLess(mx.mean(mx.abs(after - wanted)).item(), 0.2)

    def test_an_embedding_is_the_head_though_a_layer_has_as_many_rows(self):
        for tied in (True, False):
            model = models.make("llama", vocab_size=256, tie_word_embeddings=tied)  # as many as its feed-forward layer
            with stand_ins():
                report = patched(model)
                mlx_kd.unpatch(model)
            self.assertEqual("head" in [one.kind for one in report.replaced], tied)

    def test_a_head_of_its_own_is_a_product(self):
        new, old, calls = self.decoded(models.make("llama", tie_word_embeddings=False))
        self.assertLess(new, 2 * old)


if __name__ == "__main__":
    unittest.main()
