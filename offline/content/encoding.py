"""Texts encoded once: a cache on disk by the hash of the text, and the choice of the encoder.

The embedded encoder is the default. A folder with a sentence-transformers model is the large
option: better vectors, torch, offline only. A server that is to encode questions in that space
needs the model as ONNX, which this version does not serve: it then searches by words alone.
"""

import hashlib
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from feature_store.errors import EncoderError
from feature_store.language.encoder import TextEncoder, Vectors, embedded_encoder
from offline.progress import QUIET, Progress

CACHE_FILE: Final = "encodings.sqlite"
EMBEDDED: Final = "embedded"
TEXTS_AT_ONCE: Final = 256


class CachedEncoder:
    """An encoder that never encodes the same text twice, also in later runs."""

    def __init__(self, encoder: TextEncoder, path: Path, progress: Progress = QUIET) -> None:
        """`path` is the cache's file, which is made when it is not there."""
        self._encoder = encoder
        self._progress = progress
        path.parent.mkdir(parents=True, exist_ok=True)
        self._cache = sqlite3.connect(path)
        self._cache.execute("PRAGMA journal_mode = WAL")
        self._cache.execute(
            "CREATE TABLE IF NOT EXISTS encodings (hash BLOB PRIMARY KEY, vector BLOB NOT NULL)"
        )

    @property
    def space(self) -> str:
        """See `TextEncoder`."""
        return self._encoder.space

    @property
    def dimension(self) -> int:
        """See `TextEncoder`."""
        return self._encoder.dimension

    def encode(self, texts: Sequence[str]) -> Vectors:
        """See `TextEncoder`; a bar shows the progress of what is new."""
        hashes = [_hash(self.space, text) for text in texts]
        known = self._read(hashes)
        missing = {
            each: text for each, text in zip(hashes, texts, strict=True) if each not in known
        }
        with self._progress.task("Encoding texts", len(missing)) as advance:
            fresh = list(missing.items())
            for start in range(0, len(fresh), TEXTS_AT_ONCE):
                part = fresh[start : start + TEXTS_AT_ONCE]
                vectors = self._encoder.encode([text for _, text in part])
                known.update(zip((each for each, _ in part), vectors, strict=True))
                self._write({each: known[each] for each, _ in part})
                advance(len(part))
        if not hashes:
            return np.zeros((0, self.dimension), np.float32)
        return np.stack([known[each] for each in hashes])

    def close(self) -> None:
        """Close the cache."""
        self._cache.close()

    def _read(self, hashes: Sequence[bytes]) -> dict[bytes, Vectors]:
        found = {}
        distinct = list(dict.fromkeys(hashes))
        for start in range(0, len(distinct), TEXTS_AT_ONCE):
            part = distinct[start : start + TEXTS_AT_ONCE]
            marks = ",".join("?" * len(part))
            rows = self._cache.execute(
                f"SELECT hash, vector FROM encodings WHERE hash IN ({marks})",  # noqa: S608
                part,
            )
            found.update({each: np.frombuffer(vector, np.float32) for each, vector in rows})
        return found

    def _write(self, vectors: dict[bytes, Vectors]) -> None:
        rows = [(each, vector.tobytes()) for each, vector in vectors.items()]
        with self._cache:
            self._cache.executemany("INSERT OR REPLACE INTO encodings VALUES (?, ?)", rows)


class SentenceTransformersEncoder:
    """A sentence-transformers model in a folder. Nothing is downloaded."""

    def __init__(self, folder: Path) -> None:
        """Raises EncoderError when the package or the model is not there."""
        if not (folder / "config.json").exists():
            raise EncoderError(f"{folder} holds no sentence-transformers model: no config.json")
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError:
            raise EncoderError(
                "a model from a folder needs: pip install sentence-transformers torch==2.13.0"
            ) from None
        self._model: Any = SentenceTransformer(str(folder), local_files_only=True)
        digest = hashlib.sha256((folder / "config.json").read_bytes()).hexdigest()[:12]
        self.space: Final = f"{folder.name}-{digest}"
        self.dimension: Final = int(self._model.get_sentence_embedding_dimension())

    def encode(self, texts: Sequence[str]) -> Vectors:
        """See `TextEncoder`."""
        vectors = self._model.encode(list(texts), normalize_embeddings=True)
        return np.asarray(vectors, np.float32)


def choose_encoder(name: str) -> TextEncoder:
    """The encoder of a recipe: `embedded`, or the path of a sentence-transformers model."""
    return embedded_encoder() if name == EMBEDDED else SentenceTransformersEncoder(Path(name))


def _hash(space: str, text: str) -> bytes:
    return hashlib.blake2b(f"{space}\n{text}".encode(), digest_size=16).digest()
