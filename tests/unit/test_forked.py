"""Programs started by `fork`: processes with everything of their own."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.support import forked
from tests.support.waiting import eventually


def start(code: str, **options: object) -> forked.Process:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return forked.start("tests.support.executed", code, **{"env": {}, **pipes, **options})  # type: ignore[arg-type]


def test_a_program_has_its_own_streams_environment_and_directory(tmp_path: Path) -> None:
    code = "import os, sys; print(os.environ, os.getcwd(), sys.stdin.read()); sys.exit('wrong')"
    with start(code, env={"ONLY": "this"}, cwd=tmp_path) as program:
        out, errors = program.communicate("words", timeout=30)
    assert out == f"environ({{'ONLY': 'this'}}) {tmp_path} words\n"
    assert (errors, program.returncode) == ("wrong\n", 1)


def test_an_exception_is_a_traceback_and_an_exit_code() -> None:
    done = forked.run("tests.support.executed", "1 / 0", env={})
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[-1] == "ZeroDivisionError: division by zero"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_program_gets_signals_and_ends_by_them(number: signal.Signals) -> None:
    with start("print('up', flush=True); input()") as program:
        assert program.stdout is not None and program.stdout.readline() == "up\n"
        assert program.poll() is None
        with pytest.raises(subprocess.TimeoutExpired):
            program.wait(0.01)
        program.send_signal(number)
        assert program.wait(30) == -number


def test_programs_know_nothing_of_each_other() -> None:
    """The end of one's input is not kept from it by another that was started meanwhile."""
    with (
        start("input(); import os; os._exit(len(os.listdir('/proc/self/fd')))") as one,
        start("input()") as two,
    ):
        assert one.stdin is not None and two.stdin is not None
        one.stdin.write("\n")
        one.stdin.close()
        assert one.wait(30) == 4, "three streams, and the folder being listed"
        two.kill()


def test_nobody_is_left_when_the_server_s_owner_ends() -> None:
    code = (
        "import sys; from tests.support import forked\n"
        "program = forked.start('tests.support.executed', 'while True: input()', env={}, stdin=sys.stdin)\n"
        "print(program.pid, flush=True)"
    )
    with start(code, env={"PATH": os.environ["PATH"]}) as owner:
        assert owner.stdout is not None
        pid = int(owner.stdout.readline())
        assert owner.wait(30) == 0
    assert eventually(lambda: not Path(f"/proc/{pid}").exists())
