"""What is said where nobody has configured logging, and where somebody has."""

import logging
from collections.abc import Callable, Iterator

import pytest

from trialstack.run.messages import printed

ROOT, PACKAGE = logging.getLogger(), logging.getLogger("trialstack")


@pytest.fixture
def handlers(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Have these be all that the root logger has, until the test ends; pytest adds its own before
    it begins.
    """
    level = ROOT.level
    ROOT.setLevel(logging.WARNING)
    yield lambda *those: monkeypatch.setattr(ROOT, "handlers", list(those))
    ROOT.setLevel(level)


def say() -> None:
    logging.getLogger("trialstack.run.recorder").info("epoch 1/1")
    logging.getLogger("elsewhere").info("chatter")


def test_messages_are_printed_meanwhile(
    handlers: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    handlers()
    with printed(), printed():
        say()
    say()
    assert capsys.readouterr().out == "epoch 1/1\n"
    assert (ROOT.handlers, PACKAGE.level) == ([], logging.NOTSET)


def test_a_level_of_the_users_stays(
    handlers: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    handlers()
    PACKAGE.setLevel(logging.WARNING)
    try:
        with printed():
            say()
    finally:
        PACKAGE.setLevel(logging.NOTSET)
    assert capsys.readouterr().out == ""


def test_handlers_of_the_users_are_left_alone(
    handlers: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    handlers(logging.NullHandler())
    with printed():
        say()
        assert len(ROOT.handlers) == 1
    assert capsys.readouterr().out == ""
