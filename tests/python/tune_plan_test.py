"""What kd tune-model plans for a config is what a patched model of that config calls: operators, sizes and how often."""
import collections
import contextlib
import io
import json
import subprocess
import unittest
from unittest import mock

from tests.support.package import PREFIX, PackageTest, environment

import mlx.core as mx

import mlx_kd
from mlx_kd import _core, _operators
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

    def called(self, family, bits):
        with Calls() as calls, contextlib.redirect_stderr(io.StringIO()):
            model = models.make(family, bits=bits, tie_word_embeddings=False)
            mlx_kd.patch(model)
            self.addCleanup(mlx_kd.reset_settings)
            from mlx_lm.models.cache import make_prompt_cache
            cache = make_prompt_cache(model)
            calls.of(model, cache, [1])
            decode = calls.of(model, cache, [2])
            prompt = calls.of(model, cache, list(range(PROMPT)))
            mlx_kd.unpatch(model)
            return decode, prompt

    def planned(self, family, bits):
        config = {**models.SIZES, **models.CONFIGS[family], "model_type": family, "tie_word_embeddings": False}
        if bits < 16:
            config["quantization"] = {"group_size": 32, "bits": bits}
        path = self.folder() / "config.json"
        path.write_text(json.dumps(config))
        result = subprocess.run([PREFIX / "bin" / "kd", "tune-model", path, "--plan", "--rows", "1", "--prompt",
                                 str(PROMPT)], capture_output=True, text=True, env=environment())
        plans = {}, {}
        for line in self.assert_succeeds(result).splitlines()[1:]:
            use, calls, sizes = line.split()[:3]
            size = size_of(sizes.rstrip(";"))
            plans[use.endswith(".prompt")][use.split(".")[0], tuple(sorted(size.items()))] = int(calls)
        return plans

    def check(self, family, bits):
        decode, prompt = self.called(family, bits)
        for planned, called in zip(self.planned(family, bits), (decode, prompt)):
            self.assertEqual(canonical(planned), canonical(called))

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
