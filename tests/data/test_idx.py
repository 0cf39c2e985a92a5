"""Datasets on disk and over HTTP: used as they are when whole, named and fetched anew when not."""

import gzip
import os
import threading
import tracemalloc
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import idx_bytes, md5s
from tests.data.conftest import Mirror
from trialstack.core.errors import UserError
from trialstack.data.dataset_folder import Archive, read_dataset
from trialstack.data.idx import IdxFolder

ARRAYS = {"images": np.arange(5 * 4 * 4).reshape(5, 4, 4), "labels": np.arange(5)}
FILES = {name: idx_bytes(array) for name, array in ARRAYS.items()}

ARCHIVES = {f"{name}.gz": gzip.compress(content, mtime=0) for name, content in FILES.items()}


def archives(*mirrors: str) -> list[Archive]:
    return [
        Archive([f"{mirror}{name}.gz" for mirror in mirrors], md5, {name: name})
        for name, md5 in zip(FILES, md5s(ARCHIVES).values(), strict=True)
    ]


def idx_folder(root: Path, md5: Mapping[str, str | None], mirror: Mirror) -> IdxFolder:
    mirror.contents = ARCHIVES
    return IdxFolder(root, "Set/raw", md5, archives(mirror.url))


@pytest.fixture
def folder(tmp_path: Path, mirror: Mirror) -> IdxFolder:
    return idx_folder(tmp_path / "root", md5s(FILES), mirror)


def put(folder: IdxFolder, **contents: bytes) -> None:
    folder.folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        (folder.folder / name.replace("_gz", ".gz")).write_bytes(content)


def assert_whole(arrays: dict[str, np.ndarray]) -> None:
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(arrays[name], array)


def test_what_is_missing_is_downloaded_and_nothing_else_is_left(
    folder: IdxFolder, mirror: Mirror
) -> None:
    assert_whole(folder.read(download=True))
    assert sorted(mirror.fetched) == ["images.gz", "labels.gz"]
    assert {path.name for path in folder.folder.iterdir()} - {".lock"} == {"images", "labels"}


