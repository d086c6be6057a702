"""Every kind of cache under mlx_kd.patch: the logits of the unpatched model, by the operators that are meant for it."""
import importlib
import unittest
from unittest import mock

from tests.support import package  # noqa: F401  (before mlx_kd)
from tests.support import mlx_lm_models as models
from tests.support.patched import NAMES, Patching
from tests.support.stand_ins import counted

import mlx.core as mx
from mlx.utils import tree_flatten

import mlx_kd.cache as caches
from mlx_kd import _operators

OWN = ["attention_paged", "attention_paged_quantized", "attention_quantized", "kv_append", "kv_append_quantized",
       "qk_norm_rope_append_paged", "qk_norm_rope_append_paged_quantized", "qk_norm_rope_append_quantized"]
WRITES = {"quantized": "qk_norm_rope_append_quantized", "quantized-rotating": "qk_norm_rope_append_quantized",
          "paged": "qk_norm_rope_append_paged", "quantized-paged": "qk_norm_rope_append_paged_quantized"}
READS = {"quantized": "attention_quantized", "quantized-rotating": "attention_quantized", "paged": "attention_paged",
         "quantized-paged": "attention_paged_quantized"}


def planes(cache):
    return [x for _, x in tree_flatten(cache.keys_and_values())]


class Patched(Patching):
    def setUp(self):
        super().setUp()
        for name in OWN:
            one = mock.patch.object(_operators, name, counted(getattr(_operators, name)))
            one.start()
            self.addCleanup(one.stop)

    def make(self, kind, **options):
        return caches.make(self.model, kind, **{"group_size": 32, "max_size": 64, "block_size": 4, **options})

    def patched(self, family="llama"):
        self.model = models.make(family, dtype=mx.float32, bits=16)
        wanted = {kind: models.decode(self.model, cache=self.make(kind)) for kind in caches.KINDS}
        self.patch(self.model, ops=[*NAMES, *OWN])
        return wanted

    def test_prompts_and_tokens(self):
        for family in ("llama", "qwen3"):
            for kind, wanted in self.patched(family).items():
                self.calls.clear()
                got = models.decode(self.model, cache=self.make(kind))
                self.assert_near(got, wanted, 0.05 if kind.startswith("quantized") else 1e-3)
                if kind in WRITES:
                    self.assertGreaterEqual(self.calls[WRITES[kind]], 2 * 3, kind)  # 2 layers, 3 tokens
                    self.assertGreaterEqual(self.calls[READS[kind]], 2 * 3, kind)
                    self.assertEqual(self.calls["attention"], 0, kind)

    def test_batches_of_padded_prompts(self):
        generate = importlib.import_module("mlx_lm.generate")
        prompts = [[1, 2, 3, 4, 5, 6, 7], [9, 8], [4, 4, 4, 4]]
        self.patched()
        for kind in ("quantized", "paged", "quantized-paged"):
            first = self.make(kind)
            made = [first] + [self.make(kind, **({"like": first} if kind.endswith("paged") else {})) for _ in prompts[1:]]
            alone = [[t for t, _ in generate.generate_step(mx.array(prompt), self.model, prompt_cache=self.make(kind),
                                                           max_tokens=6)] for prompt in prompts]
            self.calls.clear()
            self.assertEqual(models.tokens_of_batch(self.model, prompts, caches=made), alone, kind)
            self.assertGreater(self.calls[READS[kind]], 0, kind)
            self.assertEqual(self.calls["attention"], 0, kind)

    def test_copies_share_pages_until_one_writes(self):
        self.patched()
        for kind in ("paged", "quantized-paged"):
            cache = self.make(kind)
            self.model(mx.array([list(range(1, 12))]), cache=cache)
            copied = [one.fork() for one in cache]
            before = planes(cache[0])
            pool = cache[0].pool
            used = pool.blocks - pool.free
            self.model(mx.array([[40]]), cache=copied)
            self.assertEqual(pool.blocks - pool.free, used + 1)
            self.assert_equal_planes(planes(cache[0]), before)

    def test_a_full_pool_and_a_wrong_table_leave_the_cache_as_it_was(self):
        self.patched()
        for kind in ("paged", "quantized-paged"):
            cache = self.make(kind, max_size=8)
            self.model(mx.array([[1, 2, 3, 4, 5, 6, 7]]), cache=cache)
            before = planes(cache[0])
            with self.assertRaises(caches.PoolFull):
                self.model(mx.array([[1, 2, 3]]), cache=cache)
            cache[0].pages.blocks.append(99)
            with self.assertRaisesRegex(ValueError, "block 99"):
                self.model(mx.array([[1]]), cache=cache)
            cache[0].pages.blocks.pop()
            self.assertEqual(cache[0].offset, 7)
            self.assert_equal_planes(planes(cache[0]), before)

    def assert_equal_planes(self, one, other):
        self.assertEqual(len(one), len(other))
        for a, b in zip(one, other):
            self.assertTrue(mx.array_equal(a, b).item())

    def test_masks_that_attention_over_pages_does_not_know_are_gathered(self):
        self.patched("llama")
        mask = mx.ones((3, 3), mx.bool_)
        layer = self.model.model.layers[0].self_attn
        x = mx.random.normal((1, 3, 128))
        for kind, gathered in (("paged", "attention"), ("quantized-paged", "attention_quantized")):
            cache = self.make(kind)
            self.calls.clear()
            layer(x, mask, cache[0])
            self.assertEqual((self.calls[READS[kind]], self.calls[gathered]), (0, 1), kind)


if __name__ == "__main__":
    unittest.main()
