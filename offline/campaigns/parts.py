"""The files of a campaign's export: a plan first, then parts, whole or absent, a manifest last.

    plan.json, plan.parquet       what was asked, and who of the audience gets what
    part-00000.parquet .csv .jsonl            the mails of some people
    left-out-00000.parquet .csv               who of them gets none, and why
    part-00000.json                           both are whole: their checksums
    coupons-00000.json            what its coupons may be expected to cost, where it has any
    preview.html, manifest.json   the manifest is written last of all

What stands in a file depends on the plan alone, so that an export that was stopped goes on where
it was and ends with the same files. It knows no engine.
"""

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import polars as pl

from feature_store.durable import flush, replace_file
from offline.errors import CampaignError

PLAN: Final = "plan"
FROZEN: Final = "frozen.json"
MANIFEST: Final = "manifest.json"
PREVIEW: Final = "preview.html"
PART: Final = "part-{:05d}"
LEFT_OUT: Final = "left-out-{:05d}"
TEXT_FORMATS: Final[Mapping[str, Callable[[pl.DataFrame, Path], Any]]] = {
    ".csv": lambda frame, path: frame.write_csv(path, datetime_format="%Y-%m-%dT%H:%M:%SZ"),
    ".jsonl": lambda frame, path: frame.write_ndjson(path),
}


