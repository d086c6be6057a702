#!/usr/bin/env python3
"""Finds constructions that the project's texts do without: check_language.py [--code] [--message FILE] [ROOT].

Reads the prose of README.md, CONTRIBUTING.md, CHANGELOG.md, docs/, packs/README.md and bench/README.md: no fenced or
inline code, no generated C++ reference; and the string literals of mlx_kd/, which are its messages and helps. With --code
also the comments of C++ (kernel sources, whose bytes are hashed, excepted) and the comments and string literals of Python
(tests excepted) and of C++ tests; with --message only a commit message.

Prints one line per finding (file:line: what was found: what to write) and exits 1 if there is any. An exception is a
line "PATH: TEXT OF THE LINE" in tools/language_exceptions.txt; one that no finding needs is an error, too.
"""
import io
import re
import sys
import tokenize
from pathlib import Path

PER = "call|size|run|thread|entry|sample|evaluation|process|point|step|operator|type|model|kernel|candidate|row|group|" \
      "layer|token|device|machine|key|line|suite|worker|file|build|commit|head|variant|knob|column"
COUNTED = "once|twice|one|two|us|ms|ns|bytes?|lines|rows|entry|entries|pins|kernels|threads|winners|" \
          "seconds|tasks|bars|candidates"
JOINING = "where|means|or|is|has|gives|takes|needs|of|for|from|to|in|on|at|with|as|and|than|by|before|after|if|per|that"
# (pattern, what to write); a space matches any white space but a blank line.
RULES = (
    (r"\bstand(s|ing)?\b(?!-)|\bstood\b", "is, are, 'on its own'"),
    (r"\b(is|are|was|were|be|been) (told|said)\b(?! apart)", "is reported, is printed"),
    (r"\btells? regrets\b", "reports"),
    (r"\bbeside\b", "next to, in addition to, compared with"),
    (r"\banew\b|\bafresh\b", "again"),
    (r"\bof ours\b", "our, or the name of the thing"),
    (r"\b(is|are|was|were) no (?!more\b|less\b|\w+er\b)\w", "is not a, is not"),
    (rf"\b({COUNTED}) an? ({PER})\b|\b(an?|one|two|\d+) (?!({JOINING})\b)\w+ an? ({PER})\b", "per, for each"),
    (r"\bfor ever\b", "forever, again and again"),
    (r"\bat hand\b", "current, available"),
    (r"\bmoods?\b|\bweather\b", "state, noise"),
    (r"\bnobody\b|\bwhoever\b|\bno one\b", "name who: a user, a caller, a process"),
    (r"\bthe first version\b", "zmlx.kd"),
    (r"\bdear(er|est)?\b", "expensive"),
    (r"\bof now\b", "current"),
    (r"\bmend(s|ed|ing)?\b", "fix, correct"),
    (r"\bwhat cannot be meant\b", "wrong use"),
    (r"\bfor (it|they|he|she|there|this|that|these|those) (is|are|was|were|has|have|may|can)\b", "because"),
    (r"\bso (it|they) (is|are)(?=[,.;:])", "repeat the statement"),
    (r"\bin turn with\b", "alternating with"),
    (r"\bgoes? on\b", "continues"),
    (r"\bsay(s)? otherwise\b", "changes that"),
    (r"\blengths? of time\b", "duration"),
    (r"\bhow sure\b", "95% CI, confidence"),
    (r"\bto be believed\b", "trusted"),
    (r"\b(is|are) none that\b", "is not a"),
    (r"\bin vain\b", "without result"),
    (r"\bbut for\b", "except, without"),
)
SPACE = r"(?:[^\S\n]|\n(?![^\S\n]*\n))+"
NO_AFTER_THERE = re.compile(r"\bthere\W+(is|are|was|were)\s+no\s+\w$", re.IGNORECASE)
COMPILED = [(re.compile(pattern.replace(" ", SPACE), re.IGNORECASE), advice) for pattern, advice in RULES]
DOCUMENTS = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "packs/README.md", "bench/README.md", "docs/**/*.md")
GENERATED = ("docs/cpp-api.md",)
CODE = ("mlx_kd/**/*.h", "mlx_kd/**/*.cpp", "tests/**/*.h", "tests/**/*.cpp", "bench/*.cpp", "bench/*.h", "examples/*.cpp",
        "mlx_kd/**/*.py", "examples/*.py", "bench/*.py", "tools/*.py")
