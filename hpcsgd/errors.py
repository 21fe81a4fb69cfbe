"""The ways a run ends that all ranks take together: one message, no traceback, an exit code of its own."""


class JointError(Exception):
    """Raised by all ranks at the same point, so that none is left waiting; ``exit_code`` is the command's."""

    exit_code = 1


class UsageError(JointError, ValueError):
    """A bad recipe, option, path or data file: something that the user can mend.

    The text says what is wrong, where, and the nearest valid choice.
    """

    exit_code = 2


class RanksLostError(Exception):
    """Other ranks have died. Each survivor raises it where it learns of it: not all at the same point."""


class DivergedError(JointError):
    """A loss, gradient or parameter is no longer finite; the text names rank and step."""


class ReplicasDifferError(JointError):
    """Ranks that must hold the same parameters do not: a flipped bit, or a defect; the text names the ranks."""


class CheckpointError(JointError):
    """A checkpoint could not be written; those before it are whole."""


class Preempted(JointError):
    """The run was asked to stop, has kept its state, and can be resumed."""

    exit_code = 75
