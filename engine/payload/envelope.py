"""All of a request body but its members."""

import orjson

from engine.model.cohort import Action, Cohort


class Envelope:
    """All of a request but its members."""

    def __init__(self, partner: str, cohort: Cohort, action: Action) -> None:
        self._partner = partner
        self.action = action
        self._parameters = {"cohort_name": cohort.name, "cohort_id": cohort.id}
        if cohort.description is not None:
            self._parameters["cohort_description"] = cohort.description

    def enclose(self, uids: list[str]) -> bytes:
        """Return the payload that carries `uids`: compact UTF-8 JSON."""
        return self._encode([{"uid": uid} for uid in uids])

    def enclose_encoded(self, members: bytes) -> bytes:
        """Return the payload around `members`, the JSON array of them."""
        return self._encode(orjson.Fragment(members))

    def _encode(self, members: list[dict[str, str]] | orjson.Fragment) -> bytes:
        return orjson.dumps(
            {
                "action": self.action.on_the_wire,
                "partner": self._partner,
                "parameters": {**self._parameters, "members": members},
            }
        )

    @staticmethod
    def uids_of(payload: bytes) -> list[str]:
        """Return the uids that a payload of `enclose` carries, in order."""
        return [member["uid"] for member in orjson.loads(payload)["parameters"]["members"]]

    def __len__(self) -> int:
        """Bytes of a payload without members."""
        return len(self.enclose([]))
