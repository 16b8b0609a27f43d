"""Who is not told now: alerts that a silence matches, and alerts that a greater one explains."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sqlmodel import Session, col, select

from driftline.acts.matching import MatcherIndex, matches
from driftline.moment import now_us
from driftline.store.tables import Alert, Inhibition, Silence
from scheduler.timetable import in_window

Labels = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Explains:
    """While an alert that matches `source` stands, those that match `target` and share the labels `equal` are mute."""

    source: Labels
    target: Labels
    equal: Sequence[str]


# What needs no setting: an outage of the platform speaks for all variants of the route, a route that sends nothing for
# its variants, and a collector that is away for routes that seem to send nothing.
ALWAYS = (
    Explains({"cause": "platform"}, {"variant": "~.+"}, ("route",)),
    Explains({"on": "no_data"}, {"on": "!no_data", "variant": "~.+"}, ("route",)),
    Explains({"on": "self", "part": "collector"}, {"on": "~no_data|captured_share"}, ()),
)


@dataclass
class Muting:
    """What mutes alerts of one project at one moment."""

    silences: Sequence[Silence]
    explains: Sequence[Explains] = ALWAYS
    sources: dict[int, set[tuple[str, ...]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._index = MatcherIndex([silence.matchers for silence in self.silences])

    def silence_of(self, labels: Labels) -> Silence | None:
        """The silence that mutes these labels."""
        place = self._index.first(labels)
        return None if place is None else self.silences[place]

    def is_explained(self, labels: Labels) -> bool:
        """Whether a greater alert stands that speaks for this one; alerts that are sources themselves are not."""
        for place, one in enumerate(self.explains):
            standing = self.sources.get(place)
            if (
                standing
                and tuple(labels.get(name, "") for name in one.equal) in standing
                and matches(labels, one.target)
                and not matches(labels, one.source)
            ):
                return True
        return False

    def state_of(self, labels: Labels) -> str | None:
        """ "silenced" or "inhibited"; None where people shall be told."""
        if self.silence_of(labels) is not None:
            return "silenced"
        return "inhibited" if self.is_explained(labels) else None


def muting_of(session: Session, project_id: int) -> Muting:
    """What mutes alerts of the project now."""
    explains = [
        *ALWAYS,
        *(
            Explains(row.source, row.target, tuple(row.equal))
            for row in session.exec(select(Inhibition).where(Inhibition.project_id == project_id))
        ),
    ]
    standing = session.exec(select(Alert.labels).where(Alert.project_id == project_id, Alert.state != "resolved")).all()
    sources: dict[int, set[tuple[str, ...]]] = {}
    for place, one in enumerate(explains):
        for labels in standing:
            if matches(labels, one.source):
                sources.setdefault(place, set()).add(tuple(labels.get(name, "") for name in one.equal))
    return Muting(standing_silences(session, project_id), explains, sources)


def standing_silences(session: Session, project_id: int) -> list[Silence]:
    """The silences that mute now: begun, not expired, and in their window where they have one."""
    now = now_us()
    begun = select(Silence).where(Silence.project_id == project_id, col(Silence.since) <= now, col(Silence.until) > now)
    return [
        row
        for row in session.exec(begun.order_by(col(Silence.id)))
        if row.cron is None or in_window(row.cron, row.lasts_s or 0.0, row.timezone, now)
    ]
