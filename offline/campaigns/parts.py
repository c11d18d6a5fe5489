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

    def begin(self, asked: dict[str, Any], make_plan: Callable[[], pl.DataFrame]) -> bool:
        """Write the plan unless there is one of the same question; whether there was.

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
        _write(self.path / f"{PLAN}.parquet", lambda path: make_plan().write_parquet(path))
        _write_json(noted, asked)
        return False

    def people(self, first: int, num: int) -> pl.DataFrame:
        """Some rows of the plan."""
        return self.scan_plan().slice(first, num).collect()

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
        facts = {
            "num_mails": mails["pseudonym"].n_unique(),
            "num_rows": len(mails),
            "left_out": dict(sorted(left_out["reason"].value_counts().iter_rows())),
            "files": {name: checksum(self.path / name) for name in files},
        }
        _write_json(self._note(number), facts)

    def finish(self, num_parts: int, facts: dict[str, Any]) -> dict[str, Any]:
        """Write the manifest over all parts; what it says."""
        notes = [json.loads(self._note(number).read_bytes()) for number in range(num_parts)]
        reasons: dict[str, int] = {}
        for note in notes:
            for reason, num in note["left_out"].items():
                reasons[reason] = reasons.get(reason, 0) + num
        named = [f"{PLAN}.json", f"{PLAN}.parquet"]
        named += [name for name in (PREVIEW,) if (self.path / name).exists()]
        manifest = {
            **facts,
            "num_users": sum(note["num_mails"] for note in notes),
            "num_rows": sum(note["num_rows"] for note in notes),
            "left_out": dict(sorted(reasons.items())),
            "files": {name: checksum(self.path / name) for name in named}
            | {name: digest for note in notes for name, digest in note["files"].items()},
        }
        _write_json(self.path / MANIFEST, manifest)
        return manifest

    def manifest(self) -> dict[str, Any]:
        """What the manifest says. Raises CampaignError when the export is not whole."""
        path = self.path / MANIFEST
        if not path.exists():
            raise CampaignError(f"{self.path} holds no whole export; run it again until it ends")
        content: dict[str, Any] = json.loads(path.read_bytes())
        return content

    def scan_mails(self) -> pl.LazyFrame:
        """All mails of the parts that are there."""
        return pl.scan_parquet(sorted(self.path.glob("part-*.parquet")), glob=False)

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
