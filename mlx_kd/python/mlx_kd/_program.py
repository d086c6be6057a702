"""Where the program kd is, and what it needs to start. Imports neither MLX nor the extension."""
import os
import sys
from importlib.util import find_spec
from pathlib import Path

from mlx_kd import _built_for


def prefix() -> Path:
    """The folder that holds bin/, lib/, include/ and share/. (The modules of an editable install lie elsewhere.)"""
    return Path(_built_for.__file__).parent


def path() -> Path:
    """The program kd. Raises FileNotFoundError, saying what to do, if the package is not whole."""
    program = prefix() / "bin" / "kd"
    if not program.exists():
        raise FileNotFoundError(f"{program} is missing: install mlx-kd again")
    return program


def environment() -> "dict[str, str]":
    """The environment to start it in. It finds MLX next to the package by itself, elsewhere by this; verbs that run a
    model start this Python."""
    env = {"MLX_KD_PYTHON": sys.executable, **os.environ}
    if not (prefix().parent / "mlx" / "lib").is_dir():
        spec = find_spec("mlx")
        folders = [str(Path(place) / "lib") for place in (spec.submodule_search_locations or ())] if spec else []
        name = "DYLD_LIBRARY_PATH" if sys.platform == "darwin" else "LD_LIBRARY_PATH"
        env[name] = os.pathsep.join(folders + ([env[name]] if env.get(name) else []))
    return env
