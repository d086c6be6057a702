"""Prefill in one process, decode in another: the cache goes over a socket, and the tokens are those of one process.

    python examples/disaggregated.py                      # starts the prefill process itself, a small random model
    python examples/disaggregated.py --model PATH --kind quantized --tokens 64

The two parts can run on two machines (--host binds and connects; there is no encryption and no password):

    python examples/disaggregated.py --role prefill --host 0.0.0.0 --port 9000 --model PATH
    python examples/disaggregated.py --role decode --host HOST --port 9000 --model PATH

Exit status 1 if the tokens differ.
"""
import argparse
import socket
import subprocess
import sys
import time

import mlx.core as mx

import mlx_kd.cache
import mlx_kd.wire

PROMPT = list(range(3, 260))


def load(path):
    """A model of mlx-lm; without a path a small one with random weights, the same in every process."""
    if path:
        import mlx_lm
        return mlx_lm.load(path)[0]
    from mlx_lm.models import llama
    mx.random.seed(0)
    sizes = dict(hidden_size=256, num_hidden_layers=4, intermediate_size=512, num_attention_heads=4,
                 num_key_value_heads=2, rms_norm_eps=1e-5, vocab_size=512, head_dim=64, tie_word_embeddings=False)
    model = llama.Model(llama.ModelArgs(model_type="llama", **sizes))
    model.set_dtype(mx.bfloat16)
    return model


def make_cache(model, arguments):
    size = 2048 if arguments.kind in ("rotating", "quantized-rotating", "paged") else None
    return mlx_kd.cache.make(model, kind=arguments.kind, max_size=size)


def prefill(model, cache, tokens):
    """The cache of all tokens but the last, which the decoder processes itself."""
    model(mx.array([tokens[:-1]]), cache=cache)
    mx.eval([one.state for one in cache])


def decode(model, cache, token, count):
    """Greedy."""
    tokens = []
    for _ in range(count):
        token = mx.argmax(model(mx.array([[token]]), cache=cache)[0, -1]).item()
        tokens.append(token)
    return tokens


def serve(model, arguments):
    """Answers one request with a cache."""
    with socket.create_server((arguments.host, arguments.port)) as server:
        print(server.getsockname()[1], flush=True)
        with server.accept()[0] as connection, connection.makefile("rwb") as stream:
            request_id, model_id, tokens, _ = mlx_kd.wire.receive_request(stream)
            try:
                cache = make_cache(model, arguments)
                prefill(model, cache, tokens)
                mlx_kd.wire.send(stream, cache, request_id, model_id)
            except (ValueError, RuntimeError) as error:
                stream.write(mlx_kd.wire.error_frame(500, str(error)))
                raise


def fetch(arguments):
    """The prompt's cache, from the prefill process."""
    with socket.create_connection((arguments.host, arguments.port)) as connection, connection.makefile("rwb") as stream:
        stream.write(mlx_kd.wire.request_frame("request-1", arguments.model or "random", PROMPT))
        stream.flush()
        return mlx_kd.wire.receive(stream)


def start_prefill(arguments):
    """The other process, on a free port of this machine."""
    command = [sys.executable, __file__, "--role", "prefill", "--kind", arguments.kind]
    process = subprocess.Popen(command + (["--model", arguments.model] if arguments.model else []),
                               stdout=subprocess.PIPE, text=True)
    arguments.port = int(process.stdout.readline())
    return process


def compare(arguments):
    process = start_prefill(arguments) if arguments.role == "both" else None
    model = load(arguments.model)
    start = time.perf_counter()
    received = fetch(arguments)
    print(f"{received.total_tokens} tokens in {len(received.cache)} layers arrived in {time.perf_counter() - start:.3f} s")
    remote = decode(model, received.cache, PROMPT[-1], arguments.tokens)
    cache = make_cache(model, arguments)
    prefill(model, cache, PROMPT)
    here = decode(model, cache, PROMPT[-1], arguments.tokens)
    if process:
        process.wait(timeout=60)
    print("two processes:", *remote)
    print("one process:  ", *here)
    return 0 if remote == here else 1


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--role", choices=["both", "prefill", "decode"], default="both")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="of the prefill process (0: any free one, which it prints)")
    parser.add_argument("--model", help="as mlx_lm.load takes it (default: a small random model)")
    parser.add_argument("--kind", choices=mlx_kd.cache.KINDS, default="contiguous")
    parser.add_argument("--tokens", type=int, default=16, help="to decode")
    arguments = parser.parse_args()
    if arguments.role == "prefill":
        return serve(load(arguments.model), arguments)
    return compare(arguments)


if __name__ == "__main__":
    sys.exit(main())
