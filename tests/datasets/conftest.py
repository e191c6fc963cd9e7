"""What the tests of readers share: damage to a file, and what must be said of it."""

from __future__ import annotations

import pytest


@pytest.fixture
def refuses():
    """Checks that reading fails with one sentence that begins with the path of the file that is at fault."""

    def check(read, path, said):
        with pytest.raises((ValueError, OSError), match=said) as caught:
            read()
        message = str(caught.value)
        assert message.startswith(str(path))
        assert message.endswith(".")
        assert "\n" not in message
        assert ". " not in message

    return check
