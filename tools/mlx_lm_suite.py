#!/usr/bin/env python3
"""Runs mlx-lm's own tests of caches and generation with our caches in the place of theirs.

    mlx_lm_suite.py FOLDER [-k PATTERN] [--only ours|theirs]

FOLDER holds test_prompt_cache.py and test_generate.py of mlx-lm's repository, which are not in its wheel and not in
this tree. The model that they download is replaced by a small random one, and its tokenizer by one of bytes that is
made here, so nothing is fetched. A few tests cannot pass with such a model, or are of another version of mlx-lm; so
they run with mlx-lm's own caches too, and the exit status is 1 if a test fails with ours that passes with theirs.
Needs mlx_kd, and mlx-lm with transformers and tokenizers; exits with 77 and says why where they are missing.
"""
import argparse
import importlib
import json
import subprocess
import sys
import unittest
from pathlib import Path

FILES = ("test_prompt_cache", "test_generate")
TEMPLATE = ("{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
            "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}")


def skip(why):
    print(f"skipped: {why}")
    sys.exit(77)


def tokenizer():
    """Of bytes; the character ! has the number 0, as in the vocabulary of the model that the tests name."""
    from mlx_lm.tokenizer_utils import TokenizerWrapper
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(letters)}, merges=[]))
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    made.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    fast = PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    fast.chat_template = TEMPLATE
    return TokenizerWrapper(fast)


def load(*_, **__):
    """In the place of mlx_lm.utils.load."""
    import mlx.core as mx
    from mlx_lm.models import qwen2
    mx.random.seed(0)
    model = qwen2.Model(qwen2.ModelArgs(
        model_type="qwen2", hidden_size=128, num_hidden_layers=2, intermediate_size=256, num_attention_heads=2,
        num_key_value_heads=2, rms_norm_eps=1e-6, vocab_size=300, tie_word_embeddings=False))
    model.eval()
    mx.eval(model.parameters())
    return model, tokenizer()


def replace():
    """Ours under their names, in mlx-lm and in whatever imports from it later."""
    import mlx_kd.cache as ours
    from mlx_lm.models import cache
    for theirs, own in (("KVCache", ours.ContiguousCache), ("RotatingKVCache", ours.RotatingCache),
                        ("QuantizedKVCache", ours.QuantizedCache), ("BatchKVCache", ours.BatchCache),
                        ("BatchRotatingKVCache", ours.BatchRotatingCache)):
        setattr(cache, theirs, own)


def failed(arguments):
    """The ids of the tests that failed in this process, and how many ran."""
    import mlx_lm.utils
    if arguments.only == "ours":
        replace()
    mlx_lm.utils.load = load
    generate = importlib.import_module("mlx_lm.generate")
    if not hasattr(generate, "StopSequenceMatcher"):
        generate.StopSequenceMatcher = generate.StopSequences  # the name that it had before mlx-lm 0.32.2
    sys.path.insert(0, str(arguments.folder))
    suite = unittest.TestSuite()
    for name in FILES:
        for group in unittest.defaultTestLoader.loadTestsFromModule(importlib.import_module(name)):
            suite.addTests(test for test in group if arguments.k in test.id())
    result = unittest.TextTestRunner(verbosity=1).run(suite)
    return [test.id() for test, _ in result.failures + result.errors], result.testsRun


def run(arguments, only):
    """The same in a process of its own, since imports bind the classes."""
    command = [sys.executable, __file__, str(arguments.folder), "--only", only, "-k", arguments.k]
    done = subprocess.run(command, capture_output=True, text=True)
    try:
        return *json.loads(done.stdout.strip().splitlines()[-1]), done.stderr
    except (IndexError, ValueError):
        sys.exit(f"the tests with {only} caches did not end:\n{done.stderr}")


def compare(arguments):
    theirs, count, _ = run(arguments, "theirs")
    ours, _, text = run(arguments, "ours")
    new = sorted(set(ours) - set(theirs))
    print(f"{count} tests: {len(theirs)} fail with mlx-lm's caches, {len(ours)} with ours; with ours alone: "
          f"{', '.join(new) or 'none'}")
    for name in theirs:
        print(f"  fails with theirs: {name}")
    if new:
        print(text)
    return 1 if new or not count else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", choices=["ours", "theirs"], help="with these caches alone; prints what failed as JSON")
    parser.add_argument("-k", default="", help="only tests whose name has this in it")
    arguments = parser.parse_args()
    for name in FILES:
        if not (arguments.folder / f"{name}.py").is_file():
            skip(f"{arguments.folder} has no {name}.py: copy it from mlx-lm's repository (folder tests)")
    try:
        import tokenizers  # noqa: F401
        import transformers  # noqa: F401
        import mlx_kd  # noqa: F401
        import mlx_lm.utils  # noqa: F401
    except ImportError as error:
        skip(f"{error}: pip install mlx-lm, and build mlx_kd")
    if arguments.only is None:
        return compare(arguments)
    print(json.dumps(failed(arguments)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
