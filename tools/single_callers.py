#!/usr/bin/env python3
"""How many functions are called from exactly one place of their file: single_callers.py [--list] [ROOT].

A helper with one caller costs the reader a jump, so its name has to save one. Counted are free functions that are
static or in an unnamed namespace and whose name occurs exactly once besides its definition, as a call (functions that
share a name count together, so they are not single; a function that is also handed on by its name has another use).
The shares are of the file-local functions, members of file-local classes included, and of all functions of mlx_kd/.
Kernel sources and the prelude are left out.

What speaks against folding such a function into its caller is in its text, and the functions are counted by it:
  leaves early       it returns from several places, so its text cannot simply take the place of the call
  in an expression   it has statements, and its call is part of a condition, of a list or of a larger expression
  would be too long  its caller would have more than 30 lines with it
  a step of several  its caller calls at least two other functions of the file too: it reads as a list of steps, of
                     which one in full would hide the others
  is explained       the comment above it says what its name cannot, and would interrupt the caller's statements
  names a condition  it returns a bool: its name is what the reader of the caller needs
  has a loop         or a branch: its text would add a level of nesting to the caller
  in many files      at least ten files have a function of this name (doc, bound, model_sizes of each operator), so that
                     it is where a reader looks for it
  could be folded    none of these: only its name speaks for it

Uses Universal Ctags if it is installed, else a pattern for definitions as clang-format writes them, which finds a few
per cent fewer. Prints the shares; with --list also each such function as file:line: name, lines, reason.
"""
import json
import re
import shutil
import subprocess
import sys
from collections import Counter, namedtuple
from pathlib import Path

Function = namedtuple("Function", "path line name lines local free uses reason")
REASONS = ("leaves early", "in an expression", "would be too long", "a step of several", "is explained",
           "names a condition", "has a loop", "in many files", "could be folded")
MANY = 10  # files that share the name of a function
LONGEST = 30  # lines of a function into which another is folded
TEXT = re.compile(r'//[^\n]*|/\*.*?\*/|R"(\w*)\(.*?\)\1"|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])\'', re.DOTALL)
DEFINITION = re.compile(r"^( *)(?!(?:using|return|else|namespace|class|struct|enum|if|for|while|switch|case|do)\b)"
                        r"\w[\w:<>,&*\s\[\]]*?[\s&*]((?:\w+::)*)(~?\w+)\((?:[^;{}()]|\([^()]*\))*\)[^;{}()=]*\{", re.MULTILINE)


def files(root):
    return [path for path in sorted((root / "mlx_kd").rglob("*")) if path.suffix in (".h", ".cpp")
            and not path.name.endswith(".cpu.cpp") and "prelude" not in path.parts]


def without_texts(source):
    """The code with comments and literals as blanks of the same lines."""
    return TEXT.sub(lambda match: re.sub(r"[^\n]", " ", match.group()), source)


def has_ctags():
    if not shutil.which("ctags"):
        return False
    return "Universal Ctags" in subprocess.run(["ctags", "--version"], capture_output=True, text=True).stdout


def functions_by_ctags(path):
    """(name, first line, last line, whether file-local, whether free) of each function."""
    command = ["ctags", "--output-format=json", "--fields=+nefKZ", "--c++-kinds=f", "-f", "-", str(path)]
    for line in subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines():
        tag = json.loads(line)
        if not tag["name"].startswith("__anon"):  # a lambda
            local = "__anon" in tag.get("scope", "") or tag.get("file", False)
            free = tag.get("scopeKind", "namespace") == "namespace"
            yield tag["name"], tag["line"], tag.get("end", tag["line"]), local, free


def end_of_block(code, at):
    """The position after the bracket that closes the one before `at`."""
    depth = 1
    while depth and at < len(code):
        depth += {"{": 1, "}": -1}.get(code[at], 0)
        at += 1
    return at


def functions_by_pattern(code):
    """The same from the text: an indented definition is a member."""
    unnamed = [(match.end(), end_of_block(code, match.end())) for match in re.finditer(r"\bnamespace\s*\{", code)]
    for match in DEFINITION.finditer(code):
        local = any(begin <= match.start() < end for begin, end in unnamed) or match.group().startswith("static ")
        yield (match.group(3), code.count("\n", 0, match.start(3)) + 1,
               code.count("\n", 0, end_of_block(code, match.end())) + 1, local, not match.group(1) and not match.group(2))


