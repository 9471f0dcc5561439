"""A csv export with every nasty kind of row, and what has to become of each."""

import gzip
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import cycle
from pathlib import Path

BOM = b"\xef\xbb\xbf"
HEADER = BOM + b"note,uid,country\r\n"
RECORD_LIMIT = 4 << 20
_STRETCH = 800
_PLAIN_ROWS = 49


@dataclass(slots=True)
class Expected:
    """What the generator knows of the export."""

    rows: int = 0
    planned: int = 0
    members: set[str] = field(default_factory=set)
    """The uids that the API can be asked to add."""
    blank: list[int] = field(default_factory=list)
    """Record numbers, from 1."""
    invalid: list[int] = field(default_factory=list)
    rejected: list[int] = field(default_factory=list)
    """Records whose uid fits into no payload, or is one that the API refuses."""

    @property
    def rejects(self) -> list[tuple[str, int]]:
        """What `cohortsync rejects` lists: kind and record, in the order of the export."""
        kinds = (("blank", self.blank), ("invalid", self.invalid), ("rejected", self.rejected))
        found = [(kind, record) for kind, records in kinds for record in records]
        return sorted(found, key=lambda reject: reject[1])


def quoted(uid: str) -> bytes:
    """Write a uid as a quoted field."""
    return b'"' + uid.encode().replace(b'"', b'""') + b'"'


_WORDS = ("NULL", "null", "nan", "NaN", "None", "true", "-0", "inf", "N/A", "#REF!", "1e5", "0x1F")
_Spelling = Callable[[int], tuple[str, bytes]]


def _bare(form: str) -> _Spelling:
    return lambda number: (form.format(number), form.format(number).encode())


def _quoted(form: str) -> _Spelling:
    return lambda number: (form.format(number), quoted(form.format(number)))


MILD: Sequence[_Spelling] = (
    _bare("000{}"),
    _bare("{}e5"),
    _bare("{}.0"),
    _bare(" padded {}\t"),
    _bare("🦄👩‍👩‍👧 {}"),
    _bare("\u202e\u2028\u0085\uffff{}"),
    _bare("\\{}\\n\x01\x1f\x7f"),
    lambda number: (_WORDS[number % len(_WORDS)], _WORDS[number % len(_WORDS)].encode()),
    lambda number: (_WORDS[number % len(_WORDS)], quoted(_WORDS[number % len(_WORDS)])),
    _quoted('say "{}"'),
    _quoted('"{}"'),
    _quoted("comma, {}"),
    _quoted("line {}\nbreak"),
    _quoted("line {}\r\nbreak"),
    _quoted("\n{}"),
)
"""Uids that have to arrive byte for byte, spelled so that a fast reader may take them."""

QUOTE_INSIDE = _bare('quo"te {}')

HARSH: Sequence[_Spelling] = (
    QUOTE_INSIDE,
    _bare("nul\0{}"),
    _bare("\ufeff{}"),
)
"""Uids that a fast reader would get wrong."""

BLANK: Sequence[bytes] = (
    b"x,,IN",
    b"x,  \t,IN",
    b"x,\x0b\x0c,IN",
    b'x,"",IN',
    "x,\u00a0\u3000,IN".encode(),
    b'x,"\r\n",IN',
    b"",
    b"   ",
)

INVALID: Sequence[bytes] = (
    b"x,\xff\xfe,IN",
    b"x,abc\xc3,IN",
    b"x,\xed\xa0\x80,IN",
    b"x,\xc0\xaf,IN",
    b"x,return\rbare,IN",
    b'x,"return\rquoted",IN',
    b"x,too few",
    b"only",
    b"x,too,many,columns",
    b'x,"quote"broken,IN',
    b'"x"y,quote,IN',
)
"""Records without their line end."""

UNCLOSED = b'x,"never closed,IN'
"""It swallows nothing, provided that the next quote stands inside a bare field."""


