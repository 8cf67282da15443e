# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from rackgate.csr.map import Access
from rackgate.inflate.abi import REGISTERS
from rackgate_host import BadBuffer, Device, DeviceMismatch, DeviceTimeout, RegisterError, UsageError
from rackgate_host.devices import DEVICES


class Board:
    """A device that shares no memory with the host, as one behind a cable."""

    memory_base, memory_size, memory = 0x4000, 1 << 16, None

    def __init__(self, **registers):
        self.values = {
            register.offset: registers.get(name, register.reset) for name, register in REGISTERS.items()
        }
        self.content = bytearray(self.memory_size)
        self.cycle = 0
        self.irq = False
        self.irq_at = None
        self.accesses = []
        self.closed = False
        self.packets = []

    def read_register(self, offset):
        self.accesses.append(("r", offset))
        return self.values[offset]

    def write_register(self, offset, value):
        self.accesses.append(("w", offset, value))
        self.values[offset] = value

    def read_memory(self, address, size):
        return bytes(self.content[address - self.memory_base :][:size])

    def write_memory(self, address, content):
        start = address - self.memory_base
        self.content[start : start + len(content)] = content

    def run(self, cycles, until_interrupt=True):
        for _ in range(cycles):
            if until_interrupt and self.irq:
                return
            self.cycle += 1
            self.irq = self.irq or self.cycle == self.irq_at

    def push(self, stream, packet):
        self.packets.append(packet)

    def pop(self, stream):
        return self.packets.pop(0) if self.packets and self.cycle > 100 else None

    def state(self):
        return "the board's state"

    def close(self):
        self.closed = True


def board(**registers):
    transport = Board(**registers)
    return Device(transport, DEVICES["inflate"], "board:test"), transport


@pytest.mark.parametrize(
    ("register", "value", "message"),
    [
        ("MAGIC", 0xFFFFFFFF, "no Rackgate device answers .*0xffffffff.*check the URL"),
        ("DEVICE", int.from_bytes(b"LOCK", "little"), "this is device 'LOCK', the driver is for 'INFL'"),
        ("VERSION", 2 << 16, "version 2, the driver version 1: update the host package"),
        ("VERSION", 0, "version 0, the driver version 1: rebuild the gateware"),
        (
            "MAP_HASH",
            1,
            "register map .0x00000001. is not the driver's.*build gateware and host package from the same",
        ),
    ],
)
def test_a_wrong_device_is_refused(register, value, message):
    with pytest.raises(DeviceMismatch, match=message) as caught:
        board(**{register: value})
    assert caught.value.exit_code == 3


def test_a_newer_minor_version_is_taken():
    device, _ = board(VERSION=1 << 16 | 7, PARAM_CONTEXTS=3, BUILD_HI=0xABC, BUILD_LO=0x12)
    assert device.version == (1, 7)
    assert device.parameters == {"contexts": 3, "window": 0, "lanes": 0}
    assert device.build == "00000abc00000012"
    assert "contexts=3" in repr(device)


def test_identity_in_every_world(device):
    assert device.regs.MAGIC.value == int.from_bytes(b"RGAT", "little")
    assert device.regs.DEVICE.value == int.from_bytes(b"INFL", "little")
    assert device.version == REGISTERS.version
    assert device.parameters == {"contexts": 2, "window": 32768, "lanes": 16}
    assert len(device.build) == 16
    assert (int(device.build, 16) != 0) == (device.url == "sim:inflate")


def test_registers_by_name(device):
    registers = device.regs
    registers.RING_SIZE.value = 256
    assert registers.RING_SIZE.value == registers.ring_size.value == registers["Ring_Size"].value == 256
    registers.RING_BASE_LO.value = 0xFFFFFFC0
    assert registers.RING_BASE_LO.value == 0xFFFFFFC0
    assert registers.VERSION.MAJOR == 1
    assert registers.VERSION.fields == {"MINOR": 0, "MAJOR": 1}
    assert list(registers) == list(REGISTERS)
    assert "RING_TAIL" in dir(registers)
    assert repr(registers.RING_HEAD) == "<register RING_HEAD at 0x54, ro>"


