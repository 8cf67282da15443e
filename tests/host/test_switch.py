# SPDX-License-Identifier: Apache-2.0
"""The switch's driver, on every world."""

import zlib

import pytest
from test_pisa_model import datagram
from worlds import WORLDS

from rackgate.pisa.catalogue import PIPELINES
from rackgate_host import DeviceMismatch, DeviceTimeout, OutOfDeviceMemory, UsageError
from rackgate_host.switch import Switch
from rackgate_sim.pisa.model import PipelineModel

BALANCER = PIPELINES["balancer"].pipeline()


@pytest.fixture(params=WORLDS)
def world(request):
    """Packets of a board go through its own port."""
    return request.param


@pytest.fixture
def switch(connect, world):
    return Switch(connect(f"{world}:balancer", **({"variant": "brief"} if world == "sim" else {})))


def test_a_datagram_goes_through_and_is_counted(switch):
    frame = datagram(0x0A000002, 4000, b"odd")
    assert switch.process(frame) == [out for _, out in PipelineModel(BALANCER).process(frame)]
    server = zlib.crc32(frame[26:30] + frame[34:36]) & 3
    assert switch.read("counts", server) == {"packets": 1, "bytes": 31}
    counters = switch.counters()
    assert (counters["received"], counters["accepted"], counters["sent"], counters["dropped"]) == (1, 1, 1, 0)


def test_bad_frames_are_counted_by_cause(switch):
    good = datagram(1, 2, b"payload")
    assert switch.process(good[:20]) == []
    assert switch.process(bytes(60)) == []
    assert switch.process(good[:-1]) == []
    assert switch.process(good[:-1] + b"\0") == []
    assert switch.process(datagram(1, 2, bytes(2048 - 42 + 1))) == []
    assert switch.process(datagram(1, 2, b"", ttl=1)) == []
    assert len(switch.process(datagram(1, 2, bytes(2048 - 42)))) == 1
    counters = switch.counters()
    assert {name: count for name, count in counters.items() if count} == {
        "received": 7, "accepted": 2, "rejected_truncated": 1, "rejected_refused": 1, "rejected_length": 1,
        "rejected_checksum": 1, "rejected_oversize": 1, "dropped": 1, "sent": 1}


def test_words_are_written_and_a_reset_clears_them(switch):
    switch.write("counts", 3, packets=0xFFFFFFFF, bytes=7)
    assert switch.read("counts", 3) == {"packets": 0xFFFFFFFF, "bytes": 7}
    assert switch.read("counts", 2) == {"packets": 0, "bytes": 0}
    switch.process(datagram(1, 2, b""))
    switch.reset()
    assert switch.read("counts", 3) == {"packets": 0, "bytes": 0}
    assert not any(switch.counters().values())
    assert len(switch.process(datagram(1, 2, b""))) == 1


@pytest.mark.parametrize("world", ["sim"])
def test_a_reset_waits_for_the_frame_that_goes_out(switch):
    """What is written behind it is kept, however long the other side takes."""
    simulation = switch.device.transport.simulation
    simulation.stream("net_tx").stall(0.97)
    for cycles in (40, 60, 80, 100):
        simulation.stream("net_rx").push(datagram(1, 2, bytes(200)))
        switch.device.run(cycles)
        switch.reset()
        switch.write("counts", 1, packets=5, bytes=cycles)
        switch.device.run(2_000)
        assert switch.read("counts", 1) == {"packets": 5, "bytes": cycles}
        assert not any(switch.counters().values())


@pytest.mark.parametrize("world", ["sim"])
def test_a_reset_that_cannot_end(switch):
    simulation = switch.device.transport.simulation
    simulation.stream("net_tx").stall(0.9999999)
    simulation.stream("net_rx").push(datagram(1, 2, bytes(200)))
    switch.device.run(500)
    with pytest.raises(DeviceTimeout, match="CONTROL & 0x1 == 0x0"):
        switch.reset()


def test_wrong_requests_are_told(connect):
    device = connect("model:balancer")
    switch = Switch(device)
    for call, text in (
        (lambda: switch.read("count", 0), "no register 'count': it has counts"),
        (lambda: switch.read("counts", 4), "words 0 to 3, not 4"),
        (lambda: switch.write("counts", 0, packets=1), "all must be given"),
        (lambda: switch.write("counts", 0, packets=1 << 32, bytes=0), "counts.packets must fit 32 bits"),
        (lambda: switch.insert("servers", 0, "send"), "no table 'servers': it has none"),
        (lambda: connect("model:balancer?memory=1M"), "unknown option 'memory'"),
        (lambda: connect("model:balancer?slot_size=100"), "slot_size must be a power of two"),
        (lambda: Switch(connect("model:inflate")), "device inflate is no switch"),
    ):
        with pytest.raises(UsageError, match=text):
            call()
    with pytest.raises(OutOfDeviceMemory, match="0 of 0 are left"):
        device.allocate(1)
    with pytest.raises(DeviceTimeout, match="packet from net_tx"):
        switch.pop(cycles=100)


def test_another_declaration_is_told_apart(connect, monkeypatch):
    device = connect("model:balancer")
    other = PIPELINES["balancer"].pipeline()
    register = other.registers[0]
    monkeypatch.setattr(register, "depth", 8)
    with pytest.raises(DeviceMismatch, match="another declaration"):
        Switch(device, other)


def test_entries_are_found_again_by_another_driver(connect):
    """On a switch with tables: what one driver has put, the next one reads from the device."""
    device = connect("model:netlock?locks=64")
    first = Switch(device)
    for lock in range(0, 640, 10):
        first.insert("locks", lock, PIPELINES["netlock"].pipeline(locks=64).tables[1].actions[0].name,
                     **{name: 0 for name in first.table("locks").table.actions[0].parameters.fields})
    first.remove("locks", 100)
    first.insert("hosts", 7, "to_host", mac=0x020000000007, address=0x0A000007, server_port=1, client_port=2)
    second = Switch(device)
    for name in ("locks", "hosts", "servers"):
        assert second.table(name).words == first.table(name).words
    assert len(second.table("locks")) == 63
    with pytest.raises(UsageError, match="table locks has no entry 100"):
        second.remove("locks", 100)
    with pytest.raises(UsageError, match="table hosts has no action nobody: it has to_host"):
        second.insert("hosts", 7, "nobody")
    device.regs.TARGET.value = 9
    device.regs.COMMAND.value = 3
    assert (device.regs.STATUS.error, device.regs.IRQ_STATUS.done) == (2, 1)
    first.reset()
    assert not any(Switch(device).table(name).words for name in ("locks", "hosts", "servers"))
