"""The SQL that stages the result of a query in the database which has the data.

It finds the uids, the blank rows and the invalid ones as `engine.source.formats.rows.to_block` does
here. Texts are compared and stored as their UTF-8. Bytes, and the text of a database in another
encoding, are judged by their hexadecimal digits, which each database can search.
"""

from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.types as kind

from engine.planning.staging import EXPORT
from engine.source.block import BLANK
from engine.source.formats.rows import NOT_UTF8

STAGED = EXPORT.append(pa.field("reason", pa.uint8()))
"""The rows of a result; `row` is the number of the row, from 0, `reason` why it has no uid."""
REASONS = (BLANK, NOT_UTF8)
"""What the numbers in `reason` mean."""

WHITE_SPACE = "".join(filter(str.isspace, map(chr, range(0x3001))))
"""All characters of white space, as `str.isspace` has it."""
_SPACES = "|".join(each.encode().hex() for each in WHITE_SPACE)
_NEXT = "[89ab][0-9a-f]"
_UTF8 = (
    f"[0-7][0-9a-f]|(c[2-9a-f]|d[0-9a-f]){_NEXT}|e0[ab][0-9a-f]{_NEXT}"
    f"|e[1-9abcef]{_NEXT}{_NEXT}|ed[89][0-9a-f]{_NEXT}|f0[9ab][0-9a-f]{_NEXT}{_NEXT}"
    f"|f[123]{_NEXT}{_NEXT}{_NEXT}|f48[0-9a-f]{_NEXT}{_NEXT}"
)
"""The hexadecimal digits of one character of valid UTF-8."""


@dataclass(frozen=True, slots=True)
class Functions:
    """How one database writes what it has functions for; `{}` stands for the arguments."""

    text: str
    """The text of a value of any type, empty for null."""
    utf8: str
    """The bytes of a text, as a client would receive them."""
    hex: str
    """The digits of bytes, in lower case."""
    unhex: str
    ascii: str
    """Bytes as text, of which those of other than printable ASCII are written with backslashes."""
    trim: str
    """A text without the characters of another at its start and end."""
    matches: str
    """Whether an expression without backslashes matches a whole text."""
    nested: str
    """A field of a value with fields."""
    quote: str
    """What the name of that field is in, and has twice if it has it."""
    bytes: str
    """A constant of bytes, from its digits."""
    is_unicode: bool = True
    """Whether the database knows the characters of a text, as its encoding is UTF-8."""


POSTGRES = Functions(
    text="concat({})",
    utf8="convert_to({}, 'UTF8')",
    hex="encode({}, 'hex')",
    unhex="decode({}, 'hex')",
    ascii="encode({}, 'escape')",
    trim="btrim({}, '{}')",
    matches="({} ~ '^(?:{})$' collate \"C\")",
    nested="({}).{}",
    quote='"',
    bytes="'\\x{}'::bytea",
)
POSTGRES_OTHERWISE = replace(
    POSTGRES, utf8="convert_to({}, pg_client_encoding())", is_unicode=False
)
"""If server and client do not both speak UTF-8."""
DUCKDB = Functions(
    text="coalesce(cast({} as varchar), '')",
    utf8="encode({})",
    hex="lower(hex({}))",
    unhex="unhex({})",
    ascii="cast({} as varchar)",
    trim="trim({}, '{}')",
    matches="regexp_full_match({}, '{}')",
    nested="struct_extract({}, {})",
    quote="'",
    bytes="unhex('{}')",
)


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a query's result, by its place: names may be equal, or differ in case only."""

    schema: pa.Schema
    path: str
    """Its name, or the dotted path of a field."""

    @property
    def _steps(self) -> list[str]:
        return [self.path] if self.path in self.schema.names else self.path.split(".")

    @property
    def is_bytes(self) -> bool:
        """Whether its values are bytes, which need not be UTF-8."""
        first, *rest = self._steps
        type_ = self.schema.field(first).type
        for step in rest:
            type_ = type_.field(step).type
        return bool(kind.is_binary(type_) or kind.is_large_binary(type_))

    def value(self, functions: Functions) -> str:
        """Return the expression of its value."""
        first, *rest = self._steps
        found = _place(self.schema.names.index(first))
        mark = functions.quote
        for step in rest:
            name = f"{mark}{step.replace(mark, mark * 2)}{mark}"
            found = functions.nested.format(found, name)
        return found


