"""kd suggest-shapes on what models are kept in besides plain config.json: GGUF files, links, numbers as Python writes
them."""
import json
import os
import struct
import subprocess
import unittest

from tests.support.suggested import KD, Folder, attention


class Files(Folder):
    """What configs are written as besides JSON."""
    LLAMA = attention(4096, 14336, 32, 8, model_type="llama")

    def model_sizes(self, path):
        answer = json.loads(self.kd("suggest-shapes", "--model-id", path, "--decode-rows", "1", "--json").stdout)
        return {op: answer["ops"][op]["sizes"][0]["D"] for op in ("rmsnorm", "swiglu")}

    def test_numbers_as_python_writes_them_are_read_where_they_do_not_count(self):
        text = json.dumps({**self.LLAMA, "time_step_limit": [0.0, float("inf")], "low": -float("inf"), "bad": float("nan"),
                           "note": 'Infinity and NaN " stay'})
        (self.folder / "config.json").write_text(text)
        self.assertEqual(self.model_sizes(self.folder), {"rmsnorm": 4096, "swiglu": 14336})
        wrong = self.suggest(json.dumps({**self.LLAMA, "hidden_size": float("inf")}), "--op", "rmsnorm", code=2).stderr
        self.assertIn("'hidden_size' is \"Infinity\"", wrong)

    def test_text_that_is_not_json_is_refused_with_line_column_and_what_is_there(self):
        message = self.suggest('{\n  "hidden_size": 64,\n}\n', code=2).stderr
        self.assertIn("config.json is not JSON (line 3, column 1: found '}')", message)
        self.assertIn("line 1, column 17: found the end", self.suggest('{"hidden_size": ', code=2).stderr)

    def gguf(self, keys, name="model.gguf", version=3, cut=None):
        def text(value):
            data = value.encode()
            return struct.pack("<Q", len(data)) + data
        out = b"GGUF" + struct.pack("<IQQ", version, 0, len(keys))
        for key, value in keys.items():
            out += text(key)
            if isinstance(value, str):
                out += struct.pack("<I", 8) + text(value)
            elif isinstance(value, float):
                out += struct.pack("<If", 6, value)
            elif isinstance(value, list) and isinstance(value[0], str):
                out += struct.pack("<IIQ", 9, 8, len(value)) + b"".join(map(text, value))
            elif isinstance(value, list):
                out += struct.pack("<IIQ", 9, 4, len(value)) + struct.pack(f"<{len(value)}I", *value)
            else:
                out += struct.pack("<II", 4, value)
        path = self.folder / name
        path.write_bytes(out[:cut])
        return path

    def weights(self, name, dtype, *shape, file="model.safetensors"):
        """A file whose header alone is that of weights."""
        header = json.dumps({"__metadata__": {}, name: {"dtype": dtype, "shape": shape, "data_offsets": [0, 0]}}).encode()
        (self.folder / file).write_bytes(struct.pack("<Q", len(header)) + header)

    def test_weights_that_do_not_fit_the_config_are_refused_with_both_numbers(self):
        name, four = "model.embed_tokens.weight", {"group_size": 64, "bits": 4}
        fits, misfits = (("BF16", 4096, {}), ("U32", 512, four), ("BF16", 4096, {**four, "model.embed_tokens": False}),
                         ("U32", 1024, {**four, "model.embed_tokens": {"group_size": 64, "bits": 8}}),
                         ("U32", 7, {})), (("BF16", 2048, {}), ("U32", 1024, four), ("F32", 512, four))
        for dtype, columns, quantised in fits + misfits:
            config = {**self.LLAMA, **({"quantization": quantised} if quantised else {})}
            self.weights(name, dtype, 320, columns)
            with self.subTest(dtype, columns=columns, quantised=quantised):
                refused = (dtype, columns, quantised) in misfits
                result = self.suggest(config, "--op", "rmsnorm", code=2 if refused else 0)
                if refused:
                    self.assertRegex(result.stderr, rf"^\[shapes\] {name} in .*model.safetensors has rows of {columns}.* "
                                                    "hidden_size 4096.*: give a folder whose weights")

    def test_a_tuning_is_refused_before_it_begins_where_the_weights_do_not_fit(self):
        (self.folder / "config.json").write_text(json.dumps({**self.LLAMA, "num_hidden_layers": 1, "vocab_size": 320}))
        self.weights("model.embed_tokens.weight", "F16", 320, 2048, file="model-00002-of-00002.safetensors")
        refused = self.kd("tune-model", self.folder, "--config-only", "--device", "null", "--out", self.folder / "out", code=2)
        self.assertIn("has rows of 2048", refused.stderr)
        self.assertFalse((self.folder / "out").exists())

    def test_files_that_hold_no_such_weights_say_nothing(self):
        for data in (b"", b"version https://git-lfs.github.com/spec/v1\n", struct.pack("<Q", 9) + b'{"a": [1]'):
            (self.folder / "model.safetensors").write_bytes(data)
            self.suggest(self.LLAMA, "--op", "rmsnorm")
        for name, shape in (("vision.embed_tokens.weight", (320, 2048)), ("model.embed_tokens.weight", (320,))):
            self.weights(name, "F16", *shape)
            self.suggest(self.LLAMA, "--op", "rmsnorm")

    KEYS = {"general.architecture": "qwen3moe", "general.name": "a", "qwen3moe.embedding_length": 2048,
            "qwen3moe.feed_forward_length": 6144, "qwen3moe.block_count": 48, "qwen3moe.attention.head_count": 32,
            "qwen3moe.attention.head_count_kv": [4] * 48, "qwen3moe.attention.key_length": 128,
            "qwen3moe.attention.value_length": 128, "qwen3moe.attention.layer_norm_rms_epsilon": 1e-6,
            "qwen3moe.expert_count": 128, "qwen3moe.expert_used_count": 8, "qwen3moe.expert_feed_forward_length": 768,
            "tokenizer.ggml.tokens": ["a", "b"] * 4000}

    def test_a_gguf_file_is_a_model(self):
        path = self.gguf(self.KEYS)
        answer = json.loads(self.kd("suggest-shapes", "--model-id", path, "--decode-rows", "1", "--json").stdout)["ops"]
        self.assertEqual(answer["rmsnorm"]["sizes"][0]["D"], 2048)
        found = {suite["name"]: suite["sizes"][0] for suite in answer["rmsnorm"]["suites"]}
        self.assertEqual({name: (size["rows"], size["D"]) for name, size in found.items()},
                         {"model": (1, 2048), "q_norm": (32, 128), "k_norm": (4, 128)})
        found = {suite["name"]: suite["sizes"][0]["D"] for suite in answer["swiglu"]["suites"]}
        self.assertEqual(found, {"model": 6144, "routed": 768})

    def test_a_gguf_file_that_is_none_is_refused(self):
        for path, words in ((self.gguf(self.KEYS, "cut.gguf", cut=200), "ends early"),
                            (self.gguf(self.KEYS, "nine.gguf", version=9), "has version 9 of GGUF"),
                            (self.gguf({"general.architecture": "clip"}), "do not name the width of a language model")):
            self.assertIn(words, self.kd("suggest-shapes", "--model-id", path, code=2).stderr)

    def test_a_link_to_a_model_is_its_id(self):
        result = subprocess.run([KD, "suggest-shapes", "--local-files-only", "--model-id",
                                 "https://huggingface.co/org/name/tree/main?x=1"], capture_output=True, text=True,
                                env={**os.environ, "HF_HUB_CACHE": str(self.folder)})
        self.assertIn("holds no config.json of 'org/name'", result.stderr)


if __name__ == "__main__":
    unittest.main()
