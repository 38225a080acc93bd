"""Emulates Google Cloud Storage on this machine, for tests and by hand.

  python tests/support/emulator.py

prints the variables with which commands in another shell find gs://test-bucket, and serves it until
Ctrl-C. Needs the packages of the `dev` extra; see emulator_server.py.
"""

import math
import pickle
import shlex
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

SERVER = str(Path(__file__).with_name("emulator_server.py"))
CA_FILE = "ca.pem"  # in the emulator's folder


class Emulator:
    """A process that serves one bucket over HTTP during a `with` block; it ends with this process.

    Attributes:
        bucket: name of the bucket, which exists.
        environment: variables with which a process finds the bucket. TensorFlow reads them when it
            first accesses gs://.
    """

    bucket = "test-bucket"
    environment: dict[str, str]

    def __enter__(self) -> "Emulator":
        self._lock = threading.Lock()
        self._folder = tempfile.TemporaryDirectory(prefix="emulator")
        self._process = subprocess.Popen(
            [sys.executable, SERVER, self.bucket, self._folder.name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is handled here
        )
        assert self._process.stdout
        self.environment = self._environment(pickle.load(self._process.stdout))
        return self

    def __exit__(self, *unused: object) -> None:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()
        self._folder.cleanup()

    def _environment(self, port: int) -> dict[str, str]:
        address = f"http://127.0.0.1:{port}"
        return {
            # For TensorFlow's libcurl.
            "https_proxy": address,
            "CURL_CA_BUNDLE": str(Path(self._folder.name) / CA_FILE),
            # For google-cloud-storage.
            "STORAGE_EMULATOR_HOST": address,
            "GOOGLE_CLOUD_PROJECT": "test-project",
            # For both: no proxy in between, no credentials, and no search for them.
            "no_proxy": "127.0.0.1,localhost",
            "NO_GCE_CHECK": "true",
            "CLOUDSDK_CONFIG": self._folder.name,
            "GOOGLE_APPLICATION_CREDENTIALS": "",
        }

    def objects(self, prefix: str = "") -> dict[str, bytes]:
        """Returns name -> content of the objects whose names begin with `prefix`, sorted."""
        return dict(self._call("objects", prefix))

    def put(self, name: str, content: bytes) -> None:
        """Makes or replaces an object, despite faults."""
        self._call("put", name, content)

    def delete(self, name: str) -> None:
        """Deletes an existing object, despite faults."""
        self._call("delete", name)

    def requests(self) -> list[tuple[str, str]]:
        """Returns (method, path and query) of the clients' requests since `forget_requests`.

        Paths are unquoted. Those of uploads have the object's name in their query (`&name=...`)
        even if the client has sent it in the body.
        """
        return list(self._call("requests"))

    def forget_requests(self) -> None:
        self._call("forget_requests")

    def refuse_uploads_after(
        self, *, requests: float = math.inf, size: float = math.inf, drop: bool = False
    ) -> None:
        """Accepts some POST and PUT requests, and refuses further ones until `heal`.

        Args:
            requests: maximum number of accepted requests.
            size: maximum number of bytes of their bodies.
            drop: closes the connection instead of answering 503.
        """
        self._call("refuse_uploads_after", requests, size, drop)

    def vanish(self) -> None:
        """Answers every request with 404 until `heal`, as if the bucket were deleted."""
        self._call("vanish")

    def refuse_access(self, status: int) -> None:
        """Answers every request with 401 or 403 until `heal`."""
        self._call("refuse_access", status)

    def refuse_writes(self) -> None:
        """Answers every request but those that read with 403 until `heal`."""
        self._call("refuse_writes")

    def lose_answers(self, requests: int) -> None:
        """Executes the next POST and PUT requests, but closes the connections unanswered."""
        self._call("lose_answers", requests)

    def damage_uploads(self) -> None:
        """Changes a bit of every new object until `heal`."""
        self._call("damage_uploads")

    def heal(self) -> None:
        """Ends all faults; objects stay as they are."""
        self._call("heal")

    def _call(self, method: str, *arguments: object) -> Any:
        assert self._process.stdin and self._process.stdout
        with self._lock:
            pickle.dump((method, arguments), self._process.stdin)
            self._process.stdin.flush()
            return pickle.load(self._process.stdout)


def main() -> None:
    with Emulator() as emulator:
        for name, value in emulator.environment.items():
            print(f"export {name}={shlex.quote(value)}")
        print(f"export DEEP_SPEECH_BUCKET=gs://{emulator.bucket}", flush=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            print(file=sys.stderr)


if __name__ == "__main__":
    main()
