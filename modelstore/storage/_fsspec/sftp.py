"""SFTP: paramiko's client, with the options of fsspec's `SFTPFileSystem`."""

from __future__ import annotations

import contextlib
import stat
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from modelstore import deadline
from modelstore.exceptions import InvalidArgumentError, StorageError
from modelstore.storage._fsspec.files import Entry, Sink, name_of
from modelstore.storage.publishing import temporary_name

if TYPE_CHECKING:
    from paramiko import SFTPAttributes, SFTPClient, SFTPFile, SSHClient

_KEEPALIVE_SECONDS = 15


class SFTPFiles:
    """A session on an SSH connection of its own."""

    def __init__(self, cls: type[Any], args: tuple[Any, ...], options: dict[str, Any]) -> None:
        self._ssh = _login(*args, **options)
        try:
            self._sftp: SFTPClient = self._ssh.open_sftp()
            channel = self._sftp.get_channel()
            assert channel is not None
            channel.settimeout(deadline.STALL_SECONDS)
        except BaseException:
            self._ssh.close()
            raise
        self._fsync = True

    def has_root(self, root: str) -> bool:
        """See `Files.has_root`."""
        return self._is_folder(root or "/")

    def stat(self, path: str) -> Entry:
        """See `Files.stat`."""
        try:
            return _entry(name_of(path), self._sftp.stat(path))
        except OSError as error:
            # What lies below a file has no number of its own, so servers say "Failure".
            if self._is_answer(error) and self._is_below_a_file(path):
                raise FileNotFoundError(path) from error
            raise

    def scan(self, folder: str) -> list[Entry]:
        """See `Files.scan`."""
        try:
            found = self._sftp.listdir_attr(folder)
        except FileNotFoundError:
            return []
        except OSError as error:
            if self._is_answer(error) and not self._is_folder(folder):
                return []
            raise
        return [entry for attributes in found if (entry := self._followed(folder, attributes))]

    def read(self, path: str, start: int, end: int) -> tuple[bytes, int]:
        """See `Files.read`."""
        try:
            file = self._sftp.open(path, "rb")
        except OSError as error:
            if self._is_answer(error) and not self._is_file(path):
                raise FileNotFoundError(path) from error
            raise
        with file:
            attributes = file.stat()
            if stat.S_ISDIR(attributes.st_mode or 0):
                raise FileNotFoundError(path)
            size = attributes.st_size or 0
            end = min(end, size)
            if start >= end:
                return b"", size
            (data,) = file.readv([(start, end - start)])  # all requests at once, not one for each answer
            return data, size

    def open_new(self, path: str) -> Sink:
        """See `Files.open_new`."""
        file = self._sftp.open(path, "wbx")
        file.set_pipelined(True)  # without waiting for the answer to each 32 KiB; `finish` waits for all of them
        return _SFTPSink(self, file)

    def prove(self, folder: str) -> str:
        """See `Files.prove`."""
        first, second = (f"{folder}/{temporary_name()}" for _ in range(2))
        try:
            with self._sftp.open(first, "wbx"):
                pass
            try:
                self._link(first, second)
            except OSError as error:
                if not self._is_answer(error):
                    raise
                return f"its server makes no hard links there (hardlink@openssh.com: {error})"
            try:
                self._link(first, second)
            except OSError as error:
                if not self._is_answer(error):
                    raise
                return ""
            return "its server makes hard links over files that are there"
        finally:
            for path in (first, second):
                with contextlib.suppress(OSError, EOFError):
                    self._sftp.remove(path)

    def publish_new(self, temporary: str, path: str) -> None:
        """See `Files.publish_new`."""
        try:
            self._link(temporary, path)
        except OSError as error:
            # This version of the protocol has one number for all that has no other, so a look must tell what it was.
            if self._is_answer(error) and self._is_there(path):
                raise FileExistsError(path) from error
            raise
        with contextlib.suppress(OSError, EOFError):  # left to `sweep`
            self._sftp.remove(temporary)

    def publish_over(self, temporary: str, path: str) -> None:
        """See `Files.publish_over`."""
        with contextlib.suppress(FileNotFoundError):
            # Times are whole seconds here: see that this one is another than that of the file before.
            before, mine = self._sftp.stat(path).st_mtime or 0, self._sftp.stat(temporary).st_mtime or 0
            if before >= mine:
                self._sftp.utime(temporary, (before + 1, before + 1))
        try:
            self._sftp.posix_rename(temporary, path)
        except OSError as error:
            if not self._is_answer(error) or not self._is_there(temporary) or self._is_folder(path):
                raise
            self._sftp.rename(temporary, path)  # a server without the extension; some replace, others refuse

    def remove(self, path: str) -> bool:
        """See `Files.remove`."""
        try:
            self._sftp.remove(path)
        except FileNotFoundError:
            return False
        except OSError as error:
            if self._is_answer(error) and not self._is_file(path):
                return False
            raise
        return True

    def make_folder(self, path: str) -> None:
        """See `Files.make_folder`."""
        try:
            self._sftp.mkdir(path)
        except FileNotFoundError:
            raise
        except OSError as error:
            if self._is_answer(error) and self._is_there(path):
                raise FileExistsError(path) from error
            raise

    def remove_folder(self, path: str) -> bool:
        """See `Files.remove_folder`."""
        try:
            self._sftp.rmdir(path)
        except FileNotFoundError:
            return True
        except OSError as error:
            if not self._is_answer(error):
                raise
            return False  # not empty, or not ours to remove
        return True

    def alive(self) -> bool:
        """See `Files.alive`."""
        transport = self._ssh.get_transport()
        channel = self._sftp.get_channel()
        return bool(transport and transport.is_active() and channel and not channel.closed)

    def close(self) -> None:
        """See `Files.close`."""
        self._ssh.close()

    def forget(self) -> None:
        """See `Files.forget`."""
        transport = self._ssh.get_transport()
        if transport is not None:
            # The thread that would talk is the parent's. Without these, open files and channels that go out of use
            # here would say goodbye over the connection that both have.
            transport.active = False
            transport.sock.close()

    def sync(self, file: SFTPFile) -> None:
        """Ask for the bytes of an open file to be on the disk, where the server takes such requests."""
        if not self._fsync:
            return
        try:
            _extended(self._sftp, "fsync@openssh.com", file.handle)
        except OSError as error:
            if not self._is_answer(error) or "unsupported" not in str(error).lower():
                raise
            self._fsync = False

    def _link(self, source: str, target: str) -> None:
        _extended(self._sftp, "hardlink@openssh.com", source.encode(), target.encode())

    def _followed(self, folder: str, attributes: SFTPAttributes) -> Entry | None:
        """What an entry of a folder is, or what it leads to; links to folders are not followed, which may lead up."""
        if stat.S_ISLNK(attributes.st_mode or 0):
            try:
                found = self.stat(f"{folder}/{attributes.filename}")
            except FileNotFoundError:
                return None
            return None if found.is_folder else found
        return _entry(attributes.filename, attributes)

    def _is_answer(self, error: OSError) -> bool:
        """Whether this is what the server says, and not what happened on the way to it."""
        return self.alive() and not isinstance(error, (TimeoutError, ConnectionError))

    def _is_there(self, path: str) -> bool:
        try:
            self.stat(path)
        except FileNotFoundError:
            return False
        return True

    def _is_file(self, path: str) -> bool:
        try:
            return not self.stat(path).is_folder
        except FileNotFoundError:
            return False

    def _is_folder(self, path: str) -> bool:
        try:
            return self.stat(path).is_folder
        except FileNotFoundError:
            return False

    def _is_below_a_file(self, path: str) -> bool:
        while path := path.rpartition("/")[0]:
            with contextlib.suppress(OSError):
                return not stat.S_ISDIR(self._sftp.stat(path).st_mode or 0)
        return False


