"""The one exception for a mistake that the user can mend."""


class UsageError(ValueError):
    """A bad recipe, option, path or data file: shown as one message, without a traceback, exit code 2.

    The text says what is wrong, where, and the nearest valid choice.
    """
