"""The keys that requests must carry, if the server has any."""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Iterable

from utils import UserError, lines_of

# Makes browsers ask for a password. Chromium doesn't if the header names Bearer too.
CHALLENGE = 'Basic realm="Deep Speech", charset="UTF-8"'


class ApiKeys:
    """The keys of a server. Without any, every request is allowed."""

    def __init__(self, keys: Iterable[str] = ()) -> None:
        # Of equal length, so that a comparison doesn't reveal a key's.
        self._digests = [_digest(each.encode()) for each in keys]

    def __bool__(self) -> bool:
        return bool(self._digests)

    def allow(self, authorization: str) -> bool:
        """Returns whether a header Authorization has a key, in a time that none of them changes.

        Args:
            authorization: "Bearer KEY", or "Basic" with any user name and a key as the password.
        """
        if not self._digests:
            return True
        scheme, _, given = authorization.partition(" ")
        key = given.strip().encode(errors="surrogateescape")
        if scheme.lower() == "basic":
            try:
                key = base64.b64decode(key, validate=True).partition(b":")[2]
            except binascii.Error:
                return False
        elif scheme.lower() != "bearer":
            return False
        # A sum, so that all are compared, whichever is equal.
        return sum(hmac.compare_digest(_digest(key), each) for each in self._digests) > 0


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()


def read_keys(path: str | None) -> ApiKeys:
    """Reads a file of keys, one a line; empty lines and those that begin with # are skipped.

    Args:
        path: None: no keys.

    Raises:
        UserError: the file can't be read, has no key, or has one that no header can carry.
    """
    if path is None:
        return ApiKeys()
    try:
        with open(path, encoding="utf-8-sig") as file:
            lines = [each.strip() for each in lines_of(file.read())]
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise UserError(
            f"--api_key_file={path} can't be read: {reason}. Name a text file with a key a line."
        ) from None
    for number, line in enumerate(lines, start=1):
        if not line.startswith("#") and not all("!" <= each <= "~" for each in line):
            raise UserError(
                f"{path}, line {number}: the key has a space or a character outside ASCII, which "
                "clients can't send: make one with openssl rand -hex 32."
            )
    keys = [each for each in lines if each and not each.startswith("#")]
    if not keys:
        raise UserError(f"{path} has no key: write one a line, made with openssl rand -hex 32.")
    return ApiKeys(keys)