class _SFTPSink:
    def __init__(self, files: SFTPFiles, file: SFTPFile) -> None:
        self._files = files
        self._file = file

    def write(self, data: memoryview) -> None:
        """See `Sink.write`."""
        self._file.write(bytes(data))

    def finish(self) -> None:
        """See `Sink.finish`."""
        # Raises what the server had to say of any of the writes: the answers come in order, and this waits for its own.
        self._file.set_pipelined(False)
        self._files.sync(self._file)
        self._file.close()

    def abandon(self) -> None:
        """See `Sink.abandon`."""
        with contextlib.suppress(Exception):
            self._file.close()


def _extended(client: SFTPClient, request: str, *arguments: bytes) -> None:
    """Send a request of OpenSSH's that paramiko has no method for.

    By a private method, the one by which paramiko sends `posix-rename@openssh.com`: its public ones offer no link, and
    nothing else on SFTP creates a name only if it is free; nor do they offer fsync.
    """
    from paramiko.sftp import CMD_EXTENDED

    client._request(CMD_EXTENDED, request, *arguments)


def _entry(name: str, attributes: SFTPAttributes) -> Entry:
    mode, size, modified = attributes.st_mode or 0, attributes.st_size or 0, attributes.st_mtime
    when = None if modified is None else datetime.fromtimestamp(modified, timezone.utc)
    return Entry(name, stat.S_ISDIR(mode), size, when, f"{modified or 0:x}-{size:x}")


def _login(host: str, *, host_key_policy: Any = None, temppath: str = "", **options: Any) -> SSHClient:
    """A connection as fsspec's options say; unlike there, an unknown host is refused unless they say otherwise."""
    import paramiko

    client = paramiko.SSHClient()
    client.load_system_host_keys()
    client.set_missing_host_key_policy(_policy(host_key_policy))
    seconds = deadline.CONNECT_SECONDS
    limits = {"timeout": seconds, "banner_timeout": seconds, "auth_timeout": 2 * seconds, "channel_timeout": seconds}
    try:
        client.connect(host, **{**limits, **options})
        transport = client.get_transport()
        assert transport is not None
        transport.set_keepalive(_KEEPALIVE_SECONDS)
    except BaseException:
        client.close()
        raise
    return client


def _policy(given: Any) -> Any:
    import paramiko

    if given in (None, "reject"):
        return _RefuseUnknown()
    if given == "auto_add":
        return paramiko.AutoAddPolicy()
    if given == "warning":
        return paramiko.WarningPolicy()
    policy = given() if isinstance(given, type) else given
    if not hasattr(policy, "missing_host_key"):
        raise InvalidArgumentError(
            "host_key_policy", f"host_key_policy={given!r}: 'reject', 'auto_add', 'warning', or a policy of paramiko's"
        )
    return policy


class _RefuseUnknown:
    """Connect only to hosts whose key is known: models may hold pickles, which whoever poses as the host could send."""

    def missing_host_key(self, client: SSHClient, hostname: str, key: Any) -> None:
        """Called by paramiko."""
        raise StorageError(
            f"the host {hostname} is not in ~/.ssh/known_hosts (its key: {key.get_name()} {key.fingerprint}); connect "
            "once with ssh and compare the key, or accept any host with storage_options={'host_key_policy': 'auto_add'}"
        )
