"""A model of PyTorch's CUDA caching allocator for one stream: what it would hold of the card, for the sizes of a `Ledger`'s trace."""

from __future__ import annotations

import bisect
from collections.abc import Iterable
from dataclasses import dataclass

SMALL, SMALL_SEGMENT = 1 << 20, 2 << 20
LARGE_SEGMENT, OWN_SEGMENT, ROUNDED = 20 << 20, 10 << 20, 2 << 20
"""c10/cuda/CUDACachingAllocator: requests up to 1 MiB come from segments of 2 MiB, up to 10 MiB from segments of 20 MiB, larger ones get
a segment of their own in multiples of 2 MiB."""
UNIT = 512


@dataclass
class _Block:
    size: int
    used: bool


class CachingAllocator:
    """Bytes `reserved` (segments) and `allocated` (blocks), with their peaks. With a `capacity` it frees its cache, then fails."""

    def __init__(self, capacity: int | None = None) -> None:
        self.capacity = capacity
        self.reserved = self.reserved_peak = self.allocated = self.allocated_peak = self.flushes = 0
        self._free: dict[bool, list[tuple[int, int, int]]] = {True: [], False: []}  # (size, segment, offset), sorted
        self._segments: dict[int, dict[int, _Block]] = {}  # segment -> offset -> block
        self._sizes: dict[int, int] = {}
        self._where: dict[int, tuple[int, int, bool]] = {}
        self._next = 0

    def run(self, trace: Iterable[tuple[int, int]]) -> bool:
        """Replay (number, bytes) for a birth, (number, -1) for a death. False where it runs out of memory."""
        for number, size in trace:
            if size < 0:
                self.release(number)
            elif not self.take(number, size):
                return False
        return True

    def take(self, number: int, size: int) -> bool:
        if size == 0:
            return True
        size = -(-size // UNIT) * UNIT
        small = size <= SMALL
        found = self._best_fit(size, small) or self._new_segment(size, small)
        if found is None:
            return False
        whole, segment, offset = found
        blocks, rest = self._segments[segment], whole - size
        if rest >= UNIT if small else rest > SMALL:
            blocks[offset] = _Block(size, True)
            blocks[offset + size] = _Block(rest, False)
            bisect.insort(self._free[small], (rest, segment, offset + size))
            whole = size
        else:
            blocks[offset].used = True
        self._where[number] = (segment, offset, small)
        self.allocated += whole
        self.allocated_peak = max(self.allocated_peak, self.allocated)
        return True

    def release(self, number: int) -> None:
        if number not in self._where:
            return
        segment, offset, small = self._where.pop(number)
        blocks, pool = self._segments[segment], self._free[small]
        size = blocks[offset].size
        self.allocated -= size
        after = blocks.get(offset + size)
        if after is not None and not after.used:
            pool.remove((after.size, segment, offset + size))
            del blocks[offset + size]
            size += after.size
        before = next((start for start, block in blocks.items() if start + block.size == offset and not block.used), None)
        if before is not None:
            pool.remove((blocks[before].size, segment, before))
            size += blocks[before].size
            del blocks[offset]
            offset = before
        blocks[offset] = _Block(size, False)
        bisect.insort(pool, (size, segment, offset))

    def _best_fit(self, size: int, small: bool) -> tuple[int, int, int] | None:
        pool = self._free[small]
        index = bisect.bisect_left(pool, (size, -1, -1))
        return pool.pop(index) if index < len(pool) else None

    def _new_segment(self, size: int, small: bool) -> tuple[int, int, int] | None:
        whole = SMALL_SEGMENT if small else LARGE_SEGMENT if size < OWN_SEGMENT else -(-size // ROUNDED) * ROUNDED
        if self.capacity is not None and self.reserved + whole > self.capacity:
            self._flush()
            if self.reserved + whole > self.capacity:
                return None
        segment = self._next
        self._next += 1
        self._segments[segment] = {0: _Block(whole, False)}
        self._sizes[segment] = whole
        self.reserved += whole
        self.reserved_peak = max(self.reserved_peak, self.reserved)
        return whole, segment, 0

    def _flush(self) -> None:
        """Give back every segment that is wholly free."""
        self.flushes += 1
        for pool in self._free.values():
            for entry in [entry for entry in pool if self._sizes[entry[1]] == entry[0]]:
                pool.remove(entry)
                self.reserved -= entry[0]
                del self._segments[entry[1]]
