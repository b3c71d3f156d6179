"""What KEDA takes, as far as our manifests use it, and nothing else.

After the schemas of KEDA 2 (config/crd/bases/keda.sh_scaledobjects.yaml and
keda.sh_triggerauthentications.yaml of https://github.com/kedacore/keda), and what the scaler itself
asks for (pkg/scalers/postgresql_scaler.go).
"""

from typing import Any

TEXT = {"type": "string"}
NAME = {"type": "string", "pattern": r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"}
COUNT = {"type": "integer", "minimum": 0}
QUANTITY = {"type": "string", "pattern": r"^[1-9]\d*(\.\d+)?$"}


def fields(required: dict[str, Any], **optional: Any) -> dict[str, Any]:
    """An object of these fields and no others."""
    return {
        "type": "object",
        "properties": required | optional,
        "required": list(required),
        "additionalProperties": False,
    }


def custom_resource(kind: str, spec: dict[str, Any]) -> dict[str, Any]:
    return fields(
        {
            "apiVersion": {"const": "keda.sh/v1alpha1"},
            "kind": {"const": kind},
            "metadata": fields({"name": NAME, "namespace": NAME}, labels={"type": "object"}),
            "spec": spec,
        }
    )


POSTGRESQL = fields(
    {
        "host": TEXT,
        "port": {"type": "string", "pattern": r"^\d+$"},
        "userName": TEXT,
        "dbName": TEXT,
        "sslmode": {"enum": ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"]},
        "query": TEXT,
        "targetQueryValue": QUANTITY,
    },
    activationTargetQueryValue=QUANTITY,
)
TRIGGER = fields(
    {"type": {"const": "postgresql"}, "metadata": POSTGRESQL},
    name=TEXT,
    metricType={"enum": ["AverageValue", "Value"]},
    useCachedMetrics={"type": "boolean"},
    authenticationRef=fields({"name": NAME}, kind=TEXT),
)
SCALING_RULES = fields(
    {},
    stabilizationWindowSeconds={"type": "integer", "minimum": 0, "maximum": 3600},
    selectPolicy=TEXT,
    policies={"type": "array"},
)
SCALED_OBJECT = custom_resource(
    "ScaledObject",
    fields(
        {
            "scaleTargetRef": fields(
                {"name": NAME}, apiVersion=TEXT, kind=TEXT, envSourceContainerName=TEXT
            ),
            "triggers": {"type": "array", "minItems": 1, "items": TRIGGER},
        },
        pollingInterval=COUNT,
        cooldownPeriod=COUNT,
        initialCooldownPeriod=COUNT,
        idleReplicaCount=COUNT,
        minReplicaCount=COUNT,
        maxReplicaCount=COUNT,
        fallback=fields({"failureThreshold": COUNT, "replicas": COUNT}, behavior=TEXT),
        advanced=fields(
            {},
            restoreToOriginalReplicaCount={"type": "boolean"},
            horizontalPodAutoscalerConfig=fields(
                {}, name=TEXT, behavior=fields({}, scaleDown=SCALING_RULES, scaleUp=SCALING_RULES)
            ),
        ),
    ),
)
AUTHENTICATION = custom_resource(
    "TriggerAuthentication",
    fields(
        {
            "secretTargetRef": {
                "type": "array",
                "items": fields({"parameter": TEXT, "name": NAME, "key": TEXT}),
            }
        }
    ),
)
SCHEMAS = {"ScaledObject": SCALED_OBJECT, "TriggerAuthentication": AUTHENTICATION}
