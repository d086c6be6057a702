"""Tokens drawn from logits: the same as those of MLX's chain, call for call; bad input; threads."""
import math
import threading
import unittest

from tests.support.package import LONG, PackageTest

import mlx.core as mx
from tests.support.draws import TYPES, Dice, differences, numbers

import mlx_kd
from mlx_kd.sampling import chain
from mlx_kd.sampling.settings import Settings

mx.set_default_device(mx.cpu)


class SameTokens(PackageTest):
    def test_of_random_calls_with_small_vocabularies(self):
        self.assertEqual(differences(1000000 if LONG else 4000, Dice(1), 4096), [])

    @unittest.skipUnless(LONG, "skipped: takes long (./kd test --long)")
    def test_of_random_calls_with_a_large_vocabulary(self):
        self.assertEqual(differences(20000, Dice(2), 152064, each=4), [])

    def test_of_a_few_calls_with_a_large_vocabulary(self):
        self.assertEqual(differences(12, Dice(3), 152064, each=4), [])

    def test_where_the_sum_of_top_p_is_exactly_at_the_boundary(self):
        for dtype in TYPES:
            for count in (2, 3, 4, 7, 8, 16, 1000):
                for kept in (1, count // 2, count - 1):
                    logits = mx.zeros((1, count), dtype=dtype)
                    one = Settings(1.0, kept / count, 0, 1, 0, 0, 0.1)
                    for seed in range(3):
                        key = mx.random.key(seed)
                        ours = mlx_kd.sample(logits, 1.0, kept / count, key=key)
                        theirs = chain.sample(logits, one, [], key, 0, False)
                        self.assertEqual(ours[0].item(), theirs[0].item(), (dtype, count, kept, seed))

    def test_of_equals_at_the_boundary_of_top_k_and_min_p(self):
        logits = mx.array([[1.0, 2.0, 2.0, 2.0, 0.0, 2.0]] * 1)
        seen = {mlx_kd.sample(logits, 5.0, top_k=2, key=mx.random.key(seed))[0].item() for seed in range(60)}
        self.assertEqual(seen, {1, 2})
        seen = {mlx_kd.sample(logits, 5.0, min_p=1.0, min_tokens_to_keep=5, key=mx.random.key(seed))[0].item()
                for seed in range(200)}
        self.assertEqual(seen, {0, 1, 2, 3, 5})

    def test_of_half_precision_whose_log_probabilities_are_equal(self):
        logits = mx.concatenate([mx.zeros((1, 100000)), mx.array([[0.01, 0.02]])], axis=1).astype(mx.bfloat16)
        token, logprob = mlx_kd.sample(logits, 0)
        logprobs = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
        self.assertEqual(token.item(), mx.argmax(logprobs, axis=-1).item())
        self.assertEqual(logprob.item(), mx.max(logprobs).item())

    def test_from_the_state_of_mlx_which_goes_on_as_mlx_leaves_it(self):
        logits = mx.random.normal((1, 1000))
        for one in (Settings(0.7, 0.9, 0, 1, 0, 0, 0.1), Settings(1.0, 0, 0, 1, 0, 0.5, 0.1),
                    Settings(0, 0, 0, 1, 0, 0, 0.1)):
            mx.random.seed(5)
            state = mx.random.state[0]
            ours = [mlx_kd.sample(logits, *numbers(one))[0].item() for _ in range(4)]
            after = mx.random.state[0].tolist()
            keys = chain.keys_of(state)
            theirs = [chain.draw(logits - mx.logsumexp(logits, axis=-1, keepdims=True), one, [], keys).item()
                      for _ in range(4)]
            self.assertEqual(ours, theirs)
            for _ in range(4 * one.draws()):
                state = mx.random.split(state)[0]
            self.assertEqual(after, state.tolist())


class Results(PackageTest):
    def test_the_largest_log_probabilities_are_in_order(self):
        logits = mx.random.normal((3, 5000)).astype(mx.bfloat16)
        _, _, ids, logprobs = mlx_kd.sample(logits, 0.7, logprobs=20)
        reference = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
        order = mx.argsort(-reference, axis=-1)[:, :20]
        self.assertEqual(ids.tolist(), order.tolist())
        self.assertEqual(logprobs.tolist(), mx.take_along_axis(reference, order, axis=-1).astype(mx.float32).tolist())

    def test_calls_are_counted_by_what_served_them(self):
        before = mlx_kd.sampling_counts()
        mx.eval(mlx_kd.sample(mx.zeros((1, 10))))
        mx.eval(mlx_kd.sample(mx.zeros((1, 10)), temperature=-1.0))
        after = mlx_kd.sampling_counts()
        self.assertEqual((after["kernel"] - before["kernel"], after["chain"] - before["chain"]), (1, 1))

    def test_from_eight_threads_and_streams_at_once(self):
        logits = [(mx.random.normal((rows, 20000), key=mx.random.key(rows)) * 2).tolist()
                  for rows in (1, 1, 3, 1, 2, 1, 1, 4)]
        calls = 200 if LONG else 20

        def tokens(i):
            x, key = mx.array(logits[i]), mx.random.key(100 + i)
            return mlx_kd.sample(x, 0.8, 0.9, 0.01, key=key, logprobs=3)[0].tolist()

        def draw(i):
            try:
                with mx.stream(mx.new_stream(mx.cpu)):
                    got[i] = [tokens(i) for _ in range(calls)]
            except Exception as error:  # noqa: BLE001
                got[i] = error

        wanted, got = [[tokens(i)] * calls for i in range(8)], {}
        threads = [threading.Thread(target=draw, args=(i,)) for i in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual([got[i] for i in range(8)], wanted)

    def test_each_thread_draws_from_its_own_state_of_mlx(self):
        logits, got = [[0.0] * 1000], {}

        def draw(i):
            with mx.stream(mx.new_stream(mx.cpu)):
                mx.random.seed(i)
                got[i] = [mlx_kd.sample(mx.array(logits))[0].item() for _ in range(20)]

        for turn in range(2):
            threads = [threading.Thread(target=draw, args=(i,)) for i in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            self.assertEqual(len({tuple(tokens) for tokens in got.values()}), 4)
            first = dict(got) if turn == 0 else first
        self.assertEqual(got, first)


class Settled(PackageTest):
    def test_settings_that_were_drawn_with_before_are_told_apart_by_value_and_type(self):
        logits, top_p = mx.array([[0.0, 5.0], [5.0, 0.0]]), [0.5, 0.5]
        for _ in range(2):
            token, _ = mlx_kd.sample(logits, [1.0, 1], top_p=top_p, key=mx.random.key(0))
            self.assertEqual(token.tolist(), [1, 0])
        top_p[0] = 0.0
        drawn = {mlx_kd.sample(logits, [100.0, 1], top_p=top_p, key=mx.random.key(seed))[0].tolist()[0]
                 for seed in range(40)}
        self.assertEqual(drawn, {0, 1})
        mx.eval(mlx_kd.sample(logits, top_k=[1, 1]))
        with self.assertRaisesRegex(ValueError, "top_k"):
            mlx_kd.sample(logits, top_k=[1.0, 1])


class BadInput(PackageTest):
    def test_what_mlx_lm_refuses_is_refused(self):
        logits = mx.zeros((1, 10))
        for words, arguments in (("min_p", {"min_p": -0.1}), ("min_p", {"min_p": 1.1}),
                                 ("min_tokens_to_keep", {"min_p": 0.1, "min_tokens_to_keep": 0}),
                                 ("min_tokens_to_keep", {"min_p": 0.1, "min_tokens_to_keep": 11}),
                                 ("xtc_threshold", {"xtc_probability": 0.5, "xtc_threshold": 0.6}),
                                 ("xtc_probability", {"xtc_probability": 1.5}),
                                 ("top_k", {"top_k": 10}), ("top_k", {"top_k": 2.5})):
            with self.assertRaisesRegex(ValueError, words, msg=arguments):
                mlx_kd.sample(logits, **arguments)
            with self.assertRaisesRegex(ValueError, words, msg=arguments):
                mlx_kd.make_sampler(1.0, **arguments)(logits)

    def test_what_mlx_lm_takes_for_off_is_off(self):
        logits, key = mx.random.normal((1, 100)), mx.random.key(3)
        plain = mlx_kd.sample(logits, key=key)[0].item()
        for arguments in ({"top_p": 1.0}, {"top_p": -1.0}, {"top_p": 2.0}, {"top_k": 0}, {"top_k": -1}, {"min_p": 0.0},
                          {"xtc_probability": -1.0}, {"min_tokens_to_keep": 0}):
            self.assertEqual(mlx_kd.sample(logits, key=key, **arguments)[0].item(), plain, arguments)

    def test_keys_and_rows_of_other_shapes_are_refused(self):
        logits = mx.zeros((2, 10))
        for key in (mx.zeros((3,), mx.uint32), mx.zeros((2,), mx.int32), mx.zeros((2, 2), mx.uint32)):
            with self.assertRaisesRegex(ValueError, "key has shape"):
                mlx_kd.sample(logits, key=key)
        with self.assertRaisesRegex(ValueError, "key is 5: give an array"):
            mlx_kd.sample(logits, key=5)
        for shape in ((2, 0), (0, 10), (0,)):
            with self.assertRaisesRegex(ValueError, "one row of one logit at least"):
                mlx_kd.sample(mx.zeros(shape))
        with self.assertRaisesRegex(ValueError, "top_p has 3 numbers"):
            mlx_kd.sample(logits, top_p=[0.1, 0.2, 0.3])
        with self.assertRaisesRegex(ValueError, "no axis"):
            mlx_kd.sample(mx.array(1.0))
        with self.assertRaisesRegex(ValueError, "logprobs is 11"):
            mlx_kd.sample(logits, logprobs=11)

    def test_rows_without_a_distribution_give_nan_or_are_named(self):
        rows = [[0.0, 1.0], [math.nan, 1.0], [-math.inf, -math.inf], [math.inf, 1.0], [-math.inf, 1.0]]
        for dtype in TYPES:
            logits = mx.array(rows).astype(dtype)
            token, logprob = mlx_kd.sample(logits, 0.7, 0.9)
            self.assertEqual([math.isnan(value) for value in logprob.tolist()], [False, True, True, True, False])
            self.assertEqual(token.tolist()[1:4], [0, 0, 0])
            with self.assertRaisesRegex(ValueError, "no distribution in row 1, 2, 3"):
                mlx_kd.sample(logits, check=True)


if __name__ == "__main__":
    unittest.main()
