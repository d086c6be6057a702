"""What kd tune-model runs in Python to try packs in a model: weights, layers and turns, with stand-ins for the operators."""
import contextlib
import io
import json
import os
import statistics
import time
import unittest
from unittest import mock

from tests.support.package import PackageTest

import mlx.core as mx
from mlx.utils import tree_flatten

import mlx_kd
from mlx_kd import _operators, model_trial
from tests.support import mlx_lm_models as models
from tests.support.stand_ins import stand_ins

LLAMA = {**models.SIZES, **models.CONFIGS["llama"], "model_type": "llama", "tie_word_embeddings": False,
         "num_hidden_layers": 12, "quantization": {"group_size": 32, "bits": 4}}
NAP_S = 0.002


class ModelTrial(PackageTest):
    def setUp(self):
        context = contextlib.ExitStack()
        self.addCleanup(context.close)
        context.enter_context(mock.patch.dict(os.environ))
        context.enter_context(stand_ins())
        self.addCleanup(mlx_kd.reset_settings)
        self.used = []
        self.context = context

    def trial(self, passes, code=0, **changes):
        folder = self.folder()
        (folder / "config.json").write_text(json.dumps({**LLAMA, "num_hidden_layers": 2, **changes}))
        request = {"config": str(folder / "config.json"), "dtype": "float16", "seed": 0, "out": str(folder / "times.json"),
                   "passes": [{"seconds": 0.1, "context": 0, **one} for one in passes]}
        errors = io.StringIO()
        with contextlib.redirect_stderr(errors):
            self.assertEqual(model_trial.main(json.dumps(request)), code, errors.getvalue())
        self.errors = errors.getvalue()
        return json.loads((folder / "times.json").read_text()) if code == 0 else None

    def test_a_pack_whose_kernel_takes_longer_in_the_model_is_slower_in_all_passes(self):
        real = _operators.qmatvec

        def qmatvec(*arguments, **named):
            if self.used[-1] == "slow":
                time.sleep(NAP_S)
            return real(*arguments, **named)
        self.context.enter_context(mock.patch.object(_operators, "qmatvec", qmatvec))
        self.context.enter_context(mock.patch.object(model_trial, "use", self.used.append))
        steps, more = self.trial([{"tokens": 1, "context": 20, "packs": ["", "slow"]},
                                   {"tokens": 3, "context": 20, "packs": ["slow", ""]}])
        for fast, slow in (steps, more[::-1]):
            self.assertEqual(len(fast), len(slow))
            self.assertGreaterEqual(len(fast), model_trial.LEAST)
            gain = statistics.median(b - a for a, b in zip(fast, slow))
            self.assertGreater(gain, 1e6 * NAP_S)  # us, more than one call a step
        self.assertEqual(set(self.used), {"", "slow"})

    def test_prompts_are_read_into_a_new_cache(self):
        lengths = []
        real = model_trial.Model.read

        def read(self, tokens, cache):
            lengths.append((cache[0].offset, tokens.shape[1]))
            real(self, tokens, cache)
        self.context.enter_context(mock.patch.object(model_trial.Model, "read", read))
        (times,) = self.trial([{"tokens": 40, "packs": [""]}])
        self.assertGreaterEqual(len(times[0]), model_trial.LEAST)
        self.assertEqual(set(lengths), {(0, 40)})

    def test_steps_leave_the_cache_as_long_as_it_was(self):
        model = model_trial.Model(LLAMA, mx.float16, 2)
        sample = model.sampler(2, 30)
        for _ in range(3):
            self.assertGreater(sample(""), 0)
            self.assertEqual(model.caches[30][0].offset, 30)

    def test_a_model_has_few_layers_and_the_sizes_of_its_config(self):
        config = {**LLAMA, "layer_types": [str(number) for number in range(12)], "other": [1, 2]}
        few = model_trial.with_layers(config, 4)
        self.assertEqual((few["num_hidden_layers"], few["layer_types"], few["other"]), (4, ["0", "1", "2", "3"], [1, 2]))
        self.assertIs(model_trial.with_layers(config, 12), config)
        model = model_trial.Model(LLAMA, mx.float16, 2).model
        self.assertEqual(len(model.layers), 2)
        self.assertEqual(model.layers[0].mlp.down_proj.weight.shape, (128, 256 * 4 // 32))

    def test_weights_are_finite_and_layers_share_what_memory_does_not_hold(self):
        for memory, distinct in ((1 << 30, 8), (1, 1)):
            with mock.patch.object(model_trial, "MEMORY", memory):
                model = model_trial.Model(LLAMA, mx.float16, 8).model
            self.assertEqual(len({id(layer.mlp.down_proj.weight) for layer in model.layers}), distinct)
            logits = model(mx.array([[1, 2, 3]]))
            self.assertTrue(mx.isfinite(logits).all().item())
            self.assertGreater(mx.std(logits.astype(mx.float32)).item(), 0)
            self.assertTrue(all(mx.isfinite(array).all().item() for _, array in tree_flatten(model.parameters())
                                if array.dtype != mx.uint32))

    def test_code_that_cannot_be_run_is_said_in_a_line(self):
        self.trial([{"tokens": 1, "context": 8, "packs": [""]}], code=1, model_type="none")
        self.assertRegex(self.errors, r"^ModuleNotFoundError: .*\n$")


if __name__ == "__main__":
    unittest.main()
