"""The process of emulator.py: serves Google Cloud Storage at one port of this machine.

google-cloud-storage sends plain HTTP to the port. TensorFlow's gs:// has no setting for the
service's address, but its libcurl reads https_proxy and CURL_CA_BUNDLE: so the port is also a
CONNECT proxy that ends TLS for *.googleapis.com.

Extends gcp-storage-emulator with features of the real service (preconditions, empty uploads,
replacing an object by composing, reporting that nothing of an upload has arrived) and with the
faults that tests need. The objects are kept in memory.

Reads commands, pickled (method, arguments), from standard input, and ends with it.
"""

import io
import logging
import math
import os
import pickle
import ssl
import sys
import threading
from http import HTTPStatus
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import trustme
from gcp_storage_emulator import server
from gcp_storage_emulator.handlers import buckets, objects
from gcp_storage_emulator.storage import Storage

HOSTS = ("www.googleapis.com", "storage.googleapis.com")
CA_FILE = "ca.pem"

Query = dict[str, list[str]]


class PreconditionError(Exception):
    """The object has another generation than the request names."""


class CheckedStorage(Storage):
    """The emulator's storage, with preconditions for making and deleting objects."""

    # Both are set before every request; requests are handled one at a time.
    query: Query = {}  # noqa: RUF012 - replaced, not changed
    damaging = False

    def _write_config_to_file(self) -> None:
        """Does nothing: the original writes all metadata at every request, which is slow."""

    def _check(self, bucket: str, name: str) -> None:
        generation = self.objects.get(bucket, {}).get(name, {}).get("generation", "0")
        if self.query.get("ifGenerationMatch", [generation]) != [generation]:
            raise PreconditionError
        if self.query.get("ifGenerationNotMatch") == [generation]:
            raise PreconditionError

    def create_file(
        self, bucket: str, name: str, content: bytes, resource: dict[str, Any], upload: Any = None
    ) -> None:
        self._check(bucket, name)
        # It names the host that this client uses, which others can't reach; without it clients
        # make the address themselves.
        resource.pop("mediaLink", None)
        if self.damaging and content:
            content = bytes([content[0] ^ 1]) + content[1:]
            resource.update(crc32c=None, md5Hash=None)
            objects._checksums(content, resource)
        super().create_file(bucket, name, content, resource, upload)

    def create_resumable_upload(self, bucket: str, name: str, resource: dict[str, Any]) -> str:
        self._check(bucket, name)
        return str(super().create_resumable_upload(bucket, name, resource))

    def delete_file(self, bucket: str, name: str) -> None:
        if name in self.objects.get(bucket, {}):  # a missing object is not found, not mismatched
            self._check(bucket, name)
        super().delete_file(bucket, name)


class Service:
    """The bucket, its requests and its faults. Public methods: see emulator.Emulator."""

    _refusal: tuple[HTTPStatus, str, str] | None  # of every request: status, message, reason

    def __init__(self, bucket: str) -> None:
        self._bucket = bucket
        self._requests: list[tuple[str, str]] = []
        self.lock = threading.Lock()  # held while a request is answered or a method runs
        self.storage = CheckedStorage(use_memory_fs=True)
        resource = buckets.create_bucket(bucket, self.storage)
        resource["softDeletePolicy"] = {"retentionDurationSeconds": "0"}
        self.heal()

    def objects(self, prefix: str) -> dict[str, bytes]:
        names = sorted(self.storage.objects.get(self._bucket, {}))
        return {
            name: self.storage.get_file(self._bucket, name)
            for name in names
            if name.startswith(prefix)
        }

    def put(self, name: str, content: bytes) -> None:
        self.storage.query, self.storage.damaging = {}, False
        resource = objects._make_object_resource(
            "", self._bucket, name, "application/octet-stream", str(len(content))
        )
        objects._checksums(content, resource)
        self.storage.create_file(self._bucket, name, content, resource)

    def delete(self, name: str) -> None:
        self.storage.query = {}
        self.storage.delete_file(self._bucket, name)

    def requests(self) -> list[tuple[str, str]]:
        return self._requests

    def forget_requests(self) -> None:
        self._requests.clear()

    def refuse_uploads_after(self, requests: float, size: float, drop: bool) -> None:
        self._requests_left, self._bytes_left, self._drop = requests, size, drop

    def vanish(self) -> None:
        message = "The specified bucket does not exist."
        self._refusal = HTTPStatus.NOT_FOUND, message, "notFound"

    def refuse_access(self, status: int) -> None:
        self._refusal = HTTPStatus(status), "The caller has no access.", "forbidden"

    def refuse_writes(self) -> None:
        self._read_only = True

    def lose_answers(self, requests: int) -> None:
        self._answers_to_lose = requests

    def damage_uploads(self) -> None:
        self._damaging = True

    def heal(self) -> None:
        self._refusal = None
        self._read_only = False
        self._answers_to_lose = 0
        self._damaging = False
        self._drop = False
        self._requests_left = self._bytes_left = math.inf

    def answer(self, handler: "Handler", body: bytes) -> None:
        """Notes a request, and answers it as its faults have it, or else as the emulator does."""
        url = urlsplit(handler.path)
        query = parse_qs(url.query)
        self._requests.append((handler.command, self._logged(handler, body, url.path, query)))
        if self._refusal:
            handler.refuse(*self._refusal)
        elif self._read_only and handler.command != "GET":
            handler.refuse(HTTPStatus.FORBIDDEN, "The caller may only read.", "forbidden")
        elif handler.command in ("POST", "PUT") and self._refused(len(body)):
            if self._drop:
                handler.close_connection = True
            else:
                handler.refuse(HTTPStatus.SERVICE_UNAVAILABLE, "Try again later.", "backendError")
        else:
            self.storage.query, self.storage.damaging = query, self._damaging
            try:
                server.Router(handler).handle(handler.command)
            except PreconditionError:
                handler.refuse(
                    HTTPStatus.PRECONDITION_FAILED,
                    "At least one of the pre-conditions you specified did not hold.",
                    "conditionNotMet",
                )
            if handler.command in ("POST", "PUT") and self._answers_to_lose:
                self._answers_to_lose -= 1
                handler.wfile = io.BytesIO()
                handler.close_connection = True

    def _refused(self, size: int) -> bool:
        self._requests_left -= 1
        self._bytes_left -= size
        if self._requests_left < 0 or self._bytes_left < 0:
            self._requests_left = -math.inf  # from now on, however small the next one is
        return self._requests_left < 0

    def _logged(self, handler: "Handler", body: bytes, path: str, query: Query) -> str:
        """The path, readable, with an upload's name in the query wherever the client has put it."""
        readable = unquote(handler.path)
        if handler.command not in ("POST", "PUT") or "uploadType" not in query or "name" in query:
            return readable
        if "upload_id" in query:
            named = self.storage.resumable.get(query["upload_id"][0], {})
        else:
            named = server._read_data(handler, query) or {}
            handler.rfile = io.BytesIO(body)
            named = named.get("meta", named)
        return f"{readable}&name={named.get('name', '')}"


