"""Runs the console entry inside a test, with its output and exit code."""

import io
import re
import shlex
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass


@dataclass(frozen=True)
class Result:
    exit_code: int
    stdout: str
    stderr: str

    @property
    def output(self) -> str:
        return self.stdout + self.stderr


_SUMMARY = re.compile(r"next: sam4mllm .*|[\d,]+ predictions?: \d.*|samples of .+ are in .+")


def without_summary(stderr: str) -> str:
    """Standard error without the last lines of a command: what it did, and the next command."""
    return "".join(line for line in stderr.splitlines(keepends=True) if not _SUMMARY.fullmatch(line.rstrip("\n")))


def check_next_commands(stderr: str) -> None:
    """Fail unless each `next: sam4mllm ...` line parses: the command and its options exist, and all have a value."""
    from typer.main import get_command

    from sam4mllm import cli  # here: the import hook must come first

    for line in stderr.splitlines():
        if line.startswith("next: "):
            program, *words = shlex.split(line.removeprefix("next: "))
            assert program == "sam4mllm"
            assert not {"", "None"} & set(words), line
            _parse(get_command(cli.app), words)


def _parse(command, words: list[str]) -> None:
    if hasattr(command, "commands"):
        assert words[0] in command.commands, words
        _parse(command.commands[words[0]], words[1:])
    else:
        command.make_context("sam4mllm", list(words))


def invoke(*words: object) -> Result:
    """`sam4mllm` with these words."""
    from sam4mllm import cli  # here: the import hook must come first

    out, err, code = io.StringIO(), io.StringIO(), 0
    with redirect_stdout(out), redirect_stderr(err):
        try:
            cli.main([str(word) for word in words])
        except SystemExit as end:
            code = int(end.code or 0)
    return Result(code, out.getvalue(), err.getvalue())
