"""Every error a user can meet: one line that says what is wrong, where, and what to do.

Each class carries the exit code of the command line (docs/commands.md).
"""


class NasxError(Exception):
    """Refuse a request for a reason the user can mend (no such run, missing data, full disk)."""

    exit_code = 1


class StudyError(NasxError):
    """Refuse a study file; the message lists every fault as file:line:col."""

    exit_code = 2


class MissingData(NasxError):
    """Say that data are not where a sound study looks for them."""


class SpaceError(NasxError):
    """Refuse a value outside a field's domain, or a space that breaks its contract."""

    exit_code = 2


class NoDevice(NasxError):
    """Say that no latency can be measured, whatever the network: a search stops and can go on."""


class NothingFeasible(NasxError):
    """Say that no candidate meets the constraints, or that a rule was asked outside its range."""

    exit_code = 3


class ParityError(NasxError):
    """Say that an exported file computes something else than the trained network."""

    exit_code = 4


class NoTrialCompleted(NasxError):
    """Say that trials ran and none of them completed."""

    exit_code = 5


class Interrupted(NasxError):
    """Say that the search was stopped and how to continue it."""

    exit_code = 130
