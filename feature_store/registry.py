"""The registry of bundles: MLflow runs, versions of one model, and the aliases that name them.

The only module that knows MLflow, which is slow to import and chatty: it is loaded at the first
question, told to be silent, and asked through a client of our own, never through its global
state. By default all is embedded, SQLite and a folder below HOME; MLFLOW_TRACKING_URI names a
tracking server instead. It moves bundles as they are and knows nothing of their content. What
serves must not import this module: it follows the pointer file that `offline sync` writes.
"""

import os
import re
import sqlite3
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, Self

from aisle.bundle.v1 import bundle_pb2
from feature_store.bundle import Bundle, open_bundle
from feature_store.durable import move_tree
from feature_store.errors import (
    BundleCorruptError,
    BundleError,
    RegistryError,
    RegistryUnavailableError,
    SettingsError,
    VersionMissingError,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

MODEL: Final = "aisle"
TRACKING_VARIABLE: Final = "MLFLOW_TRACKING_URI"
DATABASE: Final = "mlflow.db"
ARTIFACTS: Final = "mlartifacts"

_BUNDLE_ID: Final = re.compile(r"[0-9a-f]{8,64}")
_MAX_PARAM_LENGTH: Final = 6000

# What MLflow reads at import: no telemetry, no bars, no word below a warning, and an
# unreachable server is given up after seconds instead of minutes.
_QUIET: Final = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "60",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "GIT_PYTHON_REFRESH": "quiet",
}

# MLflow's own words for what a caller can act on; a server out of reach is INTERNAL_ERROR too.
_KINDS: Final[dict[str, type[RegistryError]]] = {
    "RESOURCE_DOES_NOT_EXIST": VersionMissingError,
    "INTERNAL_ERROR": RegistryUnavailableError,
    "TEMPORARILY_UNAVAILABLE": RegistryUnavailableError,
}

Role = Literal["judged", "refit"]
_ROLES: Final[dict[str, Role]] = {"judged": "judged", "refit": "refit"}


@dataclass(frozen=True, slots=True)
class Version:
    """One bundle in the registry. The two bundles of one training run share `run_id`.

    `horizon_time` is the instant up to which the bundle has seen data, microseconds UTC.
    """

    version: int
    bundle_id: str
    role: Role
    run_id: str
    horizon_time: int

    @classmethod
    def of(cls, model: "ModelVersion") -> Self:
        """What our tags say of MLflow's model version; RegistryError when it is not ours."""
        tags = model.tags
        if not _is_ours(tags):
            raise RegistryError(
                f"version {model.version} of the model {MODEL} was not registered by this "
                "program; point the alias at one that was"
            )
        return cls(
            version=int(model.version),
            bundle_id=tags["bundle_id"],
            role=_ROLES[tags["role"]],
            run_id=model.run_id or "",
            horizon_time=int(tags["horizon_time"]),
        )


@dataclass(frozen=True, slots=True)
class Run:
    """A training run that is being recorded."""

    run_id: str
    _client: "MlflowClient"

    def log_params(self, values: Mapping[str, Any]) -> None:
        """Record settings; nested mappings become names with dots, long values are cut."""
        with _asking():
            from mlflow.entities import Param

            flat = _flatten(values).items()
            params = [Param(key, str(value)[:_MAX_PARAM_LENGTH]) for key, value in flat]
            self._client.log_batch(self.run_id, params=params)

    def log_metrics(self, values: Mapping[str, float]) -> None:
        """Record measures."""
        with _asking():
            from mlflow.entities import Metric

            now_ms = int(time.time() * 1000)
            metrics = [Metric(key, float(value), now_ms, 0) for key, value in values.items()]
            self._client.log_batch(self.run_id, metrics=metrics)

    def log_table(self, file: str, columns: Mapping[str, Sequence[Any]]) -> None:
        """Record a table, given as columns of one length, as the JSON file `file`."""
        with _asking():
            self._client.log_table(
                self.run_id, {name: list(values) for name, values in columns.items()}, file
            )

    def log_text(self, file: str, text: str) -> None:
        """Record a text as the file `file`."""
        with _asking():
            self._client.log_text(self.run_id, text, file)

    def log_artifact(self, path: Path, folder: str | None = None) -> None:
        """Record a file or a directory as it is, in `folder` of the run."""
        with _asking():
            log = self._client.log_artifacts if path.is_dir() else self._client.log_artifact
            log(self.run_id, str(path), folder)


