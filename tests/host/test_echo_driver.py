# SPDX-License-Identifier: Apache-2.0
"""The echo device in every world: what a board is tried with first."""

import random

import pytest

from rackgate.echo.abi import Cause
from rackgate_host import DeviceFault, UsageError
from rackgate_host.echo import EchoDriver


@pytest.fixture
def echo(connect, world):
    return EchoDriver(connect(f"{world}:echo?memory=1M"))


def changed(content, change):
    return bytes(byte ^ change >> 8 * (k % 4) & 0xFF for k, byte in enumerate(content))


@pytest.mark.parametrize("words", [1, 2, 16, 17, 300])
def test_copies(echo, words, seed):
    rng = random.Random(seed + words)
    content, change = rng.randbytes(8 * words), rng.getrandbits(32)
    assert echo.echo(content) == content
    assert echo.echo(content, change=change) == changed(content, change)
    assert echo.device.regs.COPIES.value == 2
    assert not echo.device.irq and not echo.device.regs.STATUS.BUSY


def test_nothing(echo):
    assert echo.echo(b"") == b""
    echo.copy(echo.device.transport.memory_base, echo.device.transport.memory_base + 64, 0)
    assert echo.device.regs.COPIES.value == 1


def test_nothing_else_is_touched(echo, seed):
    content = random.Random(seed).randbytes(64 + 80)
    buffer = echo._buffer(content)
    echo.copy(buffer.device_address + 64, buffer.device_address + 24, 32)
    buffer.sync_from_device()
    assert buffer.tobytes() == content[:24] + content[64:96] + content[56:]


@pytest.mark.parametrize(("source", "destination", "size"), [(4, 0, 8), (0, 1, 8), (0, 0, 12), (1 << 40, 0, 8),
                                                            (0, 1 << 63, 8)])
def test_refused(echo, source, destination, size):
    base = echo.device.transport.memory_base
    with pytest.raises(UsageError, match=f"multiples of 8 bytes at addresses of 40 bits, not {size} bytes from"):
        echo.copy(base + source, base + destination, size)
    assert echo.device.regs.COPIES.value == 0
    assert echo.echo(bytes(8)) == bytes(8)


@pytest.mark.parametrize(("source", "destination"), [(1 << 20, 0), (0, 1 << 20)])
def test_memory_that_is_not_there(echo, source, destination):
    base = echo.device.transport.memory_base
    with pytest.raises(DeviceFault, match="answered with an error to a copy of 64 bytes"):
        echo.copy(base + source, base + destination, 64)
    assert echo.device.regs.IRQ_STATUS.value == 0
    content = bytes(range(64))
    assert echo.echo(content) == content


def test_registers(echo):
    regs = echo.device.regs
    regs.SCRATCH.value = 0x12345678
    assert regs.SCRATCH.value == 0x12345678
    before = regs.CYCLES_LO.value
    echo.device.run(100)
    assert regs.CYCLES_LO.value >= before + 100
    # The interrupt is enabled one cause at a time.
    regs.IRQ_ENABLE.value = int(Cause.FAULT)
    regs.SIZE.value = 0
    regs.START.value = 1
    echo.device.run(1000)
    assert not echo.device.irq and Cause(regs.IRQ_STATUS.value) == Cause.DONE
    regs.IRQ_ENABLE.value = int(Cause.DONE)
    echo.device.run(4)
    assert echo.device.irq
    regs.IRQ_STATUS.value = int(Cause.DONE)
    echo.device.run(4)
    assert not echo.device.irq


def test_a_start_while_busy_is_lost(connect):
    device = connect("model:echo?memory=1M")
    echo = EchoDriver(device)
    source = echo._buffer(bytes(800))
    device.regs.SOURCE_LO.value = device.regs.DESTINATION_LO.value = source.device_address
    device.regs.SIZE.value, device.regs.START.value, device.regs.START.value = 800, 1, 1
    assert device.regs.STATUS.BUSY
    device.run(1000)
    assert device.regs.COPIES.value == 1


def test_another_device(model):
    with pytest.raises(UsageError, match="is no echo device"):
        EchoDriver(model)
