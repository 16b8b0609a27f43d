"""How many n-grams two sequences share, for many pairs at once.

The libraries count the n-grams of one text after the other in dictionaries; one sort of a whole batch's longest ones
finds the n-grams of every length, in a fifth of the time. What is made of the counts stays theirs.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Symbols = NDArray[np.int64]

ROOM = 63  # bits of a name


def shared_ngrams(symbols: Symbols, lengths: Sequence[int], orders: int) -> NDArray[np.int64] | None:
    """Per pair and n from 1 to `orders`: n-grams on the left, on the right, and in common; shape (pairs, orders, 3).

    An n-gram that comes k times on one side and l times on the other counts min(k, l) times. None where there are too
    many pairs or too many different symbols for one sort; fewer pairs may do then.

    Args:
        symbols: Those of all sequences one after the other, 0 and up, shape (sum of lengths,); first those on the left
            of each pair, then those on the right.
        lengths: How long each sequence is.
        orders: The longest n.

    >>> shared_ngrams(np.array([1, 2, 1, 2, 1, 1, 2]), [3, 4], 2).tolist()
    [[[3, 4, 3], [2, 3, 2]]]
    """
    pairs = len(lengths) // 2
    sizes = np.array(lengths, dtype=np.int64)
    found = np.zeros((pairs, orders, 3), dtype=np.int64)
    grams = np.maximum(sizes - np.arange(orders)[:, None], 0)
    found[:, :, 0], found[:, :, 1] = grams[:, :pairs].T, grams[:, pairs:].T
    if not len(symbols):
        return found
    room = (ROOM - 1 - pairs.bit_length()) // orders
    if (bits := _bits(symbols)) > room:
        symbols = np.unique(symbols, return_inverse=True)[1]
        if (bits := _bits(symbols)) > room:
            return None
    n = len(symbols)
    sequence = np.repeat(np.arange(2 * pairs), sizes)
    place = np.arange(n) + (orders - 1) * sequence
    apart = np.zeros(n + 2 * pairs * (orders - 1), dtype=np.int64)  # zeros stand where a sequence has ended
    apart[place] = symbols + 1
    longest = apart.copy()
    for later in range(1, orders):
        longest <<= bits
        longest[:-later] |= apart[later:]
    on_right = sequence >= pairs
    # What begins at each symbol, by one number: its pair, `orders` symbols, its side. Sorted, equal n-grams adjoin.
    names = ((sequence - pairs * on_right) << bits * orders | longest[place]) << 1 | on_right
    names.sort()
    grams_from = names >> (1 + bits * np.arange(orders - 1, -1, -1))[:, None]  # (orders, n)
    first = np.ones(orders * n + 1, dtype=np.bool_)
    np.not_equal(grams_from[:, 1:], grams_from[:, :-1], out=first[:-1].reshape(orders, n)[:, 1:])
    starts = np.flatnonzero(first)
    times = starts[1:] - starts[:-1]
    several = np.flatnonzero(times > 1)
    starts, times = starts[several], times[several]
    order = starts // n
    at = starts - order * n
    so_far = np.zeros(n + 1, dtype=np.int64)
    np.cumsum(names & 1, out=so_far[1:])
    right = so_far[at + times] - so_far[at]
    is_whole = grams_from.ravel()[starts] & (1 << bits) - 1 > 0  # else its text has ended before
    pair = names[at] >> 1 + bits * orders
    common = np.bincount(order * pairs + pair, np.minimum(right, times - right) * is_whole, minlength=orders * pairs)
    found[:, :, 2] = common.reshape(orders, pairs).T
    return found


def _bits(symbols: Symbols) -> int:
    return int(symbols.max() + 1).bit_length()
