"""Tokens drawn on an NVIDIA GPU from logits of 16 bits: the same as those of MLX's chain there, call for call."""
import dataclasses
import os
import unittest

# Each of so many different calls makes graphs of its own, which MLX keeps no more of than this.
os.environ.setdefault("MLX_CUDA_GRAPH_CACHE_SIZE", "100000")

from tests.support.package import LONG, PackageTest  # noqa: E402

import mlx.core as mx  # noqa: E402
from tests.support.draws import Dice, differences  # noqa: E402

import mlx_kd  # noqa: E402
from mlx_kd.sampling import is_in_cuda  # noqa: E402


class SixteenBits(Dice):
    types = (mx.float16, mx.bfloat16)

    def settings(self, width):
        return dataclasses.replace(super().settings(width), xtc_probability=0.0)


class OnGpu(PackageTest):
    def setUp(self):
        if not mx.cuda.is_available():
            self.skipTest("no NVIDIA GPU")
        before = mx.default_device()
        mx.set_default_device(mx.gpu)
        self.addCleanup(mx.set_default_device, before)
        if not is_in_cuda(mx.bfloat16):
            self.skipTest("no native module: sample runs MLX's chain")

    def test_random_calls_with_small_vocabularies(self):
        before = mlx_kd.sampling_counts()
        calls = 100000 if LONG else 1000
        self.assertEqual(differences(calls, SixteenBits(11), 4096), [])
        after = mlx_kd.sampling_counts()
        self.assertGreater(after["kernel"] - before["kernel"], calls / 2)
        self.assertEqual(sum(after.values()) - sum(before.values()), calls)

    def test_random_calls_with_a_large_vocabulary(self):
        self.assertEqual(differences(10000 if LONG else 50, SixteenBits(12), 152064, each=10), [])

    def test_rows_with_nothing_to_draw(self):
        inf = float("inf")
        logits = mx.array([[0.0, float("nan")], [inf, 0.0], [-inf, -inf], [0.0, 20.0]]).astype(mx.float16)
        token, logprob = mlx_kd.sample(logits, key=mx.random.key(0))
        self.assertEqual(token.tolist(), [0, 0, 0, 1])
        self.assertEqual(mx.isnan(logprob).tolist(), [True, True, True, False])

    def test_float32_and_xtc_run_mlx_chain(self):
        before = mlx_kd.sampling_counts()["chain"]
        mx.eval(mlx_kd.sample(mx.zeros((1, 100)), top_p=0.5))
        mx.eval(mlx_kd.sample(mx.zeros((1, 100), mx.float16), xtc_probability=0.5))
        self.assertEqual(mlx_kd.sampling_counts()["chain"], before + 2)


if __name__ == "__main__":
    unittest.main()
