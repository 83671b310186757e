"""What a command makes of errors: of a user's mistake one line, of an interrupt an exit code, of all others nothing."""

import warnings

import pytest

from sam4mllm.errors import UserError, exit_on_user_error


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        pytest.param(UserError("no such folder: x"), 2, "error: no such folder: x\n", id="a mistake"),
        pytest.param(KeyboardInterrupt(), 130, "", id="an interrupt"),
    ],
)
def test_what_is_not_a_fault_of_the_program_is_an_exit_code(capsys, error, code, line):
    with pytest.raises(SystemExit) as stopped, exit_on_user_error():
        raise error
    assert stopped.value.code == code
    assert capsys.readouterr().err == line


def test_a_fault_of_the_program_is_not_caught():
    with pytest.raises(ValueError, match="ours"), exit_on_user_error():
        raise ValueError("ours")


def test_what_libraries_say_to_their_authors_is_not_shown():
    with warnings.catch_warnings(), exit_on_user_error():
        warnings.warn("soon", FutureWarning, stacklevel=1)
        with pytest.raises(UserWarning, match="now"):
            warnings.warn("now", UserWarning, stacklevel=1)