def reason_to_stay(source, code, functions, function):
    """One of REASONS, for a function with one use; `code` is the source without its texts. Lines count from 1."""
    name, first, last = function[:3]
    lines = code.split("\n")
    uses = list(re.finditer(rf"\b{re.escape(name)}\s*\(", code))
    use = next((match for match in uses if not first <= code.count("\n", 0, match.start()) + 1 <= last), uses[0])
    body = "\n".join(lines[first - 1:last])
    body = body[body.find("{") + 1:body.rfind("}")]
    if len(re.findall(r"\breturn\b", body)) > 1:
        return "leaves early"
    before = code[max(code.rfind(mark, 0, use.start()) for mark in ";{}") + 1:use.start()]
    if body.count(";") > 1 and not re.fullmatch(r"\s*(return|[\w:<>,&*\s]+[\s&*]\w+ =|[\w.]+ =)?\s*", before):
        return "in an expression"
    at = code.count("\n", 0, use.start()) + 1
    callers = [other for other in functions if other[1] <= at <= other[2] and other[0] != name]
    if max((other[2] - other[1] + 1 for other in callers), default=0) + last - first - 1 > LONGEST:
        return "would be too long"
    called = "\n".join(lines[callers[-1][1] - 1:callers[-1][2]]) if callers else ""
    steps = {other[0] for other in functions if re.search(rf"\b{re.escape(other[0])}\s*\(", called)}
    if len(steps - {name, callers[-1][0] if callers else ""}) >= 2:
        return "a step of several"
    if source.split("\n")[first - 2].startswith("//"):
        return "is explained"
    if re.match(r"(static |inline |constexpr )*bool ", lines[first - 1]):
        return "names a condition"
    return "has a loop" if re.search(r"\b(for|while|if|switch|try)\b", body) else "could be folded"


def measure(root):
    """Every function, with how often its file uses it."""
    found, use_ctags, files_with = [], has_ctags(), Counter()
    for path in files(root):
        source = path.read_text(encoding="utf-8")
        code = without_texts(source)
        functions = list(functions_by_ctags(path) if use_ctags else functions_by_pattern(code))
        names = [function[0] for function in functions]
        files_with.update(set(names))
        for function in functions:
            name, first, last, local, free = function
            calls = len(re.findall(rf"\b{re.escape(name)}\s*\(", code)) - names.count(name)
            handed_on = len(re.findall(rf"[(,{{&=?:]\s*{re.escape(name)}\s*[,)}};]", code))
            uses = calls + handed_on if calls else 0
            uses = 0 if names.count(name) > 1 else uses  # overloads, or one of each system
            reason = reason_to_stay(source, code, functions, function) if local and free and uses == 1 else ""
            found.append(Function(path.relative_to(root), first, name, last - first + 1, local, free, uses, reason))
    return [function._replace(reason="in many files") if function.reason == REASONS[-1] and
            files_with[function.name] >= MANY else function for function in found]


def main():
    arguments = [argument for argument in sys.argv[1:] if argument != "--list"]
    root = Path(arguments[0]).resolve() if arguments else Path(__file__).resolve().parent.parent
    functions = measure(root)
    local = [function for function in functions if function.local]
    single = [function for function in local if function.free and function.uses == 1]
    if not local:
        print(f"{root}: no file-local functions here")
        return 1
    if "--list" in sys.argv[1:]:
        for function in single:
            print(f"{function.path}:{function.line}: {function.name}, {function.lines} lines, {function.reason}")
    print(f"exactly one caller: {len(single)} functions, {100 * len(single) / len(local):.1f} % of {len(local)} file-local "
          f"functions, {100 * len(single) / len(functions):.1f} % of all {len(functions)}")
    print("of these: " + ", ".join(f"{sum(function.reason == reason for function in single)} {reason}"
                                   for reason in REASONS))
    return 0


if __name__ == "__main__":
    sys.exit(main())
