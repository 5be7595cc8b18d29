"""The MLflow store of an output folder: ``mlflow.db`` (SQLite) and ``mlartifacts/`` beside it."""

from __future__ import annotations

import sqlite3
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from segpipe.errors import ConfigError, ModelError
from segpipe.tracking.database import WAIT_SECONDS, database_uri, open_client
from segpipe.tracking.privacy import Identifiers
from segpipe.tracking.quiet import quiet
from segpipe.tracking.run import Run
from segpipe.tracking.view import describe_experiment

with quiet():
    from mlflow.entities import Experiment
    from mlflow.entities import Run as MlflowRun
    from mlflow.exceptions import MlflowException
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor


class Store:
    """Runs and bundles of one output folder. Made on first use, which takes some seconds.

    Any number of processes may use one store at once: making it, making experiments and
    choosing the champion happen under a lock, and SQLite queues all other writes.

    Parameters
    ----------
    output : Path
        ``Config.output``. Made when missing.

    Attributes
    ----------
    identifiers : Identifiers
        Add the names of the dataset's cases and patients as soon as they are known; no
        parameter or tag of any run will hold them.

    Raises
    ------
    ConfigError
        The folder cannot be written.
    ModelError
        The database is damaged, or of an MLflow with another schema.
    """

    def __init__(self, output: Path) -> None:
        self.output = Path(output).absolute()
        self.database = self.output / "mlflow.db"
        self.artifacts = self.output / "mlartifacts"
        self.uri = database_uri(self.database)
        self.identifiers = Identifiers()
        try:
            self.artifacts.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                f"output {self.output}: expected a folder to write to; received {error}. "
                "Set output to another folder, or tracking.enabled=false."
            ) from error
        with self.lock(), quiet():
            self.client = open_client(self.database)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold what only one process may do at a time. A process that dies lets go of it."""
        path = self.output / "mlflow.lock"
        connection = None
        try:
            connection = sqlite3.connect(path, timeout=WAIT_SECONDS, isolation_level=None)
            connection.execute("BEGIN EXCLUSIVE")
        except sqlite3.Error as error:
            if connection is not None:
                connection.close()
            raise ConfigError(
                f"{path}: expected to lock it within {WAIT_SECONDS} s; received {error}. End "
                "other programs that use this store, or set tracking.enabled=false."
            ) from error
        try:
            yield
        finally:
            connection.close()

    def experiment(self, name: str) -> Experiment:
        """The experiment of a configuration, made when missing.

        Raises
        ------
        ConfigError
            The experiment was deleted in the UI, or the store has been moved since.
        """
        with self.lock():
            found = self.client.get_experiment_by_name(name)
            if found is None:
                location = (self.artifacts / name).as_uri()
                tags = {"mlflow.experimentKind": "custom_model_development"}
                made = self.client.create_experiment(name, location, tags)
                found = self.client.get_experiment(made)
        if found.lifecycle_stage == "deleted":
            raise ConfigError(
                f"experiment {name}: expected an active one; received one that was deleted in "
                "MLflow. Restore it there, or give the configuration another name."
            )
        if not found.artifact_location.startswith(self.artifacts.as_uri()):
            raise ConfigError(
                f"{self.output}: expected the store where it was made; its experiment {name} keeps "
                f"artifacts in {found.artifact_location}. Move it back, or set another output."
            )
        describe_experiment(self.client, found)
        return found

    @contextmanager
    def run(
        self,
        experiment: str,
        name: str,
        *,
        run_id: str | None = None,
        parent: str | None = None,
        tags: Mapping[str, str] | None = None,
        system_metrics_seconds: float | None = 10.0,
    ) -> Iterator[Run]:
        """Begin or continue a run; it ends with the block.

        FINISHED, or FAILED by an exception, or KILLED by Ctrl-C: then with the error in one line
        as tag ``error`` and the traceback as artifact ``error.txt``.

        Parameters
        ----------
        experiment, name : str
            The configuration's name, and the run's own (such as ``fold 2, seed 0``).
        run_id : str, optional
            Continue this run instead of beginning one.
        parent : str, optional
            Id of the run that this one is nested in.
        tags : mapping of str to str, optional
            See :func:`standard_tags`.
        system_metrics_seconds : float, optional
            How often CPU, GPU, memory, disk and network are sampled; None: not at all.

        Raises
        ------
        ModelError
            ``run_id`` is not in this store or belongs to another experiment.
        """
        home = self.experiment(experiment)
        hidden = {key: self.identifiers.hide(value) for key, value in (tags or {}).items()}
        if parent is not None:
            hidden["mlflow.parentRunId"] = parent
        if run_id is None:
            begun = self.client.create_run(home.experiment_id, tags=hidden, run_name=name)
        else:
            begun = self._continue(run_id, home, hidden)
        run = Run(self.client, begun, self.identifiers, resumed=run_id is not None)
        monitor = self._monitor(run.run_id, system_metrics_seconds, run_id is not None)
        try:
            yield run
        except BaseException as error:
            monitor.finish()
            with suppress(MlflowException, OSError):  # the error that ended the run goes first
                self._end_by(run, error)
            raise
        monitor.finish()
        self.client.set_terminated(run.run_id, "FINISHED")

    def _continue(self, run_id: str, home: Experiment, tags: Mapping[str, str]) -> MlflowRun:
        try:
            run = self.client.get_run(run_id)
        except MlflowException as error:
            raise ModelError(
                f"run {run_id}: expected a run of {self.database}; received none. "
                f"{self.recent_runs()}"
            ) from error
        if run.info.experiment_id != home.experiment_id:
            other = self.client.get_experiment(run.info.experiment_id).name
            raise ModelError(
                f"run {run_id}: expected a run of experiment {home.name}; received one of {other}."
                " Resume it with that configuration."
            )
        self.client.update_run(run_id, status="RUNNING")
        if "error" in run.data.tags:
            self.client.delete_tag(run_id, "error")
        for key, value in tags.items():
            self.client.set_tag(run_id, key, value)
        return run

    def _monitor(self, run_id: str, seconds: float | None, resumed: bool) -> _Monitor:
        if seconds is None:
            return _Monitor(None)
        with quiet():
            monitor = SystemMetricsMonitor(
                run_id, seconds, resume_logging=resumed, tracking_uri=self.uri
            )
            monitor.start()
        return _Monitor(monitor)

    def _end_by(self, run: Run, error: BaseException) -> None:
        interrupted = isinstance(error, KeyboardInterrupt)
        text = "interrupted" if interrupted else self.identifiers.one_line(error)
        self.client.set_tag(run.run_id, "error", text)
        run.log_text("".join(traceback.format_exception(error)), "error.txt")
        self.client.set_terminated(run.run_id, "KILLED" if interrupted else "FAILED")

    def newest_experiment(self) -> str | None:
        """Id of the experiment whose run began last; None where there is no run."""
        homes = [found.experiment_id for found in self.client.search_experiments()]
        newest = self.client.search_runs(
            homes, max_results=1, order_by=["attributes.start_time DESC"]
        )
        return newest[0].info.experiment_id if newest else None

    def recent_runs(self) -> str:
        """A sentence with the newest runs of all experiments, for error messages."""
        names = {found.experiment_id: found.name for found in self.client.search_experiments()}
        found = self.client.search_runs(
            list(names), max_results=5, order_by=["attributes.start_time DESC"]
        )
        entries = [
            f"{run.info.run_id[:12]} ({names[run.info.experiment_id]}: {run.info.run_name}, "
            f"{run.info.status})"
            for run in found
        ]
        return f"Newest runs: {', '.join(entries) or 'none'}"


class _Monitor:
    """System metrics, or none."""

    def __init__(self, monitor: SystemMetricsMonitor | None) -> None:
        self.monitor = monitor

    def finish(self) -> None:
        if self.monitor is not None:
            self.monitor.finish()


def existing_store(output: Path) -> Store:
    """The store of a folder; raises :class:`ModelError` where there is none, and makes none."""
    database = Path(output).absolute() / "mlflow.db"
    if not database.is_file():
        raise ModelError(
            f"{database}: expected an MLflow store; received no such file. "
            "Train first, or name the output folder of the training: --store FOLDER, in a "
            "configuration output."
        )
    return Store(output)
