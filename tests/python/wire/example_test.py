"""examples/disaggregated.py: prefill in one process, decode in another, the same tokens as in one."""
import os
import subprocess
import sys
import unittest

from tests.support.package import SOURCE, PackageTest, environment
from tests.support import mlx_lm_models  # noqa: F401  (skips where mlx-lm cannot be had)

EXAMPLE = SOURCE / "examples" / "disaggregated.py"
# mlx-lm without what it needs for tokenizers, then the example.
CODE = "import runpy, sys; import tests.support.mlx_lm_models; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], " \
       "run_name='__main__')"


class Example(PackageTest):
    def start(self, *arguments):
        env = environment(**{name: os.environ[name] for name in ("MLX_KD_SOURCE_DIR", "MLX_KD_BUILD_DIR")})
        env["PYTHONPATH"] += os.pathsep + str(SOURCE)
        command = [sys.executable, "-c", CODE, str(EXAMPLE), *arguments]
        process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.addCleanup(process.kill)
        return process

    def test_two_processes_give_the_tokens_of_one(self):
        for kind in ("contiguous", "quantized-rotating"):
            with self.subTest(kind=kind):
                prefill = self.start("--role", "prefill", "--kind", kind)
                port = prefill.stdout.readline().strip()
                decode = self.start("--role", "decode", "--port", port, "--kind", kind, "--tokens", "8")
                output, errors = decode.communicate(timeout=120)
                self.assertEqual(decode.returncode, 0, output + errors)
                self.assertEqual(prefill.wait(timeout=60), 0)
                self.assertIn("256 tokens in 4 layers arrived", output)


if __name__ == "__main__":
    unittest.main()
