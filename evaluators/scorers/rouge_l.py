"""How long is the common subsequence of answer and reference?"""

from driftline.protocols import Score
from evaluators.scorers.judging import Each, best, optional
from evaluators.scorers.words import words


class _Words:
    """Our words, in the shape the library asks for: its own drop all that is not ASCII."""

    def tokenize(self, text: str) -> list[str]:
        return words(text)


def rouge_l() -> Score:
    """ROUGE-L F1 of the best reference, by the library rouge-score on words of any script.

    Raises:
        MissingPackage: rouge-score is not installed.
    """
    library = optional("rouge_score.rouge_scorer", "rouge-score", "rouge_l")
    rouge = library.RougeScorer(["rougeL"], tokenizer=_Words())

    def agreement(answer: str, reference: str) -> float:
        return float(rouge.score(reference, answer)["rougeL"].fmeasure)

    return Each("rouge_l", best(agreement))
