"""Samplers and processors in the place of those of mlx-lm, in its generators too."""
import unittest

from tests.support.package import PackageTest
from tests.support import mlx_lm_models as models

import mlx.core as mx

import mlx_kd

mx.set_default_device(mx.cpu)
sample_utils = models.importlib.import_module("mlx_lm.sample_utils")
generate = models.importlib.import_module("mlx_lm.generate")

SETTINGS = ((0.0,), (0.7, 0.9), (1.0, 0.0, 0.05, 2), (0.8, 0.95, 0.0, 1, 40), (1.0, 0.0, 0.0, 1, 0, 1.0, 0.01, [3]),
            (1.5, 0.9, 0.01, 1, 50, 0.5, 0.1))


class InMlxLm(PackageTest):
    def setUp(self):
        mx.disable_compile()
        self.addCleanup(mx.enable_compile)

    def compare(self, settings, x):
        mx.random.seed(17)
        theirs, after = sample_utils.make_sampler(*settings)(x).tolist(), mx.random.state[0].tolist()
        mx.random.seed(17)
        self.assertEqual(mlx_kd.make_sampler(*settings)(x).tolist(), theirs, settings)
        self.assertEqual(mx.random.state[0].tolist(), after, settings)

    def test_the_sampler_draws_what_that_of_mlx_lm_draws(self):
        for settings in SETTINGS:
            for dtype in (mx.float32, mx.float16, mx.bfloat16):
                for rows in (1, 1, 1, 3):
                    x = (mx.random.normal((rows, 500)) * 3).astype(dtype)
                    self.compare(settings, x - mx.logsumexp(x, axis=-1, keepdims=True))

    def test_the_sampler_draws_what_the_compiled_one_draws(self):
        mx.enable_compile()
        x = (mx.random.normal((1, 500)) * 3).astype(mx.bfloat16)
        self.compare((0.7, 0.9, 0.05, 2, 40), x - mx.logsumexp(x, axis=-1, keepdims=True))

    def test_both_refuse_the_same(self):
        logits = mx.zeros((1, 10))
        for arguments in ({"min_p": -0.1}, {"min_p": 1.1}, {"min_p": 0.1, "min_tokens_to_keep": 0},
                          {"min_p": 0.1, "min_tokens_to_keep": 11}, {"xtc_probability": 0.5, "xtc_threshold": 0.6},
                          {"xtc_probability": 1.5}, {"top_k": 10}, {"top_k": 2.5}):
            for make in (sample_utils.make_sampler, mlx_kd.make_sampler):
                with self.assertRaises(ValueError, msg=(make, arguments)):
                    mx.eval(make(1.0, **arguments)(logits))

    def test_the_processors_change_logits_as_those_of_mlx_lm(self):
        tokens = mx.array([1, 2, 2, 5, 7])
        for arguments in ({}, {"logit_bias": {3: 1.5, 4: -2.0}}, {"repetition_penalty": 1.3},
                          {"repetition_penalty": 1.3, "repetition_context_size": 2}, {"presence_penalty": 0.5},
                          {"frequency_penalty": 0.5}, {"repetition_penalty": 0.0}):
            ours = mlx_kd.make_logits_processors(**arguments)
            theirs = sample_utils.make_logits_processors(**arguments)
            self.assertEqual(len(ours), len(theirs))
            x = mx.random.normal((1, 10))
            made, wanted = mx.array(x), mx.array(x)
            for a, b in zip(ours, theirs):
                made, wanted = a(tokens, made), b(tokens, wanted)
            self.assertTrue(mx.array_equal(made, wanted).item(), arguments)
        with self.assertRaises(ValueError):
            mlx_kd.make_logits_processors(repetition_penalty=-1.0)


class InGenerators(PackageTest):
    def setUp(self):
        self.model = models.make("llama")
        mx.disable_compile()
        self.addCleanup(mx.enable_compile)

    def test_generate_step_gives_the_same_tokens(self):
        def tokens(sampler):
            mx.random.seed(3)
            steps = generate.generate_step(mx.array([1, 2, 3]), self.model, max_tokens=12, sampler=sampler)
            return [int(token) for token, _ in steps]

        for settings in ((0.0,), (0.8, 0.9, 0.01)):
            self.assertEqual(tokens(mlx_kd.make_sampler(*settings)), tokens(sample_utils.make_sampler(*settings)))

    def test_batches_give_the_same_tokens_with_one_sampler_or_several(self):
        def tokens(make, several):
            mx.random.seed(3)
            shared = make(0.8, 0.9)
            generator = generate.BatchGenerator(self.model, max_tokens=6, sampler=shared)
            samplers = [make(0.7, 0.9), make(1.2, 0.0, 0.05), make(0.0)] if several else None
            generator.insert([[1, 2, 3], [4, 5], list(range(30))], samplers=samplers)
            found = {}
            while responses := generator.next_generated():
                for one in responses:
                    found.setdefault(one.uid, []).append(one.token)
            generator.close()
            return found

        for several in (False, True):
            ours = tokens(mlx_kd.make_sampler, several)
            self.assertEqual(ours, tokens(sample_utils.make_sampler, several))
            self.assertEqual(len(ours), 3)


if __name__ == "__main__":
    unittest.main()
