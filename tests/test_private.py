"""Files of one's own: whole or as before, nothing else left, no link followed."""

from __future__ import annotations

import os
import stat

import pytest

from engine.private import replacing


def test_a_file_is_replaced_whole_and_is_its_owner_s_alone(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    path.chmod(0o666)
    with replacing(path) as file:
        file.write(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new" and stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("error", [OSError("full"), KeyboardInterrupt()])
def test_where_writing_fails_the_old_file_stays_and_nothing_else(tmp_path, error):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(type(error)), replacing(path) as file:
        file.write(b"half")
        raise error
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["file"]


def test_a_link_in_its_place_is_replaced_not_followed(tmp_path):
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    path = tmp_path / "file"
    path.symlink_to(victim)
    with replacing(path) as file:
        file.write(b"new")
    assert victim.read_bytes() == b"precious" and not path.is_symlink()


@pytest.mark.parametrize("name", ["n" * 255, "이름" * 42])
def test_a_name_may_be_as_long_as_the_system_lets_it(tmp_path, name):
    with replacing(tmp_path / name) as file:
        file.write(b"x")
    assert os.listdir(tmp_path) == [name]