class Handler(server.RequestHandler):
    """One connection: plain HTTP, or TLS after a CONNECT."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    service: Service
    tls: ssl.SSLContext
    connection: Any  # a socket, in TLS after a CONNECT
    rfile: Any  # the connection's, or that of the request that is answered; wfile likewise
    wfile: Any

    def __init__(self, *arguments: Any) -> None:
        super().__init__(self.service.storage, *arguments)

    def do_CONNECT(self) -> None:  # noqa: N802 - http.server's name
        if self.path.split(":")[0] not in HOSTS:
            self.send_error(HTTPStatus.FORBIDDEN, "Only Google Cloud Storage is here")
            return
        self.send_response(HTTPStatus.OK, "Connection established")
        self.end_headers()
        self.connection = self.tls.wrap_socket(self.connection, server_side=True)
        self.rfile = self.connection.makefile("rb")
        self.wfile = self.connection.makefile("wb", buffering=0)
        self.close_connection = False

    def answer(self) -> None:
        """Reads the whole request before it locks the service, so as not to wait under lock."""
        body = self._body()
        del self.headers["Transfer-Encoding"], self.headers["Content-Length"]
        self.headers["Content-Length"] = str(len(body))
        connection = self.rfile, self.wfile
        self.rfile, self.wfile = io.BytesIO(body), io.BytesIO()
        try:
            with self.service.lock:
                self.service.answer(self, body)
            response = self.wfile.getvalue()
        finally:
            self.rfile, self.wfile = connection
        self.wfile.write(response)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer  # noqa: N815 - http.server's names

    def _body(self) -> bytes:
        # TensorFlow also sends a Content-Length, which has no meaning then.
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return bytes(self.rfile.read(int(self.headers.get("Content-Length", 0))))
        body = bytearray()
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return bytes(body)

    def refuse(self, status: HTTPStatus, message: str, reason: str) -> None:
        """Answers with an error in the service's format."""
        reasons = [{"domain": "global", "reason": reason, "message": message}]
        error = {"error": {"code": status.value, "message": message, "errors": reasons}}
        response = server.Response(self)
        response.status = status
        response.json(error)
        response.close()

    def send_header(self, keyword: str, value: str) -> None:
        if keyword == "Location" and isinstance(self.connection, ssl.SSLSocket):
            value = value.replace("http://", "https://", 1)
        # The emulator sends it when nothing has arrived; the service leaves it out.
        if (keyword, value) != ("Range", "bytes=0-0"):
            super().send_header(keyword, value)

    def finish(self) -> None:
        super().finish()
        self.connection.close()  # http.server doesn't close it if it is wrapped in TLS


class HTTPServer(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *unused: object) -> None:
        """Ignores OSErrors, which clients cause that are killed."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(*unused)  # type: ignore[arg-type]


def _fix(read_data: Any) -> Any:
    """Returns the emulator's function that reads bodies, with fixes."""

    def read(handler: Any, query: Query) -> Any:
        data = read_data(handler, query)
        if data is None and query.get("uploadType") == ["media"]:
            return b""  # TensorFlow marks a folder with an empty object
        if isinstance(data, dict) and "destination" in data:
            # Those of the replaced object, which the emulator would compare with the new one.
            for checksum in ("crc32c", "md5Hash"):
                data["destination"].pop(checksum, None)
        return data

    return read


def main(bucket: str, folder: str) -> None:
    """Serves `bucket`; writes the certificate of its authority into `folder`."""
    logging.disable(logging.CRITICAL)
    server._read_data = _fix(server._read_data)
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(Path(folder) / CA_FILE))
    Handler.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*HOSTS).configure_cert(Handler.tls)
    Handler.service = service = Service(bucket)
    with HTTPServer(("127.0.0.1", 0), Handler) as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        answers = sys.stdout.buffer
        pickle.dump(listening.server_address[1], answers)
        answers.flush()
        while True:
            try:
                method, arguments = pickle.load(sys.stdin.buffer)
            except EOFError:
                os._exit(0)  # the emulator's process has ended or closed the pipe
            with service.lock:
                pickle.dump(getattr(service, method)(*arguments), answers)
            answers.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
