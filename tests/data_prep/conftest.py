from types import SimpleNamespace

import pytest

from sam4mllm.data_prep import download


@pytest.fixture
def waits(monkeypatch):
    """The seconds between attempts, which are not waited for; servers get little time."""
    seconds = []
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(download, "ATTEMPTS", 4)
    monkeypatch.setattr(download, "TIMEOUT", 0.5)
    monkeypatch.setattr(download, "time", SimpleNamespace(sleep=seconds.append))
    return seconds
