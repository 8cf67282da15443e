# SPDX-License-Identifier: Apache-2.0
"""Devices behind cables: memory, errors, and what is refused. Drivers are tested on them with all other worlds."""

import os
import zlib

import numpy as np
import pytest
from bridged import FAULTY, golden_bridge
from hypothesis import given, settings
from hypothesis import strategies as st

import rackgate_host
from rackgate.bridge.abi import BODY_WORDS, MEMORY_BASE, Kind, Message, Status, pack_message, unpack_message
from rackgate.bridge.operations import Result, pack_results
from rackgate_host import DeviceFault, DeviceMismatch, DeviceTimeout, Unavailable, UsageError, inflate
from rackgate_host.iaa import IaaDriver
from rackgate_host.transport.remote import RemoteTransport
from rackgate_sim.bridge_links import Faults, PtyBridge, UdpBridge

SIZE = 1 << 16


class Direct:
    """A link without a way: the bridge answers at once. ``change`` may alter its answers to requests."""

    name, bytes_per_second, is_reliable = "link", 0.0, False

    def __init__(self, bridge):
        self.bridge, self.arrived, self.change = bridge, [], None
        self.sent = []

    def send(self, message):
        self.sent.append(unpack_message(message))
        answer = self.bridge.answer(message)
        if answer is not None and self.change is not None:
            got = unpack_message(answer)
            answer = pack_message(got._replace(body=self.change(got.body)))
        self.arrived += [] if answer is None else [answer]

    def receive(self, seconds):
        return self.arrived.pop(0) if self.arrived else None

    def hint(self):
        return "no hint"

    def close(self):
        pass


def direct(**options):
    link = Direct(golden_bridge(memory=SIZE, **options))
    return RemoteTransport(link, timeout=0.5), link


# Memory


@settings(deadline=None, max_examples=60)
@given(
    accesses=st.lists(
        st.tuples(st.booleans(), st.integers(0, SIZE), st.one_of(st.integers(0, 20), st.integers(0, 20_000))),
        max_size=12,
    )
)
def test_memory_has_what_was_written(accesses):
    """At any address, of any size, and nothing else is touched."""
    transport, link = direct()
    expected = np.zeros(SIZE, np.uint8)
    rng = np.random.default_rng(1)
    for is_write, start, size in accesses:
        size = min(size, SIZE - start)
        if is_write:
            content = rng.integers(0, 256, size, np.uint8)
            expected[start : start + size] = content
            transport.write_memory(MEMORY_BASE + start, content.tobytes())
        else:
            assert transport.read_memory(MEMORY_BASE + start, size) == expected[start : start + size].tobytes()
    assert transport.read_memory(MEMORY_BASE, SIZE) == expected.tobytes()
    assert link.bridge.device.read(MEMORY_BASE, SIZE) == expected.tobytes()
    assert all(len(message.body) <= 4 * BODY_WORDS for message in link.sent)


def test_writes_of_memory_go_with_the_next_access():
    transport, link = direct()
    before = len(link.sent)
    for k in range(10):
        transport.write_memory(MEMORY_BASE + 100 * k, bytes([k]) * 70)
    assert len(link.sent) == before
    transport.write_register(0x40, 1)
    assert len(link.sent) == before + 1
    transport.write_memory(MEMORY_BASE, b"end")
    transport.close()
    assert link.bridge.device.read(MEMORY_BASE, 3) == b"end"


def test_a_register_is_not_written_after_memory_that_failed():
    """Neither with few writes, which have one message with it, nor with many."""
    for size in (100, 8_000):
        transport, link = direct(identity={"memory_size": SIZE})
        transport.write_memory(MEMORY_BASE + SIZE, bytes(size))
        with pytest.raises(DeviceFault, match="write of device memory at 0x10010000: there is nothing at this address"):
            transport.write_register(0x4C, 64)
        assert link.bridge.device.read_register(0x4C) == 0
        transport.write_register(0x4C, 32)
        assert transport.read_register(0x4C) == 32


# Registers


def test_what_the_device_refuses():
    transport, _ = direct()
    with pytest.raises(DeviceFault, match="read of register 0x300: the device refused it"):
        transport.read_register(0x300)
    with pytest.raises(DeviceFault, match="write of register 0x0: the device refused it"):
        transport.write_register(0, 1)
    with pytest.raises(DeviceFault, match="read of register 0x10000: there is nothing at this address"):
        transport.read_register(0x10000)
    assert transport.write_block(0x4C, [64]) and not transport.write_block(0x48, [1, 2, 3, 4, 5])
    assert transport.read_register(0x4C) == 2
    with pytest.raises(Unavailable, match="packets of net_rx come and go at the board's network port"):
        transport.push("net_rx", b"frame")
    assert transport.read_register(0) == int.from_bytes(b"RGAT", "little")


