"""Existing logs in, stored records out. An import that was broken off goes on where it was."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlmodel import Session

from collector.contents import opened
from collector.files import Item, read_items, write_items
from collector.foreign import FORMATS, iso_of, recognise
from collector.record import BadRecord, Record, check_moment, check_tags, moment_of
from collector.rows import Privacy, Row, row_of
from collector.writer import Batch, Writer
from driftline.errors import BadInput
from driftline.moment import now_us, parse
from driftline.store.engine import engine, reading, writing
from driftline.store.generations import began_since
from driftline.store.tables import Bookmark, Generation, Project, Variant

BATCH = 500  # items in one commit
_OLDEST = parse("2000-01-01")


@dataclass
class Imported:
    """What became of a file's items."""

    read: int = 0
    accepted: int = 0
    duplicates: int = 0
    other: int = 0  # items that are no call of a model: spans of tools, scores
    rejected: int = 0
    reasons: list[str] = field(default_factory=list)  # the first few, with the item's number


def import_file(
    path: Path, project_id: int, kind: str | None = None, progress: Callable[[Imported], None] = lambda _: None
) -> Imported:
    """Stores the calls of a file (.jsonl, .json, .csv, .parquet) under the project's rule for texts.

    `kind` is one of FORMATS, or None to recognise it by the first item. Old moments are taken, and ids that are there
    already change nothing. When it is broken off, the next call with the same file goes on after the last commit.

    Raises:
        BadInput: The file cannot be read, or is of no known kind.
    """
    items = read_items(path)
    bookmark = _bookmark_of(path, project_id)
    with reading() as session:
        privacy = Privacy(session.get_one(Project, project_id).store_text)
        known = session.get(Bookmark, bookmark)
    done = Imported(read=known.position if known else 0)
    items = islice(items, done.read, None)
    writer = Writer(engine())
    writer.start()
    try:
        while batch := list(islice(items, BATCH)):
            kind = kind or recognise(batch[0])
            if kind not in FORMATS:
                raise BadInput(f"The items of {path} are of no known kind. Say which: {', '.join(FORMATS)}.")
            rows = _rows(batch, kind, project_id, privacy, done)
            outcome = writer.submit(Batch(project_id, rows=rows)).result() if rows else None
            done.read += len(batch)
            if outcome is not None:
                done.accepted += outcome.accepted
                done.duplicates += outcome.duplicates
            _remember(bookmark, done.read)
            progress(done)
    finally:
        writer.stop()
    _remember(bookmark, None)
    return done


def _rows(batch: Sequence[Item], kind: str, project_id: int, privacy: Privacy, done: Imported) -> list[Row]:
    rows = []
    now = now_us()
    for number, item in enumerate(batch, done.read + 1):
        try:
            record = FORMATS[kind](item)
            if record is None:
                done.other += 1
                continue
            started = moment_of(record.started_at, now)
            check_moment(started, now, now - _OLDEST, "calls from 2000 to a day ahead are imported")
            check_tags(record.tags or {})
            rows.append(row_of(record, started, project_id, privacy, now))
        except BadRecord as refusal:
            done.rejected += 1
            if len(done.reasons) < 20:
                done.reasons.append(f"item {number}: {refusal}")
    return rows


def _bookmark_of(path: Path, project_id: int) -> str:
    with path.open("rb") as file:
        head = hashlib.sha256(file.read(2**20)).hexdigest()
    return f"import:{project_id}:{path.stat().st_size}:{head}"


def _remember(name: str, position: int | None) -> None:
    with writing() as session:
        known = session.get(Bookmark, name)
        if position is None:
            if known is not None:
                session.delete(known)
        elif known is None:
            session.add(Bookmark(name=name, position=position))
        else:
            known.position = position
            session.add(known)


def export_records(
    project_id: int,
    path: Path,
    since: int = 0,
    until: int | None = None,
    variant: str | None = None,
    *,
    kind: str | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> int:
    """Writes a project's calls that started from `since` to before `until` (microseconds); how many they were.

    The file holds records as they are sent, so that it can be imported again; texts are as they are stored. `kind` is
    jsonl, csv or parquet, or None to go by the suffix. It appears under its name when it is whole.

    Raises:
        BadInput: The kind is unknown, or the folder cannot be written.
    """
    suffix = f".{kind}" if kind else path.suffix
    with reading() as session:
        batches = _counted(_stored(session, project_id, since, until, variant), progress)
        return write_items(path, Record.__struct_fields__, batches, suffix=suffix)


def _counted(
    batches: Iterator[Sequence[Mapping[str, Any]]], progress: Callable[[int], None]
) -> Iterator[Sequence[Mapping[str, Any]]]:
    n = 0
    for batch in batches:
        yield batch
        n += len(batch)
        progress(n)


def _stored(
    session: Session, project_id: int, since: int, until: int | None, variant: str | None
) -> Iterator[Sequence[Mapping[str, Any]]]:
    row, named = Generation.__table__.c, Variant.__table__.c  # type: ignore[attr-defined]
    asked = select(Generation, named.name).join(Variant, named.id == row.variant_id)
    asked = asked.where(row.project_id == project_id, began_since(session.connection(), since))
    if until is not None:
        asked = asked.where(row.started_at < until)
    if variant is not None:
        asked = asked.where(named.name == variant)
    position = 0
    while True:
        page = session.execute(asked.where(row.seq > position).order_by(row.seq).limit(BATCH)).all()
        if not page:
            return
        yield [_record_of(generation, name) for generation, name in page]
        position = page[-1][0].seq
        session.expunge_all()


def _record_of(row: Generation, variant: str) -> dict[str, Any]:
    made = {name: getattr(row, name, None) for name in Record.__struct_fields__}
    made["started_at"] = iso_of(row.started_at)
    made["variant"] = variant
    made["input"] = None if row.input is None else opened(row.input)
    made["cost_usd"] = None if row.cost_nano is None else row.cost_nano / 1e9
    if row.output is None and row.error is None:
        made["output"] = ""  # a record needs one of both
    return made
