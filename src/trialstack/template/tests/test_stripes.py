"""The experiment does what it is for."""

from pathlib import Path

from trialstack.training import train
from trialstack.trials import compose_trial


def test_the_network_learns_which_way_stripes_go(tmp_path: Path) -> None:
    trial = compose_trial(["experiment=stripes", "callbacks=none", "logger=none"], tmp_path / "run")
    [result] = train([trial])
    assert result.status == "completed"
    assert result.metrics["val/acc"] > 0.9
