"""The request body without its members."""

import orjson

from engine.model.cohort import Action, Cohort


class Envelope:
    """The request body without its members."""

    def __init__(self, partner: str, cohort: Cohort, action: Action) -> None:
        self._partner = partner
        self.action = action
        self._parameters = {"cohort_name": cohort.name, "cohort_id": cohort.id}
        if cohort.description is not None:
            self._parameters["cohort_description"] = cohort.description

    def enclose(self, members: bytes) -> bytes:
        """Return the payload with `members`, the output of `members_of`: compact UTF-8 JSON."""
        return orjson.dumps(
            {
                "action": self.action.on_the_wire,
                "partner": self._partner,
                "parameters": {
                    **self._parameters,
                    "members": orjson.Fragment(b"[" + members + b"]"),
                },
            }
        )

    def __len__(self) -> int:
        """Return the size in bytes of a payload without members."""
        return len(self.enclose(b""))
