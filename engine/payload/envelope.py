"""All of a request body but its members."""

import orjson

from engine.model.cohort import Action, Cohort


class Envelope:
    """All of a request body but its members."""

    def __init__(self, partner: str, cohort: Cohort, action: Action) -> None:
        self._partner = partner
        self.action = action
        self._parameters = {"cohort_name": cohort.name, "cohort_id": cohort.id}
        if cohort.description is not None:
            self._parameters["cohort_description"] = cohort.description

    def enclose(self, members: bytes) -> bytes:
        """Return the payload around `members`, as `members_of` writes them: compact UTF-8 JSON."""
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
        """Bytes of a payload without members."""
        return len(self.enclose(b""))
