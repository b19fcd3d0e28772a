"""Files that appear whole or not at all, and network filesystems."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrf.store.files import dump, on_network_filesystem, read_json, replacing, sha256_of, write_json
from lrf.text.unicode import storable

MOUNTS = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:40 / /mnt/nfs rw,relatime shared:9 - nfs4 server:/export rw
31 22 0:41 / /mnt/nfs/scratch rw - xfs /dev/sdb rw
32 22 0:42 / /home/me/my\\040files rw - fuse.sshfs host:/ rw
33 22 0:43 / /data rw master:1 - lustre mgs:/fs rw
34 22 0:44 / /database rw - tmpfs tmpfs rw
35 22 0:45 / /over rw - ext4 /dev/sdc rw
36 22 0:46 / /over rw - cifs //host/share rw
"""


@pytest.fixture
def mountinfo(tmp_path: Path) -> Path:
    file = tmp_path / "mountinfo"
    file.write_text(MOUNTS)
    return file


@pytest.mark.parametrize(
    ("path", "network"),
    [
        ("/var/runs", False),
        ("/mnt/nfs/runs", True),
        ("/mnt/nfs", True),
        ("/mnt/nfsx/runs", False),
        ("/mnt/nfs/scratch/runs", False),
        ("/home/me/my files/runs", True),
        ("/data/runs", True),
        ("/database/runs", False),
        ("/over/runs", True),
    ],
)
def test_the_innermost_and_newest_mount_decides(mountinfo: Path, path: str, network: bool) -> None:
    assert on_network_filesystem(Path(path), mountinfo) is network


def test_where_mounts_are_unknown_a_filesystem_counts_as_local(tmp_path: Path) -> None:
    assert on_network_filesystem(tmp_path, tmp_path / "nothing") is False


def test_a_mount_point_in_another_script_is_understood(tmp_path: Path) -> None:
    (tmp_path / "mountinfo").write_text(MOUNTS + "37 22 0:47 / /数据 rw - nfs server:/ rw\n", encoding="utf-8")
    assert on_network_filesystem(Path("/数据/runs"), tmp_path / "mountinfo") is True


def test_this_machines_mounts_can_be_read(tmp_path: Path) -> None:
    assert on_network_filesystem(tmp_path) in (True, False)


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("old")
    with replacing(tmp_path / "f") as f:
        f.write("new")
        assert (tmp_path / "f").read_text() == "old"
    assert (tmp_path / "f").read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["f"]


def test_an_error_while_writing_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("old")
    with contextlib.suppress(ZeroDivisionError), replacing(tmp_path / "f") as f:
        f.write("new")
        f.write(str(1 / 0))
    assert (tmp_path / "f").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["f"]


def test_json_is_written_and_read_back(tmp_path: Path) -> None:
    write_json(tmp_path / "f", {"a": "好", "b": [1, None]})
    assert read_json(tmp_path / "f") == {"a": "好", "b": [1, None]}


def test_a_missing_or_broken_json_file_reads_as_none(tmp_path: Path) -> None:
    (tmp_path / "f").write_text('{"half": ')
    assert read_json(tmp_path / "f") is None
    assert read_json(tmp_path / "g") is None


@given(st.dictionaries(st.text(), st.text() | st.integers() | st.none()))
def test_dumped_json_is_one_line_and_the_same_each_time(value: dict[str, object]) -> None:
    line = dump(value)
    assert "\n" not in line
    assert json.loads(line) == value
    assert dump(dict(value)) == line


@given(st.text(st.characters(blacklist_categories=()), max_size=20))
def test_dumped_json_can_always_be_written_as_utf_8(text: str) -> None:
    assert dump({"text": text}).encode("utf-8")


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ("a\ud83db", "a\ufffdb"),
        ("\udc80", "\ufffd"),
        ("\ud83d\ude00!", "😀!"),
        ("好😀", "好😀"),
        ("\ud83d\ud83d\ude00\ude00", "\ufffd😀\ufffd"),
    ],
)
def test_half_a_surrogate_pair_is_replaced_and_two_halves_are_put_together(text: str, stored: str) -> None:
    assert storable(text) == stored


def test_a_file_of_json_is_written_whatever_its_texts_hold(tmp_path: Path) -> None:
    write_json(tmp_path / "f", {"text": "a\ud83db"})
    assert read_json(tmp_path / "f") == {"text": "a\ufffdb"}


def test_a_number_that_json_does_not_know_is_refused() -> None:
    with pytest.raises(ValueError):
        dump({"x": float("nan")})


def test_a_missing_file_has_no_hash(tmp_path: Path) -> None:
    assert sha256_of(tmp_path / "f") is None
