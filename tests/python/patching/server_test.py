"""mlx_lm.server with the models that it loads patched, next to the same server without: the same answers.

Needs mlx-lm with its packages: those of this Python, else with --long a folder of the build, into which pip puts them.
"""
import contextlib
import importlib.util
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.error
import urllib.request
from pathlib import Path

from tests.support.package import BUILD, LONG, SITE, SOURCE, PackageTest, environment

from tests.support import on_demand

VERSION = re.search(r"^mlx-lm==(\S+)$", (SOURCE / "requirements.txt").read_text(), re.MULTILINE).group(1)
PLACE = BUILD / "front" / f"mlx_lm-{VERSION}-whole"
STARTS_S = 120


def packages():
    """Folders of modules that the server needs in addition to this Python's."""
    if all(importlib.util.find_spec(name) for name in ("mlx_lm", "transformers")):
        return []
    if not PLACE.exists():
        if not LONG:
            print("skipped: mlx-lm is not installed with its packages: pip install mlx-lm, or ./kd test --long")
            sys.exit(77)
        on_demand.install(f"mlx-lm=={VERSION}", PLACE, "--only-binary", ":all:")
    return [str(PLACE)]


PACKAGES = packages()

MAKE = """
import json, sys
from pathlib import Path
import mlx.core as mx
from mlx.utils import tree_flatten
from mlx_lm.models import llama
sys.path.insert(0, sys.argv[2])
from mlx_lm_suite import tokenizer
folder = Path(sys.argv[1])
config = dict(model_type="llama", hidden_size=128, num_hidden_layers=2, intermediate_size=256, num_attention_heads=4,
              num_key_value_heads=2, head_dim=32, rms_norm_eps=1e-5, vocab_size=300, rope_theta=10000.0,
              max_position_embeddings=512, tie_word_embeddings=True, eos_token_id=299)
mx.random.seed(3)
model = llama.Model(llama.ModelArgs.from_dict(config))
mx.save_safetensors(str(folder / "model.safetensors"), dict(tree_flatten(model.parameters())))
(folder / "config.json").write_text(json.dumps(config))
tokenizer()._tokenizer.save_pretrained(folder)
"""


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


class Server(PackageTest):
    @classmethod
    def setUpClass(cls):
        cls.env = environment(HF_HUB_OFFLINE=1, TRANSFORMERS_VERBOSITY="error")
        cls.env["PYTHONPATH"] = os.pathsep.join([str(SITE), *PACKAGES])

    def make_model(self):
        folder = self.folder()
        done = subprocess.run([sys.executable, "-c", MAKE, folder, SOURCE / "tools"], env=self.env, capture_output=True,
                              text=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        return folder

    @contextlib.contextmanager
    def server(self, *start):
        """The port of a server, and the file with its messages."""
        port = free_port()
        with tempfile.TemporaryFile("w+") as messages:
            process = subprocess.Popen([sys.executable, *map(str, start), "--port", str(port)], env=self.env,
                                       stdout=messages, stderr=subprocess.STDOUT)
            try:
                self.wait(process, port, messages)
                yield port, messages
            finally:
                process.terminate()
                process.wait()

    def wait(self, process, port, messages):
        end = time.monotonic() + STARTS_S
        while process.poll() is None and time.monotonic() < end:
            with contextlib.suppress(urllib.error.URLError, ConnectionError):
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
                return
            time.sleep(0.1)
        messages.seek(0)
        self.fail(f"the server did not start:\n{messages.read()[-2000:]}")

    @staticmethod
    def complete(port, prompt):
        request = {"prompt": prompt, "max_tokens": 12, "temperature": 0.0, "logprobs": True}
        with urllib.request.urlopen(urllib.request.Request(
                f"http://127.0.0.1:{port}/v1/completions", json.dumps(request).encode(),
                {"Content-Type": "application/json"}), timeout=STARTS_S) as answer:
            choice = json.load(answer)["choices"][0]
        return [one["id"] for one in choice["logprobs"]["content"]], choice["finish_reason"]

    def answers(self, *start):
        with self.server(*start) as (port, messages):
            found = [self.complete(port, prompt) for prompt in ("Once upon a time", "a", "0123456789" * 6)]
            messages.seek(0)
            return found, messages.read()

    def test_its_answers_are_those_of_the_server_without_a_patch(self):
        folder = self.make_model()
        arguments = ["mlx_lm.server", "--model", folder, "--host", "127.0.0.1"]
        wanted, plain = self.answers("-m", *arguments)
        self.assertNotIn("mlx_kd.patch", plain)
        self.assertTrue(all(tokens for tokens, _ in wanted))
        found, messages = self.answers("-m", "mlx_kd", "run-script", "--patch", "--module", *arguments)
        self.assertIn("mlx_kd.patch: ", messages)
        self.assertRegex(messages, r"2 x TransformerBlock \(block\): norm in matvec_qkv")
        self.assertEqual(found, wanted)


if __name__ == "__main__":
    unittest.main()
