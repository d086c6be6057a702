"""kd tune-model's pins serve prompts of every length up to four times --prompt, and caches as they grow (long).

Experts and latent attention too, which the model's code tells and no config.
"""
import json
import os
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
CONTEXTS = (5, 64, 100, 700, 2049)
PROMPT = "qgemm"
EXPERTS = ("gather_qmatvec_gate_up", "expert_combine", "router")
STEP = ("qmatvec", "qmatvec_qkv", "qmatvec_gate_up")
BATCH = {"attention": "S"}  # whose range is an entry's rows_range, where it is not the first that is asked for


def is_served(entries, use, **values):
    """Whether a pin is for the size of a use with other values of some dims."""
    wanted = {**use["size"], **values}

    def holds(entry):
        size, ranges = entry["key"]["shape_signature"], dict(entry.get("ranges", {}))
        if "rows_range" in entry:
            ranges[BATCH.get(use["op"], next(iter(values)))] = entry["rows_range"]
        inside = (ranges.get(name, (number, number)) for name, number in size.items())
        return entry["key"]["op_name"] == use["op"] and all(
            lo <= wanted[name] <= hi for name, (lo, hi) in zip(size, inside))
    return any(map(holds, entries))


class Prompts(PackageTest):
    def tuned(self, family="llama", **more):
        folder = self.folder()
        config = {**models.SIZES, **more, "model_type": family, "tie_word_embeddings": False, "dtype": "bfloat16",
                  "quantization": {"group_size": 32, "bits": 4}}
        (folder / "config.json").write_text(json.dumps(config))
        path = os.pathsep.join([environment()["PYTHONPATH"], str(models.FOLDER)])  # of mlx-lm's code
        done = subprocess.run([PREFIX / "bin" / "kd", "tune-model", folder / "config.json", "--time-budget", "30s",
                               "--out", folder / "tuned"], capture_output=True, text=True,
                              env=environment(MLX_KD_PYTHON=sys.executable, PYTHONPATH=path))
        self.assert_succeeds(done)
        self.assertNotIn("was not run", done.stderr)
        self.check_trial(json.loads((folder / "tuned" / "report.json").read_text()))
        self.entries = json.loads((folder / "tuned" / "pack.json").read_text())["entries"]
        self.uses = json.loads((folder / "tuned" / "report.json").read_text())["uses"]
        return folder / "tuned" / "pack.json"

    def check_trial(self, report):
        """Winners are in the pack where they were not slower in the model than default kernels."""
        self.assertEqual(report["trial"]["why_not"], "")
        for index, trial in enumerate(report["trial"]["passes"]):
            self.assertGreaterEqual(trial["over_patch"]["rounds"], 6)
            self.assertLessEqual(set(trial["kept"]), set(trial["tried"]))
            if trial["kept"]:
                self.assertGreaterEqual(trial["pack"]["hi" if 0 < index < 4 else "ratio"], 1, trial)
        kept = set.union(*(set(trial["kept"]) for trial in report["trial"]["passes"]))
        self.assertLessEqual({use["name"] for use in report["uses"] if not use["is_default"]}, kept)

    def check(self, hits, op, at_most=0, prompt=False, **values):
        """That no call of an operator ran anything but a pin, if the pack has pins for all of them: on a busy machine a
        size may be without a claim."""
        uses = [use for use in self.uses if use["op"] == op and (op != "attention" or prompt == (use["pass"] == "prompt"))]
        if uses and all(is_served(self.entries, use, **values) for use in uses):
            self.assertGreater(hits[op]["pinned"], 0, (op, values, hits))
            self.assertLessEqual(hits[op]["default"], at_most, (op, values, hits))
            return True
        return False

    def counts(self, report, run):
        """Calls of each operator by what ran them, of one pass."""
        report.start()
        mx.eval(run())
        return report.hits()

    def patched(self, family, pack):
        model = models.make(family, tie_word_embeddings=False, max_position_embeddings=4096)
        report = quiet(mlx_kd.patch, model, pack, verify=False)
        self.addCleanup(mlx_kd.reset_settings)
        self.addCleanup(mlx_kd.unpatch, model)
        return model, report, models.module("cache").make_prompt_cache

    def hits_of_prompts(self, model, report, make_cache):
        """(length, hits) of a prompt of each length."""
        for length in LENGTHS:
            ids = mx.array([[7 * i % 300 for i in range(length)]], mx.uint32)
            yield length, self.counts(report, lambda ids=ids: model(ids, cache=make_cache(model)))

    def test_products_of_all_prompts_and_steps_hit_pins(self):
        model, report, make_cache = self.patched("llama", self.tuned())
        served, attended = [], []
        for length, hits in self.hits_of_prompts(model, report, make_cache):
            if length > 16:  # the logits, of all tokens here, are a product that mlx-lm makes of the last token alone
                served += [length] * self.check(hits, PROMPT, at_most=1, M=length)
            for op in STEP if length <= 16 else ():
                self.check(hits, op, M=length)
            attended += [length] * self.check(hits, "attention", prompt=length > 1, S=length, M=length)
        self.assertTrue(served, "no prompt has pins for all of its products")
        self.assertTrue([length for length in attended if length > 1], "no prompt has pins for its attention")
        cache, short, at = make_cache(model), make_cache(model), 0
        mx.eval(model(mx.zeros((1, 600), mx.uint32), cache=short))
        for length in CONTEXTS:
            mx.eval(model(mx.zeros((1, length - at), mx.uint32), cache=cache))
            hits = self.counts(report, lambda: model(mx.array([[5]], mx.uint32), cache=cache))
            at = length + 1
            for op in STEP:
                self.check(hits, op, M=1)
            self.check(hits, "attention", S=at)
        hits = self.counts(report, lambda: model(mx.zeros((1, 300), mx.uint32), cache=short))
        self.check(hits, "attention", prompt=True, S=900, M=300)  # a prompt that continues a cache

    def test_experts_and_latent_attention_hit_pins(self):
        pack = self.tuned("glm4_moe_lite", **models.CONFIGS["glm4_moe_lite"])
        model, report, make_cache = self.patched("glm4_moe_lite", pack)
        served = []
        for length, hits in self.hits_of_prompts(model, report, make_cache):
            served += [op for op in EXPERTS if self.check(hits, op, M=length)]
        self.assertGreater(len(served), len(EXPERTS), "few lengths have pins for experts")
        cache = make_cache(model)
        mx.eval(model(mx.zeros((1, 100), mx.uint32), cache=cache))
        hits = self.counts(report, lambda: model(mx.array([[5]], mx.uint32), cache=cache))
        self.assertTrue(self.check(hits, "attention", S=101))


if __name__ == "__main__":
    unittest.main()
