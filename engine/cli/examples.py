"""Examples that the help of each command shows."""

EXAMPLES = {
    "": (
        "cohortsync init                  write a first config.toml",
        "cohortsync check                 is it right?",
        "cohortsync sync --dry-run        plan every cohort, and send nothing",
        "cohortsync sync                  each night: send what changed",
    ),
    "sync": (
        "cohortsync sync",
        "cohortsync sync vip lapsed --dry-run",
        "cohortsync sync --tag crm --until 06:00",
        "cohortsync sync --failed",
        'cohortsync sync lapsed --allow lapsed:removals=1750 --reason "closed shop"',
    ),
    "push": (
        'cohortsync push vip.csv --cohort-id vip --cohort-name "VIP customers"',
        'cohortsync push "vip/*.csv.gz" --column id --cohort-id vip --cohort-name VIP',
        "cohortsync push left.csv --action remove --cohort-id vip --cohort-name VIP",
    ),
    "mirror": (
        'cohortsync mirror vip.csv --cohort-id vip --cohort-name "VIP customers"',
        "cohortsync mirror vip.csv --cohort-id vip --cohort-name VIP --dry-run",
        "cohortsync mirror vip.csv --cohort-id vip --cohort-name VIP \\",
        '    --allow removals=1750 --reason "closed shop"',
    ),
    "plan": (
        "cohortsync plan vip.csv --cohort-id vip --cohort-name VIP",
        "cohortsync plan --cohort vip",
    ),
    "apply": ("cohortsync apply latest --first 1000", "cohortsync apply 20261127-020747-aed4"),
    "rollback": (
        "cohortsync rollback --cohort-id vip --to 12 --dry-run",
        "cohortsync rollback --cohort-id vip --to 12",
    ),
    "resume": ("cohortsync resume", "cohortsync resume --all"),
    "status": ("cohortsync status", "cohortsync status --json"),
    "report": ("cohortsync report --since 7d", "cohortsync report --html morning.html"),
    "runs": ("cohortsync runs", "cohortsync runs --since 7d --status incomplete"),
    "plans": ("cohortsync plans",),
    "show": ("cohortsync show latest", "cohortsync show 20261127-020747-aed4 --batches"),
    "rejects": (
        "cohortsync rejects latest",
        "cohortsync rejects 20261127-020747-aed4 --csv > rejects.csv",
    ),
    "why": ("cohortsync why ada@example.com --cohort vip",),
    "support": ("cohortsync support latest > support.txt",),
    "abandon": ("cohortsync abandon 20261127-020747-aed4",),
    "prune": ("cohortsync prune --dry-run", "cohortsync prune --keep-days 30"),
    "backup": ("cohortsync backup backups/monday",),
    "restore": ("cohortsync restore backups/monday",),
    "init": ("cohortsync init", "cohortsync init --workspace-id MY-WORKSPACE --data-center 01"),
    "schema": ("cohortsync schema > config.schema.json",),
    "check": ("cohortsync check", "cohortsync check --live"),
    "emulator": (
        "cohortsync emulator",
        "cohortsync emulator --per-seconds 10 --fault 500=0.01",
    ),
    "demo": ("cohortsync demo", "cohortsync demo --uids 20000 --per-seconds 10"),
    "source": ("cohortsync source preview vip.csv --column id",),
    "source preview": (
        "cohortsync source preview vip",
        'cohortsync source preview "exports/*.csv.gz" --column id --limit 50 --all',
        "cohortsync source preview delta:s3://lake/vip --column user_id",
    ),
    "snapshot": (
        "cohortsync snapshot list --cohort vip",
        "cohortsync snapshot compare list.csv --cohort vip",
    ),
    "snapshot list": ("cohortsync snapshot list --cohort vip",),
    "snapshot verify": ("cohortsync snapshot verify --cohort vip",),
    "snapshot export": ("cohortsync snapshot export vip.parquet --cohort vip",),
    "snapshot import": ("cohortsync snapshot import vip.parquet --cohort vip",),
    "snapshot compare": ("cohortsync snapshot compare list.csv --cohort vip",),
    "snapshot adopt": ("cohortsync snapshot adopt sent.csv --column id --cohort vip",),
    "snapshot reconcile": ("cohortsync snapshot reconcile members.csv --cohort vip",),
}
"""The lines of each command, by its words after `cohortsync`."""