def test_time_passes_by_itself():
    transport, link = direct()
    assert transport.memory is None and not transport.irq
    first = transport.cycle
    transport.run(5000)
    assert transport.cycle >= first + 5000
    link.bridge.device.model._registers.update(IRQ_STATUS=1, IRQ_ENABLE=1)
    transport.run(0)
    before = link.bridge.device.cycle
    transport.run(1 << 40)  # the interrupt is high
    assert transport.irq and link.bridge.device.cycle < before + 5000


def test_what_it_says_of_itself():
    transport, link = direct()
    assert transport.identity.system == "inflate" and transport.identity.build == bytes(range(32))
    assert (transport.memory_base, transport.memory_size) == (MEMORY_BASE, SIZE)
    counters = transport.counters()
    assert counters["executed"] == len(link.sent) - 2 and counters["refused"] == 0  # neither OPEN nor this one
    assert "0 sent again" in transport.state()


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (lambda body: b"", "2 operations have 0 results"),
        (lambda body: b"\1\0\0\0" + body[8:], "read of register 0x0 of 1 words is answered with 0 bytes"),
        (lambda body: b"\2" + body[1:], "read of register 0x0 is answered as another operation"),
        (lambda body: body[:1] + b"\x77" + body[2:], "there is no status 119"),
        (lambda body: body[:2] + b"\xff\xff" + body[4:], "a result of 65535 words must end within the body"),
        (lambda body: body + b"\1\0\0\0", "2 operations have 3 results"),
        (lambda body: body[:8], "2 operations have 1 results"),
        (lambda body: pack_results([Result(1, Status.TIMEOUT)]), "read of register 0x0: the device's bus did not an"),
        (lambda body: pack_results([Result(1, Status.MALFORMED)]), "read of register 0x0: the bridge does not underst"),
    ],
)  # fmt: skip
def test_answers_that_make_no_sense(body, message):
    transport, link = direct()
    link.change = body
    with pytest.raises(DeviceFault, match=message):
        transport.read_register(0)
    link.change = None
    assert transport.read_register(0) == int.from_bytes(b"RGAT", "little")


@settings(deadline=None, max_examples=100)
@given(st.binary(max_size=200))
def test_any_answer_is_an_answer_or_an_error(body):
    transport, link = direct()
    link.change = lambda right: body + bytes(-len(body) % 4)
    for access in (lambda: transport.read_register(0), lambda: transport.read_memory(MEMORY_BASE, 40)):
        try:
            assert access() is not None
        except DeviceFault as error:
            assert "link: the bridge's answer makes no sense" in str(error) or "0x" in str(error)


@pytest.mark.parametrize(
    ("identity", "message"),
    [(b"", "identity of 0 words, not 1 to 256"), (bytes(160), "does not say what it is: the magic"),
     (bytes(4000), "identity of 1000 words")],
)  # fmt: skip
def test_no_identity(identity, message):
    bridge = golden_bridge(memory=SIZE)
    bridge._table = identity
    with pytest.raises(DeviceFault, match=message):
        RemoteTransport(Direct(bridge), timeout=0.5)


@pytest.mark.thorough
def test_portals_behind_a_cable(seed):
    """The accelerator takes descriptors by blocks of writes that it may refuse; tests of its driver are soak here."""
    with PtyBridge(golden_bridge("iaa"), Faults(**FAULTY, seed=seed)) as serving:
        with rackgate_host.open(serving.url) as device, IaaDriver(device) as driver:
            pages = [bytes([k]) * 4000 for k in range(8)]
            packed = [zlib.compress(page, wbits=-12) for page in pages]
            assert [driver.decompress(one) for one in packed] == pages
            assert driver.decompress_many(packed, 4000) == pages


def test_a_driver_works_on_little_memory(seed):
    """As much as an FPGA has of its own."""
    content = np.random.default_rng(seed).integers(0, 20, 200_000, np.uint8).tobytes()
    for size, contexts in ((1 << 16, 2), (1 << 15, 1)):
        with UdpBridge(golden_bridge(memory=size, contexts=contexts)) as serving:
            with rackgate_host.open(serving.url) as device:
                assert inflate.decompress(zlib.compress(content), device=device) == content


# Which device


