"""The dependency of the wheel on MLX: which backend. Called by scikit-build-core while it builds.

On Linux MLX is two wheels, and those of the backends overwrite each other. So a wheel asks for one: what
MLX_KD_BACKEND says (cpu, cuda12, cuda13; none: MLX without a backend, for wheels that go elsewhere), else
cuda13 where an NVIDIA GPU answers, else cpu.
"""
import os
import shutil
import subprocess
import sys

BACKENDS = ("cpu", "cuda12", "cuda13", "none")


def has_nvidia_gpu():
    if not shutil.which("nvidia-smi"):
        return False
    result = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True)
    return "GPU" in result.stdout


def backend():
    chosen = os.environ.get("MLX_KD_BACKEND", "")
    if chosen and chosen not in BACKENDS:
        raise ValueError(f"MLX_KD_BACKEND={chosen} is not one of {', '.join(BACKENDS)}")
    return chosen or ("cuda13" if has_nvidia_gpu() else "cpu")


def dynamic_metadata(settings, project):
    extra = "" if sys.platform == "darwin" or backend() == "none" else f"[{backend()}]"
    return {"dependencies": [f"mlx{extra}=={settings['version']}"]}


def dynamic_wheel(settings):
    return {"dependencies": True}  # of the machine that builds the wheel, not of the sdist
