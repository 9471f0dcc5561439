"""Parquet: every type that can hold uids, and clear words for those that cannot."""

import random
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.errors import SourceError, UsageError
from engine.source.block import BLANK, Block, Skipped
from engine.source.files.opening import open_source
from engine.source.options import ReadingOptions

PLAIN = ReadingOptions()


@pytest.fixture(autouse=True)
def _in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def blocks(
    columns: dict[str, pa.Array], options: ReadingOptions = PLAIN, **writing: int | bool
) -> list[Block]:
    pq.write_table(pa.table(columns), "a.parquet", **writing)
    return list(open_source(["a.parquet"], options).blocks())


def uids(columns: dict[str, pa.Array], options: ReadingOptions = PLAIN) -> list[str]:
    return [uid for block in blocks(columns, options) for uid in block.uids.to_pylist()]


NASTY = ["007", "1e5", "NULL", "nan", " a ", '"', "a\nb\r", "\0", "😀", "\ufeff"]


@pytest.mark.parametrize(
    "type_",
    [
        pa.string(),
        pa.large_string(),
        pa.string_view(),
        pa.binary(),
        pa.large_binary(),
        pa.binary_view(),
        pa.dictionary(pa.int32(), pa.string()),
        pa.dictionary(pa.int8(), pa.large_string()),
    ],
    ids=str,
)
def test_text_of_every_type_is_a_uid_as_it_stands(type_: pa.DataType) -> None:
    assert uids({"uid": pa.array(NASTY).cast(type_)}) == NASTY


def test_bytes_of_a_fixed_size_are_text() -> None:
    assert uids({"uid": pa.array([b"ab", b"cd"], pa.binary(2))}) == ["ab", "cd"]


@pytest.mark.parametrize(
    ("type_", "numbers"),
    [
        (pa.int8(), [-128, 127]),
        (pa.uint16(), [0, 65535]),
        (pa.int32(), [-7, 7]),
        (pa.int64(), [-(2**63), 2**63 - 1]),
        (pa.uint64(), [0, 2**64 - 1]),
        (pa.decimal128(38, 0), [-(10**38) + 1, 10**38 - 1]),
        (pa.decimal256(76, 0), [10**76 - 1, 0]),
    ],
    ids=str,
)
def test_integers_become_their_decimal_text(type_: pa.DataType, numbers: list[int]) -> None:
    values = [Decimal(n) if pa.types.is_decimal(type_) else n for n in numbers]
    column = pa.array(values, type_)
    assert uids({"uid": column}) == [str(n) for n in numbers]


@pytest.mark.parametrize(
    "type_",
    [
        pa.float32(),
        pa.float64(),
        pa.bool_(),
        pa.decimal128(10, 2),
        pa.timestamp("s"),
        pa.list_(pa.string()),
        pa.struct([("id", pa.string())]),
    ],
    ids=str,
)
def test_a_column_of_another_type_is_refused_before_the_first_block(type_: pa.DataType) -> None:
    pq.write_table(pa.table({"uid": pa.nulls(1, type_)}), "a.parquet")
    with pytest.raises(SourceError, match="which cannot be a uid") as caught:
        open_source(["a.parquet"], ReadingOptions(column="uid"))
    assert caught.value.hint is not None
    assert caught.value.hint.endswith("write the column as text or as an integer")
    assert ("float" in caught.value.hint) == pa.types.is_floating(type_)


def test_null_blank_and_broken_rows_are_counted() -> None:
    values = pa.array([b"a", None, b" ", b"\xff", b"b", b""])
    (block,) = blocks({"uid": values})
    assert block.records == 6
    assert block.uids.to_pylist() == ["a", "b"]
    assert block.skipped == (
        Skipped(2, 2, BLANK),
        Skipped(4, 1, "invalid UTF-8"),
        Skipped(6, 1, BLANK),
    )


def test_a_column_of_nothing_but_null_has_nothing_to_send() -> None:
    with pytest.raises(SourceError, match="nothing to send"):
        blocks({"uid": pa.nulls(3)})


def test_a_dotted_path_leads_into_structs() -> None:
    users = pa.array([{"_id": {"$oid": "a"}}, {"_id": None}, None, {"_id": {"$oid": "b"}}])
    options = ReadingOptions(column="user._id.$oid")
    (block,) = blocks({"n": pa.array([1, 2, 3, 4]), "user": users}, options)
    assert block.uids.to_pylist() == ["a", "b"]
    assert block.skipped == (Skipped(2, 2, BLANK),)


def test_a_column_of_that_very_name_wins_over_the_path() -> None:
    columns = {"user": pa.array([{"id": "x"}]), "user.id": pa.array(["a"])}
    assert uids(columns, ReadingOptions(column="user.id")) == ["a"]


def test_of_several_columns_one_has_to_be_named() -> None:
    with pytest.raises(UsageError) as caught:
        blocks({"n": pa.array([1]), "user": pa.array([{"id": "a"}])})
    assert caught.value.message == "a.parquet: has 2 columns; which one holds the uids?"
    assert caught.value.hint == "--column NAME, one of 'n', 'user.id'"


