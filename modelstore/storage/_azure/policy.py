"""The smallest grants with which a store works on Azure, ready to be copied into a shell."""

from __future__ import annotations

import json

from modelstore.storage._azure.errors import DELETE, READ, WRITE

_PATH = "Microsoft.Storage/storageAccounts/blobServices/containers/blobs:path"
_PREFIX = "Microsoft.Storage/storageAccounts/blobServices/containers/blobs:prefix"
_ADD = WRITE.removesuffix("write") + "add/action"


def policy(account: str, container: str, prefix: str) -> str:
    """Roles and tokens for the part of a container whose blobs begin with `prefix` (the whole one for "")."""
    scope = (
        "/subscriptions/$SUBSCRIPTION/resourceGroups/$GROUP/providers/Microsoft.Storage/storageAccounts/"
        f"{account}/blobServices/default/containers/{container}"
    )
    role = {
        "Name": f"modelstore on {account}/{container}",
        "Description": "Upload, load and delete models",
        "AssignableScopes": ["/subscriptions/SUBSCRIPTION"],
        "Actions": [],
        "DataActions": [READ, WRITE, _ADD, DELETE],
    }
    condition = ' \\\n    --condition-version 2.0 --condition "$CONDITION"' if prefix else ""
    assignment = f'az role assignment create --assignee "$WHO" --role "{{}}" \\\n    --scope "{scope}"{condition}'
    conditions = ["CONDITION=$(cat <<'END'", _condition(prefix), "END", ")"] if prefix else []
    return "\n".join(
        [
            "# WHO, SUBSCRIPTION and GROUP are to be set, and SUBSCRIPTION to be replaced in the role itself.",
            *conditions,
            "",
            f"# Who uploads: a role with no more than is needed (without {DELETE}: all but deletion works).",
            '# "Storage Blob Data Contributor" has these rights too, among others.',
            f"az role definition create --role-definition '{json.dumps(role, indent=2)}'",
            assignment.format(role["Name"]),
            "",
            "# Who only loads:",
            assignment.format("Storage Blob Data Reader"),
            "",
            "# Or SAS tokens for the whole container: r(ead) w(rite) d(elete) l(ist) to upload, rl to load.",
            f"az storage container generate-sas --account-name {account} --name {container} --permissions rwdl \\",
            '    --https-only --expiry "$UNTIL" --auth-mode login --as-user  # for seven days at most',
        ]
    )


def _condition(prefix: str) -> str:
    """That what is done is done below the prefix; a listing names the prefix that it asks for."""
    quoted = "".join("\\" + letter if letter in "\\'" else letter for letter in prefix)
    listing = f"ActionMatches{{'{READ}'}} AND SubOperationMatches{{'Blob.List'}}"
    reading = f"ActionMatches{{'{READ}'}} AND NOT SubOperationMatches{{'Blob.List'}}"
    changing = " AND ".join(f"!(ActionMatches{{'{action}'}})" for action in (WRITE, _ADD, DELETE))
    return (
        f"((!({reading}) AND {changing}) OR (@Resource[{_PATH}] StringStartsWith '{quoted}')) "
        f"AND ((!({listing})) OR (@Request[{_PREFIX}] StringStartsWith '{quoted}'))"
    )