class _Writer:
    """Writes records and keeps account of them."""

    def __init__(self, seed: int, payload_bytes: int) -> None:
        self.random = random.Random(seed)
        self.expected = Expected()
        self.payload_bytes = payload_bytes
        self._number = 0
        self._mild = cycle(MILD)
        self._harsh = cycle(self._harsh_records())

    def plain(self, count: int) -> bytes:
        uids = [f"{self.random.getrandbits(96):024x}" for _ in range(count)]
        self._plan(uids)
        return "".join(f"x,{uid},IN\n" for uid in uids).encode()

    def mild(self) -> bytes:
        return self._valid(next(self._mild))

    def harsh(self) -> bytes:
        return next(self._harsh)()

    def _harsh_records(self) -> list[Callable[[], bytes]]:
        """Return what writes each kind of record that a fast reader would get wrong."""
        expected = self.expected
        return [
            *(partial(self._valid, spelling) for spelling in HARSH),
            *(partial(self._skip, expected.blank, record) for record in BLANK),
            *(partial(self._skip, expected.invalid, record) for record in INVALID),
            lambda: self._skip(expected.invalid, UNCLOSED) + self._valid(QUOTE_INSIDE),
        ]

    def poison(self, uid: str) -> bytes:
        return self._reject(uid, f"x,{uid},IN".encode())

    def once(self) -> list[bytes]:
        """Return records that are too costly to come more than once."""
        limit = self.payload_bytes
        long = "l" * (RECORD_LIMIT + 1)
        return [
            self._skip(self.expected.invalid, f"{long},over-long,IN".encode()),
            self._skip(self.expected.invalid, f'"{long}",over-long and quoted,IN'.encode()),
            self._reject("u" * limit, b"x," + b"u" * limit + b",IN"),
            self._reject('"' * (limit // 2), b"x," + quoted('"' * (limit // 2)) + b",IN"),
            self._valid(lambda _: ("v" * (limit // 2), b"v" * (limit // 2))),
            self._valid(lambda _: ("\0" * (limit // 16), b"\0" * (limit // 16))),
            self._valid(lambda _: ("twice", b"twice")),
            self._valid(lambda _: ("twice", b"twice")),
        ]

    def last(self) -> bytes:
        """Return a record that the end of the file ends."""
        return self._valid(_bare("last {}")).rstrip(b"\r\n")

    def _valid(self, spelling: _Spelling) -> bytes:
        self._number += 1
        uid, written = spelling(self._number)
        self._plan([uid])
        return b"x," + written + b",IN" + self._end()

    def _plan(self, uids: Sequence[str]) -> None:
        self.expected.rows += len(uids)
        self.expected.planned += len(uids)
        self.expected.members.update(uids)

    def _skip(self, records: list[int], record: bytes) -> bytes:
        self.expected.rows += 1
        records.append(self.expected.rows)
        return record + self._end()

    def _reject(self, uid: str, record: bytes) -> bytes:
        self._plan([uid])
        self.expected.members.remove(uid)
        self.expected.rejected.append(self.expected.rows)
        return record + self._end()

    def _end(self) -> bytes:
        return self.random.choice((b"\n", b"\r\n"))


def write_nasty_export(
    path: Path, uids: int, *, payload_bytes: int, seed: int = 2, poison: Sequence[str] = ()
) -> Expected:
    """Write a csv.gz that plans at least `uids` uids; `poison` are uids that the API refuses.

    Mild and harsh stretches take turns, so that fast and careful reading do.
    """
    writer = _Writer(seed, payload_bytes)
    stretch = min(_STRETCH, max(uids // 200, len(HARSH) + len(BLANK) + len(INVALID) + 1))
    pieces = max(2, uids // (stretch * (_PLAIN_ROWS + 1)))
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(HEADER)
        for piece in range(pieces):
            nasty = (writer.mild, writer.harsh)[piece % 2]
            for _ in range(stretch):
                file.write(writer.plain(_PLAIN_ROWS) + nasty())
            if piece == pieces // 2:
                file.write(b"".join(writer.once()))
            for uid in poison[piece::pieces]:
                file.write(writer.poison(uid))
        while writer.expected.planned < uids:
            file.write(writer.plain(_PLAIN_ROWS) + writer.mild())
        file.write(writer.last())
    return writer.expected
