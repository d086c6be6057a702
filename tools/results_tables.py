"""What the sections of docs/results.md are made of: tables, numbers as text, machine and date of a result."""
import math


def table(head, rows):
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def size_text(shape):
    """rows=1,D=4096: the batch first, the other names in the order of the file."""
    if isinstance(shape, str):
        return shape
    names = sorted(shape, key=lambda name: name not in ("rows", "B"))
    return ",".join(f"{name}={shape[name]}" for name in names)


def times(value):
    return f"{value:.1f}x"


def percent(value):
    return f"{100 * value:.1f} %"


def interval(low, high, digits=2):
    return f"{low:.{digits}f} to {high:.{digits}f}"


def number(value):
    return f"{value:.4g}" if isinstance(value, float) else str(value).replace("|", "\\|")


def geometric_mean(values):
    return math.exp(sum(map(math.log, values)) / len(values))


def sentence(text):
    """With a full stop; code and names at its start keep their case."""
    return text if text.endswith((".", ":")) else text + "."


def versions(data, machine):
    mlx = machine.get("mlx") or data.get("mlx") or data.get("mlx_version") or data.get("runtime", {}).get("mlx_version")
    found = [("driver", machine.get("driver")), ("NVRTC", machine.get("nvrtc")), ("MLX", mlx)]
    return [f"{name} {value}" for name, value in found if value]


def where(data):
    """Machine, versions and date of a result, as far as the file states them."""
    machine = data.get("machine", data.get("device", {}))
    machine = machine if isinstance(machine, dict) else {"cpu": machine}
    cores, load = machine.get("cores", data.get("cores")), machine.get("load", data.get("load"))
    parts = [machine.get("gpu") or machine.get("cpu"), cores and f"{cores} core" + "s" * (cores != 1), machine.get("note"),
             load is not None and f"load {load:.1f}", *versions(data, machine), str(data.get("date", ""))[:10]]
    return ", ".join(part for part in parts if part) or "The file states neither machine nor date"


def generic(data):
    """Parts for a file without a section: its text, its scalars, and its lists of objects as tables of scalars."""
    shown = ("what", "date", "mlx", "mlx_kd", "load", "notes")
    plain = [(key, number(value)) for key, value in data.items()
             if isinstance(value, (int, float, str)) and key not in shown]
    parts = [sentence(data["what"])] if "what" in data else []
    parts += [table(["key", "value"], plain)] if plain else []
    for key, rows in data.items():
        if isinstance(rows, list) and rows and isinstance(rows[0], dict):
            names = [name for name in rows[0] if not isinstance(rows[0][name], (dict, list))]
            parts += [f"{key}:", table(names, [[number(row.get(name, "")) for name in names] for row in rows])]
    return parts
