"""The command line: `modelstore` and `python -m modelstore`.

What a script wants to read goes to stdout, all other words to stderr. Exit codes: 0 done, 1 modelstore said no,
2 the command was not understood.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelstore._version import __version__

if TYPE_CHECKING:
    from modelstore import ModelRecord, ModelStore


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code.

    Args:
        argv: the arguments without the program's name (default: those of this process).
    """
    arguments = _parser().parse_args(argv)
    from modelstore.exceptions import ModelStoreError

    try:
        arguments.run(arguments)
        sys.stdout.flush()
    except ModelStoreError as error:
        _say(f"error: {error}")
        return 1
    except BrokenPipeError:
        # Whoever read our output has seen enough (`| head`); without this, the interpreter's own flush complains.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="modelstore",
        description="Trained models in a folder or bucket, with no server.",
        epilog="The store is that of --store (a folder, s3://bucket/prefix, gs://…, az://…, …), else that of "
        "MODEL_STORE_URL, else that of MODEL_STORE_STORAGE and its variables.",
    )
    parser.add_argument("--version", action="version", version=f"modelstore {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    parser.add_argument("--store", metavar="STORE", help="the folder or URL of the store")
    shared = argparse.ArgumentParser(add_help=False)
    # SUPPRESS, so that a command without it keeps what stood before the command.
    shared.add_argument("--store", metavar="STORE", default=argparse.SUPPRESS, help="the folder or URL of the store")

    upload = commands.add_parser("upload", parents=[shared], help="store a file or folder; prints the new model's id")
    upload.add_argument("domain", metavar="DOMAIN", help="what the model is for")
    upload.add_argument("file", metavar="FILE", type=_existing, help="a file or folder")
    upload.add_argument("--create", action="store_true", help="make the folder of the store if it is not there")
    upload.set_defaults(run=_upload)

    download = commands.add_parser("download", parents=[shared], help="fetch a model's files; prints their folder")
    download.add_argument("domain", metavar="DOMAIN")
    download.add_argument("model_id", metavar="ID")
    download.add_argument(
        "parent", metavar="PARENT_DIR", nargs="?", default=".", help="they go to PARENT_DIR/DOMAIN/ID (default: here)"
    )
    download.set_defaults(run=_download)

    listing = commands.add_parser("list", parents=[shared], help="list domains, or a domain's models, newest first")
    listing.add_argument("domain", metavar="DOMAIN", nargs="?")
    listing.add_argument("--state", metavar="STATE", help="only models in this state")
    listing.add_argument("--json", action="store_true", help="as JSON")
    listing.set_defaults(run=_list)

    doctor = commands.add_parser(
        "doctor", parents=[shared], help="try out what works with these credentials, and what not"
    )
    doctor.set_defaults(run=_doctor)

    info = commands.add_parser("info", parents=[shared], help="what is known about a model")
    info.add_argument("domain", metavar="DOMAIN")
    info.add_argument("model_id", metavar="ID", nargs="?", help="(default: the latest)")
    info.add_argument("--json", action="store_true", help="the whole record, as JSON")
    info.set_defaults(run=_info)

    adopt = commands.add_parser(
        "adopt", parents=[shared], help="take in a store of operatorai/modelstore that lies here, where it lies"
    )
    adopt.set_defaults(run=_adopt)

    for command in (upload, download, listing, info, doctor, adopt):
        command.set_defaults(command=command)
    return parser


def _existing(path: str) -> str:
    if not os.path.exists(path):
        raise argparse.ArgumentTypeError(f"there is no file or folder {path!r}")
    return path


def _open(arguments: argparse.Namespace, create: bool = False) -> ModelStore:
    from modelstore import ModelStore
    from modelstore.addresses import STORAGE_VARIABLE, URL_VARIABLE
    from modelstore.exceptions import InvalidArgumentError, StoreNotFoundError

    if arguments.store is None and not (os.environ.get(URL_VARIABLE) or os.environ.get(STORAGE_VARIABLE)):
        arguments.command.error(f"which store? Pass --store, or set {URL_VARIABLE} or {STORAGE_VARIABLE}")
    try:
        if arguments.store is None:
            return ModelStore.from_env(create_directory=create)
        return ModelStore.from_url(arguments.store, create_directory=create)
    except InvalidArgumentError as error:  # the command, or the environment that belongs to it, is not complete
        problem = str(error)
    except StoreNotFoundError as error:
        problem = str(error) if create else f"{error}; `modelstore upload --create` makes it"
    parser: argparse.ArgumentParser = arguments.command
    parser.error(problem)


def _upload(arguments: argparse.Namespace) -> None:
    record = _open(arguments, arguments.create).upload(arguments.domain, model=arguments.file)
    _say(f"uploaded {arguments.file} to {arguments.domain}")
    print(record["model"]["model_id"])


def _download(arguments: argparse.Namespace) -> None:
    from modelstore.registry.keys import encode_name

    store = _open(arguments)
    model = store.get_model_info(arguments.domain, arguments.model_id)["model"]
    # Domains and ids are any text: encoded, neither can lead out of the folder.
    target = Path(arguments.parent, encode_name(model["domain"]), encode_name(model["model_id"]))
    path = store.download(target, model["domain"], model["model_id"])
    _say(f"downloaded {model['model_id']} from {model['domain']}")
    print(path)


def _list(arguments: argparse.Namespace) -> None:
    if arguments.domain is None and arguments.state is not None:
        arguments.command.error("--state needs a DOMAIN")
    store = _open(arguments)
    if arguments.domain is None:
        found: Sequence[Any] = store.list_domains()
        lines = list(found)
    else:
        found = list(store.search(domain=arguments.domain, state=arguments.state))
        lines = _table([("ID", "CREATED", "LIBRARY", "CLASS", "METRICS"), *map(_row, found)])
    if arguments.json:
        _print_json(found)
    else:
        _print_lines(lines)


def _info(arguments: argparse.Namespace) -> None:
    store = _open(arguments)
    if arguments.model_id is None:
        record = store.get_domain(arguments.domain)
    else:
        record = store.get_model_info(arguments.domain, arguments.model_id)
    if arguments.json:
        _print_json(record)
        return
    states = store.get_model_states(record["model"]["domain"], record["model"]["model_id"])
    _print_lines(_table([(name, str(value)) for name, value in _facts(record, states) if value]))


def _doctor(arguments: argparse.Namespace) -> None:
    from modelstore.exceptions import StorageError

    diagnosis = _open(arguments).doctor()
    print(diagnosis)
    if not diagnosis.ok:
        raise StorageError(f"not everything works at {diagnosis.address}")


def _adopt(arguments: argparse.Namespace) -> None:
    report = _open(arguments).adopt()
    print(report)
    for problem in report.problems:
        _say(_one_line(f"not adopted: {problem.key}: {problem.reason}"))


def _row(record: ModelRecord) -> tuple[str, ...]:
    kind = record["model"]["model_type"]
    created = record.created.strftime("%Y-%m-%d %H:%M:%SZ")
    metrics = _pairs(record["model"].get("metrics"))
    return record["model"]["model_id"], created, kind["library"], _class(record), metrics


def _facts(record: ModelRecord, states: list[str]) -> Iterable[tuple[str, Any]]:
    model, code = record["model"], record["code"]
    yield "domain", model["domain"]
    yield "id", model["model_id"]
    yield "created", code["created"]
    yield "by", code.get("user")
    yield "library", model["model_type"]["library"]
    yield "class", _class(record)
    yield "states", ", ".join(states)
    yield "metrics", _pairs(model.get("metrics"))
    yield "tags", _pairs(model.get("tags"))
    yield "note", model.get("note")
    yield "runtime", code.get("runtime")
    yield "versions", " ".join(f"{name}=={version}" for name, version in (code.get("dependencies") or {}).items())


def _class(record: ModelRecord) -> str:
    kind = record["model"]["model_type"]
    several = kind.get("models") or []
    return kind.get("type") or " + ".join(str(part.get("type")) for part in several)


def _pairs(values: dict[str, Any] | None) -> str:
    return " ".join(
        f"{name}={value:.6g}" if isinstance(value, float) else f"{name}={value}"
        for name, value in (values or {}).items()
    )


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of equal length as lines, their columns aligned and two spaces apart."""
    rows = [[_one_line(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _one_line(text: str) -> str:
    # Names come from a bucket: a control character must reach no terminal, and a line break no table.
    return "".join(character if character.isprintable() else " " for character in text)


def _print_lines(lines: Iterable[str]) -> None:
    for line in lines:
        print(_one_line(line))


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False))


def _say(message: str) -> None:
    print(message, file=sys.stderr)
