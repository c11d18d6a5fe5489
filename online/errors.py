"""The errors of `online`.

    OnlineError
    ├── RequestError        the request cannot be answered as it is; names the field
    │   └── UnbuiltError    it asks for a part of the contract that is not built yet
    ├── OverloadedError     there are more requests than can be answered in time
    ├── MergedElsewhereError  what is to be merged is another user's already
    ├── SnapshotError       a bundle cannot be served by this code
    ├── WorkerError         a serving process could not start, or refused what it was told
    ├── RuleError           the shop's rules cannot be used; names the rule
    └── ClientError         the server could not be asked; says what to do

Only what the caller can act on is raised: a stage that fails is named in the answer instead.
"""


class OnlineError(Exception):
    """Base of all errors that this package raises on purpose."""


class RequestError(OnlineError):
    """A request that cannot be answered as it is."""

    def __init__(self, field: str, description: str) -> None:
        """`field` is the path of the offending field, `description` says what to do."""
        super().__init__(f"{field}: {description}")
        self.field = field
        self.description = description


class UnbuiltError(RequestError):
    """A request for a part of the contract that this server does not have."""


class OverloadedError(OnlineError):
    """A request that would wait too long for its turn; it was not begun."""


class MergedElsewhereError(OnlineError):
    """A session or an account that was merged into another user before."""


class SnapshotError(OnlineError):
    """A bundle that this code cannot serve."""


class WorkerError(OnlineError):
    """A serving process that could not start, or refused what it was told."""


class RuleError(OnlineError):
    """Shop rules that cannot be used as they are written."""


class ClientError(OnlineError):
    """The server could not be asked, or refused; the message says what to do."""
