"""`./fraud help`: what is listed."""

import re

import launch
import pytest


def test_each_line_of_the_help_shows_a_command_apart_from_its_text(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert launch.main(["help"]) == 0
    shown = dict(re.findall(r"^  (\S+)  +(\S.*)$", capsys.readouterr().out, re.MULTILINE))
    assert shown == launch.HELP
