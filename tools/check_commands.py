#!/usr/bin/env python3
"""Checks that the commands in the documents exist: check_commands.py PROGRAM [ROOT].

Every line in a fenced block of README.md, CONTRIBUTING.md, bench/README.md and docs/ that calls ./kd must name
a verb whose --help names each option of the line. Exits 1 and names the lines that do not.
"""
import re
import shlex
import subprocess
import sys
from pathlib import Path

OF_THE_SCRIPT = ("test", "bench", "check", "format", "hooks")  # verbs of ./kd itself


def fenced_lines(text):
    """(number, line) inside ``` fences; a backslash at the end joins the next line."""
    inside, joined, start = False, "", 0
    for number, line in enumerate(text.splitlines(), 1):
        if line.lstrip().startswith("```"):
            inside = not inside
        elif inside:
            start = start if joined else number
            joined += line.rstrip("\\")
            if not line.endswith("\\"):
                yield start, joined
                joined = ""


def kd_arguments(line):
    """What follows ./kd in a shell line, or None."""
    try:
        words = shlex.split(line.replace("$ ", "", 1) if line.startswith("$ ") else line, comments=True)
    except ValueError:
        return None
    return words[words.index("./kd") + 1:] if "./kd" in words else None


def help_of(command):
    result = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    return result.stdout if result.returncode == 0 else None


def wrong_command(arguments, program, root):
    """Why the command would be refused, or None."""
    verb = [word for word in arguments[:1] if not word.startswith("-")]
    front_door = not verb or verb[0] in OF_THE_SCRIPT
    text = help_of([str(root / "kd") if front_door else program, *verb, "--help"])
    if text is None:
        return f"kd has no verb {verb[0]}"
    known = set(re.findall(r"(?:^|[\s,\[])(--?[A-Za-z][\w-]*)", text))
    for word in arguments:
        option = word.split("=")[0]
        if re.match(r"--?[A-Za-z]", option) and option not in known:
            return f"kd {' '.join(verb)} has no option {option}"
    return None


def check_documents(program, root):
    documents = [*sorted(root.glob("*.md")), *sorted(root.glob("bench/*.md")), *sorted(root.glob("docs/**/*.md"))]
    found = 0
    for document in documents:
        for number, line in fenced_lines(document.read_text(encoding="utf-8")):
            arguments = kd_arguments(line)
            if arguments is None:
                continue
            found += 1
            why = wrong_command(arguments, program, root)
            if why:
                yield f"{document}:{number}: {why}: {line.strip()}"
    if not found:
        yield f"{root}: no document shows a command"


def main():
    if len(sys.argv) < 2:
        print(__doc__)
        return 2
    root = Path(sys.argv[2]) if len(sys.argv) > 2 else Path(__file__).resolve().parent.parent
    wrong = list(check_documents(sys.argv[1], root))
    print("\n".join(wrong) or "every command exists")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
