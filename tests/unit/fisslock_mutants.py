# SPDX-License-Identifier: Apache-2.0
"""Lock switches and hosts that leave one of the hardened protocol's rules out, for tests that must find them."""

import dataclasses
from contextlib import contextmanager

from rackgate.fisslock.abi import Flag, Message, State, Type
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


def _end(now, action, *, agent=True, epoch=True, count=True, renewal_counts=True, renewal_rises=True, opens=None):
    """TRANSFER, FREE and RENEW with fewer checks."""
    true = Const(1, 1)
    transfer, renew = lock.type == Type.TRANSFER, lock.type == Type.RENEW
    own = (now.state != State.FREE) & ((now.agent.resize(8) == lock.agent) if agent else true) & (
        (now.epoch.resize(32) == lock.epoch) if epoch else true)
    ends = own & ((now.count.resize(8) == lock.count) if count else true)
    if not renewal_counts:
        ends = ends | own & renew
    passes = ends & transfer
    risen = now.epoch + (ends & (transfer | renew) if renewal_rises else passes).resize(now.epoch.width)
    asked = mux(lock.exclusive, Const(State.EXCLUSIVE, 2),
                mux(lock.writer, Const(State.SHARED_WRITER, 2), State.SHARED))
    opened = (lock.cancel if opens is None else Const(opens, 1)) & (now.state == State.SHARED_WRITER)
    return _changed(action, {
        "state": mux(ends, mux(transfer, asked, mux(renew, mux(opened, Const(State.SHARED, 2), now.state), State.FREE)),
                     now.state),
        "agent": mux(ends & ~renew, mux(transfer, lock.machine_id[0:now.agent.width], 0), now.agent),
        "count": mux(ends, 0, now.count), "epoch": risen,
    }, {"grant": passes, "rejected": own & ~ends, "epoch": risen.resize(32)})


def _release(now, action, *, earlier=True, number=True):
    """RELEASE of an epoch that was renewed: not passed on, or with a number that is of that epoch."""
    known = lock.cancel | (now.epoch.resize(32) == lock.epoch)
    return _changed(action, out={**({} if earlier else {"tell": (now.state != State.FREE) & known}),
                                 **({} if number else {"count": lock.count})})


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
    "renews at any count": ("end", {"renewal_counts": False}),
    "leaves the epoch at a renewal": ("end", {"renewal_rises": False}),
    "lets readers in at every renewal": ("end", {"opens": 1}),
    "keeps the RELEASE of an earlier epoch": ("release", {"earlier": False}),
    "tells the number of an earlier epoch": ("release", {"number": False}),
}


def switch(name, word):
    """The mutant of a pipeline for one lock."""
    base = pipeline(1, word)
    access = base.ingress[0]
    kind, options = SWITCHES[name]
    made = {"end": _end, "acquire": _acquire, "release": _release}[kind]
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


class _WithRecords(HardenedParticipant):
    """Has records of another class."""

    RECORD = Record

    def record(self, lock):
        found = super().record(lock)
        found.__class__ = self.RECORD
        return found

    def thaw(self, value):
        super().thaw(value)
        for record in self.records.values():
            record.__class__ = self.RECORD


@contextmanager
def _pretending(record, **values):
    """For a while ``record`` has these values."""
    kept = {name: getattr(record, name) for name in values}
    for name, value in values.items():
        setattr(record, name, value)
    yield
    for name, value in kept.items():
        setattr(record, name, value)


class _HastyRecord(Record):
    __slots__ = ()

    def may_renew(self, most):
        with _pretending(self, seen=(1 << self.known) - 1):
            return super().may_renew(most)


class _PushingRecord(Record):
    __slots__ = ()

    def turned_away(self, message):
        self.shut = self.shut or not message.flags & Flag.EXCLUSIVE

    def may_renew(self, most):
        with _pretending(self, queue=[]):
            return super().may_renew(most)


class _ForgettingRecord(Record):
    __slots__ = ()

    def renew(self, epoch):
        super().renew(epoch)
        self.holders = {}


class _Hasty(_WithRecords):
    """Renews an epoch though a grant is not accounted for."""

    RECORD = _HastyRecord


class _Pushing(_WithRecords):
    """Renews an epoch though a writer waits."""

    RECORD = _PushingRecord


class _Forgetting(_WithRecords):
    """Forgets who holds when it renews an epoch."""

    RECORD = _ForgettingRecord


class _Impatient(HardenedParticipant):
    """Takes numbers of the next epoch for those of this one."""

    @staticmethod
    def _is_ahead(record, message):
        return False


class _Terse(HardenedParticipant):
    """Does not report holders of other epochs."""

    def _report(self, record, message):
        held = {}
        if record is not None:
            held = record.held
            record.held = {task: item for task, item in held.items() if item.epoch == message.epoch}
        super()._report(record, message)
        if record is not None:
            record.held = held


class _Numbering(HardenedParticipant):
    """Reports numbers of other epochs as if they were of this one."""

    def _report(self, record, message):
        held = {}
        if record is not None:
            held = record.held
            record.held = {task: item._replace(epoch=message.epoch) for task, item in held.items()}
        super()._report(record, message)
        if record is not None:
            record.held = held


HOSTS = {
    "takes grants for any attempt": _AnyAttempt,
    "takes grants of an epoch given up": _NeverVoid,
    "frees once": _FreesOnce,
    "never adopts": _NeverAdopts,
    "never polls": _NeverPolls,
    "asks once": _AsksOnce,
    "takes a grant that it has declared void": _DeafToVoid,
    "renews though a grant is not accounted for": _Hasty,
    "renews though a writer waits": _Pushing,
    "forgets holders when it renews": _Forgetting,
    "takes numbers of the next epoch for those of this one": _Impatient,
    "does not report holders of other epochs": _Terse,
    "reports numbers of other epochs": _Numbering,
}
