"""Prompts as vectors, by the small encoder on this worker's CPU; what was embedded before is kept in memory."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlmodel import Session, col, select

from driftline.store import artifacts
from driftline.store.tables import GoldenItem
from scheduler.scoring import messages_of

Vectors = NDArray[np.float64]
MOST_GOLDEN = 500  # items of a golden version that are embedded, in order


@lru_cache(maxsize=1)
def _encoder() -> Any:
    from evaluators.scorers.embeddings import Embedder

    return Embedder()


def embedded(texts: Sequence[str]) -> Vectors:
    """One vector of length 1 per text, (texts, dimensions); an empty text counts as a space.

    Raises:
        MissingPackage: torch, transformers or the encoder is not installed.
    """
    vectors: Vectors = _encoder().embed([text or " " for text in texts]).astype(np.float64)
    return vectors


def asked(stored: str) -> str:
    """What the last message of a stored prompt says."""
    messages = messages_of(stored)
    return messages[-1]["content"] if messages else ""


def golden_vectors(session: Session, version_id: int) -> Vectors:
    """The embedded prompts of a golden version, at most 500."""
    of_version = select(GoldenItem).where(GoldenItem.version_id == version_id).order_by(col(GoldenItem.position))
    items = session.exec(of_version.limit(MOST_GOLDEN)).all()
    return _golden(version_id, tuple(item.messages[-1]["content"] for item in items))


@lru_cache(maxsize=4)
def _golden(version_id: int, texts: tuple[str, ...]) -> Vectors:
    return embedded(texts)


def packed(vectors: Vectors) -> bytes:
    """Vectors in half precision, as they are stored."""
    return vectors.astype("<f2").tobytes()


def keep_vectors(session: Session, project_id: int, stored: artifacts.Stored) -> str:
    """Keeps packed vectors that were uploaded as an artifact; returns its hash."""
    return artifacts.keep(session, project_id, stored, kind="vectors", media_type="application/octet-stream").sha256


def kept_vectors(session: Session, project_id: int, sha256: str, dimensions: int) -> Vectors:
    """The vectors that `keep_vectors` stored.

    Raises:
        NotFound: They are not there any more.
    """
    _, content = artifacts.content(session, project_id, sha256)
    return unpacked(content, dimensions)


def unpacked(content: bytes, dimensions: int) -> Vectors:
    """The vectors that `packed` wrote."""
    vectors: Vectors = np.frombuffer(content, dtype="<f2").astype(np.float64).reshape(-1, dimensions)
    return vectors
