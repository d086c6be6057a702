"""What programs around a patched model do: speculative decoding, a server's threads, training; and bad settings."""
import threading
import unittest

from tests.support.package import LONG, python

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten

import mlx_kd
from tests.support import mlx_lm_models as models
from tests.support.patched import Patching, quiet

GENERATE = models.importlib.import_module("mlx_lm.generate")


class Generation(Patching):
    def test_speculative_decoding_gives_the_tokens_of_the_model_with_either_patched(self):
        model, draft = models.make("llama", dtype=mx.float32), models.make("llama", dtype=mx.float32, num_hidden_layers=1)

        def tokens():
            steps = GENERATE.speculative_generate_step(mx.array([5, 6, 7, 8]), model, draft, num_draft_tokens=3,
                                                       max_tokens=12)
            return [int(token) for token, _, _ in steps]

        wanted = tokens()
        self.assertEqual(len(wanted), 12)
        for one in (draft, model):  # then both
            self.patch(one)
            self.calls.clear()
            self.assertEqual(tokens(), wanted)
            self.assertTrue(self.calls["qmatvec_qkv"])

    def test_a_thread_that_serves_batches_as_a_server_does(self):
        model = models.make("qwen3", dtype=mx.float32)
        prompts = [[1, 2, 3], list(range(25)), [9]]
        wanted = models.tokens_of_batch(model, prompts)
        self.patch(model)
        self.calls.clear()
        found, failed = [], []

        def serve():
            try:
                found.extend(models.tokens_of_batch(model, prompts) for _ in range(2))
            except Exception as error:
                failed.append(error)

        thread = threading.Thread(target=serve)
        thread.start()
        thread.join()
        self.assertEqual((failed, found), ([], [wanted, wanted]))
        self.assertTrue(self.calls["qmatvec_qkv"])


class Training(unittest.TestCase):
    """With the operators themselves: gradients go through their MLX forms."""

    def gradients(self, family, bits, patched):
        model = models.make(family, dtype=mx.float32, bits=bits)
        for module in model.modules():
            if "e_score_correction_bias" in module:  # its weights are zeros: all experts would be equal
                module.weight = mx.random.normal(module.weight.shape, key=mx.random.key(1))
        tokens = mx.array([[3, 1, 4, 1, 5, 9, 2, 6]])

        def loss(model):
            return nn.losses.cross_entropy(model(tokens[:, :-1]), tokens[:, 1:]).mean()

        if patched:
            self.addCleanup(mlx_kd.unpatch, model)
            self.assertTrue(quiet(mlx_kd.patch, model, verify=False).replaced)
        model.train()  # routers stay with MLX then
        return dict(tree_flatten(nn.value_and_grad(model, loss)(model)[1]))

    def check(self, family, bits):
        ours, theirs = (self.gradients(family, bits, patched) for patched in (True, False))
        self.assertEqual(ours.keys(), theirs.keys())
        for name, gradient in theirs.items():
            scale = mx.max(mx.abs(gradient)).item()
            self.assertLessEqual(mx.max(mx.abs(ours[name] - gradient)).item(), 2e-3 * scale + 1e-7, (family, name))

    @unittest.skipUnless(LONG, "compiles a kernel per operator (MLX_KD_LONG=1)")
    def test_gradients_of_all_weights_are_those_without_a_patch(self):
        for family in models.CONFIGS:
            for bits in (4, 16):  # quantised weights have none; norms and what lies before the experts have
                with self.subTest(family, bits=bits):
                    self.check(family, bits)

    def test_a_kernel_of_quantised_weights_has_the_gradient_of_its_input_alone(self):
        self.addCleanup(mlx_kd.reset_settings)
        mlx_kd.configure(default_kernels=["qmatvec"])
        x, weights = mx.random.normal((2, 64)), mx.quantize(mx.random.normal((48, 64)), group_size=32, bits=4)
        ours = mx.grad(lambda x: mx.square(mlx_kd.qmatvec(x, *weights)).sum())(x)
        theirs = mx.grad(lambda x: mx.square(mx.quantized_matmul(x, *weights, group_size=32, bits=4)).sum())(x)
        self.assertLess(mx.max(mx.abs(ours - theirs)).item(), 1e-3 * mx.max(mx.abs(theirs)).item())


class Settings(unittest.TestCase):
    def test_a_variable_that_is_neither_on_nor_off_is_an_error_of_the_patch_and_nothing_has_changed(self):
        code = ("import mlx.core as mx, mlx.nn as nn, mlx_kd\n"
                "net = nn.Sequential(nn.RMSNorm(48))\n"
                "try:\n    mlx_kd.patch(net, ops=['rmsnorm'])\n"
                "except ValueError as error:\n    print(error)\n"
                "print(type(net.layers[0]) is nn.RMSNorm)")
        result = python(code, MLX_KD_USE_DISCOVERED_KERNELS="maybe")
        self.assertEqual(result.returncode, 0, result.stderr)
        message, unchanged = result.stdout.splitlines()
        self.assertIn("MLX_KD_USE_DISCOVERED_KERNELS", message)
        self.assertIn("maybe", message)
        self.assertEqual(unchanged, "True")


if __name__ == "__main__":
    unittest.main()
