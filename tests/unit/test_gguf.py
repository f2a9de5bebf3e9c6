"""Our GGUF reader against the format's reference writer and reader, and against files that lie."""

import contextlib
import os
import struct
import tracemalloc
from pathlib import Path

import gguf
import numpy as np
import pytest
from gguf_bytes import ARRAY, BOOL, STRING, U32, array, entry, file_bytes, string, tensor
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from random_blocks import stored as stored_bytes
from tiny_gguf import TinyLlama, write_tiny_llama

from twofold.errors import InternalError, ModelError
from twofold.model.format import BF16, F16, FORMATS, Q4_0, Q4_1, Q8_0
from twofold.model.gguf import GgufFile
from twofold.model.strings import Strings

VALID = file_bytes(
    (
        entry("word", STRING, string("two")),
        entry("yes", BOOL, b"\1"),
        entry("words", ARRAY, array(STRING, 2, string("a") + string("é"))),
        entry("numbers", ARRAY, array(U32, 3, bytes(12))),
    ),
    (tensor("a", (32, 2), Q8_0.ggml_id), tensor("b", (8,), offset=96)),
    data=128,
)

REFUSED = {
    "short_file": (b"GGUF\3\0", "ends inside the version"),
    "wrong_magic": (b"PK\3\4" + bytes(60), "is not a GGUF file"),
    "version_1": (file_bytes(version=b"\1\0\0\0"), "version 1, and versions 2 and 3 are read"),
    "version_4": (file_bytes(version=b"\4\0\0\0"), "version 4, and versions 2 and 3 are read"),
    "big_endian": (file_bytes(version=b"\0\0\0\3"), "big-endian"),
    "absurd_tensor_count": (file_bytes(counts=(2**60, 1)), "declares 1152921504606846976 tensors"),
    "absurd_metadata_count": (file_bytes(counts=(1, 2**60)), "declares 1152921504606846976 metadata entries"),
    "string_longer_than_the_file": (
        file_bytes((entry("k", STRING, struct.pack("<Q", 2**40)),)),
        "'k' holds a string of 1099511627776 bytes",
    ),
    "absurd_array_length": (
        file_bytes((entry("k", ARRAY, array(U32, 2**61)),)),
        "'k' declares 2305843009213693952 values",
    ),
    "absurd_string_array_length": (
        file_bytes((entry("k", ARRAY, array(STRING, 10**6)),)),
        "'k' declares 1000000 values",
    ),
    "arrays_nested_5_deep": (
        file_bytes((entry("k", ARRAY, array(ARRAY, 1) * 4 + array(U32, 0)),)),
        "'k' nests arrays more than 4 deep",
    ),
    "key_not_utf8": (file_bytes((entry(b"\xff"),)), "metadata entry 0 holds a string that is not UTF-8"),
    "string_not_utf8": (
        file_bytes((entry("k", STRING, string(b"\xc3(")),)),
        "'k' holds a string that is not UTF-8",
    ),
    "tensor_name_not_utf8": (
        file_bytes(tensors=(tensor(b"\x80"),)),
        "tensor 0 holds a string that is not UTF-8",
    ),
    "unknown_value_type": (file_bytes((entry("k", 13),)), "'k' has the unknown value type 13"),
    "unknown_element_type": (
        file_bytes((entry("k", ARRAY, array(99, 1)),)),
        "'k' has the unknown value type 99",
    ),
    "bool_of_2": (file_bytes((entry("k", BOOL, b"\2"),)), "'k' holds a bool that is neither 0 nor 1"),
    "bool_of_2_in_an_array": (file_bytes((entry("k", ARRAY, array(BOOL, 2, b"\1\2")),)), "neither 0 nor 1"),
    "duplicate_key": (file_bytes((entry("k"), entry("k"))), "the metadata key 'k' appears twice"),
    "duplicate_tensor": (
        file_bytes(tensors=(tensor("t"), tensor("t", offset=32))),
        "the tensor 't' appears twice",
    ),
    "alignment_not_a_power_of_two": (
        file_bytes((entry("general.alignment", U32, struct.pack("<I", 48)),)),
        "general.alignment is '48'",
    ),
    "alignment_too_small": (
        file_bytes((entry("general.alignment", U32, struct.pack("<I", 4)),)),
        "general.alignment is '4'",
    ),
    "alignment_too_large": (
        file_bytes((entry("general.alignment", U32, struct.pack("<I", 131072)),)),
        "general.alignment is '131072'",
    ),
    "alignment_not_a_number": (
        file_bytes((entry("general.alignment", STRING, string("32")),)),
        "general.alignment is '32'",
    ),
    "alignment_a_bool": (
        file_bytes((entry("general.alignment", BOOL, b"\1"),)),
        "general.alignment is 'True'",
    ),
    "no_dimensions": (file_bytes(tensors=(tensor(dims=()),)), "'a' has 0 dimensions"),
    "five_dimensions": (file_bytes(tensors=(tensor(dims=(1,) * 5),)), "'a' has 5 dimensions"),
    "dimension_of_0": (file_bytes(tensors=(tensor(dims=(8, 0)),)), r"'a' has the impossible shape \(0, 8\)"),
    "elements_overflow": (file_bytes(tensors=(tensor(dims=(2**32, 2**32)),)), "'a' has the impossible shape"),
    "unsupported_tensor_type": (
        file_bytes(tensors=(tensor(kind=10),)),
        "'a' is stored as Q2_K; use a file in one of F32, F16, BF16, Q4_0, Q4_1, Q5_0",
    ),
    "unknown_tensor_type": (file_bytes(tensors=(tensor(kind=77),)), "'a' is stored as type 77"),
    "row_not_a_multiple_of_the_block": (
        file_bytes(tensors=(tensor(dims=(48, 2), kind=Q4_0.ggml_id),)),
        "'a' has rows of 48, not a multiple of Q4_0's 32",
    ),
    "offset_not_aligned": (file_bytes(tensors=(tensor(offset=8),)), "'a' begins at offset 8"),
    "data_beyond_the_end": (
        file_bytes(tensors=(tensor(offset=64),)),
        "'a' ends at byte 192, the file at byte 160",
    ),
    "data_far_beyond_the_end": (file_bytes(tensors=(tensor(offset=2**64 - 32),)), "'a' ends at"),
    "overlapping_tensors": (
        file_bytes(tensors=(tensor("b", offset=32), tensor("a", dims=(16,)))),
        "the tensors 'a' and 'b' overlap",
    ),
}


