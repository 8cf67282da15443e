# SPDX-License-Identifier: Apache-2.0
"""The engine model: moves, matching, credits, failures, at its registers."""

import numpy as np
import pytest
from collective_nodes import (
    BASE,
    COPY,
    RECEIVE,
    REDUCE,
    REDUCE_AND_FORWARD,
    SEND,
    STORE_AND_FORWARD,
    Nodes,
)

from rackgate.arith.abi import ElementType, Function
from rackgate.collective.abi import Call, CallFlag, Cause, Counter, Header, HeaderFlag, PacketType, Status
from rackgate.collective.isa import MoveControl
from rackgate.collective.packets.abi import Probe, Probed
from rackgate_sim.arith import compress, expand

TYPES = list(ElementType)


def values(seed, count, element):
    random = np.random.default_rng(seed)
    if element.format is None:
        return random.integers(-2**31, 2**31, count).astype(element.dtype)
    return random.standard_normal(count).astype(element.dtype)


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("count", [0, 1, 255, 256, 257, 5000])
def test_a_message_arrives(count, seed):
    nodes = Nodes(2, credits=3, seed=seed)
    sent = nodes.array(0, 64, values(1, count, ElementType.INT32))
    nodes.call(0, SEND, count, operand_0=BASE + 64, peer=1, tag=7)
    nodes.call(1, RECEIVE, count, result=BASE + 4096, peer=0, tag=7)
    nodes.run()
    assert nodes.completion(0).status == Status.SUCCESS
    received = nodes.completion(1)
    assert (received.status, received.bytes) == (Status.SUCCESS, 4 * count)
    assert np.array_equal(nodes.array(1, 4096, count=count, dtype=np.int32), sent)
    assert nodes.count_of(0, Counter.BYTES_SENT) == 4 * count
    packets = max(1, -(-count // 256))
    assert nodes.count_of(1, Counter.PACKETS_RECEIVED) == packets
    assert nodes.fabric.nodes[1].engine.receiver.free_slots == 64


@pytest.mark.parametrize("element", TYPES)
def test_what_is_received_is_the_first_operand_of_the_function(element):
    nodes = Nodes(2)
    there, here = values(1, 700, element), values(2, 700, element)
    nodes.array(0, 0, there)
    nodes.array(1, 0, here)
    nodes.call(0, SEND, 700, element=element, operand_0=BASE, peer=1)
    nodes.call(1, REDUCE, 700, element=element, operand_0=BASE, result=BASE + 65536, peer=0, function=Function.SUM)
    nodes.run()
    assert nodes.completion(1).status == Status.SUCCESS
    assert np.array_equal(nodes.array(1, 65536, count=700, dtype=element.dtype), there + here)


def test_a_message_is_kept_and_forwarded():
    program = f"""
        li r0, 0
        lds r1, RANK
        ldd r2, 1
        mv COUNT, r2
        lda r2, 9
        mv LOCAL, r2
        lda r2, 13
        mv RESULT, r2
        add r3, r1, 1
        mv DESTINATION, r3
        sub r3, r1, 1
        mv SOURCE, r3
        beq r1, r0, first
        beq r3, r0, middle
        li r3, {RECEIVE}
        mv CONTROL, r3
        go
        ret
    middle:
        li r3, {STORE_AND_FORWARD}
        mv CONTROL, r3
        go
        ret
    first:
        li r3, {SEND}
        mv CONTROL, r3
        go
        ret
    """
    for control, expected in ((STORE_AND_FORWARD, 0), (REDUCE_AND_FORWARD, 1)):
        nodes = Nodes(3, program=program.replace(str(STORE_AND_FORWARD), str(control)))
        nodes.array(0, 0, np.arange(3000, dtype=np.int32))
        nodes.array(1, 0, np.ones(3000, np.int32))
        for number in range(3):
            nodes.call(number, 0, 3000, scenario=41, operand_0=BASE, result=BASE + 65536)
        nodes.run()
        for number in range(3):
            assert nodes.completion(number).status == Status.SUCCESS
        for number in (1, 2):
            assert np.array_equal(nodes.array(number, 65536, count=3000, dtype=np.int32), np.arange(3000) + expected)


def test_messages_wait_for_their_receives_by_tag():
    nodes = Nodes(2)
    for tag in (3, 1, 2):
        nodes.array(0, 1024 * tag, np.full(100, tag, np.int32))
        nodes.call(0, SEND, 100, operand_0=BASE + 1024 * tag, peer=1, tag=tag)
    nodes.run()
    for tag in (1, 2, 3):
        nodes.call(1, RECEIVE, 100, result=BASE + 1024 * tag, peer=0, tag=tag)
        nodes.run()
        assert nodes.completion(1).status == Status.SUCCESS
        assert set(nodes.array(1, 1024 * tag, count=100, dtype=np.int32)) == {tag}
    assert nodes.count_of(1, Counter.MATCHED_LATE) == 3


def test_any_source_and_any_tag_take_one_message():
    nodes = Nodes(3)
    for source in (0, 1):
        nodes.array(source, 0, np.full(600, source, np.int32))
        nodes.call(source, SEND, 600, operand_0=BASE, peer=2, tag=10 + source)
    for number in range(2):
        nodes.call(2, RECEIVE, 600, result=BASE + 8192 * number, peer=Call.ANY_SOURCE, tag=Call.ANY_TAG)
        nodes.run()
        assert nodes.completion(2).status == Status.SUCCESS
    got = [set(nodes.array(2, 8192 * number, count=600, dtype=np.int32).tolist()) for number in range(2)]
    assert sorted(map(tuple, got)) == [(0,), (1,)]


def ask(nodes, number, *fields):
    tag, word = Probe(0, *fields).words()
    nodes.write(number, PROBE_TAG=tag, PROBE=word)
    words = tuple(nodes.read(number, f"PROBE_{k}") for k in range(3))
    assert words[0] & Probed.IS_DONE
    return Probed.from_words(words)


def test_a_probe_finds_the_oldest_message_and_leaves_it():
    nodes = Nodes(3)
    assert ask(nodes, 2) is None
    for source, tag, count in ((1, 7, 700), (1, 8, 3), (0, 8, 0)):
        nodes.array(source, 0, values(tag, 700, ElementType.FLOAT32))
        nodes.call(source, SEND, count, element=ElementType.FLOAT32, operand_0=BASE, peer=2, tag=tag,
                   compression=CallFlag.WIRE if tag == 7 else 0)
        nodes.run()
    nodes.call(0, SEND, 1, scenario=41, operand_0=BASE, peer=2, tag=9)  # of a collective: not meant
    nodes.run()
    first, second, other = (Probed(1, ElementType.FLOAT32, True, 7, 1400), Probed(1, ElementType.FLOAT32, False, 8, 12),
                            Probed(0, ElementType.FLOAT32, False, 8, 0))
    assert [ask(nodes, 2, *fields) for fields in ((), (1,), (1, 8), (None, 7), (None, 8), (0, 7), (2,), (None, 9))] == [
        other, first, second, first, other, None, None, None]
    nodes.call(2, RECEIVE, 700, element=ElementType.FLOAT32, result=BASE, peer=1, tag=7, compression=CallFlag.WIRE)
    nodes.run()
    assert (nodes.completion(2).tag, ask(nodes, 2, 1)) == (7, second)


def test_probes_are_words_and_back():
    for probe in (Probe(0), Probe(7, 15), Probe(3, 0, 0), Probe(5, None, 0xFFFFFFFE)):
        assert Probe.from_words(probe.words()) == probe
    found = Probed(15, 4, True, 0xFFFFFFFF, 1 << 31)
    assert Probed.from_words(found.words()) == found
    assert Probed.from_words((Probed.IS_DONE | 5, 1, 2)) is None


def test_a_sender_waits_for_credits_and_nothing_is_lost():
    nodes = Nodes(2, credits=2, slots=16)
    nodes.array(0, 0, np.arange(10_000, dtype=np.int32))
    nodes.call(0, SEND, 10_000, operand_0=BASE, peer=1)
    nodes.run()
    assert nodes.read(0, "COMPLETIONS") == 0
    assert nodes.count_of(0, Counter.PACKETS_SENT) == 2
    nodes.call(1, RECEIVE, 10_000, result=BASE, peer=0)
    nodes.run()
    assert nodes.completion(0).status == nodes.completion(1).status == Status.SUCCESS
    assert np.array_equal(nodes.array(1, 0, count=10_000, dtype=np.int32), np.arange(10_000))
    assert nodes.count_of(1, Counter.NO_BUFFER) == 0
    # One packet of credit for each: the threshold of two is one.
    assert nodes.count_of(1, Counter.CREDIT_PACKETS) == 40


def test_a_long_message_asks_and_no_other_answer_lets_it_go():
    nodes = Nodes(3, credits=8)
    nodes.open(0, 0, [0, 1, 2], 8 | 2 << 8)
    nodes.array(0, 0, np.arange(600, dtype=np.int32))
    nodes.call(0, SEND, 512, operand_0=BASE, peer=1, tag=1)  # of two packets
    nodes.call(0, SEND, 513, operand_0=BASE, peer=1, tag=2)
    nodes.run()
    assert nodes.completion(0).tag == 0 and nodes.read(0, "COMPLETIONS") == 0
    assert nodes.count_of(0, Counter.PACKETS_SENT) == 3
    assert nodes.count_of(1, Counter.CLEARS) == 0
    engine = nodes.fabric.nodes[0].engine
    asking, = [move for context in engine._running() for move in context.moves]
    right = Header(PacketType.CLEAR_TO_SEND, source=1, handle=asking.place)
    for wrong in (right._replace(source=2), right._replace(communicator=1), right._replace(handle=asking.place ^ 1)):
        engine._clear(wrong)
        assert asking.waits_clear, wrong
        nodes.run()
        assert nodes.count_of(0, Counter.PACKETS_SENT) == 3, wrong
    nodes.call(1, RECEIVE, 600, result=BASE, peer=0, tag=2)
    nodes.run()
    assert nodes.completion(0).status == Status.SUCCESS and nodes.completion(1).bytes == 4 * 513
    assert np.array_equal(nodes.array(1, 0, count=513, dtype=np.int32), np.arange(513))
    assert nodes.count_of(1, Counter.CLEARS) == 1 and nodes.count_of(0, Counter.BYTES_SENT) == 4 * (512 + 513)
    # Neither a collective nor what a kernel's stream gets asks.
    nodes.call(0, SEND, 600, scenario=41, operand_0=BASE, peer=1)
    nodes.call(0, SEND | MoveControl(put=True).to_int(), 600, operand_0=BASE, peer=1)
    nodes.run()
    assert [nodes.completion(0).status for _ in range(2)] == [Status.SUCCESS] * 2


def test_floats_travel_compressed_and_are_added_at_full_width():
    nodes = Nodes(2)
    there, here = values(1, 1000, ElementType.FLOAT32), values(2, 1000, ElementType.FLOAT32)
    nodes.array(0, 0, there)
    nodes.array(1, 0, here)
    common = {"element": ElementType.FLOAT32, "compression": CallFlag.WIRE, "operand_0": BASE}
    nodes.call(0, SEND, 1000, peer=1, **common)
    nodes.call(1, REDUCE, 1000, peer=0, result=BASE + 8192, **common)
    nodes.run()
    assert nodes.completion(1).status == Status.SUCCESS
    assert np.array_equal(nodes.array(1, 8192, count=1000, dtype=np.float32), expand(compress(there)) + here)
    assert nodes.count_of(0, Counter.BYTES_SENT) == 2000


def test_a_wait_that_is_too_long_fails_its_call_and_says_why():
    nodes = Nodes(3, timeout=5000)
    nodes.call(0, RECEIVE, 10, result=BASE, peer=2, number_of_call=5)
    nodes.run()
    ended = nodes.completion(0)
    assert (ended.status, ended.cause, ended.node) == (Status.TIMEOUT, Cause.PACKET, 2)
    assert 5000 < ended.cycles < 5200
    nodes.call(0, COPY, 1, operand_0=BASE, result=BASE)
    nodes.run()
    assert nodes.completion(0).status == Status.COMMUNICATOR_BROKEN


def test_a_wait_for_credit_fails_too():
    nodes = Nodes(2, timeout=5000, credits=1)
    nodes.call(0, SEND, 1000, operand_0=BASE, peer=1)
    nodes.run()
    ended = nodes.completion(0)
    assert (ended.status, ended.cause, ended.node) == (Status.TIMEOUT, Cause.CREDIT, 1)


def test_a_broken_communicator_works_again_when_it_is_written_anew():
    nodes = Nodes(2, timeout=5000)
    nodes.call(1, RECEIVE, 10, result=BASE, peer=0)
    nodes.call(0, SEND, 10, operand_0=BASE, peer=1, tag=99)  # nobody waits for it
    nodes.run()
    assert nodes.completion(1).status == Status.TIMEOUT
    assert nodes.completion(0).status == Status.SUCCESS
    for number in (0, 1):
        nodes.open(number, 0, [0, 1], 8)
    nodes.array(0, 0, np.arange(10, dtype=np.int32))
    nodes.call(0, SEND, 10, operand_0=BASE, peer=1)
    nodes.call(1, RECEIVE, 10, result=BASE, peer=0)
    nodes.run()
    assert nodes.completion(0).status == nodes.completion(1).status == Status.SUCCESS
    assert nodes.fabric.nodes[1].engine.receiver.free_slots == 64


def test_a_call_is_aborted():
    nodes = Nodes(2)
    nodes.call(0, RECEIVE, 10, result=BASE, peer=1)
    nodes.run(1000)
    nodes.write(0, ABORT=RECEIVE)
    nodes.run(1000)
    assert nodes.completion(0).status == Status.ABORTED


@pytest.mark.parametrize(("fields", "status"), [
    ({"scenario": 99}, Status.NO_SUCH_SCENARIO),
    ({"communicator": 3}, Status.NO_SUCH_COMMUNICATOR),
    ({"communicator": 8}, Status.NO_SUCH_COMMUNICATOR),
    ({"peer": 2}, Status.BAD_PEER),
    ({"element": 5}, Status.BAD_TYPE),
    ({"function": 3}, Status.BAD_TYPE),
    ({"compression": CallFlag.WIRE}, Status.BAD_TYPE),
    ({"compression": CallFlag.RESULT}, Status.BAD_FLAGS),
    ({"streams": 4}, Status.BAD_FLAGS),
    ({"operand_0": BASE - 4096}, Status.READ_ERROR),
])
def test_a_bad_call_ends_with_its_status(fields, status):
    nodes = Nodes(2)
    nodes.call(0, SEND, 10, **{"peer": 1, "operand_0": BASE, **fields})
    nodes.run()
    assert nodes.completion(0).status == status


def test_a_result_outside_memory_is_a_write_error():
    nodes = Nodes(1)
    nodes.call(0, COPY, 10, operand_0=BASE, result=BASE - 8)
    nodes.run()
    assert nodes.completion(0).status == Status.WRITE_ERROR


def test_a_message_longer_than_its_receive_is_an_error():
    nodes = Nodes(2)
    nodes.call(0, SEND, 11, operand_0=BASE, peer=1)
    nodes.call(1, RECEIVE, 10, result=BASE, peer=0)
    nodes.run()
    ended = nodes.completion(1)
    assert (ended.status, ended.node) == (Status.RECEIVE_SIZE, 0)


def test_a_shorter_message_is_received_and_its_size_told():
    nodes = Nodes(2)
    nodes.array(0, 0, np.arange(300, dtype=np.int32))
    nodes.call(0, SEND, 300, operand_0=BASE, peer=1)
    nodes.call(1, RECEIVE, 1000, result=BASE, peer=0)
    nodes.run()
    ended = nodes.completion(1)
    assert (ended.status, ended.bytes) == (Status.SUCCESS, 1200)
    assert np.array_equal(nodes.array(1, 0, count=300, dtype=np.int32), np.arange(300))


def test_bad_packets_are_dropped_and_counted():
    nodes = Nodes(2)
    engine = nodes.fabric.nodes[0].engine
    good = Header(0, HeaderFlag.FIRST | HeaderFlag.LAST, destination=0, source=1, length=4)
    cases = {
        Counter.BAD_HEADER: [b"", b"\0" * 32, good._replace(type=5).to_bytes(),
                             good._replace(destination=1).to_bytes(), good.to_bytes()[:31]],
        Counter.BAD_SEQUENCE: [good._replace(sequence=9).to_bytes() + b"1234"],
        Counter.NO_COMMUNICATOR: [good._replace(communicator=5).to_bytes() + b"1234"],
        Counter.BAD_LENGTH: [good._replace(sequence=1).to_bytes() + b"123"],
    }
    for counter, packets in cases.items():
        for packet in packets:
            engine.arrive(packet)
        assert nodes.count_of(0, counter) == len(packets)
    for sequence in range(2, 12):
        engine.arrive(good._replace(sequence=sequence, tag=sequence).to_bytes() + b"1234")
    assert nodes.count_of(0, Counter.NO_BUFFER) == 3  # eight credits; one was used by the short packet


def test_calls_are_held_until_their_completion_is_popped():
    nodes = Nodes(1)
    assert nodes.read(0, "CALL_SPACE") == 16
    for number in range(16):
        nodes.call(0, COPY, 1, operand_0=BASE, result=BASE + 64, number_of_call=number)
    assert nodes.read(0, "CALL_SPACE") == 0
    nodes.run()
    assert nodes.read(0, "CALL_SPACE") == 0
    assert nodes.fabric.nodes[0].irq
    assert sorted(nodes.completion(0).id >> 9 for _ in range(16)) == list(range(16))
    assert nodes.read(0, "CALL_SPACE") == 16


@pytest.mark.parametrize(("parameters", "said"), [
    ({"width": 12}, "width"), ({"segment": 100}, "segment"), ({"slots": 512}, "slots"),
    ({"link_latency": 0}, "latency"),
])
def test_parameters_are_checked(parameters, said):
    with pytest.raises(ValueError, match=said):
        Nodes(1, **parameters)
