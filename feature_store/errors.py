"""What can go wrong with kept state, as one tree.

    FeatureStoreError
    ├── SettingsError              a setting cannot be used: see the message for the variable
    ├── EncoderError               texts cannot be turned into vectors
    ├── StateFormatError           a stored feature value has another layout or is damaged
    ├── BundleError                a bundle cannot be used; the one now serving stays
    │   ├── BundleCorruptError     a file is missing, or is not what the manifest says
    │   ├── UnknownFormatError     written by another version of aisle
    │   └── PointerError           the file that names the bundle to serve is absent or damaged
    ├── RegistryError              the registry of bundles cannot do what was asked
    │   ├── RegistryUnavailableError  it does not answer, or its database cannot be read
    │   └── VersionMissingError    it has no such alias or version
    ├── StoreError                 the online store cannot do what was asked
    │   ├── StoreUrlError          the address names no store that we know
    │   ├── StoreInUseError        this process has the embedded store open already
    │   ├── StoreDamagedError      the machine stopped while it was in use: fill it again
    │   ├── StoreUnavailableError  no answer in time; whether a write took effect is unknown
    │   └── StoreConflictError     others kept changing the same records; nothing was written
    ├── CatalogLogError            the log of products cannot be read or written; nothing was kept
    ├── LedgerError                the ledger of claims failed; sending it again is safe
    │   └── LedgerUrlError         the address names no ledger that we know
    └── EventLogError              an event log cannot be read or written; nothing was accepted
        └── EventLogFormatError    the file is no event log, or one of another version

Callers catch the branch they can act on. Messages say what to do, and hold no personal data.
"""


class FeatureStoreError(Exception):
    """The root: any failure of kept state."""


class SettingsError(FeatureStoreError):
    """A setting cannot be used."""


class EncoderError(FeatureStoreError):
    """Texts cannot be turned into vectors: the encoder is absent, or is not the one tested."""


class StateFormatError(FeatureStoreError):
    """A stored feature value has another layout than this code reads, or is damaged."""


class BundleError(FeatureStoreError):
    """A bundle cannot be used."""


class BundleCorruptError(BundleError):
    """A bundle lacks a file, or a file differs from its checksum in the manifest."""


class UnknownFormatError(BundleError):
    """A bundle has a format version that this code does not know."""


class PointerError(BundleError):
    """The file that names the bundle to serve is absent or damaged, or cannot be written so."""


class RegistryError(FeatureStoreError):
    """The registry of bundles cannot do what was asked."""


class RegistryUnavailableError(RegistryError):
    """The registry does not answer, or its database cannot be read."""


class VersionMissingError(RegistryError):
    """The registry has no such alias or version."""


class StoreError(FeatureStoreError):
    """The online store cannot do what was asked."""


class StoreUrlError(StoreError):
    """A store's address names no store that we know."""


class StoreInUseError(StoreError):
    """The embedded store is already open in this process, where it may be open only once."""


class StoreDamagedError(StoreError):
    """The machine stopped while the embedded store was in use: remove it and fill it again."""


class StoreUnavailableError(StoreError):
    """The store did not answer in time; whether a write took effect is unknown."""


class StoreConflictError(StoreError):
    """Other writers kept changing the same records; nothing was written."""


class CatalogLogError(FeatureStoreError):
    """The catalogue's log cannot be read or written; nothing of the call was accepted."""


class LedgerError(FeatureStoreError):
    """The ledger of claims failed; what was sent may have taken effect, sending again is safe."""


class LedgerUrlError(LedgerError):
    """A ledger's address names no ledger that we know."""


class EventLogError(FeatureStoreError):
    """An event log cannot be read or written; nothing of the call was accepted."""


class EventLogFormatError(EventLogError):
    """The file is no event log, or one that another version of aisle wrote."""
