"""`driftline demo --history`: the same story on recorded answers of GPT-4, March and June 2023.

Chen, Zaharia, Zou 2023, "How is ChatGPT's behavior changing over time?" (arXiv 2307.09009), data of the repository
lchen001/LLMDrift (Apache-2.0): is a number prime? Latencies and tokens are those that were recorded.
"""

import csv
import gzip
from pathlib import Path
from typing import Any, ClassVar

from sqlmodel import Session

from driftline.acts import monitors
from driftline.cli.demo.story import ROUTE, Story
from driftline.cli.say import actor
from driftline.errors import BadInput
from driftline.store.hashing import sample_key
from driftline.store.tables import GoldenVersion

DATA = Path(__file__).resolve().parents[4] / "shared" / "data" / "llmdrift" / "PRIME_FULL_EVAL.csv.gz"
MARCH, JUNE = "gpt-4-0314", "gpt-4-0613"


class History(Story):
    """GPT-4 of June takes the place of GPT-4 of March."""

    deciding = "contains"
    scorers: ClassVar[list[str] | None] = ["contains"]
    model = "gpt-4"
    base, harmless, broken = MARCH, "", JUNE
    signals: ClassVar[set[str]] = {"quality"}
    pace_s = 0.1

    def load(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """The thousand numbers; the golden set and the traffic share none.

        Raises:
            BadInput: The recorded answers are not there.
        """
        if not DATA.is_file():
            raise BadInput(f"The recorded answers are not at {DATA}. Put PRIME_FULL_EVAL.csv.gz of LLMDrift there.")
        with gzip.open(DATA, "rt", encoding="utf-8", newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["model"].endswith(MARCH)]
        every: list[dict[str, Any]] = [
            {
                "input": row["query"],
                "expected": "[Yes]" if row["ref_answer"] == "yes" else "[No]",
                "tags": {"number": "prime" if row["ref_answer"] == "yes" else "composite"},
            }
            for row in rows
        ]
        # The file has all primes first; shuffled, the same way everywhere, both kinds come evenly.
        every.sort(key=lambda item: sample_key(item["input"]))
        return every[: self.size.golden_items], every[self.size.golden_items :]

    def spec_of(self, name: str) -> dict[str, Any]:
        """Recorded answers of one model version."""
        from variants.recipe import Spec

        config = {
            "path": str(DATA), "where": {"model": f"openaichat/{name}"}, "prompt": "query", "answer": "answer",
            "latency": "latency", "latency_unit": "s", "output_tokens": "answer_token",
        }  # fmt: skip
        return Spec.from_json({"runner": "recorded", "runner_config": config, "chain": []}).to_json()

    def origin(self) -> tuple[str, str, str]:
        """Name, source and licence of the golden set."""
        return "primes", "LLMDrift PRIME (arXiv 2307.09009)", "Apache-2.0"

    def build_and_replay(self, version: GoldenVersion) -> None:
        """Replays and judges both versions."""
        self.teller.chapter("2. GPT-4 of March and of June 2023 answer the golden set")
        self.replay(version, [self.base, self.broken])

    def add_monitors(self, session: Session) -> None:
        """Errors and latency, and whether the answers are right."""
        params = self.size.monitor_params
        for signal in ("errors", "latency"):
            monitors.add(session, self.project_id, f"{ROUTE}/{signal}", signal, actor(), route=ROUTE, params=params)
        monitors.add(
            session,
            self.project_id,
            f"{ROUTE}/quality",
            "quality",
            actor(),
            route=ROUTE,
            source="contains",
            params=params,
        )
