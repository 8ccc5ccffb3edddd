from __future__ import annotations

import pytest

from ascend_serve.node.hccn import parse_field, parse_packet_loss


@pytest.mark.parametrize(
    ("field", "text", "value"),
    [
        pytest.param("address", "ipaddr:10.20.3.17\nnetmask:255.255.255.0\n", "10.20.3.17", id="address"),
        pytest.param("address", "Get ipconf failed, because no ip was preset there!\n", None, id="no address"),
        pytest.param("link", "link status: UP\n", "UP", id="link up"),
        pytest.param("link", "link status: DOWN\n", "DOWN", id="link down"),
        pytest.param("net_health", "net health status: Success\n", "Success", id="healthy"),
        pytest.param("net_health", "net health status: Init\n", "Init", id="nothing probed yet"),
        pytest.param(
            "net_health", "net health status: Receive timeout\n", "Receive timeout", id="failure of two words"
        ),
        pytest.param("netdetect", "netdetect address: 0.0.0.0\n", "0.0.0.0", id="no netdetect address"),
        pytest.param("gateway", "default gateway:10.20.3.1, Iface:eth4\n", "10.20.3.1", id="gateway"),
        pytest.param("gateway", "cmd execute failed!\n", None, id="failure"),
    ],
)
def test_reads_a_field(field: str, text: str, value: str | None) -> None:
    assert parse_field(field, text) == value


@pytest.mark.parametrize(
    ("text", "loss"),
    [
        pytest.param(
            "device 2 PING 10.20.3.9\nrecv seq=0,time=0.07ms\n1 packets transmitted, 1 received, 0.00% packet loss\n",
            0.0,
            id="reached",
        ),
        pytest.param(
            "recv time out seq=0\nrecv seq=1,time=0.08ms\n3 packets transmitted, 2 received, 33.33% packet loss\n",
            33.33,
            id="lossy",
        ),
        pytest.param("hccn_tool is busy, please try again\n", None, id="no statistic"),
    ],
)
def test_reads_packet_loss(text: str, loss: float | None) -> None:
    assert parse_packet_loss(text) == loss
