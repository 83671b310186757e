"""Runs the console entry inside a test, with its output and exit code."""

import io
import re
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


_SUMMARY = re.compile(r"next: sam4mllm .*|[\d,]+ predictions?: \d.*")


def without_summary(stderr: str) -> str:
    """Standard error without the last lines of a command: the counts of predictions, and the next command."""
    return "".join(line for line in stderr.splitlines(keepends=True) if not _SUMMARY.fullmatch(line.rstrip("\n")))


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
