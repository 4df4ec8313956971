"""DirectoryStore: objects as files below one directory, with URLs signed by HMAC."""

from __future__ import annotations

import copy
import hmac
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote

from darkroom.errors import Forbidden, ObjectNotFound, ObjectTooLarge, StorageUnavailable, UploadExists
from darkroom.storage import files
from darkroom.storage import keys as object_keys
from darkroom.storage.store import UploadUrl
from darkroom.storage.system_errors import translated

_PARTIAL = ".partial"  # no key can name it: segments never begin with a dot
_ABANDONED_SECONDS = 86_400.0
_CHUNK = 1 << 20


class DirectoryStore:
    """An ObjectStore on a local or shared file system.

    A write goes to a temporary file of the same file system, is flushed to the disk and then renamed, so that a crash
    at any point leaves the old object or the new one. Symbolic links below the root are never followed. Content types
    are not kept: whoever serves an object derives it from the key. As in any file system, `a` and `a/b` cannot both be
    objects.

    `clock` is the wall clock in seconds since the epoch; it dates signed URLs and abandoned temporary files.
    Raises StorageUnavailable when the directory cannot be made.
    """

    def __init__(
        self,
        root: Path,
        *,
        public_url: str = "",
        signing_key: bytes = b"",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._public_url = public_url.rstrip("/")
        self._signing_key = signing_key
        self._clock = clock
        with translated():
            root.mkdir(parents=True, exist_ok=True)
            self._root = root.resolve(strict=True)
            self._sweep()

    # ---- ObjectStore ----------------------------------------------------------------------------------------------

    def put(self, key: str, body: bytes | Path, *, content_type: str = "application/octet-stream") -> None:  # noqa: ARG002
        with body.open("rb") if isinstance(body, Path) else BytesIO(body) as source, self.writing(key) as writing:
            with translated():
                shutil.copyfileobj(source, writing.file, _CHUNK)
            writing.commit()

    @contextmanager
    def writing(self, key: str) -> Iterator[Writing]:
        """An object that comes bit by bit; without `commit` there is nothing in the end.

        Raises: StorageUnavailable, StorageFull; ValueError where nothing may have this key.
        """
        target = self._root / object_keys.check(key)
        with translated():
            partials = self._root / _PARTIAL
            partials.mkdir(exist_ok=True)
            partial = partials / secrets.token_hex(16)
            file = partial.open("xb")
        try:
            yield Writing(self, file, partial, target)
        finally:
            with suppress(OSError):  # what it was to write is lost either way
                file.close()
            partial.unlink(missing_ok=True)

    def get(self, key: str, *, limit: int | None = None) -> bytes:
        with translated():
            try:
                path = self._existing(key)
                if limit is not None and path.stat().st_size > limit:
                    raise ObjectTooLarge
                return path.read_bytes()
            except FileNotFoundError:  # deleted since it was looked up
                raise ObjectNotFound from None

    def fetch(self, key: str, destination: Path) -> Path:  # noqa: ARG002
        """The store's own file (never copied, so that it can be mapped into memory); `destination` is not used."""
        with translated():
            return self._existing(key)

    def exists(self, key: str) -> bool:
        with translated():
            try:
                self._existing(key)
            except ObjectNotFound:
                return False
            return True

    def keys(self, prefix: str) -> Iterator[str]:
        with translated():
            keys = sorted(self._walk(prefix))
        yield from keys

    def sizes(self, prefix: str) -> Iterator[int]:
        with translated():
            for key in self._walk(prefix):
                with suppress(FileNotFoundError):  # deleted since
                    yield (self._root / key).stat().st_size

    def changed_before(self, prefix: str, when: float) -> Iterator[str]:
        for key in self.keys(prefix):
            with suppress(FileNotFoundError), translated():
                if (self._root / key).stat().st_mtime < when:
                    yield key

    def delete(self, key: str) -> None:
        if not object_keys.is_valid(key):
            return
        path = self._root / key
        with translated():
            if path.parent.resolve() != path.parent:
                return
            try:
                path.unlink()
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                return
            files.sync_directory(path.parent)
            for parent in path.parents:  # leave no empty directory behind
                if parent == self._root:
                    break
                try:
                    parent.rmdir()
                except OSError:
                    break

    def reached_at(self, public_url: str) -> DirectoryStore:
        """The same store, whose URLs begin otherwise."""
        reached = copy.copy(self)
        reached._public_url = public_url.rstrip("/")
        return reached

    def url(self, key: str, *, expires: int) -> str:
        return self._signed("GET", key, expires)

    def upload_url(self, key: str, *, size: int, content_type: str, expires: int) -> UploadUrl:
        headers = {"Content-Type": content_type, "Content-Length": str(size)}
        return UploadUrl(self._signed(_put_of(size, content_type), key, expires), headers)

    def _signed(self, act: str, key: str, expires: int) -> str:
        if not self._signing_key:
            raise ValueError("signed URLs need a signing key")
        until = str(int(self._clock()) + expires)
        signature = self._signature(act, object_keys.check(key), until)
        return f"{self._public_url}/objects/{quote(key)}?expires={until}&signature={signature}"

    # ---- the serving side of a signed URL -------------------------------------------------------------------------

    def verify(self, key: str, expires: str, signature: str, now: float) -> None:
        """Check the parts of a signed URL, as they came in the query; `now` is the wall clock in epoch seconds.

        Raises: Forbidden, in the same words whether the signature is wrong or the time is over.
        """
        self._verify("GET", key, expires, signature, now)

    def verify_upload(
        self, key: str, expires: str, signature: str, now: float, *, size: int, content_type: str
    ) -> None:
        """The same for a signed upload, with what its headers say of the body. Raises: Forbidden."""
        self._verify(_put_of(size, content_type), key, expires, signature, now)

    def _verify(self, act: str, key: str, expires: str, signature: str, now: float) -> None:
        genuine = hmac.compare_digest(self._signature(act, key, expires).encode(), signature.encode("utf-8", "replace"))
        if not (genuine and self._signing_key and now < int(expires)):  # only what we signed ourselves reaches int()
            raise Forbidden

    def _signature(self, act: str, key: str, expires: str) -> str:
        message = f"{act}\n{expires}\n{key}".encode("utf-8", "surrogatepass")
        return hmac.digest(self._signing_key or b"\0", message, "sha256").hex()

    # ---- files ----------------------------------------------------------------------------------------------------

    def _existing(self, key: str) -> Path:
        path = self._root / key if object_keys.is_valid(key) else None
        # A path without symbolic links resolves to itself.
        if path is None or not path.is_file() or path.resolve() != path:
            raise ObjectNotFound
        return path

    def _rename(self, source: Path, target: Path, *, replace: bool) -> None:
        for _ in range(8):
            self._make_directory(target.parent)
            try:
                if replace:
                    source.replace(target)
                else:
                    files.link(source, target)
            except FileNotFoundError:  # a delete took the empty directory away
                continue
            except FileExistsError:
                raise UploadExists from None
            except IsADirectoryError:
                raise ValueError("an object key may not be the directory of another") from None
            files.sync_directory(target.parent)
            return
        raise StorageUnavailable

    def _make_directory(self, directory: Path) -> None:
        if directory.resolve() != directory:
            raise ValueError("an object key may not pass through a symbolic link")
        if directory.is_dir():
            return
        self._make_directory(directory.parent)
        try:
            with suppress(FileNotFoundError):  # a delete took the parent away: the rename will be tried again
                directory.mkdir()
        except (FileExistsError, NotADirectoryError):
            if files.is_in_the_way(directory):  # else another writer made it first
                raise ValueError("an object key may not pass through another object") from None
        files.sync_directory(directory.parent)

    def _walk(self, prefix: str) -> Iterator[str]:
        start = self._root
        folder = prefix.rpartition("/")[0]
        if folder:
            start = self._root / folder
            if not object_keys.is_valid(folder) or start.resolve() != start:
                return
        for directory, subdirectories, names in os.walk(start):
            subdirectories[:] = [name for name in subdirectories if not name.startswith(".")]
            for name in names:
                path = Path(directory, name)
                key = path.relative_to(self._root).as_posix()
                if key.startswith(prefix) and object_keys.is_valid(key) and not path.is_symlink():
                    yield key

    def _sweep(self) -> None:
        """Remove temporary files that a killed process left behind."""
        with suppress(OSError):  # a store that is mounted read-only still serves
            for partial in (self._root / _PARTIAL).iterdir():
                if self._clock() - partial.stat().st_mtime > _ABANDONED_SECONDS:
                    partial.unlink(missing_ok=True)


class Writing:
    """An object on its way into the store; `file` takes its bytes."""

    def __init__(self, store: DirectoryStore, file: BinaryIO, partial: Path, target: Path) -> None:
        self.file = file
        self._store = store
        self._partial = partial
        self._target = target

    def write(self, part: bytes) -> None:
        """Raises: StorageUnavailable, StorageFull."""
        with translated():
            self.file.write(part)

    def commit(self, *, replace: bool = True) -> None:
        """Now it is there, as a whole. Raises: UploadExists, where it may not `replace` the one that is there already;
        StorageUnavailable, StorageFull; ValueError where its key is in the way of another."""
        with translated():
            self.file.flush()
            os.fsync(self.file.fileno())
            self.file.close()
            self._store._rename(self._partial, self._target, replace=replace)


def _put_of(size: int, content_type: str) -> str:
    """What is signed of an upload; it cannot be taken for a GET, nor one PUT for another."""
    return f"PUT {size} {quote(content_type)}"
