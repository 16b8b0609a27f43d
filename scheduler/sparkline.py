"""A small picture of what an alert is about: the monitor's last readings, drawn as a PNG."""

import io
from collections.abc import Sequence

from sqlmodel import Session, col, select

from driftline.store.tables import Alert, DriftEvent, Reading

WIDTH, HEIGHT, MARGIN = 600, 120, 12
MOST_POINTS = 120
INK, ALARM, GROUND = (37, 99, 235), (220, 38, 38), (255, 255, 255)


def sparkline_of(session: Session, alert: Alert) -> bytes | None:
    """The readings before and at the alarm of a drift alert as a PNG; None where there is nothing to draw."""
    event = session.get(DriftEvent, alert.drift_event_id) if alert.drift_event_id else None
    if event is None:
        return None
    query = select(Reading.id, Reading.value).where(Reading.monitor_id == event.monitor_id)
    rows = session.exec(query.order_by(col(Reading.id).desc()).limit(MOST_POINTS)).all()
    points = [(key, value) for key, value in reversed(rows) if value is not None]
    alarm = next((place for place, (key, _) in enumerate(points) if key >= event.reading_id), None)
    return draw([value for _, value in points], alarm) if len(points) > 1 else None


def draw(values: Sequence[float], alarm: int | None = None) -> bytes:
    """A line of at least two values as a PNG; red from the place of the alarm on."""
    from PIL import Image, ImageDraw

    low, high = min(values), max(values)
    span = (high - low) or 1.0
    step = (WIDTH - 2 * MARGIN) / (len(values) - 1)
    points = [
        (MARGIN + place * step, HEIGHT - MARGIN - (value - low) / span * (HEIGHT - 2 * MARGIN))
        for place, value in enumerate(values)
    ]
    image = Image.new("RGB", (WIDTH, HEIGHT), GROUND)
    pen = ImageDraw.Draw(image)
    pen.line(points, fill=INK, width=3, joint="curve")
    if alarm is not None:
        tail = points[max(0, alarm - 1) :]
        if len(tail) > 1:
            pen.line(tail, fill=ALARM, width=3, joint="curve")
        x, y = points[alarm]
        pen.ellipse((x - 5, y - 5, x + 5, y + 5), fill=ALARM)
    out = io.BytesIO()
    image.save(out, "PNG", optimize=True)
    return out.getvalue()
