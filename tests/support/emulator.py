"""Google Cloud Storage on this machine, for tests and by hand.

  python tests/support/emulator.py

prints what to set in another shell so that every command there finds gs://test-bucket, and serves
it until Ctrl-C. Needs the packages of the `dev` extra; see emulator_server.py.
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
    """A process that serves one bucket by HTTP, from `with` on; it ends with this process.

    Attributes:
        bucket: the name of the bucket, which exists.
        environment: the variables that a process needs whose gs:// is to be this bucket.
            TensorFlow takes them in when it first touches gs://.
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
            start_new_session=True,  # a Ctrl-C is for us to handle
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
            # Of TensorFlow's libcurl.
            "https_proxy": address,
            "CURL_CA_BUNDLE": str(Path(self._folder.name) / CA_FILE),
            # Of google-cloud-storage.
            "STORAGE_EMULATOR_HOST": address,
            "GOOGLE_CLOUD_PROJECT": "test-project",
            # Nobody's proxy between them and us, nobody's credentials, no search for any.
            "no_proxy": "127.0.0.1,localhost",
            "NO_GCE_CHECK": "true",
            "CLOUDSDK_CONFIG": self._folder.name,
            "GOOGLE_APPLICATION_CREDENTIALS": "",
        }

    def objects(self, prefix: str = "") -> dict[str, bytes]:
        """Name -> content of the objects whose names begin with `prefix`, sorted."""
        return dict(self._call("objects", prefix))

    def put(self, name: str, content: bytes) -> None:
        """Makes or replaces an object, whatever faults there are."""
        self._call("put", name, content)

    def delete(self, name: str) -> None:
        """Deletes an object that exists, whatever faults there are."""
        self._call("delete", name)

    def requests(self) -> list[tuple[str, str]]:
        """(method, path and query) of everything asked for since `forget_requests`.

        Paths are unquoted. Those of uploads have the object's name in their query (`&name=...`)
        even where the client has sent it in the body. What this class does isn't among them.
        """
        return list(self._call("requests"))

    def forget_requests(self) -> None:
        self._call("forget_requests")

    def refuse_uploads_after(
        self, *, requests: float = math.inf, size: float = math.inf, drop: bool = False
    ) -> None:
        """Lets some POST and PUT requests through and refuses the others until `heal`.

        Args:
            requests: how many are let through.
            size: how many bytes their bodies may have together.
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
        """Does what the next POST and PUT requests ask, and closes the connection instead of
        answering."""
        self._call("lose_answers", requests)

    def damage_uploads(self) -> None:
        """Changes a bit of every object that is made, until `heal`."""
        self._call("damage_uploads")

    def heal(self) -> None:
        """Ends all faults; the objects are what they were."""
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
