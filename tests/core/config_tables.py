"""Which table of config.toml each class of settings stands in, by its field of `Config`."""

from engine.delivery.retry import RetrySettings
from engine.delivery.settings import DeliverySettings
from engine.pacing.settings import PacingSettings
from engine.payload.settings import PackingSettings
from engine.planning.settings import GuardSettings
from engine.report.settings import AccountingSettings
from engine.snapshot.settings import MirrorSettings
from engine.storage.settings import PlanningSettings, RetentionSettings

SETTINGS = {
    "pacing": ("limits", PacingSettings),
    "packing": ("limits", PackingSettings),
    "delivery": ("delivery", DeliverySettings),
    "retry": ("retry", RetrySettings),
    "accounting": ("accounting", AccountingSettings),
    "mirror": ("mirror", MirrorSettings),
    "planning": ("plan", PlanningSettings),
    "guards": ("guards", GuardSettings),
    "retention": ("state", RetentionSettings),
}
