"""Exit codes of child processes. Standard library only."""


def shell_code(returncode: int) -> int:
    """The exit code a shell would report: 128 plus the signal number if a signal ended the child."""
    return 128 - returncode if returncode < 0 else returncode
