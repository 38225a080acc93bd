"""Objects in Google Cloud Storage: what speech/system/storage.py does with gs:// paths.

google-cloud-storage does the work, so that a machine that prepares data needs no TensorFlow. It is
imported at first use: local files don't wait for it.
"""

import base64
import contextlib
import fnmatch
import io
import re
import warnings
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from http import HTTPStatus
from typing import Any, BinaryIO

import google_crc32c

from utils import UserError

# Google's packages note at import which Pythons they will drop in years to come.
warnings.filterwarnings("ignore", "You are using a .*Python version", FutureWarning)

BUCKET_PREFIX = "gs://"

# One request of an upload; while it is under way the next one fills. A multiple of 256 KiB.
CHUNK_BYTES = 8 * 2**20

CONTENT_TYPE = "application/octet-stream"

# Requests that may be under way at once.
PARALLEL_REQUESTS = 16

# How long a request is repeated while the network is away or the service overloaded.
RETRY_SECONDS = 120.0


def matching(pattern: str) -> dict[str, Any]:
    """Path -> object (see `find`) of those that match a glob pattern; its `*` stops at a slash."""
    bucket, name = split(pattern)
    # Cloud Storage reads brackets, braces and backslashes in its own way.
    asked = re.sub(r"\[!?\]?[^]/]*\]|[][{}\\]", "?", name)
    with explained(pattern):
        return {
            f"{BUCKET_PREFIX}{bucket}/{found.name}": found
            for found in _client().list_blobs(bucket, match_glob=asked, retry=patience())
            if asked == name or _matches(found.name.split("/"), name.split("/"))
        }


def _matches(parts: list[str], patterns: list[str]) -> bool:
    """Whether the parts of a path match those of a glob pattern, as Python's glob has it."""
    if not patterns:
        return not parts
    if patterns[0] == "**" and _matches(parts, patterns[1:]):
        return True
    if not parts or not fnmatch.fnmatchcase(parts[0], patterns[0]):
        return False
    return _matches(parts[1:], patterns if patterns[0] == "**" else patterns[1:])


def below(folder: str) -> Iterator[tuple[str, Any]]:
    """(path, object) of all whose path begins with `folder` and a slash, by their paths."""
    bucket, name = _parts(folder)
    prefix = name.rstrip("/") and f"{name.rstrip('/')}/"
    with explained(folder):
        for found in _client().list_blobs(bucket, prefix=prefix, retry=patience()):
            if not found.name.endswith("/"):  # some programs write such objects as folders
                yield f"{BUCKET_PREFIX}{bucket}/{found.name}", found


def find(path: str) -> Any:
    """The object (google.cloud.storage.Blob) with its size and checksum, None if it isn't there."""
    bucket, name = split(path)
    with explained(path):
        # A bucket that isn't there looks like a missing object otherwise.
        found = _client().bucket(bucket).get_blob(name, retry=patience())
        if found is None:
            listing = _client().list_blobs(bucket, prefix=name, max_results=1, retry=patience())
            next(iter(listing), None)
        return found


def blob(path: str) -> Any:
    """A google.cloud.storage.Blob for `path`, whether there is one or not."""
    bucket, name = split(path)
    with explained(path):
        return _client().bucket(bucket).blob(name)


def read(path: str) -> bytes:
    with explained(path):
        return bytes(blob(path).download_as_bytes(retry=patience()))


def write(path: str, content: bytes) -> None:
    with explained(path):
        blob(path).upload_from_string(content, content_type=CONTENT_TYPE, retry=patience())


def send(file: Any, size: int, path: str) -> Any:
    """Uploads `size` bytes of a file in requests of CHUNK_BYTES; returns the object."""
    with explained(path):
        target = blob(path)
        target.chunk_size = CHUNK_BYTES
        target.upload_from_file(file, size=size, content_type=CONTENT_TYPE, retry=patience())
        return target


def join(parts: list[str], path: str) -> Any:
    """Makes one object of at most 32 in the same bucket, and deletes them; returns the object."""
    with explained(path):
        target = blob(path)
        target.compose([blob(part) for part in parts], retry=patience())
    for part in parts:
        delete(part)
    return target


def delete(path: str) -> None:
    """Deletes an object; it may be gone already, by a request whose answer was lost."""
    from google.api_core.exceptions import NotFound

    with explained(path), contextlib.suppress(NotFound):
        blob(path).delete(retry=patience())


def open_reader(path: str) -> BinaryIO:
    """The bytes of an object, fetched in chunks as they are asked for."""
    return io.BufferedReader(_Reader(path), CHUNK_BYTES)


class _Reader(io.RawIOBase):
    """Turns what fails while reading into a UserError."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._file = blob(path).open("rb", chunk_size=CHUNK_BYTES, retry=patience())

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        with explained(self._path):
            content = self._file.read(len(buffer))
        buffer[: len(content)] = content
        return len(content)


def crc32c_of(found: Any) -> str:
    """An object's CRC32C as 8 hexadecimal digits."""
    return base64.b64decode(found.crc32c).hex()


def check_arrived(path: str, written: Any, crc32c: str) -> None:
    """Removes an object that isn't what was sent, and raises UserError."""
    if crc32c_of(written) != crc32c:
        delete(path)
        raise UserError(f"{path} arrived damaged and is removed: run the same command again.")


