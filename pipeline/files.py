"""Files that are either whole or absent.

Everything the project writes goes through here: to a temporary name in the same folder, flushed to the disk, then renamed. A killed process
leaves at most a temporary file, which no reader looks at. JSON and Parquet are written so that equal content gives equal bytes.
"""

import errno
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

TEMPORARY_SUFFIX = ".partial"


@contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """Give a temporary path to write to; on a clean exit flush it and rename it to `path`, on an error remove it.

    Raises OSError that names the file when the disk is full: the system's own message does not.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}{TEMPORARY_SUFFIX}"
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
        flush_folder(path.parent)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            remedy = "Free some of it and run again: what was finished is kept."
            raise OSError(error.errno, f"{path} can't be written, the disk is full. {remedy}") from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def folder_written_aside(folder: Path) -> Iterator[Path]:
    """As `written_aside`, for a flat folder that must not be there yet: it is there with all its files or not at all."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.parent / f".{folder.name}.{os.getpid()}.{secrets.token_hex(4)}{TEMPORARY_SUFFIX}"
    temporary.mkdir()
    try:
        yield temporary
        for path in temporary.iterdir():
            with open(path, "rb+") as file:
                os.fsync(file.fileno())
        flush_folder(temporary)
        os.rename(temporary, folder)
        flush_folder(folder.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def flush_folder(folder: Path) -> None:
    """Make a rename in `folder` survive a power cut (POSIX; elsewhere folders can't be opened, and this does nothing)."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_bytes(path: Path, data: bytes) -> None:
    with written_aside(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    write_bytes(path, text.encode("utf-8"))


def json_bytes(value: Any, indent: int | None = None) -> bytes:
    """Canonical JSON: keys sorted, UTF-8, no spaces unless `indent` is given."""
    separators = (",", ":") if indent is None else None
    return json.dumps(value, ensure_ascii=False, sort_keys=True, indent=indent, separators=separators).encode("utf-8")


def write_json(path: Path, value: Any) -> None:
    write_bytes(path, json_bytes(value, indent=1) + b"\n")


def read_json(path: Path) -> Any:
    """Raises ValueError that names the file when it is not JSON."""
    return parse_json(path.read_bytes(), path)


def parse_json(data: bytes, name: Path | str) -> Any:
    """Raises ValueError with the name when `data` is not JSON."""
    try:
        return json.loads(data.decode("utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{name} is not JSON ({error}). Delete it and run again.") from error


def write_table(path: Path, table: pa.Table) -> None:
    """Parquet with zstd and page checksums, so that `read_table` notices a flipped bit."""
    with written_aside(path) as temporary:
        pq.write_table(table, temporary, compression="zstd", write_page_checksum=True, store_schema=True)


def read_table(path: Path, columns: list[str] | None = None) -> pa.Table:
    """Raises ValueError that names the file when it is damaged."""
    try:
        return pq.read_table(path, columns=columns, page_checksum_verification=True, partitioning=None)
    except (pa.ArrowInvalid, OSError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise ValueError(f"{path} is damaged ({error}). Delete it and run again.") from error


def sha256_file(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_json(value: Any) -> str:
    return hashlib.sha256(json_bytes(value)).hexdigest()


def check_writable(folder: Path) -> None:
    """Make `folder` if it is not there, and write to it once. Raises OSError that names it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".can-write.{os.getpid()}{TEMPORARY_SUFFIX}"
        probe.write_bytes(b"x")
        probe.unlink()
    except OSError as error:
        raise OSError(
            f"The folder {folder} can't be written: {error}. Free the disk, or name another folder."
        ) from error


def remove_partial_files(folder: Path) -> None:
    """Remove what killed writers left in `folder`. Only call it for a folder that has one writer at a time."""
    for path in folder.glob(f".*{TEMPORARY_SUFFIX}"):
        path.unlink(missing_ok=True)


class RunLocked(OSError):
    """Another process works in this run folder."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the run folder for one process. The lock goes with the process, however it ends. Raises RunLocked."""
    import fcntl

    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RunLocked(f"Another process is working in {folder}. Wait for it, or give another --out.") from error
        yield
