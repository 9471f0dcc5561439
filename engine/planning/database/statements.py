"""The SQL of the comparison and of the snapshots, which DuckDB and PostgreSQL both understand.

It has nothing that `engine.planning.database.dialects` cannot say in the SQL of a warehouse: no
`returning`, no `delete … using`, no `on conflict`, and no correlation without an equality.

Uids are `bytea`: they compare byte by byte, whatever the collation. Nothing that a user or an
export has written is part of a statement: rows come in temporary tables.

    cohortsync.cohorts          per cohort, the number and token of its current generation
    cohortsync.generations      per kept generation, its token and the number of uids in each state
    cohortsync.members_COHORT   the current rows: uid, state, run
    cohortsync.changes_COHORT   per generation, the uids that it changed, with the states before and
                                after (null: not in the snapshot); an earlier generation is the
                                current one with the later changes undone
"""

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from engine.planning.change_kinds import Kind
from engine.planning.conditions import Conditions
from engine.snapshot.records import UidState

SCHEMA = "cohortsync"
CREATE_SCHEMA = f"create schema if not exists {SCHEMA}"
IN, MAY_BE_IN, OUT, MAY_BE_OUT = (int(state) for state in UidState)
_TYPES = {
    pa.binary(): "bytea",
    pa.bool_(): "boolean",
    pa.uint8(): "smallint",
    pa.int16(): "smallint",
    pa.int32(): "int",
    pa.int64(): "bigint",
}


def columns_of(schema: pa.Schema) -> str:
    """Return the definition of the columns of a table for rows of a schema."""
    return ", ".join(f"{each.name} {_TYPES[each.type]}" for each in schema)


@dataclass(frozen=True, slots=True)
class Tables:
    """The tables of one cohort."""

    name: str
    """The end of their names: letters and digits."""

    @property
    def members(self) -> str:
        """The table of the current rows."""
        return f"{SCHEMA}.members_{self.name}"

    @property
    def changes(self) -> str:
        """The table of the changes by generation."""
        return f"{SCHEMA}.changes_{self.name}"

    @property
    def exist(self) -> str:
        """Select a row if they exist."""
        return (
            f"select 1 from information_schema.tables where table_schema = '{SCHEMA}' "
            f"and table_name = 'members_{self.name}'"
        )

    def create(self, keys: str) -> list[str]:
        """Make those that do not exist, in `SCHEMA`; `keys` is `DatabaseSession.keys`."""
        return [
            f"""create table if not exists {SCHEMA}.cohorts
                (cohort text, generation int, token text)""",
            f"""create table if not exists {SCHEMA}.generations (cohort text, number int,
                token text, members bigint, unknown bigint, removed bigint)""",
            f"""create table if not exists {self.changes} (generation int, uid bytea,
                was smallint, was_run int, state smallint, run int)""",
            f"""create table if not exists {self.members}
                (uid bytea{keys}, state smallint, run int)""",
            f"""insert into {SCHEMA}.cohorts (cohort, generation, token)
                select '{self.name}', 0, '' from (select count(*) as n from {SCHEMA}.cohorts
                    where cohort = '{self.name}') known where n = 0""",
        ]

    @property
    def head(self) -> str:
        """Select the number and token of the current generation.

        Two hosts that make the tables at once may both enter the cohort; the first move is of both
        rows, or leaves one behind at 0.
        """
        return (
            f"select generation, token from {SCHEMA}.cohorts where cohort = '{self.name}' "
            "order by generation desc limit 1"
        )

    @property
    def lock_head(self) -> str:
        """Let no other connection move it until the transaction ends."""
        return f"update {SCHEMA}.cohorts set generation = generation where cohort = '{self.name}'"

    def set_head(self, number: int, token: str, before: str) -> str:
        """Set them, unless the token is not `before`."""
        return (
            f"update {SCHEMA}.cohorts set generation = {number}, token = '{token}' "
            f"where cohort = '{self.name}' and token = '{before}'"
        )

    def generation(self, number: int, token: str) -> str:
        """Select the numbers of uids of a generation."""
        return (
            f"select members, unknown, removed from {SCHEMA}.generations "
            f"where cohort = '{self.name}' and number = {number} and token = '{token}'"
        )

    @property
    def generations(self) -> str:
        """Select number and token of each kept generation, the latest first."""
        return (
            f"select number, token from {SCHEMA}.generations where cohort = '{self.name}' "
            "order by number desc"
        )

    def enter(self, number: int, token: str, counts: Sequence[int]) -> str:
        """Enter a generation."""
        members, unknown, removed = counts
        return (
            f"insert into {SCHEMA}.generations (cohort, number, token, members, unknown, removed) "
            f"values ('{self.name}', {number}, '{token}', {members}, {unknown}, {removed})"
        )

    def apply(self, number: int) -> list[str]:
        """Make the changes of the temporary table `moved`, as those of a generation."""
        return [
            f"""insert into {self.changes} (generation, uid, was, was_run, state, run)
                select {number}, uid, was, was_run, state, run from moved""",
            # Those that it has; PostgreSQL would hash all the others, too.
            f"""delete from {self.members} where uid in
                (select uid from moved where was is not null)""",
            f"""insert into {self.members} (uid, state, run)
                select uid, state, run from moved where state is not null""",
        ]

    def undo(self, number: int) -> list[str]:
        """Undo a generation, which is the current one."""
        return [
            f"""delete from {self.members} where uid in
                (select uid from {self.changes}
                    where generation = {number} and state is not null)""",
            f"""insert into {self.members} (uid, state, run)
                select uid, was, was_run from {self.changes}
                where generation = {number} and was is not null""",
            f"delete from {self.changes} where generation = {number}",
            f"delete from {SCHEMA}.generations where cohort = '{self.name}' and number = {number}",
        ]

    def forget(self, oldest: int) -> list[str]:
        """Drop what only generations before `oldest` need."""
        return [
            f"delete from {self.changes} where generation <= {oldest}",
            f"delete from {SCHEMA}.generations where cohort = '{self.name}' and number < {oldest}",
        ]

    def rows_of(self, number: int) -> str:
        """Select the rows of a generation: the current ones, with later changes undone."""
        return f"""
            with later as (
                select uid, min(generation) as generation from {self.changes}
                where generation > {number} group by uid
            )
            select m.uid, m.state, m.run from {self.members} m
            where not exists (select 1 from later l where l.uid = m.uid)
            union all
            select c.uid, c.was, c.was_run from {self.changes} c
            join later l on l.uid = c.uid and l.generation = c.generation
            where c.was is not null
        """


