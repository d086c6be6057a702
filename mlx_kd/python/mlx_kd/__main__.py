"""python -m mlx_kd VERB: the program kd, in place of this process. --cmake-dir: for find_package(mlx_kd).
run-script FILE: a Python program with Metal kernels, in this process."""
import os
import sys

from mlx_kd import _program


def main() -> None:
    if sys.argv[1:] == ["--cmake-dir"]:
        print(_program.prefix() / "lib" / "cmake" / "mlx_kd")
        return
    if sys.argv[1:2] == ["run-script"]:
        from mlx_kd._run_script import run_script
        sys.exit(run_script(sys.argv[2:]))
    program = str(_program.path())
    sys.stdout.flush()
    name = os.path.basename(sys.argv[0])
    command = "python -m mlx_kd" if name == "__main__.py" else name
    os.execve(program, [program, *sys.argv[1:]], {"MLX_KD_COMMAND": command, **_program.environment()})


if __name__ == "__main__":
    main()
