"""mlx-lm's own tests of its models, with every model patched (long; or MLX_KD_MLX_LM_TESTS=FILE).

FILE is tests/test_models.py of mlx-lm's source in the version of requirements.txt. Without it pip fetches the source
into a folder of the build. A test that fails without a patch too, for a package that is missing here, does not count.
MLX_KD_MLX_LM_ONLY=WORD runs the tests whose names have the word. Seven tests make models of 7 to 140 GB, of which MLX
computes shapes alone; here they make small ones, whose results are compared. On two cores it takes a quarter of an hour.
"""
import contextlib
import importlib
import importlib.util
import os
import subprocess
import sys
import tarfile
import tempfile
import time
import unittest
from pathlib import Path
from unittest import mock

from tests.support.package import LONG, PackageTest

FILE = os.environ.get("MLX_KD_MLX_LM_TESTS", "")
if not FILE and not LONG:
    print("skipped: mlx-lm's own tests with patched models are long (./kd test --long)")
    sys.exit(77)

import mlx.core as mx  # noqa: E402

with contextlib.suppress(ImportError):
    import numpy  # noqa: F401  two models compute with it; mlx_lm_models has a stand-in for what is not imported

from tests.support import mlx_lm_models as models  # noqa: E402
from tests.support.checked_models import checked  # noqa: E402

FEW = dict(hidden_size=512, num_hidden_layers=4, vocab_size=1000)
SMALLER = {  # fields of ModelArgs, by module
    "cohere": dict(FEW, intermediate_size=1024, num_attention_heads=8, num_key_value_heads=8),
    "cohere2": dict(FEW, intermediate_size=1024, num_attention_heads=4, num_key_value_heads=2),
    "gpt_neox": dict(FEW, num_attention_heads=8),
    "gptj": dict(n_embd=512, n_layer=4, n_head=4, vocab_size=1000),
    "phi": dict(FEW, hidden_size=640, intermediate_size=1024, num_attention_heads=8, num_key_value_heads=8),
    "phi3": dict(FEW, intermediate_size=1024, num_attention_heads=8),
    "qwen": dict(FEW, intermediate_size=1024, num_attention_heads=4)}
MEMBER = f"mlx_lm-{models.VERSION}/tests/test_models.py"


def fetched():
    place = models.FOLDER.parent / MEMBER
    if not place.exists():
        with tempfile.TemporaryDirectory() as folder:
            done = subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
                                   "--no-binary", ":all:", "--dest", folder, f"mlx-lm=={models.VERSION}"],
                                  capture_output=True, text=True)
            if done.returncode:
                models.skip(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "pip failed")
            with tarfile.open(next(Path(folder).glob("*.tar.gz"))) as archive:
                text = archive.extractfile(MEMBER).read()
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(text)
    return place


@contextlib.contextmanager
def smaller():
    with contextlib.ExitStack() as context:
        for name, sizes in SMALLER.items():
            module = importlib.import_module("mlx_lm.models." + name)
            made = (lambda args, sizes: lambda **given: args(**{**given, **sizes}))(module.ModelArgs, sizes)
            context.enter_context(mock.patch.object(module, "ModelArgs", made))
        yield


def tests_of(file):
    spec = importlib.util.spec_from_file_location("mlx_lm_test_models", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    word = os.environ.get("MLX_KD_MLX_LM_ONLY", "")
    return [test for suite in unittest.defaultTestLoader.loadTestsFromModule(module) for test in suite if word in test.id()]


def failures(test):
    """The texts of what failed, by the ids of the test and of its parts: one of them has a part per model."""
    result = unittest.TestResult()
    start = time.perf_counter()
    test(result)
    failed = {part.id(): text for part, text in result.failures + result.errors}
    print(f"{time.perf_counter() - start:7.1f} s  {test.id().rpartition('.')[2]}, {len(failed)} failures",
          file=sys.stderr, flush=True)
    return failed


class Upstream(PackageTest):
    maxDiff = None

    def test_models_of_mlx_lm_pass_their_own_tests_when_they_are_patched(self):
        mx.set_default_device(mx.cpu)
        tests = tests_of(FILE or fetched())
        self.assertTrue(tests)
        with smaller(), checked() as found:
            failed = {test: texts for test in tests if (texts := failures(test))}
        count = sum(map(len, failed.values()))
        ours = {name: text for test, texts in failed.items() for without in [failures(test)]
                for name, text in texts.items() if name not in without}
        self.assertEqual(ours, {}, "\n".join(ours.values()))
        self.assertEqual(found.wrong, [], "\n".join(found.wrong))
        never = {cls for (cls, _), report in found.reports.items() if report.replaced
                 and cls not in found.not_evaluated | found.broken and not found.hits.get(cls)}
        self.assertEqual(never, set(), "no operator was hit")
        print(f"{len(tests)} tests, {count} failures, which are there without a patch too; {found.calls} calls of "
              f"{len(found.hits)} classes of models, {sum(found.hits.values())} hits; MLX itself cannot compute "
              f"{sorted(cls.__module__.rpartition('.')[2] for cls in found.not_evaluated)} in all types here")


if __name__ == "__main__":
    unittest.main()
