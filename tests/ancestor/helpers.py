"""Objects as operatorai/modelstore lays them out, made by hand: for what the real one takes too long to write."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modelstore import ModelStore
from modelstore.storage.memory import MemoryStorage

ROOT = "operatorai-model-store"


def archive_of(files: Mapping[str, bytes]) -> bytes:
    """A `.tar.gz` of these files."""
    return packed([(_info(name, len(data)), data) for name, data in files.items()])


def packed(members: list[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    """A `.tar.gz` of any members, as hostile as they may be."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for info, data in members:
            tar.addfile(info, io.BytesIO(data) if data else None)
    return out.getvalue()


def _info(name: str, size: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size = size
    return info


def raw_tar(*blocks: bytes) -> bytes:
    """Blocks of a tar in gzip, with the end of a tar behind them."""
    return gzip.compress(b"".join(blocks) + bytes(1024))


class Ancestor:
    """Writes to a storage as the old library would."""

    def __init__(self, storage: Any = None, root: str = "/srv/models") -> None:
        self.storage = storage or MemoryStorage()
        self.root = root
        self._seconds = 0

    def open(self, tmp_path: Path, **options: Any) -> ModelStore:
        """The store as ours."""
        return ModelStore(self.storage, cache_directory=tmp_path / "cache", **options)

    def put(self, key: str, data: bytes) -> None:
        """Write, or write anew, one object below its root."""
        self.storage.write(f"{ROOT}/{key}", [[data]])

    def upload(self, domain: str, model_id: str, archive: bytes | None = None, **changes: Any) -> dict[str, Any]:
        """Archive, metadata and latest; `changes` replaces parts of the metadata."""
        self._seconds += 1
        when = f"{self._seconds // 60:02d}:{self._seconds % 60:02d}"
        key = f"{domain}/2026.01.31-17.{when.replace(':', '.')}/{model_id}/artifacts.tar.gz"
        self.put(key, archive_of({"model.bin": model_id.encode()}) if archive is None else archive)
        metadata = {
            "model": {
                "domain": domain,
                "model_id": model_id,
                "model_type": {"library": "model_file"},
                "parameters": {},
            },
            "storage": {"type": "file_system", "root": self.root, "path": f"{self.root}/{ROOT}/{key}"},
            "modelstore": "0.0.82",
            "code": {"runtime": "python:3.11.7", "user": "ann", "created": f"2026/01/31/17:{when}", "dependencies": {}},
            **changes,
        }
        self.describe(domain, model_id, metadata)
        self.put(f"domains/{domain}.json", json.dumps(metadata).encode())
        return metadata

    def describe(self, domain: str, model_id: str, metadata: Any, state: str | None = None) -> None:
        """The metadata of a model, or a copy for a state."""
        folder = f"{domain}/versions" if state is None else f"{domain}/versions/{state}"
        self.put(f"{folder}/{model_id}.json", json.dumps(metadata).encode())

    def create_state(self, name: str) -> None:
        """Define a state."""
        self.put(f"model_states/{name}.json", json.dumps({"created": "…", "state_name": name}).encode())

    def set_state(self, domain: str, model_id: str, state: str) -> None:
        """Copy the metadata."""
        self.put(f"{domain}/versions/{state}/{model_id}.json", self._metadata(domain, model_id))

    def unset_state(self, domain: str, model_id: str, state: str) -> None:
        """Remove the copy."""
        self.storage.delete([f"{ROOT}/{domain}/versions/{state}/{model_id}.json"])

    def delete(self, domain: str, model_id: str) -> None:
        """Remove the archive, mark the model as deleted, and remove its metadata."""
        raw = self._metadata(domain, model_id)
        path = json.loads(raw)["storage"]["path"]
        self.storage.delete([path[len(self.root) + 1 :]])
        self.put(f"{domain}/versions/modelstore-deleted/{model_id}.json", raw)
        self.storage.delete([f"{ROOT}/{domain}/versions/{model_id}.json"])

    def forget_deletion(self, domain: str, model_id: str) -> None:
        """What the old library does before it uploads to the id of a deleted model."""
        self.unset_state(domain, model_id, "modelstore-deleted")

    def _metadata(self, domain: str, model_id: str) -> bytes:
        return bytes(self.storage.read(f"{ROOT}/{domain}/versions/{model_id}.json"))

    def contents(self) -> dict[str, bytes]:
        """All that lies there, by key."""
        return {info.key: self.storage.read(info.key) for info in self.storage.list(f"{ROOT}/")}
