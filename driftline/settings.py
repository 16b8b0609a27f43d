"""Every setting of Driftline: the one reader of the environment (`DRIFTLINE_*`)."""

from functools import lru_cache
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from driftline.errors import BadInput

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


class Settings(BaseSettings):
    """What a process is told by its environment. Descriptions appear in the documentation."""

    model_config = SettingsConfigDict(env_prefix="DRIFTLINE_", extra="ignore")

    data_dir: Path = Field(Path(".driftline"), description="Folder of the embedded store, broker and artifacts.")
    database_url: str = Field("", description="SQLAlchemy URL; empty means SQLite in the data folder.")
    broker_url: str = Field("", description="Celery broker URL (amqp://, redis://); empty means the embedded broker.")
    artifact_url: str = Field("", description="Any fsspec URL for weights and reports; empty means the data folder.")
    host: str = Field("127.0.0.1", description="Address the web processes bind to; others than loopback need keys.")
    port: int = Field(8400, ge=0, le=65535, description="Port of the web processes.")
    grpc_port: int = Field(
        4317, ge=0, le=65535, description="Port of OTLP over gRPC, served where grpcio is installed; 0 leaves it out."
    )
    decoders: int = Field(
        1, ge=0, le=64, description="Processes beside a collector that read large OTLP bodies; 0 leaves it to itself."
    )
    public_url: str = Field("", description="Address people reach the dashboard at; used in links of alerts.")
    allowed_hosts: str = Field("", description="Comma-separated Host names the web accepts beside the bound address.")
    secret_key: SecretStr = Field(
        SecretStr(""), description="Signs sessions and encrypts channel secrets; empty means a file in the data folder."
    )
    allow_private_webhooks: bool = Field(
        False, description="Let alert channels call private and loopback addresses, which are refused otherwise."
    )
    torch_threads: int = Field(0, ge=0, description="Threads a model may use in a worker; 0 leaves it to torch.")
    endpoint_workers: int = Field(
        0, ge=0, description="How many workers may replay on one remote endpoint at a time; 0 sets no limit."
    )
    lease_s: float = Field(30.0, gt=0, description="Seconds after which a job whose worker fell silent is taken over.")
    sweep_s: float = Field(2.0, gt=0, description="Seconds between two rounds of the clock: sweeping, checks, notices.")
    block_s: float = Field(900.0, gt=0, description="Length in seconds of the blocks that new monitors judge.")
    group_wait_s: float = Field(
        1.0, ge=0, le=60, description="Seconds an alert waits for others that may go out in the same message."
    )
    heartbeat_url: SecretStr = Field(
        SecretStr(""), description="Address that gets a POST while clock, store, broker and a worker all work."
    )
    heartbeat_s: float = Field(60.0, ge=1, description="Seconds between two of these signs of life.")
    settle_s: float = Field(2.0, ge=0, description="Seconds a record rests before monitors read it, so none is missed.")

    repair_hours: float = Field(
        6.0, gt=0, description="Hours in which a repair's candidates must be built and replayed, unless its plan says."
    )
    oidc_issuer: str = Field(
        "", description="Issuer URL of an OpenID Connect provider that people may sign in at; empty means none."
    )
    oidc_client_id: str = Field("", description="What this installation is called at that provider.")
    oidc_client_secret: SecretStr = Field(
        SecretStr(""), description="The client secret there; empty for a public client, which PKCE protects alone."
    )
    oidc_role: str = Field("viewer", description="Role of people who come from the provider for the first time.")
    decide_within_days: float = Field(
        14.0, gt=0, description="Days after which a proposed repair that nobody decided on expires."
    )

    @field_validator("public_url")
    @classmethod
    def _is_web_address(cls, url: str) -> str:
        try:
            parts = urlsplit(url)
        except ValueError as error:
            raise ValueError(f"it is no address ({error})") from None
        if url and not (parts.scheme in ("http", "https") and parts.hostname):
            raise ValueError("an address begins with http:// or https:// and names a host")
        return url

    @property
    def database(self) -> str:
        """The URL the store opens, SQLite in the data folder unless one is set."""
        if self.database_url:
            url = self.database_url
            for old in ("postgres://", "postgresql://"):
                if url.startswith(old):
                    return "postgresql+psycopg://" + url.removeprefix(old)
            return url
        return f"sqlite:///{self.data_dir.absolute() / 'driftline.db'}"

    @property
    def embedded_broker(self) -> bool:
        """Whether messages travel through files in the data folder."""
        return not self.broker_url

    @property
    def artifacts(self) -> str:
        """The fsspec URL under which artifacts lie."""
        return self.artifact_url or f"file://{self.data_dir.absolute() / 'artifacts'}"

    @property
    def model_cache(self) -> Path:
        """Where built variants lie on this machine."""
        return self.data_dir.absolute() / "variants"

    @property
    def on_loopback(self) -> bool:
        """Whether the web can be reached from this machine alone."""
        return self.host in LOOPBACK

    @property
    def base_url(self) -> str:
        """The address of the dashboard for links, without a slash at the end."""
        return self.public_url.rstrip("/") or address_of(self.host, self.port)

    @property
    def hosts(self) -> frozenset[str]:
        """Host names (without port) that requests may carry."""
        named = {h.strip().lower() for h in self.allowed_hosts.split(",") if h.strip()}
        public = urlsplit(self.public_url).hostname
        return frozenset(named | LOOPBACK | {self.host.lower()} | ({public} if public else set()))


def address_of(host: str, port: int) -> str:
    """The web address of a host, which may be a number of version 6.

    >>> address_of("::1", 8400), address_of("127.0.0.1", 8400)
    ('http://[::1]:8400', 'http://127.0.0.1:8400')
    """
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


@lru_cache(maxsize=1)
def settings() -> Settings:
    """The settings of this process, read once.

    Raises:
        BadInput: A variable has a value that cannot be used; names it.
    """
    try:
        return Settings()
    except ValidationError as error:
        wrong = error.errors()[0]
        name = "DRIFTLINE_" + str(wrong["loc"][0]).upper()
        reason = str(wrong["msg"]).removeprefix("Value error, ")
        raise BadInput(f"The setting {name} is {wrong['input']!r}: {reason}.") from None
