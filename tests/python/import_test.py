"""What `import mlx_kd` needs, says and leaves for later; and what its documentation and types hold."""
import inspect
import re
import sys
import unittest

from tests.support.package import PREFIX, SITE, PackageTest, python, run

import mlx.core

import mlx_kd
import mlx_kd.nn

USER = '''
import mlx.core as mx
import mlx_kd, mlx_kd.nn
x: mx.array = mlx_kd.nn.RMSNorm(64)(mlx_kd.rmsnorm(mx.ones((1, 64)), mx.ones(64), eps=1e-5, stream=mx.cpu))
y, updated = mlx_kd.rmsnorm_residual(x, x, mx.ones(64))
outputs: list[mx.array] = mlx_kd.call("swiglu", [x, x])
count: int = mlx_kd.stats()["hits"]
mlx_kd.enable(path="pins.json")
winners = mlx_kd.run("rmsnorm", "out", progress=lambda record: print(record["candidate_id"]))["sizes"]
'''
WRONG = ("mlx_kd.rmsnorm(1, 2)", "mlx_kd.call(3, [])", "mlx_kd.configure(enabled='x')", "mlx_kd.run(op=1, out='x')",
         "mlx_kd.no_such_name")


class Import(PackageTest):
    def test_another_mlx_is_a_clear_error(self):
        result = python("import mlx.core as mx; mx.__version__ = '0.1.2'; import mlx_kd")
        self.assertNotEqual(result.returncode, 0)
        self.assertRegex(result.stderr, r"ImportError: mlx_kd was built for MLX [\d.]+, and this is MLX 0\.1\.2: pip ")

    def test_mlx_of_the_same_release_built_locally_is_taken(self):
        self.assert_succeeds(python("import mlx.core as mx; mx.__version__ += '+local'; import mlx_kd"))

    def test_without_mlx_it_says_what_to_install(self):
        result = python("import sys; sys.modules['mlx.core'] = None; import mlx_kd")
        self.assertRegex(result.stderr, "ImportError: mlx_kd needs MLX .*pip install")

    def test_modules_for_models_are_imported_when_asked_for(self):
        self.assert_succeeds(python("import sys, mlx_kd; assert 'mlx.nn' not in sys.modules; mlx_kd.nn.RMSNorm(8)"))
        self.assert_succeeds(python("import sys, mlx_kd; assert 'mlx_kd.patching' not in sys.modules; mlx_kd.unpatch({})"))

    def test_unknown_name_is_an_attribute_error(self):
        with self.assertRaisesRegex(AttributeError, "no attribute 'nothing'"):
            mlx_kd.nothing

    def test_free_threaded_python_keeps_its_lock_off(self):
        if sys.version_info < (3, 13) or not hasattr(sys, "_is_gil_enabled") or sys._is_gil_enabled():
            self.skipTest("this Python is not free-threaded")
        self.assertFalse(sys._is_gil_enabled())


class Documentation(PackageTest):
    def test_every_public_function_says_what_it_does(self):
        for name in mlx_kd.__all__:
            text = re.sub(r"^\w+\(.*\) -> .*\n\n", "", inspect.getdoc(getattr(mlx_kd, name)) or "")  # the signature
            self.assertTrue(text.split("\n")[0].endswith("."), f"{name}: {text}")

    def test_functions_with_parameters_document_each(self):
        for name in ("call", "configure", "explain", "install", "pack", "report", "rmsnorm", "rmsnorm_residual",
                     "rope_concat_qk_decode_pos", "run", "suggest_shapes", "swiglu"):
            text = inspect.getdoc(getattr(mlx_kd, name))
            self.assertIn("Parameters\n----------", text, name)
            self.assertIn("Raises\n------", text, name)
            stub = (PREFIX / "_core.pyi").read_text()
            found = re.search(rf"def {name}\((.*?)\) ->", stub, re.S)
            names = re.findall(r"(\w+):", found[1]) if found else inspect.signature(getattr(mlx_kd, name)).parameters
            for parameter in names:
                if parameter.startswith("collections") or parameter in ("mlx", "os"):
                    continue
                self.assertRegex(text, rf"(?m)^\**(.*, )?{parameter}(, .*)?( :.*)?$|^op, inputs, params, stream$",
                                 f"{name}: {parameter}")


class Types(PackageTest):
    def mypy(self, *files):
        return run(sys.executable, "-m", "mypy", "--strict", "--cache-dir", SITE / "mypy", *files, MYPYPATH=SITE)

    def setUp(self):
        try:
            import mypy  # noqa: F401
        except ImportError:
            self.skipTest("mypy is not installed (./kd test installs it)")

    def test_package_and_a_user_of_it_are_typed(self):
        file = self.folder() / "user.py"
        file.write_text(USER)
        self.assert_succeeds(self.mypy("-p", "mlx_kd"))
        self.assert_succeeds(self.mypy(file))

    def test_wrong_uses_are_found(self):
        file = self.folder() / "wrong.py"
        file.write_text("import mlx_kd\n" + "\n".join(WRONG) + "\n")
        found = self.mypy(file).stdout
        for line in range(2, 2 + len(WRONG)):
            self.assertIn(f"wrong.py:{line}: error", found)


if __name__ == "__main__":
    unittest.main()
