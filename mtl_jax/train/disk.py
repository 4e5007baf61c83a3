"""Whether an error means that a disk is full."""

import errno

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# TensorStore and Orbax tell of the system's error only in their text.
WORDS = ("No space left on device", "Disk quota exceeded", "File too large")


def full(error: BaseException | None) -> str | None:
    """The system's words if `error`, or an error that it came from, is of a full disk."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in FULL:
            return error.strerror
        for words in WORDS:
            if words in str(error):
                return words
        error = error.__cause__ or error.__context__
    return None
