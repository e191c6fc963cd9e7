"""What the tests of readers share: damage to a file, and what must be said of it."""

from __future__ import annotations

import warnings

import numpy as np
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


@pytest.fixture
def withstands_damage():
    """Checks that no damage to a file of a tree is met by anything but such a sentence."""

    def check(root, read, times=30):
        rng, told = np.random.default_rng(0), []
        for path in sorted(path for path in root.rglob("*") if path.is_file() and path.stat().st_size):
            whole = path.read_bytes()
            for _ in range(times):
                at, by = int(rng.integers(len(whole))), bytes([rng.choice(list(b"\x00\xff<{[]}\"',;? \n-9x"))])
                line = int(rng.integers(whole.count(b"\n") + 1))
                lines = whole.split(b"\n")
                cut = [whole[:at], whole[:at] + by + whole[at + 1 :], whole[:at] + by + whole[at:]]
                path.write_bytes([*cut, b"\n".join(lines[:line] + lines[line + 1 :])][rng.integers(4)])
                try:
                    with warnings.catch_warnings():
                        warnings.simplefilter("ignore")
                        read()
                except (ValueError, OSError) as error:
                    told.append(str(error))
            path.write_bytes(whole)
        assert told
        assert [text for text in told if not text.startswith(str(root)) or not text.endswith(".")] == []

    return check