def test_whole_files_are_used_as_they_are(folder: IdxFolder, mirror: Mirror) -> None:
    put(folder, images=FILES["images"], labels_gz=gzip.compress(FILES["labels"]))
    assert_whole(folder.read(download=True))
    assert mirror.fetched == []
    assert {path.name for path in folder.folder.iterdir()} == {"images", "labels.gz"}


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (FILES["images"][:40], "is truncated (40 of 96 bytes)"),
        (b"\0\0", "is truncated (2 bytes)"),
        (FILES["images"][:-1] + b"\xff", "is corrupt (96 bytes"),
        (b"<html>not found</html>" * 9, "is no IDX file of bytes (it begins with b'<htm')"),
        (
            b"\0\0\x08\x02" + b"\xff" * 99,
            "is corrupt (its header speaks of 18,446,744,065,119,617,025 bytes",
        ),
        (FILES["images"] + b"\0", "is corrupt (more than the 96 bytes"),
    ],
)
def test_a_damaged_file_is_named_and_fetched_anew(
    folder: IdxFolder,
    mirror: Mirror,
    content: bytes,
    problem: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    put(folder, images=content, labels=FILES["labels"])
    assert_whole(folder.read(download=True))
    assert mirror.fetched == ["images.gz"]
    assert f"{folder.folder}/images {problem}" in caplog.text


def test_a_half_extracted_file_gives_way_to_its_archive(
    folder: IdxFolder, mirror: Mirror, caplog: pytest.LogCaptureFixture
) -> None:
    put(
        folder,
        images=FILES["images"][:50],
        images_gz=gzip.compress(FILES["images"]),
        labels=FILES["labels"],
    )
    assert_whole(folder.read(download=True))
    assert mirror.fetched == []
    assert "images is truncated (50 of 96 bytes): the other copy of it is used" in caplog.text


def test_a_damaged_archive_is_reported_where_it_cannot_be_fetched(folder: IdxFolder) -> None:
    put(folder, images_gz=gzip.compress(FILES["images"])[:-9], labels=FILES["labels"])
    with pytest.raises(FileNotFoundError, match=r"images\.gz cannot be decompressed"):
        folder.read(download=False)


def test_a_download_that_is_cut_short_leaves_nothing(folder: IdxFolder, mirror: Mirror) -> None:
    mirror.cut = True
    with pytest.raises(FileNotFoundError, match="download failed"):
        folder.read(download=True)
    assert {path.name for path in folder.folder.iterdir()} <= {".lock"}


def test_what_a_killed_download_left_is_no_data(folder: IdxFolder, mirror: Mirror) -> None:
    put(folder)
    (folder.folder / ".download").mkdir()
    (folder.folder / ".download" / "images").write_bytes(FILES["images"][:60])
    assert_whole(folder.read(download=True))
    assert sorted(mirror.fetched) == ["images.gz", "labels.gz"]


def test_a_mirror_that_fails_gives_way_to_the_next(folder: IdxFolder, mirror: Mirror) -> None:
    folder.archives = archives(f"{mirror.url}nowhere/", "http://127.0.0.1:9/", mirror.url)
    assert_whole(folder.read(download=True))


def test_two_that_start_at_once_download_once(folder: IdxFolder, mirror: Mirror) -> None:
    threads = [threading.Thread(target=folder.read, args=(True,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(mirror.fetched) == ["images.gz", "labels.gz"]


def test_offline_and_empty_is_one_line_with_files_folder_and_remedy(
    folder: IdxFolder, mirror: Mirror
) -> None:
    folder.archives = archives("http://127.0.0.1:9/")
    with pytest.raises(UserError) as caught:
        read_dataset("Set", folder, download=True)
    message = str(caught.value)
    assert "\n" not in message
    for part in (
        "Set is not in",
        str(folder.folder),
        "images, labels",
        ".gz",
        "data=digits",
        "data.root",
    ):
        assert part in message


def test_download_false_says_so(folder: IdxFolder, mirror: Mirror) -> None:
    with pytest.raises(UserError, match=r"data\.download=false"):
        read_dataset("Set", folder, download=False)
    assert mirror.fetched == []


def test_a_folder_that_cannot_be_made_is_reported(folder: IdxFolder, tmp_path: Path) -> None:
    (tmp_path / "root").write_text("a file")
    with pytest.raises(UserError, match="cannot be written"):
        read_dataset("Set", folder, download=True)


def test_of_what_unpacks_to_far_more_than_its_header_says_no_more_is_read(
    folder: IdxFolder,
) -> None:
    put(folder, images_gz=gzip.compress(FILES["images"] + bytes(2**26)), labels=FILES["labels"])
    tracemalloc.start()
    with pytest.raises(FileNotFoundError, match=r"images\.gz is corrupt \(more than the 96 bytes"):
        folder.read(download=False)
    assert tracemalloc.get_traced_memory()[1] < 2**21
    tracemalloc.stop()


@pytest.mark.parametrize("name", ["images", "images.gz"])
def test_what_may_never_end_is_not_read(name: str, folder: IdxFolder) -> None:
    put(folder, labels=FILES["labels"])
    os.mkfifo(folder.folder / name)
    with pytest.raises(FileNotFoundError, match=f"{name} is no regular file"):
        folder.read(download=False)
    (folder.folder / name).unlink()
    (folder.folder / name).symlink_to("/dev/zero")
    with pytest.raises(FileNotFoundError, match=f"{name} is no regular file"):
        folder.read(download=False)


def test_of_files_without_a_known_checksum_archives_are_kept_and_read_first(
    tmp_path: Path, mirror: Mirror, caplog: pytest.LogCaptureFixture
) -> None:
    folder = idx_folder(tmp_path / "root", dict.fromkeys(FILES), mirror)
    folder.archives = [
        archive._replace(members={name: f"{name}.gz"})
        for name, archive in zip(FILES, folder.archives, strict=True)
    ]
    put(folder, images=FILES["images"][:-1] + b"\xff", images_gz=ARCHIVES["images.gz"])
    assert_whole(folder.read(download=True))
    assert mirror.fetched == ["labels.gz"]
    assert (folder.folder / "labels.gz").read_bytes() == ARCHIVES["labels.gz"]
    put(folder, images=FILES["images"], images_gz=ARCHIVES["images.gz"][:-5])
    assert_whole(folder.read(download=False))
    assert "images.gz cannot be decompressed" in caplog.text
