"""Quantised embeddings in a patched model: their rows by an operator, and their head as before."""
import unittest
from unittest import mock

from tests.support.package import PackageTest

import mlx.core as mx
import mlx.nn as nn

import mlx_kd
from mlx_kd.patching import proof
from tests.support.patched import quiet

FORMATS = (dict(bits=4, group_size=64, mode="affine"), dict(bits=8, group_size=32, mode="affine"),
           dict(bits=4, group_size=32, mode="mxfp4"), dict(bits=4, group_size=16, mode="nvfp4"))


class Net(nn.Module):
    def __init__(self, form, dtype=mx.bfloat16):
        super().__init__()
        mx.random.seed(4)
        self.embed = nn.Embedding(500, 128)
        self.set_dtype(dtype)
        nn.quantize(self, **form)
        mx.eval(self.parameters())

    def __call__(self, ids):
        return self.embed.as_linear(self.embed(ids))


class Embeddings(PackageTest):
    def patch(self, net, **options):
        self.addCleanup(mlx_kd.unpatch, net)
        self.addCleanup(mlx_kd.reset_settings)
        with mock.patch.object(proof, "speed_up", lambda *_: 2.0):
            return quiet(mlx_kd.patch, net, **options)

    def test_rows_of_all_formats_are_those_of_the_module_rounded_once(self):
        ids = mx.array([[3, 499, 0], [7, 7, 250]], mx.uint32)
        for form in FORMATS:
            net = Net(form)
            before = net.embed(ids)
            report = self.patch(net, ops=["qembedding"])
            self.assertEqual([(one.path, one.kind, one.runs) for one in report.replaced],
                             [("embed", "embedding", "qembedding")], report)
            after = net.embed(ids)
            self.assertEqual((after.shape, after.dtype), (before.shape, before.dtype))
            self.assertLess(mx.max(mx.abs(after - before)).item(), 0.01)
            self.assertEqual(report.hits()["qembedding"]["default"], 1)

    def test_an_embedding_that_is_the_head_too_runs_both(self):
        net = Net(FORMATS[0], mx.float32)
        ids = mx.array([[3, 499]], mx.uint32)
        before = net(ids)
        report = self.patch(net)
        self.assertEqual(sorted(one.kind for one in report.replaced), ["embedding", "head"])
        self.assertLess(mx.max(mx.abs(net(ids) - before)).item(), 1e-4)
        hits = report.hits()
        self.assertEqual((hits["qembedding"]["default"], hits["qmatvec"]["default"]), (1, 1))
        mlx_kd.unpatch(net)
        self.assertIs(type(net.embed), nn.QuantizedEmbedding)

    def test_ids_of_other_types_and_from_the_end(self):
        net = Net(FORMATS[0], mx.float32)
        self.patch(net, ops=["qembedding"])
        last = net.embed(mx.array([499], mx.uint32))
        for ids in (mx.array([499]), mx.array([-1]), mx.array([-1], mx.int64), mx.array([499], mx.uint16)):
            self.assertTrue(mx.array_equal(net.embed(ids), last).item(), ids)

    def test_new_weights_are_read_at_the_next_call(self):
        net, other = Net(FORMATS[0], mx.float32), Net(FORMATS[0], mx.float32)
        self.patch(net, ops=["qembedding"])
        other.embed.scales = 2 * other.embed.scales
        other.embed.biases = 2 * other.embed.biases
        ids = mx.array([1, 2], mx.uint32)
        before = net.embed(ids)
        net.embed.update(other.embed.parameters())
        self.assertTrue(mx.allclose(net.embed(ids), 2 * before).item())


if __name__ == "__main__":
    unittest.main()
