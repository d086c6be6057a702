"""FAISS's own files of flat indexes, id maps over them and inverted files: read_faiss, write_faiss.

A file is a four-letter name, then the fields of that index, little-endian, vectors of them with their count before them
(uint64). The header of an index is d (int32), ntotal (int64), two int64 that mean nothing, whether it is trained (one
byte) and the metric (int32).
"""
import os
import struct
from typing import Any


from mlx_kd.vectors import arrays, lists
from mlx_kd.vectors.arrays import np
from mlx_kd.vectors.files import Refused, new_file, whole_lists
from mlx_kd.vectors.flat import IndexFlat
from mlx_kd.vectors.idmap import IndexIDMap
from mlx_kd.vectors.index import METRIC_L2
from mlx_kd.vectors.ivf import IndexIVFFlat
from mlx_kd.vectors.pq import CODES, IndexIVFPQ

UNUSED = 1 << 20
MOST_LISTS = 1 << 32
FLAT = (b"IxF2", b"IxFI", b"IxFl")


class Reader:
    """Fields of a file; none is larger than what is left of it."""

    def __init__(self, path: Any, file: Any) -> None:
        self.path, self.file = path, file
        self.left = os.fstat(file.fileno()).st_size

    def refuse(self, what: str) -> Refused:
        return Refused(self.path, what, "give a file of an index of FAISS that docs/vectors.md names")

    def bytes(self, count: Any) -> Any:
        if count > self.left:
            raise self.refuse(f"it is cut: {count} bytes are wanted and {self.left} left")
        self.left -= count
        return self.file.read(count)

    def field(self, kind: Any) -> Any:
        return struct.unpack("<" + kind, self.bytes(struct.calcsize("<" + kind)))[0]

    def array(self, count: Any, kind: Any) -> Any:
        if count < 0 or count * np.dtype(kind).itemsize > self.left:
            raise self.refuse(f"it is cut, or a count in it is wrong: {count} of {np.dtype(kind).name} are wanted and "
                              f"{self.left} bytes left")
        self.left -= count * np.dtype(kind).itemsize
        return np.fromfile(self.file, kind, count)

    def vector(self, kind: Any) -> Any:
        return self.array(self.field("Q"), kind)

    def header(self) -> Any:
        d, total = self.field("i"), self.field("q")
        self.bytes(16)
        trained, metric = self.field("B"), self.field("i")
        if d < 1 or total < 0 or metric not in (0, 1) or trained > 1:
            raise self.refuse(f"it has d = {d}, ntotal = {total}, metric = {metric}")
        return d, total, bool(trained), metric


def read_faiss(path: Any) -> Any:
    """The index of a file that faiss.write_index wrote: IndexFlat, IndexIDMap over it, IndexIVFFlat, IndexIVFPQ."""
    with open(path, "rb") as file:
        reader = Reader(path, file)
        index = read_index(reader)
        if reader.left:
            raise reader.refuse(f"{reader.left} bytes are behind the index")
        return index


def read_index(reader: Any) -> Any:
    name = reader.bytes(4)
    if name in FLAT:
        return read_flat(reader)
    if name in (b"IxMp", b"IxM2"):
        return read_map(reader)
    if name == b"IwFl":
        return read_ivf_flat(reader)
    if name == b"IwPQ":
        return read_ivf_pq(reader)
    raise reader.refuse(f"it begins with {name!r}")


def read_inner(reader: Any, what: str) -> Any:
    """The flat index inside of another one."""
    name = reader.bytes(4)
    if name not in FLAT:
        raise reader.refuse(f"its {what} begins with {name!r}, and is to be a flat index")
    return read_flat(reader)


def read_flat(reader: Any) -> Any:
    d, total, _, metric = reader.header()
    values = reader.vector(np.float32)
    if len(values) != total * d:
        raise reader.refuse(f"it has {len(values)} numbers for {total} vectors of {d}")
    index = IndexFlat(d, metric)
    index._add(values.reshape(total, d), None)
    return index


def read_map(reader: Any) -> Any:
    d, total, _, metric = reader.header()
    inner = read_inner(reader, "index under the ids")
    ids = reader.vector(np.int64)
    if (inner.d, inner.ntotal, len(ids)) != (d, total, total):
        raise reader.refuse(f"it has {len(ids)} ids for an index of {inner.ntotal} vectors")
    index = IndexIDMap(IndexFlat(d, metric))
    index.index, index.id_map = inner, ids
    return index


def read_ivf(reader: Any) -> Any:
    """What inverted files begin with: header, nlist, nprobe, quantizer."""
    header = reader.header()
    nlist, nprobe = reader.field("Q"), reader.field("Q")
    quantizer = read_inner(reader, "quantizer")
    if not 1 <= nlist < MOST_LISTS or nprobe < 1 or quantizer.d != header[0]:
        raise reader.refuse(f"it has {nlist} lists, nprobe {nprobe} and a quantizer of {quantizer.d} dimensions")
    if (header[2] or header[1]) and quantizer.ntotal != nlist:
        raise reader.refuse(f"it has {quantizer.ntotal} centroids for {nlist} lists")
    kind = reader.field("B")
    reader.vector(np.int64)
    if kind == 2:
        reader.array(2 * reader.field("Q"), np.int64)
    elif kind > 2:
        raise reader.refuse(f"its direct map has kind {kind}")
    return header, nlist, nprobe, quantizer


