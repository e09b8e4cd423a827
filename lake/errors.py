"""The errors a user can cause, each one sentence: what, where, what to do next."""


class UserError(Exception):
    """Something the caller can put right; shown without a traceback, exit code 1."""


class SchemaError(UserError):
    """Rows do not fit the table they were meant for; nothing was written."""


class LakeVersionError(UserError):
    """The lake was written by a newer rootlake, or by a newer Delta protocol."""


class ConflictError(UserError):
    """Another writer kept winning; nothing of this write is in the lake."""
