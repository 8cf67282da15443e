# SPDX-License-Identifier: Apache-2.0
import gc
import os
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rackgate_host import BadBuffer, OutOfDeviceMemory, UsageError
from rackgate_host.memory import Allocator

SIZES = st.integers(1, 300)
STEPS = st.lists(
    st.tuples(st.booleans(), SIZES, st.sampled_from([1, 8, 64, 256]), st.integers(0, 50)), max_size=80
)


@settings(max_examples=200, deadline=None)
@given(STEPS)
def test_allocations_never_overlap_and_everything_comes_back(steps):
    allocator = Allocator(0x1008, 2000)
    owned = {}
    for allocate, size, alignment, which in steps:
        if allocate:
            try:
                address = allocator.allocate(size, alignment)
            except OutOfDeviceMemory:
                # Honest: no hole could have held it at any alignment.
                assert allocator.largest_hole < size + alignment - 1
                continue
            assert address % alignment == 0
            assert 0x1008 <= address and address + size <= 0x1008 + 2000
            assert all(address + size <= other or other + length <= address for other, length in owned.items())
            owned[address] = size
        elif owned:
            address = sorted(owned)[which % len(owned)]
            allocator.free(address)
            del owned[address]
        assert allocator.free_bytes == 2000 - sum(owned.values())
    for address in owned:
        allocator.free(address)
    # All holes have been joined again.
    assert allocator.largest_hole == 2000


def test_the_same_calls_give_the_same_addresses():
    def addresses():
        allocator, rng, owned = Allocator(0, 1 << 20), random.Random(3), []
        for _ in range(200):
            owned.append(allocator.allocate(rng.randrange(1, 5000)))
            if rng.random() < 0.4:
                allocator.free(owned.pop(rng.randrange(len(owned))))
        return owned

    assert addresses() == addresses()


def test_out_of_memory_says_what_is_left():
    allocator = Allocator(0, 1024)
    allocator.allocate(256)
    with pytest.raises(
        OutOfDeviceMemory, match="1000 bytes .* 768 of 1024 are left, the largest piece has 768"
    ) as caught:
        allocator.allocate(1000)
    assert isinstance(caught.value, MemoryError)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((-1, 10), "base must not be negative"),
        ((0, -1), "size must not be negative"),
    ],
)
def test_wrong_ranges(arguments, message):
    with pytest.raises(ValueError, match=message):
        Allocator(*arguments)


@pytest.mark.parametrize(
    ("size", "alignment", "message"),
    [
        (0, 64, "size must be at least 1, not 0"),
        (1, 3, "alignment must be a power of two, not 3"),
        (1, 0, "power of two, not 0"),
    ],
)
def test_wrong_allocations(size, alignment, message):
    with pytest.raises(ValueError, match=message):
        Allocator(0, 1024).allocate(size, alignment)


def test_free_of_what_was_not_allocated():
    allocator = Allocator(0, 1024)
    with pytest.raises(BadBuffer, match="not that of an allocation"):
        allocator.free(64)


def test_buffers_are_arrays_in_device_memory(model):
    buffer = model.allocate((4, 8), "u4")
    buffer[:] = np.arange(32).reshape(4, 8)
    assert buffer.device_address % 64 == 0
    assert buffer.nbytes == 128 and buffer.coherent
    assert buffer[2].device_address == buffer.device_address + 64
    assert buffer[1:, 3].device_address == buffer.device_address + 44
    assert model.transport.read_memory(buffer[3].device_address, 8) == bytes([24, 0, 0, 0, 25, 0, 0, 0])
    assert isinstance(buffer, np.ndarray)
    assert np.asarray(buffer).sum() == 496


def test_defaults_and_alignment(model):
    assert model.allocate(10).dtype == np.uint8
    assert model.allocate(10, alignment=4096).device_address % 4096 == 0
    assert model.allocate(0).nbytes == 0
    assert model.allocate((0, 4)).shape == (0, 4)


def test_results_of_arithmetic_are_no_buffers(model):
    buffer = model.allocate(16)
    buffer[:] = 1
    assert type(buffer + 1) is np.ndarray
    assert buffer.sum() == 16 and not isinstance(buffer.sum(), np.ndarray)
    buffer += 1
    assert buffer.device_address and buffer[0] == 2
    with pytest.raises(BadBuffer, match="copy in host memory"):
        _ = buffer.copy().device_address
    with pytest.raises(BadBuffer, match="copy in host memory"):
        buffer.copy().sync_to_device()
    beyond = np.lib.stride_tricks.as_strided(buffer, (17,), subok=True)
    with pytest.raises(BadBuffer):
        beyond.sync_to_device()


def test_use_after_free(model):
    buffer = model.allocate(64)
    view = buffer[10:]
    buffer.free()
    for use in (
        lambda: buffer.device_address,
        lambda: view.device_address,
        buffer.sync_to_device,
        view.sync_from_device,
    ):
        with pytest.raises(BadBuffer, match="used after it was freed"):
            use()
    with pytest.raises(BadBuffer, match="freed already"):
        buffer.free()


def test_context_manager_frees(model):
    before = model.allocator.free_bytes
    with model.allocate(1000) as buffer:
        assert model.allocator.free_bytes == before - 1000
    assert model.allocator.free_bytes == before
    with pytest.raises(BadBuffer, match="used after it was freed"):
        _ = buffer.device_address
    with model.allocate(10) as buffer:
        buffer.free()


def test_a_view_keeps_its_buffer(model):
    before = model.allocator.free_bytes
    buffer = model.allocate(1000)
    view = np.asarray(buffer[100:200])  # a plain array has nothing but its base to hold on to
    del buffer
    gc.collect()
    assert model.allocator.free_bytes == before - 1000
    del view
    gc.collect()
    assert model.allocator.free_bytes == before


def test_only_contiguous_buffers_are_synchronised(model):
    buffer = model.allocate((4, 4))
    with pytest.raises(BadBuffer, match="only C-contiguous"):
        buffer[:, 1].sync_to_device()


@pytest.mark.parametrize(
    ("shape", "dtype", "error", "message"),
    [
        (-1, "u1", ValueError, "shape must not be negative"),
        (4, object, TypeError, "dtype must be plain data"),
    ],
)
def test_wrong_buffers(model, shape, dtype, error, message):
    with pytest.raises(error, match=message):
        model.allocate(shape, dtype)


def test_out_of_device_memory(model):
    with pytest.raises(OutOfDeviceMemory, match="are left"):
        model.allocate(1 << 30)


def test_memory_is_in_a_file_that_was_given(connect):
    file = os.memfd_create("memory")
    os.ftruncate(file, 1 << 20)
    device = connect("model:inflate", memory=1 << 20, memory_file=file)
    buffer = device.allocate(5)
    buffer[:] = np.frombuffer(b"hello", np.uint8)
    place = buffer.device_address - device.transport.memory_base
    assert os.pread(file, 5, place) == b"hello"
    os.pwrite(file, b"HELLO", place)
    assert buffer.tobytes() == b"HELLO"
    os.close(file)


def test_file_that_is_too_short(connect):
    file = os.memfd_create("memory")
    with pytest.raises(UsageError, match="memory_file must be a descriptor of a file of 1048576 bytes"):
        connect("model:inflate", memory=1 << 20, memory_file=file)
    os.close(file)
