#!/usr/bin/env python3
"""Are the tokens of mlx_kd.sample on this CPU those of MLX's chain of operators, in a million random calls?

    bench/generation/same_tokens.py --state FILE [--calls 1000000 --width 4096 --block 1000 --each 100]
                                    [--shares N --share I] [--out FILE]

Needs mlx_kd (on PYTHONPATH, or installed). Calls are those of tests/support/draws.py: types, settings, ties, masked
and equal logits, one row and many, each with its key, with vocabularies of up to --width, or, above 4,096, of --width.
A block of --block calls has its number as the seed, and is a line of --state when it is whole: a run goes on where
another ended. Shares may run at once, each with a state of its own; their files joined are a state again. Ends with
`N calls, K of them served by the operator, D differences`, over all blocks of --state, and 1 if there is a difference.
"""
import argparse
import datetime
import json
import sys
from pathlib import Path

import mlx.core as mx

import mlx_kd

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "bench")]
from common import machine, write_result  # noqa: E402
from tests.support.draws import Dice, differences  # noqa: E402


def blocks_of(state, width, size):
    """The whole blocks of earlier runs, by number."""
    kept = [json.loads(line) for line in state.read_text().splitlines()] if state.exists() else []
    return {one["block"]: one for one in kept if one["width"] == width and one["calls"] == size}


def whole_lines(state):
    """Without what a run that was ended left of a line."""
    if state.exists():
        text = state.read_text()
        state.write_text(text[:text.rfind("\n") + 1])


def draw(block, options):
    before = mlx_kd.sampling_counts()
    found = differences(options.block, Dice(f"{options.width}:{block}"), options.width, options.each)
    served = {name: count - before[name] for name, count in mlx_kd.sampling_counts().items()}
    return {"width": options.width, "block": block, "calls": options.block, "served": served,
            "differences": [repr(one) for one in found]}


def parsed():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--state", type=Path, required=True, help="the file of whole blocks, one a line")
    parser.add_argument("--calls", type=int, default=1000000)
    parser.add_argument("--width", type=int, default=4096)
    parser.add_argument("--block", type=int, default=1000, help="calls of a block")
    parser.add_argument("--each", type=int, default=100, help="calls that are evaluated at once")
    parser.add_argument("--shares", type=int, default=1)
    parser.add_argument("--share", type=int, default=0, help="draws the blocks whose number is this, modulo --shares")
    parser.add_argument("--out", help="the JSON file to write; - for stdout")
    return parser.parse_args()


def summary(done):
    served = {name: sum(one["served"][name] for one in done) for name in ("kernel", "chain")}
    return {"calls": sum(one["calls"] for one in done), "served": served,
            "differences": [one for block in done for one in block["differences"]]}


def main():
    options = parsed()
    mx.set_default_device(mx.cpu)
    whole_lines(options.state)
    done = blocks_of(options.state, options.width, options.block)
    with open(options.state, "a") as state:
        for block in range(options.share, options.calls // options.block, options.shares):
            if block not in done:
                done[block] = draw(block, options)
                state.write(json.dumps(done[block]) + "\n")
                state.flush()
    found = summary(done.values())
    result = {"what": "random calls of sample, and those whose result differs from that of MLX's chain",
              "width": options.width, **found, "machine": machine(), "date": str(datetime.date.today()),
              "mlx": mx.__version__}
    if options.out:
        write_result(result, options.out)
    print(f"{found['calls']} calls, {found['served']['kernel']} of them served by the operator, "
          f"{len(found['differences'])} differences", file=sys.stderr)
    sys.exit(1 if found["differences"] else 0)


if __name__ == "__main__":
    main()