def read_lists(reader: Any, nlist: int, code_size: Any, kind: Any, total: int) -> Any:
    """(entries, ids, offsets) of so many vectors."""
    if reader.bytes(4) != b"ilar" or reader.field("Q") != nlist or reader.field("Q") != code_size:
        raise reader.refuse("its lists are not of the form that is read, or have other sizes than the index")
    form, given = reader.bytes(4), reader.vector(np.uint64)
    if form == b"full":
        if len(given) != nlist:
            raise reader.refuse(f"it has sizes of {len(given)} lists of {nlist}")
        sizes = given
    elif form == b"sprs":
        if len(given) % 2 or (given[::2] >= nlist).any():
            raise reader.refuse("it has a list that does not exist")
        sizes = np.zeros(nlist if len(given) else 0, np.uint64)  # none: however many lists there are
        sizes[given[::2].astype(np.int64)] = given[1::2]
    else:
        raise reader.refuse(f"its lists have the form {form!r}")
    if (sizes > reader.left // (code_size + 8)).any():
        raise reader.refuse("a list is longer than the file")
    if sum(map(int, sizes[sizes > 0])) != total:
        raise reader.refuse(f"its lists have {sum(map(int, sizes[sizes > 0]))} vectors and it says {total}")
    entries, ids = [], []
    for size in sizes.astype(np.int64):
        if size:
            entries.append(reader.array(int(size) * code_size, np.uint8).view(kind).reshape(int(size), -1))
            ids.append(reader.array(int(size), np.int64))
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    width = code_size // np.dtype(kind).itemsize
    return (np.concatenate(entries or [np.zeros((0, width), kind)]), np.concatenate(ids or [np.zeros(0, np.int64)]),
            offsets)


def put_lists(index: Any, reader: Any, header: Any, nprobe: Any, found: Any) -> Any:
    entries, ids, offsets = found
    index.nprobe, index.is_trained = nprobe, header[2]
    if len(ids):
        index._segments = (lists.Segment(arrays.to_mlx(entries), arrays.to_mlx(ids), arrays.to_mlx(offsets)),)
    return index


def read_ivf_flat(reader: Any) -> Any:
    header, nlist, nprobe, quantizer = read_ivf(reader)
    found = read_lists(reader, nlist, 4 * header[0], np.float32, header[1])
    return put_lists(IndexIVFFlat(quantizer, header[0], nlist, header[3]), reader, header, nprobe, found)


def read_ivf_pq(reader: Any) -> Any:
    header, nlist, nprobe, quantizer = read_ivf(reader)
    by_residual, code_size = reader.field("B"), reader.field("Q")
    d, m, nbits = reader.field("Q"), reader.field("Q"), reader.field("Q")
    books = reader.vector(np.float32)
    if by_residual != 1 or nbits != 8 or d != header[0] or code_size != m or m < 1 or d % m or len(books) != CODES * d:
        raise reader.refuse(f"it has by_residual = {by_residual}, m = {m}, nbits = {nbits}, {len(books)} numbers of codebooks")
    index = IndexIVFPQ(quantizer, d, nlist, m, metric=header[3])
    index.set_codebooks(books.reshape(m, CODES, d // m))
    return put_lists(index, reader, header, nprobe, read_lists(reader, nlist, m, np.uint8, header[1]))


def write_faiss(index: Any, path: Any) -> None:
    """Writes an index as faiss.write_index does, for faiss.read_index."""
    with new_file(path) as file, index._lock:
        write_index(index, file)


def write_index(index: Any, file: Any) -> None:
    if isinstance(index, IndexIDMap):
        file.write(b"IxMp" + header_of(index))
        write_index(index.index, file)
        write_vector(file, index.id_map)
    elif isinstance(index, IndexFlat):
        file.write((b"IxF2" if index.metric_type == METRIC_L2 else b"IxFI") + header_of(index))
        write_vector(file, arrays.to_numpy(index.vectors))
    elif isinstance(index, IndexIVFFlat):
        write_ivf(index, b"IwFl", file)
        write_lists(index, file)
    elif isinstance(index, IndexIVFPQ):
        write_ivf(index, b"IwPQ", file)
        file.write(struct.pack("<BQQQQ", 1, index.m, index.d, index.m, 8))
        write_vector(file, index.codebooks)
        write_lists(index, file)
    else:
        raise ValueError(f"[vectors] index is {index!r}: give an index of this module")


def header_of(index: Any) -> bytes:
    return struct.pack("<iqqqBi", index.d, index.ntotal, UNUSED, UNUSED, index.is_trained, index.metric_type)


def write_vector(file: Any, array: Any) -> None:
    file.write(struct.pack("<Q", array.size))
    file.write(np.ascontiguousarray(array).reshape(-1).view(np.uint8))


def write_ivf(index: Any, name: bytes, file: Any) -> None:
    file.write(name + header_of(index) + struct.pack("<QQ", index.nlist, index.nprobe))
    write_index(index.quantizer, file)
    file.write(struct.pack("<BQ", 0, 0))  # no direct map


def write_lists(index: Any, file: Any) -> None:
    whole = whole_lists(index)
    entries, ids, offsets = map(arrays.to_numpy, whole)
    file.write(b"ilar" + struct.pack("<QQ", index.nlist, entries.shape[1] * entries.itemsize) + b"full")
    write_vector(file, np.diff(offsets).astype(np.uint64))
    for i in range(index.nlist):
        part = slice(offsets[i], offsets[i + 1])
        file.write(np.ascontiguousarray(entries[part]).reshape(-1).view(np.uint8))
        file.write(ids[part].view(np.uint8))
