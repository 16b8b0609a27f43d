"""Secrets at rest: encrypted with the installation's key, which lies in the settings or in a file only we can read."""

import base64
import hashlib
import os
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from tempfile import NamedTemporaryFile

from cryptography.fernet import Fernet, InvalidToken

from driftline.errors import DriftlineError
from driftline.settings import settings
from driftline.store.engine import make_folder

LENGTH = 32  # bytes of a key


@lru_cache(maxsize=1)
def installation_key() -> bytes:
    """32 bytes: derived from DRIFTLINE_SECRET_KEY, else made once and kept in the data folder (mode 0600).

    Raises:
        DriftlineError: The file is damaged; says what to do.
    """
    given = settings().secret_key.get_secret_value()
    if given:
        return hashlib.sha256(b"driftline:" + given.encode()).digest()
    make_folder(settings().data_dir)
    path = settings().data_dir / "secret.key"
    if not path.exists():
        _make(path)
    key = path.read_bytes()
    if len(key) != LENGTH:
        raise DriftlineError(
            f"The installation's key {path} is damaged: it has {len(key)} bytes instead of {LENGTH}. Put it back from "
            "a backup, or remove it: then people sign in anew, and the addresses of alert channels are entered again."
        )
    return key


def _make(path: Path) -> None:
    # The file appears whole or not at all: others may read it at once, and who makes it may be killed at any point.
    with NamedTemporaryFile(dir=path.parent, prefix=f"{path.name}.") as file:  # mode 0600
        file.write(os.urandom(LENGTH))
        file.flush()
        os.fsync(file.fileno())
        with suppress(FileExistsError):  # somebody else was faster, and theirs is the key
            path.hardlink_to(file.name)


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
