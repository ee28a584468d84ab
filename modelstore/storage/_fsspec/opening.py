"""Which file system of fsspec's a URL or an instance names, and what to call the place."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote, urlsplit

from modelstore.exceptions import InvalidArgumentError, MissingDependencyError
from modelstore.storage.addressing import clean_prefix

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

_EXTRAS = {
    **dict.fromkeys(("sftp", "ssh"), ("paramiko", "sftp")),
    **dict.fromkeys(("webdav", "webdavs"), ("webdav4", "webdav")),
}
"""The packages that we have an extra for, by protocol."""

_WEBDAV = {"webdav": "http", "dav": "http", "webdavs": "https", "davs": "https"}
"""What is spoken below WebDAV."""


@dataclass(frozen=True)
class Place:
    """A folder on a file system."""

    cls: type[Any]
    """fsspec's class."""
    args: tuple[Any, ...]
    options: dict[str, Any]
    """What it is made with, secrets among them."""
    protocol: str
    host: str
    """`user@host:port`, as far as there is such a thing; no secrets."""
    root: str
    """Without a `/` at its end."""

    @property
    def address(self) -> str:
        """A URL without secrets."""
        return f"{self.protocol}://{self.host}{quote(self.root, safe='/:')}"


def locate(given: str | AbstractFileSystem, root: str | None, options: Mapping[str, Any] | None) -> Place:
    """The place that the arguments of `FsspecStorage` name.

    Raises:
        InvalidArgumentError: nothing is there that fsspec knows.
        MissingDependencyError: a package is missing.
    """
    if importlib.util.find_spec("fsspec") is None:
        raise MissingDependencyError("fsspec", "this store", "pip install fsspec")
    if not isinstance(given, str):
        return _of_instance(given, root, options)
    protocol = urlsplit(given).scheme
    if protocol in _WEBDAV and not protocol.startswith("web"):
        protocol = "web" + protocol
    cls = _class_of("webdav" if protocol in _WEBDAV else protocol)
    all_options = dict(options or {})
    if protocol in _WEBDAV:
        path = _webdav(given, all_options)
    else:
        from_url = cls._get_kwargs_from_urls(given)
        for name in ("username", "password"):
            if from_url.get(name):
                from_url[name] = unquote(from_url[name])
        all_options = {**from_url, **all_options}
        path = _path_in(cls, given, protocol)
    return _place(cls, (), all_options, protocol, _joined(path, root))


def _of_instance(fs: AbstractFileSystem, root: str | None, options: Mapping[str, Any] | None) -> Place:
    if not hasattr(fs, "storage_options") or not hasattr(fs, "cat_file"):
        raise InvalidArgumentError("filesystem_or_url", f"{fs!r} is neither a URL nor a file system of fsspec's")
    if options:
        raise InvalidArgumentError("storage_options", "a file system that is made already takes no storage_options")
    if not root:
        raise InvalidArgumentError("root", "with a file system, root= must say in which folder of it the store is")
    cls = type(fs)
    protocol = fs.protocol if isinstance(fs.protocol, str) else fs.protocol[0]
    path = _joined(str(cls._strip_protocol(root)), None)
    return _place(cls, tuple(fs.storage_args), dict(fs.storage_options), protocol, path)


def _class_of(protocol: str) -> type[Any]:
    from fsspec import get_filesystem_class

    try:
        cls: type[Any] = get_filesystem_class(protocol)
    except ValueError as error:
        raise InvalidArgumentError(
            "url",
            f"{protocol}:// is nothing that modelstore or fsspec knows: see that the URL is right, and that the "
            "package that brings this protocol is installed",
        ) from error
    except ImportError as error:
        package, extra = _EXTRAS.get(protocol, (str(getattr(error.__cause__, "name", None) or protocol), ""))
        command = f"pip install 'modelstore[{extra}]'" if extra else f"pip install {package}"
        raise MissingDependencyError(package, f"a store on {protocol}://", command) from error
    return cls


def _path_in(cls: type[Any], url: str, protocol: str) -> str:
    path = str(cls._strip_protocol(url))
    return unquote(path) if protocol in ("sftp", "ssh", "ftp") else path


def _webdav(url: str, options: dict[str, Any]) -> str:
    """Complete the options of a WebDAV file system by what a URL says, and return the path in it.

    fsspec's own URLs of it hold nothing but a path, beside the option `base_url`; without that one, the URL names host
    and path: `webdav://` for http, `webdavs://` for https.
    """
    parts = urlsplit(url)
    if isinstance(options.get("auth"), list):  # JSON has no tuples
        options["auth"] = tuple(options["auth"])
    if "base_url" in options or "client" in options:
        return unquote(parts.netloc + parts.path)
    if not parts.hostname:
        raise InvalidArgumentError("url", f"{url} names no host: webdavs://host/folder, or base_url=")
    if parts.username:
        options.setdefault("auth", (unquote(parts.username), unquote(parts.password or "")))
    options["base_url"] = f"{_WEBDAV[parts.scheme]}://{parts.netloc.rpartition('@')[2]}"
    return unquote(parts.path)


def _joined(path: str, root: str | None) -> str:
    start = "/" if path.startswith("/") else ""
    more = f"{path.strip('/')}/{root.strip('/')}" if root else path.strip("/")
    return start + clean_prefix(more).rstrip("/") if more.strip("/") else ""


def _place(cls: type[Any], args: tuple[Any, ...], options: dict[str, Any], protocol: str, root: str) -> Place:
    host = ""
    if protocol in _WEBDAV:
        base = urlsplit(str(options.get("base_url") or (args[0] if args else "")))
        host = base.netloc.rpartition("@")[2] + base.path.rstrip("/")
        root = "/" + root.strip("/") if root.strip("/") else ""
    elif "host" in options or (args and protocol in ("sftp", "ssh")):
        user = options.get("username") or options.get("user")
        port = options.get("port")
        host = f"{user}@" if user else ""
        host += str(options.get("host") or args[0]) + (f":{port}" if port else "")
        root = root if root.startswith("/") else "/" + root
        root = root.rstrip("/")
    return Place(cls, args, options, protocol, host, root)
