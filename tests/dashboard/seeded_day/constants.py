"""What the seeded day is made of. Texts are hostile on purpose: they are somebody else's input."""

from sqlmodel import Session

HOSTILE = '<script>alert("x")</script><img src=x onerror=alert(1)> & "quotes"'
REPORT = b"<!doctype html><html><body><h1>Report</h1><script>document.body.dataset.ran='yes'</script></body></html>"
CAPITALS = [("France", "Paris"), ("Japan", "Tokyo"), ("Kenya", "Nairobi"), ("Chile", "Santiago"), ("Norway", "Oslo")]
LEVELS = {"smollm2-fp32": 0.62, "smollm2-bf16": 0.619, "smollm2-int8": 0.41}
MINUTES = 100
SWITCH = 60  # minute at which the worse variant took over


def add(session: Session, *rows: object) -> None:
    session.add_all(rows)
    session.flush()
