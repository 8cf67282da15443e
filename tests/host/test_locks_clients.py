# SPDX-License-Identifier: Apache-2.0
"""Clients of a lock service over real UDP sockets: asyncio, threads, and what goes wrong."""

import asyncio
import contextlib
import re
import threading
import time
from pathlib import Path

import pytest

from rackgate.fisslock.abi import WORD_FORMATS, Mode
from rackgate_host.device import open_device
from rackgate_host.errors import DeviceFault, UsageError
from rackgate_host.locks import Lock, LockClient, LockTimeout, NoService, ThreadClient
from rackgate_host.locks.control import decode, encode, parse_address, peers_of, show_address
from rackgate_host.locks.keys import lock_of
from rackgate_host.locks.protocols import PROTOCOLS
from rackgate_host.locks.server import Service
from rackgate_host.switch import Switch

PATIENCE = 30


@contextlib.asynccontextmanager
async def serving(protocol="fisslock", **options):
    """A service on the model of its switch: the service and its address."""
    wanted = PROTOCOLS[protocol]
    with contextlib.ExitStack() as stack:
        switch = Switch(stack.enter_context(open_device(f"model:{wanted.device}"))) if wanted.device else None
        service = Service(wanted, switch, **options)
        address = show_address(await service.start(("127.0.0.1", 0)))
        run = asyncio.ensure_future(service.run())
        try:
            yield service, address
        finally:
            run.cancel()
            await service.stop()


def running(work):
    """Run a coroutine, at most two minutes."""
    return asyncio.run(asyncio.wait_for(work, 120))


async def take_turns(clients, workers, rounds):
    """``workers`` tasks of each client lock a key ``rounds`` times each: the tokens, in order. Never two at a time."""
    inside, most, tokens = 0, 0, []

    async def worker(client):
        nonlocal inside, most
        for _ in range(rounds):
            async with client.lock("key", timeout=PATIENCE) as grant:
                inside += 1
                most = max(most, inside)
                await asyncio.sleep(0)
                inside -= 1
                tokens.append(grant.fencing_token)

    await asyncio.gather(*(worker(client) for client in clients for _ in range(workers)))
    assert most == 1 and len(tokens) == len(clients) * workers * rounds
    return tokens


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_clients_exclude_each_other(protocol):
    async def work():
        async with serving(protocol) as (service, address):
            async with await LockClient.connect(address) as one, await LockClient.connect(address) as other:
                tokens = await take_turns((one, other), 3, 10)
                if protocol == "fisslock":
                    assert tokens == sorted(set(tokens)), "fencing tokens must grow"
                assert one.grants == other.grants == ()
            assert service.counts.joined - service.counts.left == PROTOCOLS[protocol].has_server
    running(work())


def test_readers_share_and_a_writer_waits():
    async def work():
        async with serving() as (_, address), await LockClient.connect(address) as one:
            async with await LockClient.connect(address) as other:
                async with one.lock("key", "shared") as first, other.lock("key", Mode.SHARED, PATIENCE) as second:
                    assert first.fencing_token == second.fencing_token
                    with pytest.raises(LockTimeout, match="no exclusive lock of 'key'"):
                        await other.acquire("key", timeout=0.05)
                    assert await other.try_lock("key") is None
                grant = await other.acquire("key", timeout=PATIENCE)
                assert grant.fencing_token > first.fencing_token
                assert other.grants == (grant,)
                other.release(grant)
                with pytest.raises(UsageError, match="not held on this account any more"):
                    other.release(grant)
    running(work())


def test_a_deadlock_ends_by_its_timeout_and_says_so():
    async def work():
        async with serving() as (_, address), await LockClient.connect(address) as client:
            async with client.lock("left"):
                task = asyncio.ensure_future(client.acquire("right"))
                grant = await task
                with pytest.raises(LockTimeout) as caught:
                    await client.acquire("left", timeout=0.05)
                text = str(caught.value)
                assert text.startswith("no exclusive lock of 'left' (lock ") and "within 0.05 s" in text
                assert "this client holds 'left' (exclusive), 'right' (exclusive)" in text
                client.release(grant)
            async with client.lock("left", timeout=PATIENCE):
                pass
    running(work())


def test_keys_that_share_a_lock_are_told_of():
    async def work():
        async with serving() as (_, address), await LockClient.connect(address) as client:
            twin = next(f"k{number}" for number in range(10**7) if lock_of(f"k{number}", client.locks) == 7)
            async with client.lock(7):
                with pytest.raises(LockTimeout, match="7 has the same lock number"):
                    await client.acquire(twin, timeout=0.05)
    running(work())


