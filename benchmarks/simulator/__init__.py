"""The engine in virtual time: hours of delivery in seconds, against a model of the API.

    loop        an event loop in virtual time, and its clock
    latency     how long requests and answers take
    api         the API: four kinds of limit at once, and faults
    export      an export of many uids that takes no memory
    outcome_log a ledger that counts in memory
    simulation  the real `Delivery` and `Pacer` between the models
    forecast    the same result by arithmetic, for a run without faults

Nothing here waits, opens a file or a connection, or reads a clock: the same scenario and seed give
the same run, to the bit.
"""
