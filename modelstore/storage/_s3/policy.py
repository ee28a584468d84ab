"""The smallest IAM policy with which a store works in a bucket."""

from __future__ import annotations

import json
from typing import Any


def policy(bucket: str, prefix: str, kms_key: str | None, partition: str = "aws") -> str:
    """An IAM policy document, as JSON that can be pasted.

    Args:
        bucket: the bucket's name.
        prefix: where in it the store lies: empty, or ending in `/`.
        kms_key: the key that objects are encrypted with: its id, ARN or alias.
        partition: the part of AWS that the bucket is in.
    """
    bucket_arn = bucket if bucket.startswith("arn:") else f"arn:{partition}:s3:::{bucket}"
    listing: dict[str, Any] = {
        "Sid": "List",
        "Effect": "Allow",
        "Action": ["s3:ListBucket", "s3:ListBucketMultipartUploads"],
        "Resource": bucket_arn,
    }
    statements = [listing]
    if prefix:
        # ListBucketMultipartUploads knows no condition on a prefix; it tells names, and gives no access.
        listing["Action"] = "s3:ListBucket"
        listing["Condition"] = {"StringLike": {"s3:prefix": f"{prefix}*"}}
        statements.append(
            {"Sid": "Sweep", "Effect": "Allow", "Action": "s3:ListBucketMultipartUploads", "Resource": bucket_arn}
        )
    statements.append(
        {
            "Sid": "ReadAndWrite",
            "Effect": "Allow",
            "Action": ["s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload", "s3:DeleteObject"],
            "Resource": f"{bucket_arn}/{prefix}*",
        }
    )
    if kms_key:
        statements.append(
            {
                "Sid": "Encrypt",
                "Effect": "Allow",
                "Action": ["kms:GenerateDataKey", "kms:Decrypt"],
                "Resource": kms_key if kms_key.startswith("arn:") else _key_arn(kms_key, partition),
            }
        )
    return json.dumps({"Version": "2012-10-17", "Statement": statements}, indent=2)


def _key_arn(key: str, partition: str) -> str:
    # An alias is no resource of a policy; which key it stands for only KMS knows.
    return f"arn:{partition}:kms:*:*:key/{'*' if key.startswith('alias/') else key}"
