"""kd promote's Python: what it judges, keeps, writes and refuses, on a tiny model with stand-ins for the operators."""
import contextlib
import errno
import io
import json
import os
import unittest
from unittest import mock

from tests.support.package import PackageTest, python

import mlx.core as mx
from mlx.utils import tree_flatten

import mlx_kd
from mlx_kd import promotion
from mlx_kd.patching import proof
from mlx_kd.promotion import judge, packs, sides, trial
from tests.support import mlx_lm_models as models
from tests.support.stand_ins import stand_ins

PIN = {"candidate_id": "rmsnorm_0123456789abcdef", "shape": "rows=1,D=128", "hits": 0}
ENTRY = {"candidate_id": PIN["candidate_id"], "key": {"op_name": "rmsnorm", "shape_signature": {"rows": 1, "D": 128}},
         "metrics": {"speedup_lo": 1.5}}


class Promotion(PackageTest):
    def setUp(self):
        self.context = contextlib.ExitStack()
        self.addCleanup(self.context.close)
        self.context.enter_context(stand_ins())
        self.replace(proof, "speed_up", lambda *_: 2.0)
        self.replace(sides, "seconds_a_token", lambda model: 0.01)  # a fast MLX, whatever the machine does
        self.hits = 0
        self.model = models.make("llama")
        self.replace(promotion, "load", lambda path: self.model)
        self.replace(packs, "pin_hits", self.next_hits)
        self.replace(packs, "pin_keys", lambda: {0: PIN})
        self.replace(mlx_kd, "stats", lambda: {"pins": [PIN]})
        self.replace(mlx_kd.patching, "use_pins", lambda *_: "a pack")
        self.written = []
        self.replace(packs, "write_pack", lambda pack, kept, out: self.written.append((kept, out)))
        self.pack = self.folder() / "pack.json"
        self.pack.write_text(json.dumps({"entries": [ENTRY]}))
        self.addCleanup(mlx_kd.reset_settings)

    def replace(self, owner, name, value):
        return self.context.enter_context(mock.patch.object(owner, name, value))

    def next_hits(self):
        self.hits += 1
        return {0: self.hits}

    def promote(self, code=0, **changes):
        request = {"pack": str(self.pack), "model": "PATH", "out": "", "max_tokens": 4, "runs": 2,
                   "require_identical": False, "time_budget_s": 60, "seed": 0, "json": True, **changes}
        out, errors = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
            status = promotion.main(json.dumps(request))
        self.errors = errors.getvalue()
        self.assertEqual(status, code, self.errors)
        return json.loads(out.getvalue()) if out.getvalue() else None

    def faster(self, factor):
        runs = iter([sides.Run(speed, 100) for speed in (1.0, factor, factor, 1.0)] * 4)  # in turn
        self.replace(sides, "timed", lambda *_: next(runs))


