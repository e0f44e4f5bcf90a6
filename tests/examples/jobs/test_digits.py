"""The folder of scans: the README's commands give the accuracy that it and the model's card say."""

from __future__ import annotations

from pathlib import Path

import pytest
from examples.training.model_card import read_card
from tests.examples.jobs.readme import EXAMPLES, commands, run


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_the_readmes_commands_give_the_cards_accuracy(tmp_path: Path) -> None:
    *make_and_run, accuracy = commands("digits")
    for command in make_and_run:
        run(command, tmp_path)
    assert len(list((tmp_path / "scans").glob("digit=*/*.png"))) == 450
    # a scan is 0.002: one may fall on the other side with another processor's rounding
    figure = float(run(accuracy, tmp_path))
    assert figure == pytest.approx(read_card(EXAMPLES / "models" / "digits")["metrics"]["accuracy"], abs=0.005)
    assert figure == pytest.approx(0.9667, abs=0.005)