class ObjectWriter:
    """Writes an object that appears when it is whole, while the next bytes are made.

    Raises:
        UserError: the bucket can't be written to.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._blob = blob(path)
        # Its own check of the checksum would leave a damaged object where it is.
        self._upload = self._blob.open(
            "wb", chunk_size=CHUNK_BYTES, ignore_flush=True, checksum=None, retry=patience()
        )
        self._crc32c = google_crc32c.Checksum()
        self._waiting = bytearray()
        self._sender = ThreadPoolExecutor(1)
        self._sending: Future[None] | None = None

    def write(self, content: bytes) -> None:
        self._crc32c.update(content)
        self._waiting += content
        if len(self._waiting) >= CHUNK_BYTES:
            self._send()

    def commit(self) -> str:
        """Ends the upload; only now the object is there. Returns its CRC32C, as `crc32c_of`."""
        self._send()
        self._wait()
        with explained(self.path):
            self._upload.close()
            self._blob.reload(retry=patience())
        crc32c = str(self._crc32c.digest().hex())
        check_arrived(self.path, self._blob, crc32c)
        return crc32c

    def close(self) -> None:
        """Gives up the upload, if it isn't committed: nothing appears under its name."""
        self._sender.shutdown()
        # Left open, it would end the upload when Python collects it, and an object of what has
        # arrived so far would appear. The service itself forgets an unfinished upload.
        self._upload._buffer.close()

    def _send(self) -> None:
        self._wait()
        self._sending = self._sender.submit(self._transmit, bytes(self._waiting))
        self._waiting.clear()

    def _transmit(self, content: bytes) -> None:
        with explained(self.path):
            self._upload.write(content)

    def _wait(self) -> None:
        if self._sending:
            self._sending.result()


@contextlib.contextmanager
def explained(path: str) -> Iterator[None]:
    """Turns what goes wrong between here and the bucket into a UserError that names `path`.

    A precondition that doesn't hold is an answer and passes (PreconditionFailed).
    """
    from google.api_core.exceptions import GoogleAPICallError, PreconditionFailed, RetryError
    from google.auth.exceptions import GoogleAuthError, TransportError
    from google.cloud.storage.exceptions import DataCorruption, InvalidResponse
    from requests import RequestException

    try:
        yield
    except PreconditionFailed:
        raise
    except (GoogleAPICallError, InvalidResponse) as error:
        status = error.response.status_code if isinstance(error, InvalidResponse) else error.code
        raise _refusal(path, status, error) from None
    except DataCorruption:
        raise UserError(f"{path} arrived damaged: run the same command again.") from None
    except (RetryError, RequestException, ConnectionError, TransportError) as error:
        raise _refusal(path, None, error) from None
    except GoogleAuthError as error:
        raise _refusal(path, HTTPStatus.UNAUTHORIZED, error) from None


def _refusal(path: str, status: int | None, error: Exception) -> UserError:
    reason = _reason(error)
    if status == HTTPStatus.NOT_FOUND:
        return UserError(f"{path} isn't there: check the bucket's name and the path.")
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return UserError(
            f"{path}: access is refused ({reason}). Log in (gcloud auth application-default "
            "login), or give this account the role Storage Object Admin on the bucket."
        )
    return UserError(
        f"{path} can't be reached: {reason}. Check the bucket's name and the network, then run the "
        "same command again: it continues."
    )


def _reason(error: Exception) -> str:
    """What the service says, without the request and the page around it; one line."""
    error = getattr(error, "cause", None) or error  # what was repeated until the time was over
    response = getattr(error, "response", None)
    try:
        said = f"{response.status_code} {response.json()['error']['message']}"  # type: ignore[union-attr]
    except (AttributeError, KeyError, TypeError, ValueError):
        said = str(error)
    return " ".join(said.split()).rstrip(".")


def split(path: str) -> tuple[str, str]:
    """(bucket, object's name) of a gs:// path.

    Raises:
        UserError: it names no object, or what can't be a bucket.
    """
    bucket, name = _parts(path)
    if not name:
        raise _no_such_path(path)
    return bucket, name


def _parts(path: str) -> tuple[str, str]:
    """(bucket, object's name) of a gs:// path; the name may be empty: all of the bucket."""
    bucket, _, name = path.removeprefix(BUCKET_PREFIX).partition("/")
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]+[a-z0-9]", bucket):
        raise _no_such_path(path)
    return bucket, name


def _no_such_path(path: str) -> UserError:
    return UserError(
        f"{path} can't be in a bucket: give it as gs://BUCKET/PATH, with the bucket's name in "
        "small letters."
    )


def patience(seconds: float | None = None) -> Any:
    """How google-cloud-storage repeats requests: for `seconds`, by default RETRY_SECONDS."""
    from google.cloud.storage.retry import DEFAULT_RETRY

    return DEFAULT_RETRY.with_timeout(RETRY_SECONDS if seconds is None else seconds)


@lru_cache(maxsize=1)
def _client() -> Any:
    import requests.adapters
    from google.auth.exceptions import DefaultCredentialsError
    from google.cloud import storage

    try:
        client = storage.Client(project=None)
    except DefaultCredentialsError:
        # Enough for a public bucket; for others the refusal tells how to log in.
        client = storage.Client.create_anonymous_client()
    adapter = requests.adapters.HTTPAdapter(pool_maxsize=PARALLEL_REQUESTS)
    client._http.mount("https://", adapter)
    client._http.mount("http://", adapter)
    return client
