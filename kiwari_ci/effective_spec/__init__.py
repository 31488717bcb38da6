"""The spec with every default and override applied, once: what rules, planning, engines and proxies read."""

from kiwari_ci.effective_spec.containers import EffectiveAccessory, EffectiveContainer, EffectiveService
from kiwari_ci.effective_spec.databases import EffectiveDatabase, EffectiveDatabaseServer
from kiwari_ci.effective_spec.environments import EffectiveEnvironment
from kiwari_ci.effective_spec.hosts import EffectiveHost
from kiwari_ci.effective_spec.images import EffectiveImage, ImageGroup
from kiwari_ci.effective_spec.routes import find_outside_health_path
from kiwari_ci.effective_spec.spec import EffectiveSpec
from kiwari_ci.effective_spec.tag_patterns import VersionTagPattern

__all__ = [
    "EffectiveAccessory",
    "EffectiveContainer",
    "EffectiveDatabase",
    "EffectiveDatabaseServer",
    "EffectiveEnvironment",
    "EffectiveHost",
    "EffectiveImage",
    "EffectiveService",
    "EffectiveSpec",
    "ImageGroup",
    "VersionTagPattern",
    "find_outside_health_path",
]
