"""What kd tune-model plans for a config is what a patched model of that config calls: operators, sizes and how often.

By the config alone, and by the model's code, which the shape log sees.
"""
import collections
import contextlib
import io
import json
import os
import subprocess
import sys
import unittest
from unittest import mock

from tests.support.package import PREFIX, PackageTest, environment

import mlx.core as mx

import mlx_kd
from mlx_kd import _core, _operators, skeleton
from mlx_kd.patching import operators, proof
from tests.support import mlx_lm_models as models
from tests.support.stand_ins import ALL

PROMPT = 40
STAND_INS = {function.__name__: function for function in ALL}


def size_of(text):
    return {name: int(value) for name, value in (item.split("=") for item in text.split(","))}


def array_count(function):
    return str(function.__nb_signature__[0][0]).split("*", 1)[0].count(": mlx.core.array")


class Calls(contextlib.ExitStack):
    """Counts (operator, size) of all calls; the operators are stand-ins, so that nothing is compiled."""

    def __enter__(self):
        super().__enter__()
        self.log = collections.Counter()
        known = set(_core.op_names())
        for name in operators.KNOWN:
            if name in known:
                real = getattr(_operators, name)
                self.enter_context(mock.patch.object(_operators, name, self.counting(name, real)))
        self.enter_context(mock.patch.object(proof.Proof, "why_not", self.proved))
        return self

    @staticmethod
    def proved(_, plan, module):
        plan.prompts = bool(getattr(plan, "many_rows", str)())
        return ""

    def counting(self, name, real):
        def call(*arguments, **numbers):
            given = list(arguments) + [None] * (array_count(real) - len(arguments))
            arrays = [array if array is not None else mx.array([], mx.float32) for array in given]
            size = size_of(_core.explain(name, arrays, {key: float(value) for key, value in numbers.items()})["shape"])
            self.log[name, tuple(sorted(size.items()))] += 1
            return STAND_INS.get(name, real)(*arguments, **numbers)
        return call

    def of(self, model, cache, tokens):
        self.log.clear()
        mx.eval(model(mx.array([tokens]), cache=cache))
        return dict(self.log)


