"""A folder of shards, wherever it is: on this machine, or at a URL that fsspec knows (`s3://`, `gs://`, `hf://`, `sftp://`, `https://` …).

A remote file is copied whole into a cache when it is first touched, and checked by its sha256; after that reading it is reading a local file.
The cache has a size limit; what was not used for longest goes first. It may be shared by any number of processes and runs: a file is copied
under a lock, written aside and renamed, its name begins with its hash, and one that goes while it is read stays readable (POSIX).
"""

import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from pipeline import files

CACHE_BYTES = int(float(os.environ.get("POLYALIGN_CACHE_GB", 50)) * 10**9)
"""Size of the cache unless another is given."""

STALE = 24 * 3600
"""Seconds after which a file that was begun and never finished is taken for a killed process's."""


class StorageError(Exception):
    """A file is not there or can't be fetched; the message names it and the remedy."""


def default_cache() -> Path:
    """`$POLYALIGN_CACHE`, or the user's cache folder."""
    if named := os.environ.get("POLYALIGN_CACHE"):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "polyalign" / "shards"


@dataclass(frozen=True)
class Folder:
    """A folder of files. Make one with `open_folder`."""

    name: str
    """As the user named it; for messages."""
    local: Path | None
    """Where it is on this machine, or None for a remote one."""
    filesystem: Any = field(default=None, compare=False)
    root: str = ""
    """Path of a remote folder in its file system."""
    cache: Path = field(default_factory=default_cache)
    cache_bytes: int = CACHE_BYTES

    def __str__(self) -> str:
        return self.name

    def sizes(self) -> dict[str, int]:
        """Name → bytes of each file in the folder, without those below it; empty when the folder is not there."""
        if self.local is not None:
            return (
                {p.name: p.stat().st_size for p in self.local.iterdir() if p.is_file()} if self.local.is_dir() else {}
            )
        with self.told("list"):
            try:
                found = self.filesystem.ls(self.root, detail=True)
            except FileNotFoundError:
                return {}
        return {f["name"].rstrip("/").rsplit("/", 1)[-1]: f["size"] for f in found if f["type"] == "file"}

    def read(self, name: str) -> bytes:
        """The bytes of a small file as it is now, past the cache. Raises FileNotFoundError."""
        if self.local is not None:
            return (self.local / name).read_bytes()
        with self.told(f"read {name} in"):
            return self.filesystem.cat_file(f"{self.root}/{name}")

    def path(self, name: str, sha256: str) -> Path:
        """A local file with the bytes of `name`. A remote one is copied into the cache first, and must have this hash.

        Raises StorageError when it is not there, can't be copied, has another hash or is larger than the cache.
        """
        if self.local is not None:
            return self.local / name
        target = self.cache / f"{sha256[:32]}-{name}"
        with _locked(target.with_name(f".{target.name}.lock")):
            if target.exists():
                os.utime(target)
                return target
            with self.told(f"copy {name} from"):
                source = f"{self.root}/{name}"
                make_room(self.cache, self.cache_bytes, self.filesystem.size(source) or 0, name)
                with files.written_aside(target) as temporary:
                    self.filesystem.get_file(source, str(temporary))
                    if files.sha256_file(temporary) != sha256:
                        raise StorageError(
                            f"{self}/{name} is not the file that the manifest names (its sha256 differs): copy the shards there again."
                        )
            return target

    def open(self, name: str, sha256: str) -> int:
        """A file descriptor of `path`, which stays readable when the file leaves the cache."""
        for _ in range(3):
            try:
                return os.open(self.path(name, sha256), os.O_RDONLY)
            except FileNotFoundError:
                if self.local is not None:
                    raise
        raise StorageError(
            f"{self}/{name} leaves the cache {self.cache} as soon as it is there: make the cache larger."
        )

    @contextmanager
    def told(self, what: str) -> Iterator[None]:
        """Whatever a file system raises inside becomes a StorageError that says what was tried, and where."""
        try:
            yield
        except (StorageError, FileNotFoundError):
            raise
        except Exception as error:  # every file system has its own
            raise StorageError(f"Can't {what} {self}: {type(error).__name__}: {error}") from error


@dataclass(frozen=True)
class RemoteShards:
    """A remote folder of shards that stands where a local one's path would: `folder / name` is a local file with the bytes of `name`."""

    folder: Folder
    hashes: dict[str, str]
    """Name → sha256, by the manifest."""

    def __str__(self) -> str:
        return str(self.folder)

    def __truediv__(self, name: str) -> Path:
        if name in self.hashes:
            return self.folder.path(name, self.hashes[name])
        data = self.folder.read(name)  # the manifest, which has no hash of its own
        return self.folder.path(name, hashlib.sha256(data).hexdigest())

    def read(self, name: str, offset: int, size: int) -> bytes:
        """Bytes of a file; fewer where it ends. The file may leave the cache right afterwards."""
        descriptor = self.folder.open(name, self.hashes[name])
        try:
            return os.pread(descriptor, size, offset)
        finally:
            os.close(descriptor)


def is_remote(name: str) -> bool:
    """Whether `name` is a URL of files that are not on this machine."""
    return "://" in name and not name.startswith(("file://", "local://"))


def open_folder(name: str | Path, cache: Path | None = None, cache_bytes: int = CACHE_BYTES) -> Folder:
    """The folder at a local path or a URL. Raises StorageError for a URL of a kind whose package is not installed."""
    url = str(name).rstrip("/") or "/"
    if "://" not in url:
        return Folder(url, Path(url))
    try:
        filesystem, root = fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise StorageError(
            f"{url}: {error}. (s3:// needs the package s3fs, gs:// gcsfs, az:// adlfs, sftp:// paramiko.)"
        ) from error
    if isinstance(filesystem, LocalFileSystem):
        return Folder(url, Path(root))
    return Folder(url, None, filesystem, root.rstrip("/"), cache or default_cache(), cache_bytes)


def make_room(cache: Path, limit: int, wanted: int, name: str = "a file") -> None:
    """Remove the files of `cache` that were not used for longest until `wanted` more bytes fit into `limit`.

    Raises StorageError when `wanted` is more than the limit.
    """
    if wanted > limit:
        raise StorageError(f"{name} has {wanted:,} bytes, the cache {cache} only {limit:,}: make the cache larger.")
    with _locked(cache / ".lock"):
        kept = []
        for path in cache.iterdir():
            try:
                status = path.stat()
            except FileNotFoundError:
                continue
            if path.name.endswith(files.TEMPORARY_SUFFIX) and time.time() - status.st_mtime > STALE:
                path.unlink(missing_ok=True)
            elif path.name.endswith(files.TEMPORARY_SUFFIX):
                wanted += status.st_size  # another process is copying it
            elif not path.name.startswith("."):
                kept.append((status.st_mtime_ns, status.st_size, path))
        total = sum(size for _, size, _ in kept)
        for _, size, path in sorted(kept):
            if total + wanted <= limit:
                break
            path.unlink(missing_ok=True)
            total -= size


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock file; the lock goes with the process, however it ends."""
    import fcntl

    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
