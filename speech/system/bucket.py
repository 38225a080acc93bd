"""Reads and writes objects in Google Cloud Storage, for gs:// paths of speech/system/storage.py.

Uses google-cloud-storage, so that a machine that prepares data needs no TensorFlow. It is imported
at first use, since local files don't need it.
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

# Google's packages warn at import of Pythons that they will drop in years to come.
warnings.filterwarnings("ignore", "You are using a .*Python version", FutureWarning)

BUCKET_PREFIX = "gs://"

# Bytes of one request of an upload, a multiple of 256 KiB. The next one fills during a request.
CHUNK_BYTES = 8 * 2**20

CONTENT_TYPE = "application/octet-stream"

# Maximum number of simultaneous requests.
PARALLEL_REQUESTS = 16

# How long a request is repeated while the network or the service fails.
RETRY_SECONDS = 120.0


def find_matching(pattern: str) -> dict[str, Any]:
    """Returns path -> object (see `find`) of a glob pattern's matches; `*` matches no slash."""
    bucket, name = split(pattern)
    # Brackets, braces and backslashes have another meaning in Cloud Storage's patterns.
    wider = re.sub(r"\[!?\]?[^]/]*\]|[][{}\\]", "?", name)
    with explain_errors(pattern):
        return {
            f"{BUCKET_PREFIX}{bucket}/{found.name}": found
            for found in _client().list_blobs(bucket, match_glob=wider, retry=retry_policy())
            if wider == name or _matches(found.name.split("/"), name.split("/"))
        }


def _matches(parts: list[str], patterns: list[str]) -> bool:
    """Returns whether the parts of a path match those of a pattern, by Python's glob's rules."""
    if not patterns:
        return not parts
    if patterns[0] == "**" and _matches(parts, patterns[1:]):
        return True
    if not parts or not fnmatch.fnmatchcase(parts[0], patterns[0]):
        return False
    return _matches(parts[1:], patterns if patterns[0] == "**" else patterns[1:])


def list_below(folder: str) -> Iterator[tuple[str, Any]]:
    """Yields (path, object) of all whose path begins with `folder` and a slash, sorted by path."""
    bucket, name = _parts(folder)
    prefix = name.rstrip("/") and f"{name.rstrip('/')}/"
    with explain_errors(folder):
        for found in _client().list_blobs(bucket, prefix=prefix, retry=retry_policy()):
            if not found.name.endswith("/"):  # which some programs write to stand for folders
                yield f"{BUCKET_PREFIX}{bucket}/{found.name}", found


def find(path: str) -> Any:
    """Returns the object (google.cloud.storage.Blob) with size and checksum, None if missing."""
    bucket, name = split(path)
    with explain_errors(path):
        # A missing bucket gives the same answer as a missing object; listing it fails.
        found = _client().bucket(bucket).get_blob(name, retry=retry_policy())
        if found is None:
            listing = _client().list_blobs(bucket, prefix=name, max_results=1, retry=retry_policy())
            next(iter(listing), None)
        return found


def blob(path: str) -> Any:
    """Returns a google.cloud.storage.Blob for `path`, whether the object exists or not."""
    bucket, name = split(path)
    with explain_errors(path):
        return _client().bucket(bucket).blob(name)


def read(path: str) -> bytes:
    with explain_errors(path):
        return bytes(blob(path).download_as_bytes(retry=retry_policy()))


def write(path: str, content: bytes) -> None:
    with explain_errors(path):
        blob(path).upload_from_string(content, content_type=CONTENT_TYPE, retry=retry_policy())


def send(file: Any, size: int, path: str) -> Any:
    """Uploads `size` bytes of a file in requests of CHUNK_BYTES; returns the object."""
    with explain_errors(path):
        target = blob(path)
        target.chunk_size = CHUNK_BYTES
        target.upload_from_file(file, size=size, content_type=CONTENT_TYPE, retry=retry_policy())
        return target


def join(parts: list[str], path: str) -> Any:
    """Joins at most 32 objects of a bucket into one, and deletes them; returns the new object."""
    with explain_errors(path):
        target = blob(path)
        target.compose([blob(part) for part in parts], retry=retry_policy())
    for part in parts:
        delete(part)
    return target


def delete(path: str) -> None:
    """Deletes an object, if it exists: a request whose answer was lost may have deleted it."""
    from google.api_core.exceptions import NotFound

    with explain_errors(path), contextlib.suppress(NotFound):
        blob(path).delete(retry=retry_policy())


def open_reader(path: str) -> BinaryIO:
    """Opens an object for reading; its bytes are fetched in chunks when they are read."""
    return io.BufferedReader(_Reader(path), CHUNK_BYTES)


