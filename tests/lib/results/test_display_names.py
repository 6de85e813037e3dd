"""Names of methods in tables and pictures."""

from __future__ import annotations

import pytest

from lib.results.display_names import method_name


@pytest.mark.parametrize(
    ("mode", "variant", "label"),
    [("gradual", "", "state"), ("lean", "", "state, lean"), ("lean", "small", "state (small)"), (None, "", "state")],
)
def test_a_mode_that_no_variant_names_stands_in_the_label(mode: str | None, variant: str, label: str) -> None:
    assert method_name("state", variant, mode) == label
