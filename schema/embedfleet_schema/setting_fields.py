"""What can be set from the environment: each field with its description."""

from __future__ import annotations

from pydantic import AliasChoices, Field

from embedfleet_schema.access_types import CaFiles, ExtraHeaders, Proxies
from embedfleet_schema.server_fields import ServerFields
from embedfleet_schema.setting_types import (
    Address,
    ApiKey,
    Folder,
    ModelPattern,
    Prices,
    SigningSecrets,
)
from embedfleet_schema.stack_file import default_cache
from embedfleet_schema.types import (
    MAX_DOCUMENT_BYTES,
    MAX_EXPANSION,
    MAX_ROWS,
    READER_MEMORY_BYTES,
    READER_SECONDS,
    LogFormat,
    WantedEngine,
    WantedPrecision,
)


class SettingFields(ServerFields):
    """All of them, after those that say where the servers and the data are."""

    lease_seconds: float = Field(
        default=60.0, gt=0, description="How long a batch stays leased without a heartbeat."
    )
    heartbeat_seconds: float = Field(
        default=15.0,
        gt=0,
        description="Time between heartbeats of a worker. After three missed ones it "
        "counts as silent.",
    )
    sweep_seconds: float = Field(
        default=5.0,
        gt=0,
        description="Time between two sweeps: they reclaim expired leases and wake idle workers.",
    )
    sync_verify_hours: float = Field(
        default=24.0,
        ge=0,
        description="Time between two comparisons of a synced table with its collection by "
        "`embedfleet sync run`; what differs is stored again. 0: only when something was missed.",
    )
    job_retention_days: int = Field(
        default=30,
        ge=0,
        le=36_500,
        description="How long workers keep a job, or a provider batch, after it ended, so that you "
        "can still look at it. 0: for ever.",
    )
    lock_wait_seconds: float = Field(
        default=60.0,
        gt=0,
        description="How long a statement waits for a lock in PostgreSQL. Then an error says who "
        "holds it.",
    )
    max_attempts: int = Field(
        default=5, ge=1, description="Errors of a batch before it is split, or fails."
    )
    batch_tokens_cpu: int = Field(
        default=8_192, ge=64, description="Most tokens of one batch on the cpu queue."
    )
    batch_tokens_cuda: int = Field(
        default=131_072, ge=64, description="Most tokens of one batch on the cuda queue."
    )
    batch_tokens_api: int = Field(
        default=65_536, ge=64, description="Most tokens of one batch on the api queue."
    )
    interactive_tokens: int = Field(
        default=16_384,
        ge=0,
        description="A job that wants more tokens than this embedded goes to the bulk lane, unless "
        "it names a lane itself. 0: all do.",
    )
    window_documents: int = Field(
        default=1_000, ge=1, description="Most documents of one enqueue transaction."
    )
    window_bytes: int = Field(
        default=8_000_000, ge=1_000, description="Most bytes of text in one enqueue transaction."
    )
    max_document_bytes: int = Field(
        default=MAX_DOCUMENT_BYTES,
        ge=1_000,
        description="Largest document that is accepted, in bytes.",
    )
    max_rows: int = Field(
        default=MAX_ROWS, ge=1, description="Most rows that are taken from one file."
    )
    max_expansion: int = Field(
        default=MAX_EXPANSION,
        ge=1,
        description="Largest uncompressed size of a .gz file, as a multiple of its own size. The "
        "size of the largest document is always allowed.",
    )
    reader_memory_bytes: int = Field(
        default=READER_MEMORY_BYTES,
        ge=64_000_000,
        description="Most memory for reading one HTML, PDF, Word, Parquet or notebook file. These "
        "files are read in a separate process.",
    )
    reader_seconds: float = Field(
        default=READER_SECONDS,
        gt=0,
        description="Most CPU time for reading such a file, for each started megabyte.",
    )
    allowed_models: list[ModelPattern] = Field(
        default_factory=list,
        description='Models that workers may load, as a JSON list of patterns (["local/*"]). '
        "Empty: all models.",
    )
    openai_api_key: ApiKey | None = Field(
        default=None,
        validation_alias=AliasChoices("EMBEDFLEET_OPENAI_API_KEY", "OPENAI_API_KEY"),
        description="Key of OpenAI, of Azure OpenAI, or of a server with their protocol.",
    )
    openai_base_url: Address | None = Field(
        default=None,
        validation_alias=AliasChoices("EMBEDFLEET_OPENAI_BASE_URL", "OPENAI_BASE_URL"),
        description="Base URL for openai/... models. Unset: https://api.openai.com/v1.",
    )
    openai_api_version: str | None = Field(
        default=None,
        description="Version of the Azure OpenAI API. If set, the base URL is an Azure endpoint, "
        "and the model is a deployment.",
    )
    cohere_api_key: ApiKey | None = Field(
        default=None,
        validation_alias=AliasChoices("EMBEDFLEET_COHERE_API_KEY", "CO_API_KEY", "COHERE_API_KEY"),
        description="Key of Cohere.",
    )
    cohere_base_url: Address = Field(
        default="https://api.cohere.com", description="Base URL for cohere/... models."
    )
    voyage_api_key: ApiKey | None = Field(
        default=None,
        validation_alias=AliasChoices("EMBEDFLEET_VOYAGE_API_KEY", "VOYAGE_API_KEY"),
        description="Key of Voyage AI.",
    )
    voyage_base_url: Address = Field(
        default="https://api.voyageai.com", description="Base URL for voyage/... models."
    )
    gemini_api_key: ApiKey | None = Field(
        default=None,
        validation_alias=AliasChoices(
            "EMBEDFLEET_GEMINI_API_KEY", "GEMINI_API_KEY", "GOOGLE_API_KEY"
        ),
        description="Key of the Gemini API.",
    )
    gemini_base_url: Address = Field(
        default="https://generativelanguage.googleapis.com",
        description="Base URL for gemini/... models.",
    )
    jina_api_key: ApiKey | None = Field(
        default=None,
        validation_alias=AliasChoices("EMBEDFLEET_JINA_API_KEY", "JINA_API_KEY"),
        description="Key of Jina AI.",
    )
    jina_base_url: Address = Field(
        default="https://api.jina.ai", description="Base URL for jina/... models."
    )
    mistral_api_key: ApiKey | None = Field(
        default=None,
        validation_alias=AliasChoices("EMBEDFLEET_MISTRAL_API_KEY", "MISTRAL_API_KEY"),
        description="Key of Mistral.",
    )
    mistral_base_url: Address = Field(
        default="https://api.mistral.ai", description="Base URL for mistral/... models."
    )
    bedrock_region: str | None = Field(
        default=None,
        validation_alias=AliasChoices(
            "EMBEDFLEET_BEDROCK_REGION", "AWS_REGION", "AWS_DEFAULT_REGION"
        ),
        description="Region of Amazon Bedrock. Unset: that of the profile (AWS_PROFILE). "
        "Credentials are those that the AWS client finds.",
    )
    bedrock_base_url: Address | None = Field(
        default=None,
        description="Endpoint for bedrock/... models, such as that of a VPC. Unset: the region's.",
    )
    vertex_project: str | None = Field(
        default=None,
        validation_alias=AliasChoices("EMBEDFLEET_VERTEX_PROJECT", "GOOGLE_CLOUD_PROJECT"),
        description="Project of Google Cloud for vertex/... models. Credentials are those that "
        "Google's client finds (Application Default Credentials).",
    )
    vertex_location: str = Field(
        default="us-central1",
        validation_alias=AliasChoices("EMBEDFLEET_VERTEX_LOCATION", "GOOGLE_CLOUD_LOCATION"),
        description="Region of Vertex AI, or global.",
    )
    vertex_base_url: Address | None = Field(
        default=None, description="Endpoint for vertex/... models. Unset: the region's."
    )
    api_headers: ExtraHeaders = Field(
        default_factory=dict,
        description="Headers that requests to a provider carry besides, as a JSON object by "
        'provider, * for all ({"openai": {"X-Team": "search"}}). Values are kept secret.',
    )
    api_proxies: Proxies = Field(
        default_factory=dict,
        description="The proxy to a provider, as a JSON object by provider, * for all "
        '({"*": "http://user:password@proxy:3128"}). Hosts of NO_PROXY are reached without it. '
        "Unset: HTTPS_PROXY and HTTP_PROXY count.",
    )
    api_ca_files: CaFiles = Field(
        default_factory=dict,
        description="A file of certificates (PEM) to trust beside the machine's, as a JSON object "
        'by provider, * for all ({"openai": "/etc/ssl/gateway.pem"}).',
    )
    api_timeout_s: float = Field(
        default=60.0,
        gt=0,
        description="Most time for one request to a provider, from the first byte sent to the "
        "last byte read.",
    )
    api_requests: int = Field(
        default=8, ge=1, description="Most requests of one batch at the same time."
    )
    defer_after_s: float = Field(
        default=5.0,
        gt=0,
        description="If the first request of a batch must wait longer than this for a rate limit, "
        "the batch gives its slot back.",
    )
    provider_batch_seconds: float = Field(
        default=30.0,
        gt=0,
        description="Time between two looks at provider batches: texts are filed with the "
        "provider's batch API, and answers are fetched.",
    )
    limit_target: float = Field(
        default=0.985,
        gt=0,
        le=1,
        description="Share of a provider's rate limit that the fleet uses.",
    )
    prices: Prices = Field(
        default_factory=dict,
        description="USD per million tokens by model, as a JSON object "
        '({"openai/text-embedding-3-small": 0.02}). A price here replaces the built-in one.',
    )
    webhook_secret: SigningSecrets | None = Field(
        default=None,
        description="What workers sign webhooks with: whsec_ and base64, as Standard Webhooks has "
        "it. Several, separated by spaces, all sign: so you can change it. Without it, a worker "
        "sends none.",
    )
    webhook_private: bool = Field(
        default=False,
        description="Allow webhooks to this machine, to private networks, and over plain http://. "
        "Whoever enqueues can then have workers send requests to services of yours.",
    )
    insecure: bool = Field(
        default=False,
        description="Allow texts and keys to go to a public host over plain http://. Otherwise, "
        "plain http:// is only allowed to this machine, private addresses, names of one word, and "
        "names in .local, .internal, .localhost, .home.arpa and .svc.",
    )
    engine: WantedEngine = Field(
        default="auto",
        description="What runs local models on a CPU: torch or openvino. auto: openvino on x86-64 "
        "for each model that it can run, else torch.",
    )
    precision: WantedPrecision = Field(
        default="auto",
        description="What local models calculate in: float32 gives the vectors of plain "
        "sentence-transformers (cosine 0.99999), half is faster where the hardware has float16 or "
        "bfloat16 (cosine 0.9999). auto: half where the hardware has it.",
    )
    cache: Folder = Field(
        default_factory=default_cache,
        description="Folder for models that were converted for OpenVINO. A worker that cannot "
        "write to it converts at each start.",
    )
    torch_threads: int | None = Field(
        default=None,
        ge=1,
        description="Threads of one local model on a CPU. Unset: cores / worker processes.",
    )
    fake_faults: str = Field(
        default="", description="Faults of the fake embedder, for your own tests."
    )
    failpoints: str = Field(
        default="",
        description="Places where a process fails on purpose, to test recovery "
        "(`after_claim=kill:0.1;before_commit=sleep:2`).",
    )
    log_level: str = Field(default="INFO", description="Level of the workers' log.")
    log_format: LogFormat = Field(
        default="auto",
        description="How workers and services write their log: json, an object a line, or text, "
        "for people. auto: text on a terminal, else json.",
    )
    metrics_port: int | None = Field(
        default=None,
        ge=1,
        le=65_535,
        description="Port at which the workers of a host serve their metrics for Prometheus, all "
        "of them together (docs/monitoring.md). Unset: none.",
    )
    metrics_host: str = Field(
        default="127.0.0.1",
        description="Address that metrics are served at. Of the workers and of `embedfleet "
        "exporter`; 0.0.0.0 serves them to the network, without a password.",
    )
    tracing: bool = Field(
        default=False,
        description="Make spans of jobs and batches (docs/monitoring.md). Where they go, the "
        "variables of OpenTelemetry say, such as OTEL_EXPORTER_OTLP_ENDPOINT.",
    )
