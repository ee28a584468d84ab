"""The smallest grant with which a store works in a bucket of Google Cloud Storage."""

from __future__ import annotations

import json

READING = ("storage.objects.get", "storage.objects.list")
WRITING = (
    "storage.objects.create",
    "storage.multipartUploads.create",
    "storage.multipartUploads.abort",
    "storage.multipartUploads.listParts",
)
DELETING = ("storage.objects.delete", "storage.multipartUploads.list")


def policy(bucket: str, prefix: str, kms_key: str | None, user_project: str | None) -> str:
    """Commands of gcloud that grant it to a MEMBER.

    Args:
        bucket: the bucket's name.
        prefix: where in it the store lies: empty, or ending in `/`.
        kms_key: the key that objects are encrypted with.
        user_project: the project that pays for requests.
    """
    condition = " --condition=None"
    before = ""
    if prefix:
        # Condition files, since the expression has commas, which separate the parts of --condition.
        before = f"cat > condition.json <<'END'\n{json.dumps(_condition(bucket, prefix), indent=2)}\nEND\n"
        condition = " --condition-from-file=condition.json"
    lines = [
        "# A role for whoever uploads, loads and deletes. Without the last two permissions nobody deletes, without the",
        "# storage.multipartUploads ones uploads go in sequence, with the first two alone one can only load.",
        f"gcloud iam roles create modelstore --project=PROJECT --permissions={','.join(READING + WRITING + DELETING)}",
        f"{before}gcloud storage buckets add-iam-policy-binding gs://{bucket} --member=MEMBER \\",
        f"    --role=projects/PROJECT/roles/modelstore{condition}",
    ]
    if kms_key:
        lines += [
            "# The key is used by the service agent of the bucket's project, whoever asks.",
            f"gcloud storage service-agent --project=PROJECT --authorize-cmek={kms_key}",
        ]
    if user_project:
        lines += [
            f"gcloud projects add-iam-policy-binding {user_project} --member=MEMBER \\",
            "    --role=roles/serviceusage.serviceUsageConsumer --condition=None",
        ]
    return "\n".join(lines)


def _condition(bucket: str, prefix: str) -> dict[str, str]:
    # Listing is a right on the bucket, whose name has no prefix; the condition looks at what is to be listed.
    quoted = json.dumps(prefix)
    objects = json.dumps(f"projects/_/buckets/{bucket}/objects/{prefix}")
    return {
        "title": "modelstore",
        "description": f"the store below {prefix}",
        "expression": f"resource.name.startsWith({objects}) || "
        f'api.getAttribute("storage.googleapis.com/objectListPrefix", "").startsWith({quoted})',
    }
