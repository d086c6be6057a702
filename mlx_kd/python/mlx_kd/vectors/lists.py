"""Inverted lists. Each add makes a segment: its vectors list after list, never changed. Segments of similar size are
merged, so that there are few, and each vector is moved a few times."""
from typing import Any, NamedTuple

import mlx.core as mx

from mlx_kd.vectors import arrays
from mlx_kd.vectors.arrays import np


class Segment(NamedTuple):
    entries: mx.array  # [n, width]: vectors or codes, those of a list one behind the other
    ids: mx.array  # int64 [n]
    offsets: mx.array  # int64 [nlist + 1]

    @property
    def size(self) -> int:
        return self.ids.shape[0]

    def lists(self) -> Any:
        """The list of each entry."""
        offsets = arrays.to_numpy(self.offsets)
        return np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))


def offsets_of(lists: Any, nlist: int) -> Any:
    offsets = np.zeros(nlist + 1, np.int64)
    np.cumsum(np.bincount(lists, minlength=nlist), out=offsets[1:])
    return offsets


def make_segment(entries: Any, ids: Any, lists: Any, nlist: int) -> Any:
    """Of entries whose list is below 0 nothing is kept."""
    order = np.argsort(lists.astype(np.int32), kind="stable")
    order = order[np.searchsorted(lists[order], 0):]
    kind = mx.uint8 if entries.dtype == np.uint8 else mx.float32
    whole, memory = arrays.empty((len(order), entries.shape[1]), kind)
    np.take(entries, order, axis=0, out=memory, mode="clip")
    return Segment(whole, arrays.to_mlx(ids[order]), arrays.to_mlx(offsets_of(lists[order], nlist)))


def merged(segments: Any, nlist: int) -> Any:
    """One segment of several; in each list the order of the segments stays."""
    offsets = [arrays.to_numpy(segment.offsets) for segment in segments]
    sizes = sum(np.diff(each) for each in offsets)
    starts = np.cumsum(sizes) - sizes
    first = segments[0].entries
    whole, memory = arrays.empty((int(sizes.sum()), first.shape[1]), first.dtype)
    ids = np.empty(int(sizes.sum()), np.int64)
    for segment, each in zip(segments, offsets):
        entries, own = arrays.to_numpy(segment.entries), arrays.to_numpy(segment.ids)
        for i in np.flatnonzero(np.diff(each)):
            begin, end = each[i], each[i + 1]
            to = slice(starts[i], starts[i] + end - begin)
            memory[to], ids[to] = entries[begin:end], own[begin:end]
            starts[i] += end - begin
    total = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    return Segment(whole, arrays.to_mlx(ids), arrays.to_mlx(total))


def with_segment(segments: Any, new: Any, nlist: int) -> Any:
    """The segments with a new one; those at the end of less than twice the size of what is behind them are merged."""
    if new.size == 0:
        return segments
    behind, size = [new], new.size
    segments = list(segments)
    while segments and segments[-1].size < 2 * size:
        size += segments[-1].size
        behind.insert(0, segments.pop())
    return (*segments, behind[0] if len(behind) == 1 else merged(behind, nlist))


def without(segments: Any, ids: Any) -> Any:
    """The segments without some ids, and how many entries that were."""
    kept, removed = [], 0
    for segment in segments:
        own = arrays.to_numpy(segment.ids)
        keep = ~np.isin(own, ids)
        removed += int(len(own) - keep.sum())
        if keep.all():
            kept.append(segment)
        elif keep.any():
            nlist = segment.offsets.shape[0] - 1
            kept.append(make_segment(arrays.to_numpy(segment.entries)[keep], own[keep], segment.lists()[keep], nlist))
    return tuple(kept), removed


def find(segments: Any, key: Any) -> Any:
    """(segment, place) of the first entry of an id."""
    for segment in segments:
        at = np.flatnonzero(arrays.to_numpy(segment.ids) == key)
        if len(at):
            return segment, int(at[0])
    raise ValueError(f"[vectors] there is no vector {key} in the index")
