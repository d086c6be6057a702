"""mlx_kd.vectors beside float64: indexes, bad input, files, threads."""
import signal
import threading
import unittest

from tests.support.package import temporary_folder
from tests.support.vectors import Vectors, distances64, every_index, np, recall, synthetic

import mlx.core as mx

import mlx_kd.vectors as kv

MOST, LOWEST = np.finfo(np.float32).max, np.finfo(np.float32).min


class Flat(Vectors):
    def test_finds_the_nearest(self):
        x, q = synthetic(24, 3000, 2), synthetic(24, 40, 3)
        for index, is_l2 in ((kv.IndexFlatL2(24), True), (kv.IndexFlatIP(24), False), (kv.IndexFlat(24), True)):
            index.add(x[:1000])
            index.add(x[1000:])
            self.assertEqual(index.ntotal, 3000)
            for count in (1, 4, 40):
                self.assert_nearest(q[:count], x, *index.search(q[:count], 10), is_l2)

    def test_an_array_gives_its_own_kind(self):
        x = synthetic(8, 50, 2)
        index = kv.IndexFlatL2(8)
        index.add(mx.array(x))
        d, i = index.search(x[:2], 3)
        self.assertEqual((d.dtype, i.dtype, type(d)), (np.float32, np.int64, np.ndarray))
        md, mi = index.search(mx.array(x[:2]), 3)
        self.assertEqual((md.dtype, mi.dtype), (mx.float32, mx.int64))
        self.assertTrue((np.array(mi) == i).all() and (np.array(md) == d).all())
        self.assertEqual(d[0, 0], 0)

    def test_missing_results_are_padded(self):
        for index, pad in ((kv.IndexFlatL2(4), MOST), (kv.IndexFlatIP(4), LOWEST)):
            d, i = index.search(np.ones((2, 4)), 3)
            self.assertTrue((i == -1).all() and (d == pad).all())
            index.add(np.ones((2, 4)))
            d, i = index.search(np.ones((1, 4)), 5)
            self.assertEqual(i.tolist(), [[0, 1, -1, -1, -1]])
            self.assertTrue((d[0, 2:] == pad).all())

    def test_range_search_is_strict(self):
        x = np.arange(8, dtype=np.float32)[:, None] * np.ones((1, 2), np.float32)
        index = kv.IndexFlatL2(2)
        index.add(x)
        lims, d, i = index.range_search(x[2:4], 2.0)
        self.assertEqual((lims.tolist(), i.tolist(), d.tolist()), ([0, 1, 2], [2, 3], [0, 0]))
        lims, d, i = index.range_search(x[2:3], 2.1)
        self.assertEqual((i.tolist(), d.tolist()), ([1, 2, 3], [2, 0, 2]))
        products = kv.IndexFlatIP(2)
        products.add(x)
        self.assertEqual(products.range_search(x[1:2], 12.0)[2].tolist(), [7])

    def test_removing_renumbers(self):
        x = synthetic(4, 10, 2)
        index = kv.IndexFlatL2(4)
        index.add(x)
        self.assertEqual(index.remove_ids([1, 3, 3, 99, -1]), 2)
        self.assertTrue((index.reconstruct_n() == np.delete(x, [1, 3], 0)).all())
        self.assertTrue((index.reconstruct(1) == x[2]).all())
        with self.assertRaisesRegex(ValueError, "no vector 8: the index has 8"):
            index.reconstruct(8)

    def test_own_ids_may_repeat(self):
        x = synthetic(4, 5, 2)
        index = kv.IndexIDMap(kv.IndexFlatL2(4))
        index.add_with_ids(x, [7, 5, 7, 9, 2 ** 40])
        self.assertEqual(index.search(x, 1)[1][:, 0].tolist(), [7, 5, 7, 9, 2 ** 40])
        self.assertEqual(index.remove_ids([7]), 2)
        self.assertEqual(sorted(index.search(x[:1], 5)[1][0].tolist()), [-1, -1, 5, 9, 2 ** 40])
        self.assertEqual(sorted(index.range_search(x[:1], 1e9)[2].tolist()), [5, 9, 2 ** 40])


