"""Files that hold secrets, in a directory that may be somebody else's."""

from __future__ import annotations

from pathlib import Path

import pytest

from fraud_launcher.private_files import write_private


def test_only_the_owner_may_read_it_whatever_was_there(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("old")
    path.chmod(0o644)
    write_private(path, "new")
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("new", 0o600)


def test_a_link_put_there_meanwhile_is_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    victim, path = tmp_path / "victim", tmp_path / "secret"
    victim.write_text("theirs")

    def raced(self: Path, missing_ok: bool = False) -> None:
        assert missing_ok
        self.symlink_to(victim)

    monkeypatch.setattr(Path, "unlink", raced)
    with pytest.raises(FileExistsError):
        write_private(path, "ours")
    assert victim.read_text() == "theirs"