@dataclass(frozen=True, slots=True)
class Folder:
    """The folder of one export, of one shard."""

    path: Path

    def begin(
        self, asked: dict[str, Any], make_plan: Callable[[], tuple[pl.DataFrame, dict[str, Any]]]
    ) -> bool:
        """Write the plan unless there is one of the same question; whether there was.

        What `make_plan` gives beside the plan is what else stays as it was then, as JSON.

        Raises CampaignError when the folder holds an export of something else.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        for draft in self.path.glob(".*"):
            draft.unlink()
        noted = self.path / f"{PLAN}.json"
        if noted.exists():
            if json.loads(noted.read_bytes()) != asked:
                raise CampaignError(
                    f"{self.path} holds an export of another campaign, model, instant or shard; "
                    "choose another --out, or remove it"
                )
            return True
        plan, frozen = make_plan()
        _write(self.path / f"{PLAN}.parquet", plan.write_parquet)
        _write_json(self.path / FROZEN, frozen)
        _write_json(noted, asked)
        return False

    def frozen(self) -> dict[str, Any]:
        """What was true when the plan was made."""
        content: dict[str, Any] = json.loads((self.path / FROZEN).read_bytes())
        return content

    def people(self, number: int) -> pl.DataFrame:
        """The rows of the plan that are of a part."""
        return self.scan_plan().filter(pl.col("part") == number).collect()

    def sizes(self) -> list[int]:
        """How many people each part has: those of the plan, and those written before an erasure."""
        counts = self.scan_plan().group_by("part").len().collect()
        sizes = dict(counts.iter_rows())
        written = [int(path.stem.rpartition("-")[2]) for path in self.path.glob("part-*.json")]
        return [sizes.get(one, 0) for one in range(1 + max([0, *sizes, *written]))]

    def scan_plan(self) -> pl.LazyFrame:
        """The whole plan."""
        return pl.scan_parquet(self.path / f"{PLAN}.parquet", glob=False)

    def missing(self, num_parts: int) -> list[int]:
        """The parts that are not whole yet."""
        return [number for number in range(num_parts) if not self._note(number).exists()]

    def write_part(self, number: int, mails: pl.DataFrame, left_out: pl.DataFrame) -> None:
        """Write a part in all formats and note, last, that it is whole."""
        part, left = PART.format(number), LEFT_OUT.format(number)
        files = [*self._write_formats(part, mails), *self._write_formats(left, left_out)]
        facts = {"num_mails": mails["pseudonym"].n_unique(), "files": files}
        _write_json(self._note(number), facts)

    def finish(self, num_parts: int, facts: dict[str, Any]) -> dict[str, Any]:
        """Write the manifest over all parts, as they are now; what it says.

        Whoever was erased since a part was written is not in it any more.
        """
        notes = [json.loads(self._note(number).read_bytes()) for number in range(num_parts)]
        named = [
            f"{PLAN}.json",
            f"{PLAN}.parquet",
            FROZEN,
            *([PREVIEW] if self._has(PREVIEW) else []),
        ]
        named += [name for note in notes for name in note["files"]]
        mails, left_out = self.scan_mails(), self._scan("left-out-*.parquet")
        counts = mails.select(num=pl.len(), users=pl.col("pseudonym").n_unique()).collect()
        reasons = left_out.group_by("reason").len().sort("reason").collect()
        manifest = {
            **facts,
            "num_users": counts["users"].item(),
            "num_rows": counts["num"].item(),
            "left_out": dict(reasons.iter_rows()),
            "files": {name: checksum(self.path / name) for name in named},
        }
        _write_json(self.path / MANIFEST, manifest)
        return manifest

    def unfinish(self) -> None:
        """From now on the export is not whole, and all its parts are to be made again."""
        for path in (self.path / MANIFEST, *self.path.glob("part-*.json")):
            path.unlink(missing_ok=True)

    def manifest(self) -> dict[str, Any]:
        """What the manifest says. Raises CampaignError when the export is not whole."""
        path = self.path / MANIFEST
        if not path.exists():
            raise CampaignError(f"{self.path} holds no whole export; run it again until it ends")
        content: dict[str, Any] = json.loads(path.read_bytes())
        return content

    def scan_mails(self) -> pl.LazyFrame:
        """All mails of the parts that are there."""
        return self._scan("part-*.parquet")

    def _scan(self, pattern: str) -> pl.LazyFrame:
        return pl.scan_parquet(sorted(self.path.glob(pattern)), glob=False)

    def _has(self, name: str) -> bool:
        return (self.path / name).exists()

    def _note(self, number: int) -> Path:
        return self.path / f"{PART.format(number)}.json"

    def _write_formats(self, name: str, frame: pl.DataFrame) -> list[str]:
        write: dict[str, Callable[[pl.DataFrame, Path], Any]] = {
            ".parquet": lambda rows, path: rows.write_parquet(path),
            **TEXT_FORMATS,
        }
        for suffix, one in write.items():
            _write(self.path / f"{name}{suffix}", partial(one, frame))
        return [f"{name}{suffix}" for suffix in write]


def folders_of(export: Path) -> list[Folder]:
    """The folder of a whole export, or those of all its shards.

    Raises CampaignError when one of them is missing or is not whole.
    """
    shards = sorted(export.glob("shard-*-of-*"))
    if not shards:
        Folder(export).manifest()
        return [Folder(export)]
    count = int(shards[0].name.rpartition("-")[2])
    if len(shards) != count:
        raise CampaignError(f"{export} holds {len(shards)} of {count} shards; export the others")
    for shard in shards:
        Folder(shard).manifest()
    return [Folder(shard) for shard in shards]


def forget_rows(parquet: Path, draft: Path) -> None:
    """Before `draft` replaces a part that holds somebody: what else names them goes too.

    The text files of the part are written anew, the preview page is removed.
    """
    texts = [suffix for suffix in TEXT_FORMATS if parquet.with_suffix(suffix).exists()]
    if texts:
        frame = pl.read_parquet(draft)
        for suffix in texts:
            _write(parquet.with_suffix(suffix), partial(TEXT_FORMATS[suffix], frame))
    if (parquet.parent / f"{PLAN}.parquet").exists():
        (parquet.parent / PREVIEW).unlink(missing_ok=True)


def checksum(path: Path) -> str:
    """SHA-256 in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write(path: Path, write: Callable[[Path], Any]) -> None:
    """Write a file under another name, flush it, and give it its name."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    write(draft)
    flush(draft)
    draft.replace(path)


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    replace_file(path, json.dumps(content, indent=2).encode() + b"\n")
