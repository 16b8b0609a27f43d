"""Content hashes: the same content has the same hash on every machine."""

import hashlib
import json
import struct
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
    made = _NOTHING_HASHED.copy()  # half as dear as a new one
    made.update(identity.encode("utf-8", "surrogatepass"))
    key: int = _AS_INTEGER(made.digest())[0]
    return key


_NOTHING_HASHED = hashlib.blake2b(digest_size=8)
_AS_INTEGER = struct.Struct(">q").unpack
