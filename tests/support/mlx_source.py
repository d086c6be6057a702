"""Files of MLX's source in the version that is installed, fetched by git into a folder of the build at the first use.

Where that does not work the test that asked is skipped.
"""
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import mlx.core as mx

SOURCE = "https://github.com/ml-explore/mlx.git"


def git(*command):
    try:
        done = subprocess.run(["git", *map(str, command)], capture_output=True, timeout=120)
        why = (done.stderr.decode().strip().splitlines() or ["git failed"])[-1] if done.returncode else ""
    except (OSError, subprocess.TimeoutExpired) as error:
        why = error
    if why:
        print(f"skipped: MLX's source cannot be fetched ({why}): name its file in the test's environment variable")
        sys.exit(77)
    return done.stdout


def fetched(member):
    """`member` is a path in the source."""
    version = mx.__version__.split("+")[0]
    place = Path(os.environ["MLX_KD_BUILD_DIR"]) / "front" / f"mlx_{version}_{Path(member).name}"
    if not place.exists():
        with tempfile.TemporaryDirectory() as folder:
            git("clone", "--quiet", "--depth", "1", "--filter=blob:none", "--no-checkout", "--branch", f"v{version}",
                SOURCE, folder)
            text = git("-C", folder, "show", f"HEAD:{member}")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(text)
    return place
