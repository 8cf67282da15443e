# SPDX-License-Identifier: Apache-2.0
"""Lock switches and hosts that leave one of the hardened protocol's rules out, for tests that must find them."""

import dataclasses

from rackgate.fisslock.abi import Message, State, Type
from rackgate.fisslock.hardened import lock, pipeline
from rackgate.fisslock.participant import HardenedParticipant
from rackgate.fisslock.record import Record
from rackgate.pisa.declare import RegisterAction
from rackgate.pisa.expr import Const, mux

__all__ = ["HOSTS", "SWITCHES", "switch"]


def _changed(action, update=(), out=()):
    """The action with other values for some fields of the word, and for some assignments by their target's name."""
    new = dict(out)
    assigns = [dataclasses.replace(item, value=new.get(item.target.name, item.value)) for item in action.out]
    return RegisterAction(action.name, action.when, update={**action.update, **dict(update)}, out=assigns)


def _end(now, action, *, agent=True, epoch=True, count=True):
    """TRANSFER and FREE with fewer checks."""
    true = Const(1, 1)
    own = (now.state != State.FREE) & ((now.agent.resize(8) == lock.agent) if agent else true) & (
        (now.epoch.resize(32) == lock.epoch) if epoch else true)
    ends = own & ((now.count.resize(8) == lock.count) if count else true)
    passes = ends & (lock.type == Type.TRANSFER)
    risen = now.epoch + passes.resize(now.epoch.width)
    transfer = lock.type == Type.TRANSFER
    asked = mux(lock.exclusive, Const(State.EXCLUSIVE, 2),
                mux(lock.writer, Const(State.SHARED_WRITER, 2), State.SHARED))
    return _changed(action, {
        "state": mux(ends, mux(transfer, asked, State.FREE), now.state),
        "agent": mux(ends, mux(transfer, lock.machine_id[0:now.agent.width], 0), now.agent),
        "count": mux(ends, 0, now.count), "epoch": risen,
    }, {"grant": passes, "rejected": own & ~ends, "epoch": risen.resize(32)})


def _acquire(now, action, *, saturates=True, rises=True, retry=True, counts=True):
    free, true = now.state == State.FREE, Const(1, 1)
    joins = (now.state == State.SHARED) & ~lock.exclusive & (~lock.retry if retry else true) & (
        (now.count != (1 << now.count.width) - 1) if saturates else true)
    more = now.count + joins.resize(now.count.width) if counts else now.count
    risen = now.epoch + free.resize(now.epoch.width) if rises else now.epoch
    return _changed(action, {"count": more, "epoch": risen},
                    {"grant": free | joins, "joined": joins, "epoch": risen.resize(32),
                     "count": mux(joins, (now.count + 1).resize(8), 0)})


SWITCHES = {
    "believes FREE and TRANSFER of any epoch": ("end", {"epoch": False}),
    "believes FREE and TRANSFER of any host and epoch": ("end", {"epoch": False, "agent": False}),
    "believes any count": ("end", {"count": False}),
    "lets its count wrap": ("acquire", {"saturates": False}),
    "does not count": ("acquire", {"counts": False}),
    "leaves the epoch at a grant": ("acquire", {"rises": False}),
}


def switch(name, word):
    """The mutant of a pipeline for one lock."""
    base = pipeline(1, word)
    access = base.ingress[0]
    kind, options = SWITCHES[name]
    made = {"end": _end, "acquire": _acquire}[kind]
    actions = [made(access.register.word, action, **options) if action.name == kind else action
               for action in access.actions]
    return dataclasses.replace(base, ingress=(dataclasses.replace(access, actions=actions),))


class _AnyAttempt(HardenedParticipant):
    """Takes a grant for any attempt of the task."""

    def receive(self, message, to_client, now):
        content = Message.from_bytes(message)
        record = self.records.get(content.lock)
        request = record and record.pending.get(content.task_id)
        if request and content.type in (Type.GRANT_W_AGENT, Type.GRANT_WO_AGENT):
            message = content._replace(attempt=request.attempt).to_bytes()
        super().receive(message, to_client, now)


class _NeverVoid(HardenedParticipant):
    """Takes the grant of an epoch that it has given up."""

    def record(self, lock):
        found = super().record(lock)
        found.__class__ = _ForgetfulRecord
        return found


class _ForgetfulRecord(Record):
    __slots__ = ()

    def void(self, epoch, count, attempt):
        pass


class _FreesOnce(HardenedParticipant):
    """Does not send TRANSFER and FREE again."""

    def close_again(self, record, now):
        pass


class _NeverAdopts(HardenedParticipant):
    """Waits for a grant that was lost."""

    def adopt_late(self, record, now):
        pass


class _NeverPolls(HardenedParticipant):
    """Waits for a RELEASE that was lost."""

    def poll(self, record, now):
        pass


class _AsksOnce(HardenedParticipant):
    """Does not send ACQUIRE again."""

    def _ask_again(self, record, task, now):
        pass


class _DeafToVoid(HardenedParticipant):
    """Answers that it does not hold, and takes the grant all the same when it comes."""

    def _asked_who_holds(self, record, message, now):
        self._report(record, message)

    _HANDLERS = {**HardenedParticipant._HANDLERS, Type.QUERY: _asked_who_holds}


HOSTS = {
    "takes grants for any attempt": _AnyAttempt,
    "takes grants of an epoch given up": _NeverVoid,
    "frees once": _FreesOnce,
    "never adopts": _NeverAdopts,
    "never polls": _NeverPolls,
    "asks once": _AsksOnce,
    "takes a grant that it has declared void": _DeafToVoid,
}
