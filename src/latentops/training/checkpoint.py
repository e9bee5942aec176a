"""What an interrupted training goes on from: one file of safetensors, with the rest as JSON in its header.

A training that goes on gives the bytes of one that was never interrupted, so a checkpoint is used only where
its fingerprint says that nothing has changed: not the recipe, the data, the settings, nor the code.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from latentops import atomic
from latentops.data.prepared import Samples

SOURCE = Path(__file__).parents[1]
HEADER = "training"


@dataclass(frozen=True)
class State:
    """Where a training stands after a look: plain values in `facts`, and `tensors` by name."""

    facts: dict[str, Any]
    tensors: dict[str, Tensor]


@dataclass(frozen=True)
class Checkpoint:
    """The file at `path`, written after `every` looks, of the training that `fingerprint` stands for."""

    path: Path
    fingerprint: str
    every: int = 1

    def save(self, state: State) -> None:
        """Put `state` in the place of the one before."""
        tensors = {name: value.detach().cpu().clone() for name, value in state.tensors.items()}
        header = {"fingerprint": self.fingerprint, "digest": _digest(tensors), "facts": state.facts}
        with atomic.replacing(self.path) as aside:
            save_file(tensors, aside, metadata={HEADER: json.dumps(header)})

    def load(self) -> State | None:
        """What was saved last; None where that is nothing, isn't whole or is of another training.

        Says in a line which of these it was.
        """
        if not self.path.exists():
            return None
        try:
            with safe_open(self.path, framework="pt") as file:
                header = json.loads(file.metadata()[HEADER])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            whole = _digest(tensors) == header["digest"]
            state = State(header["facts"], tensors)
            same = header["fingerprint"] == self.fingerprint
        except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
            whole, reason = False, f" ({' '.join(str(error).split())})"
        else:
            reason = ""
        if not whole:
            print(f"note: {self.path}: not a whole checkpoint{reason}; training begins anew")
            return None
        if not same:
            print(f"note: {self.path}: of another recipe, data, settings or code; training begins anew")
            return None
        print(f"{self.path}: training goes on after step {state.facts['step']}")
        return state

    def remove(self) -> None:
        """Let go of it: the training is done."""
        self.path.unlink(missing_ok=True)


def fingerprint(**parts: object) -> str:
    """A digest of plain values."""
    return hashlib.sha256(atomic.canonical(parts).encode()).hexdigest()


def data_digest(samples: Samples) -> str:
    """A digest of all that training sees of `samples`."""
    arrays = {"values": samples.values, "lengths": samples.lengths, "labels": samples.labels}
    return _digest(
        {name: torch.from_numpy(np.array(each)) for name, each in arrays.items() if each is not None}
    )


def code_digest(*further: Path) -> str:
    """A digest of this project's code and of `further` files."""
    whole = hashlib.sha256()
    own = (path for path in SOURCE.rglob("*") if path.suffix in {".py", ".json"})
    for path in [*sorted(own), *further]:
        whole.update(hashlib.sha256(path.read_bytes()).digest())
    return whole.hexdigest()


def _digest(tensors: Mapping[str, Tensor]) -> str:
    whole = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].contiguous()
        whole.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        whole.update(value.view(-1).view(torch.uint8).numpy().tobytes() if value.numel() else b"")
    return whole.hexdigest()
