"""The xLSTM model: names and logits of NX-AI's, its states, its cache, its model file."""
import importlib.util
import json
import sys
import unittest

from tests.support import package, xlstm_models
from tests.support.mlstm_cases import sampled

import mlx.core as mx
from mlx.utils import tree_flatten

from mlx_kd.xlstm import nn as xnn


def model_of(mode, **more):
    model = xnn.Model(xnn.ModelArgs.from_dict({**xlstm_models.CONFIGS[mode], **more}))
    shapes = {name: x.shape for name, x in tree_flatten(model.parameters())}
    model.load_weights(list(xlstm_models.weights(mx, shapes).items()))
    return model


class Model(unittest.TestCase):
    tokens = mx.array(xlstm_models.TOKENS)

    def assert_near(self, found, wanted, most=1e-4):
        self.assertEqual(found.shape, wanted.shape)
        self.assertLessEqual(mx.abs(found - wanted).max().item(), most)

    def test_gives_the_logits_of_xlstm_large(self):
        wanted = json.loads(xlstm_models.FILE.read_text(encoding="utf-8"))
        for mode in ("single", "fused"):
            logits = model_of(mode)(self.tokens)
            self.assert_near(mx.array(sampled(logits.reshape(-1).tolist())), mx.array(wanted[mode]))

    def test_single_weights_serve_a_fused_model(self):
        single = model_of("single")
        fused = xnn.Model(xnn.ModelArgs.from_dict({**xlstm_models.CONFIGS["single"], "weight_mode": "fused"}))
        weights = {f"backbone.embeddings.{name.removeprefix('embedding.')}" if name.startswith("embedding.") else name: x
                   for name, x in tree_flatten(single.parameters())}
        fused.load_weights(list(fused.sanitize(weights).items()))
        self.assert_near(fused(self.tokens), single(self.tokens), 1e-5)

    def test_goes_on_from_its_cache(self):
        model = model_of("single")
        whole, cache = model(self.tokens), model.make_cache()
        rows = [model(self.tokens[:, begin:end], cache) for begin, end in ((0, 17), (17, 38), (38, 39), (39, 40))]
        self.assert_near(mx.concatenate(rows, 1), whole)
        self.assertEqual(cache[0].nbytes, sum(x.nbytes for x in cache[0].state))

    def test_padding_changes_nothing(self):
        model = model_of("single")
        wanted = model(self.tokens[:, :30])[0, -1]
        for side in ("left", "right"):
            cache = model.make_cache()
            padded = [[0] * 10 + xlstm_models.TOKENS[0][:30] if side == "left" else
                      xlstm_models.TOKENS[0][:30] + [0] * 10, xlstm_models.TOKENS[1]]
            for held in cache:
                held.prepare(**({"left_padding": [10, 0]} if side == "left" else {"lengths": [30, 40]}))
            logits = model(mx.array(padded), cache)
            self.assert_near(logits[0, -1 if side == "left" else 29], wanted)
            for held in cache:
                held.finalize()
            more = model(mx.array([[5], [6]]), cache)
            alone = model.make_cache()
            model(self.tokens[:1, :30], alone)
            self.assert_near(more[:1], model(mx.array([[5]]), alone))

    def test_caches_form_batches(self):
        model = model_of("single")
        one, two = model.make_cache(), model.make_cache()
        model(self.tokens[:1, :20], one)
        model(self.tokens[1:, :33], two)
        merged = [xnn.StateCache.merge(pair) for pair in zip(one, two)]
        both = model(mx.array([[5], [6]]), merged)
        self.assert_near(both[:1], model(mx.array([[5]]), one))
        self.assert_near(both[1:], model(mx.array([[6]]), two))
        second = [held.extract(1) for held in merged]
        for held in merged:
            held.filter(mx.array([1]))
        self.assert_near(model(mx.array([[9]]), merged), model(mx.array([[9]]), second))
        two[0].extend(one[0])
        self.assertEqual(two[0].value[0].shape[0], 2)
        with self.assertRaisesRegex(ValueError, r"\[mlstm\] an empty cache has no batch size"):
            one[0].extend(xnn.StateCache())
        self.assertTrue(xnn.StateCache.from_state([]).empty() and not one[0].is_trimmable())

    def test_trains(self):
        model = model_of("single")
        params = dict(tree_flatten(model.trainable_parameters()))

        def loss(given):
            model.load_weights(list(given.items()))
            return mx.mean(mx.logsumexp(model(self.tokens), -1) - model(self.tokens)[..., 3])
        value, grads = mx.value_and_grad(loss)(params)
        lower = loss({name: x - 0.02 * grads[name] for name, x in params.items()})
        self.assertLess(lower.item(), value.item())
        self.assertTrue(all(mx.isfinite(x).all() for x in grads.values()))

    def test_takes_the_published_config(self):
        args = xnn.ModelArgs.from_dict({
            "embedding_dim": 4096, "num_heads": 8, "num_blocks": 32, "vocab_size": 50304, "ffn_proj_factor": 2.667,
            "qk_dim_factor": 0.5, "v_dim_factor": 1.0, "gate_soft_cap": 15.0, "output_logit_soft_cap": 30.0,
            "weight_mode": "single", "chunkwise_kernel": "chunkwise--triton_xl_chunk", "mode": "inference"})
        self.assertEqual((args.qk_dim, args.v_dim, args.up_proj_dim), (2048, 4096, 10944))

    def test_refuses_configs_that_make_no_sense(self):
        for text, config in ((r"the config lacks num_heads", {"embedding_dim": 64, "num_blocks": 1, "vocab_size": 5}),
                             (r"weight_mode is 'split'", {**xlstm_models.CONFIGS["single"], "weight_mode": "split"}),
                             (r"qk_dim is 32 and num_heads 5", {**xlstm_models.CONFIGS["single"], "num_heads": 5})):
            with self.assertRaisesRegex(ValueError, r"^\[mlstm\] " + text):
                xnn.ModelArgs.from_dict(config)
        with self.assertRaisesRegex(FileNotFoundError, r"^\[mlstm\] .*config.json is not there"):
            xnn.write_model_file(package.temporary_folder(self))


