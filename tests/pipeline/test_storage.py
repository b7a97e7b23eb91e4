"""A folder of shards at a URL reads like a local one: each file is copied once, checked, and kept within the limit."""

import hashlib
import multiprocessing
import os

import fsspec
import pytest

from pipeline.storage import StorageError, make_room, open_folder


@pytest.fixture
def remote(request):
    """A folder in memory, as its URL and a function that writes into it."""
    url = f"memory://{request.node.name}"
    filesystem, root = fsspec.core.url_to_fs(url)

    def write(name, data):
        filesystem.pipe_file(f"{root}/{name}", data)
        return hashlib.sha256(data).hexdigest()

    yield url, write
    filesystem.rm(root, recursive=True)


def read(folder, name, sha256):
    descriptor = folder.open(name, sha256)
    try:
        return os.pread(descriptor, 1 << 20, 0)
    finally:
        os.close(descriptor)


def test_a_remote_file_is_copied_once_and_then_read_locally(remote, tmp_path, monkeypatch):
    url, write = remote
    sha256 = write("a.tar", b"a" * 100)
    folder = open_folder(url, tmp_path)
    assert folder.sizes() == {"a.tar": 100}
    assert read(folder, "a.tar", sha256) == b"a" * 100
    monkeypatch.setattr(type(folder.filesystem), "get_file", None)  # another copy would fail
    assert read(folder, "a.tar", sha256) == b"a" * 100
    assert folder.path("a.tar", sha256).is_relative_to(tmp_path)


def test_a_file_that_is_not_the_one_in_the_manifest_is_refused_and_not_kept(remote, tmp_path):
    url, write = remote
    write("a.tar", b"a")
    with pytest.raises(StorageError, match=r"a\.tar is not the file that the manifest names"):
        open_folder(url, tmp_path).path("a.tar", "0" * 64)
    assert not [p for p in tmp_path.iterdir() if not p.name.endswith(".lock")]


def test_the_cache_keeps_its_limit_and_what_was_used_last(remote, tmp_path):
    url, write = remote
    hashes = {name: write(name, name.encode() * 10) for name in "abcd"}
    folder = open_folder(url, tmp_path, cache_bytes=30)
    for age, name in enumerate("abc"):
        os.utime(folder.path(name, hashes[name]), (age, age))
    folder.path("a", hashes["a"])  # is used again
    folder.path("d", hashes["d"])
    assert sorted(p.name[-1] for p in tmp_path.iterdir() if not p.name.startswith(".")) == ["a", "c", "d"]


def test_a_file_that_leaves_the_cache_while_it_is_read_stays_readable(remote, tmp_path):
    url, write = remote
    folder = open_folder(url, tmp_path, cache_bytes=10)
    first, second = write("a", b"a" * 10), write("b", b"b" * 10)
    descriptor = folder.open("a", first)
    folder.path("b", second)
    assert os.pread(descriptor, 10, 0) == b"a" * 10
    os.close(descriptor)


def test_a_file_larger_than_the_cache_is_refused_with_the_remedy(remote, tmp_path):
    url, write = remote
    sha256 = write("a", b"a" * 100)
    with pytest.raises(StorageError, match="make the cache larger"):
        open_folder(url, tmp_path, cache_bytes=99).path("a", sha256)


def test_what_killed_processes_left_is_removed_and_what_others_are_copying_is_counted(tmp_path):
    old, new, kept = tmp_path / ".a.1.partial", tmp_path / ".b.2.partial", tmp_path / "c"
    for path in (old, new, kept):
        path.write_bytes(b"x" * 10)
    os.utime(old, (0, 0))
    make_room(tmp_path, 25, 10)
    assert (old.exists(), new.exists(), kept.exists()) == (False, True, False)


def copy_from_disk(arguments):
    url, cache, sha256 = arguments
    return open_folder(url, cache).path("a.tar", sha256).read_bytes()[:4]


def test_several_processes_share_one_cache(tmp_path):
    data = b"tar " * 500_000
    source = tmp_path / "there"
    source.mkdir()
    (source / "a.tar").write_bytes(data)
    sha256 = hashlib.sha256(data).hexdigest()
    url = f"simplecache::file://{source}"  # not a plain local path, so it is copied
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        assert pool.map(copy_from_disk, [(url, tmp_path / "cache", sha256)] * 4) == [b"tar "] * 4
    assert [p.name for p in (tmp_path / "cache").iterdir() if not p.name.startswith(".")] == [f"{sha256[:32]}-a.tar"]


def test_local_paths_and_file_urls_are_read_in_place(tmp_path):
    (tmp_path / "a.tar").write_bytes(b"a")
    for name in (tmp_path, f"file://{tmp_path}"):
        folder = open_folder(name, tmp_path / "cache")
        assert folder.path("a.tar", "") == tmp_path / "a.tar" and folder.sizes() == {"a.tar": 1}
    assert not (tmp_path / "cache").exists()
    assert open_folder(tmp_path / "nowhere").sizes() == {}


def test_an_unknown_kind_of_url_says_what_is_wrong():
    with pytest.raises(StorageError, match="nonsense"):
        open_folder("nonsense://bucket/shards")
