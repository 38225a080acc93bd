"""What a request is refused with."""

import errno

# What opening a file or accepting a connection fails with where too many are open.
OUT_OF_FILES = (errno.EMFILE, errno.ENFILE)


def sendable(message: str) -> str:
    """Returns a message without halves of surrogate pairs: they can come in, but not go out."""
    return message.encode(errors="backslashreplace").decode()


class RequestError(Exception):
    """A refusal; its message says what, which value, and the remedy."""

    def __init__(self, status: int, message: str, retry_after: int | None = None) -> None:
        """
        Args:
            status: of HTTP, 4xx, 503 or 507.
            retry_after: seconds that a client should wait before it tries again.
        """
        super().__init__(message)
        self.status = status
        self.message = message
        self.retry_after = retry_after
