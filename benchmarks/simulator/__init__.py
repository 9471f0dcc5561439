"""The engine in virtual time: hours of delivery in seconds, against a model of the API.

    loop        an event loop whose time passes in no time, and a clock that tells it
    latency     how long requests and answers are under way
    api         what the far side makes of arrivals: four kinds of limit at once, and bad hours
    export      an export of so many uids that takes no room
    books       a ledger that only counts
    simulation  `Delivery` and `Pacer` as they are, between the models
    forecast    the same answer by arithmetic, for a night on which nothing goes wrong

Nothing here waits, opens a file or a connection, or asks the machine for the time: the same
scenario and seed give the same night, to the bit.
"""