def test_a_cancelled_task_holds_nothing():
    async def work():
        async with serving() as (_, address), await LockClient.connect(address) as one:
            async with await LockClient.connect(address) as other:
                async with one.lock("key"):
                    waiting = [asyncio.ensure_future(other.acquire("key")) for _ in range(3)]
                    await asyncio.sleep(0.05)
                    for task in waiting:
                        task.cancel()
                    await asyncio.wait(waiting)
                    assert all(task.cancelled() for task in waiting) and other.node.waiting == 0
                async with one.lock("key", timeout=PATIENCE), asyncio.timeout(PATIENCE):
                    assert not other.grants
                for _ in range(20):  # cancelled just when it is granted
                    task = asyncio.ensure_future(other.acquire("key"))
                    while not other.node.held and not task.done():
                        await asyncio.sleep(0)
                    task.cancel()
                    with contextlib.suppress(asyncio.CancelledError):
                        other.release(await task)
                    assert not other.node.held
    running(work())


def test_what_makes_no_sense():
    async def work():
        async with serving() as (_, address), await LockClient.connect(address) as client:
            for arguments, message in (
                    (("k", "both"), "mode must be shared or exclusive, not 'both'"),
                    ((-1,), "key must be 0 to 2\\*\\*64 - 1, not -1"),
                    ((1 << 64,), "key must be 0 to 2\\*\\*64 - 1"),
                    ((1.5,), "a key must be a number of 64 bits, a string or bytes"),
                    (("k", "shared", 0), "timeout must be positive, not 0")):
                with pytest.raises(UsageError, match=message):
                    await client.acquire(*arguments)
            with pytest.raises(UsageError, match="timeout must be positive, not -1"):
                await client.try_lock("k", timeout=-1)
        with pytest.raises(UsageError, match="this client is closed"):
            await client.acquire("k")
    running(work())


def test_netlock_cannot_try():
    async def work():
        async with serving("netlock") as (_, address), await LockClient.connect(address) as client:
            with pytest.raises(UsageError, match="without waiting"):
                await client.try_lock("k")
    running(work())


def test_keys():
    assert [lock_of(key, 100) for key in (0, 99)] == [0, 99]
    # BLAKE2b-8 of "abc" is d8bb14d833d59559; as a little-endian number modulo 100.
    assert lock_of("abc", 100) == lock_of(b"abc", 100) == 0x5995D533D814BBD8 % 100
    assert lock_of(0x0000636261, 100) == lock_of(b"abc\0\0\0\0\0", 100)
    assert len({lock_of(f"key {number}", 1 << 32) for number in range(1000)}) == 1000


# Joining and leaving


def test_hosts_join_and_leave():
    async def work():
        lines = []
        async with serving(most_hosts=2) as (service, address):
            service.report = lines.append
            one = await LockClient.connect(address)
            other = await LockClient.connect(address, host=2)
            assert (one.host, other.host) == (1, 2)
            assert one.node.participant.hosts == other.node.participant.hosts == {1, 2}
            for host, why in ((None, "all 2 numbers are taken"), (2, "number 2 is taken"), (9, "numbers are 1 to 2")):
                with pytest.raises(NoService, match=why):
                    await LockClient.connect(address, host=host)
            await other.close()
            async with await LockClient.connect(address) as again:
                assert again.host == 2
                assert again.node.participant.next_attempt > 1 << 20, "a second life has attempts of its own"
            assert await one.close() and await one.close()
            assert service.statistics()["hosts"] == []
        assert [line.split(" from")[0] for line in lines if "refused" not in line] == [
            "host 1 joined", "host 2 joined", "host 2 left", "host 2 joined", "host 2 left", "host 1 left"]
        assert sum("refused" in line for line in lines) == 3
    running(work())


def test_a_host_that_does_not_answer_keeps_newcomers_out():
    async def work():
        async with serving() as (_, address):
            one = await LockClient.connect(address)
            for transport in one.node.link._sockets:
                transport.abort()
            await asyncio.sleep(0)
            with pytest.raises(NoService, match="hosts 1 do not answer, and may hold locks"):
                await LockClient.connect(address, timeout=PATIENCE)
            one.node.link._sockets.clear()
            await one.close(timeout=0.1)
    running(work())


