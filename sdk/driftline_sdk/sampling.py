"""Which records are kept: the same answer in every process and for every record of a session."""

from __future__ import annotations

from hashlib import blake2b


def kept(key: str, share: float) -> bool:
    """Whether the session (or, without one, the record) with this key belongs to the sample.

    A key kept at some share is kept at every larger one. The inclusion probability is exactly `share`, up to 2^-53.

    >>> [kept("session-1", share) for share in (0.0, 1.0)]
    [False, True]
    """
    if share >= 1.0:
        return True
    digest = blake2b(key.encode("utf-8", "replace"), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2.0**64 < share
