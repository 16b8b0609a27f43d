"""A few shared values per matrix: what a codebook and Huffman codes make of the weights."""

from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass

from variants.loading import linears
from variants.method import STRICT, Say, Stage
from variants.storage.code_lengths import limited_lengths

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

BINS = 65_536
ROUNDS = 12


@dataclass(frozen=True, config=STRICT)
class KMeansSharing:
    """Each Linear weight replaced by the nearest of `clusters` values, found per matrix by k-means.

    The values start evenly spaced between smallest and largest (Han et al. 2016, "Deep Compression": starting at
    quantiles loses the outliers). The shared values are written back at the model's width; `packed_bytes` counts
    Huffman codes of their numbers plus the codebooks (the step `huffman` writes them), `fixed_bytes` numbers of equal
    length.
    """

    clusters: Annotated[int, Field(ge=2, le=4096)] = 256
    skip: tuple[str, ...] = ("lm_head",)
    stage: ClassVar[Stage] = "weights"
    revision: ClassVar[int] = 1

    def edit(
        self, model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", say: Say
    ) -> tuple["PreTrainedModel", dict[str, float]]:
        import torch

        chosen = linears(model, self.skip)
        others = sum(p.numel() * p.element_size() for p in model.parameters())
        packed = fixed = 0.0
        for done, module in enumerate(chosen.values()):
            if done % 30 == 0:
                say(f"clustering {done}/{len(chosen)} matrices")
            weight = module.weight.data
            centres = cluster(weight.float().flatten(), self.clusters)
            number = torch.bucketize(weight.float(), (centres[1:] + centres[:-1]) / 2)
            weight.copy_(centres[number])
            counts = torch.bincount(number.flatten(), minlength=len(centres)).tolist()
            lengths = limited_lengths(counts)
            codebook = len(centres) * 5  # a float32 value and one byte of code length each
            packed += sum(c * bits for c, bits in zip(counts, lengths, strict=True)) / 8 + codebook
            fixed += weight.numel() * max(1, (len(centres) - 1).bit_length()) / 8 + codebook
            others -= weight.numel() * weight.element_size()
        return model, {"packed_bytes": others + packed, "fixed_bytes": others + fixed}


def cluster(values: "torch.Tensor", clusters: int) -> "torch.Tensor":
    """Sorted centres (at most `clusters`) of a one-dimensional k-means over float32 `values`.

    Lloyd's rounds run on a histogram of 65 536 bins: the same centres to a 65 536th of the range, far faster.
    """
    import torch

    low, high = float(values.min()), float(values.max())
    if high <= low:
        return values[:1].clone()
    count = torch.histc(values, bins=BINS, min=low, max=high).double()
    middle = low + (torch.arange(BINS, dtype=torch.float64) + 0.5) * ((high - low) / BINS)
    centres = torch.linspace(low, high, clusters, dtype=torch.float64)
    for _ in range(ROUNDS):
        nearest = torch.bucketize(middle, (centres[1:] + centres[:-1]) / 2)
        mass = torch.zeros(clusters, dtype=torch.float64).index_add_(0, nearest, count)
        moment = torch.zeros(clusters, dtype=torch.float64).index_add_(0, nearest, count * middle)
        centres = torch.where(mass > 0, moment / mass.clamp(min=1), centres)
    return centres.sort().values.float()
