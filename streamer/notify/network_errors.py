"""Why a network operation failed, in words for people and never with a secret.

The errors' own texts are not shown: some hold headers or addresses.
"""

import os
import socket
import ssl
from collections.abc import Iterator


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error and, going inwards, what led to it."""
    while error is not None:
        yield error
        if isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        else:
            error = error.__cause__ or error.__context__


def network_reason(error: BaseException | None) -> str | None:
    """The innermost reason that the system gives, or `None` if it gives none."""
    reason = None
    for cause in causes(error):
        match cause:
            case ssl.SSLCertVerificationError():
                return f"its certificate is not trusted ({cause.verify_message})"
            case ssl.SSLError():
                return "no encrypted connection could be made"
            case socket.gaierror():
                return "its name is not known"
            case OSError(errno=int(code)):
                reason = os.strerror(code).lower()
            case TimeoutError():
                reason = "timed out"
            case _:
                pass
    return reason
