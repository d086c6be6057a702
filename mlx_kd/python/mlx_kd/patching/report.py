"""What a patch did, in words and as data."""
from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from mlx_kd.patching.operators import calls_by_operator


class Replaced(NamedTuple):
    path: str
    cls: str   # name of the module's class
    kind: str  # block, attention, feed-forward, product, norm, rope, head
    runs: str  # operators in order


class Left(NamedTuple):
    path: str
    cls: str
    why: str


@dataclass
class PatchReport:
    """Result of :func:`mlx_kd.patch`; as text it has one line per kind of module.

    Attributes
    ----------
    replaced : list of Replaced
        Per module that runs something else now: ``path``, ``cls``, ``kind``, and in ``runs`` its operators.
    left : list of Left
        Per module that stays as it is: ``path``, ``cls`` and ``why``.
    absent : list of str
        Operators that would be used, and that this build lacks.
    pins : str
        Where kernels come from.
    """

    replaced: list[Replaced] = field(default_factory=list)
    left: list[Left] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)
    pins: str = ""
    seconds: float = 0.0
    _before: dict[str, dict[str, int]] = field(default_factory=dict, repr=False)

    def hits(self) -> dict[str, dict[str, int]]:
        """Calls since the patch by operator: ``pinned`` ran a pin, ``default`` the operator's default kernel."""
        now: dict[str, dict[str, int]] = {}
        for op, counts in calls_by_operator().items():
            before = self._before.get(op, {})
            since = {name: count - before.get(name, 0) for name, count in counts.items()}
            if any(count > 0 for count in since.values()):
                now[op] = since
        return now

    def start(self) -> None:
        self._before = calls_by_operator()

    def __str__(self) -> str:
        lines = [f"mlx_kd.patch: {len(self.replaced)} modules replaced, {len(self.left)} left as they are, "
                 f"in {self.seconds:.1f} s; {self.pins}"]
        for (cls, kind, runs), paths in grouped((one.cls, one.kind, one.runs, one.path) for one in self.replaced):
            lines.append(f"  {len(paths)} x {cls} ({kind}): {runs}")
        for (cls, why), paths in grouped((one.cls, one.why, one.path) for one in self.left):
            lines.append(f"  left: {len(paths)} x {cls} ({shortened(paths)}): {why}")
        if self.absent:
            lines.append("  this build lacks: " + ", ".join(self.absent))
        return "\n".join(lines)


def grouped(rows: object) -> list[tuple[tuple[str, ...], list[str]]]:
    """Rows that differ in their last field alone, together."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for *key, last in rows:  # type: ignore[attr-defined]
        groups.setdefault(tuple(key), []).append(last)
    return list(groups.items())


def shortened(paths: list[str]) -> str:
    return paths[0] if len(paths) == 1 else f"{paths[0]}, ..."
