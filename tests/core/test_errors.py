"""What ends a command early."""

import pickle

import pytest

from trialstack.core.errors import CannotWrite, Diverged, UserError


@pytest.mark.parametrize(
    "error", [UserError("no such luck"), CannotWrite("cannot write x", "`train`"), Diverged(3)]
)
def test_errors_come_whole_from_other_processes(error: Exception) -> None:
    came = pickle.loads(pickle.dumps(error))
    assert (type(came), str(came), vars(came)) == (type(error), str(error), vars(error))