class Judging(Promotion):
    def setUp(self):
        super().setUp()
        self.replace(trial, "POSITIONS", 12)

    def test_pins_that_are_called_right_and_faster_are_promoted_with_evidence(self):
        self.faster(3.0)
        evidence = self.promote()
        self.assertTrue(evidence["passed"])
        self.assertEqual([one["op"] for one in evidence["promoted"]], ["rmsnorm"])
        self.assertEqual(evidence["logits"]["positions"], 12)
        self.assertLessEqual(evidence["logits"]["pins"]["rms"], 1.25 * evidence["logits"]["mlx"]["rms"] + 1e-5)
        self.assertEqual((evidence["speed"]["lo"], evidence["speed"]["hi"]), (3.0, 3.0))
        self.assertEqual(self.written[0][1], self.pack.parent / "promoted.json")
        written = json.loads((self.pack.parent / "promoted.evidence.json").read_text())
        self.assertEqual(written["speed"], evidence["speed"])

    def test_a_whole_that_is_not_faster_promotes_nothing(self):
        self.faster(0.9)
        evidence = self.promote(code=1)
        self.assertEqual((evidence["passed"], evidence["promoted"], self.written), (False, [], []))
        self.assertIn("0.90 to 0.90 times as fast as MLX", self.errors)

    def test_a_pin_that_no_step_calls_is_left(self):
        self.faster(3.0)
        self.replace(packs, "pin_hits", lambda: {0: 7})
        evidence = self.promote(code=1)
        self.assertEqual(evidence["left"][0]["why"], "neither a step nor a prompt of this model called it")

    def test_wrong_logits_promote_nothing(self):
        self.faster(3.0)
        forced = sides.forced_logits
        state = iter((0.0, 1.0))  # MLX first
        self.replace(sides, "forced_logits", lambda *given: forced(*given) + next(state))
        evidence = self.promote(code=1)
        self.assertIn("from float32", evidence["failed"][0])
        self.assertEqual(self.written, [])

    def several(self, count):
        """A pack of so many pins, each of which is called; the trial of a pack sees which it has."""
        ids = [f"rmsnorm_{number:016x}" for number in range(count)]
        self.pack.write_text(json.dumps({"entries": [{**ENTRY, "candidate_id": one} for one in ids]}))
        self.replace(packs, "pin_keys", lambda: {i: {**PIN, "candidate_id": one} for i, one in enumerate(ids)})
        self.replace(packs, "pin_hits", lambda: dict.fromkeys(range(count), self.next_hits()[0]))
        self.tried = []
        self.replace(proof.Proof, "why_not", lambda *_: "")  # once is enough

        def use(pack, operators):
            self.tried.append([entry["candidate_id"] for entry in json.loads(pack.read_text())["entries"]])
            return "a pack"

        self.replace(mlx_kd.patching, "use_pins", use)
        return ids

    def wrong_with(self, *bad):
        forced = sides.forced_logits
        patched = mlx_kd.patching.classes.is_patched
        self.replace(sides, "forced_logits", lambda model, text: forced(model, text) + float(
            any(map(patched, model.modules())) and any(one in self.tried[-1] for one in bad)))

    def test_pins_that_do_not_hold_are_found_by_halves_and_the_others_are_promoted(self):
        self.faster(3.0)
        ids = self.several(7)
        self.wrong_with(ids[2], ids[5])
        evidence = self.promote()
        self.assertEqual([one["candidate_id"] for one in evidence["promoted"]], [ids[i] for i in (0, 1, 3, 4, 6)])
        self.assertEqual([(one["candidate_id"], one["why"][:39]) for one in evidence["left"]],
                         [(ids[i], "with it the model does not hold: its lo") for i in (2, 5)])
        self.assertEqual(len(self.written[0][0]), 5)
        self.assertIn("from float32", evidence["trials"][0]["failed"][0])
        self.assertEqual((evidence["trials"][-1]["failed"], evidence["failed"]), ([], []))

    def test_if_every_pin_is_wrong_nothing_is_promoted(self):
        self.faster(3.0)
        self.wrong_with(*self.several(3))
        evidence = self.promote(code=1)
        self.assertEqual((evidence["promoted"], self.written), ([], []))
        self.assertIn("from float32", evidence["failed"][0])

    def test_other_tokens_are_listed_and_refused_only_on_request(self):
        self.faster(3.0)
        texts = [([5, 6, 7], [0.5, 0.25, 1.0]), ([5, 9, 7], [0.5, 0.25, 1.0])] * 2  # MLX first
        self.replace(sides, "greedy", lambda *_: texts.pop(0))
        first = self.promote()["tokens"]["first_difference"]
        self.assertEqual(first, {"position": 1, "mlx": 6, "pins": 9, "gap": 0.25})
        self.assertIn("--require-identical", self.promote(code=1, require_identical=True)["failed"][0])


