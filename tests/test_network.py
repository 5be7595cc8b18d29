"""Nothing leaves the machine."""

import socket

import pytest
import yaml

from segpipe.config import load
from segpipe.observer import Silent
from segpipe.pipeline.predict import PredictRequest, run_predict
from segpipe.pipeline.report import run_report
from segpipe.pipeline.train import run_train


@pytest.fixture
def no_network(monkeypatch, tmp_path):
    """Refuse every connection and look-up that is not on the loopback interface.

    The file returned names what was tried, by forked processes too.
    """
    record = tmp_path / "tried.txt"
    record.touch()

    def note(address):
        with record.open("a") as stream:
            stream.write(f"{address}\n")

    def refused(name):
        original = getattr(socket.socket, name)

        def call(self, address, *rest):
            if self.family != socket.AF_UNIX and address[0] not in ("127.0.0.1", "::1"):
                note(address)
                raise OSError(f"refused: {address}")
            return original(self, address, *rest)

        return call

    look_up = socket.getaddrinfo

    def refused_look_up(host, *rest, **options):
        if host not in (None, "localhost", "127.0.0.1", "::1", socket.gethostname()):
            note(host)
            raise OSError(f"refused: {host}")
        return look_up(host, *rest, **options)

    monkeypatch.setattr(socket.socket, "connect", refused("connect"))
    monkeypatch.setattr(socket.socket, "connect_ex", refused("connect_ex"))
    monkeypatch.setattr(socket, "getaddrinfo", refused_look_up)
    return record


def test_training_prediction_and_reports_need_no_network(
    tiny_values, tiny_samples, tmp_path, no_network
):
    values = {**tiny_values, "output": str(tmp_path / "runs"), "tracking": {"enabled": True}}
    values["train"] = {**values["train"], "epochs": 1}
    values["predict"] = {"engine": "auto"}  # OpenVINO where it is installed
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(values))
    config = load(tmp_path / "tiny.yaml")
    assert run_train(config, 0, None, Silent()) is False
    request = PredictRequest(
        bundles=("models:/tiny/1",),
        scans=(tiny_samples / "imagesTs",),
        output=tmp_path / "out",
        engine="auto",
        store=config.output,
    )
    assert run_predict(request, Silent()) is False
    assert run_report(tmp_path / "out", [], None, None, Silent()) is False
    assert no_network.read_text() == ""
