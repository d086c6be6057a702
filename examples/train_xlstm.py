"""Trains a small xLSTM on a CPU in minutes, byte by byte, and shows how the loss falls.

    pip install 'mlx[cpu]' . && python examples/train_xlstm.py
    python examples/train_xlstm.py --text my.txt --steps 500 --plot loss.png

The text is that of Python's own argparse module unless --text names a file. With --plot the losses are drawn too, by
matplotlib.
"""
import argparse
import importlib.util
import sys
import time
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim

from mlx_kd.xlstm.nn import Model, ModelArgs


def options():
    parser = argparse.ArgumentParser(description="Trains a small xLSTM on text.")
    parser.add_argument("--text", type=Path, help="file to learn from (default: the source of argparse)")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--batch", type=int, default=8, help="pieces of text a step")
    parser.add_argument("--length", type=int, default=128, help="bytes of a piece")
    parser.add_argument("--width", type=int, default=64, help="embedding_dim")
    parser.add_argument("--blocks", type=int, default=2)
    parser.add_argument("--rate", type=float, default=4e-3, help="learning rate at its highest")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--every", type=int, default=10, help="steps between two lines of output")
    parser.add_argument("--plot", type=Path, help="picture of the losses, by matplotlib")
    given = parser.parse_args()
    if given.plot and importlib.util.find_spec("matplotlib") is None:
        parser.error("--plot needs matplotlib: pip install matplotlib, or leave --plot out")
    if min(given.steps, given.batch, given.length, given.blocks, given.every) < 1 or given.width % 4:
        parser.error("--steps, --batch, --length, --blocks and --every are at least 1, --width is a multiple of 4")
    return given


def read_text(path, length):
    data = (path or Path(argparse.__file__)).read_bytes()
    if len(data) <= length + 1:
        sys.exit(f"{path} has {len(data)} bytes: give more than --length {length}")
    return mx.array(list(data), mx.int32)


def piece(text, batch, length):
    """Bytes [batch, length + 1] from random places."""
    starts = mx.random.randint(0, text.size - length - 1, (batch, 1))
    return text[starts + mx.arange(length + 1)]


def loss_of(model, bytes_):
    logits = model(bytes_[:, :-1])
    return nn.losses.cross_entropy(logits, bytes_[:, 1:], reduction="mean")


def train(model, text, given):
    warm = max(1, given.steps // 10)
    rate = optim.join_schedules([optim.linear_schedule(given.rate / warm, given.rate, warm),
                                 optim.cosine_decay(given.rate, max(1, given.steps - warm))], [warm])
    optimizer = optim.AdamW(learning_rate=rate, betas=[0.9, 0.95], weight_decay=0.01)
    step_of = nn.value_and_grad(model, loss_of)
    losses, begin = [], time.perf_counter()
    for step in range(1, given.steps + 1):
        loss, grads = step_of(model, piece(text, given.batch, given.length))
        grads, _ = optim.clip_grad_norm(grads, 1.0)
        optimizer.update(model, grads)
        mx.eval(loss, model.parameters(), optimizer.state)
        losses.append(loss.item())
        if step % given.every == 0 or step == given.steps:
            seconds = time.perf_counter() - begin
            rate_of = step * given.batch * given.length / seconds
            print(f"step {step:4d}  loss {losses[-1]:.3f}  {seconds:5.1f} s  {rate_of:6.0f} bytes/s", flush=True)
    return losses


def draw(losses, path):
    import matplotlib
    matplotlib.use("Agg")
    from matplotlib import pyplot
    pyplot.plot(range(1, len(losses) + 1), losses)
    pyplot.xlabel("step")
    pyplot.ylabel("loss, nats a byte")
    pyplot.savefig(path)
    print(f"losses drawn in {path}")


def sample(model, text, count):
    """What the model writes after a piece of the text, the likeliest byte each time."""
    cache = model.make_cache()
    logits = model(text[None, :40], cache)
    made = []
    for _ in range(count):
        made.append(logits[0, -1].argmax())
        logits = model(made[-1].reshape(1, 1), cache)
    return bytes(x.item() for x in made).decode("utf-8", "replace")


def main():
    given = options()
    mx.random.seed(given.seed)
    text = read_text(given.text, given.length)
    model = Model(ModelArgs(embedding_dim=given.width, num_heads=4, num_blocks=given.blocks, vocab_size=256))
    losses = train(model, text, given)
    print(f"{losses[0]:.3f} at first, {sum(losses[-10:]) / len(losses[-10:]):.3f} over the last ten steps")
    print(f"it writes: {sample(model, text, 60)!r}")
    if given.plot:
        draw(losses, given.plot)


if __name__ == "__main__":
    main()
