"""Convolutions with a filter for each channel in a patched model have the bits of MLX's."""
import unittest
from unittest import mock

from tests.support.package import PackageTest

import mlx.core as mx
import mlx.nn as nn

import mlx_kd
from mlx_kd.patching import proof
from tests.support.patched import quiet


class Net(nn.Module):
    def __init__(self, dtype, **options):
        super().__init__()
        mx.random.seed(2)
        self.conv = nn.Conv1d(48, 48, 4, **{"groups": 48, "bias": False, **options})
        self.set_dtype(dtype)
        mx.eval(self.parameters())

    def __call__(self, x):
        return self.conv(x)


class Convolutions(PackageTest):
    def patch(self, net):
        self.addCleanup(mlx_kd.unpatch, net)
        self.addCleanup(mlx_kd.reset_settings)
        with mock.patch.object(proof, "speed_up", lambda *_: 2.0):
            return quiet(mlx_kd.patch, net)

    def test_the_bits_are_those_of_mlx_for_all_lengths_and_types(self):
        for dtype in (mx.float32, mx.bfloat16, mx.float16):
            for bias in (False, True):
                net = Net(dtype, bias=bias)
                inputs = [mx.random.normal((2, length, 48)).astype(dtype) for length in (4, 5, 40)]
                before = [net(x) for x in inputs]
                mx.eval(before)
                self.assertEqual([one.runs for one in self.patch(net).replaced], ["a sum of products"])
                for x, wanted in zip(inputs, before):
                    found = net(x)
                    self.assertEqual(found.dtype, wanted.dtype)
                    self.assertTrue(mx.array_equal(found, wanted).item(), (dtype, bias, x.shape))

    def test_other_convolutions_stay_as_they_are(self):
        for options in ({"groups": 1}, {"groups": 24}, {"stride": 2}, {"padding": 1}, {"dilation": 2}):
            report = self.patch(Net(mx.float32, **options))
            self.assertEqual([(one.path, one.why) for one in report.left],
                             [("conv", "no replacement for modules of its structure")], options)


if __name__ == "__main__":
    unittest.main()
