"""What a file of torch's may list: what `torch.save` writes of weights and training, and nothing that takes memory."""

import io
import pickle
import pickletools
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import Linear, Parameter

from ernie_m.errors import InputError
from ernie_m.stored_tensors import check_archive
from ernie_m.torch_listing import listed_storages


def trained() -> dict[str, Any]:
    """What a checkpoint of Lightning's has, of a network with tied weights after a step."""
    network = Linear(3, 2)
    optimizer = torch.optim.AdamW(network.parameters())
    network(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    return {
        "state_dict": network.state_dict() | {"tied": network.weight.T, "row": network.weight[1:]},
        "optimizer_states": [optimizer.state_dict()],
        "loops": {"epoch": 2, "seen": (1, None, True), "rate": 1e-5, "state": 2**127},
    }


KINDS = [
    torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.int32, torch.uint8, torch.bool,
]  # fmt: skip


@pytest.mark.parametrize("zipped", [True, False])
def test_what_training_saves_is_admitted(zipped: bool, tmp_path: Path) -> None:
    kinds = {str(kind): torch.ones(2, 3, dtype=kind) for kind in KINDS}
    for content in (trained(), OrderedDict(kinds), {"p": Parameter(torch.ones(2))}, {"empty": torch.ones(0, 3)}):
        torch.save(content, tmp_path / "a.pt", _use_new_zipfile_serialization=zipped)
        check_archive(tmp_path / "a.pt")


class Calls:
    """What a pickle makes by a call."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(("content", "said"), [
    (Calls(torch.Tensor, 5, 5), "'torch.Tensor'"),
    (Calls(torch.storage.TypedStorage, 5), "TypedStorage'"),
    (Calls(torch.FloatStorage, 5), "it calls _Named"),
    (Calls(bytearray, 5), "bytearray'"),
    (Calls(torch._utils._rebuild_device_tensor_from_cpu_tensor, torch.ones(1), torch.half, "cpu", False), "_cpu_ten"),
    (b"bytes", "'_codecs.encode'"),
    (torch.ones(1).expand(10**8), "a tensor of 100,000,000 numbers does not lie within the 1 of its storage"),
    (Calls(torch._utils._rebuild_tensor_v2, torch.ones(1).untyped_storage(), 0, (9,), (1,), False, OrderedDict()), ""),
    (torch.ones(2).to_sparse(), "_rebuild_sparse_tensor'"),
    ({1, 2}, "builtins.set'"),
])  # fmt: skip
def test_what_would_take_memory_is_refused(content: Any, said: str, zipped: bool, tmp_path: Path) -> None:
    torch.save({"a": content}, tmp_path / "a.pt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(InputError) as refused:
        check_archive(tmp_path / "a.pt")
    assert said.replace("builtins.", "") in str(refused.value)


@pytest.mark.parametrize("listing", [
    b"\x80\x02ctorch\nstorage.TypedStorage\n.", b"\x80\x02ctorch.storage\nTypedStorage\n.",
    b"\x80\x04\x8c\x02os\x8c\x06system\x93.",
    b"\x80\x02(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x01tQ}b.",
    b"\x80\x02ccollections\nOrderedDict\n)R}X\x06\x00\x00\x00valuesK\x01sb.",
    b"\x80\x02ccollections\nOrderedDict\n)\x81.", b"I5\n.", b"\x80\x02\x8a\xff.", b"",
])  # fmt: skip
def test_other_ways_to_say_it_are_refused_too(listing: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        listed_storages(io.BytesIO(listing))


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_changed_lists_are_read_or_refused(data: st.DataObject) -> None:
    """Whatever a byte is changed to, storages that are listed stay those that were, or it is refused."""
    buffer = io.BytesIO()
    torch.save({"a": torch.ones(2, 2), "b": [1.5, "x", None]}, buffer)
    with zipfile.ZipFile(buffer) as archive:
        listing = bytearray(archive.read(next(name for name in archive.namelist() if name.endswith("data.pkl"))))
    place = data.draw(st.integers(0, len(listing) - 1))
    listing[place] = data.draw(st.integers(0, 255))
    try:
        found = listed_storages(io.BytesIO(bytes(listing)))
    except ValueError:
        return
    assert all(count >= 0 and size > 0 for count, size in found.values())
    names = {str(argument) for opcode, argument, _ in pickletools.genops(bytes(listing)) if opcode.name == "GLOBAL"}
    assert names <= {"torch._utils _rebuild_tensor_v2", "torch FloatStorage", "collections OrderedDict"} | {
        f"torch {kind}Storage" for kind in ("Double", "Half", "Long", "Int", "Bool", "Byte", "Char", "Short")
    }


def test_a_pickle_of_python_is_none(tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(InputError, match="not a whole file of torch's"):
        check_archive(tmp_path / "a.pt")
