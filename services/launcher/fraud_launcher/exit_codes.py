"""Exit codes of the commands that we pass on. Standard library only."""


def shell_code(returncode: int) -> int:
    """What a shell gives for a child's return code: 128 and its number for a signal."""
    return 128 - returncode if returncode < 0 else returncode
