"""The manifest: typed (`model`), as canonical JSON with its hashes (`form`), and judged (`rules`)."""

from fondaco.protocol.manifest.form import (
    canonical,
    commitment,
    group_plain,
    group_to_json,
    parse,
    parse_group,
    to_json,
    version_hash,
)
from fondaco.protocol.manifest.model import (
    Credentials,
    Expose,
    HttpOptions,
    Manifest,
    ManifestGroup,
    Permissions,
    Service,
    ServiceParams,
    Tee,
    VolumeMount,
    endpoints_of,
)
from fondaco.protocol.manifest.rules import check_against, check_group_manifest, check_manifest

__all__ = [
    "Credentials",
    "Expose",
    "HttpOptions",
    "Manifest",
    "ManifestGroup",
    "Permissions",
    "Service",
    "ServiceParams",
    "Tee",
    "VolumeMount",
    "canonical",
    "check_against",
    "check_group_manifest",
    "check_manifest",
    "commitment",
    "endpoints_of",
    "group_plain",
    "group_to_json",
    "parse",
    "parse_group",
    "to_json",
    "version_hash",
]
