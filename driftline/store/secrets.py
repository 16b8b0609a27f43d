"""Secrets at rest: encrypted with the installation's key, which lies in the settings or in a file only we can read."""

import base64
import hashlib
import os
from functools import lru_cache

from cryptography.fernet import Fernet, InvalidToken

from driftline.errors import DriftlineError
from driftline.settings import settings
from driftline.store.engine import make_folder


@lru_cache(maxsize=1)
def installation_key() -> bytes:
    """32 bytes: derived from DRIFTLINE_SECRET_KEY, else made once and kept in the data folder (mode 0600)."""
    given = settings().secret_key.get_secret_value()
    if given:
        return hashlib.sha256(b"driftline:" + given.encode()).digest()
    make_folder(settings().data_dir)
    path = settings().data_dir / "secret.key"
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path.read_bytes()
    with os.fdopen(handle, "wb") as file:
        fresh = os.urandom(32)
        file.write(fresh)
    return fresh


def _cipher() -> Fernet:
    return Fernet(base64.urlsafe_b64encode(installation_key()))


def seal(text: str) -> bytes:
    """The text, encrypted and authenticated."""
    return _cipher().encrypt(text.encode())


def unseal(sealed: bytes) -> str:
    """The text that `seal` was given.

    Raises:
        DriftlineError: It was sealed with another key.
    """
    try:
        return _cipher().decrypt(sealed).decode()
    except InvalidToken:
        raise DriftlineError(
            "A stored secret cannot be read with this installation's key. "
            "Set DRIFTLINE_SECRET_KEY to the key it was stored with, or enter the secret again."
        ) from None