def rows_in(rows: str) -> str:
    """Select the rows of a generation, as `Generations.rows_of` returns them."""
    return f"select uid, state, run from {rows} s"


def states_of(rows: str) -> str:
    """Select how many uids a generation has in each state."""
    return f"select state, count(*) from {rows} s group by state"


COUNT_ASKED = "select count(*) from asked"


def asked_of(rows: str) -> str:
    """Select the row of a generation whose uid is in the temporary table `asked`."""
    return f"select state, run from {rows} s where uid = (select uid from asked)"


def folded(members: str, run: int, recent_runs: Sequence[int]) -> str:
    """Select the changes of the rows `members` by a run: `incoming` (uid, state) holds them.

    The rules are those of `engine.snapshot.fold`.
    """
    recent = ", ".join(map(str, recent_runs))
    return f"""
        with lowest as (select uid, min(state) as state from incoming group by uid),
        changed as (
            select l.uid, m.state as was, m.run as was_run, {run} as run,
                case when l.state = {MAY_BE_IN} and m.state = {IN} then {IN}
                    when l.state = {MAY_BE_OUT} and m.state = {OUT} then {OUT}
                    else l.state end as state
            from lowest l left join {members} m on m.uid = l.uid
            union all
            select m.uid, m.state, m.run, m.run, m.state from {members} m
            where m.state = {OUT} and m.run not in ({recent})
                and not exists (select 1 from lowest l where l.uid = m.uid)
        ),
        kept as (
            select uid, was, was_run, run,
                case when state = {OUT} and run not in ({recent}) then null else state end as state
            from changed
        )
        select uid, was, was_run, cast(state as smallint) as state,
            case when state is null then null else run end as run
        from kept where was is not null or state is not null
    """


def replaced(members: str) -> str:
    """Select the changes from `members` to the temporary table `incoming` (schema `SNAPSHOT`)."""
    return f"""
        select coalesce(i.uid, m.uid) as uid, m.state as was, m.run as was_run, i.state, i.run
        from incoming i full join {members} m on m.uid = i.uid
        where i.state is distinct from m.state or i.run is distinct from m.run
    """


def after_move(members: str) -> str:
    """Select the rows `members` with the changes of the temporary table `moved`."""
    return f"""
        select m.uid, m.state, m.run from {members} m
        where not exists (select 1 from moved c where c.uid = m.uid)
        union all
        select uid, state, run from moved where state is not null
    """


MOVED = pa.schema(
    [
        *(("uid", pa.binary()), ("was", pa.int16()), ("was_run", pa.int32())),
        *(("state", pa.int16()), ("run", pa.int32())),
    ]
)
"""The temporary table `moved`: what `folded` and `replaced` select."""
MOVED_COUNTS = "select was, state, count(*) from moved group by was, state"


