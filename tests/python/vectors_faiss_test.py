"""mlx_kd.vectors beside FAISS, on the same data with the same centroids and codebooks."""
import sys
import unittest

from tests.support.package import temporary_folder
from tests.support.vectors import Vectors, distances64, every_index, np, recall, synthetic

try:
    import faiss
except ImportError:
    print("skipped: needs faiss-cpu")
    sys.exit(77)

import mlx_kd.vectors as kv


class BesideFaiss(Vectors):
    def setUp(self):
        self.x, self.q = synthetic(32, 8000, 2), synthetic(32, 50, 3)

    def test_flat(self):
        for ours, theirs in ((kv.IndexFlatL2(32), faiss.IndexFlatL2(32)), (kv.IndexFlatIP(32), faiss.IndexFlatIP(32))):
            ours.add(self.x)
            theirs.add(self.x)
            for k in (1, 10, 1000):
                self.assert_like_faiss(ours.search(self.q, k), theirs.search(self.q, k), 1e-4)
            radius = float(theirs.search(self.q[:1], 30)[0][0, -1])
            self.assertLessEqual(abs(len(ours.range_search(self.q, radius)[2]) -
                                     len(theirs.range_search(self.q, radius)[2])), 2)

    def test_inverted_lists_with_the_same_centroids(self):
        for metric in (kv.METRIC_L2, kv.METRIC_INNER_PRODUCT):
            theirs = faiss.IndexIVFFlat(faiss.IndexFlat(32, metric), 32, 30, metric)
            theirs.cp.verbose = False
            theirs.train(self.x)
            theirs.add(self.x)
            quantizer = kv.IndexFlat(32, metric)
            quantizer.add(theirs.quantizer.reconstruct_n(0, 30))
            ours = kv.IndexIVFFlat(quantizer, 32, 30, metric)
            ours.train(self.x)
            ours.add(self.x)
            for nprobe in (1, 5, 30):
                theirs.nprobe = nprobe
                self.assert_like_faiss(ours.search(self.q, 10, nprobe=nprobe), theirs.search(self.q, 10), 1e-4)
            edge = theirs.search(self.q[:1], 31)[0][0]
            radius = float(edge[29] + edge[30]) / 2
            found, wanted = ours.range_search(self.q[:1], radius, nprobe=30), theirs.range_search(self.q[:1], radius)
            self.assertEqual(set(found[2].tolist()), set(wanted[2].tolist()))
            self.assertEqual(len(found[2]), 30)

    def test_codes_with_the_same_codebooks(self):
        for metric in (kv.METRIC_L2, kv.METRIC_INNER_PRODUCT):
            theirs = faiss.IndexIVFPQ(faiss.IndexFlat(32, metric), 32, 30, 8, 8, metric)
            theirs.train(self.x)
            theirs.add(self.x)
            path = str(temporary_folder(self) / "pq")
            faiss.write_index(theirs, path)
            ours = kv.read_faiss(path)
            again = kv.IndexIVFPQ(ours.quantizer, 32, 30, 8, 8, metric)
            again.set_codebooks(ours.codebooks)
            again.add(self.x)
            for nprobe in (1, 5):
                theirs.nprobe = nprobe
                found = theirs.search(self.q, 10)
                self.assert_like_faiss(ours.search(self.q, 10, nprobe=nprobe), found, 2e-4)
                self.assert_like_faiss(again.search(self.q, 10, nprobe=nprobe), found, 2e-4)

    def test_own_ids(self):
        theirs, ours = faiss.IndexIDMap(faiss.IndexFlatIP(32)), kv.IndexIDMap(kv.IndexFlatIP(32))
        ids = np.arange(8000)[::-1] * 3 + 2 ** 33
        for index in (theirs, ours):
            index.add_with_ids(self.x, ids)
            self.assertEqual(index.remove_ids(ids[:100]), 100)
        self.assert_like_faiss(ours.search(self.q, 10), theirs.search(self.q, 10), 1e-4)

    def test_training_is_as_good(self):
        wanted = np.argsort(distances64(self.q, self.x), 1)[:, :10]
        theirs = faiss.IndexIVFFlat(faiss.IndexFlatL2(32), 32, 50)
        ours = kv.IndexIVFFlat(d=32, nlist=50)
        for index in (theirs, ours):
            index.train(self.x)
            index.add(self.x)
            index.nprobe = 5
        self.assertGreater(recall(ours.search(self.q, 10)[1], wanted), recall(theirs.search(self.q, 10)[1], wanted) - 0.03)

    def test_files_of_faiss_are_read_and_written(self):
        folder = temporary_folder(self)
        x, q = synthetic(16, 1500, 2), synthetic(16, 9, 3)
        for number, index in enumerate(every_index(x)):
            path = str(folder / f"ours{number}")
            kv.write_faiss(index, path)
            theirs = faiss.read_index(path)
            self.assert_like_faiss(index.search(q, 5), theirs.search(q, 5), 1e-4)
            faiss.write_index(theirs, path)
            again = kv.read_faiss(path)
            for ours, loaded in zip(index.search(q, 5), again.search(q, 5)):
                self.assertTrue((ours == loaded).all())


if __name__ == "__main__":
    unittest.main()
