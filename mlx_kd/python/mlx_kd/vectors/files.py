"""Indexes as files: save and load. The format, in little-endian order:

  8 bytes   "mlxkdvec"
  uint32    version, 1
  uint32    bytes of the header that follows
  header    JSON: {"index": {...}, "arrays": [{"name", "type", "shape", "offset", "crc32"}, ...]}
  arrays    each at its offset from the start of the file, a multiple of 64, row-major, in the order of the header

"index" has "kind" ("IndexFlat", "IndexIDMap", "IndexIVFFlat", "IndexIVFPQ"), "d", "metric" (0 inner product, 1 L2)
and, of inverted files, "nlist", "nprobe", "is_trained" and "m" (codes a vector, of an IndexIVFPQ). Arrays: "vectors" of
a flat index, its "ids" in an IndexIDMap; "centroids", "entries" (float32 [n, d], or uint8 [n, m]), "ids" and "offsets"
(nlist + 1: where the lists begin in entries) of an inverted file, and "codebooks" (m, 256, d / m) once an IndexIVFPQ is
trained. A file has nothing behind its last array.
"""
import json
import os
import struct
import tempfile
import zlib
from pathlib import Path
from typing import Any


from mlx_kd.vectors import arrays, lists
from mlx_kd.vectors.arrays import np
from mlx_kd.vectors.flat import IndexFlat
from mlx_kd.vectors.idmap import IndexIDMap
from mlx_kd.vectors.ivf import IndexIVF, IndexIVFFlat
from mlx_kd.vectors.pq import CODES, IndexIVFPQ

MAGIC, VERSION, ALIGNMENT = b"mlxkdvec", 1, 64
MOST_HEADER = 1 << 20
TYPES = {"float32": np.float32, "int64": np.int64, "uint8": np.uint8}


class Refused(ValueError):
    """A file that is not an index."""

    def __init__(self, path: Any, what: str, how: Any = "give a file that save wrote") -> None:
        super().__init__(f"[vectors] {path}: {what}: {how}")


def save(index: Any, path: Any) -> None:
    """Writes an index to a file, whole or not at all."""
    about, found = described(index)
    entries, at = [], 0
    for name, array in found.items():
        entries.append({"name": name, "type": array.dtype.name, "shape": list(array.shape), "offset": at,
                        "crc32": zlib.crc32(np.ascontiguousarray(array).reshape(-1).view(np.uint8))})
        at += padded(array.nbytes)
    begin = padded(len(MAGIC) + 8 + len(header_of(about, entries, 10 ** 15)))
    header = header_of(about, entries, begin)
    with new_file(path) as file:
        file.write(MAGIC + struct.pack("<II", VERSION, len(header)) + header)
        for entry, array in zip(entries, found.values()):
            file.write(b"\0" * (begin + entry["offset"] - file.tell()))
            file.write(np.ascontiguousarray(array).reshape(-1).view(np.uint8))


def load(path: Any) -> Any:
    """The index of a file that save wrote."""
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        head = file.read(16)
        if len(head) < 16 or head[:8] != MAGIC:
            raise Refused(path, "it is not an index of mlx_kd", "give a file that save wrote, or use read_faiss")
        version, length = struct.unpack("<II", head[8:])
        if version != VERSION:
            raise Refused(path, f"it has version {version} and this mlx_kd reads {VERSION}",
                          "use the mlx_kd that wrote it")
        if length > min(MOST_HEADER, size - 16):
            raise Refused(path, f"its header has {length} bytes and the file {size}")
        try:
            header = json.loads(file.read(length))
            found = {entry["name"]: read_array(path, file, size, entry) for entry in header["arrays"]}
            end = max([16 + length] + [entry["offset"] + found[entry["name"]].nbytes for entry in header["arrays"]])
            if end != size:
                raise Refused(path, f"it has {size} bytes and its arrays end at {end}")
            return made(path, header["index"], found)
        except Refused:
            raise
        except (LookupError, TypeError, AttributeError, ValueError, OverflowError, RecursionError) as error:
            raise Refused(path, f"its header is damaged ({error!r:.200})") from error


def header_of(about: Any, entries: Any, begin: Any) -> bytes:
    placed = [{**entry, "offset": entry["offset"] + begin} for entry in entries]
    return json.dumps({"index": about, "arrays": placed}).encode()