class SlowModels(Promotion):
    """MLX's side is sized to the time budget, and its steps are no more than what is stated."""

    def setUp(self):
        super().setUp()
        self.replace(trial, "LEAST_POSITIONS", 4)
        self.replace(proof.Proof, "why_not", lambda *_: "")
        own, patched = sides.step, mlx_kd.patching.classes.is_patched
        self.steps = 0

        def step(model, *given):
            self.steps += not any(map(patched, model.modules()))
            return own(model, *given)

        self.replace(sides, "step", step)

    def sized(self, per_token, timed=3.0, **changes):
        """The evidence, and the steps of the model without a patch, those of the timed runs aside."""
        self.replace(sides, "seconds_a_token", lambda model: per_token)
        self.faster(timed)
        self.steps = 0
        return self.promote(**changes), self.steps

    def test_a_quarter_of_the_time_for_logits_and_tokens_and_one_for_timed_runs(self):
        evidence, steps = self.sized(2.0, time_budget_s=80, max_tokens=200)
        self.assertEqual((evidence["logits"]["positions"], evidence["tokens"]["count"], evidence["speed"]["tokens"]),
                         (10, 6, 5))  # after five tokens of a prompt; in two runs
        self.assertEqual((steps, evidence["speed"]["mlx_steps"]), (10, 20))
        self.assertIn("MLX: 0.50 tokens/s: 10 positions, 6 tokens and 2 runs of 5 take MLX 40 s", self.errors)
        self.assertIn("pair 2 of 2: 5 tokens of each", self.errors)

    def test_the_least_where_a_token_takes_longer_than_the_budget(self):
        evidence, steps = self.sized(500.0, time_budget_s=60)
        self.assertEqual((evidence["logits"]["positions"], evidence["speed"]["tokens"], steps), (4, 2, 4))
        self.assertEqual(evidence["speed"]["mlx_steps"], 8)

    def test_no_more_tokens_than_were_asked_for(self):
        evidence, _ = self.sized(0.5, time_budget_s=100, max_tokens=3)
        self.assertEqual((evidence["tokens"]["count"], evidence["speed"]["tokens"]), (3, 3))
        self.assertEqual(evidence["logits"]["positions"], 50)

    def test_all_of_it_where_mlx_is_fast(self):
        self.replace(trial, "POSITIONS", 12)
        evidence, steps = self.sized(0.01, time_budget_s=1)
        self.assertEqual((evidence["logits"]["positions"], evidence["tokens"]["count"], evidence["speed"]["tokens"]),
                         (12, 4, 4))
        self.assertEqual(evidence["speed"]["mlx_steps"] - steps, 2 * 5)  # the timed runs

    def test_the_text_of_one_pass_is_the_prompt_and_what_mlx_adds_to_it(self):
        text, logits = sides.continued(self.model, [5, 6, 7], 8)
        tokens, gaps = sides.greedy(self.model, [5, 6, 7], 5)
        self.assertEqual((text, len(gaps)), ([5, 6, 7, *tokens], 5))
        self.assertEqual(logits.shape, (8, models.SIZES["vocab_size"]))
        self.assertTrue(mx.array_equal(logits, sides.forced_logits(self.model, text)).item())

    def test_a_timed_run_leaves_the_cache_that_it_starts_from(self):
        cache = sides.filled(self.model, [1, 2, 3])
        self.assertGreater(sides.timed(self.model, cache, 3, 2, 1).tokens_per_s, 0)
        self.assertEqual({one.offset for one in cache}, {3})