def test_nobody_there():
    async def work():
        with pytest.raises(NoService, match="no lock service answers at 127.0.0.1:9 within 0.3 s: start one"):
            await LockClient.connect("127.0.0.1:9", timeout=0.3)
        for address in ("127.0.0.1", ":1", "x:y", "127.0.0.1:65536", "::1:20000"):
            with pytest.raises(UsageError, match="must look like 127.0.0.1:20000"):
                await LockClient.connect(address)
        with pytest.raises(UsageError, match="host must be at least 1, not 0"):
            await LockClient.connect("127.0.0.1:9", host=0)
        with pytest.raises(UsageError, match="timeout must be positive"):
            await LockClient.connect("127.0.0.1:9", timeout=0)
    running(work())


def test_strangers_and_nonsense_are_counted_and_do_no_harm():
    async def work():
        async with serving() as (service, address), await LockClient.connect(address) as client:
            loop = asyncio.get_running_loop()
            stranger, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol,
                                                              remote_addr=parse_address(address))
            errors = []
            loop.set_exception_handler(lambda loop, context: errors.append(context))
            for content in (b"", b"\2\1", bytes(24), encode("hello"), encode("hello", id=3, ports=[1]),
                            encode("hello", id="x", ports=["a", "b"]), encode("bye", host=1, id="x"),
                            encode("known", host=1, version=99), encode("known", host=[1]), encode("what"),
                            encode("bye", host={}), encode("hello", id="y", ports=[1, 99999], host="x"),
                            b"rackgate-locks-1 {", b"\xff" * 1400):
                stranger.sendto(content)
            client.node.link.send(b"\2\1\0", None, False)  # a known host, a packet that is none
            mine = client.node.link._sockets[0].get_extra_info("sockname")
            for content in (encode("hosts", version=99), encode("hosts", version="x", hosts={}), encode("hosts"),
                            encode("hosts", version=99, hosts={"a": 1}), encode("welcome"), b"\2"):
                service._transport.sendto(content, mine)
            other, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, remote_addr=mine)
            other.sendto(encode("hosts", version=99, hosts={"9": ["127.0.0.1", 1, 2]}))
            async with client.lock("k", timeout=PATIENCE):
                pass
            assert service.counts.strangers >= 4
            assert service.statistics()["switch"]["rejected_truncated"] == 1
            assert service.statistics()["hosts"] == [1] and not errors
            assert client.node.participant.malformed == 1 and client.node.link.peers.keys() == {1}
            stranger.close()
            other.close()
    running(work())


def test_a_device_that_fails_ends_the_service():
    async def work():
        wanted = PROTOCOLS["fisslock"]
        with open_device("model:fisslock") as device:
            service = Service(wanted, Switch(device))
            address = show_address(await service.start(("127.0.0.1", 0)))
            run = asyncio.ensure_future(service.run())
            client = await LockClient.connect(address)

            def fail(*arguments):
                raise DeviceFault("the switch is on fire")

            device.push = fail
            with pytest.raises(LockTimeout):
                await client.acquire("k", timeout=0.2)
            with pytest.raises(DeviceFault, match="on fire"):
                await run
            await client.close(timeout=0.1)
            await service.stop()
    running(work())


def test_services_that_cannot_be():
    with open_device("model:netlock") as device:
        switch = Switch(device)
        for protocol, made, options, message in (
                ("fisslock", switch, {}, "protocol fisslock needs fisslock switch, not netlock"),
                ("fisslock", None, {}, "protocol fisslock needs fisslock switch, not none"),
                ("server", switch, {}, "protocol server needs no switch, not netlock"),
                ("netlock", switch, {"most_hosts": 256}, "1 to 255 hosts, not 256"),
                ("netlock", switch, {"placed": 1025}, "placed must be 0 to 1024, .* not 1025")):
            with pytest.raises(UsageError, match=message):
                Service(PROTOCOLS[protocol], made, **options)


def test_an_address_that_is_taken():
    async def work():
        async with serving() as (_, address):
            with open_device("model:fisslock") as device:
                with pytest.raises(NoService, match="[Aa]ddress already in use"):
                    await Service(PROTOCOLS["fisslock"], Switch(device)).start(parse_address(address))
    running(work())


def test_control_messages():
    assert decode(encode("hello", host=3)) == {"op": "hello", "host": 3}
    for content in (b"", b"\2", b"rackgate-locks-1 []", b"rackgate-locks-1 {}", b'rackgate-locks-1 {"op":1}'):
        assert decode(content) is None
    assert peers_of({"3": ["127.0.0.1", 5, 6]})[3].port(True) == ("127.0.0.1", 6)
    for value in (None, {"3": 5}, {"3": ["x"]}, {"x": ["127.0.0.1", 1, 2]}):
        with pytest.raises(ValueError):
            peers_of(value)


