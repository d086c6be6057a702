"""Packages of PyPI that some tests need: taken from this Python, else put into a folder of the build at the first use.

Where that does not work the test that asked is skipped.
"""
import importlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path


def skip(package, why):
    print(f"skipped: {package} cannot be had ({why}): pip install {package}")
    sys.exit(77)


def install(package, folder, *options):
    """Whole or not at all, however many tests begin at once."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=folder.name, dir=folder.parent))
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input",
               *options, "--target", part, package]
    try:
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=120)
        if done.returncode:
            skip(package, done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "pip failed")
        if not folder.exists():
            part.rename(folder)
    except (OSError, subprocess.TimeoutExpired) as error:
        if not folder.exists():
            skip(package, error)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def need(module, package=None):
    """Makes a module importable."""
    try:
        importlib.import_module(module)
        return
    except ImportError:
        pass
    folder = Path(os.environ["MLX_KD_BUILD_DIR"]) / "front" / f"python_{module}"
    if not folder.exists():
        install(package or module, folder, "--only-binary", ":all:")
    sys.path.append(str(folder))
    importlib.invalidate_caches()
    try:
        importlib.import_module(module)
    except ImportError as error:
        skip(package or module, error)
