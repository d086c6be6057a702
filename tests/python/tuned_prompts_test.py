"""kd tune-model's pins serve prompts of every length up to four times --prompt, and caches as they grow (long)."""
import json
import subprocess
import sys
import unittest

from tests.support.package import LONG, PREFIX, PackageTest, environment

if not LONG:
    print("skipped: a tuning of a whole model is long (./kd test --long)")
    sys.exit(77)

import mlx.core as mx  # noqa: E402

import mlx_kd  # noqa: E402
from tests.support import mlx_lm_models as models  # noqa: E402
from tests.support.patched import quiet  # noqa: E402

LENGTHS = (1, 3, 17, 37, 511, 2049)
CONTEXTS = (5, 64, 65, 700, 2049)
# Those whose kernels are many times as fast as MLX's whatever else the machine does: they have pins for certain.
STEP, PROMPT = {"qmatvec", "qmatvec_qkv", "qmatvec_gate_up"}, {"qgemm"}


class Prompts(PackageTest):
    def tuned(self):
        folder = self.folder()
        config = {**models.SIZES, "model_type": "llama", "tie_word_embeddings": False, "dtype": "bfloat16",
                  "quantization": {"group_size": 32, "bits": 4}}
        (folder / "config.json").write_text(json.dumps(config))
        done = subprocess.run([PREFIX / "bin" / "kd", "tune-model", folder / "config.json", "--time-budget", "30s",
                               "--out", folder / "tuned"], capture_output=True, text=True, env=environment())
        self.assert_succeeds(done)
        return folder / "tuned" / "pack.json"

    def counts(self, report, run):
        """Calls of each operator by what ran them, of one pass."""
        report.start()
        mx.eval(run())
        return report.hits()

    def test_products_of_all_prompts_and_steps_hit_pins(self):
        model = models.make("llama", tie_word_embeddings=False, max_position_embeddings=4096)
        report = quiet(mlx_kd.patch, model, self.tuned(), verify=False)
        self.addCleanup(mlx_kd.reset_settings)
        self.addCleanup(mlx_kd.unpatch, model)
        make_cache = models.module("cache").make_prompt_cache
        for length in LENGTHS:
            ids = mx.array([[7 * i % 300 for i in range(length)]], mx.uint32)
            hits = self.counts(report, lambda: model(ids, cache=make_cache(model)))
            called = STEP if length <= 16 else PROMPT
            self.assertLessEqual(called, set(hits), (length, hits))
            for op in (STEP | PROMPT) & set(hits):
                # A prompt's logits, of all of its tokens here, are a product that mlx-lm makes of the last token alone.
                heads = 1 if op == "qgemm" else 0
                self.assertGreater(hits[op]["pinned"], 0, (length, op, hits))
                self.assertLessEqual(hits[op]["default"], heads, (length, op, hits))
        cache, at = make_cache(model), 0
        for length in CONTEXTS:
            mx.eval(model(mx.zeros((1, length - at), mx.uint32), cache=cache))
            hits = self.counts(report, lambda: model(mx.array([[5]], mx.uint32), cache=cache))
            at = length + 1
            for op in STEP:
                self.assertEqual((hits[op]["pinned"] > 0, hits[op]["default"]), (True, 0), (length, op, hits))


if __name__ == "__main__":
    unittest.main()