def _place(number: int) -> str:
    return f"c{number}"


@dataclass(frozen=True, slots=True)
class QueryStatements:
    """The statements that stage the result of one query."""

    functions: Functions
    statement: str
    """The query, as the user has written it."""
    uid: Column
    strip: bool = False
    """Whether white space around a uid is removed."""
    whose: Column | None = None
    """The column that says which cohort a row is of."""
    value: str = ""
    """What that column has in the rows that are meant."""

    @property
    def rows(self) -> str:
        """Select the rows of the result, in its order, by the schema `STAGED`."""
        names = ", ".join(_place(number) for number in range(len(self.uid.schema)))
        where = f"where {self._bytes(self.whose)} = {self._value}" if self.whose else ""
        asked = f"(\n{self.statement}\n) as asked({names}) {where}"  # A comment may end the query.
        judged = self._judged_text if self._is_text else self._judged_bytes
        return f"""
            select uid, row_number() over () - 1 as row, cast(reason as smallint) as reason
            from ({judged(asked)}) as judged
        """

    @property
    def _is_text(self) -> bool:
        return self.functions.is_unicode and not self.uid.is_bytes

    @property
    def _value(self) -> str:
        return self.functions.bytes.format(self.value.encode().hex())

    def _bytes(self, column: Column) -> str:
        """Return the expression of the bytes of a column; those of null are empty."""
        functions, value = self.functions, column.value(self.functions)
        if column.is_bytes:
            return f"coalesce({value}, {functions.bytes.format('')})"
        return functions.utf8.format(functions.text.format(value))

    def _judged_text(self, asked: str) -> str:
        """Select uid and reason of rows whose uid is a text; the database checks its encoding."""
        functions = self.functions
        trimmed = functions.trim.format("v", WHITE_SPACE)
        # Most begin with a visible character, and so are not blank: that is found in no time.
        is_blank = f"not (ascii(v) between 33 and 126) and {trimmed} = ''"
        return f"""
            select {functions.utf8.format(trimmed if self.strip else "v")} as uid,
                case when {is_blank} then {REASONS.index(BLANK)} end as reason
            from (select {functions.text.format(self.uid.value(functions))} as v from {asked}) as t
        """

    def _judged_bytes(self, asked: str) -> str:
        """Select uid and reason of rows whose uid is bytes."""
        functions = self.functions
        uid = "v"
        if self.strip:
            end = f"regexp_replace(h, '({_SPACES})+$', '')"
            uid = functions.unhex.format(f"regexp_replace({end}, '^({_SPACES})+', '')")
        return f"""
            select {uid} as uid,
                case when {functions.matches.format("h", f"({_SPACES})*")}
                        then {REASONS.index(BLANK)}
                    when not {functions.matches.format("h", f"({_UTF8})*")}
                        then {REASONS.index(NOT_UTF8)} end as reason
            from (
                select v, {functions.hex.format("v")} as h
                from (select {self._bytes(self.uid)} as v from {asked}) as t
            ) as digits
        """


def counts(table: str) -> str:
    """Select how many rows of a staged result have each reason, or none, and bytes of the uids."""
    return f"""
        select reason, count(*), cast(coalesce(sum(octet_length(uid)), 0) as bigint) from {table}
        group by reason
    """


def skipped(table: str) -> str:
    """Select the first row, the length and the reason of each run of rows without a uid."""
    return f"""
        select min(row) as row, count(*) as n, reason from (
            select row, reason, row - row_number() over (partition by reason order by row) as run
            from {table} where reason is not null
        ) as runs
        group by run, reason order by 1
    """


def without_skipped(table: str) -> str:
    """Delete the rows that have no uid."""
    return f"delete from {table} where reason is not null"


def sample(table: str, each: int) -> str:
    """Select every so many rows."""
    return f"select uid from {table} where row % {each} = 0 order by row"


def misfits(functions: Functions, table: str, pattern: str) -> str:
    """Select how many uids a pattern of `common_pattern` does not match."""
    text = functions.ascii.format("uid")
    return f"select count(*) from {table} where not {functions.matches.format(text, pattern)}"