class Refusing(Promotion):
    def test_no_pin_of_the_pack_fits(self):
        self.replace(mlx_kd, "stats", lambda: {"pins": []})
        self.promote(code=2)
        self.assertIn("no entry of", self.errors)

    def test_mlx_lm_is_not_there(self):
        self.context.enter_context(mock.patch.dict("sys.modules", {"mlx_lm.models.cache": None}))
        self.promote(code=1)
        self.assertIn("-m pip install mlx-lm", self.errors)

    def test_a_variable_that_is_neither_on_nor_off(self):
        code = "import mlx_kd\ntry:\n    mlx_kd.settings()\nexcept ValueError as error:\n    print(error)"
        message = self.assert_succeeds(python(code, MLX_KD_USE_DISCOVERED_KERNELS="maybe")).strip()
        self.assertRegex(message, r"^\[\w+\] MLX_KD_USE_DISCOVERED_KERNELS is 'maybe': ")
        self.replace(mlx_kd, "settings", mock.Mock(side_effect=ValueError(message)))
        self.promote(code=2)
        self.assertEqual(self.errors, message + "\n")

    def test_a_model_whose_weights_are_damaged(self):
        self.replace(trial, "POSITIONS", 12)
        norm = self.model.model.norm
        norm.weight = mx.concatenate([mx.array([float("nan")], norm.weight.dtype), norm.weight[1:]])
        self.promote(code=2)
        self.assertRegex(self.errors, r"\[promote\] the logits of the model itself.* have NaN or infinity: its weights are")
        self.assertEqual(self.written, [])

    def test_a_full_disk_names_the_file(self):
        self.replace(trial, "POSITIONS", 12)
        self.faster(3.0)
        self.replace(packs.os, "replace", mock.Mock(side_effect=OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))))
        self.promote(code=1)
        self.assertRegex(self.errors, r"\[promote\] cannot write .*promoted.evidence.json \(No space left on device\): free "
                                      "some space")
        self.assertEqual([path.name for path in self.pack.parent.iterdir()], ["pack.json"])  # no part of a file

    def test_a_folder_that_cannot_be_written(self):
        self.replace(trial, "POSITIONS", 12)
        self.faster(3.0)
        self.promote(code=1, out=str(self.pack / "promoted.json"))
        self.assertRegex(self.errors, r"\[promote\] cannot write .*: free some space, or name another place with --out")

    def test_ctrl_c_writes_nothing(self):
        self.replace(trial, "POSITIONS", 12)
        self.replace(sides, "timed", mock.Mock(side_effect=KeyboardInterrupt))
        self.promote(code=130)
        self.assertEqual((self.written, [path.name for path in self.pack.parent.iterdir()]), ([], ["pack.json"]))

    def test_a_pack_that_is_none(self):
        for text in ("{}", "[]", "no json"):
            self.pack.write_text(text)
            with self.assertRaisesRegex(promotion.Misuse, "is not a pack"):
                packs.entries_of(self.pack)
        with self.assertRaisesRegex(promotion.Misuse, "there is no pack.json or best_kernels.json"):
            packs.pack_of(str(self.pack.parent / "nothing"))


class Loading(PackageTest):
    def test_a_model_that_is_not_there_or_not_whole(self):
        with self.assertRaisesRegex(promotion.Misuse, "there is no config.json"):
            promotion.load(str(self.folder()))
        with self.assertRaisesRegex(promotion.Misuse, "hf download"):
            promotion.load("org/none")

    def test_weights_that_do_not_fit_the_config(self):
        model, folder = models.make("llama", bits=16), self.folder()
        config = {**models.SIZES, "model_type": "llama", "hidden_size": 64}
        (folder / "config.json").write_text(json.dumps(config))
        model.save_weights(str(folder / "model.safetensors"))
        with self.assertRaisesRegex(promotion.Misuse, "cannot be loaded .*its weights and its config must fit"):
            promotion.load(str(folder))


class TheJudge(PackageTest):
    def test_it_computes_in_float32_with_the_weights_that_are_quantised(self):
        model = models.make("llama")
        twin = judge.judge_of(model)
        names = {type(module).__name__ for module in twin.modules()}
        self.assertIn("ExactLinear", names)
        tokens = mx.array([1, 2, 3])
        logits = judge.logits_of_text(twin, tokens)
        self.assertEqual(logits.dtype, mx.float32)
        near = judge.Distance(judge.logits_of_text(model, tokens), logits)
        self.assertLess(near.rms, 0.05 * float(mx.sqrt(mx.mean(mx.square(logits))).item()))
        self.assertEqual({type(module).__name__ for module in model.modules()},
                         {type(module).__name__ for module in models.make("llama").modules()})
        self.assertTrue(all(mx.array_equal(a, b).item() for (_, a), (_, b) in
                            zip(tree_flatten(model.parameters()), tree_flatten(models.make("llama").parameters()))))

    def test_it_is_the_dense_models_own_result_where_that_is_float32(self):
        model = models.make("qwen3", bits=16, dtype=mx.float32)
        tokens = mx.array([4, 5])
        self.assertEqual(judge.Distance(judge.logits_of_text(model, tokens),
                                        judge.logits_of_text(judge.judge_of(model), tokens)).maximum, 0)


if __name__ == "__main__":
    unittest.main()
