# SPDX-License-Identifier: Apache-2.0
"""Random programs under a real MPI: one run of mpiexec for all of them, remembered by its content.

As a script, run by mpiexec with a file: it replaces the programs there by their results.
"""

import hashlib
import importlib.metadata
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
RANKS = 16
_LIMIT = 400  # seconds


def results(programs):
    """What each program, a pair of size and program, gives at each of its ranks: lists of arrays.

    Raises RuntimeError with what mpiexec said, if it fails.
    """
    from rackgate.paths import cache_root

    text = json.dumps(programs, sort_keys=True)
    sources = b"".join((HERE / name).read_bytes() for name in ("collective_mpi.py", "collective_mixes.py"))
    versions = "".join(importlib.metadata.version(name) for name in ("mpi4py", "numpy", "openmpi"))
    digest = hashlib.sha256(text.encode() + sources + versions.encode()).hexdigest()[:24]
    kept = cache_root() / "mpi" / f"{digest}.pickle"
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        mine = kept.with_suffix(f".{os.getpid()}")
        mine.write_text(text)
        _run(mine)
        mine.replace(kept)
    return pickle.loads(kept.read_bytes())


def _run(file):
    """Replace the programs in a file by their results."""
    mpiexec = Path(sys.executable).parent / "mpiexec"
    # A test runs as whoever it is run by, on as many cores as there are, without a network.
    environment = {**os.environ, "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
                   "OMPI_MCA_btl": "self,sm", "OMPI_MCA_pml": "ob1", "OMPI_MCA_mpi_yield_when_idle": "1",
                   "OPENBLAS_NUM_THREADS": "1"}
    command = [mpiexec, "-n", str(RANKS), "--oversubscribe", "--bind-to", "none", sys.executable, __file__, file]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=environment,
                          timeout=_LIMIT)
    if done.returncode:
        raise RuntimeError(f"mpiexec failed with exit code {done.returncode}: {done.stderr[-2000:]}")


def main():
    """One rank of the run."""
    from collective_mixes import Library, perform
    from mpi4py import MPI

    def wrap(array):
        # The standard has no 16-bit floats: they travel as integers of that size.
        return [array.view(np.int16), MPI.SHORT] if array.dtype == np.float16 else array

    world = MPI.COMM_WORLD
    file = Path(sys.argv[1])
    programs = world.bcast(json.loads(file.read_text()) if world.rank == 0 else None)
    everything = []
    for size, program in programs:
        comm = world.Split(0 if world.rank < size else MPI.UNDEFINED, world.rank)
        if comm != MPI.COMM_NULL:
            everything.append(comm.gather(perform(comm, program, Library(MPI, wrap))))
            comm.Free()
        world.Barrier()
    if world.rank == 0:
        file.write_bytes(pickle.dumps(everything))


if __name__ == "__main__":
    main()