class Inverted(Vectors):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.x, cls.q = synthetic(24, 6000, 2), synthetic(24, 30, 3)

    def made(self, kind=kv.IndexIVFFlat, **options):
        index = kind(d=24, nlist=20, **options)
        index.train(self.x)
        index.add(self.x[:2500])
        index.add(self.x[2500:])
        return index

    def test_all_lists_give_the_exact_result(self):
        for metric in (kv.METRIC_L2, kv.METRIC_INNER_PRODUCT):
            index = self.made(metric=metric)
            self.assertEqual(index.ntotal, 6000)
            self.assertEqual(index.list_sizes().sum(), 6000)
            for count in (1, 30):
                found = index.search(self.q[:count], 10, nprobe=1000)
                self.assert_nearest(self.q[:count], self.x, *found, metric == kv.METRIC_L2)

    def test_recall_rises_with_nprobe(self):
        index = self.made()
        wanted = np.argsort(distances64(self.q, self.x), 1)[:, :10]
        some = [recall(index.search(self.q, 10, nprobe=n)[1], wanted) for n in (1, 4, 20)]
        self.assertGreater(some[1], some[0])
        self.assertGreater(some[1], 0.8)
        self.assertEqual(some[2], 1)
        self.assertTrue((index.search(self.q, 10, params=kv.SearchParametersIVF(4))[1] ==
                         index.search(self.q, 10, nprobe=4)[1]).all())

    def test_codes_find_most_neighbours(self):
        for metric in (kv.METRIC_L2, kv.METRIC_INNER_PRODUCT):
            index = self.made(kv.IndexIVFPQ, m=12, metric=metric)
            exact = distances64(self.q, self.x, metric == kv.METRIC_L2)
            wanted = np.argsort(exact if metric == kv.METRIC_L2 else -exact, 1)[:, :10]
            d, i = index.search(self.q, 10, nprobe=20)
            self.assertGreater(recall(i, wanted), 0.5)
            decoded = np.stack([index.reconstruct(int(key)) for key in i[0]])
            own = distances64(self.q[:1], decoded, metric == kv.METRIC_L2)[0]
            self.assertLess(np.abs(own - d[0]).max(), 1e-4)

    def test_removing_keeps_the_other_ids(self):
        index = self.made()
        self.assertEqual(index.remove_ids(np.arange(0, 6000, 2)), 3000)
        d, i = index.search(self.x[:50], 1, nprobe=20)
        self.assertTrue((i[1::2, 0] == np.arange(1, 50, 2)).all() and (i % 2 == 1).all())
        self.assertTrue((index.reconstruct(17) == self.x[17]).all())
        with self.assertRaisesRegex(ValueError, "no vector 16"):
            index.reconstruct(16)

    def test_ids_of_the_callers_own_and_ranges(self):
        index = kv.IndexIVFFlat(kv.IndexFlatL2(24), 24, 20)
        index.train(self.x)
        index.add_with_ids(self.x, np.arange(6000) * 10)
        lims, d, i = index.range_search(self.q, 20.0, nprobe=20)
        exact = distances64(self.q, self.x)
        for row in range(30):
            sure = np.flatnonzero(exact[row] < 20 - 1e-3) * 10
            found = i[lims[row]:lims[row + 1]]
            self.assertTrue(set(sure) <= set(found.tolist()))
            self.assertTrue((exact[row][found // 10] < 20 + 1e-3).all())

    def test_ids_repeat_and_are_removed_together(self):
        for kind, options in ((kv.IndexIVFFlat, {}), (kv.IndexIVFPQ, {"m": 12})):
            index = kind(d=24, nlist=20, **options)
            index.train(self.x)
            index.add_with_ids(self.x[:400], np.arange(400) // 4)
            index.add_with_ids(self.x[400:800], np.arange(400) // 4)
            self.assertEqual((index.search(self.x[:1], 800, nprobe=20)[1] == 7).sum(), 8)
            self.assertEqual(index.remove_ids([7, 7, -3]), 8)
            self.assertEqual(index.ntotal, 792)
            found = index.search(self.x[:1], 800, nprobe=20)[1]
            self.assertFalse((found == 7).any())
            self.assertEqual((found == -1).sum(), 8)

    def test_a_search_beside_adds_sees_whole_adds(self):
        numbers = np.arange(6000)
        for index in (kv.IndexIVFFlat(d=24, nlist=20), kv.IndexFlatL2(24), kv.IndexIDMap(kv.IndexFlatL2(24))):
            index.train(self.x)
            add = index.add_with_ids if isinstance(index, kv.IndexIDMap) else lambda x, ids, index=index: index.add(x)
            options = {"nprobe": 20} if isinstance(index, kv.IndexIVFFlat) else {}
            failures, done = [], threading.Event()

            def search(index=index, failures=failures, done=done, options=options):
                while not done.is_set():
                    before = index.ntotal
                    d, i = index.search(self.x[:20], 1, **options)
                    sure = np.arange(20) < before
                    if not (i[sure, 0] == np.arange(20)[sure]).all():
                        failures.append((before, i[:, 0]))

            thread = threading.Thread(target=search)
            thread.start()
            try:
                for first in range(0, 6000, 200):
                    add(self.x[first:first + 200], numbers[first:first + 200])
            finally:
                done.set()
                thread.join()
            self.assertEqual(failures, [])
            self.assertEqual(index.ntotal, 6000)


class BadInput(Vectors):
    def refused(self, text, call):
        with self.assertRaisesRegex(ValueError, text):
            call()

    def test_messages(self):
        x = synthetic(8, 400, 2)
        flat, ivf = kv.IndexFlatL2(8), kv.IndexIVFFlat(d=8, nlist=4)
        for call, text in (
                (lambda: ivf.search(x, 1), "IndexIVFFlat is not trained: call train first"),
                (lambda: ivf.add(x), "not trained"),
                (lambda: ivf.train(x[:3]), "3 training points for 4 clusters"),
                (lambda: kv.IndexIVFPQ(d=8, nlist=2, m=2).train(x[:255]), "255 training points for 256 codes"),
                (lambda: kv.IndexIVFPQ(d=8, nlist=2, m=3), "m is 3 and d 8"),
                (lambda: flat.search(x, 0), "k is 0: give 1 to 1024"),
                (lambda: flat.search(x, 1025), "k is 1025"),
                (lambda: flat.search(x, 1.5), "k is 1.5: give an int"),
                (lambda: flat.search(x, 1, nprobe=2), "IndexFlatL2 has no lists"),
                (lambda: flat.search(x[:, :7], 1), r"x has shape \(400, 7\): give \(n, 8\)"),
                (lambda: flat.add(x[0]), r"x has shape \(8,\)"),
                (lambda: flat.add(np.array([["a"] * 8])), "x has type"),
                (lambda: flat.add_with_ids(x, np.arange(400)), "IndexIDMap"),
                (lambda: kv.IndexIDMap(flat).add_with_ids(x, np.arange(399)), "399 ids for 400 vectors"),
                (lambda: kv.IndexFlat(0), "d is 0"),
                (lambda: kv.IndexFlat(8, 3), "metric is 3"),
                (lambda: kv.IndexIVFFlat(kv.IndexFlatL2(4), 8, 4), "quantizer has 4 dimensions")):
            self.refused(text, call)
        ivf.train(x)
        self.refused("nprobe is 0", lambda: ivf.search(x, 1, nprobe=0))
        self.refused("both params and nprobe", lambda: ivf.search(x, 1, nprobe=1, params={"nprobe": 2}))
        self.assertEqual(ivf.search(x, 1, nprobe=10 ** 9)[1][0, 0], -1)

    def test_a_nan_is_named_or_never_found(self):
        x = synthetic(8, 400, 2)
        bad = x.copy()
        bad[37, 3] = np.nan
        for index in (kv.IndexFlatL2(8), kv.IndexFlatIP(8), kv.IndexIVFFlat(d=8, nlist=4)):
            index.train(x)
            self.refused("row 37 of x has a NaN", lambda: index.add(bad))
            index.add(bad, check=False)
            self.refused("row 37 of x has a NaN", lambda: index.search(bad, 1))
            d, i = index.search(bad, 400, check=False, **({"nprobe": 4} if index.ntotal == 399 else {}))
            self.assertTrue((i[37] == -1).all())
            self.assertTrue((i != 37).all())
        codes, mapped = kv.IndexIVFPQ(d=8, nlist=4, m=2), kv.IndexIDMap(kv.IndexFlatL2(8))
        codes.train(x)
        codes.add(x)
        mapped.add_with_ids(bad, np.arange(400) + 5, check=False)
        for index, options in ((codes, {"nprobe": 4}), (mapped, {})):
            self.refused("row 37 of x has a NaN", lambda index=index: index.add_with_ids(bad, np.arange(400)))
            d, i = index.search(bad[36:39], 3, check=False, **options)
            self.assertTrue((i[1] == -1).all() and (d[1] == MOST).all() and (i[[0, 2]] >= 0).all())
        self.assertTrue((mapped.search(x, 400)[1] != 42).all())
        infinite = np.full((1, 8), np.inf, np.float32)
        kv.IndexFlatL2(8).add(infinite)  # no NaN


class Files(Vectors):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.x, cls.q = synthetic(16, 1500, 2), synthetic(16, 9, 3)

    def test_what_is_saved_is_loaded(self):
        folder = temporary_folder(self)
        for number, index in enumerate(every_index(self.x)):
            kv.save(index, folder / str(number))
            again = kv.load(folder / str(number))
            for ours, loaded in zip(index.search(self.q, 5), again.search(self.q, 5)):
                self.assertTrue((ours == loaded).all())
        empty = kv.IndexIVFFlat(d=16, nlist=3)
        kv.save(empty, folder / "empty")
        self.assertFalse(kv.load(folder / "empty").is_trained)

    def test_a_file_is_written_whole_or_not_at_all(self):
        try:
            import resource
        except ImportError:
            self.skipTest("this system has no limits of files")
        folder, index = temporary_folder(self), every_index(self.x)[0]
        for save in (kv.save, kv.write_faiss):
            save(index, folder / "index")
            whole = (folder / "index").read_bytes()
            before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) // 2, before[1]))
            try:
                with self.assertRaises(OSError):
                    save(every_index(self.x)[1], folder / "index")
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, before)
                signal.signal(signal.SIGXFSZ, handler)
            self.assertEqual((folder / "index").read_bytes(), whole)
            self.assertEqual([path.name for path in folder.iterdir()], ["index"])

    def test_damaged_files_are_refused(self):
        folder = temporary_folder(self)
        good, bad = folder / "good", folder / "bad"
        for save, load in ((kv.save, kv.load), (kv.write_faiss, kv.read_faiss)):
            for index in every_index(self.x):
                save(index, good)
                whole = good.read_bytes()
                for text in (b"", whole[:3], whole[:40], whole[:len(whole) // 2], whole[:-1], whole + b"x",
                             b"else" + whole[4:], whole[:8] + b"\x07" + whole[9:] if load is kv.load else b"IwFl"):
                    bad.write_bytes(text)
                    with self.assertRaisesRegex(ValueError, "bad: "):
                        load(bad)
        kv.save(every_index(self.x)[0], good)
        whole = bytearray(good.read_bytes())
        for text, replaced in ((b'"shape": [1500, 16]', b'"shape": [1500,9**9]'), (b"[1500, 16]", b"[15000000]"),
                               (b'"offset": ', b'"offset":-')):
            bad.write_bytes(bytes(whole).replace(text, replaced))
            with self.assertRaisesRegex(ValueError, "bad: "):
                kv.load(bad)
        whole[-5] ^= 1
        bad.write_bytes(whole)
        with self.assertRaisesRegex(ValueError, "checksum"):
            kv.load(bad)

    def test_sizes_that_overflow_are_refused(self):
        folder = temporary_folder(self)
        kv.write_faiss(every_index(self.x)[0], folder / "good")
        whole = (folder / "good").read_bytes()
        for count in (2 ** 63, 2 ** 62, 2 ** 40):
            (folder / "bad").write_bytes(whole[:37] + count.to_bytes(8, "little") + whole[45:])
            with self.assertRaisesRegex(ValueError, "bad: it is cut, or a count"):
                kv.read_faiss(folder / "bad")


class Images(Vectors):
    def test_digits(self):
        try:
            from sklearn.datasets import load_digits
        except ImportError:
            self.skipTest("needs scikit-learn")
        x = load_digits().data.astype(np.float32)
        flat, ivf = kv.IndexFlatL2(64), kv.IndexIVFFlat(d=64, nlist=16)
        for index in (flat, ivf):
            index.train(x)
            index.add(x)
        d, i = flat.search(x[:100], 10)
        self.assert_nearest(x[:100], x, d, i)
        self.assertGreater(recall(ivf.search(x[:100], 10, nprobe=4)[1], i), 0.9)

    def test_patches_of_photographs(self):
        try:
            import PIL  # noqa: F401
            from sklearn.datasets import load_sample_images
        except ImportError:
            self.skipTest("needs scikit-learn and Pillow")
        patches = []
        for image in load_sample_images().images:
            gray = image.astype(np.float32).mean(2) / 255
            windows = np.lib.stride_tricks.sliding_window_view(gray, (8, 8)).reshape(-1, 64)
            patches.append(windows[np.sort(np.random.default_rng(5).choice(len(windows), 50000, replace=False))])
        x = np.concatenate(patches)
        q = x[::1000]
        flat, ivf, codes = kv.IndexFlatL2(64), kv.IndexIVFFlat(d=64, nlist=64), kv.IndexIVFPQ(d=64, nlist=64, m=16)
        for index in (flat, ivf, codes):
            index.train(x[::20])
            index.add(x)
        d, i = flat.search(q, 10)
        self.assert_nearest(q, x, d, i)
        self.assertTrue((d[:, 0] == 0).all())
        self.assertGreater(recall(ivf.search(q, 10, nprobe=8)[1], i), 0.9)
        self.assertGreater(recall(codes.search(q, 10, nprobe=8)[1], i), 0.5)


if __name__ == "__main__":
    unittest.main()
