"""How ranks meet: each finds the others, and none that were there before a restart."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from ipaddress import ip_address
from uuid import uuid4

import torch
from torch import distributed

from embedsearch.errors import DataError
from embedsearch.training.distributed.collectives import collect
from embedsearch.training.distributed.placement import forget_pipeline
from embedsearch.training.distributed.ranks import Ranks, device_of, ranks

_STALLED = timedelta(minutes=30)
"""A rank that waits so long for the others gives up. The first batches are slow on cold disks."""
_PAUSE = 0.05
"""Seconds between two looks at what others have said."""


@contextmanager
def joined(device: torch.device) -> Iterator[Ranks]:
    """Meet the other ranks for as long as the block runs: NCCL between GPUs, gloo between CPUs.

    Does nothing in a process alone. The ranks that it gives know of every restart: torchrun counts
    those of each machine by itself, and a machine that takes another's place begins with 0.
    """
    me = ranks()
    if me.world == 1 or distributed.is_initialized():
        yield me
        return
    device = device_of(device, me)
    backend = "nccl" if device.type == "cuda" else "gloo"
    if backend == "gloo" and me.world > me.here:
        _check_address()
    store, rank, world = next(distributed.rendezvous("env://", timeout=_STALLED))
    store = distributed.PrefixStore(_agree_on_prefix(store, rank, world), store)
    distributed.init_process_group(
        backend, store=store, rank=rank, world_size=world, timeout=_STALLED
    )
    forget_pipeline()
    try:
        yield replace(me, restarts=max(collect(me.restarts)))
        distributed.barrier()  # nobody leaves while another may still want something of it
    finally:
        distributed.destroy_process_group()


def _agree_on_prefix(store: distributed.Store, rank: int, world: int) -> str:
    """A prefix of the keys in ``store`` that all ranks have, and no ranks before them had.

    torchrun may keep a store when it starts the processes anew. Addresses that earlier ones left in
    it must not be taken for those of now: two gloo ranks would each wait for the other to call. So
    each rank leaves a number of its own, the first answers with the numbers it found and a prefix,
    until all have taken it. An answer that names a rank's number was made for it.
    """
    others = range(1, world)
    mine = uuid4().hex
    until = time.monotonic() + _STALLED.total_seconds()
    if rank:
        store.set(f"number/{rank}", mine)
        while mine not in (answer := json.loads(store.get("answer")))["numbers"]:
            _wait(until)
        store.set(f"taken/{rank}", answer["prefix"])
        return str(answer["prefix"])
    taken: list[str] = []
    while taken != [mine] * len(others):
        numbers = [store.get(f"number/{other}").decode() for other in others]
        store.set("answer", json.dumps({"numbers": numbers, "prefix": mine}))
        _wait(until)
        there = [f"taken/{other}" for other in others]
        taken = [store.get(key).decode() for key in there if store.check([key])]
    return mine


def _wait(until: float) -> None:
    if time.monotonic() > until:
        raise DataError("the processes that torchrun started have not found each other")
    time.sleep(_PAUSE)


def _check_address() -> None:
    """Whether gloo would tell other machines an address at which they reach this one: that of its
    name, unless it is told an interface. They would wait in vain, and not say for what."""
    if "GLOO_SOCKET_IFNAME" in os.environ:
        return
    name = socket.gethostname()
    try:
        address = ip_address(socket.gethostbyname(name))
    except OSError as error:
        found = f"has no address ({error})"
    else:
        if not address.is_loopback:
            return
        found = f"stands for {address}, which other machines cannot reach (see /etc/hosts)"
    raise DataError(
        f"the name of this machine, {name}, {found}. Say by which network interface the others "
        "reach it: GLOO_SOCKET_IFNAME=eth0 torchrun ..."
    )