class Plan(PackageTest):
    maxDiff = None

    def config(self, family, bits):
        config = {**models.SIZES, **models.CONFIGS[family], "model_type": family, "tie_word_embeddings": False}
        return {**config, "quantization": {"group_size": 32, "bits": bits}} if bits < 16 else config

    def called(self, family, bits):
        with Calls() as calls, contextlib.redirect_stderr(io.StringIO()):
            model = models.make(family, bits=16, tie_word_embeddings=False)
            skeleton.quantise(model, self.config(family, bits))
            mlx_kd.patch(model)
            self.addCleanup(mlx_kd.reset_settings)
            from mlx_lm.models.cache import make_prompt_cache
            cache = make_prompt_cache(model)
            calls.of(model, cache, [1])
            decode = calls.of(model, cache, [2])
            prompt = calls.of(model, cache, list(range(PROMPT)))
            mlx_kd.unpatch(model)
            return decode, prompt

    def plan(self, model, *options, **variables):
        """Of a config, or of an id."""
        path = model
        if not isinstance(model, str):
            path = self.folder() / "config.json"
            path.write_text(json.dumps(model))
        return subprocess.run([PREFIX / "bin" / "kd", "tune-model", path, "--plan", "--rows", "1", "--prompt",
                               str(PROMPT), *options], capture_output=True, text=True, env=environment(**variables))

    def planned(self, result):
        plans = {}, {}
        for line in self.assert_succeeds(result).splitlines()[1:]:
            use, calls, sizes = line.split()[:3]
            if calls == "0":  # of other lengths than a pass has
                continue
            size = size_of(sizes.rstrip(";"))
            plans[use.endswith(".prompt")][use.split(".")[0], tuple(sorted(size.items()))] = int(calls)
        return plans

    def check(self, family, bits):
        decode, prompt = self.called(family, bits)
        for planned, called in zip(self.planned(self.plan(self.config(family, bits), "--config-only")), (decode, prompt)):
            self.assertEqual(canonical(planned), canonical(called))

    def with_code(self, config, *options):
        """The plan by a Python that has mlx-lm, which may be its code alone."""
        path = os.pathsep.join([environment()["PYTHONPATH"], str(models.FOLDER)])
        return self.plan(config, *options, MLX_KD_PYTHON=sys.executable, PYTHONPATH=path)

    def logged(self, family, bits):
        """What the shape log sees of a model that computes, with the operators themselves."""
        log = self.folder() / "log"
        with mock.patch.dict(os.environ, MLX_KD_SHAPE_LOG=str(log)), contextlib.redirect_stderr(io.StringIO()), \
                mock.patch.object(mlx_kd.patching, "use_pins", lambda *_: ""), \
                mock.patch.object(proof.Proof, "why_not", Calls.proved):
            mlx_kd.reset_settings()
            self.addCleanup(mlx_kd.reset_settings)
            model = models.make(family, bits=16, tie_word_embeddings=False)
            skeleton.quantise(model, self.config(family, bits))
            mlx_kd.patch(model)
            from mlx_lm.models.cache import make_prompt_cache
            found = []
            for tokens in ([2], list(range(PROMPT))):
                cache = make_prompt_cache(model)
                if tokens == [2]:
                    mx.eval(model(mx.array([[1]]), cache=cache))
                _core.flush_shape_log()
                before = log.stat().st_size
                mx.eval(model(mx.array([tokens]), cache=cache))
                _core.flush_shape_log()
                counts = collections.Counter()
                for line in log.read_bytes()[before:].splitlines():
                    one = json.loads(line)
                    counts[one["op_name"], tuple(sorted(one["shape_signature"].items()))] += one["count"]
                found.append(counts)
            mlx_kd.unpatch(model)
        return found

    def check_code(self, family, bits=4):
        result = self.with_code(self.config(family, bits))
        self.assertNotIn("was not run", result.stderr)
        for planned, called in zip(self.planned(result), self.logged(family, bits)):
            self.assertEqual(canonical(planned), canonical(called))
        return result.stderr

    def test_the_code_of_a_llama(self):
        said = self.check_code("llama")
        self.assertIn("attention.code.prompt: 2 calls by the model's code of S=40", said)
        self.assertIn("qk_norm_rope_append", said)  # a whole layer is one call there, which appends too

    def test_the_code_of_experts(self):
        self.assertIn("gather_qmatvec.model: 1 call by the model's code, and the config tells 2", self.check_code("qwen3_moe"))

    def test_the_code_of_latent_attention(self):
        self.assertIn("attention.code: 2 calls by the model's code of S=4096", self.check_code("glm4_moe_lite"))

    def test_the_code_of_convolutions(self):
        self.check_code("lfm2")

    def test_the_code_of_followed_models(self):
        experts = "gather_qmatvec_gate_up.model"
        for model, called in (("GLM-4.7-Flash-4bit", "attention.code"), ("Qwen3-30B-A3B-4bit", experts),
                              ("LFM2-8B-A1B-4bit", experts)):
            result = self.with_code("mlx-community/" + model)
            self.assertNotIn("was not run", result.stderr)
            self.assertIn(called, self.assert_succeeds(result))

    def test_code_that_cannot_be_run_is_said_and_the_config_counts(self):
        for config, python, why in ((self.config("llama", 4), "/none/python", "cannot be started"),
                                    ({**self.config("llama", 4), "model_type": "none"}, None, "No module named"),
                                    ({**self.config("llama", 4), "rms_norm_eps": None}, None, "Error")):
            result = self.plan(config, MLX_KD_PYTHON=python) if python else self.with_code(config)
            self.assertIn("The model's code was not run", result.stderr)
            self.assertIn(why, result.stderr)
            self.assertEqual(self.planned(result), self.planned(self.plan(config, "--config-only")))

    def test_a_quantised_llama(self):
        self.check("llama", 4)

    def test_a_llama_that_is_not_quantised(self):
        self.check("llama", 16)

    def test_norms_of_heads(self):
        self.check("qwen3", 4)


def canonical(calls):
    """Without lengths of the cache, which grow, and without a prompt's logits: mlx-lm makes those of the last token."""
    result = collections.Counter()
    for (name, size), count in calls.items():
        size = dict(size)
        if "rows" in size:
            size.pop("N", None)  # rows x D, which no call states
        if "S" in size:
            size["S"] = 0
            if size["M"] > 1:  # a prompt's attention takes its default kernel
                continue
        if size.get("M", 1) > 1 and size.get("N") == models.SIZES["vocab_size"]:
            continue
        result[name, tuple(sorted(size.items()))] += count
    return sorted(f"{count} {name} " + ",".join(f"{dim}={value}" for dim, value in size) for (name, size), count in result.items())


if __name__ == "__main__":
    unittest.main()