class Registry:
    """Runs, versions and aliases, embedded below `home` or on the server at `tracking_uri`.

    Nothing is opened before the first question. Every method raises RegistryUnavailableError
    when the registry does not answer, and RegistryError when it refuses.
    """

    def __init__(self, home: Path, tracking_uri: str | None = None) -> None:
        """SettingsError when `tracking_uri` is no server's address."""
        if tracking_uri and not tracking_uri.startswith(("http://", "https://")):
            raise SettingsError(
                f"{TRACKING_VARIABLE} must start with http:// or https://; leave it out to keep "
                f"runs in {home / DATABASE}"
            )
        self._home = home.absolute()
        self._server = tracking_uri or None

    @contextmanager
    def start_run(self, name: str) -> Iterator[Run]:
        """Record a training run; it ends FINISHED, or FAILED when the block raises."""
        with _asking():
            run_id = self._client.create_run(self._experiment_id(), run_name=name).info.run_id
        status = "FAILED"
        try:
            yield Run(run_id, self._client)
            status = "FINISHED"
        finally:
            with _asking():
                self._client.set_terminated(run_id, status)

    def register(self, run: Run, bundle: Bundle) -> Version:
        """Upload a bundle with its run and make it a version of the model, without an alias."""
        tags = {
            "bundle_id": bundle.bundle_id,
            "role": _role(bundle),
            "pair": run.run_id,
            "horizon_time": str(bundle.horizon_time),
        }
        place = _place(bundle.bundle_id)
        with _asking():
            self._client.log_artifacts(run.run_id, str(bundle.directory), place)
            self._ensure_model()
            source = f"{self._client.get_run(run.run_id).info.artifact_uri}/{place}"
            model = self._client.create_model_version(MODEL, source, run.run_id, tags=tags)
        return Version.of(model)

    def resolve(self, alias: str) -> Version:
        """The version behind an alias; VersionMissingError when there is none."""
        number = self.aliases().get(alias)
        if number is None:
            raise VersionMissingError(
                f"no model has the alias {alias}; train one with python -m offline train"
            )
        return self.get(number)

    def prepare(self) -> None:
        """Make what recording needs where nothing was recorded yet, which takes seconds."""
        with _asking():
            self._ensure_model()

    def aliases(self) -> dict[str, int]:
        """Every alias with the number of its version."""
        if self._is_empty():
            return {}
        try:
            with _asking():
                model = self._client.get_registered_model(MODEL)
        except VersionMissingError:
            return {}
        return {alias: int(number) for alias, number in model.aliases.items()}

    def get(self, number: int) -> Version:
        """The version of that number; VersionMissingError when there is none."""
        with _asking():
            return Version.of(self._client.get_model_version(MODEL, str(number)))

    def set_alias(self, alias: str, version: Version) -> None:
        """Point an alias to a version: this is how one goes live, and how it is rolled back."""
        with _asking():
            self._client.set_registered_model_alias(MODEL, alias, str(version.version))

    def versions(self) -> list[Version]:
        """Every version that this program registered, the newest first."""
        return self._search(f"name = '{MODEL}'")

    def sibling(self, version: Version) -> Version | None:
        """The other bundle of the same training run: the judged of a refit, or the reverse."""
        others = self._search(f"name = '{MODEL}' and tags.pair = '{version.run_id}'")
        return next((other for other in others if other.role != version.role), None)

    def fetch(self, version: Version, folder: Path) -> Path:
        """Bring a bundle to `folder/BUNDLE_ID`, whole or not at all, and return that path.

        One that lies there already is verified, and fetched again only when it is damaged.
        BundleError when what the registry holds is not the bundle that was registered.
        """
        target = folder / version.bundle_id
        if _is_whole(target):
            return target
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=folder) as draft:
            fetched = self._download(version, Path(draft))
            if open_bundle(fetched).bundle_id != version.bundle_id:
                raise BundleCorruptError(
                    f"version {version.version} of the model {MODEL} holds another bundle than "
                    f"{version.bundle_id}; train again"
                )
            if target.exists():
                target.rename(Path(draft) / "damaged")
            move_tree(fetched, target)
        return target

    def _download(self, version: Version, folder: Path) -> Path:
        with _asking():
            path = self._client.download_artifacts(
                version.run_id, _place(version.bundle_id), str(folder)
            )
        return Path(path)

    def _search(self, criteria: str) -> list[Version]:
        if self._is_empty():
            return []
        found: list[ModelVersion] = []
        token: str | None = None
        with _asking():
            while True:
                page = self._client.search_model_versions(criteria, page_token=token)
                found += page
                token = page.token
                if not token:
                    break
        ours = [Version.of(model) for model in found if _is_ours(model.tags)]
        return sorted(ours, key=lambda version: -version.version)

    def _is_empty(self) -> bool:
        """Whether nothing was ever recorded here; making the database only to ask takes seconds."""
        return self._server is None and not (self._home / DATABASE).exists()

    @cached_property
    def _client(self) -> "MlflowClient":
        if self._server is None:
            _check_database(self._home / DATABASE)
        uri = self._server or f"sqlite:///{self._home / DATABASE}"
        with _asking():
            from mlflow import MlflowClient

            return MlflowClient(uri, registry_uri=uri)

    def _experiment_id(self) -> str:
        experiment = self._client.get_experiment_by_name(MODEL)
        if experiment is not None:
            return str(experiment.experiment_id)
        place = None if self._server else (self._home / ARTIFACTS).as_uri()
        return str(self._client.create_experiment(MODEL, artifact_location=place))

    def _ensure_model(self) -> None:
        try:
            with _asking():
                self._client.get_registered_model(MODEL)
        except VersionMissingError:
            self._client.create_registered_model(MODEL)


