"""Sentence embeddings by the small encoder."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftline.errors import MissingPackage
from driftline.protocols import Answered
from evaluators.scorers import scorer
from evaluators.scorers.embeddings import BATCH_PIECES, Embedder, batches

pytestmark = pytest.mark.model


@pytest.fixture(scope="module")
def embedder():
    try:
        return Embedder()
    except MissingPackage as missing:
        pytest.skip(missing.message)


def test_the_same_meaning_is_closer_than_another(embedder):
    found = scorer("embedding_similarity")(
        [
            Answered((), "The movie was great.", ("I loved the film.",)),
            Answered((), "The stock market fell.", ("I loved the film.",)),
            Answered((), "I loved the film.", ("Nonsense.", "I loved the film.")),
        ]
    )
    assert found[0].value > 0.6 > 0.3 > found[1].value
    assert found[2].value == pytest.approx(1.0, abs=1e-5)


def test_a_vector_does_not_depend_on_its_company(embedder):
    texts = ["short", "a much longer sentence about the weather in the north " * 5, "", "naïve 東京"]
    together = embedder.embed(texts)
    alone = np.concatenate([embedder.embed([text]) for text in texts])
    assert np.abs(together - alone).max() < 1e-5
    assert np.linalg.norm(together, axis=1) == pytest.approx(np.ones(4), abs=1e-5)
    assert embedder.embed([]).shape == (0, together.shape[1])


@given(st.lists(st.integers(1, 9000), max_size=50))
def test_every_text_is_in_one_batch_and_batches_are_small(lengths):
    found = batches(lengths)
    assert sorted(place for batch in found for place in batch) == list(range(len(lengths)))
    for batch in found:
        assert len(batch) == 1 or len(batch) * max(lengths[place] for place in batch) <= BATCH_PIECES
