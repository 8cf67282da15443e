# SPDX-License-Identifier: Apache-2.0
"""Random programs of ranks, carried out through this driver and through mpi4py by the same code.

A program is plain data: a list of steps, and a step a list of operations that are under way at the same time, on the
communicator of all ranks or on a part of it.
"""

import random

import numpy as np

__all__ = ["Library", "perform", "random_program"]

COLLECTIVES = ("Allreduce", "Reduce", "Reduce_scatter_block", "Allgather", "Gather", "Scatter", "Alltoall", "Bcast",
               "Barrier", "ring")
_REDUCING = ("Allreduce", "Reduce", "Reduce_scatter_block")
#: MPI has no 16-bit floats; they can be carried all the same.
_TYPES = ("int32", "int64", "float32", "float64", "float16")


class Library:
    """What a library of collectives calls its constants, and how it wants arrays."""

    def __init__(self, constants, wrap=lambda array: array, idle=lambda comm, cycles: None):
        self.constants, self.wrap, self.idle = constants, wrap, idle


def random_program(seed, size, steps=6, most=700):
    """A program for ``size`` ranks; the same for the same arguments."""
    draw = random.Random(f"{seed} {size} {steps} {most}")
    colors = [draw.randrange(2) for _ in range(size)]
    keys = [draw.randrange(100) for _ in range(size)]
    parts = {color: colors.count(color) for color in set(colors)}
    program = []
    for number in range(steps):
        step = []
        for is_part in draw.choice([(False,), (True,), (False, True)]):
            name = draw.choice(COLLECTIVES)
            dtype = draw.choice(_TYPES[:4] if name in _REDUCING else _TYPES)
            step.append({
                "name": name, "is_part": is_part, "dtype": dtype, "count": _count(draw, most),
                "op": draw.choice(["SUM", "MAX", "MIN"]), "in_place": draw.random() < 0.3, "tag": draw.randrange(1000),
                "root": draw.randrange(min(parts.values()) if is_part else size), "seed": 1000 * number + len(step),
                "distance": draw.randrange(1, 20), "skew": [draw.choice([0, 0, 0, 50, 3000]) for _ in range(size)]})
        program.append(step)
    return {"colors": colors, "keys": keys, "steps": program}


def _count(draw, most):
    return draw.choice([0, 1, 2, 3, 5, draw.randrange(most), draw.randrange(most), most])


def _data(operation, rank, count):
    """A rank's operand: whole numbers, of which sums are exact in any order."""
    draw = np.random.default_rng([operation["seed"], rank, operation["is_part"]])
    most = 64 if operation["dtype"] == "float16" else 1 << 20
    return draw.integers(-most, most, count).astype(operation["dtype"])


def perform(comm, program, library):
    """Carry out a program at one rank: the arrays that it received, in order."""
    part = comm.Split(program["colors"][comm.rank], program["keys"][comm.rank])
    results = []
    for step in program["steps"]:
        under_way, operands = [], []
        for operation in step:
            library.idle(comm, operation["skew"][comm.rank])
            where = part if operation["is_part"] else comm
            under_way += _begin(where, operation, library, results, operands)
        for request in reversed(under_way):
            request.Wait()
    part.Free()
    return results


def _begin(comm, operation, library, results, operands):
    """Begin an operation: its requests. The array that it fills is put into ``results``.

    What it sends is put into ``operands``, so that it lives as long as the operation: mpi4py does not see to that in
    all cases.
    """
    name, count, rank, size = operation["name"], operation["count"], comm.rank, comm.size
    root = operation["root"] % size
    wrap = library.wrap
    reduction = (getattr(library.constants, operation["op"]),)
    in_place = library.constants.IN_PLACE

    def empty(elements):
        result = np.full(elements, -1, operation["dtype"])
        results.append(result)
        return result

    def filled(content):
        result = content.copy()
        results.append(result)
        return result

    own = _data(operation, rank, count)
    whole = _data(operation, rank, count * size)
    operands += [own, whole]
    match name:
        case "Barrier":
            return [comm.Ibarrier()]
        case "ring":
            target, source = (rank + operation["distance"]) % size, (rank - operation["distance"]) % size
            result = empty(count + 5)  # a receive may be longer than its message
            return [comm.Irecv(wrap(result), source, operation["tag"]), comm.Isend(wrap(own), target, operation["tag"])]
        case "Bcast":
            result = filled(own) if rank == root else empty(count)
            return [comm.Ibcast(wrap(result), root)]
        case "Allreduce":
            if operation["in_place"]:
                return [comm.Iallreduce(in_place, wrap(filled(own)), *reduction)]
            return [comm.Iallreduce(wrap(own), wrap(empty(count)), *reduction)]
        case "Reduce":
            if rank != root:
                return [comm.Ireduce(wrap(own), None, *reduction, root)]
            if operation["in_place"]:
                return [comm.Ireduce(in_place, wrap(filled(own)), *reduction, root)]
            return [comm.Ireduce(wrap(own), wrap(empty(count)), *reduction, root)]
        case "Reduce_scatter_block":
            return [comm.Ireduce_scatter_block(wrap(whole), wrap(empty(count)), *reduction)]
        case "Allgather" | "Gather":
            everything = None
            if name == "Allgather" or rank == root:
                everything = empty(count * size)
                if operation["in_place"]:
                    everything[rank * count:(rank + 1) * count] = own
                    own = None
            send = in_place if own is None else wrap(own)
            receive = None if everything is None else wrap(everything)
            return [comm.Iallgather(send, receive) if name == "Allgather" else comm.Igather(send, receive, root)]
        case "Alltoall":
            if operation["in_place"]:
                return [comm.Ialltoall(in_place, wrap(filled(whole)))]
            return [comm.Ialltoall(wrap(whole), wrap(empty(count * size)))]
        case "Scatter":
            if rank != root:
                return [comm.Iscatter(None, wrap(empty(count)), root)]
            if operation["in_place"]:
                return [comm.Iscatter(wrap(whole), in_place, root)]
            return [comm.Iscatter(wrap(whole), wrap(empty(count)), root)]
    raise ValueError(f"name must be one of {COLLECTIVES}, not {name!r}")
