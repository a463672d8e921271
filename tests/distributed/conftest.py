"""Starts small training runs in several processes, forked from one that has imported everything already."""

import json
import multiprocessing
import os
import runpy
import socket
from collections.abc import Callable
from importlib import util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

SCRIPT = Path(__file__).parent / "worker.py"
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["lightning_modules"])


@pytest.fixture(scope="session")
def worker() -> ModuleType:
    """The script that the processes run, with the data and the plain training loop that they are compared with."""
    found = util.spec_from_file_location("distributed_worker", SCRIPT)
    module = util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def _free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


@pytest.fixture
def launch(worker: ModuleType, tmp_path: Path) -> Callable[..., Any]:
    """Runs the worker: `launch(2, task=..., strategy=...)` returns what each rank saved.

    With `fails=True` every process must fail, and what they printed is returned.
    """

    def start(world: int, fails: bool = False, folder: Path = tmp_path, **spec: Any) -> Any:
        folder.mkdir(exist_ok=True)
        backbone = folder / "backbone"
        if not backbone.exists():
            worker.make_backbone(backbone, spec["task"])
        path = folder / "spec.json"
        path.write_text(json.dumps({"folder": str(folder), "backbone": str(backbone), **spec}))
        environment = {"OMP_NUM_THREADS": "1", "WORLD_SIZE": str(world)}
        if world > 1:
            environment |= {
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(_free_port()),
                "LOCAL_WORLD_SIZE": str(world),
                "GROUP_RANK": "0",
                "TORCHELASTIC_RUN_ID": "test",
                "TORCHELASTIC_USE_AGENT_STORE": "False",
            }
        logs = [folder / f"rank{rank}.log" for rank in range(world)]
        processes = []
        for rank, log in enumerate(logs):
            start_with = {
                "spec": str(path),
                "log": str(log),
                "environment": {**environment, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            }
            process = _context.Process(
                target=runpy.run_path,
                args=(str(SCRIPT),),
                kwargs={"init_globals": {"START_WITH": start_with}, "run_name": "__worker__"},
            )
            process.start()
            processes.append(process)
        for process in processes:
            process.join(timeout=60)
        hung = [process for process in processes if process.is_alive()]
        for process in hung:
            process.kill()
        printed = [log.read_text() for log in logs]
        assert not hung, printed
        if fails:
            assert all(process.exitcode for process in processes), printed
            return "\n".join(printed)
        assert not any(process.exitcode for process in processes), "\n".join(text[-3000:] for text in printed)
        return [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in range(world)]

    os.environ.setdefault("OMP_NUM_THREADS", "1")
    return start
