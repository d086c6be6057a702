"""Vectors of the measurements."""
import numpy as np

D = 128


def synthetic(count, seed, latent=10):
    """As FAISS's SyntheticDataset: a few latent dimensions, mixed and bent."""
    shape = np.random.default_rng(1)
    mix, scale = shape.standard_normal((latent, D), np.float32), shape.uniform(0.1, 2, D).astype(np.float32)
    x = np.random.default_rng(seed).standard_normal((count, latent), np.float32) @ mix
    return np.sin(x * scale, out=x)


def recall(found, wanted):
    return round(float(np.mean([len(set(a) & set(b)) / len(b) for a, b in zip(found.tolist(), wanted.tolist())])), 4)
