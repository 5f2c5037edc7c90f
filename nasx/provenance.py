"""Provenance: what produced a run, written beside it."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

PACKAGES = ("nasx", "torch", "ray", "optuna", "numpy", "onnxruntime", "plotly")
FLAGS = (  # of a processor, that kernels and runtimes make use of
    "avx2", "avx512f", "avx512_vnni", "avx512_vpopcntdq", "amx_tile", "amx_int8", "amx_bf16",
    "neon", "asimd", "asimddp", "i8mm", "sve", "sve2",
)  # fmt: skip


def describe(identity: str, data: str, user_files: list[Path], seed: int) -> dict[str, Any]:
    """Return what a run stands on: study, data, code, versions and machine."""
    return {
        "identity": identity,
        "data": data,
        "seeds": [seed],
        "nasx_commit": commit(Path(__file__).parent),
        "user_files": [
            {
                "path": str(f),
                "sha256": hashlib.sha256(f.read_bytes()).hexdigest(),
                **commit(f.parent),
            }
            for f in user_files
        ],
        "versions": {"python": platform.python_version(), **versions()},
        "machine": machine(),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "resumes": 0,
        "seconds": 0.0,
    }


def versions() -> dict[str, str]:
    """Return the versions of the packages a result depends on."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def commit(folder: Path) -> dict[str, Any]:
    """Return the git commit of a folder and whether its files differ from it."""

    def git(*words: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(folder), *words], capture_output=True, text=True, timeout=10
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    head = git("rev-parse", "HEAD")
    if head is None:
        return {"commit": None, "dirty": None}
    return {"commit": head, "dirty": bool(git("status", "--porcelain", "--", "."))}


def machine() -> dict[str, Any]:
    """Return the processor, its vector flags, memory, GPUs, threads and load of this machine."""
    info = Path("/proc/cpuinfo")
    model, flags = platform.processor() or platform.machine(), set()
    if info.is_file():
        for line in info.read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                model = value.strip()
            elif name.strip() in ("flags", "Features"):  # x86, ARM
                flags = set(value.split())
                break
    return {
        "cpu": model,
        "flags": [f for f in FLAGS if f in flags],
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "gpus": gpus(),
        "load": [round(x, 2) for x in os.getloadavg()],
        "system": platform.platform(),
    }


def gpus() -> list[str]:
    """Return the names of the GPUs, as far as torch is loaded and sees any."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return []
    return [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
