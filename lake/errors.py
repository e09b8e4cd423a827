"""The errors a user can cause, each one sentence: what, where, what to do next."""


class UserError(Exception):
    """Something the caller can put right; shown without a traceback, exit code 1."""


class UsageError(UserError):
    """A name or option that there is none of; exit code 2."""


class SchemaError(UserError):
    """Rows do not fit the table they were meant for; nothing was written."""


class LakeVersionError(UserError):
    """The lake was written by a newer rootlake, or by a newer Delta protocol."""


class ConflictError(UserError):
    """Another writer kept winning; nothing of this write is in the lake."""


class BusyError(UserError):
    """Another process is at it; this one stopped before it changed anything."""


def first_line(error: BaseException) -> str:
    """What another library's error says, in one line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
