"""The public interface as a type checker sees it; checked by mypy, never run."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

from typing_extensions import assert_type

import modelstore
from modelstore import (
    DomainNotFoundException,
    IntegrityError,
    ModelExistsException,
    ModelRecord,
    ModelStore,
    ModelStoreError,
    StorageError,
    UnsafeArchiveError,
)
from modelstore.model_store import ModelStore as SameModelStore
from modelstore.utils.exceptions import ModelNotFoundException

assert_type(modelstore.__version__, str)

store = ModelStore.from_file_system(root_directory="models", create_directory=True)
assert_type(store, ModelStore)
same: SameModelStore = ModelStore.from_file_system(Path("models"), cache_directory=Path("cache"), allow_pickle=False)

info = store.upload(
    "fraud",
    model=object(),
    model_id=None,
    extra_files=["predictions.csv", Path("report")],
    extra_metadata={"ticket": 42},
    metrics={"auc": 0.93},
    tags={"team": "fincrime"},
    note="SMOTE: recall up",
    X_train=[[1.0]],
    y_train=[1],
    optimizer=object(),
)
assert_type(info, ModelRecord)
assert_type(info.library, str)
assert_type(info.created, datetime)
plain: dict[str, Any] = info
store.upload("fraud", "an id", model="model.bin", extra_files="predictions.csv")

assert_type(store.load("fraud"), Any)
store.load("fraud", "id", verify="full", with_optimizer=True, into=None, allow_pickle=False, manager=None, offline=True)
store.load("fraud", state="production", trusted_types=["my.Type"])
assert_type(store.download("out", "fraud", "id"), str)
assert_type(store.download(Path("out"), "fraud", include="*.json"), str)
names: list[str] = [file.name for file in store.files("fraud", "id")]
sizes: list[int] = [file.size for file in store.files("fraud")]

assert_type(store.list_domains(), list[str])
assert_type(store.get_domain("fraud"), ModelRecord)
assert_type(store.list_models("fraud"), list[str])
assert_type(store.list_models("fraud", state_name="production"), list[str])
assert_type(store.list_versions("fraud", "production"), list[str])
assert_type(store.get_model_info("fraud", "id"), ModelRecord)
assert_type(store.model_exists("fraud", "id"), bool)
assert_type(store.list_model_states(), list[str])
assert_type(store.get_model_states("fraud", "id"), list[str])
store.create_model_state("production")
store.set_model_state("fraud", "id", "production")
store.remove_model_state("fraud", "id", "production")
store.delete_model_state("production", skip_prompt=True)
store.delete_model("fraud", "id", skip_prompt=True, purge=True)
store.gc(dry_run=True, older_than=30)

store.create_model_state("staging", exclusive=True, requires=["tested"])
store.set_model_state("fraud", "id", "production", reason="approved", expected=None)
store.set_model_state("fraud", "id", "production", expected="other")
assert_type(store.rollback("fraud", "production", reason="slow"), str)
store.load("fraud", state="production", at="2026-03-01T12:00Z", device="cuda")
store.list_models("fraud", at=datetime(2026, 3, 1))
found = store.search("metrics.auc > 0.9", domain="fraud", text="smote", order_by="-metrics.auc", limit=3, max_age=60)
assert_type(found[0], ModelRecord)
assert_type(found.ids, list[str])
assert_type(store.leaderboard("fraud", "auc", lowest_first=True).ids, list[str])
assert_type(store.compare("fraud", "a", "b", "c").to_json(), str)
assert_type(store.note("fraud", "calibrate", kind="next", model_id="id", tags={"by": "ana"}, answers=3), int)
assert_type(store.journal("fraud", text="smote", open=True).to_markdown(), str)
assert_type([entry.reason for entry in store.history("fraud", state="production")], list[str | None])
store.add_metrics("fraud", "id", {"recall": 0.5})
store.tag("fraud", "id", {"reviewed": "yes", "draft": None})
store.pin_model("fraud", "id")
store.unpin_model("fraud", "id")
store.restore_model("fraud", "id", reason="a mistake")
store.delete_domain("fraud", skip_prompt=True, purge=True)
assert_type(store.retention("fraud", keep_last=3, keep_best=("metrics.auc", 3), dry_run=True).deleted, tuple[str, ...])

assert_type(store.export_model("fraud", "id", Path("model.tar"), progress=False), str)
assert_type(store.import_model("model.tar", domain="fraud", timeout=60), ModelRecord)
assert_type(store.copy_model("fraud", "id", to=same, to_domain="live", to_model_id="other"), ModelRecord)
assert_type(store.export_catalog("catalog.parquet", domain="fraud"), int)

library_error: type[ModelStoreError] = IntegrityError
builtin_error: type[ValueError] = IntegrityError
missing_domain: type[KeyError] = DomainNotFoundException
missing_model: type[KeyError] = ModelNotFoundException
taken: type[ValueError] = ModelExistsException
unsafe: type[IntegrityError] = UnsafeArchiveError
os_error: type[OSError] = StorageError

# What must be found wrong: mypy reports an ignore that nothing needs.
store.load()  # type: ignore[call-arg]
store.list_models("fraud", state_name=1)  # type: ignore[arg-type]
store.delete_model("fraud", "id", True, True)  # type: ignore[call-arg]
wrong = modelstore.no_such_name  # type: ignore[attr-defined]


async def without_blocking() -> None:
    """The asynchronous wrappers take what the methods take."""
    assert_type(await store.aupload("fraud", model=object(), timeout=60.0), ModelRecord)
    assert_type(await store.aload("fraud", state="production", progress=False), Any)
    assert_type(await store.adownload("out", "fraud", include="*.json"), str)


remote = ModelStore.from_aws_s3("bucket", region="eu-west-1", kms_key="alias/models", timeout=30, progress=False)
assert_type(remote, ModelStore)
assert_type(ModelStore.from_url("gs://bucket/prefix", storage_options={"user_project": "p"}), ModelStore)
assert_type(ModelStore.from_env(cache_directory="cache"), ModelStore)
assert_type(ModelStore.from_minio("localhost:9000", secure=False), ModelStore)
assert_type(ModelStore.from_backblaze("bucket", unsafe_concurrent_writes=True), ModelStore)
assert_type(ModelStore.from_gcloud(bucket_name="bucket"), ModelStore)
assert_type(ModelStore.from_azure("container", account_url="https://a.blob.core.windows.net"), ModelStore)
assert_type(ModelStore.from_hdfs("/models", url="hdfs://namenode:8020"), ModelStore)
store.list_models("fraud", timeout=2.5)
