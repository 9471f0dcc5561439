"""Bulk audience sync for the MoEngage Cohort Sync API: every uid sent once, paced, accounted for.

    export ──► source ──► batch ──► pacing ──► delivery ──► ledger ──► report
               uids       payloads  turns      outcomes     the record

Values flow left to right; nothing flows back but a decision ("again, after 4 s", "split", "stop").

    signals     what SIGINT, SIGTERM and SIGHUP do, from the first line of the program on
    cli/        arguments into parts, parts into an exit status
    push        a push from its command to its books; what a program calls instead of the command
    rehearsal   a dry run of a push: all its checks, and nothing sent or written
    mirror      a mirror from its command to its books: only what changed is sent
    night       what is planned is sent
    closing     the one way in which a run ends: folded, accounted for, written down, returned
    planning    a mirror's plan: stage the export, compare, ask the guards
    desk        the lock, the ledger and the snapshots, for all work on one cohort
    bases       what a plan goes on from
    snapshots   what the API acknowledged, generation by generation
    moving      what is known of a cohort, from and to elsewhere
    sending     one process's way to the API: pace and connections for all its deliveries
    config      config.toml and environment into one frozen Config, or every problem at once
    source/     an export into Arrow arrays of uids, with their place in it
    plan/       the comparison out of core, the fold into the next snapshot, the guards
    storage/    files written whole or not at all, temporary folders that know their owner
    batch       uids into payloads under the byte limit; members: how JSON writes them
    pacing/     the ceiling: its arithmetic and the waiting
    delivery/   answers into outcomes, outcomes into decisions, and the way of a batch through them
    ledger/     SQLite: runs, batches, attempts; intent before action
    report/     the ledger's rows into what people and programs read
    check       the preflight, without sending

    emulator/   the API itself, on loopback; shares nothing with the rest and counts for itself

The promise, kept by tests: rows read = blank + invalid + planned; planned = accepted + rejected +
unconfirmed + pending; an attempt is durable before its first byte leaves; never more requests in
any window than the ceiling allows; memory that settings bound, and not the export.
"""

__version__ = "0.1.0"
