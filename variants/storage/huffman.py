"""Matrices of few distinct values as a codebook and Huffman codes, written and read back bit for bit.

The codes are canonical (only their lengths are kept) and at most 16 bits long. A stream is cut into blocks of `BLOCK`
symbols whose first bits are noted, so that all blocks are read side by side with array operations. Matrices are
written some blocks at a time, so that little is held besides the matrix and its stream.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from variants.free_memory import trim
from variants.storage.code_lengths import LONGEST, limited_lengths
from variants.storage.shell import fill, shell, tensors

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

FILE = "huffman.safetensors"
BLOCK = 512
AT_ONCE = 2048 * BLOCK  # symbols that are worked on at a time
MOST_VALUES = 4096  # distinct values of a matrix above which it is kept as it is; so is one of few weights per value
PARTS = ("codes", "starts", "lengths", "values", "shape")


def save(parent: Path, directory: Path) -> tuple[int, int]:
    """Writes the weights of `parent` to `directory`; returns how many matrices were coded, and the bytes of all."""
    from safetensors.torch import save_file

    kept: dict[str, torch.Tensor] = {}
    coded = 0
    for name, tensor in tensors(parent):
        packed = encoded(tensor) if tensor.ndim == 2 else None
        coded += packed is not None
        kept |= {f"{name}|{part}": value for part, value in packed.items()} if packed else {name: tensor.contiguous()}
        trim()  # what is kept lies between what was worked with
    save_file(kept, directory / FILE)
    return coded, (directory / FILE).stat().st_size


def load(directory: Path) -> "PreTrainedModel":
    """The model whose weights `save` wrote, each bit as it was."""
    from safetensors import safe_open

    model, weights = shell(directory), {}
    with safe_open(directory / FILE, framework="pt") as file:
        names = dict.fromkeys(name.partition("|")[0] for name in file.keys())  # noqa: SIM118
        present = set(file.keys())
        for name in names:
            if name in present:
                weights[name] = file.get_tensor(name)
            else:
                weights[name] = decoded({part: file.get_tensor(f"{name}|{part}") for part in PARTS})
    fill(model, weights)
    return model


def encoded(matrix: "torch.Tensor") -> "dict[str, torch.Tensor] | None":
    """The parts of `matrix`, or None where it has too many distinct values for a codebook."""
    import torch

    as_integers = {2: torch.int16, 4: torch.int32, 8: torch.int64}[matrix.element_size()]
    bits = matrix.contiguous().view(as_integers).flatten()  # for floats, -0.0 would be 0.0
    found = distinct(bits, min(MOST_VALUES, matrix.numel() // 8))
    if found is None:
        return None
    order = found.view(matrix.dtype).argsort(stable=True)
    values, rank = found.view(matrix.dtype)[order], torch.empty(len(order), dtype=torch.int16)
    rank[order] = torch.arange(len(order), dtype=torch.int16)
    numbers = torch.cat([rank[torch.searchsorted(found, part)] for part in torch.split(bits, AT_ONCE)]).numpy()
    lengths = limited_lengths(np.bincount(numbers, minlength=len(values)).tolist())
    codes, starts = packed(numbers, np.array(lengths))
    return {
        "codes": torch.from_numpy(codes),
        "starts": torch.from_numpy(starts),
        "lengths": torch.tensor(lengths, dtype=torch.uint8),
        "values": values,
        "shape": torch.tensor(matrix.shape),
    }


def distinct(numbers: "torch.Tensor", most: int) -> "torch.Tensor | None":
    """The distinct integers of `numbers`, sorted, or None where there are more than `most`."""
    import torch

    found = numbers[:0]
    for part in torch.split(numbers, AT_ONCE):
        found = torch.unique(torch.cat([found, torch.unique(part)]))
        if len(found) > most:
            return None
    return found


def decoded(parts: "dict[str, torch.Tensor]") -> "torch.Tensor":
    """The matrix that `encoded` made parts of."""
    import torch

    rows, columns = parts["shape"].tolist()
    lengths = parts["lengths"].numpy().astype(np.int64)
    symbols = unpacked(parts["codes"].numpy(), parts["starts"].numpy(), lengths, rows * columns)
    return parts["values"][torch.from_numpy(symbols)].reshape(rows, columns)


def packed(symbols: NDArray[Any], lengths: NDArray[Any]) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """The bits of `symbols`, eight to a byte, and the bit at which each block begins."""
    starts, streams, left = [], [], np.zeros(0, dtype=np.uint8)
    written = 0  # bits in `streams`, always whole bytes; `left` are those that do not fill one yet
    for begins, stream in _streams(symbols, lengths):
        starts.append(begins[::BLOCK] + (written + len(left)))
        stream = np.concatenate([left, stream])
        whole = len(stream) // 8 * 8
        streams.append(np.packbits(stream[:whole]))
        written, left = written + whole, stream[whole:]
    return np.concatenate([*streams, np.packbits(left)]), np.concatenate([np.zeros(0, dtype=np.int64), *starts]).astype(
        np.int32
    )


def _streams(symbols: NDArray[Any], lengths: NDArray[Any]) -> Iterator[tuple[NDArray[np.int64], NDArray[np.uint8]]]:
    """For `AT_ONCE` symbols at a time, where the code of each begins, and their bits, one to a byte."""
    codes = canonical_codes(lengths)
    for first in range(0, len(symbols), AT_ONCE):
        here = symbols[first : first + AT_ONCE]
        bits, written = lengths[here], codes[here]
        ends = np.cumsum(bits)
        begins = ends - bits
        stream = np.zeros(int(ends[-1]), dtype=np.uint8)
        for place in range(int(bits.max())):
            longer = bits > place
            stream[begins[longer] + place] = (written[longer] >> (bits[longer] - 1 - place)) & 1
        yield begins, stream


def unpacked(
    codes: NDArray[np.uint8], starts: NDArray[np.int32], lengths: NDArray[Any], count: int
) -> NDArray[np.int64]:
    """The `count` symbols that `packed` wrote."""
    symbol_of, bits_of = _table(lengths)
    stream = np.concatenate([codes, np.zeros(4, dtype=np.uint8)]).astype(np.uint32)
    found = np.zeros((len(starts), BLOCK), dtype=np.int64)
    at, last = starts.astype(np.int64), len(stream) - 3
    for place in range(BLOCK):  # the same place of every block at once; the last block may read beyond its end
        byte = np.minimum(at >> 3, last)
        window = (stream[byte] << 16) | (stream[byte + 1] << 8) | stream[byte + 2]
        window = (window >> (8 - (at & 7)).astype(np.uint32)) & 0xFFFF
        found[:, place] = symbol_of[window]
        at = at + bits_of[window]
    return found.reshape(-1)[:count]


def canonical_codes(lengths: NDArray[Any]) -> NDArray[np.int64]:
    """The code of each symbol that follows from the lengths alone: shorter first, then by number."""
    codes = np.zeros(len(lengths), dtype=np.int64)
    code = before = 0
    for symbol in sorted(np.flatnonzero(lengths).tolist(), key=lambda one: (lengths[one], one)):
        code <<= int(lengths[symbol]) - before
        before = int(lengths[symbol])
        codes[symbol] = code
        code += 1
    return codes


def _table(lengths: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For every 16 bits that may follow, the symbol they begin with and the bits it takes."""
    symbol_of, bits_of = np.zeros(1 << LONGEST, dtype=np.int64), np.ones(1 << LONGEST, dtype=np.int64)
    codes = canonical_codes(lengths)
    for symbol in np.flatnonzero(lengths).tolist():
        free = LONGEST - int(lengths[symbol])
        first = int(codes[symbol]) << free
        symbol_of[first : first + (1 << free)] = symbol
        bits_of[first : first + (1 << free)] = lengths[symbol]
    return symbol_of, bits_of