@pytest.mark.parametrize("wanted", ["userid", "user.ix", "user.id.x"])
def test_a_missing_column_names_the_nearest(wanted: str) -> None:
    with pytest.raises(SourceError) as caught:
        blocks({"user": pa.array([{"id": "a"}])}, ReadingOptions(column=wanted))
    assert caught.value.message == f"a.parquet: has no column {wanted!r}"
    assert caught.value.hint == "did you mean 'user.id'?"


def test_a_column_that_stands_twice_is_refused() -> None:
    table = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["uid", "uid"])
    pq.write_table(table, "a.parquet")
    with pytest.raises(SourceError, match="has 2 columns named 'uid'"):
        open_source(["a.parquet"], ReadingOptions(column="uid"))


@pytest.mark.parametrize("keep", [0, 3, 100, -1])
def test_a_truncated_file_is_known_before_the_first_block(keep: int) -> None:
    pq.write_table(pa.table({"uid": ["a"] * 100}), "a.parquet")
    Path("a.parquet").write_bytes(Path("a.parquet").read_bytes()[:keep])
    with pytest.raises(SourceError, match=r"a\.parquet: cannot be read"):
        open_source(["a.parquet"], PLAIN)


def test_a_damaged_page_is_an_error() -> None:
    pq.write_table(pa.table({"uid": [str(n) for n in range(50_000)]}), "a.parquet")
    data = bytearray(Path("a.parquet").read_bytes())
    data[1000:30_000] = b"\xff" * 29_000
    Path("a.parquet").write_bytes(data)
    with pytest.raises(SourceError, match=r"a\.parquet: cannot be read"):
        list(open_source(["a.parquet"], PLAIN).blocks())


@pytest.mark.parametrize("compression", ["none", "snappy", "zstd"])
@pytest.mark.parametrize("use_dictionary", [True, False])
def test_a_page_that_is_not_what_its_checksum_says_is_an_error(
    compression: str,
    use_dictionary: bool,  # noqa: FBT001 - a table's column
) -> None:
    table = pa.table({"uid": [f"u{n:06}" for n in range(50_000)]})
    pq.write_table(
        table,
        "a.parquet",
        compression=compression,
        use_dictionary=use_dictionary,
        write_page_checksum=True,
    )
    whole = Path("a.parquet").read_bytes()
    assert len(list(open_source(["a.parquet"], PLAIN).blocks())) > 1
    for place in range(200, len(whole) - 2000, len(whole) // 9):
        Path("a.parquet").write_bytes(
            whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :]
        )
        with pytest.raises(SourceError, match=r"a\.parquet: cannot be read"):
            list(open_source(["a.parquet"], PLAIN).blocks())


def test_a_damaged_file_is_an_error_or_is_read_and_never_anything_else() -> None:
    columns = {"uid": [f"u{n}" for n in range(300)], "n": list(range(300))}
    pq.write_table(pa.table(columns), "a.parquet", write_page_checksum=True)
    whole = Path("a.parquet").read_bytes()
    rng = random.Random(13)
    for _ in range(400):
        damaged = bytearray(whole)
        place = rng.randrange(len(whole) - 700, len(whole))
        damaged[place] = rng.randrange(256)
        Path("a.parquet").write_bytes(damaged)
        try:
            read = list(open_source(["a.parquet"], ReadingOptions(column="uid")).blocks())
        except SourceError:
            continue
        assert sum(block.records for block in read) == 300


@pytest.mark.parametrize("name", ["a.parquet.zst", "part-0"])
def test_compressed_parquet_is_read_from_a_copy(name: str) -> None:
    pq.write_table(pa.table({"uid": ["a", "b"]}), "a.parquet")
    plain = Path("a.parquet").read_bytes()
    Path(name).write_bytes(pa.compress(plain, codec="zstd", asbytes=True))
    source = open_source([name], PLAIN)
    assert [block.uids.to_pylist() for block in source.blocks()] == [["a", "b"]]
    assert source.identity["files"][0]["format"] == "parquet"


def test_parquet_is_known_by_content_and_a_suffix_that_lies_is_reported() -> None:
    pq.write_table(pa.table({"uid": ["a"]}), "part-0")
    assert [block.uids.to_pylist() for block in open_source(["part-0"], PLAIN).blocks()] == [["a"]]
    Path("part-0").rename("part.csv")
    with pytest.raises(SourceError, match="holds Parquet, not csv") as caught:
        open_source(["part.csv"], PLAIN)
    assert caught.value.hint == "--format parquet"
    options = ReadingOptions(format="parquet")
    assert open_source(["part.csv"], options).identity["files"][0]["format"] == "parquet"
    with pytest.raises(SourceError) as caught:
        open_source(["part.csv"], ReadingOptions(format="csv"))
    assert caught.value.hint == "leave --format out"


def test_a_row_group_of_any_size_is_read_in_small_blocks() -> None:
    narrow = blocks({"uid": pa.array([f"{n:024}" for n in range(100_000)])}, row_group_size=100_000)
    assert max(block.records for block in narrow) <= 1 << 15
    assert [block.first_record for block in narrow][:2] == [1, 1 + narrow[0].records]
    wide = pa.array([f"{n:05}" * 2000 for n in range(1000)])
    read = blocks({"uid": wide}, row_group_size=1000, use_dictionary=False)
    assert max(block.uids.nbytes for block in read) < 4 << 20
    assert [uid for block in read for uid in block.uids.to_pylist()] == wide.to_pylist()
