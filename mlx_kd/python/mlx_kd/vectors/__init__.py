"""mlx_kd.vectors: similarity search on a CPU, with the names and the meaning of FAISS.

>>> import numpy as np, mlx_kd.vectors as kv
>>> x = np.random.default_rng(0).standard_normal((2000, 16), np.float32)
>>> index = kv.IndexIVFFlat(d=16, nlist=20)
>>> index.train(x)
>>> index.add(x)
>>> distances, ids = index.search(x[:3], k=5, nprobe=4)
>>> ids[:, 0].tolist()
[0, 1, 2]

NumPy arrays in give NumPy arrays out (D float32, I int64), arrays of MLX give arrays of MLX. A search sees the
vectors of every add that ended before it began, also while another thread adds.
"""
from mlx_kd.vectors.faiss_files import read_faiss, write_faiss
from mlx_kd.vectors.files import load, save
from mlx_kd.vectors.flat import IndexFlat, IndexFlatIP, IndexFlatL2
from mlx_kd.vectors.idmap import IndexIDMap
from mlx_kd.vectors.index import METRIC_INNER_PRODUCT, METRIC_L2, Index
from mlx_kd.vectors.ivf import IndexIVFFlat, SearchParametersIVF
from mlx_kd.vectors.kmeans import Kmeans
from mlx_kd.vectors.pq import IndexIVFPQ

__all__ = [
    "METRIC_INNER_PRODUCT", "METRIC_L2", "Index", "IndexFlat", "IndexFlatIP", "IndexFlatL2", "IndexIDMap",
    "IndexIVFFlat", "IndexIVFPQ", "Kmeans", "SearchParametersIVF", "load", "read_faiss", "save", "write_faiss"]
