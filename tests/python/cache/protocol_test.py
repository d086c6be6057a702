"""Our caches where mlx-lm's go: generation, batches, files, prompt caches; and what is refused."""
import copy
import importlib
import unittest

from tests.support.package import PackageTest
from tests.support import mlx_lm_models as models

import mlx.core as mx
from mlx.utils import tree_flatten

import mlx_kd.cache as caches

theirs = models.module("cache")
EXACT = ("contiguous", "rotating", "paged")  # what they hold is what was written


def rows(tokens, batch=1, heads=2, width=32, values=None):
    return mx.random.normal((batch, heads, tokens, width)), mx.random.normal((batch, heads, tokens, values or width))


class Protocol(PackageTest):
    def setUp(self):
        mx.random.seed(1)
        self.model = models.make("llama", dtype=mx.float32, bits=16)

    def make(self, kind, **options):
        return caches.make(self.model, kind, **{"group_size": 32, "max_size": 64, **options})

    def assert_same(self, one, other):
        self.assertTrue(mx.array_equal(one, other).item())

    def test_decoding_is_that_of_mlx_lms_caches(self):
        plain = models.decode(self.model)
        coded = models.decode(self.model, cache=[theirs.QuantizedKVCache(32, 8) for _ in self.model.layers])
        for kind in caches.KINDS:
            logits = models.decode(self.model, cache=self.make(kind))
            self.assert_same(logits, plain if kind in EXACT else coded)

    def test_models_keep_the_kinds_of_caches_that_they_need(self):
        sliding = models.make("gemma3_text", dtype=mx.float32, bits=16)
        self.assertEqual([type(c).__name__ for c in caches.make(sliding, "quantized", group_size=32)],
                         ["QuantizedRotatingCache", "QuantizedCache"])
        self.assertEqual(caches.make(sliding, "contiguous")[0].max_size, 8)
        wanted = models.decode(sliding)
        for kind in ("contiguous", "paged"):
            self.assert_same(models.decode(sliding, cache=caches.make(sliding, kind)), wanted)
        recurrent = models.make("lfm2", dtype=mx.float32, bits=16)
        self.assertIn("ArraysCache", [type(c).__name__ for c in caches.make(recurrent, "paged")])
        self.assert_same(models.decode(recurrent, cache=caches.make(recurrent, "paged")), models.decode(recurrent))

    def test_the_batch_generator_gives_each_sequence_its_own_tokens(self):
        generate = importlib.import_module("mlx_lm.generate")
        prompts = [[1, 2, 3, 4, 5, 6, 7], [9, 8], [4, 4, 4, 4]]
        for kind in caches.KINDS:
            first = self.make(kind, max_size=512)
            made = [first] + [self.make(kind, max_size=512, **({"like": first} if kind.endswith("paged") else {}))
                              for _ in prompts[1:]]
            alone = []
            for prompt in prompts:
                cache = self.make(kind, max_size=512)
                alone.append([t for t, _ in generate.generate_step(mx.array(prompt), self.model, prompt_cache=cache,
                                                                   max_tokens=6)])
            self.assertEqual(models.tokens_of_batch(self.model, prompts, caches=made), alone, kind)

    def test_saved_prompt_caches_load_as_what_they_were(self):
        file = str(self.folder() / "cache.safetensors")
        for kind in caches.KINDS:
            cache = self.make(kind)
            models.decode(self.model, cache=cache)
            theirs.save_prompt_cache(file, cache, {"kind": kind})
            loaded, metadata = theirs.load_prompt_cache(file, return_metadata=True)
            self.assertEqual(metadata, {"kind": kind})
            self.assertEqual([type(c) for c in loaded], [type(c) for c in cache])
            step = mx.array([[3]])
            self.assert_same(self.model(step, cache=loaded), self.model(step, cache=cache))

    def test_prompt_caches_share_pages_and_copy_them_before_a_write(self):
        store = theirs.LRUPromptCache()
        cache = self.make("paged", block_size=4)
        prompt = list(range(1, 12))
        self.model(mx.array([prompt]), cache=cache)
        pool = cache[0].pool
        used = pool.blocks - pool.free
        store.insert_cache("model", prompt, cache)
        copied, rest = store.fetch_nearest_cache("model", prompt + [40])
        self.assertEqual((rest, pool.blocks - pool.free), ([40], used))
        before = cache[0].keys_and_values()[0]
        a = self.model(mx.array([[40]]), cache=copied)
        self.assertEqual(pool.blocks - pool.free, used + 1)  # the last block alone
        self.assertEqual(copied[0].block_table[:-1], cache[0].block_table[:-1])
        self.assertNotEqual(copied[0].block_table[-1], cache[0].block_table[-1])
        self.assert_same(cache[0].keys_and_values()[0], before)
        self.assert_same(self.model(mx.array([[40]]), cache=cache), a)
        del copied
        self.assertEqual(pool.blocks - pool.free, used)

    def test_a_cache_becomes_quantised_and_rotating_ones_too(self):
        for kind, after in (("contiguous", "QuantizedCache"), ("rotating", "QuantizedRotatingCache")):
            cache = self.make(kind)
            self.model(mx.array([[1, 2, 3]]), cache=cache)
            quantized = [c.to_quantized(group_size=32, bits=8) for c in cache]
            self.assertEqual(type(quantized[0]).__name__, after)
            near = mx.abs(self.model(mx.array([[4]]), cache=quantized) - self.model(mx.array([[4]]), cache=cache))
            self.assertLess(mx.max(near).item(), 0.1)

    def test_eight_bits_take_at_most_0_55_of_the_memory(self):
        for cls in (lambda: caches.QuantizedCache(64, 8), lambda: caches.QuantizedRotatingCache(4096)):
            plain, coded = caches.ContiguousCache(), cls()
            x = mx.zeros((1, 8, 1, 128), mx.bfloat16)
            for cache in (plain, coded):
                cache.update_and_fetch(x, x)
            self.assertLessEqual(coded.nbytes, 0.55 * plain.nbytes)

    def test_a_token_is_written_in_place(self):
        for make in (caches.ContiguousCache, lambda: caches.QuantizedCache(32, 8), lambda: caches.RotatingCache(64),
                     lambda: caches.QuantizedRotatingCache(64, 0, 32, 8)):
            cache = make()
            mx.eval(cache.update_and_fetch(*rows(1)))
            mx.eval(cache.state[:2])
            before = mx.get_active_memory()
            for _ in range(3):
                mx.eval(cache.update_and_fetch(*rows(1)))
            mx.eval(cache.state[:2])
            self.assertLess(mx.get_active_memory() - before, 4096, type(cache).__name__)  # no second buffer


