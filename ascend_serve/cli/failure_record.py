"""What a command leaves behind of a start, a replica or a cluster that ended: one file, named on the terminal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from ascend_serve.cli.lifetime import end_at_once
from ascend_serve.cluster.signals import is_end_asked
from ascend_serve.config.schema import AscendServeConfig
from ascend_serve.errors import AscendServeError, ConfigError, EventFileError

if TYPE_CHECKING:
    from ascend_serve.cluster.connect import Cluster
    from ascend_serve.replica.last_will import LastWill
    from ascend_serve.telemetry.report import GraphReport


class FailureRecord:
    """Keeps what is known of a deployment on this machine when it ends otherwise than it was asked to.

    Args:
        config: What is served; of several models, of the one that starts.
        started: When the user asked for it, in seconds since the epoch.

    Attributes:
        config: As above.
        ray_logs: Where Ray's processes on this machine log, once that is known.
    """

    def __init__(self, config: AscendServeConfig, started: float) -> None:
        self.config = config
        self._started = started
        self.ray_logs: Path | None = None
        self._what = "The deployment did not start"

    def begin_to_serve(self, cluster: Cluster) -> None:
        """Take note that the start is over, on ``cluster``."""
        self.ray_logs = cluster.log_directory
        self._what = "The deployment ended"

    @contextmanager
    def of_errors(self) -> Iterator[None]:
        """Keep one of an error that ends the block, unless it is the user's, has left one, or comes of a signal.

        Raises:
            AscendServeError: The error, with its record.
        """
        try:
            yield
        except Exception as error:
            if is_end_asked() or (isinstance(error, AscendServeError) and error.exit_code == ConfigError.exit_code):
                raise
            told = self._kept(error)
            if told is error:
                raise
            raise told from error

    def end_at_once(self, error: AscendServeError) -> NoReturn:
        """Keep one, and end this process for ``error``, from any thread; see `lifetime.end_at_once`."""
        end_at_once(self._kept(error))

    def of_replica(self, config: AscendServeConfig, reason: str) -> str:
        """Keep one of a replica that ended while the deployment goes on.

        Args:
            config: What it served.
            reason: How it ended.

        Returns:
            How it ended, and where that is kept.
        """
        from ascend_serve.replica.last_will import with_file

        file = self._will(config).leave(reason, self._report(config), what="A replica ended", logs=self._logs())
        return with_file(reason, file)

    def _kept(self, error: Exception) -> AscendServeError:
        return self._will(self.config).of_error(error, self._report(self.config), what=self._what, logs=self._logs())

    def _will(self, config: AscendServeConfig) -> LastWill:
        from ascend_serve.replica.last_will import LastWill

        return LastWill(config, ray_logs=self.ray_logs or Path())

    def _logs(self) -> list[Path]:
        from ascend_serve.replica.last_will import newest_logs

        return [] if self.ray_logs is None else newest_logs(self.ray_logs)

    def _report(self, config: AscendServeConfig) -> GraphReport | None:
        """What the events of this start came to that its replica has kept on this machine."""
        from ascend_serve.telemetry.event_log import latest_file, read_events
        from ascend_serve.telemetry.story import Story

        file = latest_file(config.model.name)
        if file is None or file.stat().st_mtime < self._started:
            return None
        with suppress(EventFileError):
            events = list(read_events(file))
            return Story.of(events).report(events)
        return None