MESSAGES = ("mlx_kd/**/*.h", "mlx_kd/**/*.cpp")
HASHED = (".cpu.cpp",)
CPP = re.compile(r'//[^\n]*|/\*.*?\*/|R"(\w*)\((.*?)\)\1"|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])\'', re.DOTALL)


def blank(text):
    """As many spaces and line ends as the text has."""
    return re.sub(r"[^\n]", " ", text)


def prose_of_markdown(text):
    text = re.sub(r"^ *```.*?^ *```", lambda match: blank(match.group()), text, flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"`[^`]*`|<!--.*?-->|\]\([^)]*\)", lambda match: blank(match.group()), text, flags=re.DOTALL)


def prose_of_cpp(text, with_comments=True):
    """Comments and string literals in their places; a comment's slashes are spaces, so its lines join."""
    kept, at = [], 0
    for match in CPP.finditer(text):
        kept.append(blank(text[at:match.start()]))
        if with_comments or not match.group().startswith("/"):
            kept.append(re.sub(r'^//+|^"|"$|\\n', lambda mark: " " * len(mark.group()), match.group()))
        else:
            kept.append(blank(match.group()))
        at = match.end()
    return "".join(kept) + blank(text[at:])


def prose_of_python(text):
    lines = [" " * len(line) for line in text.split("\n")]
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in (tokenize.COMMENT, tokenize.STRING):
            continue
        for number, part in enumerate(token.string.split("\n"), token.start[0] - 1):
            start = token.start[1] if number == token.start[0] - 1 else 0
            lines[number] = lines[number][:start] + part.replace("#", " ") + lines[number][start + len(part):]
    return "\n".join(lines)


def prose_of(path, text, with_comments=True):
    if path.suffix in (".h", ".cpp"):
        return prose_of_cpp(text, with_comments)
    return (prose_of_markdown if path.suffix == ".md" else prose_of_python)(text)


def findings(prose):
    """(line, words, advice) of each construction."""
    for pattern, advice in COMPILED:
        for match in pattern.finditer(prose):
            if NO_AFTER_THERE.search(prose[max(0, match.start() - 99):match.end()]):
                continue  # "there is no" is plain
            yield prose.count("\n", 0, match.start()) + 1, " ".join(match.group().split()), advice


def files(root, with_code):
    patterns = DOCUMENTS + (CODE if with_code else MESSAGES)
    found = {path for pattern in patterns for path in root.glob(pattern) if not path.name.endswith(HASHED)}
    return sorted(path for path in found if str(path.relative_to(root)) not in GENERATED
                  and path.relative_to(root).parts[:3] != ("mlx_kd", "msl", "prelude"))


def read_exceptions(root):
    path = root / "tools" / "language_exceptions.txt"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return {line for line in lines if line and not line.startswith("#")}


def check_tree(root, with_code):
    exceptions = read_exceptions(root)
    not_read = {str(path.relative_to(root)) for path in files(root, True) + files(root, False)}
    not_read -= {str(path.relative_to(root)) for path in files(root, with_code)}
    unused = {line for line in exceptions if line.split(":")[0] not in not_read}
    for path in files(root, with_code):
        name, text = str(path.relative_to(root)), path.read_text(encoding="utf-8")
        lines = text.split("\n")
        for number, words, advice in sorted(findings(prose_of(path, text, with_code))):
            excepted = f"{name}: {lines[number - 1].strip()}"
            unused.discard(excepted)
            if excepted not in exceptions:
                yield f"{name}:{number}: '{words}': write {advice}"
    for line in sorted(unused):
        yield f"tools/language_exceptions.txt: no finding needs '{line}': remove it"


def check_message(path):
    text = "\n".join(line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("#"))
    for number, words, advice in sorted(findings(prose_of_markdown(text))):
        yield f"line {number} of the message: '{words}': write {advice}"


def main():
    arguments = [argument for argument in sys.argv[1:] if argument != "--code"]
    if arguments[:1] == ["--message"]:
        found = list(check_message(Path(arguments[1])))
    else:
        root = Path(arguments[0]) if arguments else Path(__file__).resolve().parent.parent
        found = list(check_tree(root, "--code" in sys.argv[1:]))
    print("\n".join(found) or "the language is plain")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