class Refused(PackageTest):
    def setUp(self):
        self.model = models.make("llama", dtype=mx.float32, bits=16)

    def refused(self, pattern, call, *arguments, **options):
        with self.assertRaisesRegex(ValueError, pattern):
            call(*arguments, **options)

    def test_options_outside_their_range(self):
        make = lambda **options: caches.make(self.model, **options)  # noqa: E731
        self.refused("kind is 'ring'", make, kind="ring")
        self.refused("needs max_size", make, kind="quantized-rotating")
        self.refused("bits is 5", make, kind="quantized", bits=5)
        self.refused("group_size is 48", make, kind="quantized", group_size=48)
        self.refused("max_size is 0", make, kind="rotating", max_size=0)
        self.refused("keep is 8 of max_size 8", make, kind="rotating", max_size=8, keep=8)
        self.refused("block_size is 0", make, kind="paged", block_size=0)
        self.refused("like is for the kinds 'paged'", make, kind="rotating", max_size=8, like=[1, 2])

    def test_rows_that_do_not_go_with_those_that_are_there(self):
        for cache in (caches.ContiguousCache(), caches.QuantizedCache(32), caches.RotatingCache(8), caches.PagedCache(),
                      caches.QuantizedPagedCache(group_size=32)):
            cache.update_and_fetch(*rows(2))
            before = cache.offset
            self.refused("widths", cache.update_and_fetch, *rows(1, width=64))
            self.refused("widths", cache.update_and_fetch, *rows(1, heads=3))
            self.refused("shape", cache.update_and_fetch, rows(1)[0], rows(2)[0])
            self.assertEqual(cache.offset, before)
        for cache in (caches.QuantizedCache(32), caches.QuantizedRotatingCache(8, 0, 32), caches.QuantizedPagedCache(group_size=32)):
            cache.update_and_fetch(*rows(2))
            self.refused("of type mlx.core.int32", cache.update_and_fetch, *(x.astype(mx.int32) for x in rows(1)))
            self.assertEqual(cache.offset, 2)
        self.refused("not a multiple of group_size 64", caches.QuantizedCache(64).update_and_fetch, *rows(1))
        self.refused("not multiples of group_size 64", caches.QuantizedPagedCache().update_and_fetch, *rows(1))

    def test_trims_and_extracts(self):
        for cache in (caches.ContiguousCache(), caches.RotatingCache(8), caches.PagedCache(),
                      caches.QuantizedPagedCache(group_size=32)):
            cache.update_and_fetch(*rows(3))
            self.refused("trim", cache.trim, -1)
            self.assertEqual((cache.trim(9), cache.offset), (3, 0))  # as mlx-lm: those that are there
        pool = caches.PagePool(9, 4)
        for make in (caches.ContiguousCache, lambda: caches.RotatingCache(8), lambda: caches.PagedCache(pool)):
            two = [make(), make()]
            for cache in two:
                cache.update_and_fetch(*rows(3))
            batch = type(two[0]).merge(two)
            self.refused(r"extract\(2\) of a batch of 2", batch.extract, 2)
            for outside in ([2], [0, -3], mx.array([5]), ["0"]):
                self.refused("filter of .* of a batch of 2", batch.filter, outside)
            batch.filter([1])
            self.assertEqual(batch.offset.tolist(), [3])

    def test_merges_of_different_kinds_and_sizes(self):
        def filled(cache, **sizes):
            cache.update_and_fetch(*rows(2, **sizes))
            return cache
        plain, merge = filled(caches.ContiguousCache()), caches.ContiguousCache.merge
        self.refused("is merged with a ContiguousCache", merge, [plain, filled(caches.QuantizedCache(32))])
        self.refused("different heads and widths", merge, [plain, filled(caches.ContiguousCache(), width=64)])
        self.refused("max_size", merge, [filled(caches.RotatingCache(8)), filled(caches.RotatingCache(9))])
        self.refused("bits", merge, [filled(caches.QuantizedCache(32, 8)), filled(caches.QuantizedCache(32, 4))])
        self.refused("on another pool", caches.PagedCache.merge, [filled(caches.PagedCache()), filled(caches.PagedCache())])
        pool = caches.PagePool(9, 4, 32, 8)
        coded = filled(caches.QuantizedPagedCache(pool))
        self.refused("on another pool", caches.PagedCache.merge, [filled(caches.PagedCache()), coded])
        self.refused("on another pool", caches.QuantizedPagedCache.merge,
                     [coded, filled(caches.QuantizedPagedCache(group_size=32))])
        self.refused("codes of 8 bits", caches.PagedCache, pool)
        self.refused("not of codes", caches.QuantizedPagedCache, caches.PagePool(9))
        self.refused("bits is 3", caches.QuantizedPagedCache, bits=3)
        self.refused("merge", merge, [])

    def test_a_full_pool_leaves_the_cache_as_it_was(self):
        self.full(caches.PagePool(3, 4), caches.PagedCache)
        self.full(caches.PagePool(3, 4, 32, 8), caches.QuantizedPagedCache)

    def full(self, pool, kind):
        one, other = kind(pool), kind(pool)
        one.update_and_fetch(*rows(7))
        other.update_and_fetch(*rows(2))
        before = tree_flatten(one.keys_and_values())
        with self.assertRaisesRegex(caches.PoolFull, "1 more blocks of 4 tokens are needed, and 0 of 3 are free"):
            one.update_and_fetch(*rows(2))
        self.assertEqual((one.offset, one.block_table, pool.free), (7, one.block_table, 0))
        for (_, now), (_, then) in zip(tree_flatten(one.keys_and_values()), before):
            self.assertTrue(mx.array_equal(now, then).item())
        batch = kind.merge([one, other])
        with self.assertRaises(caches.PoolFull):
            batch.update_and_fetch(*rows(1, batch=2))
        self.assertEqual((batch.size(), one.offset), (7, 7))
        del batch, other
        one.update_and_fetch(*rows(2))
        self.assertEqual(one.offset, 9)

    def test_block_tables_that_point_outside(self):
        cache = caches.PagedCache(blocks=4, block_size=4)
        cache.update_and_fetch(*rows(3))
        good = cache.pages.blocks
        for block in (9, -1, 3, "0"):  # 3: no cache uses it
            cache.pages.blocks = [block]
            self.refused("block table points to block", cache.update_and_fetch, *rows(1))
        cache.pages.blocks = good
        self.assertEqual(copy.deepcopy(cache).update_and_fetch(*rows(1))[0].shape[2], 4)


if __name__ == "__main__":
    unittest.main()
