"""mlx-lm's own tests with our caches, where MLX_KD_MLX_LM_TESTS names a folder with them (tools/mlx_lm_suite.py)."""
import os
import subprocess
import sys

FOLDER = os.environ.get("MLX_KD_MLX_LM_TESTS")

if __name__ == "__main__":
    if not FOLDER:
        print("skipped: set MLX_KD_MLX_LM_TESTS to a folder with test_prompt_cache.py and test_generate.py of mlx-lm")
        sys.exit(77)
    from tests.support.package import SOURCE, environment
    sys.exit(subprocess.run([sys.executable, SOURCE / "tools" / "mlx_lm_suite.py", FOLDER], env=environment()).returncode)