class _Reader(io.RawIOBase):
    """Reads an object, and turns errors into UserErrors."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._file = blob(path).open("rb", chunk_size=CHUNK_BYTES, retry=retry_policy())

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        with explain_errors(self._path):
            content = self._file.read(len(buffer))
        buffer[: len(content)] = content
        return len(content)


def crc32c_of(found: Any) -> str:
    """Returns an object's CRC32C as 8 hexadecimal digits."""
    return base64.b64decode(found.crc32c).hex()


def check_arrived(path: str, written: Any, crc32c: str) -> None:
    """Checks that an object is what was sent; removes it otherwise.

    Raises:
        UserError: it has another checksum.
    """
    if crc32c_of(written) != crc32c:
        delete(path)
        raise UserError(f"{path} arrived damaged and is removed: run the same command again.")


class ObjectWriter:
    """Writes an object, which appears when it is complete; sends bytes while the next are made.

    Raises:
        UserError: the bucket can't be written to.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._blob = blob(path)
        # google-cloud-storage's check of the checksum would leave a damaged object in the bucket.
        self._upload = self._blob.open(
            "wb", chunk_size=CHUNK_BYTES, ignore_flush=True, checksum=None, retry=retry_policy()
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
        """Ends the upload, which makes the object appear; returns its CRC32C, see `crc32c_of`."""
        self._send()
        self._wait()
        with explain_errors(self.path):
            self._upload.close()
            self._blob.reload(retry=retry_policy())
        crc32c = str(self._crc32c.digest().hex())
        check_arrived(self.path, self._blob, crc32c)
        return crc32c

    def close(self) -> None:
        """Abandons the upload, if it isn't committed: no object appears."""
        self._sender.shutdown()
        _abandon(self._upload)

    def _send(self) -> None:
        self._wait()
        self._sending = self._sender.submit(self._transmit, bytes(self._waiting))
        self._waiting.clear()

    def _transmit(self, content: bytes) -> None:
        with explain_errors(self.path):
            self._upload.write(content)

    def _wait(self) -> None:
        if self._sending:
            self._sending.result()


def _abandon(upload: Any) -> None:
    """Closes a google.cloud.storage.fileio.BlobWriter without completing its upload.

    A writer that is left open completes the upload when Python collects it, and the object would
    appear with what has arrived. The public `terminate` makes a request, and leaves the writer open
    if that fails. The service itself removes incomplete uploads.
    """
    # Private in google-cloud-storage 3.17.1.
    upload._buffer.close()


@contextlib.contextmanager
def explain_errors(path: str) -> Iterator[None]:
    """Turns errors of the service and the network into a UserError that names `path`.

    PreconditionFailed, which answers a conditional request, is raised as it is.
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
        return UserError(f"{path} doesn't exist: check the bucket's name and the path.")
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
    """Returns the service's message in one line, without the request and the page around it."""
    error = getattr(error, "cause", None) or error  # that of the last of repeated requests
    response = getattr(error, "response", None)
    try:
        message = f"{response.status_code} {response.json()['error']['message']}"  # type: ignore[union-attr]
    except (AttributeError, KeyError, TypeError, ValueError):
        message = str(error)
    return " ".join(message.split()).rstrip(".")


def split(path: str) -> tuple[str, str]:
    """Returns (bucket, object's name) of a gs:// path.

    Raises:
        UserError: it names no object, or the bucket's name is invalid.
    """
    bucket, name = _parts(path)
    if not name:
        raise _no_such_path(path)
    return bucket, name


def _parts(path: str) -> tuple[str, str]:
    """Returns (bucket, object's name) of a gs:// path; the name may be empty."""
    bucket, _, name = path.removeprefix(BUCKET_PREFIX).partition("/")
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]+[a-z0-9]", bucket):
        raise _no_such_path(path)
    return bucket, name


def _no_such_path(path: str) -> UserError:
    return UserError(
        f"{path} can't be in a bucket: give it as gs://BUCKET/PATH, with the bucket's name in "
        "small letters."
    )


def retry_policy(seconds: float | None = None) -> Any:
    """Returns a google.api_core.retry.Retry for `seconds`, by default RETRY_SECONDS."""
    from google.cloud.storage.retry import DEFAULT_RETRY

    return DEFAULT_RETRY.with_timeout(RETRY_SECONDS if seconds is None else seconds)


@lru_cache(maxsize=1)
def _client() -> Any:
    from google.auth.exceptions import DefaultCredentialsError
    from google.cloud import storage

    try:
        client = storage.Client(project=None)
    except DefaultCredentialsError:
        # Enough for a public bucket; for others the error says how to log in.
        client = storage.Client.create_anonymous_client()
    _keep_connections(client)
    return client


def _keep_connections(client: Any) -> None:
    """Lets a client keep PARALLEL_REQUESTS connections open; by default it keeps 10."""
    import requests.adapters

    adapter = requests.adapters.HTTPAdapter(pool_maxsize=PARALLEL_REQUESTS)
    # Private in google-cloud-storage 3.17.1; no public argument takes an adapter.
    session = client._http
    session.mount("https://", adapter)
    session.mount("http://", adapter)
