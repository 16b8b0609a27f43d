"""Does the answer mean what the reference means?"""

from collections.abc import Sequence

from driftline.protocols import Answered, Score, Scored
from evaluators.scorers.embeddings import Embedder
from evaluators.scorers.judging import Together, references, unscored


def embedding_similarity(path: str | None = None) -> Score:
    """The cosine of the sentence embeddings of answer and reference, at least 0; of several references the closest.

    Texts are cut after 256 word pieces. An empty answer scores 0.

    Args:
        path: Folder of a sentence encoder in the format of transformers, mean pooled; all-MiniLM-L6-v2 without.

    Raises:
        MissingPackage: torch, transformers or the default model is not installed.
    """
    embedder = Embedder(path)

    def judge(answers: Sequence[Answered]) -> list[Scored]:
        texts = sorted({text for answered in answers for text in (answered.text, *references(answered))})
        place = {text: number for number, text in enumerate(texts)}
        vectors = embedder.embed(texts)
        scored = []
        for answered in answers:
            known = [place[text] for text in references(answered)]
            if not known:
                scored.append(unscored("the item has no reference answer"))
            elif not answered.text.strip():
                scored.append(Scored(0.0, because="the answer is empty"))
            else:
                closest = float((vectors[known] @ vectors[place[answered.text]]).max())
                scored.append(Scored(min(max(closest, 0.0), 1.0)))
        return scored

    return Together("embedding_similarity", judge)
