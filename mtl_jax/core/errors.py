"""The one exception a user is meant to read."""


class UserError(ValueError):
    """Bad input, or a thing that cannot be done: says what, where and what to do about it.

    "Where" is a file, a row, a column or a flag.

    Experiment scripts print its message without a traceback and exit with status 2.
    """