# Threads


@contextlib.contextmanager
def served_in_a_thread():
    """A service in a thread: its address."""
    address, ready, loop = [], threading.Event(), asyncio.new_event_loop()
    end = asyncio.Event()

    async def work():
        async with serving() as (_, where):
            address.append(where)
            ready.set()
            await end.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(work(),))
    thread.start()
    try:
        assert ready.wait(PATIENCE)
        yield address[0]
    finally:
        loop.call_soon_threadsafe(end.set)
        thread.join(PATIENCE)
        loop.close()


def test_threads():
    with served_in_a_thread() as address, ThreadClient(address) as client, ThreadClient(address) as other:
        counter, tokens = [0], []

        def work(one):
            lock = one.lock("counter")
            for _ in range(10):
                with lock as grant:
                    seen = counter[0]
                    time.sleep(0)
                    counter[0] = seen + 1
                    tokens.append(grant.fencing_token)

        threads = [threading.Thread(target=work, args=(one,)) for one in (client, other) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
        assert counter == [40] and tokens == sorted(set(tokens))


def test_the_habits_of_a_lock():
    with served_in_a_thread() as address, ThreadClient(address) as client, ThreadClient(address) as other:
        lock, theirs = client.lock("key"), other.lock("key")
        assert not lock.locked() and lock.acquire() is True and lock.locked()
        assert lock.fencing_token > 0
        assert theirs.acquire(blocking=False) is False
        assert theirs.acquire(timeout=0.05) is False
        assert theirs.acquire(timeout=0) is False and not theirs.locked()
        lock.release()
        for call, error in ((lock.release, "release unlocked lock"), (lambda: lock.fencing_token, "is not held")):
            with pytest.raises(RuntimeError, match=error):
                call()
        with pytest.raises(ValueError, match="non-blocking call"):
            lock.acquire(False, 1)
        with pytest.raises(ValueError, match="timeout must be positive, or -1"):
            lock.acquire(timeout=-2)
        assert theirs.acquire(timeout=PATIENCE)
        theirs.release()
        shared = Lock(client, "key", "shared")
        assert shared.acquire() and shared.acquire()
        shared.release()
        assert shared.locked() and not lock.acquire(blocking=False)
        shared.release()
        assert lock.acquire(blocking=False)
        lock.release()
    client.close()


def manuals_examples():
    text = (Path(__file__).parents[2] / "docs" / "locks.md").read_text()
    return re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def test_the_manuals_examples_run(capsys):
    asyncio_example, threads_example, store_example = manuals_examples()
    with served_in_a_thread() as address:
        for example in (asyncio_example, threads_example):
            assert "127.0.0.1:20000" in example
            exec(example.replace("127.0.0.1:20000", address), {})
    out = capsys.readouterr().out
    assert out.count("held, fencing token") == 2 and "no exclusive lock of 'orders/17'" in out
    exec(store_example, {})
    assert capsys.readouterr().out.splitlines() == ["3 has read before 4 wrote: the lock was lost",
                                                    "4 was followed by 6: the lock was lost"]


@pytest.mark.parametrize(("text", "late"), [
    ("w4 r6 r5 r6 w7", []), ("r2 r1 w3 w3 r4", []), ("w1048575 r0 r1 w2", []),
    ("w4 r3 r5", ["r3"]), ("r6 r5 w5 w7", ["w5"]), ("w4 w6 r5 w5", ["r5", "w5"]), ("w0 r1048575", ["r1048575"]),
])
def test_the_manuals_store_refuses_who_has_lost_the_lock(text, late):
    """``w4``: a write with token 4."""
    scope = {}
    exec(manuals_examples()[2], scope)
    assert scope["EPOCHS"] == 1 << WORD_FORMATS[36].epoch
    store, refused = scope["Store"](), []
    for word in text.split():
        try:
            store.read(int(word[1:])) if word[0] == "r" else store.write(int(word[1:]), None)
        except PermissionError:
            refused.append(word)
    assert refused == late


def test_a_thread_client_without_a_service():
    before = threading.active_count()
    with pytest.raises(NoService):
        ThreadClient("127.0.0.1:9", timeout=0.2)
    assert threading.active_count() == before