class Example(unittest.TestCase):
    def run_it(self, *options):
        script = package.SOURCE / "examples" / "train_xlstm.py"
        return package.run(sys.executable, script, "--batch", 1, "--length", 16, "--width", 16, "--blocks", 1, *options)

    def test_trains_and_writes(self):
        done = self.run_it("--steps", 3, "--every", 1)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertRegex(done.stdout, r"step +3  loss \d")
        self.assertIn("it writes: ", done.stdout)

    def test_says_what_a_plot_needs(self):
        if importlib.util.find_spec("matplotlib"):
            self.skipTest("matplotlib is installed")
        done = self.run_it("--plot", "loss.png")
        self.assertEqual(done.returncode, 2)
        self.assertIn("--plot needs matplotlib: pip install matplotlib", done.stderr)


class MlxLm(unittest.TestCase):
    def test_generates(self):
        try:
            from mlx_lm.generate import generate_step
            from mlx_lm.utils import load_model
        except ImportError:
            self.skipTest("mlx-lm is not installed")
        folder = package.temporary_folder(self)
        model = model_of("single")
        config = {**xlstm_models.CONFIGS["single"], "model_type": "xlstm"}
        (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
        mx.save_safetensors(str(folder / "model.safetensors"), dict(tree_flatten(model.parameters())))
        xnn.write_model_file(folder)
        loaded, _ = load_model(folder, trust_remote_code=True)
        prompt = xlstm_models.TOKENS[0][:21]
        tokens, now = [], mx.array([prompt])
        for _ in range(6):
            tokens.append(model(now)[0, -1].argmax().item())
            now = mx.concatenate([now, mx.array([[tokens[-1]]])], 1)
        steps = generate_step(mx.array(prompt), loaded, max_tokens=6, prefill_step_size=8)
        self.assertEqual([int(token) for token, _ in steps], tokens)


if __name__ == "__main__":
    unittest.main()
