# SPDX-License-Identifier: Apache-2.0
import pytest

import rackgate_host
from rackgate_host.url import DeviceURL, flag, fraction, number


def test_parts():
    url = DeviceURL.parse("sim:inflate?contexts=1&window=4096")
    assert (url.scheme, url.name, url.options) == ("sim", "inflate", {"contexts": "1", "window": "4096"})
    assert str(url) == "sim:inflate?contexts=1&window=4096"
    assert str(DeviceURL.parse("uart:/dev/ttyUSB1?baud=2e6")) == "uart:/dev/ttyUSB1?baud=2e6"


@pytest.mark.parametrize("text", ["", "sim", "sim:", ":inflate", "sim:?a=1"])
def test_wrong_form(text):
    with pytest.raises(rackgate_host.UsageError, match="must look like 'sim:inflate'"):
        DeviceURL.parse(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sim:inflate?contexts", "name=value"),
        ("sim:inflate?seed=1&seed=2", "option seed stands twice"),
    ],
)
def test_wrong_options(text, message):
    with pytest.raises(rackgate_host.UsageError, match=message):
        DeviceURL.parse(text)


def test_wrong_type():
    with pytest.raises(TypeError, match="must be a str, not int"):
        DeviceURL.parse(3)


@pytest.mark.parametrize(
    ("text", "value"), [("12", 12), ("0x20", 32), ("4K", 4096), ("2m", 2 << 20), (" 1G ", 1 << 30), (7, 7)]
)
def test_number(text, value):
    assert number("memory", text) == value


@pytest.mark.parametrize("text", ["", "K", "four", "1.5"])
def test_no_number(text):
    with pytest.raises(rackgate_host.UsageError, match="option memory must be an integer"):
        number("memory", text)


def test_other_kinds():
    assert fraction("stall", "0.25") == 0.25
    assert [flag("reorder", text) for text in ("1", "yes", "", True, "0", "off", False)] == [True] * 4 + [
        False
    ] * 3
    with pytest.raises(rackgate_host.UsageError, match="option stall must be a number, not 'often'"):
        fraction("stall", "often")
    with pytest.raises(rackgate_host.UsageError, match="option reorder must be 0 or 1, not 'maybe'"):
        flag("reorder", "maybe")


@pytest.mark.parametrize(
    ("url", "code", "message"),
    [
        ("uart:/dev/no-such-port", 3, "the serial port cannot be opened: No such file"),
        ("uart:/dev/null?baud=0", 2, "option baud must be at least 1, not 0"),
        ("udp:127.0.0.1:9?timeout=0.2", 4, "no answer to . attempts to open a session within 0.2 s"),
        ("udp:127.0.0.1:9?timeout=0", 2, "option timeout must be positive, not 0"),
        ("udp:127.0.0.1:port", 2, "an address must look like 192.0.2.10 or 192.0.2.10:21074, not '127.0.0.1:port'"),
        ("usb:inflate", 2, "unknown scheme 'usb'.*there are model:, sim:, tcp:, uart:, udp:"),
        ("model:deflate", 2, "unknown device 'deflate'.*there are iaa, inflate"),
        (
            "model:inflate?windows=4096",
            2,
            "unknown option 'windows' of model:inflate: there are contexts, window",
        ),
        ("model:inflate?latency=40", 2, "unknown option 'latency' of model:inflate"),
        ("model:inflate?contexts=two", 2, "option contexts must be an integer"),
        ("model:inflate?contexts=9", 2, "contexts must be 1 to 8, not 9"),
        ("model:inflate?window=100", 2, "window must be 4096 or 32768, not 100"),
        ("model:inflate?memory=1000", 2, "option memory must be at least 64K"),
    ],
)
def test_what_cannot_be_opened(url, code, message):
    with pytest.raises(rackgate_host.RackgateError, match=message) as caught:
        rackgate_host.open(url)
    assert caught.value.exit_code == code


def test_keywords_win():
    with rackgate_host.open("model:inflate?contexts=1&window=4096", contexts=3) as device:
        assert device.parameters == {"contexts": 3, "window": 4096, "lanes": 16}
