"""What can go wrong offline, as one tree.

    OfflineError                      exit code 1
    ├── InputError                    2  what was given is not what it claims; nothing was changed
    │   ├── SourceError                  a file is absent, empty, damaged or of another format
    │   ├── MappingError                 the column mapping cannot be read or does not fit
    │   ├── RecipeError                  a recipe's file is wrong, or a search is of other data
    │   ├── CampaignError                a campaign's file is wrong, or does not fit its export
    │   ├── ExperimentError              nothing was shown of an experiment or arm of that name
    │   └── TablesMissingError           a folder holds no canonical tables; ingest first
    ├── QuarantineLimitError          3  too many rows break the schema; nothing was changed
    ├── TrainingDataError                there is nothing to learn from, or to judge on
    ├── GateError                        rankers were not measured on the same users
    ├── SyncError                        a bundle cannot be brought to where the server reads it
    │   └── BundleRefusedError           it is broken; the pointer stays where it was
    ├── DeviceError                      a device was asked for that is not there
    ├── ServerError                      a server that a job started did not do its work
    ├── TablesInUseError                 another ingestion writes to the same folder
    ├── QualityError                  6  the tables are not fit to learn from
    ├── ParityError                      served features cannot be computed again
    └── BalanceError                     rows were lost between reading and writing; a bug

The command line prints the message as one line on standard error and ends with the class's
`exit_code`. Messages say what to do, and hold no personal data.
"""

from typing import ClassVar


class OfflineError(Exception):
    """The root: any failure of an offline job."""

    exit_code: ClassVar[int] = 1


class InputError(OfflineError):
    """What was given is not what it claims; nothing was changed."""

    exit_code = 2


class SourceError(InputError):
    """A source file is absent, empty, damaged or of another format."""


class MappingError(InputError):
    """The column mapping cannot be read, or does not fit the source."""


class RecipeError(InputError):
    """A recipe is not there, its file is wrong, or a search went over other data."""


class CampaignError(InputError):
    """A campaign's file is wrong, or does not fit what its export began with."""


class ExperimentError(InputError):
    """Nothing was shown of an experiment, or of an arm, of that name."""


class TablesMissingError(InputError):
    """A folder holds no canonical tables."""


class QuarantineLimitError(OfflineError):
    """More rows break the schema than allowed; the tables stay as they were."""

    exit_code = 3


class TrainingDataError(OfflineError):
    """There is nothing to learn from, or nothing to judge on."""


class GateError(OfflineError):
    """The rankers were not measured on the same users, so that no verdict can be given."""


class SyncError(OfflineError):
    """A bundle cannot be brought to where the server reads it."""


class BundleRefusedError(SyncError):
    """The bundle that an alias names is broken; the pointer stays where it was."""


class DeviceError(OfflineError):
    """A device was asked for that is not there."""


class ServerError(OfflineError):
    """A server that a job started did not do its work."""


class TablesInUseError(OfflineError):
    """Another ingestion is writing to the same folder."""


class QualityError(OfflineError):
    """The tables are not fit to learn from: a limit of `offline.quality` is broken."""

    exit_code = 6


class ParityError(OfflineError):
    """Served features cannot be computed again: none were noted, or the bundle is gone."""


class BalanceError(OfflineError):
    """Rows read, accepted, quarantined and duplicate do not add up: a bug, not bad data."""
