"""Starts kd, follows what it writes, and turns its exit status into an exception."""
from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from mlx_kd import _program

INTERRUPTED = 128 + signal.SIGINT
POLL_S = 0.1


def flags(arguments: Mapping[str, Any]) -> Iterator[str]:
    """{"decode_rows": [1, 2], "resume": True} -> --decode-rows=1 --decode-rows=2 --resume. None, False: nothing."""
    for name, value in arguments.items():
        flag = "--" + name.replace("_", "-")
        for part in value if isinstance(value, (list, tuple)) else [value]:
            if part is True:
                yield flag
            elif part is not None and part is not False:
                yield f"{flag}={os.fspath(part) if isinstance(part, os.PathLike) else part}"


def start(verb: str, arguments: Mapping[str, Any], stdout: IO[str], stderr: IO[str] | None) -> subprocess.Popen[str]:
    command = [str(_program.path()), verb, *flags(arguments), "--json"]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr,
                            env=_program.environment(), text=True)


def result(process: subprocess.Popen[str], stdout: IO[str], stderr: IO[str] | None) -> dict[str, Any]:
    """What it printed, or the exception of its status."""
    if process.returncode == INTERRUPTED:
        raise KeyboardInterrupt
    if process.returncode != 0:
        if stderr:
            stderr.seek(0)
        lines = [line for line in (stderr.read().splitlines() if stderr else []) if line.strip()]
        message = lines[-1] if lines else f"kd ended with status {process.returncode}"
        raise (ValueError if process.returncode == 2 else RuntimeError)(message)
    stdout.seek(0)
    printed: dict[str, Any] = json.load(stdout)
    return printed


def ask(verb: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        process = start(verb, arguments, out, err)
        wait(process, lambda: None)
        return result(process, out, err)


def wait(process: subprocess.Popen[str], meanwhile: Callable[[], None]) -> None:
    """Whatever goes wrong here, Ctrl-C included, the program gets a signal to stop and has stopped afterwards."""
    try:
        while True:
            try:
                process.wait(POLL_S)
            except subprocess.TimeoutExpired:
                meanwhile()
                continue
            meanwhile()
            return
    except BaseException:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        process.wait()
        raise


class Records:
    """The whole lines that a growing file of JSON lines has gained since the last look."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.offset = file.stat().st_size if file.exists() else 0

    def new(self) -> Iterator[Any]:
        if not self.file.exists():
            return
        with self.file.open("rb") as lines:
            lines.seek(self.offset)
            for line in lines:
                if not line.endswith(b"\n"):
                    return
                self.offset += len(line)
                yield json.loads(line)


def follow(arguments: Mapping[str, Any], out: str | os.PathLike[str],
           progress: Callable[[Mapping[str, Any]], None] | bool) -> dict[str, Any]:
    """kd run, with `progress` called for each record that it appends."""
    records = Records(Path(out) / "run.ndjson")

    def tell() -> None:
        if callable(progress):
            for record in records.new():
                progress(record)

    with tempfile.TemporaryFile("w+") as printed, tempfile.TemporaryFile("w+") as messages:
        errors = None if progress is True else messages
        process = start("run", arguments, printed, errors)
        wait(process, tell)
        return result(process, printed, errors)