def opened(path: Path, data: bytes) -> GgufFile:
    path.write_bytes(data)
    return GgufFile.open(path)


@pytest.mark.parametrize("case", REFUSED)
def test_a_damaged_file_is_refused_in_one_line_that_names_it(tmp_path: Path, case: str) -> None:
    data, what = REFUSED[case]
    with pytest.raises(ModelError, match=what) as caught:
        opened(tmp_path / "model.gguf", data)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'model.gguf'}: ")
    assert "\n" not in message
    assert "; " in message  # the remedy


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is empty"):
        opened(tmp_path / "model.gguf", b"")


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is a directory; give the path"):
        GgufFile.open(tmp_path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such file"):
        GgufFile.open(tmp_path / "absent.gguf")


def test_a_pipe_is_refused_without_waiting_for_a_writer(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ModelError, match="is not a regular file"):
        GgufFile.open(tmp_path / "pipe")


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", denied)
    with pytest.raises(ModelError, match=r"cannot be opened \(Permission denied\)"):
        GgufFile.open(tmp_path / "secret.gguf")


def test_a_path_that_breaks_a_line_keeps_the_message_on_one(tmp_path: Path) -> None:
    with pytest.raises(ModelError) as caught:
        GgufFile.open(tmp_path / "two\nlines\0")
    assert "\n" not in str(caught.value)


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    end = GgufFile(path, VALID).tensors["b"]
    for size in range(end.offset + end.size_bytes):
        with pytest.raises(ModelError, match=r"model\.gguf: "):
            GgufFile(path, VALID[:size])


def test_an_absurd_length_allocates_nothing() -> None:
    data = file_bytes((entry("k", ARRAY, array(U32, 2**40)),))
    tracemalloc.start()
    try:
        with pytest.raises(ModelError):
            GgufFile(Path("model.gguf"), data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 64 * 1024


def test_four_nested_arrays_are_read() -> None:
    data = file_bytes((entry("k", ARRAY, array(ARRAY, 1) * 3 + array(0, 2, b"\5\6")),))
    assert GgufFile(Path("model.gguf"), data).metadata["k"] == [[[[5, 6]]]]


def test_version_2_is_read() -> None:
    file = GgufFile(Path("model.gguf"), file_bytes(version=b"\2\0\0\0"))
    assert (file.version, file.metadata) == (2, {"k": 1})


def test_a_file_without_tensors_or_metadata_is_read() -> None:
    file = GgufFile(Path("model.gguf"), file_bytes((), (), data=0))
    assert (file.metadata, file.tensors) == ({}, {})


def every_kind(writer: gguf.GGUFWriter) -> None:
    writer.add_uint8("u8", 200)
    writer.add_int8("i8", -100)
    writer.add_uint16("u16", 60000)
    writer.add_int16("i16", -30000)
    writer.add_uint32("u32", 4_000_000_000)
    writer.add_int32("i32", -2_000_000_000)
    writer.add_uint64("u64", 2**64 - 1)
    writer.add_int64("i64", -(2**63))
    writer.add_float32("f32", 0.1)
    writer.add_float64("f64", 0.1)
    writer.add_float32("infinite", float("-inf"))
    writer.add_bool("true", True)
    writer.add_bool("false", False)
    writer.add_string("text", "Ünïcödé 🎛\0 and a NUL")
    writer.add_string("multiline", "a\nb")
    writer.add_array("integers", [1, -2, 3])
    writer.add_array("floats", [0.5, -1.25e-3])
    writer.add_array("bools", [True, False, True])
    writer.add_array("strings", ["", "Ġthe", "é", "<|im_end|>"])
    writer.add_array("nested", [[1, 2], [3]])


@pytest.mark.parametrize("alignment", [32, 64, 8])
def test_every_value_and_tensor_equals_the_reference_reader(tmp_path: Path, alignment: int) -> None:
    path = tmp_path / "model.gguf"
    random = np.random.default_rng(3)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_custom_alignment(alignment)
    every_kind(writer)
    for stored in FORMATS:
        width = max(stored.block, 32)
        for rank, shape in enumerate([(2 * width,), (5, 2 * width), (3, 2, width), (2, 1, 3, width)]):
            kind = gguf.GGMLQuantizationType(stored.ggml_id)
            values = random.standard_normal(shape, dtype=np.float32).reshape(-1, shape[-1])
            raw = stored_bytes(values, stored).reshape(*shape[:-1], -1)
            writer.add_tensor(f"{stored.name}.{rank}", raw, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    reference = gguf.GGUFReader(path)
    expected = {key: field.contents() for key, field in reference.fields.items() if not key.startswith("GGUF.")}

    with GgufFile.open(path) as file:
        nested = file.metadata.pop("nested")
        expected.pop("nested")  # the reference reader flattens it
        expected["strings"] = Strings.of(expected["strings"])
        assert file.metadata == expected
        assert [type(value) for value in file.metadata.values()] == [type(value) for value in expected.values()]
        assert list(file.metadata) == list(expected)
        assert nested == [[1, 2], [3]]
        assert list(file.tensors) == [each.name for each in reference.tensors]
        assert file.data_start == reference.data_offset
        for each in reference.tensors:
            info = file.tensors[each.name]
            assert info.shape == tuple(each.shape.tolist())[::-1]
            assert info.format.ggml_id == each.tensor_type
            assert (info.offset, info.size_bytes) == (each.data_offset, each.n_bytes)
            assert bytes(file.raw(each.name)) == each.data.tobytes()


def test_a_view_outlives_close_and_cannot_be_written(tmp_path: Path) -> None:
    file = opened(tmp_path / "model.gguf", VALID[:-128] + bytes(range(128)))
    view = file.raw("b")
    file.close()
    file.close()
    assert bytes(view) == bytes(range(96, 128))
    assert view.readonly
    with pytest.raises(InternalError, match="closed"):
        file.raw("b")


def test_close_without_views_unmaps(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    with opened(path, VALID) as file:
        assert str(path) in Path("/proc/self/maps").read_text()
        file.raw("a").release()
    assert str(path) not in Path("/proc/self/maps").read_text()


def test_a_tensor_that_is_not_there_is_named(tmp_path: Path) -> None:
    with opened(tmp_path / "model.gguf", VALID) as file, pytest.raises(ModelError, match="has no tensor 'c'"):
        file.raw("c")


@pytest.mark.parametrize("tied", [True, False])
def test_a_tiny_model_has_the_shapes_and_formats_it_declares(tmp_path: Path, tied: bool) -> None:
    model = TinyLlama(tied=tied, matrices=Q4_0, formats={"attn_q": BF16, "ffn_up": F16, "token_embd": Q4_1})
    path = write_tiny_llama(tmp_path / "tiny.gguf", model)
    with GgufFile.open(path) as file:
        assert {name: info.shape for name, info in file.tensors.items()} == model.shapes()
        assert all(info.format == model.format_of(name) for name, info in file.tensors.items())
        assert ("output.weight" in file.tensors) != tied
        assert file.metadata["llama.vocab_size"] == file.tensors["token_embd.weight"].shape[0]
    again = write_tiny_llama(tmp_path / "again.gguf", model)
    assert again.read_bytes() == path.read_bytes()


def parse(data: bytes) -> None:
    """Parse or refuse; nothing else may happen, in memory bounded by the bytes given."""
    tracemalloc.start()
    try:
        with contextlib.suppress(ModelError):
            file = GgufFile(Path("fuzz.gguf"), data)
            for name, info in file.tensors.items():
                assert len(file.raw(name)) == info.size_bytes
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 256 * 1024 + 100 * len(data)


FUZZ = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@FUZZ
@given(st.binary(max_size=200))
def test_random_bytes_parse_or_are_refused(data: bytes) -> None:
    parse(b"GGUF\3\0\0\0" + data)


@FUZZ
@given(st.binary(max_size=40))
def test_random_metadata_parses_or_is_refused(data: bytes) -> None:
    parse(b"GGUF\3\0\0\0" + struct.pack("<QQ", 0, 1) + string("k") + data)


@FUZZ
@given(st.data())
def test_mutations_of_a_sound_file_parse_or_are_refused(data: st.DataObject) -> None:
    mutated = bytearray(VALID)
    for place in data.draw(st.lists(st.integers(0, len(VALID) - 1), min_size=1, max_size=4)):
        mutated[place] = data.draw(st.integers(0, 255))
    start = data.draw(st.integers(0, len(VALID)))
    cut = data.draw(st.integers(start, len(VALID)))
    parse(bytes(mutated[:start]) + bytes(mutated[cut:]))
    parse(bytes(mutated))
