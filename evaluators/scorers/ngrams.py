"""How many n-grams two sequences share, for many pairs at once.

The libraries count the n-grams of one text after the other in dictionaries; sorting those of a whole batch takes a
third of the time. What is made of the counts stays theirs.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Symbols = NDArray[np.int64]


def shared_ngrams(left: Sequence[Symbols], right: Sequence[Symbols], orders: int) -> NDArray[np.int64]:
    """Per pair and n from 1 to `orders`: n-grams on the left, on the right, and in common; shape (pairs, orders, 3).

    An n-gram that comes k times on one side and l times on the other counts min(k, l) times.

    Args:
        left: One sequence of symbols, 0 and up, per pair, each of shape (length,).
        right: The other side, as many.
        orders: The longest n.

    >>> shared_ngrams([np.array([1, 2, 1])], [np.array([2, 1, 1, 2])], 2).tolist()
    [[[3, 4, 3], [2, 3, 2]]]
    """
    pairs = len(left)
    lengths = np.array([len(sequence) for sequence in (*left, *right)], dtype=np.int64)
    found = np.zeros((pairs, orders, 3), dtype=np.int64)
    grams = np.maximum(lengths - np.arange(orders)[:, None], 0)
    found[:, :, 0], found[:, :, 1] = grams[:, :pairs].T, grams[:, pairs:].T
    symbols = np.concatenate([np.zeros(0, dtype=np.int64), *left, *right])
    kinds = int(symbols.max(initial=0)) + 1
    text = np.repeat(np.arange(2 * pairs), lengths)
    place, end, on_left, pair = np.arange(len(symbols)), np.cumsum(lengths)[text], text < pairs, text % pairs
    gram = pair * kinds + symbols  # names an n-gram of a pair; longer ones are named by their beginning and last symbol
    for order in range(orders):
        if order:
            fits = place + order < end
            place, end, on_left, pair = place[fits], end[fits], on_left[fits], pair[fits]
            gram = gram[fits] * kinds + symbols[place + order]
        gram, named = _numbered(gram)
        ours = np.bincount(gram[on_left], minlength=named)
        theirs = np.bincount(gram, minlength=named) - ours
        of_pair = np.zeros(named, dtype=np.int64)
        of_pair[gram] = pair
        found[:, order, 2] = np.bincount(of_pair, np.minimum(ours, theirs), minlength=pairs)
    return found


def _numbered(names: Symbols) -> tuple[Symbols, int]:
    """The names replaced by 0 and up without gaps, in their order, and how many differ; np.unique in half the time."""
    order = names.argsort()
    ordered = names[order]
    number = np.cumsum(np.diff(ordered, prepend=ordered[:1]) != 0)
    numbered = np.empty_like(names)
    numbered[order] = number
    return numbered, int(number[-1]) + 1 if len(number) else 0
