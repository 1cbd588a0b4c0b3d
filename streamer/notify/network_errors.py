"""Reasons why a network operation failed, as text without secrets.

The messages of the errors are not used: some hold headers or addresses.
"""

import os
import socket
import ssl
from collections.abc import Iterator


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield the error and its causes, the innermost last."""
    while error is not None:
        yield error
        if isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        else:
            error = error.__cause__ or error.__context__


def network_reason(error: BaseException | None) -> str | None:
    """Return the innermost reason that the operating system gives, or `None`."""
    reason = None
    for cause in causes(error):
        match cause:
            case ssl.SSLCertVerificationError():
                return f"its certificate is not trusted ({cause.verify_message})"
            case ssl.SSLError():
                return "no encrypted connection could be made"
            case socket.gaierror():
                return "its name cannot be resolved"
            case OSError(errno=int(code)):
                reason = os.strerror(code).lower()
            case TimeoutError():
                reason = "timed out"
            case _:
                pass
    return reason
