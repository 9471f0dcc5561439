"""What a run came to, folded from the ledger's rows for people and for programs."""