def test_fields_are_written_alone():
    device, transport = board()
    device.regs.CONTROL.value = 1
    transport.accesses.clear()
    device.regs.CONTROL.RESET = 1  # RW: the others are kept
    assert transport.accesses == [("r", 0x40), ("w", 0x40, 3)]
    transport.accesses.clear()
    device.regs.IRQ_STATUS.FAULT = 1  # W1C: writing back the others would clear them
    assert transport.accesses == [("w", 0x5C, 2)]
    device.regs.CONTROL.write(RESET=1)
    assert transport.values[0x40] == 2


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda regs: regs.RING_SIZ, "device inflate has no register RING_SIZ: did you mean RING_SIZE"),
        (lambda regs: regs.zzz, "has no register zzz: there are MAGIC, "),
        (lambda regs: regs.CONTROL.ENABEL, "register CONTROL has no field ENABEL: did you mean ENABLE"),
        (lambda regs: setattr(regs.MAGIC, "value", 1), "register MAGIC is read-only .const."),
        (lambda regs: setattr(regs.VERSION, "MINOR", 1), "register VERSION is read-only"),
        (lambda regs: setattr(regs, "CONTROL", 1), r"write regs.CONTROL.value = 1"),
        (lambda regs: setattr(regs, "CONTRL", 1), "did you mean CONTROL"),
    ],
)
def test_wrong_register_use(use, message):
    device, transport = board()
    with pytest.raises(RegisterError, match=message):
        use(device.regs)
    assert not hasattr(device.regs, "nothing_like_it")


def test_values_are_checked():
    device, _ = board()
    with pytest.raises(ValueError, match="register RING_SIZE must be written with 0 to 2..32 - 1, not -1"):
        device.regs.RING_SIZE.value = -1
    with pytest.raises(ValueError, match="field CONTROL.ENABLE must be 0 to 1, not 2"):
        device.regs.CONTROL.ENABLE = 2


def test_dump_has_every_readable_register(device):
    text = device.regs.dump()
    assert all(name in text for name, register in REGISTERS.items() if register.access is not Access.WO)
    assert "MAJOR=0x1" in text


def test_an_interrupt_ends_a_wait():
    device, transport = board()
    transport.irq_at = 1234
    seen = []
    device.wait(progress=lambda device: seen.append(device.cycles))
    assert device.cycles == 1234 and device.irq
    assert seen == [1234]


def test_an_event_ends_a_wait():
    device, transport = board()
    device.wait(lambda device: device.cycles >= 1000, what="a thousand")
    assert 1000 <= device.cycles < 2100
    device.wait(lambda device: True)


@pytest.mark.parametrize("limit", [{"cycles": 5000}, {"timeout": 0.05}])
@pytest.mark.parametrize("event", [None, lambda device: False])
def test_a_wait_ends_in_any_case(limit, event):
    device, transport = board()
    with pytest.raises(DeviceTimeout, match="no sign of life after") as caught:
        device.wait(event, what="sign of life", **limit)
    assert caught.value.exit_code == 4 and isinstance(caught.value, TimeoutError)
    assert "IRQ_STATUS" in str(caught.value) and "the board's state" in str(caught.value)
    if "cycles" in limit:
        assert device.cycles == 5000


def test_an_interrupt_that_stays_high_does_not_stop_time():
    device, transport = board()
    transport.irq = True
    device.wait(lambda device: device.cycles > 300, cycles=1000)
    device.run(500)
    assert device.cycles > 800


def test_waiting_advances_time_in_every_world(device):
    before = device.cycles
    with pytest.raises(DeviceTimeout, match=r"no interrupt after \d+ cycles"):
        device.wait(cycles=2000)
    assert device.cycles >= before + 2000


@pytest.mark.parametrize("limit", [{"cycles": 0}, {"timeout": -1}])
def test_limits_must_be_positive(limit):
    device, _ = board()
    with pytest.raises(ValueError, match="must be positive"):
        device.wait(**limit)


