"""The reader of .pdparams files: what Paddle writes comes back, everything else is refused and nothing runs."""

import builtins
import collections
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from ernie_m.errors import InputError
from ernie_m.paddle_pickle import NAME_TABLE, read_pdparams

PROTOCOLS = pytest.mark.parametrize("protocol", [2, 3, 4])


def write(folder: Path, content: object, protocol: int = 4) -> Path:
    path = folder / "model_state.pdparams"
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    return path


class Named:
    """Pickles as Paddle pickles a tensor by itself: tuple((name, array))."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def __reduce__(self) -> tuple:
        return (tuple, (("linear_0.w_0", self.array),))


class Calls:
    """Pickles as the call of a function."""

    def __init__(self, function: object, *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple:
        return self.call


@PROTOCOLS
def test_a_state_dict_comes_back(tmp_path: Path, protocol: int) -> None:
    draw = np.random.default_rng(0)
    state = {
        "long": draw.standard_normal((70, 30)).astype("float32"),
        "short": draw.standard_normal(3).astype("float32"),
        "half": draw.standard_normal((2, 3)).astype("float16"),
        "column_major": np.asfortranarray(draw.standard_normal((30, 50)).astype("float32")),
        "big_endian": draw.standard_normal((30, 50)).astype(">f4"),
        "position_ids": np.arange(5),
        "named": Named(draw.standard_normal((4, 5)).astype("float32")),
    }
    names = {key: f"parameter_{key}" for key in state}
    path = write(tmp_path, collections.OrderedDict({**state, NAME_TABLE: names}), protocol)
    read = read_pdparams(path)
    assert list(read) == list(state)
    for key, tensor in read.items():
        expected = state[key].array if key == "named" else state[key]
        assert tensor.shape == expected.shape
        np.testing.assert_array_equal(tensor.read(), expected)
    assert read["half"].dtype == "F16"
    assert read["position_ids"].dtype == "I64"


def test_bfloat16_comes_as_paddles_unsigned_integers(tmp_path: Path) -> None:
    bits = np.array([0x3F80, 0xC000], dtype="uint16")  # 1 and -2
    tensor = read_pdparams(write(tmp_path, {"w": bits}))["w"]
    assert tensor.dtype == "BF16"
    np.testing.assert_array_equal(tensor.read(), bits)


def test_names_of_both_numpys_are_known(tmp_path: Path) -> None:
    content = pickle.dumps({"w": np.ones(3, "float32")}, protocol=2)
    old = content.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    new = old.replace(b"numpy.core.multiarray", b"numpy._core.multiarray")
    assert old != new
    for data in (old, new):
        path = tmp_path / "model_state.pdparams"
        path.write_bytes(data)
        np.testing.assert_array_equal(read_pdparams(path)["w"].read(), np.ones(3))


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    state=st.dictionaries(
        st.text(min_size=1, max_size=300).filter(lambda key: key != NAME_TABLE),
        npst.arrays("float32", npst.array_shapes(min_dims=0, max_dims=3, max_side=20)),
        max_size=4,
    ),
    protocol=st.integers(2, 4),
)
def test_any_arrays_come_back(tmp_path: Path, state: dict[str, np.ndarray], protocol: int) -> None:
    read = read_pdparams(write(tmp_path, state, protocol))
    assert set(read) == set(state)
    for key, array in state.items():
        np.testing.assert_array_equal(read[key].read(), array)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data(), protocol=st.integers(2, 4))
def test_a_damaged_file_gives_one_kind_of_error(tmp_path: Path, data: st.DataObject, protocol: int) -> None:
    state = {"w": np.arange(2000, dtype="float32").reshape(2, 1000), "b": np.ones(2, "float32"), NAME_TABLE: {"w": "x"}}
    content = bytearray(pickle.dumps(state, protocol=protocol))
    for _ in range(data.draw(st.integers(1, 4))):
        # Positions of the instructions before the long values are the interesting ones.
        content[data.draw(st.integers(0, min(400, len(content) - 1)))] = data.draw(st.integers(0, 255))
    path = tmp_path / "model_state.pdparams"
    path.write_bytes(content[: data.draw(st.integers(1, len(content)))])
    try:
        for tensor in read_pdparams(path).values():
            tensor.read()
    except InputError as error:
        message = str(error)
    else:
        message = str(path)
    assert str(path) in message


@PROTOCOLS
@pytest.mark.parametrize(
    ("function", "arguments", "named"),
    [
        (os.system, ("touch ran",), "system"),
        (builtins.eval, ("data", {"data": np.ones(1)}), "eval"),
        (builtins.getattr, ("numpy", "load"), "getattr"),
        (np.load, ("ran.npy",), "load"),
        (collections.Counter, (("a",),), "Counter"),
    ],
)
def test_a_file_that_calls_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: int, function: object, arguments: tuple, named: str
) -> None:
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path, {"w": np.ones(2, "float32"), "evil": Calls(function, *arguments)}, protocol)
    with pytest.raises(InputError, match=rf"{path}: asks for \S*{named}.*not loaded"):
        read_pdparams(path)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (tuple, ([1, 2],)),
        (np.dtype, ([("a", "f4")],)),
        (np.ndarray, ((2, 2),)),
        (collections.OrderedDict, ([("a", 1)],)),
    ],
)
def test_known_names_do_only_what_arrays_need(tmp_path: Path, function: object, arguments: tuple) -> None:
    with pytest.raises(InputError, match=r"model_state\.pdparams: calls the name"):
        read_pdparams(write(tmp_path, {"w": Calls(function, *arguments)}))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"cos\nsystem\n(S'touch ran'\ntR.", "protocol|asks for os.system"),
        (b"\x80\x02(S'touch ran'\nios\nsystem\n.", "instruction STRING"),
        (b"\x80\x02(ios\nsystem\n.", "instruction INST"),
        (b"\x80\x02cnumpy\nndarray\n)\x81.", "instruction NEWOBJ"),
        (b"\x80\x04\x8c\x05numpy\x8c\x07ndarray\x93)}\x92.", "instruction NEWOBJ_EX"),
        (b"\x80\x02\x82\x01.", "instruction EXT1"),
        (b"\x80\x02K\x01Q.", "instruction BINPERSID"),
        (b"\x80\x02}cnumpy\nndarray\nb.", "sets the state of a dict"),
        (b"\x80\x05}.", "protocol 5"),
        (b"\x80\x02.", "0 bytes follow|no valid"),
        (b"\x80\x02}.}", "1 bytes follow the end"),
        (b"\x80\x02].", "holds a list, not a state dict"),
        (b"\x80\x02]q\x00h\x00a.", "a list stands in two places"),
        (b"\x80\x02}X\x01\x00\x00\x00aN" + b"\x85" * 100_000 + b"s.", "more than 10 deep"),
        (b"\x80\x02" + b"](" * 100 + b"te" * 100 + b".", "more than 10 deep"),
        (b"\x80\x02" + b"}X\x01\x00\x00\x00a" * 100 + b"N" + b"s" * 100 + b".", "more than 10 deep"),
        # Tuples that share their parts take forever to print.
        (b"\x80\x04N" + b"".join(b"q%ch%c\x86" % (n, n) for n in range(60)) + b"N\x93.", "more than 10 deep"),
        (b"\x80\x04NN\x93.", "no valid pickle"),
    ],
)
def test_other_pickles_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, said: str) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "model_state.pdparams"
    path.write_bytes(content)
    with pytest.raises(InputError, match=said) as caught:
        read_pdparams(path)
    assert str(path) in str(caught.value)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ({"w": 1.5}, r"w: holds a float where an array belongs"),
        ({"w": "x" * 5000}, r"w: holds a string where an array belongs"),
        ({"w": None}, r"w: holds a NoneType"),
        ({"w": {"inner": np.ones(2, "float32")}}, r"w: holds a dict"),
        ({"w": np.ones(2, "float64")}, r"w: numbers of numpy type 'f8'"),
        ({"w": np.array(["a"], dtype=object)}, r"w: numbers of numpy type 'O8'"),
        ({"w": np.array(["a"])}, r"w: numbers of numpy type 'U1'"),
        ({3: np.ones(2, "float32")}, r"a key is an int, not a name"),
        # Refused before it is looked at: tuples that share their parts take forever to compare.
        ({((1, 2), (1, 2)): np.ones(2, "float32")}, r"a key is a tuple, not a name"),
        ({NAME_TABLE: [1]}, rf"{NAME_TABLE}: a list"),
        ([np.ones(2, "float32")], r"holds a list"),
    ],
)
def test_other_content_is_refused_with_its_key(tmp_path: Path, state: object, said: str) -> None:
    with pytest.raises(InputError, match=said):
        read_pdparams(write(tmp_path, state))


def test_an_array_without_values_is_refused(tmp_path: Path) -> None:
    content = pickle.dumps({"w": np.ones((300, 300), "float32")}, protocol=4)
    shape = b"M\x2c\x01M\x2c\x01\x86"
    assert shape in content
    path = tmp_path / "model_state.pdparams"
    path.write_bytes(content.replace(shape, b"M\x2c\x01M\x2d\x01\x86"))
    with pytest.raises(InputError, match=r"w: 360000 bytes for shape \(300, 301\)"):
        read_pdparams(path)


def test_one_array_under_many_keys_is_refused(tmp_path: Path) -> None:
    array = np.zeros((100, 100), dtype=np.float32)
    assert len(read_pdparams(write(tmp_path, {"a": array, "b": array}))) == 2
    with pytest.raises(InputError, match=r"tensors of 2,000,000 bytes, far more than the file has"):
        read_pdparams(write(tmp_path, {f"k{number}": array for number in range(50)}))
