"""MLflow: `logger=mlflow`."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch.loggers as lightning_loggers

from trialstack.core import layout
from trialstack.core.errors import UserError
from trialstack.run.folder import sweep_of
from trialstack.run.metrics_csv import EpochRow, measured
from trialstack.run.status import Status
from trialstack.run.tracking import Tracked, TrackingLogger

try:
    from mlflow.entities import Metric, RunTag
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient
    from mlflow.tracking.context.registry import resolve_tags
except ImportError:
    raise UserError(
        "logger=mlflow needs MLflow; pip install 'trialstack[mlflow]' (in a clone: -e '.[mlflow]')"
    ) from None

_CALLED = {
    Status.COMPLETED: "FINISHED",
    Status.STOPPED: "FINISHED",
    Status.DIVERGED: "FAILED",
    Status.FAILED: "FAILED",
    Status.INTERRUPTED: "KILLED",
}
"""MLflow's words for how a run has ended."""

_MOST = 1000
"""Metrics that MLflow takes at once."""


class MLFlowLogger(TrackingLogger, lightning_loggers.MLFlowLogger):
    """A run named after its folder, with the name of its sweep as a tag.

    Args:
        folder: the run folder.
        tracking_uri: of the server, or of a database.
        experiment_name: that the run is in.
        run_name: in the place of the folder's name.
        tags: of the run.
        **arguments: of Lightning's MLFlowLogger.
    """

    def __init__(
        self,
        folder: str,
        tracking_uri: str,
        experiment_name: str,
        run_name: str | None = None,
        tags: Mapping[str, Any] | None = None,
        **arguments: Any,
    ) -> None:
        client = MlflowClient(tracking_uri)
        self.tracked = Tracked.read(Path(folder) / layout.MLFLOW)
        if _has(client, self.tracked.run):
            client.update_run(self.tracked.run, status="RUNNING")
        else:
            experiment = _experiment(client, experiment_name)
            sweep = sweep_of(Path(folder))
            own = ({} if sweep is None else {"sweep": sweep}) | dict(tags or {})
            name = run_name or Path(folder).name
            run = client.create_run(experiment, tags=resolve_tags(own), run_name=name)
            self.tracked.begin(run.info.run_id)
        super().__init__(
            experiment_name, tracking_uri=tracking_uri, run_id=self.tracked.run, **arguments
        )

    def log_hyperparams(self, params: Any) -> None:
        """Without those that the run has: MLflow refuses other values, such as that of
        trainer.max_epochs of a run that is made longer.
        """
        there = self.experiment.get_run(self.run_id).data.params
        super().log_hyperparams({key: value for key, value in params.items() if key not in there})

    def log_epochs(self, rows: Sequence[EpochRow]) -> None:
        """As many at once as MLflow takes: each call takes as long, whatever is in it."""
        metrics = [metric for row in rows for metric in _metrics(measured(row), int(row["step"]))]
        for start in range(0, len(metrics), _MOST):
            self.experiment.log_batch(self.run_id, metrics=metrics[start : start + _MOST])

    def end(self, status: Status, objective: float | None) -> None:
        final = {} if objective is None else {"objective": objective}
        self.experiment.log_batch(
            self.run_id,
            metrics=_metrics(final, self.tracked.step),
            tags=[RunTag("status", status.value)],
        )
        self.experiment.set_terminated(self.run_id, _CALLED[status])


def _metrics(values: Mapping[str, float], step: int) -> list[Metric]:
    now = int(1000 * time.time())
    return [Metric(name, value, now, step) for name, value in values.items()]


def _has(client: MlflowClient, run: str | None) -> bool:
    """Tell whether a run can go on there: it may be of another server, or deleted."""
    try:
        return run is not None and client.get_run(run).info.lifecycle_stage == "active"
    except MlflowException:
        return False


def _experiment(client: MlflowClient, name: str) -> str:
    """Return the id of an experiment, which other processes may be about to create as well."""
    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return str(client.create_experiment(name))
        except MlflowException:
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    return str(found.experiment_id)
