"""One command at a time starts or stops servers: the next says who does, and ends; real processes."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from fraud_embedded import __main__
from fraud_embedded.installation import Layout
from fraud_launcher import lock_file
from tests.support import forked

ROOT = Path(__file__).resolve().parents[2]
# The command itself, in a folder of its own; `demo` starts nothing and waits for its end.
COMMAND = """
import sys
from pathlib import Path
from fraud_embedded import __main__, demo
from fraud_embedded.installation import Layout
root = Path(sys.argv.pop(1))
__main__.default_layout = lambda: Layout(root, root / ".local")
def run(layout, progress):
    print("at work", flush=True)
    sys.stdin.read()
    raise KeyboardInterrupt
demo.run = run
sys.exit(__main__._run())
"""


def start(root: Path, *arguments: str) -> forked.Process:
    pipe = subprocess.PIPE
    return forked.start(
        *("tests.support.executed", COMMAND, str(root), *arguments),
        env=os.environ,
        stdin=pipe,
        stdout=pipe,
        stderr=pipe,
        text=True,
    )


def test_a_second_demo_says_who_is_at_work_and_disturbs_nobody(tmp_path: Path) -> None:
    first = start(tmp_path, "demo")
    try:
        assert first.stdout is not None and first.stdout.readline() == "at work\n"
        others = [start(tmp_path, *arguments) for arguments in (["demo"], ["down"], ["status"])]
        outputs = [other.communicate(timeout=120) for other in others]
        assert first.poll() is None
    finally:
        first.kill()
        first.communicate()
    when = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC"
    holder = (
        rf"failed: \./fraud demo \(process {first.pid}, since {when}\) is at work here: wait for its end.*\n"
    )
    assert [other.returncode for other in others[:2]] == [1, 1]
    assert all(out == "" and re.fullmatch(holder, err) for out, err in outputs[:2])
    # What only looks is not kept waiting.
    assert "is not running" in outputs[2][0]
    # It was killed: that frees the lock.
    down = start(tmp_path, "down")
    assert down.communicate(timeout=120)[0] == "The platform was not running.\n"


@pytest.mark.parametrize("arguments", [["demo"], ["down"], ["clean"], ["follow"], ["follow", "--stop"]])
def test_what_starts_or_stops_servers_goes_alone(
    tmp_path: Path, arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = Layout(tmp_path, tmp_path / ".local")
    monkeypatch.setattr(__main__, "default_layout", lambda: layout)
    with (
        lock_file.hold(layout.lock, "./fraud demo-clean"),
        pytest.raises(lock_file.LockHeld, match=r"^\./fraud demo-clean \(process "),
    ):
        __main__.main(arguments)


def test_a_holder_without_a_note_is_another_command(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "x.lock"
    with lock_file.hold(path, "this"):
        for text in ("", "[]", "{", '{"work": 1}'):
            path.write_text(text)
            with pytest.raises(lock_file.LockHeld, match=r"^another command$"), lock_file.hold(path, "that"):
                pass
    with lock_file.hold(path, "that") as lease:
        assert lease.previous_note == {}