def padded(size: Any) -> Any:
    return (size + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT


class new_file:
    """A file that takes the place of `path` once it is complete."""

    def __init__(self, path: Any) -> None:
        self.path = Path(path)

    def __enter__(self) -> Any:
        self.file = tempfile.NamedTemporaryFile("wb", dir=self.path.parent, prefix=self.path.name, delete=False)
        return self.file

    def __exit__(self, kind: Any, value: Any, trace: Any) -> None:
        if kind is None:
            self.file.flush()
            os.fsync(self.file.fileno())
        self.file.close()
        if kind is None:
            os.replace(self.file.name, self.path)
        else:
            os.unlink(self.file.name)


def read_array(path: Any, file: Any, size: Any, entry: Any) -> Any:
    shape, offset = entry["shape"], entry["offset"]
    numbers = [offset, *shape]
    if entry["type"] not in TYPES or any(type(number) is not int or number < 0 for number in numbers):
        raise Refused(path, f"its array {entry['name']!r} is damaged")
    count = 1
    for extent in shape:
        count *= extent
    if offset + count * np.dtype(TYPES[entry["type"]]).itemsize > size:
        raise Refused(path, f"its array {entry['name']!r} of shape {tuple(shape)} is longer than the file of {size} bytes")
    file.seek(offset)
    array = np.fromfile(file, TYPES[entry["type"]], count).reshape(shape)
    if zlib.crc32(array.reshape(-1).view(np.uint8)) != entry["crc32"]:
        raise Refused(path, f"its array {entry['name']!r} is damaged: the checksum differs")
    return array


def described(index: Any) -> Any:
    """({...} of the header, {name: array})."""
    about = {"kind": type(index).__name__, "d": index.d, "metric": index.metric_type}
    with index._lock:
        if isinstance(index, IndexIDMap):
            return about, {"vectors": arrays.to_numpy(index.index.vectors), "ids": index.id_map}
        if isinstance(index, IndexFlat):
            return {**about, "kind": "IndexFlat"}, {"vectors": arrays.to_numpy(index.vectors)}
        if isinstance(index, IndexIVF):
            about.update(nlist=index.nlist, nprobe=index.nprobe, is_trained=index.is_trained)
            whole = whole_lists(index)
            found = {"centroids": arrays.to_numpy(index.quantizer.vectors), "entries": arrays.to_numpy(whole.entries),
                     "ids": arrays.to_numpy(whole.ids), "offsets": arrays.to_numpy(whole.offsets)}
            if isinstance(index, IndexIVFPQ):
                about["m"] = index.m
                if index.is_trained:
                    found["codebooks"] = index.codebooks
            return about, found
    raise ValueError(f"[vectors] index is {index!r}: give an index of this module")


def whole_lists(index: Any) -> Any:
    """All segments of an inverted file as one."""
    if len(index._segments) == 1:
        return index._segments[0]
    entries = np.zeros((0, index.m), np.uint8) if isinstance(index, IndexIVFPQ) else np.zeros((0, index.d), np.float32)
    none = lists.make_segment(entries, np.zeros(0, np.int64), np.zeros(0, np.int64), index.nlist)
    return lists.merged(index._segments, index.nlist) if index._segments else none


def made(path: Any, about: Any, found: Any) -> Any:
    """The index that a header describes, once everything fits together."""
    kind, d = about["kind"], about["d"]
    if kind in ("IndexFlat", "IndexIDMap"):
        index = IndexFlat(d, about["metric"])
        index._add(checked(path, "vectors", found, np.float32, (None, d)), None)
        if kind == "IndexFlat":
            return index
        whole = IndexIDMap(IndexFlat(d, about["metric"]))
        whole.index, whole.id_map = index, checked(path, "ids", found, np.int64, (index.ntotal,))
        return whole
    if kind == "IndexIVFFlat":
        return made_lists(path, about, found, IndexIVFFlat(None, d, about["nlist"], about["metric"]), d, np.float32)
    if kind == "IndexIVFPQ":
        codes = IndexIVFPQ(None, d, about["nlist"], about["m"], metric=about["metric"])
        made_lists(path, about, found, codes, codes.m, np.uint8)
        if codes.is_trained:
            codes.set_codebooks(checked(path, "codebooks", found, np.float32, (codes.m, CODES, d // codes.m)))
        return codes
    raise Refused(path, f"it holds a {kind!r}, which this mlx_kd does not know")


def made_lists(path: Any, about: Any, found: Any, index: Any, width: Any, kind: Any) -> Any:
    centroids = checked(path, "centroids", found, np.float32, (None, index.d))
    entries = checked(path, "entries", found, kind, (None, width))
    ids = checked(path, "ids", found, np.int64, (len(entries),))
    offsets = checked(path, "offsets", found, np.int64, (index.nlist + 1,))
    if len(centroids) not in ((index.nlist,) if about["is_trained"] else (0, index.nlist)):
        raise Refused(path, f"it has {len(centroids)} centroids for {index.nlist} lists")
    if offsets[0] != 0 or offsets[-1] != len(entries) or (np.diff(offsets) < 0).any():
        raise Refused(path, "its offsets do not rise from 0 to the number of its vectors")
    index.nprobe, index.is_trained = arrays.count("nprobe", about["nprobe"]), bool(about["is_trained"])
    index.quantizer._add(centroids, None)
    if len(entries):
        index._segments = (lists.Segment(arrays.to_mlx(entries), arrays.to_mlx(ids), arrays.to_mlx(offsets)),)
    return index


def checked(path: Any, name: str, found: Any, kind: Any, shape: Any) -> Any:
    array = found[name]
    if array.dtype != kind or array.ndim != len(shape) or any(
            wanted not in (None, extent) for wanted, extent in zip(shape, array.shape)):
        raise Refused(path, f"its array {name!r} has type {array.dtype} and shape {array.shape}")
    return array