def test_waiting_for_memory():
    device, transport = board()
    flag = device.allocate(1)
    transport.irq_at = 40
    causes = []

    def on_interrupt(value):
        causes.append(value)
        transport.irq, transport.irq_at = False, transport.cycle + 30
        if len(causes) == 3:
            transport.write_memory(flag.device_address, b"\1")

    transport.values[0x5C] = 1
    device.wait_nonzero(flag.device_address, acknowledge="IRQ_STATUS", on_interrupt=on_interrupt, cycles=1000)
    assert causes == [1, 1, 1] and ("w", 0x5C, 1) in transport.accesses
    assert device.cycles == 100
    transport.write_memory(flag.device_address, b"\0")
    with pytest.raises(DeviceTimeout, match="no byte at 0x4000 after 2000 cycles"):
        device.wait_nonzero(flag.device_address, acknowledge="IRQ_STATUS", cycles=2000)
    with pytest.raises(UsageError, match="acknowledge must name a W1C register, not CONTROL"):
        device.wait_nonzero(flag.device_address, acknowledge="CONTROL")


def test_memory_behind_a_cable_is_copied():
    device, transport = board()
    buffer = device.allocate((2, 8))
    assert not buffer.coherent
    buffer[:] = 7
    assert bytes(transport.content[:16]) == bytes(16)
    buffer[1].sync_to_device()
    assert bytes(transport.content[:16]) == bytes(8) + b"\7" * 8
    transport.content[:16] = bytes(range(16))
    buffer.sync_from_device()
    assert buffer.tolist() == [list(range(8)), list(range(8, 16))]


def test_streams():
    device, transport = board()
    device.push("net_rx", b"frame")
    assert device.pop("net_tx", cycles=1000) == b"frame"
    with pytest.raises(DeviceTimeout, match="no packet from net_tx"):
        device.pop("net_tx", cycles=1000)


def test_a_closed_device(model):
    buffer = model.allocate(4)
    model.close()
    model.close()
    for use in (lambda: model.regs.MAGIC.value, lambda: model.allocate(4), buffer.sync_to_device, model.wait):
        with pytest.raises(UsageError, match="is closed"):
            use()
    device, transport = board()
    with device:
        pass
    assert transport.closed and device.closed


def test_an_index_outside_is_no_address():
    device, _ = board()
    buffer = device.allocate(16)
    with pytest.raises(BadBuffer):
        _ = np.add(buffer, 1).view(type(buffer)).device_address


def test_what_completes_while_an_interrupt_is_acknowledged_is_seen():
    """The write that clears the first cause clears that of the job waited for too: no interrupt is left to wake up."""
    device, transport = board()
    flag = device.allocate(1)
    transport.irq = True
    transport.values[0x5C] = 1
    plain = transport.write_register

    def write_register(offset, value):
        plain(offset, value)
        if offset == 0x5C:
            transport.write_memory(flag.device_address, b"\1")
            transport.irq = False

    transport.write_register = write_register
    device.wait_nonzero(flag.device_address, acknowledge="IRQ_STATUS", cycles=100)
    assert device.cycles == 0


def test_what_completes_while_the_host_sleeps_is_seen():
    """Behind a cable the limit may pass between a look at the device and one at the clock."""

    class Running(Board):
        looks = 0

        @property
        def cycle(self):
            if self.looks == 1:
                self.write_memory(self.memory_base, b"\1")
            self.looks += 1
            return 0 if self.looks < 2 else 10**6

        @cycle.setter
        def cycle(self, value):
            pass

    transport = Running()
    device = Device(transport, DEVICES["inflate"], "board:test")
    device.wait_nonzero(transport.memory_base, acknowledge="IRQ_STATUS", cycles=1000)
    transport.write_memory(transport.memory_base, b"\0")
    transport.looks = 0
    transport.write_memory = lambda address, content: None
    with pytest.raises(DeviceTimeout, match="no byte at 0x4000 after 1000000 cycles"):
        device.wait_nonzero(transport.memory_base, acknowledge="IRQ_STATUS", cycles=1000)
