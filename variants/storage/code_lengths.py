"""How long each symbol's Huffman code is."""

import heapq
from collections.abc import Sequence

LONGEST = 16  # bits of a code: what one look into a table decides


def limited_lengths(counts: Sequence[int]) -> list[int]:
    """As `huffman_lengths`, none above 16: rare symbols are taken for a little less rare until that holds."""
    floor, found = 0, huffman_lengths(counts)
    while max(found, default=0) > LONGEST:
        floor = max(2 * floor, sum(counts) >> 20, 1)
        found = huffman_lengths([count and max(count, floor) for count in counts])
    return found


def huffman_lengths(counts: Sequence[int]) -> list[int]:
    """Bits of each symbol's Huffman code; 0 for a symbol that does not occur, 1 where only one does.

    >>> huffman_lengths([5, 0, 2, 1])
    [1, 0, 2, 2]
    """
    lengths = [0] * len(counts)
    heap = [(count, symbol, [symbol]) for symbol, count in enumerate(counts) if count]
    heapq.heapify(heap)
    if len(heap) == 1:
        lengths[heap[0][1]] = 1
    while len(heap) > 1:
        less, _, left = heapq.heappop(heap)
        more, tie, right = heapq.heappop(heap)
        for symbol in (*left, *right):
            lengths[symbol] += 1
        heapq.heappush(heap, (less + more, tie, [*left, *right]))
    return lengths
