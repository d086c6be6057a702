"""mlx-lm's own tests of its models, with every model patched (long; or MLX_KD_MLX_LM_TESTS=FILE).

FILE is tests/test_models.py of mlx-lm's source in the version of requirements.txt. Without it pip fetches the source
into a folder of the build. A test that fails without a patch too, for a package that is missing here, does not count.
MLX_KD_MLX_LM_ONLY=WORD runs the tests whose names have the word.
"""
import importlib.util
import os
import subprocess
import sys
import tarfile
import tempfile
import unittest
from pathlib import Path

from tests.support.package import LONG, PackageTest

FILE = os.environ.get("MLX_KD_MLX_LM_TESTS", "")
if not FILE and not LONG:
    print("skipped: mlx-lm's own tests with patched models are long (./kd test --long)")
    sys.exit(77)

import mlx.core as mx  # noqa: E402

from tests.support import mlx_lm_models as models  # noqa: E402
from tests.support.checked_models import checked  # noqa: E402

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


def tests_of(file):
    spec = importlib.util.spec_from_file_location("mlx_lm_test_models", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    word = os.environ.get("MLX_KD_MLX_LM_ONLY", "")
    return [test for suite in unittest.defaultTestLoader.loadTestsFromModule(module) for test in suite if word in test.id()]


def failures(test):
    result = unittest.TestResult()
    test(result)
    return [text for _, text in result.failures + result.errors]


class Upstream(PackageTest):
    def test_models_of_mlx_lm_pass_their_own_tests_when_they_are_patched(self):
        mx.set_default_device(mx.cpu)
        tests = tests_of(FILE or fetched())
        self.assertTrue(tests)
        with checked() as found:
            failed = {test: texts for test in tests if (texts := failures(test))}
        ours = {test.id(): texts[0] for test, texts in failed.items() if not failures(test)}
        self.assertEqual(ours, {}, "\n".join(ours.values()))
        self.assertEqual(found.wrong, [])
        never = {cls for (cls, _), report in found.reports.items() if report.replaced and cls not in found.not_evaluated
                 and not found.hits.get(cls)}
        self.assertEqual(never, set(), "no operator was hit")
        print(f"{len(tests)} tests, {len(failed)} of which fail without a patch too; {found.calls} calls of "
              f"{len(found.hits)} classes of models, {sum(found.hits.values())} hits; MLX itself cannot compute "
              f"{sorted(cls.__module__.rpartition('.')[2] for cls in found.not_evaluated)} in all types here")


if __name__ == "__main__":
    unittest.main()
