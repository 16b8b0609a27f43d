"""Content hashes: the same content has the same hash on every machine."""

import hashlib
import json
from typing import Any


def content_hash(value: Any) -> str:
    """SHA-256 (hex) of a JSON value in canonical form: sorted keys, no spaces, UTF-8.

    >>> content_hash({"b": 1, "a": 2}) == content_hash({"a": 2, "b": 1})
    True
    """
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(canonical.encode("utf-8", "surrogatepass")).hexdigest()


def sample_key(identity: str) -> int:
    """A signed 64-bit number that orders records as if shuffled, the same way everywhere.

    Taking the smallest keys of a window is a uniform sample that two runs agree on.
    """
    return int.from_bytes(
        hashlib.blake2b(identity.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big", signed=True
    )