@pytest.mark.parametrize(
    ("options", "query", "error", "message"),
    [
        ({}, "system=iaa", DeviceMismatch, "carries system inflate, not iaa: program it with iaa"),
        ({"identity": {"system": "sorter"}}, "", DeviceMismatch, "'sorter', which this package does not know.*0.1.0"),
        ({"identity": {"system": "iaa"}}, "", DeviceMismatch, "this is device 'INFL', the driver is for 'IAAX'|'INFL'"),
        ({"contexts": 3}, "contexts=2", DeviceMismatch, "was built with contexts=3, not 2"),
        ({}, "build=01234567", DeviceMismatch, "has the build 000102.*not 01234567: program it anew"),
        ({}, "build=0001", UsageError, "build must be 8 or more hexadecimal digits, not '0001'"),
        ({}, "speed=9", UsageError, "unknown option 'speed' of udp:.*there are system, build, contexts"),
    ],
)
def test_another_device_than_asked_for_is_refused(options, query, error, message):
    with UdpBridge(golden_bridge(**options)) as serving, pytest.raises(error, match=message):
        rackgate_host.open(f"{serving.url}?{query}" if query else serving.url)


def test_the_device_that_was_asked_for():
    with PtyBridge(golden_bridge(contexts=3)) as serving:
        url = f"{serving.url}?system=inflate&contexts=3&build=0001020304&timeout=9&baud=115200"
        with rackgate_host.open(url, window=32768) as device:
            assert device.parameters["contexts"] == 3 and device.transport.session.timeout == 9
            assert inflate.decompress(zlib.compress(b"abc"), device=device) == b"abc"


# Cables


def test_a_dead_cable_is_told_of():
    with UdpBridge(golden_bridge()) as serving:
        device = rackgate_host.open(f"{serving.url}?timeout=0.3")
        device.regs.RING_SIZE.value = 32
    with pytest.raises(DeviceTimeout, match="no answer to read of register 0x4c .*for 0.3 s: .*nobody listens"):
        _ = device.regs.RING_SIZE.value
    device.close()


def test_a_silent_board_is_told_of():
    bridge = golden_bridge()
    with PtyBridge(bridge) as serving:
        device = rackgate_host.open(f"{serving.url}?timeout=0.3")
        bridge.answer = lambda message: None
        with pytest.raises(DeviceTimeout, match="no answer to write of register 0x4c .*check port, cable and baud"):
            device.regs.RING_SIZE.value = 32
        with pytest.raises(DeviceTimeout, match="attempts to open a session"):
            device.regs.RING_SIZE.value = 32
        del bridge.answer
        device.regs.RING_SIZE.value = 32  # the cable is back, and nobody was there meanwhile
        assert device.regs.RING_SIZE.value == 32
        device.close()


def test_a_port_that_goes_is_told_of():
    serving = PtyBridge(golden_bridge())
    device = rackgate_host.open(serving.url)
    serving.close()
    with pytest.raises(DeviceFault, match="uart:/dev/.*: the serial port has gone"):
        _ = device.regs.RING_SIZE.value
    device.close()


def test_noise_on_a_serial_line():
    with PtyBridge(golden_bridge()) as serving, rackgate_host.open(serving.url) as device:
        for noise in (b"\xc0\xc0", os.urandom(300), b"\xdb\xdb\xdb\xc0", b"x" * 3000, b"\xc0" + b"RG" * 20 + b"\xc0"):
            os.write(device.transport.session.link._file, noise)
            device.regs.RING_SIZE.value = 64
            assert device.regs.RING_SIZE.value == 64
        assert device.transport.counters()["executed"] > 10


def test_two_hosts_at_one_board():
    with UdpBridge(golden_bridge()) as serving:
        with rackgate_host.open(serving.url) as first, rackgate_host.open(serving.url) as second:
            assert second.regs.VERSION.MAJOR == 1
            with pytest.raises(DeviceFault, match="ours no more, another host has opened it"):
                first.regs.CONTROL.value = 1
            assert second.regs.CONTROL.value == 0


def test_messages_of_a_small_bridge():
    """A bridge may keep fewer responses, and take shorter messages."""
    bridge = golden_bridge(memory=SIZE, window=1)
    link = Direct(bridge)
    terms = bridge.terms._replace(message_bytes=256)
    plain = bridge.answer

    def answer(raw):
        got = plain(raw)
        if got is not None and (message := unpack_message(got)).kind == Kind.OPENED:
            return pack_message(Message(Kind.OPENED, message.session, message.sequence, terms.pack()))
        assert len(raw) <= 256 and len(got) <= 256
        return got

    bridge.answer = answer
    transport = RemoteTransport(link, timeout=0.5)
    content = os.urandom(5000)
    transport.write_memory(MEMORY_BASE + 3, content)
    assert transport.read_memory(MEMORY_BASE + 3, 5000) == content