def desired(export: str, excluded: str) -> str:
    """Select the uids of the table `export` that are not in `excluded`, each once."""
    return f"""
        select e.uid, min(e.row) as row, count(*) as n from {export} e
        where not exists (select 1 from {excluded} x where x.uid = e.uid)
        group by e.uid
    """


def said(adds: str, removes: str) -> str:
    """Select the uids of a list of changes, each once: its latest row, as `Comparer` counts it."""
    return f"""
        select uid, max(latest) as latest, count(*) as n from (
            select uid, 2 * row as latest from {adds}
            union all select uid, 2 * row + 1 from {removes}
        ) s group by uid
    """


def said_to_add(excluded: str) -> str:
    """Select the uids of `said` that are wanted, as `desired` does."""
    return f"""
        select s.uid, cast(s.latest / 2 as bigint) as row, s.n from said s
        where s.latest % 2 = 0 and not exists (select 1 from {excluded} x where x.uid = s.uid)
    """


def said_to_remove(base: str, conditions: Conditions) -> str:
    """Select the uids of `said` that are removed: excluded ones only if the base has them."""
    kind = _kind((IN, MAY_BE_IN), conditions.recent_runs, conditions.waiting.removes)
    return f"""
        select s.uid, coalesce(b.state, 0) as was, coalesce(b.run, 0) as was_run, 0 as row,
            {kind} as kind
        from said s left join {base} b on b.uid = s.uid
        left join rejections r on r.uid = s.uid and not r.wanted
        where coalesce(b.state, 0) <> {OUT} and (s.latest % 2 = 1 or b.uid is not null)
            and not exists (select 1 from desired d where d.uid = s.uid)
    """


def said_counts(base: str) -> str:
    """Select how many uids of `said` are removed already, and the rows of those left out."""
    return f"""
        select count(case when s.latest % 2 = 1 and b.state = {OUT} then 1 end),
            cast(coalesce(sum(case when s.latest % 2 = 0 and coalesce(b.state, {OUT}) = {OUT}
                and not exists (select 1 from desired d where d.uid = s.uid) then s.n end), 0)
                as bigint)
        from said s left join {base} b on b.uid = s.uid
    """


DESIRED_COUNTS = "select count(*), cast(coalesce(sum(n), 0) as bigint) from desired"


def adds(base: str, conditions: Conditions) -> str:
    """Select the wanted uids that are not members, by the rules of `Comparer`."""
    kind = _kind((OUT, MAY_BE_OUT), conditions.recent_runs, conditions.waiting.adds)
    return f"""
        select d.uid, coalesce(b.state, 0) as was, coalesce(b.run, 0) as was_run, d.row,
            {kind} as kind
        from desired d left join {base} b on b.uid = d.uid
        left join rejections r on r.uid = d.uid and r.wanted
        where coalesce(b.state, 0) <> {IN}
    """


def removes(base: str, conditions: Conditions) -> str:
    """Select the uids that are or may be members and are not wanted."""
    kind = _kind((IN, MAY_BE_IN), conditions.recent_runs, conditions.waiting.removes)
    return f"""
        select b.uid, b.state as was, b.run as was_run, 0 as row, {kind} as kind
        from {base} b left join rejections r on r.uid = b.uid and not r.wanted
        where b.state <> {OUT} and not exists (select 1 from desired d where d.uid = b.uid)
    """


def _kind(reversed_by: Sequence[int], recent: Sequence[int], all_wait: bool) -> str:  # noqa: FBT001 - one of the values that it is judged by
    """Return the expression of a uid's `Kind`; a rejection is void once the uid changed later."""
    was_run = "coalesce(b.run, 0)"
    states = ", ".join(map(str, reversed_by))
    waits = f"coalesce(b.state, 0) in ({states}) and {was_run} in ({_listed(recent)})"
    return f"""
        case when r.run >= {was_run} and not r.is_due then {Kind.KNOWN.value}
            when {"true" if all_wait else waits} then {Kind.HELD.value}
            when r.run >= {was_run} then {Kind.SUSPECT.value}
            else {Kind.PLAIN.value} end
    """


def _listed(runs: Sequence[int]) -> str:
    return ", ".join(map(str, runs)) or "-1"


def resends(base: str, most: int, *, goes_on: bool) -> str:
    """Select the members to be sent again; if it `goes_on`, those after the row of `resent`."""
    after = "and (b.run < a.run or (b.run = a.run and b.uid > a.uid))"
    return f"""
        select b.uid, b.state as was, b.run as was_run
        from {base} b {"cross join resent a" if goes_on else ""}
        where b.state = {IN} and exists (select 1 from desired d where d.uid = b.uid)
            and not exists (
                select 1 from rejections r where r.uid = b.uid and r.wanted and not r.is_due
            )
            {after if goes_on else ""}
        order by b.run desc, b.uid limit {most}
    """
