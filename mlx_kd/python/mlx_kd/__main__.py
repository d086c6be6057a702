"""python -m mlx_kd VERB: the program kd, in place of this process. --cmake-dir: for find_package(mlx_kd)."""
import os
import sys

from mlx_kd import _program


def main() -> None:
    if sys.argv[1:] == ["--cmake-dir"]:
        print(_program.prefix() / "lib" / "cmake" / "mlx_kd")
        return
    program = str(_program.path())
    sys.stdout.flush()
    os.execve(program, [program, *sys.argv[1:]], _program.environment())


if __name__ == "__main__":
    main()
