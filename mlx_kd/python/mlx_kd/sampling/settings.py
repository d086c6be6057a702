"""What a row is sampled with, and what mlx-lm refuses."""
from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any


@dataclass
class Settings:
    temperature: float
    top_p: float
    min_p: float
    min_tokens_to_keep: int
    top_k: int
    xtc_probability: float
    xtc_threshold: float

    def has_top_p(self) -> bool:
        return 0 < self.top_p < 1

    def check(self, width: int) -> None:
        """ValueError for what mlx-lm's filters refuse for rows of that width; only of filters that are on."""
        if self.temperature == 0:
            return
        if self.min_p != 0:
            if not 0 <= self.min_p <= 1:
                raise ValueError(f"[sample] min_p is {self.min_p}: give a number in [0, 1]")
            kept = self.min_tokens_to_keep
            if not isinstance(kept, int) or not 1 <= kept <= width:
                raise ValueError(f"[sample] min_tokens_to_keep is {kept}: give a whole number, 1 to V = {width}")
        if self.xtc_probability > 0:
            if not self.xtc_probability <= 1:
                raise ValueError(f"[sample] xtc_probability is {self.xtc_probability}: give a number in [0, 1]")
            if not 0 <= self.xtc_threshold <= 0.5:
                raise ValueError(f"[sample] xtc_threshold is {self.xtc_threshold}: give a number in [0, 0.5]")
        if self.top_k > 0 and not (isinstance(self.top_k, int) and self.top_k < width):
            raise ValueError(f"[sample] top_k is {self.top_k}: give a whole number below V = {width}, or 0 for none")

    def is_plain(self) -> bool:
        """Whether the operator takes them: no temperature below 0, none whose inverse float16 cannot hold."""
        return self.temperature == 0 or 1e-4 <= self.temperature < math.inf

    def draws(self) -> int:
        """How many keys a draw takes."""
        return 0 if self.temperature == 0 else 2 if self.xtc_probability > 0 else 1

    def effective(self) -> Settings:
        """The same draws, with numbers that every filter takes: what is off has those of the operator's defaults."""
        if self.temperature == 0:
            return Settings(0.0, 0.0, 0.0, 1, 0, 0.0, 0.1)
        has_xtc = self.xtc_probability > 0
        return Settings(self.temperature, self.top_p if self.has_top_p() else 0.0, self.min_p,
                        self.min_tokens_to_keep if self.min_p else 1, max(self.top_k, 0),
                        self.xtc_probability if has_xtc else 0.0, self.xtc_threshold if has_xtc else 0.1)

    def row(self) -> list[float]:
        """As the operator's `settings` has it."""
        one = self.effective()
        return [1.0 / one.temperature if one.temperature else 0.0, one.top_p,
                math.log(one.min_p) if one.min_p else -math.inf, float(one.min_tokens_to_keep), float(one.top_k),
                one.xtc_probability, one.xtc_threshold]


def columns(rows: int, **given: Any) -> list[Settings]:
    """The settings of each row. ValueError for a sequence that has not one number for each row."""
    lists = {}
    for name, value in given.items():
        if hasattr(value, "tolist"):
            value = value.tolist()
        if isinstance(value, Sequence):
            if len(value) != rows:
                raise ValueError(f"[sample] {name} has {len(value)} numbers: give one, or one for each of {rows} rows")
            lists[name] = list(value)
        else:
            lists[name] = [value] * max(rows, 1)
    names = [field.name for field in fields(Settings)]
    return [Settings(*[lists[name][row] for name in names]) for row in range(max(rows, 1))]
