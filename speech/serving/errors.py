"""The error that refuses a request."""

import errno

# Errors of opening a file or accepting a connection when too many are open.
OUT_OF_FILES = (errno.EMFILE, errno.ENFILE)


def sendable(message: str) -> str:
    """Escapes halves of surrogate pairs, which JSON can carry and UTF-8 can't."""
    return message.encode(errors="backslashreplace").decode()


class RequestError(Exception):
    """A refusal. Its message says what is wrong, the value, and the remedy."""

    def __init__(
        self,
        status: int,
        message: str,
        retry_after: int | None = None,
        *,
        param: str | None = None,
        code: str | None = None,
    ) -> None:
        """
        Args:
            status: HTTP's, 4xx, 500, 503 or 507.
            retry_after: seconds that a client should wait before it tries again.
            param: name of the refused option, for OpenAI's clients.
            code: OpenAI's name of the error, likewise.
        """
        super().__init__(message)
        self.status = status
        self.message = message
        self.retry_after = retry_after
        self.param = param
        self.code = code