def _check_database(path: Path) -> None:
    """Fail at once where MLflow would try for minutes."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA schema_version")
    except (OSError, sqlite3.Error) as error:
        raise RegistryUnavailableError(f"{path} cannot be used as a database: {error}") from error


@contextmanager
def _asking() -> Iterator[None]:
    """Import MLflow and speak to it: silently, and with its errors turned into ours."""
    for variable, value in _QUIET.items():
        os.environ.setdefault(variable, value)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        try:
            yield
        except (OSError, SQLAlchemyError) as error:
            raise RegistryUnavailableError(f"the registry cannot be used: {error}") from error
        except MlflowException as error:
            kind = _KINDS.get(error.error_code, RegistryError)
            raise kind(f"the registry says: {error.message}") from error


def _place(bundle_id: str) -> str:
    """Where a bundle lies in the artifacts of its run."""
    return f"bundles/{bundle_id}"


def _is_ours(tags: Mapping[str, str]) -> bool:
    """Whether the tags are those that `register` writes; the bundle's id becomes a path."""
    return (
        tags.get("role") in _ROLES
        and _BUNDLE_ID.fullmatch(tags.get("bundle_id", "")) is not None
        and tags.get("horizon_time", "").isdecimal()
    )


def _role(bundle: Bundle) -> Role:
    name = bundle_pb2.Role.Name(bundle.manifest.role).removeprefix("ROLE_").lower()
    if name not in _ROLES:
        raise BundleCorruptError(f"the manifest of {bundle.directory} names no role; train again")
    return _ROLES[name]


def _is_whole(directory: Path) -> bool:
    if not directory.exists():
        return False
    try:
        open_bundle(directory)
    except BundleError:
        return False
    return True


def _flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
