"""Schemas that receivers of alerts may rely on."""

import json
from functools import lru_cache
from pathlib import Path
from typing import Any


@lru_cache(maxsize=1)
def alert_event_schema() -> dict[str, Any]:
    """The JSON Schema of `data` in the CloudEvents that webhook channels send."""
    found: dict[str, Any] = json.loads((Path(__file__).parent / "alert_event.schema.json").read_text(encoding="utf-8"))
    return found
