"""Configs of models and what kd suggest-shapes says of them, for tests."""
import json
import os
import subprocess
import tempfile
import unittest
from pathlib import Path

KD = os.environ["MLX_KD_PROGRAM"]


def attention(hidden, mlp, heads, keys=None, head_dim=None, **more):
    config = {"hidden_size": hidden, "intermediate_size": mlp, "num_attention_heads": heads,
              "num_key_value_heads": keys or heads, **more}
    return {**config, **({"head_dim": head_dim} if head_dim else {})}


class Folder(unittest.TestCase):
    def setUp(self):
        temp = tempfile.TemporaryDirectory(prefix="kd_models_")
        self.addCleanup(temp.cleanup)
        self.folder = Path(temp.name)

    def suggest(self, config, *options, code=0):
        text = config if isinstance(config, str) else json.dumps(config)
        (self.folder / "config.json").write_text(text)
        return self.kd("suggest-shapes", "--model-id", self.folder, *options, code=code)

    def kd(self, *arguments, code=0):
        result = subprocess.run([KD, *map(str, arguments)], capture_output=True, text=True, timeout=120)
        self.assertEqual(result.returncode, code, result.stderr)
        return result

    def json(self, config, *options):
        return json.loads(self.suggest(config, "--json", *options).stdout)
