"""What models cost: a table of prices in versions, of which the newest counts."""

from dataclasses import dataclass
from typing import Any

from sqlmodel import Session, col, select

from driftline.errors import BadInput
from driftline.moment import now_us
from driftline.store.projects import audit
from driftline.store.tables import PriceTable, Variant

NANO_PER_MILLION = 1000.0  # nano-dollars a token for one dollar a million tokens


@dataclass(frozen=True, slots=True)
class Price:
    """Nano-dollars a token."""

    input: float
    output: float

    def of(self, input_tokens: int | None, output_tokens: int | None) -> int:
        """What one answer costs, in nano-dollars; tokens that were not counted cost nothing."""
        return round(self.input * (input_tokens or 0) + self.output * (output_tokens or 0))


def model_name(variant: Variant) -> str:
    """The name prices are kept under: the model of a remote runner, else the variant's own name."""
    return str(variant.spec.get("runner_config", {}).get("model") or variant.name)


def set_price(
    session: Session, project_id: int, model: str, input_usd: float, output_usd: float, actor: str
) -> PriceTable:
    """A new version of the price table in which `model` costs so much; all else stays.

    Args:
        input_usd: Dollars for a million tokens of prompts.
        output_usd: Dollars for a million tokens of answers.

    Raises:
        BadInput: A price below 0.
    """
    if not (input_usd >= 0 and output_usd >= 0):
        raise BadInput(f"A model costs at least 0 dollars; got {input_usd} and {output_usd}.")
    newest = _newest(session, project_id)
    prices: dict[str, Any] = dict(newest.prices) if newest is not None else {}
    prices[model] = {"input": input_usd * NANO_PER_MILLION, "output": output_usd * NANO_PER_MILLION}
    row = PriceTable(
        project_id=project_id, version=newest.version + 1 if newest else 1, prices=prices, created_at=now_us()
    )
    session.add(row)
    session.flush()
    audit(session, project_id, actor, "price.set", f"price_table:{row.id}", {"model": model})
    return row


def price_of(session: Session, project_id: int, variant: Variant) -> Price | None:
    """What the variant's model costs; None where no price is known."""
    newest = _newest(session, project_id)
    found = newest.prices.get(model_name(variant)) if newest is not None else None
    return Price(float(found["input"]), float(found["output"])) if found else None


def prices(session: Session, project_id: int) -> dict[str, Price]:
    """All known prices by model."""
    newest = _newest(session, project_id)
    found = newest.prices if newest is not None else {}
    return {model: Price(float(price["input"]), float(price["output"])) for model, price in sorted(found.items())}


def _newest(session: Session, project_id: int) -> PriceTable | None:
    of_project = select(PriceTable).where(PriceTable.project_id == project_id)
    return session.exec(of_project.order_by(col(PriceTable.version).desc())).first()
