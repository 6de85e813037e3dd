from __future__ import annotations

from lib.storage.locks import Locked


def test_a_lock_held_on_another_machine_is_named_with_its_machine(tmp_path):
    assert str(Locked(tmp_path / ".lock", 7, "node3")).endswith("process 7 on node3")
